"""Train the table that readings, samplers, schedulers and the tuning of arms are compared on.

`python -m tests.benchmarks.record_table [back]`.

Digits, depth 10, every stem and pool × learning rates a factor √10 apart, each trial to its last
epoch. Training is the same however it is read, so every trial is read after every epoch in all
ways: by BatchNorm's `precise` statistics, by its `running` ones, and by precise statistics of a
moving average of the weights. Takes about an hour of one core; continues where it stopped, and a
second process may come towards it from the `back`. The result, `digits.csv`, is kept beside this
file; accuracies are counts of images. `test` is read precisely after every epoch, in the other ways
after the last one.
"""

import copy
import csv
import itertools
import math
import random
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from study.designs import SEARCH
from trainables.config import TrialConfig
from trainables.datasets import load_images
from trainables.evaluation import (
    DevicePart,
    batchnorm_sample,
    compute_precise_statistics,
    evaluate,
)
from trainables.parts import TrialData, split_images
from trainables.training import Trainer, prepare_process

TABLE = Path(__file__).with_name("digits.csv")
EPOCHS = 6
DEPTH = 10
STEMS = tuple(itertools.product((2, 3, 5, 7), (1, 2), (True, False)))
USUAL_RATES, OTHER_RATES = (0.003, 0.0095, 0.03, 0.095), (0.0003, 0.00095, 0.3)
SEEDS = (0, 1)
HORIZON = 0.5
"""Epochs that the moving average of the weights reaches back."""
READINGS = ("precise", "running", "averaged")
VARIED = ("stem_kernel", "stem_stride", "stem_maxpool", "depth", "learning_rate", "seed")
COLUMNS = (
    *VARIED,
    "epoch",
    *(f"{part} {reading}" for reading in READINGS for part in ("loss", "accuracy", "test")),
)


class MovingAverage:
    """An exponential moving average of a network's parameters, over `horizon` steps.

    Corrected for its start, as in Adam: the initial weights have no part in it.
    """

    def __init__(self, model: nn.Module, horizon: float) -> None:
        self.raw, self.model, self.steps = model, copy.deepcopy(model), 0
        self.decay = math.exp(-1 / horizon)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network as it is; once after every step."""
        self.steps += 1
        share = (1 - self.decay) / (1 - self.decay**self.steps)
        for averaged, newest in zip(self.model.parameters(), self.raw.parameters(), strict=True):
            averaged.lerp_(newest, share)


def rows(
    config: TrialConfig,
    data: TrialData,
    readings: Collection[str] = READINGS,
    tested: Collection[str] = ("precise",),
) -> Iterator[dict[str, object]]:
    """Train a trial; one row an epoch, with the test part by the readings in `tested`, after the
    last one by all."""
    # `running` leaves the trainer's own statistics as training made them, to be read first.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    as_trained = replace(config, bn_statistics="running")
    trainer = Trainer(as_trained, replace(data, test=None), device)
    assert data.test
    test, sample = DevicePart.of(data.test, trainer.device), batchnorm_sample(trainer.train)
    models = {"running": trainer.model, "precise": trainer.model}
    if "averaged" in readings:
        average = MovingAverage(trainer.model, HORIZON * len(trainer.batches))
        trainer.optimizer.register_step_post_hook(lambda *_: average.update())
        models["averaged"] = average.model
    while trainer.epoch < config.max_epochs:
        metrics = trainer.run_epoch()
        row: dict[str, object] = {name: getattr(config, name) for name in VARIED} | {
            "epoch": metrics.epoch
        }
        for reading, model in {} if metrics.diverged else models.items():
            if reading != "running":
                compute_precise_statistics(model, sample, trainer.pixels, "float32")
            if trainer.validation:
                readings = evaluate(model, trainer.validation, trainer.pixels, "float32")
                row[f"accuracy {reading}"] = round(readings.accuracy * len(trainer.validation))
                row[f"loss {reading}"] = f"{readings.loss:.4g}"
            if reading in tested or metrics.epoch == config.max_epochs:
                readings = evaluate(model, test, trainer.pixels, "float32")
                row[f"test {reading}"] = round(readings.accuracy * len(test))
        yield row
        if metrics.diverged:
            break


def recorded(path: Path) -> set[tuple[str, ...]]:
    """The trials that a table holds."""
    path.touch()
    with path.open(newline="") as file:
        return {tuple(row[name] for name in VARIED) for row in csv.DictReader(file)}


def fill(
    path: Path, configs: Iterable[TrialConfig], data: TrialData, **how: Collection[str]
) -> None:
    """Train what the table does not hold yet, and append it."""
    for config in configs:
        name = tuple(str(getattr(config, field)) for field in VARIED)
        if name in recorded(path):
            continue
        table = list(rows(config, data, **how))
        if name in recorded(path):  # another process was faster
            continue
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if path.stat().st_size == 0:
                writer.writeheader()
            writer.writerows(table)
        print(
            *name,
            *(f"{reading} {table[-1].get(f'test {reading}')}" for reading in READINGS),
            flush=True,
        )


def blocks() -> list[list[TrialConfig]]:
    """What to train, one block after the other: of each seed the rates around the usual best and
    the cheap stems first, the most expensive kernel last."""
    order, result = random.Random(0), []
    small, large = STEMS[:4], STEMS[4:]
    expensive = [stem for stem in large if stem[1:] == (1, False)]
    cheap = [stem for stem in large if stem not in expensive]
    parts = (
        (large, USUAL_RATES),
        (cheap, OTHER_RATES),
        (expensive, OTHER_RATES),
        (small, USUAL_RATES + OTHER_RATES),
    )
    for seed, (stems, rates) in itertools.product(SEEDS, parts):
        points = list(itertools.product(stems, rates))
        order.shuffle(points)  # what an interrupted run leaves of a block is a fair sample of it
        values = [
            dict(zip(VARIED, (*stem, DEPTH, rate, seed), strict=True)) for stem, rate in points
        ]
        result.append(
            [
                TrialConfig.from_dict({**SEARCH.fixed, **each, "max_epochs": EPOCHS})
                for each in values
            ]
        )
    return result


def main() -> None:
    prepare_process(1)
    split = split_images(load_images("digits", Path("data")), None)
    data = TrialData(split.train, split.validation, split.test, 10, False)
    back = len(sys.argv) > 1
    for block in blocks():
        fill(TABLE, reversed(block) if back else block, data)


if __name__ == "__main__":
    main()
