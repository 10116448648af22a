"""Which arms are confirmed, with which seeds: the rules by hand, on small records."""

from dataclasses import replace

from stories import EPOCHS, SEARCH, SEED, Story, a_trial

from study.arms import most_arms
from study.confirm import confirm_plan
from trainables.config import TrialConfig

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


def test_what_has_started_is_not_missing_whatever_became_of_it(story):
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
