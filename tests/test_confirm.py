"""Which arms are confirmed, with which seeds: the rules by hand, on small records."""

from dataclasses import replace
from typing import Any

import pytest

from study.confirm import confirm_trials, missing_trials, most_arms
from study.designs import DESIGNS, Design, Factor
from study.record import StudyState
from trainables.config import TrialConfig

EPOCHS, SEED = 3, 10
SETTINGS = {"epochs": EPOCHS, "seed": SEED, "cpus_per_trial": 1, "gpus_per_trial": 0.0, "precision": "float32"}

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

    def __init__(self, design: Design = SEARCH) -> None:
        self.design, self.state = design, StudyState()
        self.apply("study", version=1, settings=SETTINGS)

    def apply(self, event: str, **about: Any) -> None:
        self.state.apply({"event": event, "time": "2026-11-24T04:00:00+00:00", **about})

    def trial(self, end: str, *readings: float, stage: str = "search", origin: str = "random", config: Any) -> int:
        """A trial with these accuracies, epoch by epoch; its losses are 1."""
        number = len(self.state.trials)
        about = {"origin": origin, "arm": config.arm, "config": config.to_dict(), "parameters": 1, "forward_flops": 1}
        self.apply("trial_started", trial=number, stage=stage, **about)
        part = "validation" if stage == "search" else "test"
        for epoch, accuracy in enumerate(readings, 1):
            losses = {"learning_rate": 0.1, "train_loss": 1.0, "train_accuracy": 0.5, f"{part}_loss": 1.0}
            seconds = {"train_seconds": 1.0, "eval_seconds": 1.0}
            self.apply(
                "epoch", trial=number, epoch=epoch, node="", **{f"{part}_accuracy": accuracy}, **losses, **seconds
            )
        if end != "running":
            self.apply("trial_ended", trial=number, state=end, error="")
        return number

    def searched(self, end: str, *readings: float, **values: Any) -> int:
        return self.trial(end, *readings, config=self.design.config(values, EPOCHS, SEED))

    def baseline(self, name: str, *readings: float) -> int:
        config = self.design.baseline(name, EPOCHS, SEED)
        return self.trial("complete", *readings, origin=f"baseline:{name}", config=config)

    def confirm(self, config: TrialConfig, end: str = "complete") -> int:
        return self.trial(end, *[0.5] * config.max_epochs, stage="confirm", origin="confirm", config=config)

    def arms(self, seeds: int = 1) -> list[TrialConfig]:
        return confirm_trials(self.design, self.state, seeds)

    def missing(self, seeds: int) -> list[TrialConfig]:
        return missing_trials(self.design, self.state, seeds)


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


def test_the_winner_each_factor_at_its_best_other_level_and_the_first_baseline(story):
    assert story.arms() == [
        a_trial(**WINNER),
        # Trial 3 is the best complete one with another kernel: trial 4 was stopped, and trial 1 is a baseline.
        a_trial(**{**WINNER, "stem_kernel": 3}),
        a_trial(**{**WINNER, "depth": 10}),
        TrialConfig(stem_kernel=2, width=4, max_epochs=EPOCHS, seed=SEED + 1),
    ]
    assert most_arms(SEARCH) == 4


def test_the_best_other_level_counts_stopped_trials_only_where_none_is_complete(story):
    story.searched("stopped", 0.96, learning_rate=0.2, stem_kernel=7, depth=34)
    assert story.arms()[1].stem_kernel == 3, "a complete one goes before a stopped one that reads better"
    only = Story()
    only.searched("complete", 0.5, 0.6, 0.97, **WINNER)
    only.searched("stopped", 0.4, learning_rate=0.1, stem_kernel=3, depth=18)
    only.searched("stopped", 0.5, learning_rate=0.1, stem_kernel=7, depth=18)
    assert [arm.stem_kernel for arm in only.arms()[:2]] == [5, 7], "the better of two stopped"


def test_where_no_trial_has_another_level_it_is_the_first_one_in_the_design():
    story = Story()
    story.searched("complete", 0.9, 0.9, 0.9, **WINNER)
    assert [(arm.stem_kernel, arm.depth) for arm in story.arms()[:3]] == [(5, 18), (3, 18), (5, 10)]


