"""Studies with a confirm stage, made for tests: arms with given accuracies, and ways to spoil
them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import (
    CHANGES,
    FACTORS,
    MadeTrial,
    half_fraction,
    manifest,
    write_study,
)

from analysis import Study, load_study
from analysis.report.confirm_findings import ConfirmFindings
from analysis.report.findings import study_findings
from trainables.config import TrialConfig

RATE = {"name": "learning_rate", "role": "nuisance", "low": 3e-4, "high": 0.3, "scale": "log"}


SAMPLED = {"search": "sampled", "factors": [RATE], "baselines": {}, "margin": 0.01}


RANDOM = np.random.default_rng(1)


def full(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of an arm, as study.json has it."""
    values = TrialConfig.from_dict({"max_epochs": 2, **config}).to_dict()
    del values["seed"]
    return values


def study_of(
    folder: Path,
    arms: Sequence[Mapping[str, Any]],
    table: Sequence[Sequence[float]] | np.ndarray,
    changes: Sequence[tuple[str, Any, Any]] = (),
    design: Mapping[str, Any] = SAMPLED,
    others: Sequence[MadeTrial] = (),
) -> Study:
    """A study of version 2 whose arms (role, config and what else the plan says) read these
    accuracies by seed, of training and of test images alike, half as much after the first of two
    epochs. NaN: the trial diverged."""
    plan = [{**arm, "config": full(arm["config"])} for arm in arms]
    made = list(others)
    for seed in range(len(table[0])):
        for arm, values in zip(plan, table, strict=True):
            score = float(values[seed])
            state = "diverged" if math.isnan(score) else "complete"
            rows = [(0.5, score / 2, 0.5, score / 2), (0.1, score, 0.2, score)]
            made.append(
                MadeTrial(
                    state, rows, "confirm", {**arm["config"], "seed": seed + 1}, stage="confirm"
                )
            )
    factors = [{"factor": name, "from": one, "to": other} for name, one, other in changes]
    return load_study(
        write_study(
            folder, made, version=2, design=dict(design), confirm={"factors": factors, "arms": plan}
        )
    )


def fraction(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"role": "fraction" if place else "winner", "config": config}
        for place, config in enumerate(configs)
    ]


def regression(columns: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, float, int]:
    """Coefficients of these columns (by arm) beside those of seeds, and of the same table the
    residual mean square of all arms and seeds, with its freedom."""
    arms, seeds = table.shape
    by_seed = np.eye(seeds)
    x = np.array([np.r_[columns[a], by_seed[s]] for a in range(arms) for s in range(seeds)])
    coefficients = np.linalg.lstsq(x, table.ravel(), rcond=None)[0]
    indicators = np.array(
        [np.r_[np.eye(arms)[a], by_seed[s]] for a in range(arms) for s in range(seeds)]
    )
    residual = (
        table.ravel() - indicators @ np.linalg.lstsq(indicators, table.ravel(), rcond=None)[0]
    )
    freedom = table.size - np.linalg.matrix_rank(indicators)
    return coefficients[: columns.shape[1]], residual @ residual / freedom, freedom


CODES = np.array(
    [[float(arm[name] == other) for name, _, other in CHANGES] for arm in half_fraction()]
)


EIGHT = (
    0.9
    + (CODES @ [0.0, -0.03, 0.004, -0.01])[:, None]
    + RANDOM.normal(0, 0.003, (8, 5))
    + RANDOM.normal(0, 0.01, 5)
)
"""Test accuracies of the half fraction's arms with five seeds."""


# A figure takes a while to draw: of the search stage two factors.
DESIGN = manifest()["design"] | {
    "search": "sampled",
    "factors": [FACTORS[0], FACTORS[4]],
    "margin": 0.01,
}


def made_study(folder: Path, made: list[MadeTrial], plan: dict, **design: object) -> Study:
    return load_study(write_study(folder, made, version=2, design=DESIGN | design, confirm=plan))


def changed(made: list[MadeTrial], shift: Callable[[MadeTrial, int], float]) -> list[MadeTrial]:
    """The trials with their accuracy at each epoch (from 0) shifted, and nothing known of single
    images."""
    rows = [
        [
            (*reading[:3], reading[3] + shift(trial, epoch))
            for epoch, reading in enumerate(trial.readings)
        ]
        for trial in made
    ]
    return [
        replace(trial, readings=readings, correct=())
        for trial, readings in zip(made, rows, strict=True)
    ]


def lost(study: Study, config: dict, seeds: int) -> Study:
    """The study in which the first confirm trials with these values have diverged."""
    rows = study.trials["stage"].eq("confirm")
    for name, value in config.items():
        rows &= study.trials[name].eq(value)
    gone = rows & (rows.cumsum() <= seeds)
    assert gone.sum() == seeds
    return replace(
        study, trials=study.trials.assign(state=study.trials["state"].mask(gone, "diverged"))
    )


def crossed(folder: Path, scores: list[list[float]], design: dict, roles: str = "arm") -> Study:
    """Residual and plain networks of depth 18 and 34, one epoch, these test accuracies by arm and
    seed."""
    usual = {"learning_rate": 0.01, "max_epochs": 1}
    arms = [
        {"residual": residual, "depth": depth, **usual}
        for residual in (True, False)
        for depth in (18, 34)
    ]
    made = [
        MadeTrial(
            "complete",
            [(0.1, score / 2, 0.2, score)],
            "confirm",
            {**arm, "seed": seed},
            stage="confirm",
        )
        for seed in range(len(scores[0]))
        for arm, values in zip(arms, scores, strict=True)
        for score in [values[seed]]
    ]
    plan = {"factors": [], "arms": [{"role": roles, "config": arm} for arm in arms]}
    return load_study(write_study(folder, made, version=2, design=design, confirm=plan))


SQUARE = {
    "name": "degradation",
    "search": "factorial",
    "factors": [
        {"name": "residual", "role": "scientific", "levels": [True, False]},
        {"name": "depth", "role": "scientific", "levels": [18, 34]},
    ],
    "baselines": {},
}


DEEP = [[0.90, 0.91, 0.90], [0.91, 0.91, 0.92], [0.89, 0.90, 0.89], [0.80, 0.80, 0.81]]


def findings_of(study: Study) -> ConfirmFindings:
    confirmed = study_findings(study).confirmed
    assert confirmed is not None
    return confirmed
