"""The figures: tidy tables in, Axes out. Each function fills the Axes it is given and gives them back.

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
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from analysis.cost import COSTS, pareto
from analysis.curves import BASELINE, OTHER, PARTS, WINNER, arm_levels, curve_ends, factor_levels, is_baseline
from analysis.curves import level_curves as quartiles_by_level
from analysis.effects import isolation

PANELS = (("loss", "training"), ("loss", "validation"), ("accuracy", "training"), ("accuracy", "validation"))
UNITS: Mapping[str, str] = {"loss": "nats", "accuracy": "%"}
SCORE = "Validation accuracy (%)"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("--", "-.", ":")
MARKERS = ("o", "s", "^", "v", "P", "p", "h")
FAINT, DARK = "#9a9a9a", "#555555"
FINE: dict[str, Any] = {"lw": 0.8, "alpha": 0.6, "ms": 3}
MANY = 60
"""Above as many trials, curves give way to quartiles; above ten times as many points, a figure holds a picture."""
STATES: Mapping[str, tuple[str, str]] = {
    "complete": ("o", "complete"),
    "stopped": ("d", "stopped early"),
    "diverged": ("x", "diverged"),
    "failed": ("+", "failed"),
    "running": (">", "running"),
}
"""The mark of a trial in each state, in curves at its last reading, and what it is called."""


def comparative_curves(
    axes: Sequence[Axes], curves: pd.DataFrame, labels: Mapping[str, str], classes: int
) -> Sequence[Axes]:
    """Draw the roles in `labels` (role → legend text, winner first) boldly, all other trials faintly, or their
    quartiles where they are many; on the fifth Axes how many trials were read at each epoch.

    `curves` is of `learning_curves`; the loss axes end a little above the loss of guessing one of `classes`.
    """
    baselines = [role for role in labels if role != WINNER]
    styles: dict[str, dict[str, Any]] = {
        role: {"color": OKABE_ITO[i % 6], "linestyle": LINES[i % 3], "marker": MARKERS[i % 7]}
        for i, role in enumerate(baselines)
    }
    styles[WINNER] = {"color": "black", "linestyle": "-", "marker": "*", "ms": 10}
    bold = curves["role"].isin(labels)
    others = curves[~bold].assign(color=FAINT)
    many = others["trial"].nunique() > MANY
    ends = curves[bold] if many else curves
    ends = ends.assign(color=[styles[role]["color"] if role in labels else DARK for role in ends["role"]])
    other = pd.DataFrame({"trial": others["trial"].unique()}).assign(level=OTHER).astype({"level": "category"})
    quartiles = quartiles_by_level(others, other)
    for ax, quantity, part in _framed(axes, curves, classes):
        column = f"{PARTS[part]}_{quantity}"
        for role, label in labels.items():
            rows = curves[curves["role"] == role].sort_values("epoch")
            every = max(1, len(rows) // 8)
            ax.plot(rows["epoch"], rows[column], label=label, gid=role, lw=2, zorder=4, markevery=every, **styles[role])
        if many:
            _draw_quartiles(ax, _panel(quartiles, quantity, part), FAINT, 0.35)
        else:
            _draw_trials(ax, others, column, f"other trials ({others['trial'].nunique()})")
        _draw_ends(ax, ends, column)
    if many:
        axes[0].fill_between([], [], color=FAINT, alpha=0.35, label=f"middle half of those of {len(other)} others read")
    counts = curves.groupby("epoch")["validation_accuracy"].count()
    axes[4].plot(counts.index, counts, "o-", ms=3, color="black", gid="n", markevery=max(1, len(counts) // 8))
    axes[4].set_ylim(bottom=0)
    return axes


def level_curves(
    axes: Sequence[Axes], curves: pd.DataFrame, levels: pd.DataFrame, quartiles: pd.DataFrame, classes: int
) -> Sequence[Axes]:
    """Draw every trial faintly in the colour of its level (or the quartiles, where they are many) and the levels'
    medians boldly: solid with full markers while all of the level's trials are there, dashed with open markers for
    survivors only; on the fifth Axes how many of each level were read at each epoch."""
    palette = level_palette(list(levels["level"].cat.categories))
    coloured = curves.merge(levels.assign(color=levels["level"].astype(str).map(palette)), on="trial")
    sizes = levels["level"].value_counts(sort=False)
    last = coloured["epoch"].max() if len(coloured) else 0
    for ax, quantity, part in _framed(axes, coloured, classes):
        here = _panel(quartiles, quantity, part)
        for (level, color), marker in zip(palette.items(), MARKERS * len(palette), strict=False):
            rows = here[here["level"] == level].sort_values("epoch")
            kept = rows.loc[rows["epoch"] == last, "n"].sum()
            label = f"{level}: n = {sizes[level]}, at epoch {last} n = {kept}"
            style: dict[str, Any] = {"color": color, "marker": marker, "zorder": 4, "markevery": max(1, len(rows) // 8)}
            whole = rows["whole"]
            tail = rows[~whole | ~whole.shift(-1, fill_value=True)]  # joined to the last epoch that is whole
            ax.plot(tail["epoch"], tail["median"], "--", gid=f"{level} survivors", lw=1.2, mfc="white", **style)
            ax.plot(rows["epoch"][whole], rows["median"][whole], label=label, gid=f"{level} whole", lw=2.4, **style)
            if len(levels) > MANY:
                _draw_quartiles(ax, rows, color, 0.15)
            if (quantity, part) == PANELS[-1]:
                axes[4].plot(rows["epoch"], rows["n"], gid=f"n {level}", **{**style, "ms": 4})
        if len(levels) <= MANY:
            _draw_trials(ax, coloured, f"{PARTS[part]}_{quantity}")
            _draw_ends(ax, coloured, f"{PARTS[part]}_{quantity}")
    axes[4].set_ylim(bottom=0)
    survivors = "median of survivors only (not all got there)"
    axes[0].plot([], [], "--", color=DARK, marker="o", mfc="white", lw=1.2, label=survivors)
    return axes


def isolation_points(axes: Sequence[Axes], table: pd.DataFrame, factors: Sequence[Mapping[str, Any]]) -> Sequence[Axes]:
    """For each factor its trials by level, at their last reading and with their state, and a bar at the best
    complete one of each level."""
    for ax, factor in zip(axes, factors, strict=True):
        best, rows = isolation(table, factor), table.merge(factor_levels(table, factor), on="trial")
        # By the golden ratio, so that neighbours in number stand apart however many there are.
        place = rows["level"].cat.codes + (rows["trial"] * 0.618034 % 1 - 0.5) * 0.6
        colors = rows["level"].astype(str).map(level_palette(list(best["level"])))
        _mark_states(ax, place, rows["validation_accuracy"], rows["state"], colors)
        bar = np.arange(len(best))
        ax.hlines(best["validation_accuracy"], bar - 0.36, bar + 0.36, color="black", lw=2, zorder=6, gid="best")
        names = [f"{row.level}\n{row.complete} of {row.trials}" for row in best.itertuples()]
        ax.set_xticks(bar, names)
        ax.set_xlim(-0.6, len(best) - 0.4)
        label = f"{factor['name'].replace('_', ' ')}; complete of all trials"
        _dress(ax, SCORE, label, "y")
    return axes


def importance_bars(axes: Sequence[Axes], shares: pd.DataFrame) -> Sequence[Axes]:
    """Each factor's share (of `importance`), with its range over forests; grey where they do not tell."""
    rows, ax = shares.iloc[::-1].fillna(0.0), axes[0]
    color = OKABE_ITO[0] if shares["tells"].any() else FAINT
    spread = [rows["importance"] - rows["least"], rows["most"] - rows["importance"]]
    ax.barh(
        rows["factor"].str.replace("_", " "), rows["importance"], xerr=spread, color=color, ecolor="black", capsize=3
    )
    ax.set_xlim(0, 1)
    _dress(ax, "Share of the variance of the score (%)", "%", "x")
    return axes


