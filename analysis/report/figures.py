"""The figures of the search stage and of what the study cost: tidy tables in, Axes out. Each
function fills the Axes that it is given and gives them back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import EngFormatter, MaxNLocator

from analysis.report.axes import (
    DARK,
    FAINT,
    LINES,
    MANY,
    MARKERS,
    OKABE_ITO,
    axis_limits,
    dress,
    dress_reading,
    level_palette,
    make_log,
    mark_epochs,
    series,
)
from analysis.report.layout import HEIGHT
from analysis.report.wording import captions, search_text
from analysis.report.wording.values import spoken
from analysis.statistics import curves
from analysis.statistics.cost import COSTS, pareto
from analysis.statistics.curves import READINGS, is_baseline
from analysis.statistics.search import SCORE
from trainables.vocabulary import TrialStatus

STATES: Mapping[TrialStatus, str] = {
    TrialStatus.COMPLETE: "o",
    TrialStatus.STOPPED: "d",
    TrialStatus.DIVERGED: "x",
    TrialStatus.FAILED: "+",
    TrialStatus.RUNNING: ">",
}
"""The marker of a trial in each state, in curves at its last reading."""
TIMELINE = HEIGHT - 1.0  # of its axes, inches


@dataclass(frozen=True)
class LevelStyle:
    """How the curves of a level look."""

    color: str
    marker: str
    label: str = ""
    line: str = "-"
    marker_size: float = 6.0


class CurvePanels(NamedTuple):
    """The Axes of learning curves: one for each reading, and one for the number of trials."""

    readings: Mapping[str, Axes]
    counts: Axes


def comparative_curves(
    axes: Sequence[Axes], readings: pd.DataFrame, labels: Mapping[str, str], classes: int
) -> Sequence[Axes]:
    """Draw `readings` (of `learning_curves`) as below, each role in `labels` (role → legend text)
    as a level of one trial, and all other trials as one level more, in grey."""
    levels = readings[["trial", "role"]].drop_duplicates()
    level = levels["role"].astype("str").where(levels["role"].isin(labels), curves.OTHER)
    levels = levels[["trial"]].assign(level=pd.Categorical(level, [*labels, curves.OTHER]))
    others = search_text.others_label((level == curves.OTHER).sum())
    named = {**labels, curves.OTHER: others}
    styles = {role: _role_style(role, text, labels) for role, text in named.items()}
    shown = {role: style for role, style in styles.items() if (level == role).any()}
    quartiles = curves.level_curves(readings, levels)
    return _draw_levels(axes, readings.merge(levels, on="trial"), quartiles, shown, classes)


def _role_style(role: str, label: str, roles: Mapping[str, str]) -> LevelStyle:
    if role == curves.WINNER:
        return LevelStyle("black", "*", label, marker_size=10)
    if role == curves.OTHER:
        return LevelStyle(FAINT, ".", label)
    number = [name for name in roles if name != curves.WINNER].index(role)
    return LevelStyle(OKABE_ITO[number % 6], MARKERS[number % 7], label, LINES[number % 3])


def level_curves(
    axes: Sequence[Axes],
    readings: pd.DataFrame,
    levels: pd.DataFrame,
    quartiles: pd.DataFrame,
    classes: int,
) -> Sequence[Axes]:
    """Draw every trial faintly in the colour of its level (or of many the middle half) and the
    levels' medians boldly: solid with filled markers while all of the level's trials are there,
    dashed with hollow markers for survivors only; on the fifth Axes how many of each level were
    read at each epoch. The loss axes end a little above the loss of guessing one of `classes`."""
    last = int(quartiles["epoch"].max()) if len(quartiles) else 0
    ends = quartiles[(quartiles["epoch"] == last) & (quartiles["reading"] == SCORE)]
    trials = levels["level"].value_counts()
    read = ends.set_index("level")["n"]
    palette = level_palette(list(levels["level"].cat.categories))
    styles = {
        level: LevelStyle(
            color,
            MARKERS[number % 7],
            search_text.level_legend(level, trials[level], last, read.get(level, 0)),
        )
        for number, (level, color) in enumerate(palette.items())
    }
    return _draw_levels(axes, readings.merge(levels, on="trial"), quartiles, styles, classes)


def factor_panels(
    axes: Sequence[Axes],
    readings: pd.DataFrame,
    levels: pd.DataFrame,
    quartiles: pd.DataFrame,
    classes: int,
    table: pd.DataFrame,
) -> Sequence[Axes]:
    """`level_curves`, and on a sixth Axes each trial's last reading by its learning rate."""
    *first, ax = axes
    level_curves(first, readings, levels, quartiles, classes)
    # Without a reading a trial is not drawn, and an axis without points cannot be logarithmic.
    rows = table.dropna(subset=SCORE).merge(levels, on="trial")
    palette = level_palette(list(levels["level"].cat.categories))
    for name, color in palette.items():
        here = rows[rows["level"] == name]
        dense = len(rows) > 10 * MANY
        gid = series("marks", name, () if dense else here["trial"])
        x, y = here["learning_rate"], here[SCORE]
        ax.scatter(x, y, s=20, c=color, gid=gid, rasterized=dense, clip_on=False)
    if len(rows):
        make_log(ax, "x", "{x:g}")
    dress(ax, captions.READINGS[SCORE], captions.LEARNING_RATE, "y")
    return axes


