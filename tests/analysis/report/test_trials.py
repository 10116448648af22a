"""The trials that the page shows, and their small curves."""

from pathlib import Path

from pages import design
from synthetic import MadeTrial, falling, search_like, write_study

from analysis import load_study
from analysis.report.trials import TRIALS_SHOWN, shown_trials, small_curves
from analysis.statistics.curves import results


def test_the_page_shows_at_most_300_trials_the_best_and_the_baselines_among_them(
    tmp_path: Path,
) -> None:
    study = load_study(write_study(tmp_path, search_like(500, 2), design=design()))
    table = results(study.trials, study.epochs)
    shown = shown_trials(table)
    assert len(shown) == TRIALS_SHOWN
    assert shown["trial"].is_monotonic_increasing
    complete = table[table["state"] == "complete"].sort_values(
        "validation_accuracy", ascending=False, kind="stable"
    )
    assert set(complete["trial"].head(100)) | {0, 1, 2} <= set(shown["trial"])
    assert shown["trial"].tolist() == shown_trials(table)["trial"].tolist()
    assert len(shown_trials(table.head(7))) == 7


def test_small_curves_are_points_in_a_box(tmp_path: Path) -> None:
    study = load_study(
        write_study(tmp_path, [MadeTrial("complete", falling(3)), MadeTrial("failed", [])])
    )
    assert small_curves(study.epochs, study.trials["trial"]) == ["0,50.0 50,25.0 100,16.7", ""]
    long = load_study(write_study(tmp_path / "long", [MadeTrial("complete", falling(120))]))
    (line,) = small_curves(long.epochs, long.trials["trial"])
    assert len(line.split()) == 40