def rate_points(axes: Sequence[Axes], table: pd.DataFrame, factor: Mapping[str, Any]) -> Sequence[Axes]:
    """Last reading against a factor with a range, in colour the arms with the best trials; diverged trials stand on
    the axis, and the ends of the range are dashed."""
    ax, arms = axes[0], arm_levels(table)
    varied = table[~is_baseline(table)].copy()
    palette = level_palette(list(arms["level"].cat.categories), ordered=False)
    varied["color"] = varied["trial"].map(arms.set_index("trial")["level"].astype(str)).map(palette).fillna(FAINT)
    floor = np.nanmin(varied["validation_accuracy"].to_numpy(), initial=1.0) - 0.03
    heights = varied["validation_accuracy"].where(varied["state"] != "diverged", floor)
    for arm, color in palette.items():
        ax.plot([], [], "o", color=color, label=arm)
    _mark_states(ax, varied[factor["name"]], heights, varied["state"], varied["color"])
    for end in (factor["low"], factor["high"]):
        ax.axvline(end, color=DARK, ls="--", lw=0.8)
    if factor["scale"] == "log":
        _log(ax, "{x:g}")
    ax.set_ylim(bottom=floor)
    _dress(ax, SCORE, factor["name"].replace("_", " "), "y")
    return axes


