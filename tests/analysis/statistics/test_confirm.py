"""Effects of the confirm stage, from the files of a study, against least squares and scipy."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from confirmed import (
    CODES,
    EIGHT,
    SAMPLED,
    SQUARE,
    fraction,
    regression,
    study_of,
)
from scipy import stats
from synthetic import (
    CHANGES,
    confirm_like,
    half_fraction,
    write_study,
)

from analysis import conclude, load_study
from analysis.statistics import confirm
from analysis.statistics.arms import confirm_stage
from analysis.statistics.confirm import Verdict


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
    signed = np.array([s * t.correct for s, t in zip(sign, confirmed, strict=True)])
    d = np.array([signed[np.array(seeds) == seed].sum(axis=0) for seed in (1, 2, 3)])
    table = np.array(
        [
            [t.correct.mean() for t, n in zip(confirmed, seeds, strict=True) if n == s]
            for s in (1, 2, 3)
        ]
    ).T
    assert row["difference"] == pytest.approx(d.mean())
    residual = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    over_seeds = (residual**2).sum() / 14 * 8 / 16 / 3
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
    ids=["not there", "diverged", "one seed"],
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