def rate_points(
    axes: Sequence[Axes], table: pd.DataFrame, factor: Mapping[str, Any]
) -> Sequence[Axes]:
    """Last reading against a factor with a range, in colour the arms with the best trials; diverged
    trials are on the axis, and the ends of the range are dashed."""
    (ax,) = axes
    arms = curves.arm_levels(table)
    varied = table[~is_baseline(table)]
    palette = level_palette(list(arms["level"].cat.categories), ordered=False)
    shown = arms.set_index("trial")["level"].astype("str")
    colors = varied["trial"].map(shown).map(palette).fillna(FAINT)
    floor = np.nanmin(varied[SCORE].to_numpy(), initial=1.0) - 0.03
    heights = varied[SCORE].where(varied["state"] != TrialStatus.DIVERGED, floor)
    for arm, color in palette.items():
        ax.plot([], [], "o", color=color, label=arm)
    _mark_states(ax, varied, varied[factor["name"]], heights, colors)
    for end in (factor["low"], factor["high"]):
        ax.axvline(end, color=DARK, ls="--", lw=0.8)
    if factor["scale"] == "log":
        make_log(ax, "x", "{x:g}")
    ax.set_ylim(bottom=floor)
    dress(ax, captions.READINGS[SCORE], spoken(factor["name"]), "y")
    return axes


def best_lines(axes: Sequence[Axes], tables: Mapping[str, pd.DataFrame]) -> Sequence[Axes]:
    """The best score so far (of `best_so_far`) of each study, by samples and by core-seconds."""
    for ax, column in zip(axes, ("samples", "core_seconds"), strict=True):
        for number, (name, rows) in enumerate(tables.items()):
            style: dict[str, Any] = {"color": OKABE_ITO[number % 6], "gid": series("study", name)}
            style["rasterized"] = len(rows) > 10 * MANY
            x = rows[column]
            ax.plot(x, rows["score"], MARKERS[number % 7], ms=4, alpha=0.5, **style)
            line = ("-", *LINES)[number % 4]
            ax.step(x, rows["best"], where="post", lw=2, ls=line, label=name, **style)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        dress(ax, captions.BEST_SO_FAR, captions.COSTS[column], "y")
    return axes


def timeline_bars(axes: Sequence[Axes], bars: pd.DataFrame) -> Sequence[Axes]:
    """Every epoch of `cost.timeline` as a bar in its slot, in the colour of its stage."""
    (ax,) = axes
    slots = int(bars["slot"].max()) + 1
    thick = min(14.0, 72 * TIMELINE / slots / 2)  # points
    for number, (stage, rows) in enumerate(bars.groupby("stage", observed=True)):
        lines = [
            [(start / 60, slot + 1), (end / 60, slot + 1)]
            for start, end, slot in zip(rows["start"], rows["end"], rows["slot"], strict=True)
        ]
        look: dict[str, Any] = {"color": OKABE_ITO[number], "lw": thick, "capstyle": "butt"}
        look["gid"] = series("trials", str(stage), rows["trial"])
        dense = len(bars) > 20 * MANY
        ax.add_collection(LineCollection(lines, label=str(stage), rasterized=dense, **look))
    ax.set_xlim(0, bars["end"].max() / 60)
    ax.set_ylim(0.5, slots + 0.5)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    dress(ax, captions.SLOTS, captions.MINUTES)
    return axes


