"""The figures of the confirm stage; like all of `analysis.plots`, each fills the Axes that it is given."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.plots import DARK, FAINT, LINES, MARKERS, OKABE_ITO, _dress, _log

PANELS: Mapping[str, str] = {
    "train_loss": "Training loss (nats)",
    "test_loss": "Test loss (nats)",
    "train_accuracy": "Training accuracy (%)",
    "test_accuracy": "Test accuracy (%)",
}


def arm_points(axes: Sequence[Axes], seeds: pd.DataFrame, means: pd.DataFrame, title: str) -> Sequence[Axes]:
    """Each arm's seeds as points, and its mean (of `arm_means`) with its interval."""
    ax, rows = axes[0], means.set_index("label").loc[seeds.index[::-1]]
    for place, label in enumerate(rows.index):
        ax.plot(seeds.loc[label], [place] * seeds.shape[1], "o", color=FAINT, ms=5, gid="seed")
    spread = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
    style: dict[str, Any] = {"color": OKABE_ITO[0], "ecolor": "black", "capsize": 4, "ms": 7, "zorder": 3}
    ax.errorbar(rows["mean"], range(len(rows)), xerr=spread, fmt="D", gid="mean", **style)
    _rows(ax, [str(label) for label in rows.index])
    _dress(ax, "", title, "x")  # below, where it fits beside long labels
    return axes


def effect_bars(axes: Sequence[Axes], contrasts: pd.DataFrame, labels: Sequence[str], title: str) -> Sequence[Axes]:
    """Differences (of `contrasts`) with their intervals beside zero: full where they are told, else open."""
    ax, rows = axes[0], contrasts.iloc[::-1].reset_index(drop=True)
    for place, row in enumerate(rows.to_dict("records")):
        color = OKABE_ITO[1] if row["tells"] else DARK
        spread = [[row["difference"] - row["low"]], [row["high"] - row["difference"]]]
        style: dict[str, Any] = {"color": color, "mfc": color if row["tells"] else "white", "capsize": 4, "ms": 7}
        ax.errorbar([row["difference"]], [place], xerr=spread, fmt="D", gid="told" if row["tells"] else "open", **style)
    ax.axvline(0, color="black", lw=1)
    _rows(ax, labels[::-1])
    _dress(ax, "", title, "x")
    return axes


def seed_curves(axes: Sequence[Axes], curves: pd.DataFrame, labels: Sequence[str]) -> Sequence[Axes]:
    """The four readings of `confirm_curves` by epoch: a faint line a seed, the mean over complete trials bold in the
    colour of its arm for those in `labels`, at most six."""
    last = int(curves["epoch"].max())
    for ax, (reading, title) in zip(axes, PANELS.items(), strict=True):
        for label, trials in curves.groupby("label", sort=False):
            place = list(labels).index(str(label)) if label in labels else None
            color = FAINT if place is None else OKABE_ITO[place % 6]
            for _, rows in trials.groupby("trial"):
                ax.plot(rows["epoch"], rows[reading], color=color, lw=0.8, alpha=0.5)
            if place is not None:
                mean = trials[trials["state"] == "complete"].groupby("epoch")[reading].mean()
                style: dict[str, Any] = {"ls": ("-", *LINES)[place % 4], "marker": MARKERS[place % 7], "lw": 2}
                style |= {"label": str(label), "gid": str(label), "markevery": max(1, last // 8)}
                ax.plot(mean.index, mean, color=color, **style)
        if reading.endswith("loss"):
            _log(ax, "y", "{x:g}")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        _dress(ax, title, "epoch", "" if reading.endswith("loss") else "y")
    return axes


def _rows(ax: Axes, labels: Sequence[str]) -> None:
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(-0.6, len(labels) - 0.4)
