"""Thousands of simulated studies whose truth is known, through the record, the choice of arms and the conclusions.

Instead of training, a trial's score is a known effect of its levels and noise; everything else is the product's.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.load import Study
from analysis.verdict import verdict
from study.confirm import confirm_trials
from study.designs import DESIGNS
from study.record import EPOCH_COLUMNS, TRIAL_COLUMNS, StudyState
from trainables.config import EpochMetrics, TrialConfig

DESIGN = DESIGNS["search"]
STUDIES, SEEDS = 2000, 3
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


def with_effects(number: int) -> tuple[pd.DataFrame, float, float, float]:
    """Of a study with effects the differences from the winner beside the truth; the search's best score, the
    confirmed mean and the true score of the winner."""
    said = verdict(tables(simulate(EFFECTS, np.random.default_rng([1, number]))))
    arms = said.arms.assign(truth=[truth(row, EFFECTS) for row in said.arms.to_dict("records")]).set_index("label")
    winner = arms.index[arms["role"] == "winner"][0]
    table = said.differences[winner]
    table = table.assign(truth=arms["truth"].loc[table["arm"]].to_numpy() - arms["truth"][winner])
    confirmed = said.means["test_accuracy"].set_index("label")["mean"][winner]
    return table, confirmed + said.optimism, confirmed, arms["truth"][winner]


def without_effects(number: int) -> bool:
    """Whether a study in which nothing matters says that something does."""
    return verdict(tables(simulate({}, np.random.default_rng([2, number])))).effects["tells"].any()


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def simulated(pool):
    return list(pool.map(with_effects, range(STUDIES), chunksize=50))


@pytest.mark.slow
def test_intervals_of_differences_cover_the_truth(simulated):
    rows = pd.concat([table for table, *_ in simulated])
    covered = ((rows["low"] <= rows["truth"]) & (rows["truth"] <= rows["high"])).mean()
    assert len(rows) > 4 * STUDIES
    assert 0.93 <= covered <= 0.97


@pytest.mark.slow
def test_the_searchs_best_score_is_optimistic_and_the_confirmed_one_is_not(simulated):
    best, confirmed, true = np.array([numbers for _, *numbers in simulated]).T
    assert abs(np.mean(confirmed - true)) < 3 * np.std(confirmed - true) / np.sqrt(STUDIES)
    assert np.mean(best - true) > 10 * np.std(best - true) / np.sqrt(STUDIES)


@pytest.mark.slow
def test_where_nothing_matters_little_is_said_to(pool):
    told = np.mean(list(pool.map(without_effects, range(STUDIES), chunksize=50)))
    assert told <= 0.07
    assert told > 0.02, "needlessly shy"
