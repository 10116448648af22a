"""What a study with a confirm stage says, in words and on its page, beside numbers computed from
its trials."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import FACTORS, MadeTrial, confirm_like, falling, manifest, write_study

from analysis import Study, conclude, load_study
from analysis.report import verdict as say
from analysis.report.page import write_report
from analysis.report.summary import answer, chosen_scope, closing_lines
from analysis.statistics import confirm
from analysis.statistics.arms import confirm_stage
from analysis.statistics.confirm import Change, Effect
from analysis.statistics.estimate import Estimate

# A figure takes a while to draw: of the search stage two factors.
DESIGN = manifest()["design"] | {
    "search": "sampled",
    "factors": [FACTORS[0], FACTORS[4]],
    "margin": 0.01,
}
EFFECTS = {"depth": -1.5, "stem_stride": -0.1}


def made_study(folder: Path, made: list[MadeTrial], plan: dict, **design: object) -> Study:
    return load_study(write_study(folder, made, version=2, design=DESIGN | design, confirm=plan))


@pytest.fixture(scope="module")
def trials():
    return confirm_like(EFFECTS, seeds=3)


@pytest.fixture(scope="module")
def study(trials, tmp_path_factory):
    return made_study(tmp_path_factory.mktemp("confirmed"), *trials)


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    return write_report(study, tmp_path_factory.mktemp("page"))


def changed(made: list[MadeTrial], shift: Callable[[MadeTrial, int], float]) -> list[MadeTrial]:
    """The trials with their accuracy at each epoch (from 0) shifted, and nothing known of single
    images."""
    rows = [
        [
            (*reading[:3], reading[3] + shift(trial, epoch))
            for epoch, reading in enumerate(trial.readings)
        ]
        for trial in made
    ]
    return [
        replace(trial, readings=readings, correct=())
        for trial, readings in zip(made, rows, strict=True)
    ]


def lost(study: Study, config: dict, seeds: int) -> Study:
    """The study in which the first confirm trials with these values have diverged."""
    rows = study.trials["stage"].eq("confirm")
    for name, value in config.items():
        rows &= study.trials[name].eq(value)
    gone = rows & (rows.cumsum() <= seeds)
    assert gone.sum() == seeds
    return replace(
        study, trials=study.trials.assign(state=study.trials["state"].mask(gone, "diverged"))
    )


def test_the_first_sentence_is_the_winner_and_its_baseline(trials, study):
    made, plan = trials
    first = say.sentences(study)[0]
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
        "Confirmed with 3 seeds on 360 test images: the winner (k3 s1 no-pool d18, learning rate 0.01) reaches "
        f"{np.mean(winner):.1%} ("
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
        not in say.sentences(replace(study, trials=study.trials.assign(learning_rate=rates)))[0]
    )


def test_every_factor_has_a_line_with_both_intervals_and_what_is_concluded(study):
    lines, rows = say.effect_lines(study), conclude(study).to_dict("records")
    assert [line.split(":")[0] for line in lines] == [
        "stem kernel 3 → 5", "stem stride 1 → 2", "stem maxpool no → yes", "depth 18 → 10",
    ]  # fmt: skip
    for line, row in zip(lines, rows, strict=True):
        values = [
            100 * row[name] for name in ("difference", "low", "high", "low_seeds", "high_seeds")
        ]
        shown = "{:+.1f} points ({:+.1f} to {:+.1f}; on these 360 test images {:+.1f} to {:+.1f})".format(
            *values
        )
        assert line.split(": ")[1] == shown
    assert lines[3].endswith(": matters")
    assert say.sentences(study)[1:5] == lines


def made_effect(
    error: float, difference: float = 0.003, p: float = 1.0, p_equivalence: float = 1.0
) -> Effect:
    return Effect(
        Change("depth", 18, 10), Estimate(difference, 3, error**2, 100.0), p, p_equivalence
    )


@pytest.mark.parametrize(
    ("effect", "margin", "words"),
    [
        (made_effect(0.001, p=0.04), 0.01, "matters"),
        (made_effect(0.001, p_equivalence=0.04), 0.01, "does not matter by more than 1 point"),
        (made_effect(0.001, 0.003, 0.04, 0.04), 0.01, "does not matter by more than 1 point (there is a small effect)"),
        (made_effect(0.001, p_equivalence=0.04), 0.005, "does not matter by more than 0.5 points"),
        (made_effect(0.005), 0.01, "inconclusive, ±1.0 points"),
        (made_effect(math.nan), 0.01, "inconclusive: one seed shows no spread"),
    ],
)  # fmt: skip
def test_the_outcomes_in_words(effect, margin, words):
    assert say.verdict_text(effect, margin) == words


def test_an_effect_without_images_has_one_interval_and_one_that_is_lost_none():
    assert (
        say.effect_line(made_effect(0.001, p=0.01), 0.01)
        == "depth 18 → 10: +0.3 points (+0.1 to +0.5): matters"
    )
    gone = replace(made_effect(0.001), estimate=confirm.NOTHING)
    assert say.effect_line(gone, 0.01) == "depth 18 → 10: inconclusive, for its arms are lost"


def test_interactions_that_are_not_significant_are_counted(study):
    assert say.interaction_lines(study) == [
        "No interaction of two factors is significant (3 tested; up to 2 pairs of factors share one, which these arms "
        "cannot separate)."
    ]


def crossed(folder: Path, scores: list[list[float]], design: dict, roles: str = "arm") -> Study:
    """Residual and plain networks of depth 18 and 34, one epoch, these test accuracies by arm and
    seed."""
    usual = {"learning_rate": 0.01, "max_epochs": 1}
    arms = [
        {"residual": residual, "depth": depth, **usual}
        for residual in (True, False)
        for depth in (18, 34)
    ]
    made = [
        MadeTrial(
            "complete",
            [(0.1, score / 2, 0.2, score)],
            "confirm",
            {**arm, "seed": seed},
            stage="confirm",
        )
        for seed in range(len(scores[0]))
        for arm, values in zip(arms, scores, strict=True)
        for score in [values[seed]]
    ]
    plan = {"factors": [], "arms": [{"role": roles, "config": arm} for arm in arms]}
    return load_study(write_study(folder, made, version=2, design=design, confirm=plan))


SQUARE = {
    "name": "degradation",
    "search": "factorial",
    "factors": [
        {"name": "residual", "role": "scientific", "levels": [True, False]},
        {"name": "depth", "role": "scientific", "levels": [18, 34]},
    ],
    "baselines": {},
}
DEEP = [[0.90, 0.91, 0.90], [0.91, 0.91, 0.92], [0.89, 0.90, 0.89], [0.80, 0.80, 0.81]]


def test_effects_that_depend_on_each_other_are_said_at_each_level(tmp_path):
    (line,) = say.interaction_lines(crossed(tmp_path, DEEP, SQUARE))
    a, b, c, d = np.mean(DEEP, axis=1)
    assert re.sub(r" \([^)]*\)", "", line) == (
        f"Effects depend on each other: depth 18 → 34 is {100 * (b - a):+.1f} points at residual yes and "
        f"{100 * (d - c):+.1f} points at residual no."
    )


def test_shared_interactions_are_said_with_all_their_pairs(trials, tmp_path):
    made, plan = trials
    worse = changed(
        made, lambda t, _: -0.2 if t.config["depth"] == 10 and t.config["stem_kernel"] == 5 else 0.0
    )
    study = made_study(tmp_path, worse, plan)
    (line,) = say.interaction_lines(study)
    assert line.startswith(
        "Effects depend on each other: stem kernel × depth or stem stride × stem maxpool, -"
    )


RATES = "That another learning rate may be chosen for an arm is in no interval."


def test_a_design_without_a_winner_says_what_its_arms_reach(tmp_path):
    study = crossed(tmp_path, DEEP, {**SQUARE, "outcome": "train_accuracy"})
    first = say.sentences(study)[0]
    assert re.fullmatch(
        r"Confirmed with 3 seeds: k7 s2 pool d34 45\.7% \(.*\); .* training accuracy\.", first
    )
    caption = say.scope(study, confirm_stage(study))
    assert (
        caption
        == f"Intervals: 95%, for new seeds; that other images would give other numbers is not in them. {RATES}"
    )
    assert say.shared_nuisances(study, confirm_stage(study)) == []


def test_arms_at_an_end_of_the_rates_tried_are_named(study):
    lines = say.warnings(study, confirm_stage(study))
    assert lines[0] == (
        "Best at an end of the learning rates tried, so a better one may lie beyond: k3 s1 pool d10 (high)."
    )


def test_an_effect_that_still_moves_is_named(trials, tmp_path):
    made, plan = trials
    noise = iter(np.random.default_rng(1).normal(0, 0.003, 1000))
    moving = changed(made, lambda t, epoch: next(noise) - 0.05 * epoch * (t.config["depth"] == 10))
    study = made_study(tmp_path, moving, plan)
    line = say.warnings(study, confirm_stage(study))[0]
    start = "depth 18 → 10 still moves at the end: -"
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
        line for line in say.sentences(left) if line.startswith("Not complete with every seed: ")
    ]
    assert line.startswith("Not complete with every seed: k3 s1 pool d10 (") and line.endswith(
        f"{words}."
    )
    assert {effect.estimate.seeds for effect in confirm.effects(left)} == {2 if seeds == 1 else 3}


def test_a_winner_that_is_lost_is_said_to_be(study):
    left = lost(study, {"stem_kernel": 3, "depth": 18, "stem_stride": 1}, 3)
    first = say.sentences(left)[0]
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
    (line,) = [line for line in say.warnings(study, confirm_stage(study)) if "varies more" in line]
    assert line.startswith("k5 s1 no-pool d10 varies more over seeds than the others")


def test_the_page_and_the_terminal_lead_with_it(study, page):
    text = page.read_text(encoding="utf-8")
    answers = re.findall(r'<p class="answer">(.*?)</p>', text)
    assert answers == [line.replace("'", "&#39;") for line in answer(study)]
    assert answers[:5] == say.sentences(study)[:5]
    lines = closing_lines(study)
    assert lines[0] == answers[0]
    assert lines[-4:] == say.effect_lines(study)
    assert len(set(lines) & set(say.effect_lines(study))) == 4
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings[:4] == [
        "Confirmed", "What matters", "Does it hold for longer training?", "Curves of the confirmed arms",
    ]  # fmt: skip
    for name in ("confirmed", "effects", "effects-by-epoch", "confirmed-curves"):
        assert (page.parent / "figures" / f"{name}.png").stat().st_size > 5000
    assert (
        "Thin: interval for new seeds and new test images; thick: for new seeds on these images."
        in text
    )
    assert "search-stage validation scores" in text  # named for what they are


def test_the_effects_are_a_file_for_other_programs(study, page):
    pd.testing.assert_frame_equal(
        pd.read_csv(page.parent / "effects.csv").astype({"from": "str", "to": "str"}),
        conclude(study).astype({"from": "str", "to": "str"}),
        check_dtype=False,
    )


def test_the_tables_of_the_page(study):
    stage = confirm_stage(study)
    tables = say.arm_tables(study, stage) | say.effect_tables(study, stage)
    arms = tables["Arms"].set_index("name")
    assert (arms.index[0], arms.index[-1]) == ("winner: k3 s1 no-pool d18", "imagenet-stem")
    assert arms.loc["k3 s1 pool d10", ["learning_rate", "rate_at_end", "complete"]].tolist() == [
        "0.03",
        "high",
        "3",
    ]
    assert arms["by_seed"].str.count("%").tolist() == [3] * 9
    effects = tables["Effects on test accuracy"]
    assert effects["change"].tolist() == ["3 → 5", "1 → 2", "no → yes", "18 → 10"]
    assert list(effects) == ["factor", "change", "difference", "on_these_test_images", "verdict"]
    tuning = tables["Learning rates tried for each arm (validation loss)"].set_index("arm")
    assert len(tuning) == 8
    assert tuning.loc["k3 s1 pool d10"].tolist() == [
        "0.00333: 0.167, 0.01: 0.167, 0.03: 0.100",
        "0.03",
        "high",
    ]
    by_epoch = say.epochs_table(study)
    assert by_epoch["epoch"].tolist() == [1, 2, 3]
    assert list(by_epoch)[1:] == [line.split(":")[0] for line in say.effect_lines(study)]
    assert len(tables["Interactions of two factors (half of how much one's effect differs)"]) == 3


def test_of_many_epochs_the_tables_show_some_and_the_last(tmp_path):
    made, plan = confirm_like({}, seeds=2, epochs=30)
    rows = say.epochs_table(made_study(tmp_path, made, plan))
    assert rows["epoch"].tolist() == list(range(3, 31, 3))


def test_baselines_alone_are_listed_by_epoch(tmp_path):
    usual = {"learning_rate": 0.01}
    arms = {
        "a": {**usual, "depth": 18, "max_epochs": 3},
        "b": {**usual, "depth": 34, "max_epochs": 2},
    }
    curves = {
        name: {seed: falling(arm["max_epochs"], accuracy=0.5 + 0.01 * seed) for seed in (1, 2)}
        for name, arm in arms.items()
    }
    made = [
        MadeTrial("complete", curves[name][seed], "confirm", {**arm, "seed": seed}, stage="confirm")
        for seed in (1, 2)
        for name, arm in arms.items()
    ]
    plan = {
        "factors": [],
        "arms": [
            {"role": "baseline", "baseline": name, "config": arm} for name, arm in arms.items()
        ],
    }
    study = made_study(tmp_path, made, plan, search="none", factors=[], baselines=arms)
    first, line, *_ = say.sentences(study)
    assert first.startswith(
        "Confirmed with 2 seeds on 360 test images, each arm after its own epochs: a 83.8%"
    )
    assert line.startswith("baseline a → b: -8.1 points (")
    rows = say.arm_tables(study, confirm_stage(study))["By epoch, means over seeds"]
    assert rows[["arm", "epoch"]].to_numpy().tolist() == [
        ["a", "1"],
        ["a", "2"],
        ["a", "3"],
        ["b", "1"],
        ["b", "2"],
    ]
    assert rows["test_accuracy"].tolist()[:2] == ["51.5%", "75.8%"]


def test_nuisances_that_are_not_tuned_by_arm_are_the_winners(study):
    decay = {"name": "weight_decay", "role": "nuisance", "low": 1e-5, "high": 1e-2, "scale": "log"}
    design = study.manifest["design"] | {"factors": [*FACTORS, decay]}
    with_decay = replace(study, manifest=study.manifest | {"design": design})
    text = say.scope(with_decay, confirm_stage(with_decay))
    assert (
        text
        == f"Intervals: 95%, for new seeds and new test images. {RATES} In every arm as in the winner: weight decay."
    )
    untuned = replace(with_decay, trials=with_decay.trials[with_decay.trials["stage"] != "tune"])
    assert say.shared_nuisances(untuned, confirm_stage(untuned)) == [
        "learning_rate",
        "weight_decay",
    ]


def test_the_next_step_is_a_width_and_never_the_effects(study, trials, tmp_path):
    seeds = confirm.seeds_for_width(study, 0.01)
    assert seeds is not None and seeds > 3
    step = answer(study)[-1].partition("Next: ")[2]
    assert step.startswith(
        f"--confirm-until-width 1 (about {seeds} seeds, until every effect is known within ±1 point;"
    )
    assert re.search(r"; the test images alone leave ±\d\.\d points, however many seeds\)\.$", step)
    # With other effects of the same spread it is the same.
    made, plan = trials
    shifted = changed(made, lambda t, _: -0.1 if t.config["stem_stride"] == 2 else 0.0)
    plain = made_study(tmp_path / "plain", changed(made, lambda *_: 0.0), plan)
    assert answer(plain)[-1] == answer(made_study(tmp_path / "shifted", shifted, plan))[-1]
    assert "the test images alone" not in answer(plain)[-1]


def test_where_all_is_known_well_enough_nothing_more_is_asked(study):
    wide = study.manifest["design"] | {"margin": 0.2}
    known = replace(study, manifest=study.manifest | {"design": wide})
    assert "in case there is a better arm" in answer(known)[-1]
    factorial = replace(study, manifest=study.manifest | {"design": wide | {"search": "factorial"}})
    assert answer(factorial)[-1].endswith("Next: nothing.")


def test_where_the_images_are_too_few_no_number_of_seeds_is_named(study):
    narrow = study.manifest["design"] | {"margin": 0.001}
    step = answer(replace(study, manifest=study.manifest | {"design": narrow}))[-1]
    assert (
        "Next: more test images, for no number of seeds brings every interval within ±0.1 points"
        in step
    )


def test_one_seed_concludes_nothing_and_asks_for_more(study):
    seed = study.trials.loc[study.trials["stage"] == "confirm", "seed"].min()
    one = replace(
        study,
        trials=study.trials[(study.trials["stage"] != "confirm") | (study.trials["seed"] == seed)],
    )
    assert all(
        line.endswith(": inconclusive: one seed shows no spread") for line in say.effect_lines(one)
    )
    assert say.interaction_lines(one) == []
    assert answer(one)[-1].endswith("Next: --confirm-seeds 5, for one seed shows no spread.")


def test_nothing_is_said_before_a_confirm_trial_is_complete(study):
    early = replace(study, trials=study.trials[study.trials["stage"] != "confirm"])
    assert say.sentences(early) == []
    assert confirm_stage(early) is None
    running = study.trials["state"].mask(study.trials["stage"] == "confirm", "running")
    assert say.sentences(replace(study, trials=study.trials.assign(state=running))) == []


def test_a_confirm_stage_in_which_all_diverged_says_so(study, tmp_path):
    none = lost(study, {}, 27)
    assert say.sentences(none) == [
        "Nothing is confirmed: its arms have no complete seed in common."
    ]
    assert "no complete seed in common" in write_report(none, tmp_path).read_text(encoding="utf-8")
    assert closing_lines(none)[0].startswith("Nothing is confirmed")


def test_the_chosen_model_is_the_winners_also_at_a_tuned_rate(study):
    assert chosen_scope(study).startswith("The winner's first confirm seed, on test images.")
    rates = study.trials["learning_rate"].mask(study.trials["trial"] == 1, 0.02)
    assert chosen_scope(replace(study, trials=study.trials.assign(learning_rate=rates))).startswith(
        "The winner's first"
    )
    gone = lost(study, {"stem_kernel": 3, "depth": 18, "stem_stride": 1}, 3)
    assert chosen_scope(gone).startswith("The best search trial, on validation images.")


def test_tune_trials_are_in_the_cost_and_in_no_table_of_the_search(study, page):
    text = page.read_text(encoding="utf-8")
    tune = study.trials.loc[study.trials["stage"] == "tune", "trial"].tolist()
    assert len(tune) == 23
    listed = text.partition("<h2>Trials</h2>")[2]
    assert re.findall(r'<tr(?: class="best")?><td>(\d+)</td>', listed) == ["0", "1"]
    cost = text.partition("<caption>Cost by stage</caption>")[2].partition("</table>")[0]
    assert re.search(r"<td>tune</td><td>23</td><td>172\.5</td>", cost)  # three epochs of 2.5 s each
