"""The figures of the confirm stage; as in `figures`, each function fills the Axes that it is
given."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.report.axes import (
    DARK,
    FAINT,
    LINES,
    MARKERS,
    OKABE_ITO,
    dress,
    dress_reading,
    label_rows,
    mark_epochs,
    series,
)
from analysis.report.wording import captions, confirm_text
from analysis.report.wording.values import arm_name, change_text
from analysis.statistics.arms import Arm, ConfirmStage
from analysis.statistics.confirm import ArmSummary, Effect, Verdict
from analysis.statistics.contrasts import Change
from trainables.vocabulary import Outcome, TrialStatus

PANELS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
COLORS: Mapping[Verdict, str] = {
    Verdict.MATTERS: OKABE_ITO[1],
    Verdict.EQUIVALENT: OKABE_ITO[2],
    Verdict.INCONCLUSIVE: DARK,
}
MARGIN_COLOR = "#e8e8e8"


def arm_points(
    axes: Sequence[Axes], rows: Sequence[ArmSummary], outcome: Outcome
) -> Sequence[Axes]:
    """Each arm's seeds as points, and its mean with its interval, where it has one."""
    (ax,) = axes
    look: dict[str, Any] = {"color": OKABE_ITO[0], "ecolor": "black"}
    look |= {"capsize": 4, "ms": 7, "zorder": 3}
    for place, row in enumerate(rows[::-1]):
        ax.plot(
            row.values, [place] * len(row.values), "o", color=FAINT, ms=5, gid=series("seed", "")
        )
        spread = [[row.mean - row.interval.low], [row.interval.high - row.mean]]
        ax.errorbar([row.mean], [place], xerr=spread, fmt="D", gid=series("mean", ""), **look)
    label_rows(ax, [arm_name(row.arm) for row in rows[::-1]])
    dress(ax, "", confirm_text.arms_axis(outcome), "x")  # below, where it fits beside long labels
    return axes


def effect_bars(
    axes: Sequence[Axes], effects: Sequence[Effect], margin: float, outcome: Outcome
) -> Sequence[Axes]:
    """Each effect with its interval (thin) and the one on these test images (thick), in the colour
    of its verdict, beside the band of what is too little to matter."""
    (ax,) = axes
    ax.axvspan(
        -margin, margin, color=MARGIN_COLOR, lw=0, zorder=0, label=confirm_text.margin_label(margin)
    )
    for place, effect in enumerate(effects[::-1]):
        estimate = effect.estimate
        look: dict[str, Any] = {"color": COLORS[effect.verdict]}
        if estimate.images:
            thick = look | {"lw": 5, "alpha": 0.4, "solid_capstyle": "butt"}
            ends = estimate.interval_on_images.ends
            ax.plot(ends, [place] * 2, gid=series("images", effect.verdict), **thick)
        wide = estimate.interval
        spread = [[estimate.difference - wide.low], [wide.high - estimate.difference]]
        look |= {
            "fmt": "D",
            "capsize": 4,
            "ms": 7,
            "zorder": 3,
            "gid": series("effect", effect.verdict),
        }
        ax.errorbar([estimate.difference], [place], xerr=spread, **look)
    for verdict, color in COLORS.items():
        if any(effect.verdict is verdict for effect in effects):
            ax.plot([], [], "D", color=color, label=verdict, gid=series("key", verdict))
    ax.axvline(0, color="black", lw=1)
    label_rows(ax, [confirm_text.effect_label(effect, margin) for effect in effects[::-1]])
    dress(ax, "", confirm_text.effects_axis(outcome), "x")
    return axes


def effect_curves(axes: Sequence[Axes], table: pd.DataFrame, margin: float) -> Sequence[Axes]:
    """Each effect of `effects_by_epoch` on an Axes of its own, with its interval and the margin."""
    groups = table.groupby(["factor", "from", "to"], sort=False)
    for ax, (_, rows) in zip(axes, groups, strict=False):
        # Not by the group's key: there a 1 of one factor and a True of another are the same.
        first = rows.iloc[0]
        name = change_text(Change(first["factor"], first["from"], first["to"]))
        epoch = rows["epoch"]
        ax.axhspan(-margin, margin, color=MARGIN_COLOR, lw=0)
        ax.axhline(0, color="black", lw=1)
        ax.fill_between(epoch, rows["low"], rows["high"], color=OKABE_ITO[0], alpha=0.25, lw=0)
        ax.plot(
            epoch,
            rows["difference"],
            color=OKABE_ITO[0],
            marker="o",
            ms=4,
            gid=series("effect", name),
        )
        # Of the first epochs the intervals are wide; the scale is that of the second half.
        last = rows.loc[epoch > epoch.max() / 2, ["difference", "low", "high"]]
        reach = max(2 * margin, 1.2 * float(last.abs().max(axis=None)))
        ax.set_ylim(-reach, reach)
        mark_epochs(ax)
        dress(ax, name, captions.EPOCH, "y")
    return axes


def seed_curves(axes: Sequence[Axes], stage: ConfirmStage, bold: Sequence[Arm]) -> Sequence[Axes]:
    """The four readings by epoch: a faint line for each seed, and a bold one in a colour of its own
    for the mean over complete trials of each arm in `bold`, at most six."""
    for ax, reading in zip(axes, PANELS, strict=True):
        table = stage.readings[reading]
        epochs = np.arange(1, table.shape[2] + 1)
        for values, states, arm in zip(table, stage.states, stage.arms, strict=True):
            place = bold.index(arm) if arm in bold else None
            color = FAINT if place is None else OKABE_ITO[place % 6]
            name = arm_name(arm)
            for seed in values[states != ""]:
                ax.plot(epochs, seed, color=color, lw=0.8, alpha=0.5, gid=series("seed", name))
            complete = values[states == TrialStatus.COMPLETE]
            if place is not None and len(complete):
                look: dict[str, Any] = {"color": color, "lw": 2, "label": name}
                look["gid"] = series("mean", name)
                look |= {"ls": ("-", *LINES)[place % 4], "marker": MARKERS[place % 7]}
                look["markevery"] = max(1, len(epochs) // 8)
                ax.plot(epochs, complete.mean(axis=0), **look)
        dress_reading(ax, reading)
    return axes
