"""Figures of four panels, training and validation × loss and accuracy by epoch: tidy tables in, Axes out.

Colours are Okabe and Ito's for what has no order and a cut viridis for what has; markers tell them apart in grey.
"""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from analysis.curves import WINNER, curve_ends

PANELS = (("loss", "training"), ("loss", "validation"), ("accuracy", "training"), ("accuracy", "validation"))
UNITS: Mapping[str, str] = {"loss": "nats", "accuracy": "%"}
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("--", "-.", ":")
MARKERS = ("o", "s", "^", "v", "P", "p", "h")
FAINT, DARK = "#9a9a9a", "#555555"
FINE: dict[str, Any] = {"lw": 0.8, "alpha": 0.6, "ms": 3}
ENDS: Mapping[str, tuple[str, str]] = {
    "stopped": ("d", "stopped early"),
    "diverged": ("x", "diverged"),
    "failed": ("+", "failed"),
    "running": (">", "running"),
}
"""The mark at the last reading of a trial that is not complete, and what it is called."""


def comparative_curves(
    axes: Sequence[Axes], curves: pd.DataFrame, labels: Mapping[str, str], classes: int
) -> Sequence[Axes]:
    """Draw the roles in `labels` (role → legend text, winner first) boldly, all other trials faintly.

    `curves` is of `learning_curves`; the loss axes end a little above the loss of guessing one of `classes`.
    """
    baselines = [role for role in labels if role != WINNER]
    styles: dict[str, dict[str, Any]] = {
        role: {"color": OKABE_ITO[i % 6], "linestyle": LINES[i % 3], "marker": MARKERS[i % 7]}
        for i, role in enumerate(baselines)
    }
    styles[WINNER] = {"color": "black", "linestyle": "-", "marker": "*", "ms": 10}
    for ax, panel in zip(axes, _framed(axes, curves, classes), strict=True):
        for role, label in labels.items():
            rows = panel[panel["role"] == role].sort_values("epoch")
            every = max(1, len(rows) // 8)
            ax.plot(
                rows["epoch"], rows["value"], label=label, gid=role, lw=2, zorder=4, markevery=every, **styles[role]
            )
        others = panel[~panel["role"].isin(labels)]
        _draw_trials(ax, others.assign(color=FAINT), f"other trials ({others['trial'].nunique()})")
        _draw_ends(
            ax, panel.assign(color=[styles[role]["color"] if role in labels else DARK for role in panel["role"]])
        )
    return axes


def level_curves(
    axes: Sequence[Axes], curves: pd.DataFrame, levels: pd.DataFrame, medians: pd.DataFrame, classes: int
) -> Sequence[Axes]:
    """Draw every trial faintly in the colour of its level and the levels' medians boldly: solid with full
    markers while all of the level's trials are there, dashed with open markers for survivors only."""
    palette = level_palette(list(levels["level"].cat.categories))
    coloured = curves.merge(levels.assign(color=levels["level"].astype(str).map(palette)), on="trial")
    sizes = levels["level"].value_counts(sort=False)
    last = curves["epoch"].max() if len(curves) else 0
    for ax, panel, here in zip(axes, _framed(axes, coloured, classes), _panels(medians), strict=True):
        for (level, color), marker in zip(palette.items(), MARKERS * len(palette), strict=False):
            rows = here[here["level"] == level].sort_values("epoch")
            kept = rows.loc[rows["epoch"] == last, "n"].sum()
            label = f"{level}: n = {sizes[level]}, at epoch {last} n = {kept}"
            style: dict[str, Any] = {"color": color, "marker": marker, "zorder": 4, "markevery": max(1, len(rows) // 8)}
            whole = rows["whole"]
            tail = rows[~whole | ~whole.shift(-1, fill_value=True)]  # joined to the last epoch that is whole
            ax.plot(tail["epoch"], tail["median"], "--", gid=f"{level} survivors", lw=1.2, mfc="white", **style)
            ax.plot(rows["epoch"][whole], rows["median"][whole], label=label, gid=f"{level} whole", lw=2.4, **style)
        _draw_trials(ax, panel)
        _draw_ends(ax, panel)
    axes[0].plot(
        [], [], "--", color=DARK, marker="o", mfc="white", lw=1.2, label="median of survivors only (not all got there)"
    )
    return axes


def level_palette(levels: Sequence[str]) -> dict[str, str]:
    """A colour for each level: an ordered palette, or two unlike colours for two levels."""
    if len(levels) < 3:
        return dict(zip(levels, OKABE_ITO, strict=False))
    shades = colormaps["viridis"](np.linspace(0, 0.85, len(levels)))
    return {
        level: f"#{r:02x}{g:02x}{b:02x}"
        for level, (r, g, b) in zip(levels, (shades[:, :3] * 255).astype(int), strict=True)
    }


def axis_limits(values: pd.Series, quantity: str, classes: int) -> tuple[float, float]:
    """From the values of all curves of a quantity, limits that one wild trial does not stretch."""
    found = values[values > 0] if quantity == "loss" else values.dropna()
    if found.empty:
        return (0.1, 10.0) if quantity == "loss" else (0.0, 1.0)
    if quantity == "accuracy":
        return float(found.min()) - 0.03, min(1.0, float(found.max())) + 0.03
    low, top = (max(float(found.min()), 1e-4), min(float(found.max()), 1.2 * math.log(max(classes, 2))))
    top = top if top > low else float(found.max())
    pad = max(1.2, math.sqrt(5 * low / top))
    return low / pad, top * pad


def four_panels(draw: Callable[[Sequence[Axes]], object], title: str, caption: str, columns: int = 2) -> Figure:
    """A figure of 2 × 2 (or, for narrow screens, 4 × 1) panels that `draw` fills; the legend stands below them."""
    width, rows = (9.0, 2) if columns == 2 else (4.6, 4)
    figure = Figure()
    axes = list(figure.subplots(rows, columns).flat)
    draw(axes)
    handles, names = axes[0].get_legend_handles_labels()
    head, foot = _wrap(title, width, 12), _wrap(caption, width, 8)
    legend = -(-len(names) // columns) * 0.2
    above, below = (0.42 + 0.2 * (head.count("\n") + 1), 0.75 + legend + 0.15 * (foot.count("\n") + 1))
    height = above + below + rows * 2.4
    figure.set_size_inches(width, height)
    figure.subplots_adjust(
        left=0.5 / width, right=1 - 0.15 / width, top=1 - above / height, bottom=below / height, hspace=0.4, wspace=0.15
    )
    figure.text(0.1 / width, 1 - 0.1 / height, head, fontsize=12, fontweight="bold", va="top")
    figure.text(0.1 / width, 0.1 / height, foot, fontsize=8, color="#444444", va="bottom")
    place = (0.1 / width, (below - 0.5) / height)
    figure.legend(handles, names, loc="upper left", bbox_to_anchor=place, ncols=columns, fontsize=8.5, frameon=False)
    return figure


def _wrap(text: str, width: float, size: float) -> str:
    return textwrap.fill(text, int((width - 0.2) * 72 / (size * (0.62 if size > 10 else 0.54))))


def _panels(table: pd.DataFrame) -> list[pd.DataFrame]:
    return [table[(table["quantity"] == quantity) & (table["part"] == part)] for quantity, part in PANELS]


def _framed(axes: Sequence[Axes], curves: pd.DataFrame, classes: int) -> list[pd.DataFrame]:
    """The curves by panel, after each of the four Axes has got its title with the unit, ticks and limits."""
    last = curves["epoch"].max() if len(curves) else 1
    pad = 0.5 if last == 1 else min(0.5, 0.04 * last)
    for ax, (quantity, part) in zip(axes, PANELS, strict=True):
        if quantity == "loss":
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_locator(NullLocator())
        else:
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        ax.set_title(f"{part.capitalize()} {quantity} ({UNITS[quantity]})", loc="left", fontsize=10, y=1.02)
        ax.set_xlabel("epoch", fontsize=9)
        ax.set_xlim(1 - pad, last + pad)
        ax.set_ylim(axis_limits(curves.loc[curves["quantity"] == quantity, "value"], quantity, classes))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        ax.tick_params(labelsize=9)
        ax.grid(color="#e6e6e6", lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    return _panels(curves)


def _draw_trials(ax: Axes, panel: pd.DataFrame, label: str | None = None) -> None:
    """A line for each colour, broken between trials; a dot at every reading where there is room."""
    marker = "." if panel["epoch"].max() <= 12 else ""
    for color, rows in panel.sort_values(["trial", "epoch"]).groupby("color"):
        breaks = np.flatnonzero(np.diff(rows["trial"])) + 1
        epochs, values = (
            np.insert(rows["epoch"].to_numpy(float), breaks, np.nan),
            np.insert(rows["value"], breaks, np.nan),
        )
        ax.plot(epochs, values, color=color, label=label, gid=f"trials {color}", marker=marker, **FINE)


def _draw_ends(ax: Axes, panel: pd.DataFrame) -> None:
    """Mark where trials ended that are not complete; a value that is not finite, at the bad end of the axis."""
    low, high = ax.get_ylim()
    ends = curve_ends(panel)
    heights = ends["value"].fillna(high if ax.get_yscale() == "log" else low).clip(low, high)
    for state, (marker, label) in ENDS.items():
        rows = ends[ends["state"] == state]
        if len(rows):
            style: dict[str, Any] = {"marker": marker, "s": 30, "lw": 1.3, "clip_on": False, "zorder": 5}
            ax.scatter(rows["epoch"], heights[rows.index], c=rows["color"], gid=state, **style)
            ax.scatter([], [], c=DARK, label=f"{label} ({len(rows)})", **style)
