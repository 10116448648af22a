"""Two-level designs; which arms are confirmed in conditional and factorial designs, and without a
search stage."""

import itertools
import math
from dataclasses import replace

import pytest
from stories import EPOCHS, SEARCH, Story, a_trial

from study.arms import most_arms, two_level_design
from study.designs import DESIGNS, Design, Factor

CONDITIONAL = Design(
    "conditional",
    (
        Factor("learning_rate", "nuisance", low=1e-3, high=1.0, scale="log"),
        Factor("residual", "scientific", (True, False)),
        Factor("shortcut", "scientific", ("projection", "zero-padding"), when={"residual": True}),
        Factor("optimizer", "scientific", ("sgd", "adam")),
        Factor("momentum", "nuisance", low=0.1, high=0.8, when={"optimizer": "sgd"}),
        Factor("label_smoothing", "nuisance", (0.1, 0.2), when={"optimizer": "sgd"}),
    ),
    {"width": 8, "label_smoothing": 0.05},
)


@pytest.mark.parametrize("factors", range(9))
def test_a_two_level_design_is_balanced_orthogonal_and_of_resolution_four(factors):
    arms = two_level_design(factors)
    assert len(arms) == (2**factors if factors <= 3 else 8 if factors == 4 else 16)
    assert len(set(arms)) == len(arms)
    assert arms[0] == (1,) * factors, "the winner is its first arm"
    # No main effect is aliased with another or with an interaction of two: products of one to three
    # columns, each column once, are balanced.
    for size in (1, 2, 3) if factors > 3 else range(1, factors + 1):
        for columns in itertools.combinations(range(factors), size):
            assert sum(math.prod(arm[column] for column in columns) for arm in arms) == 0


def test_four_factors_make_the_half_fraction_whose_product_is_that_of_the_winner():
    assert {math.prod(arm) for arm in two_level_design(4)} == {1}


def test_what_depends_on_a_level_that_is_gone_falls_back():
    story = Story(replace(CONDITIONAL, fixed={"width": 8}))
    best = {
        "residual": True,
        "shortcut": "zero-padding",
        "optimizer": "sgd",
        "momentum": 0.3,
        "label_smoothing": 0.2,
    }
    story.searched("complete", 0.5, 0.6, 0.9, learning_rate=0.2, **best)
    winner = a_trial(learning_rate=0.2, **best)
    plain = {"residual": False, "shortcut": "projection"}
    adam = {"optimizer": "adam", "momentum": 0.9, "label_smoothing": 0.0}
    # The factor that exists only with residuals stays one at a time.
    assert story.arms() == [
        winner,
        replace(winner, **adam),
        replace(winner, **plain),
        replace(winner, **plain, **adam),
        replace(winner, shortcut="projection"),
    ]
    assert [(str(arm.role), arm.factor) for arm in story.plan()[3:]] == [
        ("fraction", ""),
        ("alone", "shortcut"),
    ]
    # To what the design fixes, where it does.
    story.design = CONDITIONAL
    assert story.arms()[1] == replace(winner, optimizer="adam", momentum=0.9, label_smoothing=0.05)


def test_a_factor_that_the_winner_does_not_have_is_not_changed_alone():
    story = Story(CONDITIONAL)
    story.searched("complete", 0.5, 0.6, 0.9, learning_rate=0.2, residual=False, optimizer="adam")
    winner = a_trial(learning_rate=0.2, residual=False, optimizer="adam", label_smoothing=0.05)
    sgd = replace(winner, optimizer="sgd")
    assert story.arms() == [
        winner,
        sgd,
        replace(winner, residual=True),
        replace(sgd, residual=True),
    ]


def test_a_trial_without_the_factor_says_nothing_about_its_levels():
    design = replace(
        CONDITIONAL,
        factors=(
            *CONDITIONAL.factors[:4],
            Factor("momentum", "scientific", (0.2, 0.5, 0.8), when={"optimizer": "sgd"}),
        ),
    )
    story = Story(design)
    best = {
        "learning_rate": 0.2,
        "residual": True,
        "shortcut": "zero-padding",
        "optimizer": "sgd",
        "momentum": 0.5,
    }
    story.searched("complete", 0.5, 0.6, 0.9, **best)
    # Without residuals and with Adam: the shortcut is the usual one, and so is the momentum, 0.9,
    # no level at all.
    story.searched("complete", 0.5, 0.6, 0.8, learning_rate=0.3, residual=False, optimizer="adam")
    story.searched("stopped", 0.1, **{**best, "momentum": 0.8})
    arms = story.arms()
    assert [arm.momentum for arm in arms] == [0.5, 0.9, 0.5, 0.9, 0.5, 0.8]
    assert arms[5] == replace(arms[0], momentum=0.8)


FACTORIAL = replace(SEARCH, search="factorial", baselines={})


