"""Which reading, sampler and scheduler: answered by replay of the table that `record_table` trained.

Readings: how well the order of the trials at a rung foretells their order at the end. Samplers and
schedulers: studies of 20 samples on the table, with the project's own searcher and scheduler, at most two
trials at once; the score is the *test* accuracy, which no choice saw, of the trial that the study chooses.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from scipy import stats

from study.designs import SEARCH
from study.record import StudyState, state_at_end
from study.scheduler import build_scheduler
from study.searcher import StudySearcher
from tests.benchmarks.record_table import EPOCHS, READINGS, TABLE
from trainables.config import EpochMetrics, TrialConfig
from trainables.resnet import network_cost

STEM = ["stem_kernel", "stem_stride", "stem_maxpool"]
VALIDATION_IMAGES, TEST_IMAGES = 144, 359
SAMPLES = 20
AT_ONCE = 2
SEEDS = {"tpe": 200, "random": 200, "qmc": 200, "gp": 20}
DESIGN = replace(
    SEARCH,
    factors=tuple(factor for factor in SEARCH.factors if factor.name != "depth"),
    fixed={**SEARCH.fixed, "depth": 18},
)


def read_table() -> pd.DataFrame:
    """The recorded trials, one row an epoch; counts of images become fractions."""
    table = pd.read_csv(TABLE)
    for reading in READINGS:
        table[f"accuracy {reading}"] /= VALIDATION_IMAGES
        table[f"test {reading}"] /= TEST_IMAGES
    return table


def readings(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation between the reading after each epoch and the final score, by schedule and reading.

    The final score is one for all readings: the test accuracy at the last epoch, the mean over the readings.
    A trial that diverged is left out.
    """
    rows = []
    for schedule, trials in table.groupby("schedule"):
        wide = trials.set_index([*STEM, "learning_rate", "epoch"]).unstack("epoch")
        final = wide[[(f"test {reading}", EPOCHS) for reading in READINGS]].mean(axis=1, skipna=False)
        wide, final = wide[final.notna()], final[final.notna()]
        for reading in READINGS:
            row: dict[str, object] = {"schedule": schedule, "reading": reading, "n": len(final)}
            for epoch in range(1, EPOCHS + 1):
                for kind, sign in (("accuracy", 1), ("loss", -1)):
                    values = sign * wide[(f"{kind} {reading}", epoch)]
                    row[f"{kind} {epoch}"] = stats.spearmanr(values, final).statistic
            rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Replay:
    """What a trial of any stem and learning rate would have read, between the recorded rates by their logarithm."""

    curves: dict[tuple[int, int, bool], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, table: pd.DataFrame, reading: str) -> "Replay":
        constant = table[table.schedule == "constant"]
        curves = {}
        for stem, trials in constant.groupby(STEM):
            columns = (f"accuracy {reading}", f"loss {reading}", f"test {reading}")
            wide = [trials.pivot(index="learning_rate", columns="epoch", values=column) for column in columns]
            curves[stem] = (np.log(wide[0].index.to_numpy()), *(each.to_numpy() for each in wide))
        return cls(curves)

    def read(self, config: TrialConfig, epoch: int) -> tuple[float, float, float]:
        """Validation accuracy, validation loss and test accuracy; NaN where the nearest recorded trial diverged."""
        rates, *tables = self.curves[config.stem_kernel, config.stem_stride, config.stem_maxpool]
        place = float(np.clip(np.interp(math.log(config.learning_rate), rates, np.arange(len(rates))), 0, 4))
        low = min(int(place), len(rates) - 2)
        share = place - low

        def between(values: np.ndarray) -> float:
            ends = values[low : low + 2, epoch - 1]
            if np.isnan(ends).any():
                return float(ends[round(share)])
            return float(ends[0] * (1 - share) + ends[1] * share)

        return between(tables[0]), between(tables[1]), between(tables[2])


def simulate(replay: Replay, sampler: str, scheduler_name: str, seed: int) -> tuple[float, int, float]:
    """One study: test accuracy of the trial that it chooses (0 for none), epochs trained, FLOPs spent."""
    state = StudyState(header={"settings": {"cpus_per_trial": 1, "gpus_per_trial": 0.0, "precision": "float32"}})

    def append(event: str, **about: Any) -> None:
        state.apply({"event": event, "time": "", **about})

    searcher = StudySearcher(DESIGN, SAMPLES, sampler, EPOCHS, seed, state, beginning(append), lambda _: None)
    spent = run_simulated(searcher, build_scheduler(scheduler_name, EPOCHS), append, replay.read)
    epochs = sum(len(trial.epochs) for trial in state.trials.values())
    winner = state.winner()
    return (replay.read(TrialConfig.from_dict(winner.config), EPOCHS)[2] if winner else 0.0), epochs, spent


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
) -> float:
    """Do what Tune does, with readings that are known at once, at most two trials at a time; FLOPs on the clock."""
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
            "epoch": epoch, "learning_rate": 0.0, "train_loss": None if diverged else 0.0, "train_accuracy": 0.0,
            "validation_loss": None if diverged else loss, "validation_accuracy": None if diverged else accuracy,
            "train_seconds": 0.0, "eval_seconds": 0.0,
        }  # fmt: skip
        number = trial.config["trial"]
        append("epoch", trial=number, node="", diverged=diverged, **metrics)
        result = {"epoch": epoch, "validation_accuracy": accuracy, "diverged": diverged}
        over = diverged or epoch == EPOCHS
        if over:
            scheduler.on_trial_complete(None, trial, result)
        else:
            over = scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP
        if over:
            append("trial_ended", trial=number, state=state_at_end(epoch, diverged, EPOCHS), error="")
            searcher.on_trial_complete(trial.trial_id, result)
        else:
            heapq.heappush(running, (clock + cost, order, cost, trial, config, epoch + 1))


def choices(table: pd.DataFrame, reading: str) -> pd.DataFrame:
    """By sampler and scheduler: the chosen trial's mean test accuracy, its 95% interval over seeds, what was spent."""
    replay = Replay.of(table, reading)
    rows = []
    for sampler, seeds in SEEDS.items():
        for scheduler in ("asha", "fifo"):
            runs = [simulate(replay, sampler, scheduler, seed) for seed in range(seeds)]
            scores, epochs, flops = (np.array(each) for each in zip(*runs, strict=True))
            half = stats.t.ppf(0.975, seeds - 1) * scores.std(ddof=1) / math.sqrt(seeds)
            about = {"reading": reading, "sampler": sampler, "scheduler": scheduler, "seeds": seeds}
            found = {"score": scores.mean(), "±": half, "worst tenth": np.quantile(scores, 0.1)}
            rows.append({**about, **found, "epochs": epochs.mean(), "GFLOP": flops.mean() / 1e9})
    return pd.DataFrame(rows)


def main() -> None:
    """Print both tables."""
    table = read_table()
    print(readings(table).round(2).to_string(index=False))
    print(choices(table, "raw").round(3).to_string(index=False))


if __name__ == "__main__":
    main()
