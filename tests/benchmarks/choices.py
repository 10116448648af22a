"""Which sampler, scheduler and epoch budget: answered by replay of the table that `record_table`
trained.

Studies of 20 samples on the table, with the project's own searcher and scheduler, at most two
trials at once; the score is the *test* accuracy after the last epoch, which no choice saw, of the
trial that the study chooses, the mean over the recorded seeds. Which reading foretells that
accuracy: `python -m tests.benchmarks.readings digits`.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import Searcher
from scipy import stats

from study.designs import SEARCH, Design
from study.scheduler import REDUCTION_FACTOR, StudyAsha, build_scheduler
from study.searcher import StudySearcher
from study.state import StudyState, state_at_end
from tests.benchmarks.record_table import DEPTH, EPOCHS, TABLE
from trainables.config import EpochMetrics, TrialConfig
from trainables.resnet import network_cost

STEM = ["stem_kernel", "stem_stride", "stem_maxpool"]
VALIDATION_IMAGES, TEST_IMAGES = 144, 359
SAMPLES = 20
AT_ONCE = 2
SEEDS = {"tpe": 100, "random": 100, "qmc": 100, "gp": 10}


class LateAsha(StudyAsha):
    """ASHA that stops no trial before its third epoch."""

    def __init__(self, max_epochs: int) -> None:
        AsyncHyperBandScheduler.__init__(
            self,
            time_attr="epoch",
            metric="validation_accuracy",
            mode="max",
            max_t=max_epochs,
            grace_period=3,
            reduction_factor=REDUCTION_FACTOR,
        )


def read_table() -> pd.DataFrame:
    """The recorded trials of the first seed, one row an epoch, as fractions; `test` is the mean
    over all seeds."""
    table = pd.read_csv(TABLE)
    table["test"] = (
        table.groupby([*STEM, "learning_rate", "epoch"])["test precise"].transform("mean")
        / TEST_IMAGES
    )
    table = table[table["seed"] == 0].copy()
    for reading in ("precise", "running"):
        table[f"accuracy {reading}"] /= VALIDATION_IMAGES
    return table


@dataclass(frozen=True)
class Replay:
    """What a trial of any stem and learning rate would have read, between the recorded rates by
    their logarithm."""

    curves: dict[tuple[int, int, bool], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, table: pd.DataFrame, reading: str) -> "Replay":
        curves = {}
        for stem, trials in table.groupby(STEM):
            columns = (f"accuracy {reading}", f"loss {reading}", "test")
            wide = [
                trials.pivot(index="learning_rate", columns="epoch", values=column)
                for column in columns
            ]
            curves[stem] = (np.log(wide[0].index.to_numpy()), *(each.to_numpy() for each in wide))
        return cls(curves)

    def read(self, config: TrialConfig, epoch: int) -> tuple[float, float, float]:
        """Validation accuracy, validation loss and test accuracy; NaN where the nearest recorded
        trial diverged."""
        rates, *tables = self.curves[config.stem_kernel, config.stem_stride, config.stem_maxpool]
        place = float(
            np.clip(
                np.interp(math.log(config.learning_rate), rates, np.arange(len(rates))),
                0,
                len(rates) - 1,
            )
        )
        low = min(int(place), len(rates) - 2)
        share = place - low

        def between(values: np.ndarray) -> float:
            ends = values[low : low + 2, epoch - 1]
            if np.isnan(ends).any():
                return float(ends[round(share)])
            return float(ends[0] * (1 - share) + ends[1] * share)

        return between(tables[0]), between(tables[1]), between(tables[2])


def design_of(replay: Replay) -> Design:
    """The default design at the table's depth, with the kernels that the table has."""
    kernels = tuple(sorted({kernel for kernel, _, _ in replay.curves}))
    factors = [factor for factor in SEARCH.factors if factor.name != "depth"]
    factors = [
        replace(factor, levels=kernels) if factor.name == "stem_kernel" else factor
        for factor in factors
    ]
    baselines = {
        name: {**values, "depth": DEPTH}
        for name, values in SEARCH.baselines.items()
        if values["stem_kernel"] in kernels
    }
    return replace(
        SEARCH, factors=tuple(factors), fixed={**SEARCH.fixed, "depth": DEPTH}, baselines=baselines
    )


def simulate(
    replay: Replay, sampler: str, scheduler: TrialScheduler, seed: int, budget: int = EPOCHS
) -> tuple[float, int, float]:
    """One study: test accuracy of the trial that it chooses (0 for none), epochs trained, FLOPs
    spent."""
    state = StudyState(
        header={"settings": {"cpus_per_trial": 1, "gpus_per_trial": 0.0, "precision": "float32"}}
    )

    def append(event: str, **about: Any) -> None:
        state.apply({"event": event, "time": "", **about})

    design = design_of(replay)
    searcher = StudySearcher(
        design, SAMPLES, sampler, budget, seed, state, beginning(append), lambda _: None
    )
    spent = run_simulated(searcher, scheduler, append, replay.read, budget)
    epochs = sum(len(trial.epochs) for trial in state.trials.values())
    winner = state.winner
    return (
        (replay.read(TrialConfig.from_dict(winner.config), EPOCHS)[2] if winner else 0.0),
        epochs,
        spent,
    )


