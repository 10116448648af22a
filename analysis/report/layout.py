"""The figure around what is drawn: its panels, title, legend and caption."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Draw = Callable[[Sequence[Axes]], object]
PANEL, HEIGHT, STRIP = 4.5, 2.7, 1.35  # of a panel, and of a thin one, inches
CURVE_HEIGHTS = (HEIGHT, HEIGHT, HEIGHT, HEIGHT, STRIP)
COLUMNS = 2
LEFT, RIGHT, OVER, UNDER = 0.58, 0.14, 0.32, 0.5  # beside the axes of a panel, inches
ROW, LINE = 0.36, 0.18  # of a labelled row of a panel, without its label and by line, inches
MARGIN = 0.1  # inches
TITLE_SIZE, CAPTION_SIZE = 12, 8  # points
TITLE_LETTER, CAPTION_LETTER = 0.62, 0.542  # mean width of a letter (bold, plain), of its size


class Box(NamedTuple):
    """Where a panel is in its figure, inches from its left and upper edge."""

    left: float
    top: float
    width: float
    height: float


class Composed(NamedTuple):
    """A figure, the place of each of its panels, and its legend."""

    figure: Figure
    boxes: Sequence[Box]
    legend: Mapping[str, Artist]


def compose(draw: Draw, title: str, caption: str, heights: Sequence[float]) -> Composed:
    """A figure with a panel for each of `heights` (inches), filled by `draw`. The title is above,
    the legend and the caption below, nothing over the data. Margins are fixed: measuring every
    label takes as long as drawing them."""
    figure = Figure()
    axes = [figure.add_axes((0, 0, 1, 1), label=str(number)) for number in range(len(heights))]
    draw(axes)
    legend = _legend_entries(axes)
    columns = min(COLUMNS, len(heights))
    width = PANEL * columns
    head = _wrapped(title, width, TITLE_SIZE * TITLE_LETTER)
    foot = _wrapped(caption, width, CAPTION_SIZE * CAPTION_LETTER)
    # Heights in inches: a line of the title takes 0.2, of the caption 0.15, of the legend 0.2.
    above = 0.4 + 0.2 * head.count("\n")
    below = 0.4 + 0.15 * foot.count("\n") + 0.2 * math.ceil(len(legend) / columns)
    boxes = _boxes(heights, columns, above)
    height = max(box.top + box.height for box in boxes) + below
    figure.set_size_inches(width, height)
    for ax, box in zip(axes, boxes, strict=True):
        left, low = box.left + LEFT, height - box.top - box.height + UNDER
        size = (box.width - LEFT - RIGHT) / width, (box.height - OVER - UNDER) / height
        ax.set_position((left / width, low / height, *size))
    margin = MARGIN / width
    figure.text(margin, 1 - MARGIN / height, head, size=TITLE_SIZE, weight="bold", va="top")
    figure.text(margin, MARGIN / height, foot, size=CAPTION_SIZE, color="#444444", va="bottom")
    if legend:
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, below / height)}
        place |= {"borderaxespad": 0, "frameon": False, "ncols": columns}
        figure.legend(legend.values(), legend, fontsize=8.5, **place)
    return Composed(figure, boxes, legend)


def _boxes(heights: Sequence[float], columns: int, top: float) -> list[Box]:
    """Panels of these heights in rows from above, the first at `top`."""
    boxes = []
    for start in range(0, len(heights), columns):
        row = heights[start : start + columns]
        boxes += [Box(PANEL * place, top, PANEL, height) for place, height in enumerate(row)]
        top += max(row)
    return boxes


def row_height(rows: int, lines: int) -> float:
    """The height of a panel of rows with labels of so many lines, inches."""
    return OVER + UNDER + (ROW + LINE * lines) * rows


def _legend_entries(axes: Sequence[Axes]) -> dict[str, Artist]:
    """What the Axes have for a legend, once by name."""
    entries: dict[str, Artist] = {}
    for ax in axes:
        handles, names = ax.get_legend_handles_labels()
        entries |= dict(zip(names, handles, strict=True))
    return entries


def _wrapped(text: str, width: float, letter: float) -> str:
    """The text in lines for a figure of this width (inches) of letters of this width (points)."""
    return textwrap.fill(text, int((width - 2 * MARGIN) * 72 / letter))
