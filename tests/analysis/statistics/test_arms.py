"""The arms of the confirm stage, as the files of a study have them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from confirmed import RATE, SAMPLED, SQUARE, fraction, full, regression, study_of
from scipy import stats
from synthetic import (
    MadeTrial,
    falling,
    manifest,
    write_study,
)

from analysis import Study, conclude, load_study
from analysis.statistics import confirm
from analysis.statistics.arms import confirm_stage
from trainables.vocabulary import ArmRole


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


@pytest.mark.parametrize(
    ("lost", "kept", "seeds"),
    [(1, [0, 1], [1, 2]), (2, [0], [0, 1, 2])],
    ids=["one lost", "two lost"],
)
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
    """A study of version 1, by stage, config and last accuracy, without `bn_statistics`."""
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


def test_the_plan_is_read_from_json(tmp_path):
    study = study_of(
        tmp_path, fraction([{"depth": 18}, {"depth": 10}]), [[0.9], [0.8]], [("depth", 18, 10)]
    )
    plan = json.loads((tmp_path / "study.json").read_text())["confirm"]
    assert [arm["role"] for arm in plan["arms"]] == ["winner", "fraction"]
    assert study.manifest["confirm"] == plan
    assert manifest()["version"] == 1
