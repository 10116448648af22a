"""At which learning rate an arm is confirmed: the tune stage, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from stories import SEARCH, SEED, Story, a_trial

from study.confirm import most_tune_trials, response_surface
from study.designs import Factor

WINNER = {"learning_rate": 0.2, "stem_kernel": 5, "depth": 18}


def test_every_arm_is_tuned_around_the_winners_rate_within_the_range(story):
    rates = [0.2 / 3, 0.2, 0.2 * 3]
    arms = [(5, 18), (5, 10), (3, 18), (3, 10)]
    wanted = [
        a_trial(learning_rate=rate, stem_kernel=kernel, depth=depth, seed=SEED)
        for kernel, depth in arms
        for rate in rates
    ]
    # Trial 2 of the search is the winner at its own rate; the baseline stays as it is.
    assert story.to_tune() == [
        config for config in wanted if config != a_trial(**WINNER, seed=SEED)
    ]
    assert most_tune_trials(SEARCH) == 11
    high = Story()
    high.searched("complete", 0.5, 0.6, 0.97, **{**WINNER, "learning_rate": 0.5})
    assert {config.learning_rate for config in high.to_tune()} == {0.5 / 3, 0.5, 1.0}


def test_an_arm_is_confirmed_at_the_rate_of_least_fitted_loss_search_trials_included(story):
    """The logarithm of the loss is a parabola about a best rate that is additive in the factors,
    but for two trials."""
    winner, depth, kernel, both = (replace(arm, seed=SEED) for arm in story.arms()[:4])
    best = {winner: 0.0, depth: 1.2, kernel: -1.2, both: 0.0}
    for number, (arm, optimum) in enumerate(best.items()):
        for step in (-1.0, 0.0, 1.0):
            if (arm, step) != (winner, 0.0):  # trial 2 of the search, whose loss is 1
                rate = {-1.0: 0.2 / 3, 0.0: 0.2, 1.0: 0.2 * 3}[step]
                story.tune(
                    replace(arm, learning_rate=rate),
                    math.exp(0.3 * number + 0.5 * (step - optimum) ** 2),
                )
    # Trial 3 of the search, the last arm at 0.3, has a loss of 1: less than its neighbours, and no
    # parabola.
    assert [arm.config.learning_rate for arm in story.plan()[:3]] == [0.2, 0.2 * 3, 0.2 / 3]
    assert [arm.rate_at_end for arm in story.plan()] == ["", "high", "low", "", ""]
    assert story.plan()[3].config.learning_rate in (0.2, 0.3)
    assert story.to_tune() == []


def test_the_fitted_losses_are_those_of_least_squares():
    draw = np.random.default_rng(4)
    places, steps = np.repeat(np.arange(4), 3), np.tile([-1.0, 0.0, 1.0], 4)
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    losses = np.exp(draw.normal(0, 1, 12))
    fitted = response_surface(places, steps, losses, signs)
    columns = [
        *((places == arm).astype(float) for arm in range(4)),
        *(steps, steps**2, steps * signs[places, 0], steps * signs[places, 1]),
    ]
    terms = np.array(columns).T
    coefficients = np.linalg.solve(
        terms.T @ terms, terms.T @ np.log(losses)
    )  # the normal equations
    assert fitted == pytest.approx(terms @ coefficients)


def test_a_search_trial_far_from_the_rates_tried_has_no_say(story):
    before = story.plan()
    story.searched(
        "complete", 0.1, 0.1, 0.1, loss=1e-3, learning_rate=0.001, stem_kernel=3, depth=10
    )
    assert story.plan() == before
    story.searched("complete", 0.1, 0.1, 0.1, loss=1e-3, learning_rate=0.5, stem_kernel=3, depth=10)
    assert story.plan()[3].config.learning_rate == 0.5


def test_an_arm_of_which_no_rate_completes_keeps_the_winners():
    story = Story()
    story.searched("complete", 0.5, 0.6, 0.97, **WINNER)
    for config in story.to_tune():
        story.tune(config, 1.0, end="complete" if config.depth == 18 else "diverged")
    assert story.to_tune() == []
    assert [arm.config.learning_rate for arm in story.plan() if arm.config.depth == 10] == [
        0.2,
        0.2,
    ]


def test_a_rate_that_the_design_fixes_is_not_tuned():
    story = Story(
        replace(SEARCH, factors=SEARCH.factors[1:], fixed={"width": 8, "learning_rate": 0.05})
    )
    story.searched("complete", 0.5, 0.6, 0.97, stem_kernel=5, depth=18)
    assert story.to_tune() == []
    assert most_tune_trials(story.design) == 0
    assert {arm.config.learning_rate for arm in story.plan()[:4]} == {0.05}


def test_a_rate_of_levels_is_tuned_among_its_neighbours():
    rates = Factor("learning_rate", "nuisance", (0.3, 0.1, 0.01, 0.03))
    story = Story(replace(SEARCH, factors=(rates, *SEARCH.factors[1:])))
    story.searched("complete", 0.5, 0.6, 0.97, learning_rate=0.01, stem_kernel=5, depth=18)
    assert {config.learning_rate for config in story.to_tune()} == {0.01, 0.03}
    story.searched("complete", 0.5, 0.6, 0.98, learning_rate=0.03, stem_kernel=5, depth=18)
    assert {config.learning_rate for config in story.to_tune()} == {0.01, 0.03, 0.1}
