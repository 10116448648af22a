"""Seeds for a width, effects by epoch and means of arms, against loops and scipy."""

import math
from dataclasses import replace

import numpy as np
import pytest
from confirmed import CODES, EIGHT, RANDOM, SAMPLED, fraction, regression, study_of
from scipy import special, stats
from synthetic import (
    CHANGES,
    confirm_like,
    half_fraction,
    write_study,
)

from analysis import load_study
from analysis.statistics import confirm
from analysis.statistics.arms import confirm_stage


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
    residual = (logits - logits.mean(1, keepdims=True) - logits.mean(0) + logits.mean()) ** 2
    variance, square = (shared + residual.sum() / 2) / 6, residual.sum() / 2
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
