"""Writes the report: one self-contained page and its figures."""

import base64
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import curves as tidy
from analysis import plots
from analysis.load import Study
from analysis.summary import CAVEAT, cost, headline, percent, readable, scope
from trainables.config import UsageError

TRIAL_COLUMNS = (
    *("trial", "origin", "arm", "learning_rate", "state", "epochs", "validation_accuracy", "best_validation_accuracy"),
    *("validation_loss", "train_loss", "train_seconds", "parameters", "forward_flops", "error"),
)
# Text stays text (a `$` in a name too), and the same study gives the same bytes.
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "resnet-study", "text.parse_math": False}
EDGE = "A mark on the edge of a panel stands for a value beyond it."


@dataclass(frozen=True)
class Drawing:
    """A figure to be: its file's name, the page's heading above it, what fills its panels, the text around them."""

    name: str
    heading: str
    draw: Callable[[Sequence[Axes]], object]
    title: str
    caption: str


def write_report(study: Study, out: str | Path | None = None) -> Path:
    """Write `index.html` and `figures/*.{png,svg}` into `out` (default: the study's `report/`), replacing what
    was there; gives the page's path.

    Raises:
        UsageError: `out` cannot be made.
    """
    folder = study.path / "report" if out is None else Path(out)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"out: received {folder}, allowed: a directory that can be made ({error.strerror})") from None
    figures = []
    for drawing in drawings(study):
        with mpl.rc_context(STYLE):
            wide = plots.four_panels(drawing.draw, drawing.title, drawing.caption)
            narrow = plots.four_panels(drawing.draw, drawing.title, drawing.caption, columns=1)
            svg, png, small = (_image(wide, "svg"), _image(wide, "png"), _image(narrow, "svg"))
        _replace(folder / "figures" / f"{drawing.name}.svg", svg)
        _replace(folder / "figures" / f"{drawing.name}.png", png)
        figures.append({"drawing": drawing, "wide": _data_uri(svg), "narrow": _data_uri(small)})
    _replace(folder / "index.html", page(study, figures).encode())
    return folder / "index.html"


def drawings(study: Study) -> Iterator[Drawing]:
    """The comparative curves, then a figure for every factor of the design."""
    curves = tidy.learning_curves(study.trials, study.epochs)
    classes = len(study.manifest["dataset"]["classes"])
    about = scope(study)
    draw = partial(plots.comparative_curves, curves=curves, labels=role_labels(study), classes=classes)
    yield Drawing("curves", "Comparative curves", draw, headline(study), f"{about} {EDGE}")
    for factor in study.manifest["design"]["factors"]:
        name = factor["name"].replace("_", " ")
        levels = tidy.factor_levels(study.trials, factor)
        medians = tidy.level_medians(curves, levels)
        by_level = partial(plots.level_curves, curves=curves, levels=levels, medians=medians, classes=classes)
        caption = (
            "Bold: medians; solid with full markers where all of the level's trials have a reading, dashed with open "
            "markers over survivors only, the trials that got there. Levels differ in the other factors too. "
            f"{about} {EDGE}"
        )
        yield Drawing(f"factor-{factor['name']}", f"By {name}", by_level, level_finding(medians, name), caption)


def role_labels(study: Study) -> dict[str, str]:
    """The legend's text of the winner and of each baseline that has begun, by role."""
    table = tidy.results(study.trials, study.epochs)
    best = tidy.winner(study.trials, study.epochs)
    bold = table[table["origin"].str.startswith(tidy.BASELINE) | (table["trial"] == best)]
    labels = {}
    for row in bold.sort_values("trial", key=lambda trial: trial != best, kind="stable").to_dict("records"):
        fixed = row["origin"].startswith(tidy.BASELINE)
        who = row["origin"].removeprefix(tidy.BASELINE) if fixed else f"trial {row['trial']}, {row['arm']}"
        lead = "best: " if row["trial"] == best else ""
        state = "" if row["state"] == "complete" else f" ({row['state']})"
        text = f"{lead}{who}, lr {row['learning_rate']:.2g}: {percent(row['validation_accuracy'])}{state}"
        labels[row["origin"] if fixed else tidy.WINNER] = text
    return labels


def level_finding(medians: pd.DataFrame, name: str) -> str:
    """The least and the greatest median validation accuracy among levels at the last epoch where all medians are
    over all trials; where there is none, no finding."""
    table = medians[(medians["part"] == "validation") & (medians["quantity"] == "accuracy")]
    shared = table.groupby("epoch")["whole"].agg(["all", "size"])
    epoch = shared.index[shared["all"] & (shared["size"] == table["level"].nunique())].max()
    if pd.isna(epoch) or table["level"].nunique() < 2:
        return f"Learning curves by {name}"
    ranked = table[table["epoch"] == epoch].sort_values("median", kind="stable").to_dict("records")
    low, high = (f"{percent(row['median'])} ({row['level']})" for row in (ranked[0], ranked[-1]))
    where = f"After epoch {epoch}, the last that all trials reached"
    return f"{where}, median validation accuracy by {name} runs from {low} to {high}"


def page(study: Study, figures: list[dict[str, Any]]) -> str:
    """The report's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    best = tidy.winner(study.trials, study.epochs)
    scores = ("validation_accuracy", "validation_loss", "train_accuracy", "train_loss")
    fixed = tidy.baselines(study.trials, study.epochs, study.manifest["design"]["baselines"])
    table = tidy.results(study.trials, study.epochs)
    return environment.get_template("report.html.jinja").render(
        name=study.manifest["name"],
        headline=headline(study),
        scope=scope(study),
        caveat=CAVEAT,
        cost=cost(study),
        figures=figures,
        best="" if best is None else str(best),
        baselines=readable(fixed, "baseline", "trial", "arm", "learning_rate", "state", "epochs", *scores),
        trials=readable(table, *TRIAL_COLUMNS),
        notes=study.manifest.get("notes") or [],
        manifest=json.dumps(study.manifest, indent=2, ensure_ascii=False),
    )


def _image(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _data_uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
