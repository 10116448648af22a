"""Which readings of a trial foretell its end: BatchNorm's precise or running statistics, or
averaged weights?

`python -m tests.benchmarks.readings digits`: by the table that `record_table` trained.
`python -m tests.benchmarks.readings cifar FOLDER TABLE.csv`: 16 random trials on 2,000 of the
training images of CIFAR-10 as a folder (RESNET_STUDY_IMAGES), of stems and depths that cost at most
150 MFLOP an image; half an hour of one core.
`python -m tests.benchmarks.readings baselines FOLDER TABLE.csv`: the course report's baselines on
8,000 of those images for eight epochs, test accuracy by epoch in both readings; the cheapest first,
three hours of one core. All continue where they stopped; a second `cifar` process may come towards
the first with `back` as its last argument.

For each epoch: Spearman's correlation over trials of the validation accuracy then with the test
accuracy at the end; the share of the trials in the best third then (those that ASHA lets continue)
that are in the best third at the end; and the spread over seeds. The end is one for all readings:
the test accuracy after the last epoch, read precisely.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from study.designs import COURSE_BASELINES, SEARCH
from tests.benchmarks import record_table
from tests.benchmarks.record_table import READINGS, TABLE, VARIED
from trainables.config import TrialConfig
from trainables.datasets import load_images
from trainables.parts import Part, TrialData, split_images
from trainables.resnet import network_cost
from trainables.training import prepare_process

CIFAR_TRIALS, CIFAR_EPOCHS = 16, 5
CIFAR_TRAIN, CIFAR_VALIDATION, CIFAR_TEST = 2000, 400, 2000
CIFAR_FLOPS = 150e6
COURSE_TRAIN, COURSE_EPOCHS = 8000, 8
DIVERGED = -1.0
"""The accuracy of a trial that diverged: below all others."""


def survivors(then: pd.Series, end: pd.Series) -> float:
    """Of the best third of the trials by `then`, the share that is in the best third by `end`.

    Trials of equal accuracy at the border count by the share of them that there is room for.
    """
    count = len(then) // 3
    border = end.sort_values().iloc[-count]
    above, equal = end > border, end == border
    truly_best = above + equal * (count - above.sum()) / equal.sum()
    cut = then.sort_values().iloc[-count]
    kept = (then > cut) + (then == cut) * (count - (then > cut).sum()) / (then == cut).sum()
    return float((truly_best * kept).sum() / count)


def by_trial(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column by trial (rows) and epoch (columns); what a diverged trial lacks is below all."""
    return table.pivot(index=list(VARIED), columns="epoch", values=column).fillna(DIVERGED)


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """One row a reading and an epoch: `n` trials, `spearman` with its 95% interval, `survivors`."""
    last = table["epoch"].max()
    end = by_trial(table, "test precise")[last]
    draws = np.random.default_rng(0).integers(len(end), size=(1000, len(end)))
    rows = []
    for reading in READINGS:
        values = by_trial(table, f"accuracy {reading}")
        for epoch in range(1, last + 1):
            then = values[epoch]
            resampled = [
                stats.spearmanr(then.iloc[draw], end.iloc[draw]).statistic for draw in draws
            ]
            low, high = np.quantile(resampled, (0.025, 0.975))
            row = {"reading": reading, "epoch": epoch, "n": len(end)}
            row |= {"spearman": stats.spearmanr(then, end).statistic, "low": low, "high": high}
            rows.append(row | {"survivors": survivors(then, end)})
    return pd.DataFrame(rows)


def seed_spread(table: pd.DataFrame, images: int) -> pd.Series:
    """By reading and epoch: the standard deviation of validation accuracy over seeds, the root mean
    square of the trials that have learnt by the end (9 of 10 test images)."""
    spreads = {}
    arm = [name for name in VARIED if name != "seed"]
    last = table[table["epoch"] == table["epoch"].max()]
    learnt = last.groupby(arm)["test precise"].agg(["min", "count"])
    learnt = learnt[(learnt["min"] >= 0.9 * 359) & (learnt["count"] > 1)].index
    for reading in READINGS:
        variance = table.groupby([*arm, "epoch"])[f"accuracy {reading}"].var()
        variance = variance.reset_index("epoch").loc[learnt]
        for epoch, values in variance.groupby("epoch")[f"accuracy {reading}"]:
            spreads[reading, epoch] = np.sqrt(values.mean()) / images
    return pd.Series(spreads).unstack()