def pareto_points(axes: Sequence[Axes], table: pd.DataFrame) -> Sequence[Axes]:
    """Score of the complete trials by each cost, the Pareto front joined, baselines in colour."""
    for ax, cost in zip(axes, COSTS, strict=True):
        rows = pareto(table, cost)
        front = rows[rows["front"]]
        dense = len(rows) > 10 * MANY
        label = captions.COMPLETE_TRIALS
        gid = series("marks", label, () if dense else rows["trial"])
        ax.scatter(rows[cost], rows[SCORE], s=16, c=FAINT, label=label, rasterized=dense, gid=gid)
        steps: dict[str, Any] = {"where": "post", "color": "black", "ms": 5}
        steps["gid"] = series("front", captions.PARETO_FRONT)
        ax.step(front[cost], front[SCORE], "o-", label=captions.PARETO_FRONT, **steps)
        baselines = rows[is_baseline(rows)].sort_values("trial")
        for number, row in enumerate(baselines.to_dict("records")):
            name = row["origin"].removeprefix(curves.BASELINE)
            style: dict[str, Any] = {"marker": MARKERS[1 + number % 6], "zorder": 3}
            style |= {"color": OKABE_ITO[number % 6], "gid": series("marks", name, [row["trial"]])}
            ax.scatter(row[cost], row[SCORE], s=50, label=name, **style)
        if len(rows):
            make_log(ax, "x", "{x:g}" if cost == "seconds_per_epoch" else EngFormatter(sep=""))
        dress(ax, captions.READINGS[SCORE], captions.COSTS[cost], "y")
    return axes


