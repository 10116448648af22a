"""What the figures hold: the table's numbers, marks where trials ended, limits that nothing wild stretches."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from synthetic import BASELINES, FACTORS, MadeTrial, falling, search_like, write_study

from analysis import load_study
from analysis.curves import factor_levels, learning_curves, level_medians
from analysis.plots import PANELS, axis_limits, comparative_curves, four_panels, level_curves, level_palette

LABELS = {"winner": "best", **{f"baseline:{name}": name for name in BASELINES}}


def curves_of(folder: Path, made: list[MadeTrial]) -> tuple[pd.DataFrame, pd.DataFrame]:
    study = load_study(write_study(folder, made))
    return study.trials, learning_curves(study.trials, study.epochs)


def panels() -> list[Axes]:
    return list(Figure().subplots(2, 2).flat)


def points(ax: Axes, gid: str) -> np.ndarray:
    (line,) = [line for line in ax.get_lines() if line.get_gid() == gid]
    return np.array(line.get_xydata())


def marks(ax: Axes, state: str) -> list[list[float]]:
    (found,) = [mark for mark in ax.collections if mark.get_gid() == state]
    return [list(map(float, point)) for point in np.asarray(found.get_offsets())]


def test_bold_and_faint_lines_hold_the_table(tmp_path: Path) -> None:
    _, curves = curves_of(tmp_path, search_like())
    axes = comparative_curves(panels(), curves, LABELS, classes=10)
    for ax, (quantity, part) in zip(axes, PANELS, strict=True):
        rows = curves[(curves["quantity"] == quantity) & (curves["part"] == part)]
        for role in LABELS:
            np.testing.assert_array_equal(points(ax, role), rows.loc[rows["role"] == role, ["epoch", "value"]])
        others = rows[rows["role"] == "other"].sort_values(["trial", "epoch"])
        drawn = points(ax, "trials #9a9a9a")
        drawn = drawn[~np.isnan(drawn[:, 0])]
        np.testing.assert_array_equal(drawn, others[["epoch", "value"]])


def test_no_line_joins_two_trials(tmp_path: Path) -> None:
    _, curves = curves_of(tmp_path, [MadeTrial("stopped", falling(2)), MadeTrial("stopped", falling(3))])
    drawn = points(comparative_curves(panels(), curves, {}, classes=10)[0], "trials #9a9a9a")
    np.testing.assert_array_equal(drawn[:, 0], [1, 2, np.nan, 1, 2, 3])


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
    assert {"stopped early (2)", "diverged (1)", "failed (1)", "running (1)"} <= set(labels)


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


@pytest.mark.parametrize(
    ("values", "quantity", "within"),
    [
        ([0.5, 2.0], "loss", (0.5, 2.0)),
        ([50.0, 60.0], "loss", (50.0, 60.0)),
        ([0.0, 0.1], "loss", (0.1, 0.1)),
        ([math.nan], "loss", (1.0, 1.0)),
        ([0.1, 1.0], "accuracy", (0.1, 1.0)),
        ([], "accuracy", (0.0, 1.0)),
    ],
)
def test_limits_hold_what_is_to_be_seen(values: list[float], quantity: str, within: tuple[float, float]) -> None:
    low, high = axis_limits(pd.Series(values, dtype=float), quantity, classes=10)
    assert low <= within[0]
    assert within[1] <= high
    assert low < high
    assert quantity == "accuracy" or low > 0


@pytest.mark.parametrize("factor", FACTORS, ids=lambda factor: str(factor["name"]))
def test_medians_over_survivors_look_unlike_those_over_all(tmp_path: Path, factor: dict[str, object]) -> None:
    trials, curves = curves_of(tmp_path, search_like())
    levels = factor_levels(trials, factor)
    medians = level_medians(curves, levels)
    axes = level_curves(panels(), curves, levels, medians, classes=10)
    for ax, (quantity, part) in zip(axes, PANELS, strict=True):
        here = medians[(medians["quantity"] == quantity) & (medians["part"] == part)]
        for level, rows in here.groupby("level", observed=True):
            whole = rows[rows["whole"]]
            np.testing.assert_array_equal(points(ax, f"{level} whole"), whole[["epoch", "median"]])
            joined = rows[~rows["whole"] | (rows["epoch"] == whole["epoch"].max())]
            expected = rows[:0] if rows["whole"].all() else joined
            np.testing.assert_array_equal(points(ax, f"{level} survivors"), expected[["epoch", "median"]])
    styles = {line.get_gid(): line.get_linestyle() for line in axes[0].get_lines() if line.get_gid()}
    level = str(levels["level"].iloc[0])
    assert (styles[f"{level} whole"], styles[f"{level} survivors"]) == ("-", "--")
    assert "median of survivors only (not all got there)" in axes[0].get_legend_handles_labels()[1]


def test_legend_counts_trials_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    made = [MadeTrial("complete", falling(3), config={"depth": 10})] * 2 + [
        MadeTrial("stopped", falling(1), config={"depth": 10})
    ]
    trials, curves = curves_of(tmp_path, made)
    levels = factor_levels(trials, {"name": "depth", "levels": [10, 34]})
    axes = level_curves(panels(), curves, levels, level_medians(curves, levels), classes=10)
    labels = axes[0].get_legend_handles_labels()[1]
    assert labels[:2] == ["10: n = 3, at epoch 3 n = 2", "34: n = 0, at epoch 3 n = 0"]


@pytest.mark.parametrize(
    "made", [[], [MadeTrial("complete", falling(1))], search_like(50, 30)], ids=["none", "one", "many"]
)
def test_axes_have_units_whole_epochs_and_no_legend_over_data(tmp_path: Path, made: list[MadeTrial]) -> None:
    _, curves = curves_of(tmp_path, made)
    figure = four_panels(lambda axes: comparative_curves(axes, curves, LABELS, 10), "A finding", "A caption")
    figure.canvas.draw()
    for ax in figure.axes:
        assert "(nats)" in ax.get_title(loc="left") or "(%)" in ax.get_title(loc="left")
        assert ax.get_xlabel() == "epoch"
        assert all(float(tick).is_integer() for tick in ax.get_xticks())
        assert ax.get_legend() is None
        boxes = [text.get_window_extent() for text in figure.texts] + [figure.legends[0].get_window_extent()]
        assert not any(ax.get_tightbbox().overlaps(box) for box in boxes)  # type: ignore[union-attr]


def test_a_colour_for_every_level() -> None:
    for count in (1, 2, 3, 9):
        palette = level_palette([str(level) for level in range(count)])
        assert len(set(palette.values())) == count