def draw_cifar_trials() -> Iterator[TrialConfig]:
    """Random trials, the same every time, without those that cost too much to train many of."""
    draw = np.random.RandomState(1)
    levels = ((2, 3, 5, 7), (1, 2), (True, False), (10, 18))
    while True:
        stem = dict(zip(VARIED, (each[draw.randint(len(each))] for each in levels), strict=False))
        rate = float(f"{10 ** draw.uniform(-3, -1):.3g}")
        values = {**SEARCH.fixed, **stem, "learning_rate": rate, "max_epochs": CIFAR_EPOCHS}
        config = TrialConfig.from_dict(values)
        if network_cost(config, (3, 32, 32), 10).forward_flops <= CIFAR_FLOPS:
            yield config


def some(part: Part, count: int) -> Part:
    """The same `count` images of a part every time."""
    return part[np.random.RandomState(0).permutation(len(part.labels))[:count]]


def cifar_data(folder: str, train_images: int, validation_images: int | None) -> TrialData:
    """Parts of a folder of images: as many for training and, if there is to be a validation part,
    for that."""
    data = load_images(folder, Path("data"), 32)
    split = split_images(data, train_images + (validation_images or 0))
    every = Part(
        *(
            np.concatenate([getattr(split.train, k), getattr(split.validation, k)])
            for k in ("images", "labels")
        )
    )
    order = np.random.RandomState(1).permutation(len(every.labels))
    validation = every[order[train_images:]] if validation_images else None
    return TrialData(
        every[order[:train_images]], validation, some(split.test, CIFAR_TEST), 10, data.flip
    )


def digits() -> None:
    """Print the tables of the digits."""
    table = pd.read_csv(TABLE)
    print_ranks(table[table["seed"] == 0])
    if table["seed"].nunique() > 1:
        print("spread of validation accuracy over seeds, trials of at least 90% test accuracy")
        print(seed_spread(table, 144).round(4).to_string())


def print_ranks(table: pd.DataFrame) -> None:
    """Print correlations and survivors by epoch."""
    rows = ranks(table)
    print(f"n = {rows['n'].iloc[0]} trials")
    for column in ("spearman", "low", "high", "survivors"):
        wide = rows.pivot(index="reading", columns="epoch", values=column)
        print(f"{column} by epoch:\n{wide.round(2).to_string()}")


def cifar(folder: str, path: Path, back: bool) -> None:
    """Train and print the trials on CIFAR-10 images."""
    prepare_process(1)
    configs = list(itertools.islice(draw_cifar_trials(), CIFAR_TRIALS))
    configs = configs[::-1] if back else configs
    record_table.fill(path, configs, cifar_data(folder, CIFAR_TRAIN, CIFAR_VALIDATION), tested=())
    print_ranks(pd.read_csv(path))


def baselines(folder: str, path: Path) -> None:
    """Train the course report's baselines, and print their test accuracy in percent by epoch."""
    prepare_process(1)
    data = cifar_data(folder, COURSE_TRAIN, None)
    configs = [
        TrialConfig.from_dict({**each, "max_epochs": COURSE_EPOCHS})
        for each in COURSE_BASELINES.values()
    ]
    record_table.fill(
        path, configs, data, readings=("precise", "running"), tested=("precise", "running")
    )
    table = pd.read_csv(path)
    for reading in ("running", "precise"):
        percent = 100 * by_trial(table, f"test {reading}") / CIFAR_TEST
        print(f"{reading}:\n{percent.round(1).to_string()}")


def main(arguments: list[str]) -> int:
    match arguments:
        case ["digits"]:
            digits()
        case ["cifar", folder, path] | ["cifar", folder, path, "back"]:
            cifar(folder, Path(path), back=len(arguments) > 3)
        case ["baselines", folder, path]:
            baselines(folder, Path(path))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
