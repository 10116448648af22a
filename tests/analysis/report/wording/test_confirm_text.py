"""What a study with a confirm stage says, beside numbers computed from its trials."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from confirmed import DEEP, SQUARE, changed, crossed, findings_of, lost, made_study
from synthetic import FACTORS

from analysis import conclude
from analysis.report.page import write_report
from analysis.report.wording import confirm_text
from analysis.report.wording.study_text import closing_lines
from analysis.statistics import confirm
from analysis.statistics.arms import confirm_stage
from analysis.statistics.confirm import Effect
from analysis.statistics.contrasts import Change
from analysis.statistics.estimate import Estimate


def test_the_first_sentence_is_the_winner_and_its_baseline(trials, study):
    made, plan = trials
    first = confirm_text.sentences(study)[0]
    winner, baseline = (
        [
            t.readings[-1][3]
            for t in made
            if t.stage == "confirm" and {**t.config, "seed": 0} == {**arm["config"], "seed": 0}
        ]
        for arm in (plan["arms"][0], plan["arms"][-1])
    )
    assert len(winner) == len(baseline) == 3
    assert first.startswith(
        "Confirmed with 3 seeds on 360 test images: the winner (k3 s1 no-pool d18, learning rate "
        f"0.01) reaches {np.mean(winner):.1%} ("
    )
    assert f"test accuracy, {100 * (np.mean(winner) - np.mean(baseline)):+.1f} points (" in first
    assert (
        f"against the baseline imagenet-stem ({min(baseline):.1%} to {max(baseline):.1%} by seed)"
        in first
    )
    above = 100 * (made[1].readings[-1][3] - np.mean(winner))
    assert first.endswith(f"; its score in the search was {above:.1f} points above that.")


def test_the_search_is_not_compared_with_a_winner_of_another_rate(study):
    rates = study.trials["learning_rate"].mask(study.trials["trial"] == 1, 0.02)
    assert (
        "its score in the search"
        not in confirm_text.sentences(
            replace(study, trials=study.trials.assign(learning_rate=rates))
        )[0]
    )


def test_every_factor_has_a_line_with_both_intervals_and_what_is_concluded(study):
    lines, rows = confirm_text.effect_lines(findings_of(study)), conclude(study).to_dict("records")
    assert [line.split(":")[0] for line in lines] == [
        "stem kernel 3 → 5", "stem stride 1 → 2", "stem maxpool no → yes", "depth 18 → 10",
    ]  # fmt: skip
    for line, row in zip(lines, rows, strict=True):
        values = [
            100 * row[name] for name in ("difference", "low", "high", "low_seeds", "high_seeds")
        ]
        images = "on these 360 test images {:+.1f} to {:+.1f}"
        shown = f"{{:+.1f}} points ({{:+.1f}} to {{:+.1f}}; {images})".format(*values)
        assert line.split(": ")[1] == shown
    assert lines[3].endswith(": matters")
    assert confirm_text.sentences(study)[1:5] == lines


def made_effect(
    error: float, difference: float = 0.003, p: float = 1.0, p_equivalence: float = 1.0
) -> Effect:
    return Effect(
        Change("depth", 18, 10), Estimate(difference, 3, error**2, 100.0), p, p_equivalence
    )


SMALL = "does not matter by more than 1 point (there is a small effect)"


@pytest.mark.parametrize(
    ("effect", "margin", "words"),
    [
        (made_effect(0.001, p=0.04), 0.01, "matters"),
        (made_effect(0.001, p_equivalence=0.04), 0.01, "does not matter by more than 1 point"),
        (made_effect(0.001, 0.003, 0.04, 0.04), 0.01, SMALL),
        (made_effect(0.001, p_equivalence=0.04), 0.005, "does not matter by more than 0.5 points"),
        (made_effect(0.005), 0.01, "inconclusive, ±1.0 points"),
        (made_effect(math.nan), 0.01, "inconclusive: one seed shows no spread"),
    ],
    ids=["matters", "equivalent", "small", "another margin", "inconclusive", "one seed"],
)  # fmt: skip
def test_the_outcomes_in_words(effect, margin, words):
    assert confirm_text.verdict_text(effect, margin) == words


def test_an_effect_without_images_has_one_interval_and_one_that_is_lost_none():
    assert (
        confirm_text.effect_line(made_effect(0.001, p=0.01), 0.01)
        == "depth 18 → 10: +0.3 points (+0.1 to +0.5): matters"
    )
    gone = replace(made_effect(0.001), estimate=confirm.NOTHING)
    assert (
        confirm_text.effect_line(gone, 0.01)
        == "depth 18 → 10: inconclusive, too few of its arms are complete"
    )


def test_interactions_that_are_not_significant_are_counted(study):
    assert confirm_text.interaction_lines(findings_of(study)) == [
        "No interaction of two factors is significant (3 tested; these arms confound up to 2 pairs "
        "of factors)."
    ]


def test_effects_that_depend_on_each_other_are_said_at_each_level(tmp_path):
    (line,) = confirm_text.interaction_lines(findings_of(crossed(tmp_path, DEEP, SQUARE)))
    a, b, c, d = np.mean(DEEP, axis=1)
    assert re.sub(r" \([^)]*\)", "", line) == (
        f"Effects depend on each other: depth 18 → 34 is {100 * (b - a):+.1f} points at residual "
        f"yes and {100 * (d - c):+.1f} points at residual no."
    )


def test_shared_interactions_are_said_with_all_their_pairs(trials, tmp_path):
    made, plan = trials
    worse = changed(
        made, lambda t, _: -0.2 if t.config["depth"] == 10 and t.config["stem_kernel"] == 5 else 0.0
    )
    study = made_study(tmp_path, worse, plan)
    (line,) = confirm_text.interaction_lines(findings_of(study))
    assert line.startswith(
        "Effects depend on each other: stem kernel × depth or stem stride × stem maxpool, -"
    )


RATES = "No interval includes the choice of each arm's learning rate."


def test_a_design_without_a_winner_says_what_its_arms_reach(tmp_path):
    study = crossed(tmp_path, DEEP, {**SQUARE, "outcome": "train_accuracy"})
    first = confirm_text.sentences(study)[0]
    assert re.fullmatch(
        r"Confirmed with 3 seeds: k7 s2 pool d34 45\.7% \(.*\); .* training accuracy\.", first
    )
    caption = confirm_text.interval_scope(findings_of(study))
    seeds = "Intervals: 95%, for new seeds; the variation over other images is not included."
    assert caption == f"{seeds} {RATES}"
    assert findings_of(study).shared_nuisances == ()


def test_arms_at_an_end_of_the_rates_tried_are_named(study):
    lines = confirm_text.warnings(findings_of(study))
    assert lines[0] == (
        "Best at an end of the learning rates tried, so a better one may lie beyond: "
        "k3 s1 pool d10 (high)."
    )


def test_an_effect_that_still_moves_is_named(trials, tmp_path):
    made, plan = trials
    noise = iter(np.random.default_rng(1).normal(0, 0.003, 1000))
    moving = changed(made, lambda t, epoch: next(noise) - 0.05 * epoch * (t.config["depth"] == 10))
    study = made_study(tmp_path, moving, plan)
    line = confirm_text.warnings(findings_of(study))[0]
    start = "depth 18 → 10 still changes at the end: -"
    assert line.startswith(start) and line.endswith(
        " from epoch 2 to 3, so longer training may change it."
    )
    assert 4 < float(line.removeprefix(start).split()[0]) < 6
    assert [drift.change.factor for drift in confirm.drifts(study) if drift.moves] == ["depth"]


@pytest.mark.parametrize(
    ("seeds", "words"), [(1, "2 complete, 1 diverged, 0 failed)"), (2, "0 failed; excluded)")]
)
def test_arms_that_lost_seeds_are_named_and_few_seeds_exclude_an_arm(study, seeds, words):
    left = lost(study, {"stem_kernel": 3, "depth": 10, "stem_stride": 1}, seeds)
    (line,) = [
        line
        for line in confirm_text.sentences(left)
        if line.startswith("Not complete with every seed: ")
    ]
    assert line.startswith("Not complete with every seed: k3 s1 pool d10 (") and line.endswith(
        f"{words}."
    )
    assert {effect.estimate.seeds for effect in confirm.effects(left)} == {2 if seeds == 1 else 3}


def test_a_winner_that_is_lost_is_said_to_be(study):
    left = lost(study, {"stem_kernel": 3, "depth": 18, "stem_stride": 1}, 3)
    first = confirm_text.sentences(left)[0]
    assert first.endswith(
        "the winner (k3 s1 no-pool d18) is not complete with enough seeds and is excluded."
    )


def test_an_arm_that_varies_more_is_named(trials, tmp_path):
    made, plan = trials
    odd = {"depth": 10, "stem_kernel": 5, "stem_stride": 1}
    shifts = {1: -0.3, 2: 0.0, 3: -0.2}
    wild = changed(
        made,
        lambda t, _: (
            shifts.get(t.config.get("seed"), 0.0) if odd.items() <= t.config.items() else 0.0
        ),
    )
    study = made_study(tmp_path, wild, plan)
    (line,) = [line for line in confirm_text.warnings(findings_of(study)) if "varies more" in line]
    assert line.startswith("k5 s1 no-pool d10 varies more over seeds than the others")


def test_nuisances_that_are_not_tuned_by_arm_are_the_winners(study):
    decay = {"name": "weight_decay", "role": "nuisance", "low": 1e-5, "high": 1e-2, "scale": "log"}
    design = study.manifest["design"] | {"factors": [*FACTORS, decay]}
    with_decay = replace(study, manifest=study.manifest | {"design": design})
    text = confirm_text.interval_scope(findings_of(with_decay))
    both = "Intervals: 95%, for new seeds and new test images."
    assert text == f"{both} {RATES} The same in every arm as in the winner: weight decay."
    untuned = replace(with_decay, trials=with_decay.trials[with_decay.trials["stage"] != "tune"])
    assert findings_of(untuned).shared_nuisances == ("learning_rate", "weight_decay")


def test_nothing_is_said_before_a_confirm_trial_is_complete(study):
    early = replace(study, trials=study.trials[study.trials["stage"] != "confirm"])
    assert confirm_text.sentences(early) == []
    assert confirm_stage(early) is None
    running = study.trials["state"].mask(study.trials["stage"] == "confirm", "running")
    assert confirm_text.sentences(replace(study, trials=study.trials.assign(state=running))) == []


def test_a_confirm_stage_in_which_all_diverged_says_so(study, tmp_path):
    none = lost(study, {}, 27)
    assert confirm_text.sentences(none) == [
        "Nothing is confirmed: its arms have no complete seed in common."
    ]
    assert "no complete seed in common" in write_report(none, tmp_path).read_text(encoding="utf-8")
    assert closing_lines(none)[0].startswith("Nothing is confirmed")