def best_lines(axes: Sequence[Axes], tables: Mapping[str, pd.DataFrame]) -> Sequence[Axes]:
    """The best score so far (of `best_so_far`) of each study, by samples and by core-seconds."""
    for ax, (column, unit) in zip(axes, {"samples": "samples", "core_seconds": "core-seconds"}.items(), strict=True):
        for i, (name, rows) in enumerate(tables.items()):
            style: dict[str, Any] = {"color": OKABE_ITO[i % 6], "gid": name, "rasterized": len(rows) > 10 * MANY}
            ax.plot(rows[column], rows["score"], MARKERS[i % 7], ms=4, alpha=0.5, **style)
            ax.step(rows[column], rows["best"], where="post", lw=2, ls=("-", *LINES)[i % 4], label=name, **style)
        _dress(ax, f"Best so far: {SCORE.lower()}", unit, "y")
    return axes


def pareto_points(axes: Sequence[Axes], table: pd.DataFrame) -> Sequence[Axes]:
    """Score of the complete trials against each cost, the Pareto front joined, baselines in colour."""
    for ax, (cost, label) in zip(axes, COSTS.items(), strict=True):
        rows = pareto(table, cost)
        front = rows[rows["front"]]
        dense = len(rows) > 10 * MANY
        ax.scatter(rows[cost], rows["validation_accuracy"], s=16, c=FAINT, label="complete trials", rasterized=dense)
        ax.step(
            front[cost], front["validation_accuracy"], "o-", where="post", color="black", ms=5, label="Pareto front"
        )
        for i, row in enumerate(rows[is_baseline(rows)].sort_values("trial").to_dict("records")):
            style: dict[str, Any] = {"marker": MARKERS[1 + i % 6], "color": OKABE_ITO[i % 6], "zorder": 3}
            ax.scatter(
                [row[cost]], [row["validation_accuracy"]], s=50, label=row["origin"].removeprefix(BASELINE), **style
            )
        if len(rows):
            _log(ax, EngFormatter(sep=""))
        _dress(ax, SCORE, label, "y")
    return axes


def confusion_image(axes: Sequence[Axes], confusion: pd.DataFrame, accuracy: pd.Series) -> Sequence[Axes]:
    """Images by true (rows, with their `accuracy`) and predicted class, shaded by their share of the true class."""
    counts, ax = confusion.to_numpy(), axes[0]
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", rasterized=True)
    _dress(ax, "Images by true class (with its accuracy) and predicted class", "predicted class")
    ax.grid(visible=False)
    if len(confusion) <= 20:
        ax.set_xticks(range(len(confusion)), confusion.columns, rotation=90)
        ax.set_yticks(range(len(confusion)), [f"{name} ({share:.0%})" for name, share in accuracy.items()])
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, str(count), ha="center", va="center", fontsize=7, color=color)
    return axes


def level_palette(levels: Sequence[str], ordered: bool = True) -> dict[str, str]:
    """A colour for each level: an ordered palette, or unlike colours for two levels or what has no order."""
    if len(levels) < 3 or not ordered:
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


def compose(
    draw: Callable[[Sequence[Axes]], object], title: str, caption: str, panels: int, row_height: float, columns: int
) -> Figure:
    """A figure whose `panels` are filled by `draw`, an odd last one as wide as all; `columns` of 1 is for narrow
    screens. The title stands above, the legend and the caption below, nothing over the data."""
    width = 9.0 if columns > 1 else 4.6
    figure = Figure(layout="constrained")
    cells = [str(i) for i in range(panels)] + [str(panels - 1)] * (-panels % columns)
    mosaic: Any = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    axes = list(figure.subplot_mosaic(mosaic).values())
    draw(axes)
    legend = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    per_row = max(1, min(2, columns))
    head, foot = _wrap(title, width, 12), _wrap(caption, width, 8)
    above, below = 0.2 + 0.2 * (head.count("\n") + 1), 0.25 + 0.15 * (foot.count("\n") + 1)
    legend_height = -(-len(legend) // per_row) * 0.2
    height = above + below + legend_height + len(mosaic) * row_height
    figure.set_size_inches(width, height)
    bottom = (below + legend_height) / height
    figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - bottom - above / height))  # type: ignore[union-attr, call-arg]
    figure.text(0.1 / width, 1 - 0.1 / height, head, fontsize=12, fontweight="bold", va="top")
    figure.text(0.1 / width, 0.1 / height, foot, fontsize=8, color="#444444", va="bottom")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # it would be worked out again for each format
    for ax in axes:  # the layout's last digits differ from run to run
        ax.set_position([round(end, 5) for end in ax.get_position().bounds])
    if legend:
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.05 / width, bottom), "borderaxespad": 0}
        figure.legend(legend.values(), legend, ncols=per_row, fontsize=8.5, frameon=False, **place)
    return figure


