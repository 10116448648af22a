"""The figures: tidy tables in, Axes out. Each function fills the Axes it is given and gives them
back.

Colours are Okabe and Ito's for what has no order and a cut viridis for what has; markers tell them
apart in grey.
"""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from analysis.statistics.cost import COSTS, pareto
from analysis.statistics.curves import (
    BASELINE,
    OTHER,
    READINGS,
    WINNER,
    arm_levels,
    factor_levels,
    is_baseline,
)
from analysis.statistics.curves import level_curves as quartiles_by_level
from analysis.statistics.search import isolation

SCORE = "Validation accuracy (%)"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("--", "-.", ":")
MARKERS = ("o", "s", "^", "v", "P", "p", "h")
FAINT, DARK = "#9a9a9a", "#555555"
MANY = 60
"""Above as many trials, curves give way to quartiles; above ten times as many points, a figure
holds a picture."""
STATES: Mapping[str, str] = {
    "complete": "o",
    "stopped": "d",
    "diverged": "x",
    "failed": "+",
    "running": ">",
}
"""The mark of a trial in each state, in curves at its last reading."""


def comparative_curves(
    axes: Sequence[Axes], curves: pd.DataFrame, labels: Mapping[str, str], classes: int
) -> Sequence[Axes]:
    """Draw `curves` (of `learning_curves`) as below, each role in `labels` (role → legend text) as
    a level of one trial, and all other trials as one level more, in grey."""
    plain = [role for role in labels if role != WINNER]
    styles: dict[str, dict[str, Any]] = {
        role: {"color": OKABE_ITO[i % 6], "ls": LINES[i % 3], "marker": MARKERS[i % 7]}
        for i, role in enumerate(plain)
    }
    styles |= {
        WINNER: {"color": "black", "marker": "*", "ms": 10},
        OTHER: {"color": FAINT, "marker": "."},
    }
    levels = curves[["trial", "role"]].drop_duplicates()
    level = levels["role"].astype("str").where(levels["role"].isin(labels), OTHER)
    levels = levels[["trial"]].assign(level=pd.Categorical(level, [*labels, OTHER]))
    named = {**labels, OTHER: f"{(level == OTHER).sum()} other trials and their median"}
    styles = {
        each: {**styles[each], "label": named[each]} for each in named if (level == each).any()
    }
    return _draw_levels(
        axes, curves.merge(levels, on="trial"), quartiles_by_level(curves, levels), styles, classes
    )


def level_curves(
    axes: Sequence[Axes],
    curves: pd.DataFrame,
    levels: pd.DataFrame,
    quartiles: pd.DataFrame,
    classes: int,
) -> Sequence[Axes]:
    """Draw every trial faintly in the colour of its level (or of many the middle half) and the
    levels' medians
    boldly: solid with full markers while all of the level's trials are there, dashed with open
    markers for survivors only; on the fifth Axes how many of each level were read at each epoch.
    The loss axes end a little above the loss of guessing one of `classes`."""
    palette, styles = level_palette(list(levels["level"].cat.categories)), {}
    last = int(quartiles["epoch"].max()) if len(quartiles) else 0
    ends = quartiles[(quartiles["epoch"] == last) & (quartiles["reading"] == "validation_accuracy")]
    for (level, color), marker in zip(palette.items(), MARKERS * len(palette), strict=False):
        begun, kept = (levels["level"] == level).sum(), ends.loc[ends["level"] == level, "n"].sum()
        label = f"{level}: n = {begun}, at epoch {last} n = {kept}"
        styles[level] = {"color": color, "marker": marker, "label": label}
    return _draw_levels(axes, curves.merge(levels, on="trial"), quartiles, styles, classes)


def isolation_points(
    axes: Sequence[Axes], table: pd.DataFrame, factors: Sequence[Mapping[str, Any]]
) -> Sequence[Axes]:
    """For each factor its trials by level, at their last reading and with their state, and a bar at
    the best complete one of each level."""
    for ax, factor in zip(axes, factors, strict=True):
        best, rows = isolation(table, factor), table.merge(factor_levels(table, factor), on="trial")
        # By the golden ratio, so that neighbours in number stand apart however many there are.
        place = rows["level"].cat.codes + (rows["trial"] * 0.618034 % 1 - 0.5) * 0.6
        colors = rows["level"].astype(str).map(level_palette(list(best["level"])))
        _mark_states(ax, place, rows["validation_accuracy"], rows["state"], colors)
        bars = np.arange(len(best))
        ax.hlines(
            best["validation_accuracy"],
            bars - 0.36,
            bars + 0.36,
            color="black",
            lw=2,
            zorder=6,
            gid="best",
        )
        ax.set_xticks(
            bars, [f"{row.level}\n{row.complete} of {row.trials}" for row in best.itertuples()]
        )
        ax.set_xlim(-0.6, len(best) - 0.4)
        _dress(ax, SCORE, f"{factor['name'].replace('_', ' ')}; complete of all trials", "y")
    return axes


