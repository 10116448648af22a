"""Composed figures as files, and their panels as SVG for the page, where the colours are variables
and what is drawn says to which entry of the legend and to which trials it belongs."""

import colorsys
import io
import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path

from analysis.report.layout import Box, Composed

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text,
    "text.parse_math": False,  # a `$` in a name too
    "svg.hashsalt": "resnet-study",  # the same study gives the same bytes
    "font.sans-serif": ["DejaVu Sans"],  # else every text in an SVG lists a dozen fonts
    "path.simplify": False,  # the script reads values from the corners of lines
}
DASHES = {"--": "5 3", "-.": "6 2 1 2", ":": "1.5 2"}
BAR = "M-9,-4H9V4H-9Z"
"""The mark of an area, or of a bar."""
TAG = re.compile(r"<[^>]+>")


class Key(NamedTuple):
    """An entry of a legend: its text, which series it stands for, and its look (`marker` is a path
    around the origin)."""

    label: str
    series: str
    color: str
    dash: str | None
    marker: str
    filled: bool


class Panel(NamedTuple):
    """A panel as markup, its place in the figure as a viewBox, what its axes show, and its name."""

    markup: Markup
    view: str
    axes: str
    title: str


class Drawing(NamedTuple):
    """A figure as files and as parts of the page."""

    svg: bytes
    png: bytes
    panels: list[Panel]
    keys: list[Key]


def draw(composed: Composed, name: str) -> Drawing:
    """Draw a figure once for each format, and cut the panels from its SVG. Ids begin with `name`,
    so that they are unique on the page."""
    svg = _image(composed.figure, "svg")
    text = svg.decode()
    drawn = re.findall(r"^  <g id=\"axes_\d+\">$(.*?)^  </g>$", text, re.DOTALL | re.MULTILINE)
    # The regions that lines are cut to are defined at the end, once for all panels.
    drawn[0] += "".join(re.findall(r"^ <defs>.*?^ </defs>$", text, re.DOTALL | re.MULTILINE)[-1:])
    panels = [
        Panel(_inline(part, name), _view(box), _scales(ax), ax.get_title(loc="left"))
        for part, box, ax in zip(drawn, composed.boxes, composed.figure.axes, strict=True)
    ]
    keys = [_key(label, handle) for label, handle in composed.legend.items()]
    return Drawing(svg, _image(composed.figure, "png"), panels, keys)


def _image(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "png":
        # 7% larger than at the usual level; writing takes 10% less time.
        figure.savefig(buffer, format=kind, dpi=150, pil_kwargs={"compress_level": 3})
        return buffer.getvalue()
    # Only what is dense is a picture, at this resolution.
    figure.savefig(buffer, format=kind, dpi=60, metadata={"Date": None})
    # A hundredth of a point is fine enough, and a third of the size is digits. (In tags alone: text
    # stays as it is.)
    return re.sub(
        rb"<[^>]+>", lambda tag: re.sub(rb"(\.\d\d)\d+", rb"\1", tag[0]), buffer.getvalue()
    )


def _view(box: Box) -> str:
    return " ".join(f"{72 * side:.1f}" for side in box)


def _scales(ax: Axes) -> str:
    """What the script needs to read values: of both axes name, scale, limits and where these are,
    points from the left and upper edge of the figure."""
    width, height = (72 * size for size in ax.get_figure().get_size_inches())  # type: ignore[union-attr]
    left, low, right, high = ax.get_position().extents
    places = {"x": (left * width, right * width), "y": ((1 - low) * height, (1 - high) * height)}
    limits = {"x": ax.get_xlim(), "y": ax.get_ylim()}
    scales = {"x": ax.get_xscale(), "y": ax.get_yscale()}
    names = {"x": ax.get_xlabel(), "y": ax.get_title(loc="left")}
    return json.dumps(
        {
            axis: [names[axis], scales[axis], *map(float, limits[axis]), *map(float, places[axis])]
            for axis in ("x", "y")
        }
    )


def _inline(svg: str, name: str) -> Markup:
    """Markup of matplotlib for the page. Names in it are escaped, as matplotlib wrote them."""
    return Markup(TAG.sub(lambda tag: _tag(tag[0], name), re.sub(r"<!--.*?-->|\n *", "", svg)))


def _tag(tag: str, name: str) -> str:
    if tag.startswith("<g id="):
        return _group(tag)
    if tag.startswith("<text"):
        tag = tag.replace("'DejaVu Sans'", "sans-serif")
    tag = re.sub(r"(?<![\w(])#([0-9a-f]{6})\b", r"var(--c\1)", tag)
    tag = re.sub(r" id=\"(\w+)\"", rf' id="{name}-\1"', tag)
    tag = re.sub(r"url\(#(\w+)\)", rf"url(#{name}-\1)", tag)
    return re.sub(r"xlink:href=\"#(\w+)\"", rf'href="#{name}-\1"', tag)


def _group(tag: str) -> str:
    """The start of a group, with what `axes.series` says."""
    kind, line, series = tag.removeprefix('<g id="').removesuffix('">').partition("|")
    if not line:
        return "<g>"
    series, _, trials = series.rpartition("|")
    numbers = f' data-trials="{trials}"' if trials else ""
    return f'<g data-kind="{kind}" data-series="{series}"{numbers}>'


def _key(label: str, handle: Artist) -> Key:
    _, _, series = str(handle.get_gid() or "").partition("|")
    name = series.rpartition("|")[0]
    if isinstance(handle, Line2D):
        style = MarkerStyle(handle.get_marker())
        shape = style.get_path().transformed(style.get_transform())
        color = _hex(handle.get_color())
        line = handle.get_linestyle()
        dash = None if line == "None" else DASHES.get(str(line), "none")
        filled = style.is_filled() and _hex(handle.get_markerfacecolor()) == color
        return Key(label, name, color, dash, _outline(shape), filled)
    if isinstance(handle, PathCollection):
        shape = handle.get_paths()[0]
        filled = len(handle.get_facecolor()) > 0
        colors: Any = handle.get_facecolor() if filled else handle.get_edgecolor()
        color = _hex(colors[0])
        return Key(label, name, color, None, _outline(shape), filled)
    if isinstance(handle, LineCollection):
        return Key(label, name, _hex(np.atleast_2d(handle.get_color())[0]), None, BAR, True)
    color = _hex(getattr(handle, "get_facecolor", lambda: "black")())
    return Key(label, name, color, None, BAR, True)


def _hex(color: Any) -> str:
    """A colour in any of matplotlib's forms as #rrggbb."""
    return to_hex(color)


def _outline(path: Path) -> str:
    """A marker as the data of an SVG path, about 8 units wide."""
    lines: Any = path.to_polygons(closed_only=False)
    corners = ([f"{8 * x:.1f},{-8 * y:.1f}" for x, y in line] for line in lines)
    return "".join("M" + "L".join(line) for line in corners)


def dark_colors(colors: Iterable[str]) -> dict[str, str]:
    """For colours on white the ones on black: greys are turned round, others are lightened."""
    return {color: _dark(color) for color in sorted(set(colors))}


def _dark(color: str) -> str:
    hue, lightness, saturation = colorsys.rgb_to_hls(*mpl.colors.to_rgb(color))
    light = 0.93 - 0.84 * lightness if saturation < 0.05 else 0.5 + 0.35 * lightness
    return to_hex(colorsys.hls_to_rgb(hue, light, saturation))


def colors_of(texts: Iterable[str]) -> set[str]:
    """The colours that markup of panels refers to."""
    return {f"#{code}" for text in texts for code in re.findall(r"var\(--c(\w{6})\)", text)}
