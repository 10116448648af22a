"""What is recommended next: by what is missing, and never by the effects."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confirmed import changed, findings_of, made_study
from synthetic import FACTORS, MadeTrial, write_study

from analysis import Study, load_study
from analysis.report.findings import study_findings
from analysis.report.recommendation import Reason, Recommendation
from analysis.report.wording import confirm_text, study_text
from analysis.report.wording.study_text import answer
from analysis.statistics import confirm


def next_step(study: Study) -> Recommendation:
    return study_findings(study).next_step


def designed(study: Study, **changes: object) -> Study:
    """The study with other entries in its design."""
    design = study.manifest["design"] | changes
    return replace(study, manifest=study.manifest | {"design": design})


def last(accuracy: float, **config: Any) -> MadeTrial:
    return MadeTrial("complete", [(1.0, 0.5, 1.0, accuracy)], config=config)


DIVERGED = MadeTrial("diverged", [(float("nan"), 0.1, float("nan"), 0.1)])
TELLING = [
    last(0.5 + 0.1 * (depth == 34), depth=depth, stem_kernel=kernel, learning_rate=rate)
    for depth in (10, 18, 34)
    for kernel in (2, 3, 5, 7)
    for rate in (0.001, 0.01, 0.05)
]
AT_END = last(0.9, learning_rate=0.29)


@pytest.mark.parametrize(
    ("made", "changes", "reason", "command"),
    [
        ([AT_END], {"ended": None}, Reason.UNFINISHED, ""),
        ([DIVERGED], {}, Reason.DIVERGED, ""),
        ([MadeTrial("failed", [])], {}, Reason.NONE_COMPLETE, ""),
        ([last(0.9)], {}, Reason.FACTORS_UNCLEAR, "--samples 20"),
        ([last(0.9)] * 15, {}, Reason.FACTORS_UNCLEAR, "--samples 30"),
        ([last(0.9)] * 4, {"search": "factorial"}, Reason.FACTORS_UNCLEAR, "--samples 20"),
        ([last(0.9)] * 12, {"search": "factorial"}, Reason.FACTORS_UNCLEAR, "--samples 24"),
        ([], {"search": "none"}, Reason.NONE_CONFIRMED, ""),
        (TELLING, {}, Reason.BEST_UNCONFIRMED, "--confirm-seeds 3"),
        ([*TELLING, AT_END], {}, Reason.RATE_AT_END, ""),
    ],
    ids=[
        "running", "all diverged", "all failed", "few trials", "no difference", "factorial",
        "factorial, two per arm", "no search", "one factor explains the scores", "rate at the end",
    ],
)  # fmt: skip
def test_before_anything_is_confirmed_the_next_step_is_what_the_search_lacks(
    tmp_path: Path, made: list[MadeTrial], changes: dict, reason: Reason, command: str
) -> None:
    ended = {"ended": changes.pop("ended")} if "ended" in changes else {}
    factors = [FACTORS[0], FACTORS[1], FACTORS[4]]
    design = {"name": "search", "factors": factors, "baselines": {}, **changes}
    step = next_step(load_study(write_study(tmp_path, made, design=design, **ended)))
    assert (step.reason, step.command) == (reason, command)
    if reason is Reason.RATE_AT_END:
        assert step.rates is not None
        assert (step.rates.factor, step.rates.edge) == ("learning_rate", "high")
        assert (step.rates.low, step.rates.high) == pytest.approx((0.029, 2.9))


def test_the_width_is_that_of_the_widest_interval(study: Study) -> None:
    """Not of the narrowest, nor of the largest effect."""
    halves = [effect.estimate.interval.half for effect in confirm.effects(study)]
    between = (min(halves) + max(halves)) / 2
    assert min(halves) < between < max(halves)
    assert next_step(designed(study, margin=between)).reason is Reason.WIDE_INTERVALS
    assert next_step(designed(study, margin=1.01 * max(halves))).reason is Reason.BETTER_ARM
    assert next_step(designed(study, margin=0.99 * max(halves))).reason is Reason.WIDE_INTERVALS


def test_seeds_that_a_width_would_not_add_are_named(study: Study) -> None:
    widest = max(effect.estimate.interval.half for effect in confirm.effects(study))
    steps = [next_step(designed(study, margin=share * widest)) for share in (0.9, 0.6, 0.5, 0.4)]
    many = [step for step in steps if step.seeds and step.seeds > 20]
    assert many, "as many as `--confirm-until-width` adds are not enough"
    assert [step.command for step in many] == [f"--confirm-seeds {step.seeds}" for step in many]
    assert steps[0].command.startswith("--confirm-until-width ")


def test_the_next_step_is_a_width_and_never_the_effects(study, trials, tmp_path):
    seeds = confirm.seeds_for_width(study, 0.01)
    assert seeds is not None and seeds > 3
    step = next_step(study)
    assert (step.command, step.width, step.seeds) == (f"--confirm-seeds {seeds}", 0.01, seeds)
    # What the images alone leave of the widest interval, with the p = 0.975 quantile of Student's t
    # of 359 degrees of freedom.
    lasting = [
        max(0.0, effect.estimate.over_images - effect.estimate.over_both) ** 0.5
        for effect in confirm.effects(study)
    ]
    assert step.floor == pytest.approx(1.9666 * max(lasting), rel=1e-2)
    text = answer(study)[-1].partition("Next: ")[2]
    assert text.startswith(
        f"--confirm-seeds {seeds} (about {seeds} seeds, until every effect is known within "
        "±1 point;"
    )
    assert re.search(r"; the test images alone leave ±\d\.\d points, however many seeds\)\.$", text)
    # With other effects of the same spread it is the same.
    made, plan = trials
    shifted = changed(made, lambda t, _: -0.1 if t.config["stem_stride"] == 2 else 0.0)
    plain = made_study(tmp_path / "plain", changed(made, lambda *_: 0.0), plan)
    assert next_step(plain) == next_step(made_study(tmp_path / "shifted", shifted, plan))
    assert next_step(plain).floor == 0
    assert "the test images alone" not in answer(plain)[-1]


def test_where_all_is_known_well_enough_nothing_more_is_asked(study):
    known = designed(study, margin=0.2)
    assert next_step(known) == Recommendation(Reason.BETTER_ARM, "--samples 20")
    assert "in case there is a better arm" in answer(known)[-1]
    factorial = designed(study, margin=0.2, search="factorial")
    assert next_step(factorial) == Recommendation(Reason.ALL_CONCLUDED)
    assert answer(factorial)[-1].endswith("Next: nothing.")


def test_where_the_images_are_too_few_no_number_of_seeds_is_named(study):
    step = next_step(designed(study, margin=0.001))
    assert (step.reason, step.command, step.seeds) == (Reason.TOO_FEW_IMAGES, "", 0)
    assert study_text.next_step(step).startswith(
        "more test images, for no number of seeds brings every interval within ±0.1 points"
    )


def test_one_seed_concludes_nothing_and_asks_for_more(study):
    confirm_trials = study.trials["stage"] == "confirm"
    seed = study.trials.loc[confirm_trials, "seed"].min()
    one = replace(study, trials=study.trials[~confirm_trials | (study.trials["seed"] == seed)])
    lines = confirm_text.effect_lines(findings_of(one))
    assert all(line.endswith(": inconclusive: one seed shows no spread") for line in lines)
    assert confirm_text.interaction_lines(findings_of(one)) == []
    assert next_step(one) == Recommendation(Reason.ONE_SEED, "--confirm-seeds 5")
    assert answer(one)[-1].endswith("Next: --confirm-seeds 5, for one seed shows no spread.")