def test_a_winner_that_is_a_baseline_is_there_once():
    story = Story(replace(SEARCH, baselines={"first": {"stem_kernel": 3, "depth": 18, "width": 4}}))
    story.baseline("first", 0.9, 0.9, 0.99)
    story.searched("complete", 0.5, 0.6, 0.7, learning_rate=0.3, stem_kernel=7, depth=10)
    first = TrialConfig(stem_kernel=3, depth=18, width=4, max_epochs=EPOCHS, seed=SEED + 1)
    # Its factors are changed one by one; all else, what the design fixes too, stays as it is in the baseline.
    assert story.arms() == [first, replace(first, stem_kernel=7), replace(first, depth=10)]


def test_a_tie_goes_to_the_lower_number():
    story = Story()
    story.searched("complete", 0.5, 0.5, 0.8, learning_rate=0.2, stem_kernel=7, depth=18)
    story.searched("complete", 0.5, 0.5, 0.8, learning_rate=0.3, stem_kernel=3, depth=18)
    story.searched("complete", 0.5, 0.5, 0.8, learning_rate=0.4, stem_kernel=5, depth=18)
    assert [(arm.learning_rate, arm.stem_kernel) for arm in story.arms()[:2]] == [(0.2, 7), (0.2, 3)]


def test_nothing_is_confirmed_without_a_winner_or_with_no_seeds(story):
    nothing = Story()
    nothing.searched("stopped", 0.9, **WINNER)
    assert nothing.arms(3) == nothing.missing(3) == []
    assert story.arms(0) == story.missing(0) == []


def test_arms_are_paired_by_seed_and_every_arm_has_the_first_before_any_has_the_next(story):
    trials = story.arms(3)
    assert [trial.seed for trial in trials] == [11] * 4 + [12] * 4 + [13] * 4
    seedless = [replace(trial, seed=0) for trial in trials]
    assert seedless == seedless[:4] * 3
    assert len(set(trials)) == 12


def test_more_seeds_add_only_what_is_missing(story):
    assert story.missing(2) == story.arms(2)
    for config in story.arms(2):
        story.confirm(config)
    assert story.missing(2) == story.missing(1) == []
    assert story.missing(3) == story.arms(3)[8:]
    assert {trial.seed for trial in story.missing(3)} == {13}


def test_what_has_begun_is_not_missing_whatever_became_of_it(story):
    first, second, third, fourth = story.arms(1)
    for config, end in ((second, "failed"), (first, "running"), (fourth, "diverged")):
        story.confirm(config, end)
    assert story.missing(1) == [third]


def test_another_winner_after_an_extension_adds_its_arms_and_the_old_ones_stay(story):
    before = story.arms(2)
    for config in before:
        story.confirm(config)
    known = dict(story.state.trials)
    story.searched("complete", 0.5, 0.6, 0.99, learning_rate=0.01, stem_kernel=3, depth=10)
    new = {"learning_rate": 0.01, "stem_kernel": 3, "depth": 10}
    expected = [a_trial(**new), a_trial(**{**new, "stem_kernel": 5}), a_trial(**{**new, "depth": 18})]
    # The first baseline is confirmed already.
    assert story.missing(2) == [replace(trial, seed=seed) for seed in (11, 12) for trial in expected]
    assert all(story.state.trials[number] is trial for number, trial in known.items())
    for config in story.missing(2):
        story.confirm(config)
    assert len(story.state.in_stage("confirm")) == 8 + 6
    assert story.missing(2) == []


def test_confirm_trials_do_not_choose(story):
    """Not even where they read better than every search trial."""
    before = story.arms(2)
    story.trial("complete", 0.1, 0.1, 1.0, stage="confirm", origin="confirm", config=a_trial(stem_kernel=7))
    assert story.arms(2) == before


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
    best = {"residual": True, "shortcut": "zero-padding", "optimizer": "sgd", "momentum": 0.3, "label_smoothing": 0.2}
    story.searched("complete", 0.5, 0.6, 0.9, learning_rate=0.2, **best)
    winner = a_trial(learning_rate=0.2, **best)
    assert story.arms() == [
        winner,
        replace(winner, residual=False, shortcut="projection"),
        replace(winner, shortcut="projection"),
        replace(winner, optimizer="adam", momentum=0.9, label_smoothing=0.0),
    ]
    # To what the design fixes, where it does.
    story.design = CONDITIONAL
    assert story.arms()[3] == replace(winner, optimizer="adam", momentum=0.9, label_smoothing=0.05)


