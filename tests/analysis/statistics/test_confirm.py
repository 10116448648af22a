"""What the confirm stage says, from the files of a study, against least squares, loops and scipy."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from synthetic import (
    CHANGES,
    MadeTrial,
    confirm_like,
    falling,
    half_fraction,
    manifest,
    write_study,
)

from analysis import Study, conclude, load_study
from analysis.statistics import confirm
from analysis.statistics.arms import confirm_stage
from analysis.statistics.confirm import Change, Verdict
from analysis.statistics.tuning import rates_tried
from trainables.config import TrialConfig
from trainables.vocabulary import ArmRole

RATE = {"name": "learning_rate", "role": "nuisance", "low": 3e-4, "high": 0.3, "scale": "log"}
SAMPLED = {"search": "sampled", "factors": [RATE], "baselines": {}, "margin": 0.01}
SQUARE = {
    "search": "factorial",
    "factors": [
        {"name": "residual", "role": "scientific", "levels": [True, False]},
        {"name": "depth", "role": "scientific", "levels": [18, 34]},
    ],
    "baselines": {},
}
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
    rest = table.ravel() - indicators @ np.linalg.lstsq(indicators, table.ravel(), rcond=None)[0]
    freedom = table.size - np.linalg.matrix_rank(indicators)
    return coefficients[: columns.shape[1]], rest @ rest / freedom, freedom


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


def test_effects_of_the_half_fraction_are_those_of_least_squares(tmp_path):
    study = study_of(tmp_path, fraction(half_fraction()), EIGHT, CHANGES)
    table = conclude(study)
    assert list(table) == (
        [
            "factor",
            "from",
            "to",
            "difference",
            "low",
            "high",
            "low_seeds",
            "high_seeds",
            "p",
            "p_equivalence",
            "verdict",
        ]
    )
    assert table[["factor", "from", "to"]].to_numpy().tolist() == [
        list(change) for change in CHANGES
    ]
    effects, square, freedom = regression(CODES, EIGHT)
    assert table["difference"].tolist() == pytest.approx(effects.tolist())
    error = math.sqrt(square * 8 / 16 / 5)  # of eight arms each counts ±1/4
    half = stats.t.ppf(0.975, freedom) * error
    for low, high in (
        ("low", "high"),
        ("low_seeds", "high_seeds"),
    ):  # nothing is known of single images
        assert table[low].tolist() == pytest.approx(effects - half)
        assert table[high].tolist() == pytest.approx(effects + half)
    raw = 2 * stats.t.sf(abs(effects) / error, freedom)
    equivalence = np.maximum(
        stats.t.cdf((effects - 0.01) / error, freedom),
        stats.t.sf((effects + 0.01) / error, freedom),
    )
    for column, values in (("p", raw), ("p_equivalence", equivalence)):
        ranks = np.argsort(np.argsort(values))
        by_hand = [
            max(min(1, (4 - ranks[k]) * values[k]) for k in range(4) if values[k] <= values[j])
            for j in range(4)
        ]
        assert table[column].tolist() == pytest.approx(by_hand)
    assert table["verdict"].tolist()[:2] == ["does not matter", "matters"]


def test_test_images_are_in_the_leading_interval(tmp_path):
    made, plan = confirm_like({"depth": -0.8}, seeds=3, seed=1)
    study = load_study(write_study(tmp_path, made, version=2, design=SAMPLED, confirm=plan))
    assert confirm.noisy_arm(confirm_stage(study)) is None
    row = conclude(study).set_index("factor").loc["depth"]
    confirmed = [
        trial for trial in made if trial.stage == "confirm" and trial.config["stem_kernel"] != 7
    ]
    sign = [0.25 if trial.config["depth"] == 10 else -0.25 for trial in confirmed]
    seeds = [trial.config["seed"] for trial in confirmed]
    d = np.array([sum(s * t.correct for s, t, n in zip(sign, confirmed, seeds, strict=True) if n == seed)
                  for seed in (1, 2, 3)])  # fmt: skip
    table = np.array(
        [
            [t.correct.mean() for t, n in zip(confirmed, seeds, strict=True) if n == s]
            for s in (1, 2, 3)
        ]
    ).T
    assert row["difference"] == pytest.approx(d.mean())
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    over_seeds = (rest**2).sum() / 14 * 8 / 16 / 3
    over_images = d.mean(0).var(ddof=1) / 360
    cross = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    over_both = (cross**2).sum() / (2 * 359 * 3 * 360)
    variance = max(over_seeds + over_images - over_both, over_seeds, over_images)
    freedom = variance**2 / (over_seeds**2 / 14 + over_images**2 / 359)
    half, narrow = (
        stats.t.ppf(0.975, freedom) * variance**0.5,
        stats.t.ppf(0.975, 14) * over_seeds**0.5,
    )
    assert (row["low"], row["high"]) == pytest.approx((d.mean() - half, d.mean() + half))
    assert (row["low_seeds"], row["high_seeds"]) == pytest.approx(
        (d.mean() - narrow, d.mean() + narrow)
    )


def test_where_the_images_of_a_trial_are_missing_the_interval_is_over_seeds(tmp_path):
    made, plan = confirm_like({}, seeds=2)
    folder = write_study(tmp_path, made, version=2, design=SAMPLED, confirm=plan)
    lines = (folder / "test_images.csv").read_text().splitlines(keepends=True)
    (folder / "test_images.csv").write_text(
        "".join(lines[:-2])
    )  # the baseline's and one of the fraction
    table = conclude(load_study(folder))
    assert table["low"].tolist() == pytest.approx(table["low_seeds"].tolist(), abs=1e-12)


def test_an_arm_that_is_lost_leaves_least_squares(tmp_path):
    lost = EIGHT.copy()
    lost[3] = np.nan
    study = study_of(tmp_path, fraction(half_fraction()), lost, CHANGES)
    kept = [0, 1, 2, 4, 5, 6, 7]
    effects, square, freedom = regression(CODES[kept], EIGHT[kept])
    table = conclude(study)
    assert table["difference"].tolist() == pytest.approx(effects.tolist())
    columns = np.c_[np.ones(7), CODES[kept]]
    variances = np.diag(np.linalg.inv(columns.T @ columns))[1:] * square / 5
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variances)
    assert (table["high"] - table["difference"]).tolist() == pytest.approx(half.tolist())
    assert freedom == 6 * 4


def test_an_effect_whose_arms_are_lost_is_inconclusive(tmp_path):
    lost = np.array([[0.9, 0.91], [np.nan, np.nan], [0.8, 0.82], [np.nan, np.nan]])
    configs = [{"stem_kernel": kernel, "depth": depth} for kernel in (3, 5) for depth in (18, 10)]
    study = study_of(tmp_path, fraction(configs), lost, [("stem_kernel", 3, 5), ("depth", 18, 10)])
    kernel, depth = confirm.effects(study)
    assert kernel.estimate.difference == pytest.approx(0.81 - 0.905)
    assert math.isnan(depth.estimate.difference)
    assert depth.verdict is Verdict.INCONCLUSIVE
    assert confirm.seeds_for_width(study, 0.5) == 2
    assert [drift.change.factor for drift in confirm.drifts(study)] == ["stem_kernel"]
    assert set(confirm.effects_by_epoch(study)["factor"]) == {"stem_kernel"}


def test_a_baseline_neither_pools_nor_takes_seeds(tmp_path):
    arms = [
        *fraction([{"depth": 18}, {"depth": 10}]),
        {"role": "baseline", "baseline": "b", "config": {"stem_kernel": 5}},
    ]
    table = np.array([[0.90, 0.92, 0.91], [0.85, 0.86, 0.88], [0.2, 0.5, np.nan]])
    study = study_of(tmp_path, arms, table, [("depth", 18, 10)])
    (row,) = conclude(study).to_dict("records")
    exact = stats.ttest_rel(table[1], table[0])
    interval = exact.confidence_interval(0.95)
    assert (row["low"], row["high"], row["p"]) == pytest.approx(
        (interval.low, interval.high, exact.pvalue)
    )
    baseline, estimate = confirm.against_baseline(study)
    assert (baseline.baseline, estimate.seeds) == ("b", 2)
    both = stats.ttest_rel(table[0, :2], table[2, :2]).confidence_interval(0.95)
    assert estimate.interval.ends == pytest.approx((both.low, both.high))


@pytest.mark.parametrize(
    ("table", "seeds"),
    [
        ([[0.9, 0.91]], None),
        ([[0.9, 0.91], [np.nan, np.nan]], None),
        ([[0.9, 0.91], [0.8, np.nan]], 1),
    ],
)
def test_a_baseline_that_is_not_there_is_not_compared(tmp_path, table, seeds):
    arms = [
        {"role": "winner", "config": {}},
        {"role": "baseline", "baseline": "b", "config": {"depth": 34}},
    ]
    study = study_of(tmp_path, arms[: len(table)], table)
    pair = confirm.against_baseline(study)
    assert (pair and pair[1].seeds) == seeds
    assert conclude(study).empty


def test_a_factor_changed_alone_is_compared_with_the_winner(tmp_path):
    """Its variance is pooled over the fraction and the arms changed alone."""
    alone = {"role": "alone", "factor": "nesterov", "config": {"depth": 18, "nesterov": True}}
    arms = [*fraction([{"depth": 18}, {"depth": 10}]), alone]
    table = np.array([[0.90, 0.92, 0.91], [0.85, 0.86, 0.88], [0.93, 0.93, 0.95]])
    study = study_of(tmp_path, arms, table, [("depth", 18, 10), ("nesterov", False, True)])
    depth, nesterov = conclude(study).to_dict("records")
    assert depth["high"] == pytest.approx(
        stats.ttest_rel(table[1], table[0]).confidence_interval(0.95).high
    )
    assert [nesterov[name] for name in ("factor", "from", "to")] == ["nesterov", False, True]
    _, square, freedom = regression(np.eye(3), table)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(2 * square / 3)
    difference = table[2].mean() - table[0].mean()
    assert (nesterov["difference"], nesterov["high"]) == pytest.approx(
        (difference, difference + half)
    )
    assert confirm.interactions(study) == ()


def test_a_factorial_design_compares_every_two_levels_over_the_others(tmp_path):
    design = {
        **SQUARE,
        "factors": [
            {"name": "stem_kernel", "role": "scientific", "levels": [2, 3, 5]},
            SQUARE["factors"][1],
        ],
    }
    configs = [
        {"stem_kernel": kernel, "depth": depth} for kernel in (2, 3, 5) for depth in (18, 34)
    ]
    table = 0.8 + np.random.default_rng(3).normal(0, 0.01, (6, 4))
    study = study_of(
        tmp_path, [{"role": "arm", "config": config} for config in configs], table, design=design
    )
    assert confirm.noisy_arm(confirm_stage(study)) is None
    rows = conclude(study)
    kernels = {
        kernel: table[2 * place : 2 * place + 2].mean() for place, kernel in enumerate((2, 3, 5))
    }
    expected = {
        ("stem_kernel", a, b): kernels[b] - kernels[a]
        for a, b in itertools.combinations((2, 3, 5), 2)
    }
    expected["depth", 18, 34] = table[1::2].mean() - table[::2].mean()
    assert dict(
        zip(
            zip(rows["factor"], rows["from"], rows["to"], strict=True),
            rows["difference"],
            strict=True,
        )
    ) == (pytest.approx(expected))
    _, square, freedom = regression(np.eye(6), table)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(square / 4)  # means of two arms and four seeds
    assert (rows["high"] - rows["difference"]).tolist()[:3] == pytest.approx([half] * 3)
    assert [row.levels for row in confirm.interactions(study)] == [
        (pair, (18, 34)) for pair in itertools.combinations((2, 3, 5), 2)
    ]


def test_baselines_alone_are_compared_with_the_first(tmp_path):
    arms = [
        {"role": "baseline", "baseline": name, "config": {"depth": depth}}
        for name, depth in zip("abc", (18, 34, 10), strict=True)
    ]
    table = np.array([[0.90, 0.92, 0.91], [0.85, 0.86, 0.88], [0.93, 0.94, 0.95]])
    study = study_of(
        tmp_path, arms, table, design={"search": "none", "factors": [], "baselines": {}}
    )
    rows = conclude(study)
    assert rows[["factor", "from", "to"]].to_numpy().tolist() == [
        ["baseline", "a", "b"],
        ["baseline", "a", "c"],
    ]
    assert rows["difference"].tolist() == pytest.approx(
        (table[1:] - table[0]).mean(axis=1).tolist()
    )
    _, square, freedom = regression(np.eye(3), table)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(2 * square / 3)
    assert (rows["high"] - rows["difference"]).tolist() == pytest.approx([half] * 2)
    assert confirm.against_baseline(study) is None


def test_a_design_may_compare_training_accuracy(tmp_path):
    """Which test images were right says nothing of it."""
    made, plan = confirm_like({}, seeds=3)
    rows = {depth: [(0.1, 0.5 + 0.01 * (depth == 10), 0.3, 0.5)] for depth in (10, 18)}
    made = [replace(trial, readings=rows[trial.config["depth"]]) for trial in made]
    design = {**SAMPLED, "outcome": "train_accuracy"}
    study = load_study(write_study(tmp_path, made, version=2, design=design, confirm=plan))
    depth = {effect.change.factor: effect for effect in confirm.effects(study)}["depth"]
    assert depth.estimate.images == 0
    assert depth.estimate.difference == pytest.approx(0.01)


def effect_of(tmp_path: Path, differences: Sequence[float]) -> confirm.Effect:
    table = [[0.5] * len(differences), [0.5 + each for each in differences]]
    study = study_of(tmp_path, fraction([{"depth": 18}, {"depth": 10}]), table, [("depth", 18, 10)])
    (effect,) = confirm.effects(study)
    return effect


@pytest.mark.parametrize(
    ("differences", "verdict", "small"),
    [
        ([0.020, 0.021, 0.022], Verdict.MATTERS, False),
        ([0.000, 0.001, -0.001], Verdict.EQUIVALENT, False),
        ([0.004, 0.0045, 0.0035], Verdict.EQUIVALENT, True),
        ([0.02, -0.03, 0.04], Verdict.INCONCLUSIVE, False),
        ([0.02], Verdict.INCONCLUSIVE, False),
    ],
    ids=["matters", "does not", "small", "inconclusive", "one seed"],
)
def test_an_effect_has_one_of_three_outcomes(tmp_path, differences, verdict, small):
    effect = effect_of(tmp_path, differences)
    assert (effect.verdict, effect.small) == (verdict, small)
    if len(differences) > 1:
        two_sided = stats.ttest_1samp(differences, 0).pvalue
        above = stats.ttest_1samp(differences, -0.01, alternative="greater").pvalue
        below = stats.ttest_1samp(differences, 0.01, alternative="less").pvalue
        assert (effect.p, effect.p_equivalence) == pytest.approx((two_sided, max(above, below)))


def test_the_margin_is_the_designs(tmp_path):
    table = [[0.5, 0.5, 0.5], [0.520, 0.521, 0.522]]
    design = {**SAMPLED, "margin": 0.05}
    study = study_of(
        tmp_path, fraction([{"depth": 18}, {"depth": 10}]), table, [("depth", 18, 10)], design
    )
    assert conclude(study)["verdict"].tolist() == ["does not matter"]


def test_interactions_are_shared_by_pairs_that_the_fraction_does_not_separate(tmp_path):
    kernel, stride, pool, depth = CODES.T * 2 - 1
    table = EIGHT + 0.01 * (kernel * stride)[:, None]
    study = study_of(tmp_path, fraction(half_fraction()), table, CHANGES)
    rows = {row.pairs: row for row in confirm.interactions(study)}
    columns = {
        (("stem_kernel", "stem_stride"), ("stem_maxpool", "depth")): kernel * stride,
        (("stem_kernel", "stem_maxpool"), ("stem_stride", "depth")): kernel * pool,
        (("stem_kernel", "depth"), ("stem_stride", "stem_maxpool")): kernel * depth,
    }
    assert rows.keys() == columns.keys()
    for pairs, column in columns.items():
        assert rows[pairs].estimate.difference == pytest.approx(column @ table.mean(axis=1) / 4)
    assert [row.significant for row in rows.values()] == [True, False, False]
    assert confirm.simple_effects(study, next(iter(rows.values()))) == []


def test_an_interaction_of_a_factorial_design_has_simple_effects(tmp_path):
    table = np.array(
        [[0.90, 0.91, 0.90], [0.91, 0.91, 0.92], [0.89, 0.90, 0.89], [0.80, 0.80, 0.81]]
    )
    configs = [
        {"residual": residual, "depth": depth} for residual in (True, False) for depth in (18, 34)
    ]
    study = study_of(
        tmp_path, [{"role": "arm", "config": config} for config in configs], table, design=SQUARE
    )
    (row,) = confirm.interactions(study)
    a, b, c, d = table.mean(axis=1)
    assert row.significant
    assert row.estimate.difference == pytest.approx(((d - c) - (b - a)) / 2)
    shown = [
        (at, change, value.difference) for at, change, value in confirm.simple_effects(study, row)
    ]
    depth = Change("depth", 18, 34)
    assert shown == [(True, depth, pytest.approx(b - a)), (False, depth, pytest.approx(d - c))]


def test_five_factors_in_sixteen_arms_separate_all_interactions(tmp_path):
    levels = {
        "stem_kernel": (3, 5),
        "stem_stride": (1, 2),
        "stem_maxpool": (True, False),
        "depth": (18, 10),
        "residual": (True, False),
    }
    signs = [(*row, math.prod(row)) for row in itertools.product((1, -1), repeat=4)]
    configs = [
        {name: pair[sign < 0] for (name, pair), sign in zip(levels.items(), row, strict=True)}
        for row in signs
    ]
    study = study_of(
        tmp_path,
        fraction(configs),
        RANDOM.normal(0.9, 0.01, (16, 2)),
        [(n, *p) for n, p in levels.items()],
    )
    assert [len(row.pairs) for row in confirm.interactions(study)] == [1] * 10
    assert len(confirm.effects(study)) == 5


@pytest.mark.parametrize("width", [0.004, 0.002, 0.0005])
def test_the_seeds_for_a_width_are_the_least(tmp_path, width):
    study = study_of(tmp_path, fraction(half_fraction()), EIGHT, CHANGES)
    _, square, _ = regression(CODES, EIGHT)
    halves = {n: stats.t.ppf(0.975, 7 * (n - 1)) * math.sqrt(square / 2 / n) for n in range(2, 200)}
    expected = next(n for n, half in halves.items() if half <= width)
    assert confirm.seeds_for_width(study, width) == expected


def test_test_images_are_a_floor_of_the_width(tmp_path):
    made, plan = confirm_like({}, seeds=3, images=200)
    study = load_study(write_study(tmp_path, made, version=2, design=SAMPLED, confirm=plan))
    values = [effect.estimate for effect in confirm.effects(study)]
    lasting = max(max(0.0, value.over_images - value.over_both) for value in values)
    assert lasting > 0
    floor = 1.96 * lasting**0.5
    assert confirm.seeds_for_width(study, 0.9 * floor) is None
    assert confirm.seeds_for_width(study, 1.3 * floor) > 3


def test_seeds_for_a_width_need_a_spread(tmp_path):
    one = study_of(tmp_path / "one", fraction(half_fraction()), EIGHT[:, :1], CHANGES)
    assert confirm.seeds_for_width(one, 1e-9) == 2
    assert confirm.seeds_for_width(load_study(write_study(tmp_path / "none", [])), 0.01) is None


def test_effects_by_epoch_and_those_that_still_move(tmp_path):
    made, plan = confirm_like({"depth": -0.8}, seeds=3, epochs=6)
    rows, by_trial = RANDOM.normal(0, 0.001, (len(made), 6)), []
    for noise, trial in zip(rows, made, strict=True):
        slope = 0.01 if trial.config["depth"] == 10 else 0.0
        readings = [(0.1, 0.9, 0.2, 0.5 + slope * epoch + noise[epoch]) for epoch in range(6)]
        by_trial.append(replace(trial, readings=readings))
    study = load_study(write_study(tmp_path, by_trial, version=2, design=SAMPLED, confirm=plan))
    table = confirm.effects_by_epoch(study)
    assert len(table) == 4 * 6
    shown = [
        (t, r)
        for t, r in zip(by_trial, rows, strict=True)
        if t.stage == "confirm" and t.config["stem_kernel"] != 7
    ]
    codes = np.array([t.config["depth"] == 10 for t, _ in shown])
    values = np.array([[reading[3] for reading in t.readings] for t, _ in shown])
    depth = table[table["factor"] == "depth"]
    assert depth["difference"].tolist() == pytest.approx(
        (values[codes].mean(0) - values[~codes].mean(0)).tolist()
    )
    at = values[:, 2].reshape(3, 8).T
    _, square, freedom = regression(np.eye(8), at)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(square / 2 / 3)
    assert (depth["high"] - depth["difference"]).tolist()[2] == pytest.approx(half)
    drifts = {drift.change.factor: drift for drift in confirm.drifts(study)}
    assert {name for name, drift in drifts.items() if drift.moves} == {"depth"}
    assert (drifts["depth"].start, drifts["depth"].end) == (4, 6)
    change = values[:, 5] - values[:, 3]
    assert drifts["depth"].estimate.difference == pytest.approx(
        change[codes].mean() - change[~codes].mean()
    )


def test_means_of_arms_are_pooled_on_the_logit_scale_and_never_above_one(tmp_path):
    table = np.array([[1.0, 0.999, 1.0], [0.97, 0.98, 0.96], [0.9, 0.5, 0.7]])
    arms = [
        *fraction([{"depth": 18}, {"depth": 10}]),
        {"role": "baseline", "baseline": "b", "config": {"depth": 34}},
    ]
    stage = confirm_stage(study_of(tmp_path, arms, table, [("depth", 18, 10)]))
    winner, other, baseline = confirm.arm_summaries(stage, "test_accuracy")
    logits = special.logit((table[:2] * 1000 + 0.5) / 1001)
    shared = 2 * logits.mean(0).var(ddof=1)
    rest = (logits - logits.mean(1, keepdims=True) - logits.mean(0) + logits.mean()) ** 2
    variance, square = (shared + rest.sum() / 2) / 6, rest.sum() / 2
    freedom = (shared + square) ** 2 / (shared**2 / 2 + square**2 / 2)
    ends = special.expit(
        logits[0].mean() + np.array([-1, 1]) * stats.t.ppf(0.975, freedom) * variance**0.5
    )
    assert winner.interval.ends == pytest.approx(tuple(ends))
    assert winner.interval.low < winner.mean < winner.interval.high < 1
    assert (baseline.values, math.isnan(baseline.interval.low)) == ((0.9, 0.5, 0.7), True)
    losses = confirm.arm_summaries(stage, "test_loss")
    assert losses[0].interval.ends == pytest.approx((0.2, 0.2))
    assert other.states == {"complete": 3}


def test_the_test_images_are_in_the_interval_of_a_mean(tmp_path):
    made, plan = confirm_like({}, seeds=3)
    folder = write_study(tmp_path, made, version=2, design=SAMPLED, confirm=plan)
    with_images = confirm.arm_summaries(confirm_stage(load_study(folder)), "test_accuracy")[0]
    (folder / "test_images.csv").unlink()
    seeds_only = confirm.arm_summaries(confirm_stage(load_study(folder)), "test_accuracy")[0]
    assert with_images.mean == seeds_only.mean
    assert with_images.interval.half > 1.05 * seeds_only.interval.half


def test_confirm_trials_of_an_earlier_plan_are_ignored_and_the_last_complete_of_a_seed_counts(
    tmp_path,
):
    arms = fraction([{"depth": 18}, {"depth": 10}])
    rows = [(0.5, 0.5, 0.5, 0.5), (0.1, 0.7, 0.2, 0.7)]
    earlier = MadeTrial(
        "complete", rows, "confirm", {"depth": 34, "max_epochs": 2, "seed": 1}, stage="confirm"
    )
    again = MadeTrial(
        "complete", rows, "confirm", {"depth": 18, "max_epochs": 2, "seed": 1}, stage="confirm"
    )
    study = study_of(
        tmp_path, arms, [[np.nan, 0.8], [0.6, 0.7]], [("depth", 18, 10)], others=[earlier, again]
    )
    stage = confirm_stage(study)
    assert [arm["depth"] for arm in stage.arms] == [18, 10]
    assert stage.values("test_accuracy").tolist() == [[0.7, 0.8], [0.6, 0.7]]


@pytest.mark.parametrize(("lost", "kept", "seeds"), [(1, [0, 1], [1, 2]), (2, [0], [0, 1, 2])])
def test_an_arm_that_lost_most_seeds_does_not_take_them_from_the_others(
    tmp_path, lost, kept, seeds
):
    table = np.array([[0.9, 0.8, 0.9], [0.7, 0.8, 0.7]])
    table[1, :lost] = np.nan
    stage = confirm_stage(
        study_of(tmp_path, fraction([{"depth": 18}, {"depth": 10}]), table, [("depth", 18, 10)])
    )
    assert stage.paired([0, 1]) == (kept, seeds)


def test_before_the_confirm_stage_there_is_nothing(tmp_path):
    study = load_study(write_study(tmp_path, [MadeTrial("complete", falling(2))]))
    assert confirm_stage(study) is None
    assert conclude(study).empty
    assert (
        confirm.interactions(study),
        confirm.against_baseline(study),
        confirm.drifts(study),
    ) == ((), None, [])


def test_a_running_study_says_what_it_can(tmp_path):
    plan = [
        {"role": "winner", "config": full({"depth": 18})},
        {"role": "fraction", "config": full({"depth": 10})},
    ]
    running = MadeTrial("running", [], "confirm", {**plan[0]["config"], "seed": 1}, stage="confirm")
    changes = {"factors": [{"factor": "depth", "from": 18, "to": 10}], "arms": plan}
    study = load_study(write_study(tmp_path, [running], version=2, design=SAMPLED, confirm=changes))
    assert conclude(study).empty
    assert confirm.arm_summaries(confirm_stage(study), "test_accuracy") == []
    assert (confirm.interactions(study), confirm.noisy_arm(confirm_stage(study))) == ((), None)


# Studies of version 1 have no plan: their arms are those that one factor changes.
OLD = {
    "search": "sampled",
    "factors": [
        RATE,
        {"name": "stem_kernel", "role": "scientific", "levels": [2, 3, 5, 7]},
        {"name": "optimizer", "role": "scientific", "levels": ["sgd", "adamw"]},
        {
            "name": "nesterov",
            "role": "nuisance",
            "levels": [True, False],
            "when": {"optimizer": "sgd"},
        },
    ],
    "baselines": {"course": {"init": "default", "normalize": "half"}},
}


def old_study(
    folder: Path, design: Mapping[str, Any], *made: tuple[str, Mapping[str, Any], float]
) -> Study:
    """A study of version 1, by stage, config and last accuracy; its table has no `bn_statistics`."""
    trials = [
        MadeTrial(
            "complete", [(0.1, 0.9, 0.2, score)], stage, {"max_epochs": 2, **config}, stage=stage
        )
        for stage, config, score in made
    ]
    write_study(folder, trials, design=dict(design))
    table = pd.read_csv(folder / "trials.csv")
    table.drop(columns="bn_statistics").to_csv(folder / "trials.csv", index=False)
    return load_study(folder)


def test_arms_of_version_1_are_known_by_what_they_differ_in(tmp_path):
    best = {"stem_kernel": 3, "learning_rate": 0.05, "nesterov": True}
    arms = [
        best,
        {**best, "stem_kernel": 7},
        {**best, "optimizer": "adamw", "nesterov": False},  # which does not exist with it
        {"init": "default", "normalize": "half"},
        {**best, "learning_rate": 0.07},  # of an earlier winner
    ]
    scores = np.array([[0.9, 0.92], [0.8, 0.83], [0.85, 0.86], [0.7, 0.74], [0.1, 0.2]])
    confirmed = [
        ("confirm", {**config, "seed": s}, scores[a, s])
        for s in (0, 1)
        for a, config in enumerate(arms)
    ]
    study = old_study(
        tmp_path, OLD, ("search", {"stem_kernel": 5}, 0.5), ("search", best, 0.9), *confirmed
    )
    stage = confirm_stage(study)
    assert [(arm.role, arm.factor, arm.baseline) for arm in stage.arms] == [
        (ArmRole.WINNER, "", ""),
        (ArmRole.ALONE, "stem_kernel", ""),
        (ArmRole.ALONE, "optimizer", ""),
        (ArmRole.BASELINE, "", "course"),
    ]
    rows = conclude(study)
    assert rows[["factor", "from", "to"]].to_numpy().tolist() == [
        ["stem_kernel", 3, 7],
        ["optimizer", "sgd", "adamw"],
    ]
    assert rows["difference"].tolist() == pytest.approx([0.815 - 0.91, 0.855 - 0.91])
    _, square, freedom = regression(np.eye(3), scores[:3])
    half = stats.t.ppf(0.975, freedom) * math.sqrt(square)
    assert (rows["high"] - rows["difference"]).tolist() == pytest.approx([half] * 2)
    assert confirm.against_baseline(study)[1].difference == pytest.approx(0.91 - 0.72)


def test_factors_of_version_1_that_go_with_the_one_changed_leave_it_alone(tmp_path):
    """Zero padding is there in residual networks only: the winner without the addition has another
    shortcut, too."""
    shortcut = {
        "name": "shortcut",
        "role": "scientific",
        "levels": ["projection", "zero-padding"],
        "when": {"residual": True},
    }
    design = {**OLD, "factors": [SQUARE["factors"][0], shortcut], "baselines": {}}
    best = {"residual": True, "shortcut": "zero-padding"}
    others = [best, {"residual": False}, {"residual": True, "shortcut": "projection"}]
    confirmed = [("confirm", {**config, "seed": 1}, 0.9) for config in others]
    stage = confirm_stage(old_study(tmp_path, design, ("search", best, 0.9), *confirmed))
    assert [(arm.role, arm.factor) for arm in stage.arms] == [
        (ArmRole.WINNER, ""), (ArmRole.ALONE, "residual"), (ArmRole.ALONE, "shortcut"),
    ]  # fmt: skip


def test_a_factorial_arm_of_version_1_confirmed_at_two_settings_counts_at_the_later(tmp_path):
    arms = [
        {"residual": r, "depth": d, "learning_rate": 0.1} for r in (True, False) for d in (18, 34)
    ]
    moved = {**arms[3], "learning_rate": 0.2}
    confirmed = [("confirm", {**config, "seed": seed}, 0.5) for seed in (1, 2) for config in arms]
    confirmed += [("confirm", {**moved, "seed": seed}, 0.7) for seed in (1, 2)]
    study = old_study(tmp_path, SQUARE, *confirmed)
    assert [arm["learning_rate"] for arm in confirm_stage(study).arms] == [0.1, 0.1, 0.1, 0.2]
    assert conclude(study)["difference"].tolist() == pytest.approx([0.1, 0.1])


def test_the_rates_tried_are_by_arm_with_the_one_chosen(tmp_path):
    made, plan = confirm_like({}, seeds=1)
    made[5] = MadeTrial("diverged", [(float("nan"),) * 4], "tune", made[5].config, stage="tune")
    study = load_study(write_study(tmp_path, made, version=2, design=SAMPLED, confirm=plan))
    rows = rates_tried(study)
    assert rows.groupby("number").size().tolist() == [3] * 8  # the baseline is not tuned
    assert rows.groupby("number")["chosen"].sum().tolist() == [1] * 8
    for number, arm in enumerate(plan["arms"][:8]):
        mine = rows[rows["number"] == number]
        assert mine["learning_rate"].tolist() == pytest.approx([0.01 / 3, 0.01, 0.03])
        assert mine.loc[mine["chosen"], "learning_rate"].tolist() == [
            arm["config"]["learning_rate"]
        ]
    (odd,) = rows[rows["state"] == "diverged"].to_dict("records")
    assert odd["trial"] == 5 and math.isnan(odd["validation_loss"])
    expected = {
        number: trial.readings[-1][2]
        for number, trial in enumerate(made)
        if trial.state == "complete"
    }
    complete = rows[rows["state"] == "complete"]
    assert complete["validation_loss"].tolist() == pytest.approx(
        [expected[number] for number in complete["trial"]]
    )
    assert rates_tried(load_study(write_study(tmp_path / "old", []))).empty


def test_the_plan_is_read_from_json(tmp_path):
    study = study_of(
        tmp_path, fraction([{"depth": 18}, {"depth": 10}]), [[0.9], [0.8]], [("depth", 18, 10)]
    )
    plan = json.loads((tmp_path / "study.json").read_text())["confirm"]
    assert [arm["role"] for arm in plan["arms"]] == ["winner", "fraction"]
    assert study.manifest["confirm"] == plan
    assert manifest()["version"] == 1
