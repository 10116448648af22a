"""The analysis of 10,000 trials of 100 epochs, a million rows: seconds and memory of tables,
statistics and report."""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import load_study
from analysis.report.findings import study_findings
from analysis.report.page import write_report
from analysis.statistics.curves import (
    arm_levels,
    best_so_far,
    learning_curves,
    level_curves,
    training_shape,
)
from analysis.statistics.search import isolation
from tests.synthetic import FACTORS, search_like, write_study
from trainables.config import TrialConfig

TRIALS, EPOCHS = 10_000, 100


def make_study(folder: Path) -> Path:
    """A study of random arms and learning rates, one in a hundred stopped early."""
    draw = np.random.default_rng(0)
    write_study(
        folder, search_like(10), settings={"epochs": EPOCHS, "seed": 0, "cpus_per_trial": 1}
    )
    configs = {factor["name"]: draw.choice(factor["levels"], TRIALS) for factor in FACTORS[1:]}
    configs["learning_rate"] = 10 ** draw.uniform(np.log10(3e-4), np.log10(0.3), TRIALS)
    kernel, stride, pool, depth = (configs[factor["name"]] for factor in FACTORS[1:])
    arms = [
        f"k{k} s{s} {'pool' if p else 'no-pool'} d{d}"
        for k, s, p, d in zip(kernel, stride, pool, depth, strict=True)
    ]
    lengths = np.where(draw.random(TRIALS) < 0.01, 3, EPOCHS)
    base = {
        **TrialConfig(max_epochs=EPOCHS).to_dict(),
        "stage": "search",
        "origin": "random",
        "error": "",
        "node": "n",
    }
    trials = pd.DataFrame({"trial": np.arange(TRIALS), **configs, "arm": arms, "epochs": lengths})
    trials = trials.assign(**{name: value for name, value in base.items() if name not in trials})
    trials["state"] = np.where(lengths == EPOCHS, "complete", "stopped")
    trials = trials.assign(
        parameters=4_900_000 + depth, forward_flops=36_000_000 * stride, precision="bf16"
    )
    trials.assign(train_seconds=2.0 * lengths).to_csv(folder / "trials.csv", index=False)
    rows = pd.DataFrame({"trial": np.repeat(trials["trial"], lengths)})
    rows["epoch"] = rows.groupby("trial").cumcount() + 1
    quality = 0.9 - 0.05 * (np.log10(configs["learning_rate"]) + 1.5) ** 2 + 0.02 * (depth > 10)
    accuracy = np.repeat(quality, lengths) * (1 - np.exp(-rows["epoch"] / 10)) + draw.normal(
        0, 0.01, len(rows)
    )
    rows = rows.assign(
        learning_rate=0.01,
        train_loss=2 * (1 - accuracy).clip(0.01),
        train_accuracy=accuracy.clip(0, 1),
    )
    rows = rows.assign(
        validation_loss=2.2 * (1 - accuracy).clip(0.01),
        validation_accuracy=accuracy.clip(0, 1) * 0.98,
    )
    rows = rows.assign(test_loss="", test_accuracy="", train_seconds=2.0, eval_seconds=0.5)
    rows.to_csv(folder / "epochs.csv", index=False)
    return folder


def main() -> None:
    """Print the seconds of each part and the greatest memory of the process."""
    with tempfile.TemporaryDirectory() as place:
        folder = make_study(Path(place) / "study")
        times = [time.perf_counter()]
        study = load_study(folder)
        times.append(time.perf_counter())
        searched = study_findings(study).search
        curves = learning_curves(searched.table, study.epochs)
        for levels in (arm_levels(searched.table), *searched.levels.values()):
            level_curves(curves, levels)
        for factor in searched.scientific:
            isolation(searched.table, factor)
        best_so_far(searched.table)
        training_shape(searched.table, study.epochs)
        times.append(time.perf_counter())
        write_report(load_study(folder))
        times.append(time.perf_counter())
        size = (folder / "report" / "index.html").stat().st_size / 1e6
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "linux" else 2**30
    )
    load, statistics, report = np.diff(times)
    rows = f"{TRIALS:,} trials of {EPOCHS} epochs ({len(study.epochs):,} rows)"
    seconds = f"tables {load:.1f} s, statistics {statistics:.1f} s, complete report {report:.1f} s"
    print(f"analysis of {rows}: {seconds} ({size:.1f} MB), {memory:.2f} GiB")


if __name__ == "__main__":
    main()