def rate_points(
    axes: Sequence[Axes], table: pd.DataFrame, factor: Mapping[str, Any]
) -> Sequence[Axes]:
    """Last reading against a factor with a range, in colour the arms with the best trials; diverged
    trials stand on the axis, and the ends of the range are dashed."""
    ax, arms, varied = axes[0], arm_levels(table), table[~is_baseline(table)]
    palette = level_palette(list(arms["level"].cat.categories), ordered=False)
    colors = (
        varied["trial"]
        .map(arms.set_index("trial")["level"].astype("str"))
        .map(palette)
        .fillna(FAINT)
    )
    floor = np.nanmin(varied["validation_accuracy"].to_numpy(), initial=1.0) - 0.03
    heights = varied["validation_accuracy"].where(varied["state"] != "diverged", floor)
    for arm, color in palette.items():
        ax.plot([], [], "o", color=color, label=arm)
    _mark_states(ax, varied[factor["name"]], heights, varied["state"], colors)
    for end in (factor["low"], factor["high"]):
        ax.axvline(end, color=DARK, ls="--", lw=0.8)
    if factor["scale"] == "log":
        _log(ax, "x", "{x:g}")
    ax.set_ylim(bottom=floor)
    _dress(ax, SCORE, factor["name"].replace("_", " "), "y")
    return axes


def best_lines(axes: Sequence[Axes], tables: Mapping[str, pd.DataFrame]) -> Sequence[Axes]:
    """The best score so far (of `best_so_far`) of each study, by samples and by core-seconds."""
    for ax, (column, unit) in zip(
        axes, {"samples": "samples", "core_seconds": "core-seconds"}.items(), strict=True
    ):
        for i, (name, rows) in enumerate(tables.items()):
            style: dict[str, Any] = {
                "color": OKABE_ITO[i % 6],
                "gid": name,
                "rasterized": len(rows) > 10 * MANY,
            }
            ax.plot(rows[column], rows["score"], MARKERS[i % 7], ms=4, alpha=0.5, **style)
            ax.step(
                rows[column],
                rows["best"],
                where="post",
                lw=2,
                ls=("-", *LINES)[i % 4],
                label=name,
                **style,
            )
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _dress(ax, f"Best so far: {SCORE.lower()}", unit, "y")
    return axes


def pareto_points(axes: Sequence[Axes], table: pd.DataFrame) -> Sequence[Axes]:
    """Score of the complete trials against each cost, the Pareto front joined, baselines in colour."""
    for ax, (cost, label) in zip(axes, COSTS.items(), strict=True):
        rows = pareto(table, cost)
        front, score = rows[rows["front"]], "validation_accuracy"
        ax.scatter(
            rows[cost],
            rows[score],
            s=16,
            c=FAINT,
            label="complete trials",
            rasterized=len(rows) > 10 * MANY,
        )
        ax.step(
            front[cost], front[score], "o-", where="post", color="black", ms=5, label="Pareto front"
        )
        for i, row in enumerate(rows[is_baseline(rows)].sort_values("trial").to_dict("records")):
            style: dict[str, Any] = {
                "marker": MARKERS[1 + i % 6],
                "color": OKABE_ITO[i % 6],
                "zorder": 3,
            }
            ax.scatter(
                row[cost], row[score], s=50, label=row["origin"].removeprefix(BASELINE), **style
            )
        if len(rows):
            _log(ax, "x", "{x:g}" if cost == "seconds_per_epoch" else EngFormatter(sep=""))
        _dress(ax, SCORE, label, "y")
    return axes


