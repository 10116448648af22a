"""What is said of what the numbers rest on."""

from dataclasses import replace
from pathlib import Path

import pytest
from confirmed import lost
from synthetic import MadeTrial, falling, manifest, write_study

from analysis import load_study
from analysis.report.wording.scope_text import chosen_scope, scope


def test_scope_says_what_was_chosen_by_default_and_what_part_was_used(tmp_path: Path) -> None:
    complete = load_study(
        write_study(tmp_path, [], dataset=manifest()["dataset"] | {"chosen": None})
    )
    assert "by default" not in scope(complete)
    assert "only" not in scope(complete)
    part = load_study(
        write_study(tmp_path, [], dataset=manifest()["dataset"] | {"available": 50_000})
    )
    assert "chosen by default: no GPU on this machine" in scope(part)
    assert "only 1,437 of the 50,000 available" in scope(part)


@pytest.mark.parametrize(
    ("confirmed", "text"),
    [
        (False, "The best search trial, on validation images."),
        (True, "The winner's first confirm seed, on test images."),
    ],
)
def test_the_confusion_matrix_says_whose_it_is(tmp_path: Path, confirmed: bool, text: str) -> None:
    config = {"learning_rate": 0.02}
    seeds = (
        [MadeTrial("complete", falling(1), "confirm", {**config, "seed": 1}, stage="confirm")]
        if confirmed
        else []
    )
    folder = write_study(tmp_path, [MadeTrial("complete", falling(1), config=config), *seeds])
    assert chosen_scope(load_study(folder)).startswith(text)


def test_the_chosen_model_is_the_winners_also_at_a_tuned_rate(study):
    assert chosen_scope(study).startswith("The winner's first confirm seed, on test images.")
    rates = study.trials["learning_rate"].mask(study.trials["trial"] == 1, 0.02)
    assert chosen_scope(replace(study, trials=study.trials.assign(learning_rate=rates))).startswith(
        "The winner's first"
    )
    gone = lost(study, {"stem_kernel": 3, "depth": 18, "stem_stride": 1}, 3)
    assert chosen_scope(gone).startswith("The best search trial, on validation images.")
