"""The facts of the confirm stage: how arms are identified, and which are excluded."""

from confirmed import findings_of, lost, study_of

from analysis.report.wording import values
from trainables.vocabulary import ArmRole


def test_arms_are_identified_by_role_label_and_what_they_differ_in(study):
    arms = findings_of(study).stage.arms
    assert (arms[0].role, arms[0].label) == (ArmRole.WINNER, "k3 s1 no-pool d18")
    assert (arms[-1].role, arms[-1].baseline) == (ArmRole.BASELINE, "imagenet-stem")
    assert {arm.role for arm in arms[1:-1]} == {ArmRole.FRACTION}
    assert len({values.arm_name(arm) for arm in arms}) == len(set(arms)) == 9
    assert all(arm.distinct == () for arm in arms)


def test_arms_of_one_label_are_distinct_by_the_fields_that_it_does_not_name(tmp_path):
    arms = [{"role": "arm", "config": {"weight_decay": decay}} for decay in (0.0, 0.001)]
    study = study_of(tmp_path, [*arms, {"role": "arm", "config": {"depth": 34}}], [[0.9, 0.8]] * 3)
    assert [values.arm_name(arm) for arm in findings_of(study).stage.arms] == [
        "k7 s2 pool d18, weight decay 0.0",
        "k7 s2 pool d18, weight decay 0.001",
        "k7 s2 pool d34",
    ]


def test_an_arm_that_lost_most_seeds_is_excluded_and_counted(study):
    left = lost(study, {"stem_kernel": 3, "depth": 10, "stem_stride": 1}, 2)
    (arm,) = findings_of(left).incomplete
    assert (arm.arm.label, arm.excluded) == ("k3 s1 pool d10", True)
    assert arm.statuses == {"complete": 1, "diverged": 2, "failed": 0}