def level_palette(levels: Sequence[str], ordered: bool = True) -> dict[str, str]:
    """A colour for each level: an ordered palette, or unlike colours for two levels or what has no
    order."""
    if len(levels) < 3 or not ordered:
        return dict(zip(levels, OKABE_ITO, strict=False))
    shades = colormaps["viridis"](np.linspace(0, 0.85, len(levels)))
    return {level: to_hex(shade) for level, shade in zip(levels, shades, strict=True)}


def axis_limits(values: pd.Series, quantity: str, classes: int) -> tuple[float, float]:
    """From the values of all curves of a quantity, limits that one wild trial does not stretch."""
    if quantity == "accuracy":
        return float(values.min()) - 0.03, min(1.0, float(values.max())) + 0.03
    low, high = max(float(values[values > 0].min()), 1e-4), float(values.max())
    top = min(high, 1.2 * math.log(max(classes, 2)))
    top = top if top > low else max(low, high)
    pad = max(1.2, math.sqrt(5 * low / top))
    return low / pad, top * pad


def compose(
    draw: Callable[[Sequence[Axes]], object],
    title: str,
    caption: str,
    panels: int,
    columns: int,
    rows: int = 0,
) -> Figure:
    """A figure whose `panels` are filled by `draw`, an odd last one as wide as all; `columns` of 1
    is for narrow screens. The title stands above, the legend and the caption below, nothing over
    the data. With `rows` a panel is as high as so many lines of text need."""
    width, row_height, columns = (
        (9.0 if columns > 1 else 4.6),
        (2.4 if panels > 1 else 3.4),
        min(columns, panels),
    )
    row_height = 0.8 + 0.36 * rows if rows else row_height
    figure = Figure(layout="constrained")
    cells = [str(i) for i in range(panels)] + [str(panels - 1)] * (-panels % columns)
    mosaic: Any = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    axes = list(figure.subplot_mosaic(mosaic).values())
    draw(axes)
    legend = {
        name: handle
        for ax in axes
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    # So many letters of 12 and of 8 points go into an inch.
    head, foot = (
        textwrap.fill(title, int(9.7 * width - 2)),
        textwrap.fill(caption, int(16.6 * width - 3)),
    )
    above, below = 0.4 + 0.2 * head.count("\n"), 0.4 + 0.15 * foot.count("\n")
    per_row = 2 if width > 5 else 1
    keys = 0.2 * math.ceil(len(legend) / per_row)
    height = above + below + keys + len(mosaic) * row_height
    bottom = (below + keys) / height
    figure.set_size_inches(width, height)
    figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - bottom - above / height))  # type: ignore[union-attr, call-arg]
    figure.text(0.1 / width, 1 - 0.1 / height, head, fontsize=12, fontweight="bold", va="top")
    figure.text(0.1 / width, 0.1 / height, foot, fontsize=8, color="#444444", va="bottom")
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
    figure.set_layout_engine(None)  # it would be worked out again for each format
    for ax in axes:  # the layout's last digits differ from run to run
        ax.set_position([round(end, 5) for end in ax.get_position().bounds])
    if legend:
        place: dict[str, Any] = {
            "loc": "upper left",
            "bbox_to_anchor": (0.05 / width, bottom),
            "borderaxespad": 0,
        }
        figure.legend(legend.values(), legend, ncols=per_row, fontsize=8.5, frameon=False, **place)
    return figure


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


def _log(ax: Axes, axis: str, formatter: Any) -> None:
    """Make the axis logarithmic, labelled where it spans less than a decade too."""
    getattr(ax, f"set_{axis}scale")("log")
    low, high = getattr(ax, f"get_{axis}lim")()
    scaled = getattr(ax, f"{axis}axis")
    scaled.set_major_locator(
        LogLocator(subs=(1,) if axis == "x" and high > 50 * low else (1, 2, 5))
    )
    scaled.set_major_formatter(formatter)
    scaled.set_minor_locator(NullLocator())


