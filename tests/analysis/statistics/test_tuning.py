"""The learning rates that were tried for each arm."""

import math

import pytest
from confirmed import SAMPLED
from synthetic import (
    MadeTrial,
    confirm_like,
    write_study,
)

from analysis import load_study
from analysis.statistics.tuning import rates_tried


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
