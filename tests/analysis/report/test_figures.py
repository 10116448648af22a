"""What the figures hold: the table's numbers, marks where trials ended, limits that nothing wild
stretches."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from synthetic import BASELINES, FACTORS, MadeTrial, falling, search_like, write_study

from analysis import load_study
from analysis.report.axes import series
from analysis.report.figures import (
    best_lines,
    comparative_curves,
    factor_panels,
    level_curves,
    pareto_points,
    rate_points,
)
from analysis.report.layout import CURVE_HEIGHTS, HEIGHT, compose
from analysis.statistics import curves as curve_tables
from analysis.statistics.cost import pareto
from analysis.statistics.curves import READINGS, factor_levels, learning_curves, results

LABELS = {"winner": "best", **{f"baseline:{name}": name for name in BASELINES}}


def curves_of(folder: Path, made: list[MadeTrial]) -> tuple[pd.DataFrame, pd.DataFrame]:
    study = load_study(write_study(folder, made))
    table = results(study.trials, study.epochs)
    return table, learning_curves(table, study.epochs)


def panels(count: int = 5) -> list[Axes]:
    return list(Figure().subplots(1, count, squeeze=False).flat)


def points(ax: Axes, kind: str, name: str) -> np.ndarray:
    (line,) = [line for line in ax.get_lines() if line.get_gid() == series(kind, name)]
    return np.array(line.get_xydata())


def trial_lines(ax: Axes, name: str) -> dict[int, np.ndarray]:
    """The faint lines of a series by trial."""
    lines = {}
    for each in ax.collections:
        kind, _, rest = str(each.get_gid()).partition("|")
        series_name, _, trials = rest.rpartition("|")
        if (kind, series_name) == ("trials", name):
            paths = [np.asarray(path.vertices) for path in each.get_paths()]
            lines |= dict(zip(map(int, trials.split()), paths, strict=True))
    return lines


def marks(ax: Axes, state: str) -> list[list[float]]:
    (points_of_state,) = [
        mark for mark in ax.collections if str(mark.get_gid()).startswith(f"marks|{state}|")
    ]
    return [list(map(float, point)) for point in np.asarray(points_of_state.get_offsets())]


def test_bold_and_faint_lines_hold_the_table(tmp_path: Path) -> None:
    _, curves = curves_of(tmp_path, search_like())
    axes = comparative_curves(panels(), curves, LABELS, classes=10)
    for ax, reading in zip(axes, READINGS, strict=False):
        shown = ["epoch", reading]
        for role in LABELS:
            np.testing.assert_array_equal(
                points(ax, "all", role), curves.loc[curves["role"] == role, shown]
            )
        drawn = trial_lines(ax, "other")
        others = curves[curves["role"] == "other"].groupby("trial")
        assert list(drawn) == list(others.groups)
        for trial, rows in others:
            np.testing.assert_array_equal(drawn[trial], rows.sort_values("epoch")[shown])
    alive = [
        sum(len(made.readings) >= epoch for made in search_like()) - len(LABELS)
        for epoch in range(1, 7)
    ]
    np.testing.assert_array_equal(points(axes[4], "n", "other"), list(enumerate(alive, 1)))


def test_many_trials_give_way_to_their_quartiles(tmp_path: Path) -> None:
    table, curves = curves_of(tmp_path, search_like(100))
    axes = comparative_curves(panels(), curves, LABELS, classes=10)
    assert trial_lines(axes[3], "other") == {}
    (band,) = [mark for mark in axes[3].collections if mark.get_gid() == series("band", "other")]
    first = curves[(curves["role"] == "other") & (curves["epoch"] == 1)]["validation_accuracy"]
    corners = np.array(band.get_paths()[0].vertices)
    heights = corners[corners[:, 0] == 1][:, 1]
    assert [heights.min(), heights.max()] == pytest.approx(list(np.quantile(first, [0.25, 0.75])))
    assert (
        f"{table.shape[0] - 4} other trials and their median"
        in axes[0].get_legend_handles_labels()[1]
    )
    levels = factor_levels(table, FACTORS[4])
    axes = level_curves(
        panels(), curves, levels, curve_tables.level_curves(curves, levels), classes=10
    )
    assert trial_lines(axes[3], "10") == {}
    assert len([mark for mark in axes[3].collections if len(mark.get_paths())]) == 3


def test_no_line_joins_two_trials(tmp_path: Path) -> None:
    _, curves = curves_of(
        tmp_path, [MadeTrial("stopped", falling(2)), MadeTrial("stopped", falling(3))]
    )
    drawn = trial_lines(comparative_curves(panels(), curves, {}, classes=10)[0], "other")
    assert {trial: list(line[:, 0]) for trial, line in drawn.items()} == {0: [1, 2], 1: [1, 2, 3]}


def test_marks_stand_where_trials_ended(tmp_path: Path) -> None:
    made = [
        MadeTrial("complete", falling(4)),
        MadeTrial("stopped", falling(1)),
        MadeTrial("stopped", falling(3)),
        MadeTrial("running", falling(2)),
        MadeTrial("failed", falling(2, loss=0.9)),
        MadeTrial("diverged", [(1.0, 0.2, 1.0, 0.2), (math.nan, 0.1, math.nan, math.nan)]),
    ]
    _, curves = curves_of(tmp_path, made)
    axes = comparative_curves(panels(), curves, {"winner": "best"}, classes=10)
    loss, accuracy = axes[1], axes[3]
    assert marks(loss, "stopped") == [[1, 1.0], [3, 1 / 3]]
    assert marks(loss, "running") == [[2, 0.5]]
    assert marks(loss, "failed") == [[2, 0.45]]
    assert marks(loss, "diverged") == [[2, loss.get_ylim()[1]]]
    assert marks(accuracy, "diverged") == [[2, accuracy.get_ylim()[0]]]
    assert marks(axes[2], "diverged") == [[2, 0.1]]
    labels = loss.get_legend_handles_labels()[1]
    assert {"stopped (2)", "diverged (1)", "failed (1)", "running (1)"} <= set(labels)


def test_a_wild_loss_does_not_stretch_the_axis(tmp_path: Path) -> None:
    made = [
        MadeTrial("complete", falling(4)),
        MadeTrial("diverged", [(1e9, 0.1, 1e9, 0.1), (math.nan, 0.1, math.nan, 0.1)]),
    ]
    _, curves = curves_of(tmp_path, made)
    axes = comparative_curves(panels(), curves, {"winner": "best"}, classes=10)
    assert axes[1].get_ylim()[1] < 2 * math.log(10)
    assert axes[1].get_ylim()[0] < 0.25
    assert axes[0].get_ylim() == axes[1].get_ylim()


@pytest.mark.parametrize("factor", FACTORS, ids=lambda factor: str(factor["name"]))
def test_medians_over_survivors_look_different_from_those_over_all(
    tmp_path: Path, factor: dict[str, object]
) -> None:
    trials, curves = curves_of(tmp_path, search_like())
    levels = factor_levels(trials, factor)
    medians = curve_tables.level_curves(curves, levels)
    axes = level_curves(panels(), curves, levels, medians, classes=10)
    for ax, reading in zip(axes, READINGS, strict=False):
        here = medians[medians["reading"] == reading]
        for level, rows in here.groupby("level", observed=True):
            over_all = rows[rows["over_all"]]
            np.testing.assert_array_equal(points(ax, "all", level), over_all[["epoch", "median"]])
            joined = rows[~rows["over_all"] | (rows["epoch"] == over_all["epoch"].max())]
            expected = rows[:0] if rows["over_all"].all() else joined
            np.testing.assert_array_equal(
                points(ax, "survivors", level), expected[["epoch", "median"]]
            )
    styles = {
        line.get_gid(): line.get_linestyle() for line in axes[0].get_lines() if line.get_gid()
    }
    level = str(levels["level"].iloc[0])
    assert (styles[series("all", level)], styles[series("survivors", level)]) == ("-", "--")
    assert (
        "median of survivors only (some trials ended earlier)"
        in axes[0].get_legend_handles_labels()[1]
    )


def test_legend_counts_trials_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    made = [MadeTrial("complete", falling(3), config={"depth": 10})] * 2 + [
        MadeTrial("stopped", falling(1), config={"depth": 10})
    ]
    trials, curves = curves_of(tmp_path, made)
    levels = factor_levels(trials, {"name": "depth", "levels": [10, 34]})
    axes = level_curves(
        panels(), curves, levels, curve_tables.level_curves(curves, levels), classes=10
    )
    labels = axes[0].get_legend_handles_labels()[1]
    assert labels[:2] == ["10: n = 3, at epoch 3 n = 2", "34: n = 0, at epoch 3 n = 0"]


@pytest.mark.parametrize(
    "made",
    [[], [MadeTrial("complete", falling(1))], search_like(50, 30)],
    ids=["none", "one", "many"],
)
def test_axes_have_units_ticks_at_epochs_and_no_legend_over_data(
    tmp_path: Path, made: list[MadeTrial]
) -> None:
    _, curves = curves_of(tmp_path, made)
    figure, boxes, _ = compose(
        lambda axes: comparative_curves(axes, curves, LABELS, 10),
        "A finding",
        "A caption",
        CURVE_HEIGHTS,
    )
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    outside = [text.get_window_extent() for text in figure.texts]
    outside.append(figure.legends[0].get_window_extent())
    for ax, box in zip(figure.axes, boxes, strict=True):
        assert any(unit in ax.get_title(loc="left") for unit in ("(nats)", "(%)", "(n)"))
        assert ax.get_xlabel() == "epoch"
        assert all(float(tick).is_integer() for tick in ax.get_xticks())
        assert ax.get_legend() is None
        drawn = ax.get_tightbbox()
        assert drawn is not None
        assert not any(drawn.overlaps(each) for each in outside)
        left, top, *size = (figure.dpi * side for side in box)
        assert left <= drawn.x0 and drawn.x1 <= left + size[0] <= width + 1
        assert top <= height - drawn.y1 and height - drawn.y0 <= top + size[1]


def test_slices_mark_every_trial_at_its_learning_rate_in_the_series_of_its_level(
    tmp_path: Path,
) -> None:
    made = search_like()
    table, curves = curves_of(tmp_path, made)
    levels = factor_levels(table, FACTORS[3])
    quartiles = curve_tables.level_curves(curves, levels)
    ax = factor_panels(panels(6), curves, levels, quartiles, 10, table)[5]
    for level, pool in (("yes", True), ("no", False)):
        expected = {
            number: [t.config["learning_rate"], t.readings[-1][3]]
            for number, t in enumerate(made)
            if not t.origin.startswith("baseline") and t.config["stem_maxpool"] == pool
        }
        (drawn,) = [c for c in ax.collections if c.get_gid() == series("marks", level, expected)]
        np.testing.assert_array_equal(np.asarray(drawn.get_offsets()), list(expected.values()))
    assert ax.get_xscale() == "log"


def test_diverged_trials_stand_on_the_axis_of_the_learning_rate(tmp_path: Path) -> None:
    made = search_like()
    table, _ = curves_of(tmp_path, made)
    (ax,) = rate_points(panels(1), table, FACTORS[0])
    assert marks(ax, "diverged") == [[made[7].config["learning_rate"], ax.get_ylim()[0]]]
    complete = [t for t in made if t.state == "complete" and not t.origin.startswith("baseline")]
    assert marks(ax, "complete") == [
        [t.config["learning_rate"], t.readings[-1][3]] for t in complete
    ]
    assert ax.get_xscale() == "log"


def test_lines_and_the_front_hold_their_tables(tmp_path: Path) -> None:
    made = search_like(40)
    table, _ = curves_of(tmp_path, made)
    so_far = curve_tables.best_so_far(table)
    axes = best_lines(panels(2), {"a": so_far, "b": so_far.head(3)})
    assert axes[0].get_legend_handles_labels()[1] == ["a", "b"]
    (steps,) = [line for line in axes[1].get_lines() if line.get_label() == "a"]
    np.testing.assert_array_equal(steps.get_xydata(), so_far[["core_seconds", "best"]])
    axes = pareto_points(panels(3), table)
    front = pareto(table, "seconds_per_epoch").query("front")
    (line,) = [line for line in axes[2].get_lines() if line.get_label() == "Pareto front"]
    np.testing.assert_array_equal(
        line.get_xydata(), front[["seconds_per_epoch", "validation_accuracy"]]
    )


def test_figures_of_an_empty_study_are_empty_but_there(tmp_path: Path) -> None:
    table, _ = curves_of(tmp_path, [])
    for draw, count in (
        (lambda axes: rate_points(axes, table, FACTORS[0]), 1),
        (lambda axes: best_lines(axes, {"a": curve_tables.best_so_far(table)}), 2),
        (lambda axes: pareto_points(axes, table), 3),
    ):
        figure = compose(draw, "Title", "Caption", [HEIGHT] * count).figure
        figure.canvas.draw()
        assert len(figure.axes) >= count
        offsets = [
            np.ma.filled(each.get_offsets(), np.nan)
            for ax in figure.axes
            for each in ax.collections
            if isinstance(each, PathCollection)
        ]
        assert not any(np.isfinite(each).all(axis=1).any() for each in offsets), (
            "nothing is drawn that was not read"
        )