def _draw_levels(
    axes: Sequence[Axes],
    curves: pd.DataFrame,
    quartiles: pd.DataFrame,
    styles: Mapping[str, Any],
    classes: int,
) -> Sequence[Axes]:
    """What `level_curves` says, each level in its style."""
    panels, many = _curve_panels(axes, curves, classes), curves["trial"].nunique() > MANY
    for level, style in styles.items():
        trials, found = curves[curves["level"] == level], quartiles[quartiles["level"] == level]
        breaks = np.flatnonzero(np.diff(trials["trial"])) + 1  # no line joins two trials
        bold: dict[str, Any] = {
            "lw": 2,
            "zorder": 4,
            "markevery": max(1, trials["epoch"].nunique() // 8),
            **style,
        }
        thin = {**bold, "label": "", "ls": "--", "lw": 1.2, "mfc": "white"}
        faint: dict[str, Any] = {"color": style["color"], "gid": f"trials {level}"}
        dots = "." if curves["epoch"].max() == 1 else ""
        for reading, ax in panels.items():
            rows = found[found["reading"] == reading]
            epoch, median, whole = rows["epoch"], rows["median"], rows["whole"]
            tail = ~whole | ~whole.shift(
                -1, fill_value=True
            )  # joined to the last epoch that is whole
            ax.plot(epoch[tail], median[tail], gid=f"{level} survivors", **thin)
            ax.plot(epoch[whole], median[whole], gid=f"{level} whole", **bold)
            if not many:
                across, up = (
                    np.insert(trials[name].to_numpy(float), breaks, np.nan)
                    for name in ("epoch", reading)
                )
                ax.plot(across, up, lw=0.8, alpha=0.6, ms=3, marker=dots, **faint)
            elif len(breaks):
                ax.fill_between(
                    epoch, rows["lower"], rows["upper"], alpha=0.25, lw=0, zorder=0.5, **faint
                )
                ax.set_rasterization_zorder(1)  # all bands as one picture
        axes[4].plot(epoch, rows["n"], gid=f"n {level}", **{**bold, "label": "", "ms": 4})
    if not many:
        colors = (
            curves["level"]
            .astype("str")
            .map({level: style["color"] for level, style in styles.items()})
        )
        _draw_ends(panels, curves.assign(color=colors))
    axes[4].set_ylim(bottom=0)
    survivors = "median of survivors only (not all got there)"
    axes[0].plot([], [], "--", color=DARK, marker="o", mfc="white", lw=1.2, label=survivors)
    return axes


def _curve_panels(axes: Sequence[Axes], curves: pd.DataFrame, classes: int) -> dict[str, Axes]:
    """Dress four Axes for the curves and the fifth for counts; gives the four by what they show."""
    panels = dict(zip(READINGS, axes, strict=False))
    last = curves["epoch"].max() if len(curves) else 1
    pad = 0.5 if last == 1 else min(0.5, 0.04 * last)
    for reading, ax in panels.items():
        part, quantity = reading.split("_")
        loss = quantity == "loss"
        title = f"{part.replace('train', 'training').capitalize()} {quantity} ({'nats' if loss else '%'})"
        _dress(ax, title, "epoch", "" if loss else "y")
        if loss:
            _log(ax, "y", "{x:g}")
        values = pd.concat([curves[f"train_{quantity}"], curves[f"validation_{quantity}"]])
        if values.max() > 0:
            ax.set_ylim(axis_limits(values, quantity, classes))
    _dress(axes[4], "Trials read at the epoch (n)", "epoch")
    for ax in axes:
        ax.set_xlim(1 - pad, last + pad)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes[4].yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    return panels


def _draw_ends(panels: Mapping[str, Axes], curves: pd.DataFrame) -> None:
    """Mark where trials ended that are not complete; a value that is not finite, at the bad end of
    the axis."""
    last = curves["epoch"] == curves.groupby("trial")["epoch"].transform("max")
    ends = curves[last & (curves["state"] != "complete")]
    for reading, ax in panels.items():
        low, high = ax.get_ylim()
        heights = ends[reading].fillna(high if reading.endswith("loss") else low).clip(low, high)
        _mark_states(ax, ends["epoch"], heights, ends["state"], ends["color"])


def _mark_states(ax: Axes, x: pd.Series, y: pd.Series, state: pd.Series, color: pd.Series) -> None:
    """A mark by state at each point, with its count in the legend."""
    for name, marker in STATES.items():
        here = (state == name) & y.notna()
        if here.any():
            style: dict[str, Any] = {
                "marker": marker,
                "s": 30,
                "lw": 1.3,
                "clip_on": False,
                "zorder": 5,
            }
            dense = {"s": 4, "alpha": 0.3, "rasterized": True} if len(x) > 10 * MANY else {}
            ax.scatter(x[here], y[here], c=color[here], gid=name, **{**style, **dense})
            ax.scatter([], [], c=DARK, label=f"{name} ({here.sum()})", **style)