def _wrap(text: str, width: float, size: float) -> str:
    return textwrap.fill(text, int((width - 0.2) * 72 / (size * (0.62 if size > 10 else 0.54))))


def _panel(quartiles: pd.DataFrame, quantity: str, part: str) -> pd.DataFrame:
    return quartiles[(quartiles["quantity"] == quantity) & (quartiles["part"] == part)]


def _dress(ax: Axes, title: str, label: str, percent: str = "") -> None:
    """Title, x label, ticks and grid; the axis `percent` shows fractions in percent."""
    ax.set_title(title, loc="left", fontsize=10)
    ax.set_xlabel(label, fontsize=9)
    ax.tick_params(labelsize=9)
    ax.grid(color="#e6e6e6", lw=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if percent:
        getattr(ax, f"{percent}axis").set_major_formatter(PercentFormatter(1.0, symbol=""))


def _log(ax: Axes, formatter: Any) -> None:
    """A logarithmic x axis that is labelled where it spans less than a decade too."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1,) if high > 50 * low else (1, 2, 5)))
    ax.xaxis.set_major_formatter(formatter)
    ax.xaxis.set_minor_locator(NullLocator())


def _framed(axes: Sequence[Axes], curves: pd.DataFrame, classes: int) -> list[tuple[Axes, str, str]]:
    """Dress the four panels of curves and the fifth of counts; gives the four with what each shows."""
    last = curves["epoch"].max() if len(curves) else 1
    pad = 0.5 if last == 1 else min(0.5, 0.04 * last)
    for ax, (quantity, part) in zip(axes, PANELS, strict=False):
        _dress(
            ax, f"{part.capitalize()} {quantity} ({UNITS[quantity]})", "epoch", "y" if quantity == "accuracy" else ""
        )
        if quantity == "loss":
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_locator(NullLocator())
        values = pd.concat([curves[f"{prefix}_{quantity}"] for prefix in PARTS.values()])
        ax.set_ylim(axis_limits(values, quantity, classes))
    _dress(axes[4], "Trials read at the epoch (n)", "epoch")
    for ax in axes:
        ax.set_xlim(1 - pad, last + pad)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes[4].yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    return [(ax, *panel) for ax, panel in zip(axes, PANELS, strict=False)]


def _draw_quartiles(ax: Axes, rows: pd.DataFrame, color: str, alpha: float) -> None:
    ax.fill_between(rows["epoch"], rows["lower"], rows["upper"], color=color, alpha=alpha, lw=0, zorder=0.5)
    ax.set_rasterization_zorder(1)  # all bands as one picture


def _draw_trials(ax: Axes, curves: pd.DataFrame, column: str, label: str | None = None) -> None:
    """A line for each colour, broken between trials; dots where there is one epoch."""
    marker = "." if curves["epoch"].max() == 1 else ""
    for color, rows in curves.sort_values(["trial", "epoch"]).groupby("color"):
        breaks = np.flatnonzero(np.diff(rows["trial"])) + 1
        epochs, values = (np.insert(rows[name].to_numpy(float), breaks, np.nan) for name in ("epoch", column))
        ax.plot(epochs, values, color=color, label=label, gid=f"trials {color}", marker=marker, **FINE)


def _draw_ends(ax: Axes, curves: pd.DataFrame, column: str) -> None:
    """Mark where trials ended that are not complete; a value that is not finite, at the bad end of the axis."""
    low, high = ax.get_ylim()
    ends = curve_ends(curves)
    heights = ends[column].fillna(high if ax.get_yscale() == "log" else low).clip(low, high)
    _mark_states(ax, ends["epoch"], heights, ends["state"], ends["color"])


def _mark_states(ax: Axes, x: pd.Series, y: pd.Series, state: pd.Series, color: pd.Series) -> None:
    """A mark by state at each point, with its count in the legend."""
    for name, (marker, label) in STATES.items():
        here = (state == name) & y.notna()
        if here.any():
            style: dict[str, Any] = {"marker": marker, "s": 30, "lw": 1.3, "clip_on": False, "zorder": 5}
            dense = {"s": 4, "alpha": 0.3, "rasterized": True} if len(x) > 10 * MANY else {}
            ax.scatter(x[here], y[here], c=color[here], gid=name, **{**style, **dense})
            ax.scatter([], [], c=DARK, label=f"{label} ({here.sum()})", **style)