def test_in_a_factorial_design_every_arm_at_its_own_best_nuisance():
    story = Story(FACTORIAL)
    for kernel, depth, rate, accuracy in (
        *((3, 10, 0.1, 0.5), (3, 10, 0.2, 0.7), (3, 10, 0.3, 0.6)),
        *((5, 10, 0.1, 0.2), (5, 10, 0.2, 0.1)),
        *((7, 18, 0.1, 0.8), (7, 18, 0.2, 0.8)),
        *((3, 18, 0.4, 0.9),),
    ):
        story.searched(
            "complete", 0.1, 0.1, accuracy, learning_rate=rate, stem_kernel=kernel, depth=depth
        )
    # Without a complete trial an arm has no setting to be confirmed with.
    story.searched("diverged", 0.9, learning_rate=0.9, stem_kernel=7, depth=10)
    story.searched("failed", learning_rate=0.9, stem_kernel=7, depth=10)
    expected = [(3, 10, 0.2), (3, 18, 0.4), (5, 10, 0.1), (7, 18, 0.1)]
    arms = [
        a_trial(stem_kernel=kernel, depth=depth, learning_rate=rate)
        for kernel, depth, rate in expected
    ]
    assert story.arms() == arms
    assert story.to_tune() == []
    assert [(str(arm.role), arm.rate_at_end) for arm in story.plan()] == [
        *(("arm", ""), ("arm", ""), ("arm", "low"), ("arm", "low"))
    ]
    assert story.arms(2) == arms + [replace(arm, seed=12) for arm in arms]
    assert most_arms(FACTORIAL) == 6
    for config in story.arms(2):
        story.confirm(config)
    assert [trial.seed for trial in story.missing(3)] == [13] * 4
    # The arm that gets a complete trial is confirmed as well, and one that is better tuned is so
    # anew.
    story.searched("complete", 0.1, 0.1, 0.9, learning_rate=0.7, stem_kernel=7, depth=10)
    story.searched("complete", 0.1, 0.1, 0.9, learning_rate=0.8, stem_kernel=5, depth=10)
    assert [
        (trial.stem_kernel, trial.depth, trial.learning_rate, trial.seed)
        for trial in story.missing(2)
    ] == [*((5, 10, 0.8, 11), (7, 10, 0.7, 11), (5, 10, 0.8, 12), (7, 10, 0.7, 12))]


def test_the_arms_of_a_factorial_design_with_a_condition():
    story = Story(replace(CONDITIONAL, search="factorial"))
    arms = [
        {
            "residual": True,
            "shortcut": "projection",
            "optimizer": "sgd",
            "momentum": 0.3,
            "label_smoothing": 0.1,
        },
        {"residual": True, "shortcut": "projection", "optimizer": "adam"},
        {
            "residual": True,
            "shortcut": "zero-padding",
            "optimizer": "sgd",
            "momentum": 0.4,
            "label_smoothing": 0.2,
        },
        {"residual": True, "shortcut": "zero-padding", "optimizer": "adam"},
        {"residual": False, "optimizer": "sgd", "momentum": 0.5, "label_smoothing": 0.1},
        {"residual": False, "optimizer": "adam"},
    ]
    for arm in arms:
        story.searched("complete", 0.5, 0.5, 0.5, learning_rate=0.1, **arm)
    usual = {"label_smoothing": 0.05, "learning_rate": 0.1}
    assert story.arms() == [a_trial(**usual | arm) for arm in arms]
    assert most_arms(story.design) == 6


def test_without_a_search_stage_the_baselines_with_their_own_epochs():
    course = DESIGNS["course"]
    story = Story(course)
    assert [(trial.arm, trial.max_epochs, trial.seed) for trial in story.arms(2)] == [
        *(("k7 s2 pool d18", 50, 11), ("k2 s1 pool d18", 50, 11), ("k2 s1 no-pool d18", 20, 11)),
        *(("k7 s2 pool d18", 50, 12), ("k2 s1 pool d18", 50, 12), ("k2 s1 no-pool d18", 20, 12)),
    ]
    assert {(trial.init, trial.normalize, trial.learning_rate) for trial in story.arms(2)} == {
        ("default", "half", 0.01)
    }
    story.design = course.one_budget()
    assert {trial.max_epochs for trial in story.arms(2)} == {EPOCHS}
    story.confirm(story.arms(1)[1])
    assert [trial.arm for trial in story.missing(1)] == ["k7 s2 pool d18", "k2 s1 no-pool d18"]
    assert most_arms(course) == 3


@pytest.mark.parametrize(
    ("name", "most"),
    [("search", 9), ("course", 3), ("stem", 16), ("degradation", 4), ("recipe", 4)],
)
def test_most_arms_of_the_built_in_designs(name, most):
    assert most_arms(DESIGNS[name]) == most
