"""What a study says as a whole, and its closing lines."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confirmed import findings_of
from pages import design
from synthetic import BASELINES, FACTORS, MadeTrial, falling, search_like, write_study

from analysis import load_study
from analysis.report.page import write_report
from analysis.report.recommendation import Reason
from analysis.report.tables import arms_table
from analysis.report.wording import confirm_text, search_text, study_text
from analysis.report.wording.scope_text import scope
from analysis.report.wording.study_text import answer, closing_lines

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


def test_every_reason_has_words() -> None:
    assert set(study_text.NEXT_STEPS) == set(Reason)


def uneven(study, share):
    """The study, had its test and validation images been mostly cats."""
    largest = dict.fromkeys(("train", "validation", "test"), ("cat", share))
    dataset = {**study.manifest["dataset"], "largest_class": largest}
    balanced = {
        f"{part}_balanced_accuracy": study.epochs[f"{part}_accuracy"] / 2
        for part in ("validation", "test")
    }
    manifest = {**study.manifest, "dataset": dataset}
    return replace(study, manifest=manifest, epochs=study.epochs.assign(**balanced))


def test_of_uneven_classes_the_largest_stands_beside_every_headline(study, tmp_path):
    mostly = 1.5 / len(study.manifest["dataset"]["classes"])
    for share, shown in ((mostly + 0.001, True), (mostly - 0.001, False)):
        made = uneven(study, share)
        beside = f"(always naming class cat: {share:.1%})"
        for text in (
            confirm_text.sentences(made)[0],
            search_text.headline(made),
            study_text.tiles(made)[0][2],
        ):
            assert (beside in text) == shown
        table = arms_table(findings_of(made))
        assert ("test_balanced_accuracy" in table) == shown
    halves = [float(cell.split("%")[0]) / 2 for cell in table["test_accuracy"]]
    shown = arms_table(findings_of(uneven(study, 0.9)))["test_balanced_accuracy"].str.rstrip("%")
    assert shown.astype(float).tolist() == pytest.approx(halves, abs=0.1)
    page = write_report(uneven(study, 0.9), tmp_path / "page").read_text()
    assert "validation balanced accuracy" in page and "test balanced accuracy" in page
