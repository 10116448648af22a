"""Which arms are confirmed, with which seeds: the rules by hand, on small records."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from study.confirm import (
    Arm,
    confirm_plan,
    missing_confirm_trials,
    missing_tune_trials,
    most_arms,
    most_tune_trials,
    response_surface,
    two_level_design,
)
from study.designs import DESIGNS, Design, Factor
from study.state import StudyState
from trainables.config import TrialConfig

EPOCHS, SEED = 3, 10
SETTINGS = {
    "epochs": EPOCHS,
    "seed": SEED,
    "cpus_per_trial": 1,
    "gpus_per_trial": 0.0,
    "precision": "float32",
}

SEARCH = Design(
    "small",
    (
        Factor("learning_rate", "nuisance", low=1e-3, high=1.0, scale="log"),
        Factor("stem_kernel", "scientific", (3, 5, 7)),
        Factor("depth", "scientific", (10, 18)),
    ),
    {"width": 8},
    {"first": {"stem_kernel": 2, "width": 4}, "second": {"stem_kernel": 7, "max_epochs": 2}},
)


class Story:
    """A record that is made by events, as the driver makes it."""

    def __init__(self, design: Design = SEARCH, version: int = 2) -> None:
        self.design, self.state = design, StudyState()
        self.apply("study", version=version, settings=SETTINGS)

    def apply(self, event: str, **about: Any) -> None:
        self.state.apply({"event": event, "time": "2026-11-24T04:00:00+00:00", **about})

    def trial(
        self,
        end: str,
        *readings: float,
        stage: str = "search",
        origin: str = "random",
        config: Any,
        loss: float = 1.0,
    ) -> int:
        """A trial with these accuracies, epoch by epoch, and the same loss after each."""
        number = len(self.state.trials)
        about = {
            "origin": origin,
            "arm": config.arm,
            "config": config.to_dict(),
            "parameters": 1,
            "forward_flops": 1,
        }
        self.apply("trial_started", trial=number, stage=stage, **about)
        part = "test" if stage == "confirm" else "validation"
        for epoch, accuracy in enumerate(readings, 1):
            losses = {
                "learning_rate": 0.1,
                "train_loss": 1.0,
                "train_accuracy": 0.5,
                f"{part}_loss": loss,
            }
            seconds = {"train_seconds": 1.0, "eval_seconds": 1.0}
            self.apply(
                "epoch",
                trial=number,
                epoch=epoch,
                node="",
                **{f"{part}_accuracy": accuracy},
                **losses,
                **seconds,
            )
        if end != "running":
            self.apply("trial_ended", trial=number, state=end, error="")
        return number

    def searched(self, end: str, *readings: float, loss: float = 1.0, **values: Any) -> int:
        return self.trial(
            end, *readings, config=self.design.config(values, EPOCHS, SEED), loss=loss
        )

    def baseline(self, name: str, *readings: float) -> int:
        config = self.design.baseline(name, EPOCHS, SEED)
        return self.trial("complete", *readings, origin=f"baseline:{name}", config=config)

    def confirm(self, config: TrialConfig, end: str = "complete") -> int:
        return self.trial(
            end, *[0.5] * config.max_epochs, stage="confirm", origin="confirm", config=config
        )

    def tune(self, config: TrialConfig, loss: float, end: str = "complete") -> int:
        config = replace(config, seed=SEED)
        return self.trial(
            end, *[0.5] * config.max_epochs, stage="tune", origin="tune", config=config, loss=loss
        )

    def plan(self) -> tuple[Arm, ...]:
        return confirm_plan(self.design, self.state).arms

    def arms(self, seeds: int = 1) -> list[TrialConfig]:
        return confirm_plan(self.design, self.state).trials(SEED, seeds)

    def missing(self, seeds: int) -> list[TrialConfig]:
        return missing_confirm_trials(self.design, self.state, seeds)

    def to_tune(self) -> list[TrialConfig]:
        return missing_tune_trials(self.design, self.state)


def a_trial(**values: Any) -> TrialConfig:
    """A config of the design above, as the confirm stage trains it with its first seed."""
    return TrialConfig(**{"width": 8, "max_epochs": EPOCHS, "seed": SEED + 1} | values)


@pytest.fixture
def story() -> Story:
    """The winner is trial 2: kernel 5, depth 18, learning rate 0.2."""
    story = Story()
    story.baseline("first", 0.2, 0.3, 0.4)
    story.baseline("second", 0.9, 0.95)  # kernel 7, better than all of kernel 7 that was searched
    story.searched("complete", 0.5, 0.6, 0.97, learning_rate=0.2, stem_kernel=5, depth=18)
    story.searched("complete", 0.5, 0.6, 0.70, learning_rate=0.3, stem_kernel=3, depth=10)
    story.searched("stopped", 0.8, learning_rate=0.4, stem_kernel=7, depth=10)
    story.searched("complete", 0.5, 0.6, 0.65, learning_rate=0.5, stem_kernel=7, depth=10)
    story.searched("diverged", 0.99, learning_rate=0.6, stem_kernel=7, depth=10)
    story.searched("running", 0.99, learning_rate=0.7, stem_kernel=7, depth=10)
    story.searched("failed", learning_rate=0.8, stem_kernel=7, depth=10)
    return story


WINNER = {"learning_rate": 0.2, "stem_kernel": 5, "depth": 18}


OTHER = {"stem_kernel": 3, "depth": 10, "learning_rate": 0.3}
"""Trial 3 is the best complete one with another kernel: trial 4 was stopped, and trial 1 is a
baseline."""
BASELINE = TrialConfig(stem_kernel=2, width=4, max_epochs=EPOCHS, seed=SEED + 1)


def test_two_factors_are_crossed_around_the_winner_and_the_first_baseline_comes_with_them(story):
    assert story.arms() == [
        a_trial(**WINNER),
        a_trial(**{**WINNER, "depth": 10}),
        a_trial(**{**WINNER, "stem_kernel": 3}),
        a_trial(**{**WINNER, **OTHER}),
        BASELINE,
    ]
    assert [str(arm.role) for arm in story.plan()] == [
        "winner",
        "fraction",
        "fraction",
        "fraction",
        "baseline",
    ]
    assert story.plan()[-1].baseline == "first"
    changes = confirm_plan(SEARCH, story.state).changes
    assert [(each.factor, each.start, each.to) for each in changes] == [
        ("stem_kernel", 5, 3),
        ("depth", 18, 10),
    ]
    assert most_arms(SEARCH) == 5


def test_studies_of_version_1_change_one_factor_at_a_time_and_tune_nothing(story):
    story.state.header["version"] = 1
    arms = [
        a_trial(**WINNER),
        a_trial(**{**WINNER, "stem_kernel": 3}),
        a_trial(**{**WINNER, "depth": 10}),
        BASELINE,
    ]
    assert story.arms() == arms
    assert [str(arm.role) for arm in story.plan()] == ["winner", "alone", "alone", "baseline"]
    assert story.to_tune() == []


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


def test_the_best_other_level_counts_stopped_trials_only_where_none_is_complete(story):
    story.searched("stopped", 0.96, learning_rate=0.2, stem_kernel=7, depth=34)
    assert story.arms()[2].stem_kernel == 3, (
        "a complete one goes before a stopped one that reads better"
    )
    only = Story()
    only.searched("complete", 0.5, 0.6, 0.97, **WINNER)
    only.searched("stopped", 0.4, learning_rate=0.1, stem_kernel=3, depth=18)
    only.searched("stopped", 0.5, learning_rate=0.1, stem_kernel=7, depth=18)
    assert only.arms()[2].stem_kernel == 7, "the better of two stopped"


def test_where_no_trial_has_another_level_it_is_the_first_one_in_the_design():
    story = Story()
    story.searched("complete", 0.9, 0.9, 0.9, **WINNER)
    assert [(arm.stem_kernel, arm.depth) for arm in story.arms()[:4]] == [
        (5, 18),
        (5, 10),
        (3, 18),
        (3, 10),
    ]


def test_a_winner_that_is_a_baseline_is_there_once():
    story = Story(replace(SEARCH, baselines={"first": {"stem_kernel": 3, "depth": 18, "width": 4}}))
    story.baseline("first", 0.9, 0.9, 0.99)
    story.searched("complete", 0.5, 0.6, 0.7, learning_rate=0.3, stem_kernel=7, depth=10)
    first = TrialConfig(stem_kernel=3, depth=18, width=4, max_epochs=EPOCHS, seed=SEED + 1)
    # Its factors are changed; all else, what the design fixes too, stays as it is in the baseline.
    depth, kernel = replace(first, depth=10), replace(first, stem_kernel=7)
    assert story.arms() == [first, depth, kernel, replace(kernel, depth=10)]
    assert (str(story.plan()[0].role), story.plan()[0].baseline) == ("winner", "first")
    # At another learning rate it is no longer the baseline as it stands.
    story.tune(replace(first, learning_rate=0.03), loss=0.5)
    tuned = [replace(first, learning_rate=0.03), depth, kernel, replace(kernel, depth=10), first]
    assert story.arms() == tuned
    assert [arm.baseline for arm in story.plan()] == ["", "", "", "", "first"]


def test_an_arm_of_the_fraction_that_is_the_baseline_is_there_once():
    fixed = {"stem_kernel": 3, "depth": 18, "width": 8, "learning_rate": 0.05}
    story = Story(replace(SEARCH, baselines={"first": fixed}))
    story.baseline("first", 0.5, 0.5, 0.5)
    story.searched("complete", 0.5, 0.6, 0.9, learning_rate=0.05, stem_kernel=5, depth=18)
    arms = story.plan()
    assert [(str(arm.role), arm.baseline) for arm in arms] == [
        *(("winner", ""), ("fraction", ""), ("fraction", "first"), ("fraction", ""))
    ]
    assert arms[2].config == replace(a_trial(**fixed), seed=0)
    assert len(story.arms(2)) == 8


def test_a_tie_goes_to_the_lower_number():
    story = Story()
    story.searched("complete", 0.5, 0.5, 0.8, learning_rate=0.2, stem_kernel=7, depth=18)
    story.searched("complete", 0.5, 0.5, 0.8, learning_rate=0.3, stem_kernel=3, depth=18)
    story.searched("complete", 0.5, 0.5, 0.8, learning_rate=0.4, stem_kernel=5, depth=18)
    assert [(arm.learning_rate, arm.stem_kernel) for arm in story.arms()[:3:2]] == [
        (0.2, 7),
        (0.3, 3),
    ]


def test_nothing_is_confirmed_without_a_winner_or_with_no_seeds(story):
    nothing = Story()
    nothing.searched("stopped", 0.9, **WINNER)
    assert nothing.arms(3) == nothing.missing(3) == []
    assert story.arms(0) == story.missing(0) == []


def test_arms_are_paired_by_seed_and_every_arm_has_the_first_before_any_has_the_next(story):
    trials = story.arms(3)
    assert [trial.seed for trial in trials] == [11] * 5 + [12] * 5 + [13] * 5
    seedless = [replace(trial, seed=0) for trial in trials]
    assert seedless == seedless[:5] * 3
    assert len(set(trials)) == 15


def test_more_seeds_add_only_what_is_missing(story):
    assert story.missing(2) == story.arms(2)
    for config in story.arms(2):
        story.confirm(config)
    assert story.missing(2) == story.missing(1) == []
    assert story.missing(3) == story.arms(3)[10:]
    assert {trial.seed for trial in story.missing(3)} == {13}


def test_what_has_begun_is_not_missing_whatever_became_of_it(story):
    first, second, third, fourth, fifth = story.arms(1)
    for config, end in ((second, "failed"), (first, "running"), (fourth, "diverged")):
        story.confirm(config, end)
    assert story.missing(1) == [third, fifth]


def test_another_winner_after_an_extension_adds_its_arms_and_the_old_ones_stay(story):
    before = story.arms(2)
    for config in before:
        story.confirm(config)
    known = dict(story.state.trials)
    story.searched(
        "complete", 0.5, 0.6, 0.99, loss=0.5, learning_rate=0.01, stem_kernel=3, depth=10
    )
    new = {"learning_rate": 0.01, "stem_kernel": 3, "depth": 10}
    levels = [
        (3, 10),
        (3, 18),
        (5, 10),
        (5, 18),
    ]  # the earlier winner, too: at another learning rate
    expected = [
        a_trial(**{**new, "stem_kernel": kernel, "depth": depth}) for kernel, depth in levels
    ]
    # The first baseline is confirmed already.
    assert story.missing(2) == [
        replace(trial, seed=seed) for seed in (11, 12) for trial in expected
    ]
    assert all(story.state.trials[number] is trial for number, trial in known.items())
    for config in story.missing(2):
        story.confirm(config)
    assert len(story.state.in_stage("confirm")) == 10 + 8
    assert story.missing(2) == []


def test_confirm_trials_do_not_choose(story):
    """Not even where they read better than every search trial."""
    before = story.arms(2)
    story.trial(
        "complete", 0.1, 0.1, 1.0, stage="confirm", origin="confirm", config=a_trial(stem_kernel=7)
    )
    assert story.arms(2) == before


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
