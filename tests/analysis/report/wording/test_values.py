"""How values and arms are written."""

from typing import Any

import pytest
from confirmed import full
from hypothesis import given
from hypothesis import strategies as st

from analysis.report.wording.values import arm_name, signed
from analysis.statistics.arms import FIELDS, Arm
from trainables.vocabulary import ArmRole


@given(st.floats(-0.2, 0.2))
def test_a_zero_has_no_sign(value):
    text = signed(value)
    assert text == f"{100 * value:+.1f}" or (text == "0.0" and abs(value) <= 0.0005)
    assert text not in ("-0.0", "+0.0")


def made_arm(role: ArmRole, **values: Any) -> Arm:
    config = full({"stem_kernel": 3, "stem_stride": 1, **values.pop("config", {})})
    return Arm(role, tuple(config[name] for name in FIELDS), **values)


@pytest.mark.parametrize(
    ("arm", "name"),
    [
        (made_arm(ArmRole.WINNER), "winner: k3 s1 pool d18"),
        (made_arm(ArmRole.BASELINE, baseline="imagenet-stem"), "imagenet-stem"),
        (made_arm(ArmRole.ALONE, factor="stem_kernel"), "winner with stem kernel 3"),
        (made_arm(ArmRole.ARM, distinct=("residual",)), "k3 s1 pool d18, residual yes"),
        (made_arm(ArmRole.FRACTION), "k3 s1 pool d18"),
    ],
    ids=["winner", "baseline", "one factor changed", "same label", "fraction"],
)
def test_arms_in_words(arm: Arm, name: str) -> None:
    assert arm_name(arm) == name
