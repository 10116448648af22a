"""What a study says of its search, and the closing lines."""

from pathlib import Path
from typing import Any

import pytest
from pages import design
from synthetic import BASELINES, FACTORS, MadeTrial, falling, manifest, search_like, write_study

from analysis import load_study
from analysis.report.findings import level_range
from analysis.report.page import write_report
from analysis.report.wording import (
    answer,
    chosen_scope,
    closing_lines,
    headline,
    level_finding,
    role_labels,
    scope,
)
from analysis.statistics.curves import factor_levels, learning_curves, level_curves, results

DIVERGED = MadeTrial("diverged", [(float("nan"), 0.1, float("nan"), 0.1)])


@pytest.mark.parametrize(
    ("made", "text"),
    [
        ([], "No complete trial yet (0 trials)"),
        ([DIVERGED, DIVERGED], "No complete trial yet (2 trials: 2 diverged)"),
        (
            [MadeTrial("complete", falling(1))],
            "is best so far: 50.0% validation accuracy after 1 epoch",
        ),
        (
            [MadeTrial("running", falling(1)), MadeTrial("running", [])],
            "No complete trial yet (2 trials: 2 running)",
        ),
        ([MadeTrial("failed", [])], "No complete trial yet (1 trial: 1 failed)"),
    ],
    ids=["none", "all diverged", "one", "running", "failed"],
)
def test_odd_studies_get_a_report(tmp_path: Path, made: list[MadeTrial], text: str) -> None:
    study = load_study(write_study(tmp_path, made, ended=None, design=design()))
    assert text in write_report(study).read_text()
    assert any(text in line for line in closing_lines(study))
    assert "the study is not finished" in scope(study)


def test_closing_lines_hold_the_best_the_baselines_the_warnings_and_the_cost(
    tmp_path: Path,
) -> None:
    made = [*search_like(), MadeTrial("failed", [])]
    study = load_study(write_study(tmp_path, made))
    lines = closing_lines(study)
    text = "\n".join(lines)
    complete = [i for i, trial in enumerate(made) if trial.state == "complete"]
    best = sorted(complete, key=lambda i: -made[i].readings[-1][3])[:5]
    start = next(i for i, line in enumerate(lines) if line.startswith("Best complete trials")) + 2
    assert [int(line.split()[0]) for line in lines[start : start + 5]] == best
    for name, trial in zip(BASELINES, made, strict=False):
        (row,) = [line for line in lines if line.split()[:1] == [f"baseline:{name}"]]
        assert f"{100 * trial.readings[-1][3]:.1f}%" in row
        assert "complete" in row
    assert "Warning: 1 diverged: trial 7" in lines
    assert "Warning: 1 failed: trial 20" in lines
    spent = 2.5 * sum(len(trial.readings) for trial in made)
    assert f"It cost {spent:,.0f} core-seconds in 21 trials and 300 s of wall time" in text
    assert "search-stage validation scores" in text


def test_headline_names_the_winner_and_the_best_baseline(tmp_path: Path) -> None:
    made = [
        MadeTrial("complete", falling(2, accuracy=0.9), "baseline:imagenet-stem"),
        MadeTrial("complete", falling(2, accuracy=0.92), "baseline:small-stem"),
        MadeTrial("complete", falling(2, accuracy=0.96), config={"depth": 34}),
    ]
    study = load_study(write_study(tmp_path, made))
    assert headline(study) == (
        "Trial 2 (k7 s2 pool d34, learning rate 0.01) is best: 98.0% validation accuracy after "
        "2 epochs, best baseline small-stem 96.0%"
    )
    assert list(role_labels(study)) == [
        "winner",
        "baseline:imagenet-stem",
        "baseline:small-stem",
    ]
    study = load_study(write_study(tmp_path, made[:2]))
    assert headline(study) == (
        "Baseline small-stem (k7 s2 pool d18, learning rate 0.01) is best: 96.0% validation "
        "accuracy after 2 epochs"
    )
    assert role_labels(study)["baseline:small-stem"] == "best: baseline small-stem, lr 0.01: 96.0%"


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


def test_a_factor_without_a_shared_epoch_gets_no_finding(tmp_path: Path) -> None:
    made = [
        MadeTrial("complete", falling(3, accuracy=0.4), config={"depth": 10}),
        MadeTrial("complete", falling(3, accuracy=0.7), config={"depth": 34}),
        MadeTrial("stopped", falling(2, accuracy=0.5), config={"depth": 34}),
    ]
    study = load_study(write_study(tmp_path, made))
    table = results(study.trials, study.epochs)
    curves, levels = (learning_curves(table, study.epochs), factor_levels(table, FACTORS[4]))
    assert level_finding(level_range(level_curves(curves, levels), 10), "depth") == (
        "After epoch 2, the last that all trials reached, median validation accuracy by depth "
        "runs from 70.0% (10) to 80.0% (34)"
    )
    waiting = load_study(
        write_study(tmp_path, [*made, MadeTrial("running", [], config={"depth": 10})])
    )
    levels = factor_levels(results(waiting.trials, waiting.epochs), FACTORS[4])
    assert (
        level_finding(level_range(level_curves(curves, levels), 10), "depth")
        == "Learning curves by depth"
    )


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


def last(accuracy: float, **config: Any) -> MadeTrial:
    return MadeTrial("complete", [(1.0, 0.5, 1.0, accuracy)], config=config)


def test_the_answer_says_what_the_data_cannot_tell(tmp_path: Path) -> None:
    made = [last(0.9, depth=10), last(0.88, depth=18), last(0.5, depth=34)]
    best, factor, cost = answer(load_study(write_study(tmp_path, made, design=design(*FACTORS))))
    # Wilson's interval for 130 of 144 right starts at 84.3%: one other arm is above.
    assert best.endswith(
        "a maximum over 3 complete search trials, 144 validation images and one seed is "
        "optimistic, and on these images it is not significantly above 1 other arm with 84.3% "
        "or more."
    )
    assert (
        factor == "Which factor matters is not known yet: 3 complete trials beside the baselines."
    )
    assert (
        cost == "It cost 8 core-seconds in 3 trials and 300 s of wall time. "
        "Next: more trials (--samples 20)."
    )


def test_the_answer_names_the_factor_that_matters_and_the_next_step(tmp_path: Path) -> None:
    made = [
        last(
            0.5 + 0.1 * (depth == 34) + 0.001 * kernel,
            depth=depth,
            stem_kernel=kernel,
            learning_rate=rate,
        )
        for depth in (10, 18, 34)
        for kernel in (2, 3, 5, 7)
        for rate in (0.001, 0.01, 0.05)
    ]
    study = load_study(
        write_study(tmp_path / "a", made, design=design(FACTORS[0], FACTORS[1], FACTORS[4]))
    )
    assert "over 36 complete trials (fANOVA) is the depth, " in answer(study)[1]
    assert answer(study)[2].endswith(
        "Next: the best arms again with several seeds (--confirm-seeds 3)."
    )
    edge = load_study(
        write_study(tmp_path / "b", [*made, last(0.9, learning_rate=0.29)], design=design(*FACTORS))
    )
    assert (
        "Next: learning rates from 0.029 to 2.9, for the best of k7 s2 pool d18 lies at the high"
        " end" in answer(edge)[2]
    )
    wild = load_study(write_study(tmp_path / "c", [DIVERGED], design=design(*FACTORS)))
    assert answer(wild)[2].endswith("Next: lower learning rates, as trials diverged.")
