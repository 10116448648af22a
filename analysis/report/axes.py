"""What figures have in common: colours, markers, and how their axes are dressed.

Colours are Okabe and Ito's for what has no order and a cut viridis for what has; markers
distinguish them in grey.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from analysis.report.wording import captions

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("--", "-.", ":")
MARKERS = ("o", "s", "^", "v", "P", "p", "h")
FAINT, DARK = "#9a9a9a", "#555555"
MANY = 60
"""Above as many trials, curves give way to quartiles; above ten times as many points, a figure
holds a picture."""
TEXT_SIZE = 10  # points


def level_palette(levels: Sequence[str], ordered: bool = True) -> dict[str, str]:
    """A colour for each level: an ordered palette, or separate colours for two levels or what has
    no order."""
    if len(levels) < 3 or not ordered:
        return dict(zip(levels, OKABE_ITO, strict=False))
    shades = colormaps["viridis"](np.linspace(0, 0.85, len(levels)))
    return {level: to_hex(shade) for level, shade in zip(levels, shades, strict=True)}


def axis_limits(values: pd.Series, quantity: str, classes: int) -> tuple[float, float]:
    """From the values of all curves of a quantity, limits that one wild trial does not stretch."""
    if quantity == "accuracy":
        return float(values.min()) - 0.03, min(1.0, float(values.max())) + 0.03
    low = max(float(values[values > 0].min()), 1e-4)
    high = float(values.max())
    top = min(high, 1.2 * math.log(max(classes, 2)))
    top = top if top > low else max(low, high)
    pad = max(1.2, math.sqrt(5 * low / top))
    return low / pad, top * pad


def label_rows(ax: Axes, labels: Sequence[str]) -> None:
    """Label rows inside the axes, from below: above what is drawn at 0, 1, 2, ..., so that there is
    room for it on a narrow screen."""
    ax.set_yticks(np.arange(len(labels)) + 0.4, labels, ha="left", size=TEXT_SIZE)
    ax.tick_params(axis="y", length=0, pad=-4, labelsize=TEXT_SIZE)
    ax.grid(visible=False, axis="y")
    ax.set_ylim(-0.3, len(labels) - 0.3)


def series(kind: str, name: str, trials: Iterable[int] = ()) -> str:
    """The gid of what belongs to an entry of the legend: the page's script reads the name, and of
    which trials its parts are."""
    return f"{kind}|{name}|{' '.join(map(str, trials))}"


def dress(ax: Axes, title: str, label: str, percent: str = "") -> None:
    """Title, x label, ticks and grid; the axis `percent` shows fractions in percent."""
    ax.set_title(title, loc="left", fontsize=TEXT_SIZE, y=1.0, pad=6)  # else it is searched for
    ax.set_xlabel(label, fontsize=TEXT_SIZE)
    ax.tick_params(labelsize=TEXT_SIZE)
    ax.grid(color="#e6e6e6", lw=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if percent:
        getattr(ax, f"{percent}axis").set_major_formatter(PercentFormatter(1.0, symbol=""))


def dress_reading(ax: Axes, reading: str) -> None:
    """The Axes of a reading by epoch: losses on a logarithmic scale, accuracies in percent."""
    loss = reading.endswith("loss")
    dress(ax, captions.READINGS[reading], captions.EPOCH, "" if loss else "y")
    if loss:
        make_log(ax, "y", "{x:g}")
    mark_epochs(ax)


def mark_epochs(ax: Axes) -> None:
    """Ticks at epochs, which are integers."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def make_log(ax: Axes, axis: str, formatter: Any) -> None:
    """Make the axis logarithmic, labelled where it spans less than a decade too."""
    getattr(ax, f"set_{axis}scale")("log")
    low, high = getattr(ax, f"get_{axis}lim")()
    scaled = getattr(ax, f"{axis}axis")
    decades = axis == "x" and high > 50 * low
    locator = LogLocator(subs=(1,) if decades else (1, 2, 5))
    scaled.set_major_locator(locator if high > 1.5 * low else MaxNLocator(2))
    scaled.set_major_formatter(formatter)
    scaled.set_minor_locator(NullLocator())
