"""The figures of the confirm stage; like all of `analysis.report.figures`, each fills the Axes that it is
given."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.report.figures import DARK, FAINT, LINES, MARKERS, OKABE_ITO, _dress, _log
from analysis.statistics.arms import ConfirmStage
from analysis.statistics.confirm import ArmSummary, Effect, Verdict

PANELS: Mapping[str, str] = {
    "train_loss": "Training loss (nats)",
    "test_loss": "Test loss (nats)",
    "train_accuracy": "Training accuracy (%)",
    "test_accuracy": "Test accuracy (%)",
}
COLORS: Mapping[Verdict, str] = {
    Verdict.MATTERS: OKABE_ITO[1],
    Verdict.EQUIVALENT: OKABE_ITO[2],
    Verdict.INCONCLUSIVE: DARK,
}


def arm_points(
    axes: Sequence[Axes], rows: Sequence[ArmSummary], names: Sequence[str], title: str
) -> Sequence[Axes]:
    """Each arm's seeds as points, and its mean with its interval, where it has one."""
    ax = axes[0]
    style: dict[str, Any] = {
        "color": OKABE_ITO[0],
        "ecolor": "black",
        "capsize": 4,
        "ms": 7,
        "zorder": 3,
    }
    for place, row in enumerate(rows[::-1]):
        ax.plot(row.values, [place] * len(row.values), "o", color=FAINT, ms=5, gid="seed")
        spread = [[row.mean - row.interval.low], [row.interval.high - row.mean]]
        ax.errorbar([row.mean], [place], xerr=spread, fmt="D", gid="mean", **style)
    _rows(ax, names[::-1])
    _dress(ax, "", title, "x")  # below, where it fits beside long labels
    return axes


def effect_bars(
    axes: Sequence[Axes], effects: Sequence[Effect], names: Sequence[str], margin: float, title: str
) -> Sequence[Axes]:
    """Each effect with its interval (thin) and the one on these test images (thick), in the colour
    of its verdict, beside the band of what is too little to matter."""
    ax = axes[0]
    ax.axvspan(-margin, margin, color="#e8e8e8", lw=0, label=f"the margin (±{100 * margin:g})")
    for place, effect in enumerate(effects[::-1]):
        value, color = effect.estimate, COLORS[effect.verdict]
        wide, narrow = value.interval, value.interval_on_images
        if value.images:
            ax.plot(
                narrow.ends,
                [place] * 2,
                color=color,
                lw=5,
                alpha=0.4,
                solid_capstyle="butt",
                gid="on images",
            )
        spread = [[value.difference - wide.low], [wide.high - value.difference]]
        style: dict[str, Any] = {"color": color, "capsize": 4, "ms": 7, "zorder": 3}
        ax.errorbar(
            [value.difference], [place], xerr=spread, fmt="D", gid=str(effect.verdict), **style
        )
    for verdict, color in COLORS.items():
        if any(effect.verdict is verdict for effect in effects):
            ax.plot([], [], "D", color=color, label=verdict)
    ax.axvline(0, color="black", lw=1)
    _rows(ax, names[::-1])
    _dress(ax, "", title, "x")
    return axes


def effect_curves(
    axes: Sequence[Axes], table: pd.DataFrame, names: Sequence[str], margin: float
) -> Sequence[Axes]:
    """Each effect of `effects_by_epoch` on an Axes of its own, with its interval and the margin."""
    groups = table.groupby(["factor", "from", "to"], sort=False)
    for ax, name, (_, rows) in zip(axes, names, groups, strict=False):
        ax.axhspan(-margin, margin, color="#e8e8e8", lw=0)
        ax.axhline(0, color="black", lw=1)
        ax.fill_between(
            rows["epoch"], rows["low"], rows["high"], color=OKABE_ITO[0], alpha=0.25, lw=0
        )
        ax.plot(rows["epoch"], rows["difference"], color=OKABE_ITO[0], marker="o", ms=4, gid=name)
        # Of the first epochs the intervals are wide; the scale is that of the second half.
        last = rows[rows["epoch"] > rows["epoch"].max() / 2]
        reach = max(
            2 * margin, 1.2 * float(last[["difference", "low", "high"]].abs().max(axis=None))
        )
        ax.set_ylim(-reach, reach)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        _dress(ax, name, "epoch", "y")
    return axes


def seed_curves(
    axes: Sequence[Axes], stage: ConfirmStage, names: Sequence[str], bold: Sequence[int]
) -> Sequence[Axes]:
    """The four readings by epoch: a faint line for each seed, and a bold one in a colour of its own
    for the mean over complete trials of each arm whose place is in `bold`, at most six."""
    for ax, (reading, title) in zip(axes, PANELS.items(), strict=True):
        table = stage.readings[reading]
        epochs = np.arange(1, table.shape[2] + 1)
        for number, name in enumerate(names):
            place = list(bold).index(number) if number in bold else None
            color = FAINT if place is None else OKABE_ITO[place % 6]
            for values in table[number][stage.states[number] != ""]:
                ax.plot(epochs, values, color=color, lw=0.8, alpha=0.5)
            complete = table[number][stage.states[number] == "complete"]
            if place is not None and len(complete):
                style: dict[str, Any] = {
                    "ls": ("-", *LINES)[place % 4],
                    "marker": MARKERS[place % 7],
                    "lw": 2,
                }
                style |= {"label": name, "gid": name, "markevery": max(1, len(epochs) // 8)}
                ax.plot(epochs, complete.mean(axis=0), color=color, **style)
        if reading.endswith("loss"):
            _log(ax, "y", "{x:g}")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        _dress(ax, title, "epoch", "" if reading.endswith("loss") else "y")
    return axes


def _rows(ax: Axes, labels: Sequence[str]) -> None:
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(-0.6, len(labels) - 0.4)