def test_a_factor_that_the_winner_does_not_have_is_not_changed_alone():
    story = Story(CONDITIONAL)
    story.searched("complete", 0.5, 0.6, 0.9, learning_rate=0.2, residual=False, optimizer="adam")
    winner = a_trial(learning_rate=0.2, residual=False, optimizer="adam", label_smoothing=0.05)
    assert story.arms() == [winner, replace(winner, residual=True), replace(winner, optimizer="sgd")]


def test_a_trial_without_the_factor_says_nothing_about_its_levels():
    design = replace(
        CONDITIONAL,
        factors=(
            *CONDITIONAL.factors[:4],
            Factor("momentum", "scientific", (0.2, 0.5, 0.8), when={"optimizer": "sgd"}),
        ),
    )
    story = Story(design)
    best = {"learning_rate": 0.2, "residual": True, "shortcut": "zero-padding", "optimizer": "sgd", "momentum": 0.5}
    story.searched("complete", 0.5, 0.6, 0.9, **best)
    # Without residuals and with Adam: the shortcut is the usual one, and so is the momentum, 0.9, no level at all.
    story.searched("complete", 0.5, 0.6, 0.8, learning_rate=0.3, residual=False, optimizer="adam")
    story.searched("stopped", 0.1, **{**best, "momentum": 0.8})
    arms = story.arms()
    assert [arm.momentum for arm in arms] == [0.5, 0.5, 0.5, 0.9, 0.8]
    assert arms[4] == replace(arms[0], momentum=0.8)


FACTORIAL = replace(SEARCH, search="factorial", baselines={})


def test_in_a_factorial_design_every_arm_at_its_own_best_nuisance():
    story = Story(FACTORIAL)
    for kernel, depth, rate, accuracy in (
        *((3, 10, 0.1, 0.5), (3, 10, 0.2, 0.7), (3, 10, 0.3, 0.6)),
        *((5, 10, 0.1, 0.2), (5, 10, 0.2, 0.1)),
        *((7, 18, 0.1, 0.8), (7, 18, 0.2, 0.8)),
        *((3, 18, 0.4, 0.9),),
    ):
        story.searched("complete", 0.1, 0.1, accuracy, learning_rate=rate, stem_kernel=kernel, depth=depth)
    # Without a complete trial an arm has no setting to be confirmed with.
    story.searched("diverged", 0.9, learning_rate=0.9, stem_kernel=7, depth=10)
    story.searched("failed", learning_rate=0.9, stem_kernel=7, depth=10)
    expected = [(3, 10, 0.2), (3, 18, 0.4), (5, 10, 0.1), (7, 18, 0.1)]
    arms = [a_trial(stem_kernel=kernel, depth=depth, learning_rate=rate) for kernel, depth, rate in expected]
    assert story.arms() == arms
    assert story.arms(2) == arms + [replace(arm, seed=12) for arm in arms]
    assert most_arms(FACTORIAL) == 6
    for config in story.arms(2):
        story.confirm(config)
    assert [trial.seed for trial in story.missing(3)] == [13] * 4
    # The arm that gets a complete trial is confirmed as well, and one that is better tuned is so anew.
    story.searched("complete", 0.1, 0.1, 0.9, learning_rate=0.7, stem_kernel=7, depth=10)
    story.searched("complete", 0.1, 0.1, 0.9, learning_rate=0.8, stem_kernel=5, depth=10)
    assert [(trial.stem_kernel, trial.depth, trial.learning_rate, trial.seed) for trial in story.missing(2)] == [
        *((5, 10, 0.8, 11), (7, 10, 0.7, 11), (5, 10, 0.8, 12), (7, 10, 0.7, 12))
    ]


def test_the_arms_of_a_factorial_design_with_a_condition():
    story = Story(replace(CONDITIONAL, search="factorial"))
    arms = [
        {"residual": True, "shortcut": "projection", "optimizer": "sgd", "momentum": 0.3, "label_smoothing": 0.1},
        {"residual": True, "shortcut": "projection", "optimizer": "adam"},
        {"residual": True, "shortcut": "zero-padding", "optimizer": "sgd", "momentum": 0.4, "label_smoothing": 0.2},
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
    ("name", "most"), [("search", 6), ("course", 3), ("stem", 16), ("degradation", 4), ("recipe", 4)]
)
def test_most_arms_of_the_built_in_designs(name, most):
    assert most_arms(DESIGNS[name]) == most
