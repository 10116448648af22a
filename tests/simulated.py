"""Studies whose truth is known: instead of training, a score is a known effect of the levels and noise.

Everything else is the product's: the record, the choice of the arms to confirm, the rows of the tables.
"""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.load import Study
from study.confirm import confirm_trials
from study.designs import DESIGNS
from study.record import EPOCH_COLUMNS, TRIAL_COLUMNS, StudyState
from trainables.config import EpochMetrics, TrialConfig

DESIGN = DESIGNS["search"]
SEEDS = 3
EFFECTS = {
    "stem_kernel": {2: 0.0, 3: 0.01, 5: 0.0, 7: -0.02},
    "stem_stride": {1: 0.02, 2: 0.0},
    "stem_maxpool": {True: -0.015, False: 0.0},
    "depth": {10: 0.0, 18: 0.005, 34: 0.005},
}
SPREAD, SEED_SPREAD, IMAGES_SPREAD = 0.006, 0.004, 0.01
"""Standard deviations of a score: of its own, what all trials of a seed share, and of the few validation images."""


def truth(config: dict, effects: dict) -> float:
    """The score that a config has on average: the levels' effects add up, the best learning rate is 0.03."""
    levels = sum(effects.get(name, {}).get(config[name], 0.0) for name in EFFECTS)
    return 0.8 + levels - 0.02 * np.log10(config["learning_rate"] / 0.03) ** 2


def simulate(effects: dict, random: np.random.Generator) -> StudyState:
    """A study of 20 search trials, of which the first three are baselines, and its whole confirm stage."""
    state = StudyState()
    settings = {"epochs": 1, "seed": 0, "precision": "float32", "cpus_per_trial": 1, "gpus_per_trial": 0}
    dataset = {"name": "simulated", "counts": {"train": 900, "validation": 100, "test": 1000}, "classes": ["a", "b"]}
    header = {"name": "s", "design": {"name": "search", **DESIGN.to_dict()}, "dataset": dataset, "settings": settings}
    state.apply({"event": "study", "version": 1, "time": "t", **header})
    configs = [DESIGN.baseline(name, 1, 0) for name in DESIGN.baselines]
    for _ in range(17):
        configs.append(DESIGN.config({each.name: each.at(random.random()) for each in DESIGN.factors}, 1, 0))
    for config in configs:
        run(
            state,
            "search",
            config,
            truth(config.to_dict(), effects) + random.normal(0, np.hypot(SPREAD, IMAGES_SPREAD)),
        )
    shared = random.normal(0, SEED_SPREAD, SEEDS + 1)
    for config in confirm_trials(DESIGN, state, SEEDS):
        run(state, "confirm", config, truth(config.to_dict(), effects) + shared[config.seed] + random.normal(0, SPREAD))
    state.apply({"event": "driver_ended", "time": "t", "seconds": 1.0})
    return state


def run(state: StudyState, stage: str, config: TrialConfig, score: float) -> None:
    """Record a trial that is complete after its only epoch."""
    number, read = len(state.trials), "validation" if stage == "search" else "test"
    about = {"stage": stage, "origin": stage, "arm": config.arm, "config": config.to_dict(), "parameters": 1}
    if number < len(DESIGN.baselines):
        about["origin"] = f"baseline:{list(DESIGN.baselines)[number]}"
    readings = dict.fromkeys((field.name for field in fields(EpochMetrics)), None) | {"epoch": 1, "train_seconds": 1.0}
    readings |= {"eval_seconds": 0.1, f"{read}_accuracy": score, f"{read}_loss": 1 - score, "train_loss": 0.5}
    state.apply({"event": "trial_started", "time": "t", "trial": number, "forward_flops": 1, **about})
    state.apply({"event": "epoch", "time": "t", "trial": number, "node": "n", **readings})
    state.apply({"event": "trial_ended", "time": "t", "trial": number, "state": "complete", "error": ""})


def tables(state: StudyState) -> Study:
    """What `load_study` would read from the study's directory."""
    trials = pd.DataFrame(state.trial_rows())[list(TRIAL_COLUMNS)]
    epochs = pd.DataFrame(state.epoch_rows())[list(EPOCH_COLUMNS)]
    readings = [name for name in EPOCH_COLUMNS if name.endswith(("_loss", "_accuracy"))]
    return Study(Path("s"), state.manifest(), trials, epochs.astype(dict.fromkeys(readings, float)))