def beginning(append: Callable[..., None]) -> Callable[[int, str, str, TrialConfig], None]:
    """What records a trial when it is drawn."""

    def begin(number: int, stage: str, origin: str, config: TrialConfig) -> None:
        about = {"arm": config.arm, "config": config.to_dict(), "parameters": 0, "forward_flops": 0}
        append("trial_started", trial=number, stage=stage, origin=origin, **about)

    return begin


def run_simulated(
    searcher: Any,
    scheduler: TrialScheduler,
    append: Callable[..., None],
    read: Callable[[TrialConfig, int], tuple[float, ...]],
    budget: int = EPOCHS,
) -> float:
    """Do what Tune does, with readings that are known at once, at most two trials at a time; FLOPs
    on the clock."""
    clock, running, started = 0.0, [], 0
    while True:
        while len(running) < AT_ONCE:
            suggestion = searcher.suggest(f"t{started}")
            if suggestion in (None, Searcher.FINISHED):
                break
            trial = SimpleNamespace(trial_id=f"t{started}", config=suggestion)
            scheduler.on_trial_add(None, trial)
            config = TrialConfig.from_dict(suggestion["config"])
            cost = network_cost(config, (1, 16, 16), 10).forward_flops
            heapq.heappush(running, (clock + cost, started, cost, trial, config, 1))
            started += 1
        if not running:
            return clock
        clock, order, cost, trial, config, epoch = heapq.heappop(running)
        accuracy, loss = read(config, epoch)[:2]
        diverged = math.isnan(accuracy)
        metrics = dict.fromkeys(EpochMetrics.__dataclass_fields__) | {
            "epoch": epoch,
            "learning_rate": 0.0,
            "train_loss": None if diverged else 0.0,
            "train_accuracy": 0.0,
            "validation_loss": None if diverged else loss,
            "validation_accuracy": None if diverged else accuracy,
            "train_seconds": 0.0,
            "eval_seconds": 0.0,
        }
        number = trial.config["trial"]
        append("epoch", trial=number, node="", diverged=diverged, **metrics)
        result = {"epoch": epoch, "validation_accuracy": accuracy, "diverged": diverged}
        over = diverged or epoch == budget
        if over:
            scheduler.on_trial_complete(None, trial, result)
        else:
            over = scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP
        if over:
            append(
                "trial_ended", trial=number, state=state_at_end(epoch, diverged, budget), error=""
            )
            searcher.on_trial_complete(trial.trial_id, result)
        else:
            heapq.heappush(running, (clock + cost, order, cost, trial, config, epoch + 1))


def score(replay: Replay, sampler: str, kind: str, budget: int = EPOCHS) -> dict[str, float]:
    """Over studies of many seeds: the chosen trial's mean test accuracy, its 95% interval, what was
    spent."""
    builders = {"asha from 3": LateAsha}
    runs = []
    for seed in range(SEEDS[sampler]):
        scheduler = builders[kind](budget) if kind in builders else build_scheduler(kind, budget)
        runs.append(simulate(replay, sampler, scheduler, seed, budget))
    scores, epochs, flops = (np.array(each) for each in zip(*runs, strict=True))
    half = stats.t.ppf(0.975, len(runs) - 1) * scores.std(ddof=1) / math.sqrt(len(runs))
    result = {
        "seeds": len(runs),
        "score": scores.mean(),
        "±": half,
        "worst tenth": np.quantile(scores, 0.1),
    }
    return result | {"epochs": epochs.mean(), "GFLOP": flops.mean() / 1e9}


def choices(table: pd.DataFrame) -> pd.DataFrame:
    """The scores by reading, sampler and scheduler."""
    rows = []
    for reading in ("precise", "running"):
        replay = Replay.of(table, reading)
        for sampler in SEEDS if reading == "precise" else ("tpe",):
            for kind in ("asha", "asha from 3", "fifo"):
                rows.append(
                    {
                        "reading": reading,
                        "sampler": sampler,
                        "scheduler": kind,
                        **score(replay, sampler, kind),
                    }
                )
    return pd.DataFrame(rows)


def budgets(table: pd.DataFrame) -> pd.DataFrame:
    """The scores by epoch budget of the search; every chosen trial counts by its accuracy after the
    last epoch."""
    replay = Replay.of(table, "precise")
    return pd.DataFrame(
        {"budget": budget, **score(replay, "tpe", "asha", budget)}
        for budget in range(2, EPOCHS + 1)
    )


def main() -> None:
    """Print both tables."""
    table = read_table()
    print(choices(table).round(3).to_string(index=False))
    print(budgets(table).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
