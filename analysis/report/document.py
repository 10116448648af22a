"""How a page is written: sections and tables as markup in one file, and figures beside it."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
import matplotlib as mpl
import pandas as pd

from analysis.report import panels
from analysis.report.layout import CURVE_HEIGHTS, Draw, compose
from analysis.report.processes import map_on_cores
from analysis.report.wording import captions
from analysis.report.wording.values import readable
from trainables.config import UsageError

MOST_BYTES = 200_000
"""Of a file that is in the page itself."""
NUMBER = r"[-+–\d.,%e]*( M)?"


class Listing(NamedTuple):
    """A table on the page: its title, headers, which columns are numbers, and rows of text."""

    title: str
    headers: list[str]
    numeric: list[bool]
    rows: list[tuple[str, ...]]


class Cell(NamedTuple):
    """A cell of the confusion matrix: images, and their share of the true class."""

    images: int
    share: float


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: of its files.
        finding: what it shows.
        caption: how to read it.
        scope: what its numbers rest on; the page has that once, each figure's files beside it.
        draw: what draws its figure, if it has one.
        heights: of the panels that this fills, inches.
        tables: by title.
        matrix: images by true and predicted class.
        sheet: address of a picture of the first rows of its table.
        heading: where that is not `captions.heading` of the name.
        tab: whether it is one of the views by factor.
        hidden: why it is not shown, unless asked for.
    """

    name: str
    finding: str
    caption: str = ""
    scope: str = ""
    draw: Draw | None = None
    heights: Sequence[float] = CURVE_HEIGHTS
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    matrix: pd.DataFrame | None = None
    sheet: str = ""
    heading: str = ""
    tab: bool = False
    hidden: str = ""


def write_page(folder: Path, parts: Iterable[Section], page: Mapping[str, Any]) -> Path:
    """Write `index.html` of these sections, with what else `page` holds for the template, and their
    figures as `figures/*.{png,svg}` into the folder; gives the page's path.

    Raises:
        UsageError: the folder cannot be made.
    """
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"out: invalid value {folder}: expected a directory that can be made ({error.strerror})"
        ) from None
    shown = list(parts)
    drawn = [part for part in shown if part.draw]
    written = map_on_cores(partial(_write_figure, folder / "figures"), drawn)
    drawings = {part.name: drawing for part, drawing in zip(drawn, written, strict=True)}
    markup = [panel.markup for drawing in drawings.values() for panel in drawing.panels]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {"captions": captions, "listing": listing, "matrix": _matrix}
    text = environment.get_template("template.html.jinja").render(
        sections=shown,
        drawings=drawings,
        colors=panels.dark_colors({"#000000", "#ffffff", *panels.colors_of(markup)}),
        **page,
    )
    return replace_text(folder / "index.html", text)


def replace_text(path: Path, text: str) -> Path:
    """Write a file, so that it is there complete or not at all; gives its path."""
    # A study that is over and whoever watches it may write its page at once.
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    return temporary.replace(path)


def _write_figure(folder: Path, part: Section) -> panels.Drawing:
    """Write a section's figure; gives it for the page."""
    assert part.draw
    with mpl.rc_context(panels.STYLE):
        caption = f"{part.caption} {part.scope}"
        composed = compose(part.draw, part.finding, caption, part.heights)
        drawing = panels.draw(composed, part.name)
    (folder / f"{part.name}.svg").write_bytes(drawing.svg)
    (folder / f"{part.name}.png").write_bytes(drawing.png)
    return drawing


def listing(title: str, table: pd.DataFrame) -> Listing:
    """A table as text for the page."""
    text = readable(table)
    numeric = [all(re.fullmatch(NUMBER, cell) for cell in text[name]) for name in text]
    rows = list(text.itertuples(index=False, name=None))
    return Listing(title, list(map(str, text)), numeric, rows)


def _matrix(confusion: pd.DataFrame) -> dict[str, list[Cell]]:
    """The rows of the heat map by true class."""
    shares = confusion.div(confusion.sum(axis=1).clip(lower=1), axis=0)
    return {
        str(name): list(map(Cell, confusion.loc[name], shares.loc[name].round(3)))
        for name in confusion.index
    }


def address(text: str) -> str:
    """The address of a text that is in the page itself."""
    return f"data:text/plain;charset=utf-8,{quote(text)}"