def _draw_levels(
    axes: Sequence[Axes],
    readings: pd.DataFrame,
    quartiles: pd.DataFrame,
    styles: Mapping[str, LevelStyle],
    classes: int,
) -> Sequence[Axes]:
    """What `level_curves` says, each level in its style."""
    panels = _curve_panels(axes, readings, classes)
    many = readings["trial"].nunique() > MANY
    for level, style in styles.items():
        trials = readings[readings["level"] == level]
        medians = quartiles[quartiles["level"] == level]
        several = trials["trial"].nunique() > 1
        spacing = max(1, trials["epoch"].nunique() // 8)
        for reading, ax in panels.readings.items():
            rows = medians[medians["reading"] == reading]
            _draw_medians(ax, rows, level, style, spacing)
            if not many:
                _draw_trials(ax, trials, reading, level, style.color)
            elif several:
                _draw_band(ax, rows, level, style.color)
        counts = medians[medians["reading"] == READINGS[-1]]
        line = _median_line(style, spacing) | {"label": "", "ms": 4}
        panels.counts.plot(counts["epoch"], counts["n"], gid=series("n", level), **line)
    if not many:
        colors = {level: style.color for level, style in styles.items()}
        colored = readings.assign(color=readings["level"].astype("str").map(colors))
        _draw_ends(panels.readings, colored)
    panels.counts.set_ylim(bottom=0)
    key: dict[str, Any] = {"color": DARK, "marker": "o", "mfc": "white", "lw": 1.2}
    axes[0].plot([], [], "--", label=captions.SURVIVORS, **key)
    return axes


def _median_line(style: LevelStyle, spacing: int) -> dict[str, Any]:
    """The line of a median, with a marker at every so many epochs."""
    look = {"color": style.color, "ls": style.line, "lw": 2, "zorder": 4, "label": style.label}
    return look | {"marker": style.marker, "ms": style.marker_size, "markevery": spacing}


def _draw_medians(
    ax: Axes, rows: pd.DataFrame, level: str, style: LevelStyle, spacing: int
) -> None:
    """A level's median: bold over all of its trials, thin and dashed over survivors only."""
    epoch, median, over_all = rows["epoch"], rows["median"], rows["over_all"]
    # Joined to the last epoch that is over all.
    survivors = ~over_all | ~over_all.shift(-1, fill_value=True)
    bold = _median_line(style, spacing)
    thin = bold | {"label": "", "ls": "--", "lw": 1.2, "mfc": "white"}
    ax.plot(epoch[survivors], median[survivors], gid=series("survivors", level), **thin)
    ax.plot(epoch[over_all], median[over_all], gid=series("all", level), **bold)


def _draw_trials(ax: Axes, trials: pd.DataFrame, reading: str, level: str, color: str) -> None:
    """Every trial as a faint line."""
    ends = np.flatnonzero(np.diff(trials["trial"])) + 1
    lines = np.split(trials[["epoch", reading]].to_numpy(float), ends)
    if not len(trials):
        return
    # One epoch is no line, but a dot.
    ends_look: dict[str, Any] = {"capstyle": "round", "lw": 3 if ax.get_xlim()[1] < 2 else 0.8}
    gid = series("trials", level, trials["trial"].unique())
    ax.add_collection(
        LineCollection(lines, color=color, alpha=0.6, gid=gid, **ends_look), autolim=False
    )


def _draw_band(ax: Axes, rows: pd.DataFrame, level: str, color: str) -> None:
    """The middle half of a level's trials."""
    look: dict[str, Any] = {"color": color, "alpha": 0.25, "lw": 0, "zorder": 0.5}
    gid = series("band", level)
    ax.fill_between(rows["epoch"], rows["lower"], rows["upper"], gid=gid, **look)


def _curve_panels(axes: Sequence[Axes], readings: pd.DataFrame, classes: int) -> CurvePanels:
    """Dress the Axes of learning curves."""
    panels = CurvePanels(dict(zip(READINGS, axes, strict=False)), axes[len(READINGS)])
    for reading, ax in panels.readings.items():
        dress_reading(ax, reading)
        quantity = reading.split("_")[1]
        values = pd.concat([readings[f"train_{quantity}"], readings[f"validation_{quantity}"]])
        if values.max() > 0:
            ax.set_ylim(axis_limits(values, quantity, classes))
    dress(panels.counts, captions.TRIAL_COUNTS, captions.EPOCH)
    panels.counts.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    last = readings["epoch"].max() if len(readings) else 1
    pad = 0.5 if last == 1 else min(0.5, 0.04 * last)
    for ax in axes:
        ax.set_xlim(1 - pad, last + pad)
        mark_epochs(ax)
    return panels


def _draw_ends(panels: Mapping[str, Axes], readings: pd.DataFrame) -> None:
    """Mark where trials ended that are not complete; a value that is not finite, at the bad end of
    the axis."""
    last = readings["epoch"] == readings.groupby("trial")["epoch"].transform("max")
    ends = readings[last & (readings["state"] != TrialStatus.COMPLETE)]
    for reading, ax in panels.items():
        low, high = ax.get_ylim()
        heights = ends[reading].fillna(high if reading.endswith("loss") else low).clip(low, high)
        _mark_states(ax, ends, ends["epoch"], heights, ends["color"])


def _mark_states(
    ax: Axes, trials: pd.DataFrame, x: pd.Series, y: pd.Series, color: pd.Series
) -> None:
    """A marker by state for each trial, with its count in the legend."""
    dense = len(x) > 10 * MANY
    state = trials["state"]
    for status, marker in STATES.items():
        here = (state == status) & y.notna()
        if here.any():
            look: dict[str, Any] = {"marker": marker, "lw": 1.3, "clip_on": False, "zorder": 5}
            size: dict[str, Any] = {"s": 30}
            if dense:
                size = {"s": 4, "alpha": 0.3, "rasterized": True}
            gid = series("marks", status, () if dense else trials.loc[here, "trial"])
            ax.scatter(x[here], y[here], c=color[here], gid=gid, **look, **size)
            label = search_text.status_legend(status, here.sum())
            ax.scatter([], [], s=30, c=DARK, label=label, gid=series("key", status), **look)
