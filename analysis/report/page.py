"""Writes the report, one self-contained page with its figures, and the page that compares
studies."""

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd

from analysis.load import Study, read_confusion, read_predictions
from analysis.report import comparable, confirm_figures, figures, findings, panels, tables, wording
from analysis.report.figures import Draw
from analysis.report.findings import study_findings
from analysis.report.fingerprint import made_of
from analysis.statistics import confirm, curves, search
from analysis.statistics.cost import costs, timeline
from analysis.statistics.curves import is_baseline
from trainables.config import UsageError
from trainables.vocabulary import ArmRole, Stage

TRIAL_COLUMNS = ["trial", search.SCORE, "arm", "learning_rate", "state", "epochs", "origin"]
TRIAL_COLUMNS += ["validation_loss", "train_accuracy", "train_loss"]
TRIAL_COLUMNS += ["train_seconds", "parameters", "forward_flops", "error"]
TRIALS_SHOWN, POINTS_SHOWN = 300, 50
MOST_EFFECT_CURVES, MOST_ARM_CURVES = 8, 6
MOST_MISTAKES, MOST_BARS = 10, 20_000
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


class ForestRow(NamedTuple):
    """A row of the small forest plot: a factor's change, what is concluded, and its interval, all
    in percent of the plot's width."""

    change: str
    verdict: str
    low: float
    value: float
    high: float
    margin: float


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
        heading: where that is not `wording.heading` of the name.
        tab: whether it is one of the views by factor.
        hidden: why it is not shown, unless asked for.
    """

    name: str
    finding: str
    caption: str = ""
    scope: str = ""
    draw: Draw | None = None
    heights: Sequence[float] = figures.CURVE_HEIGHTS
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    matrix: pd.DataFrame | None = None
    sheet: str = ""
    heading: str = ""
    tab: bool = False
    hidden: str = ""


def write_report(study: Study, out: str | Path | None = None) -> Path:
    """Write `index.html`, `effects.csv` and `figures/*.{png,svg}` into `out` (default: the study's
    `report/`), replacing what was there; gives the page's path.

    Raises:
        UsageError: `out` cannot be made.
    """
    facts = study_findings(study)
    table = facts.search.table
    shown = shown_trials(table)
    axes = [*study.manifest["design"]["factors"], {"name": search.SCORE}]
    values = shown[[axis["name"] for axis in axes]]
    folder = study.path / "report" if out is None else Path(out)
    effects = confirm.conclude(study).to_csv(index=False)
    page = {
        "name": study.manifest["name"],
        "made_of": made_of(study.path),
        "tiles": wording.tiles(study),
        "forest": list(_forest(facts.confirmed)) if facts.confirmed else [],
        "command": findings.next_command(study),
        "scope": wording.scope_lines(study),
        "trials": _listing(wording.heading("trials"), shown[trial_columns(facts.search)]),
        "curves": small_curves(study.epochs, shown["trial"]),
        "of": len(table),
        "best": str(curves.winner(table)),
        "plane": {
            "axes": axes,
            "rows": json.loads(values.to_json(orient="values")),
            "trials": shown["trial"].tolist(),
        },
        "files": _files(study, folder, effects),
        "manifest": json.dumps(study.manifest, indent=2, ensure_ascii=False),
    }
    path = _write(folder, sections(study), page)
    (path.parent / "effects.csv").write_text(effects, encoding="utf-8")
    return path


def _forest(confirmed: findings.ConfirmFindings) -> Iterator[ForestRow]:
    """The effects for the small plot on top."""
    margin = confirmed.stage.margin
    ends = [end for effect in confirmed.effects for end in effect.estimate.interval.ends]
    reach = 1.05 * float(np.nanmax([margin, *np.abs(ends)]))
    for effect in confirmed.effects:
        low, high = effect.estimate.interval.ends
        low, value, high = (
            50 + 50 * value / reach for value in (low, effect.estimate.difference, high)
        )
        change = wording.change_text(effect.change)
        yield ForestRow(change, effect.verdict, low, value, high, 50 * margin / reach)


def _files(study: Study, folder: Path, effects: str) -> dict[str, str]:
    """The addresses of the study's files: what is small is in the page, so that it stays with it;
    else the way there."""
    files = {}
    for name in ("trials.csv", "epochs.csv"):
        path = study.path / name
        files[name] = os.path.relpath(path, folder.resolve())
        if path.stat().st_size < MOST_BYTES:
            files[name] = _address(path.read_text(encoding="utf-8"))
    files["effects.csv"] = _address(effects)
    config = findings.best_config(study)
    if config:
        lines = [f"{key} = {json.dumps(value)}" for key, value in config.items()]
        text = "\n".join(['search = "none"', "[baselines.winner]", *lines, ""])
        files["winner.toml"] = _address(text)
    return files


def _address(text: str) -> str:
    return f"data:text/plain;charset=utf-8,{quote(text)}"


def _listing(title: str, table: pd.DataFrame) -> Listing:
    text = wording.readable(table)
    numeric = [all(re.fullmatch(NUMBER, cell) for cell in text[name]) for name in text]
    rows = list(text.itertuples(index=False, name=None))
    return Listing(title, list(map(str, text)), numeric, rows)


def write_comparison(studies: Sequence[Study], out: str | Path) -> Path:
    """Write the page that sets studies (of `load_studies`) side by side into `out`; gives its path,
    raises as above."""
    named = {study.manifest["name"]: study for study in studies}
    page = {
        "name": " – ".join(named),
        "answer": [
            *wording.incomparable_lines(comparable.incomparable(named)),
            *(f"{name}: {wording.answer(study)[0]}" for name, study in named.items()),
        ],
        "scope": [f"{name}: {wording.scope(study)}" for name, study in named.items()],
    }
    return _write(Path(out), comparison(named), page)


def trial_columns(searched: findings.SearchFindings) -> list[str]:
    """The columns of the table of trials: of uneven classes balanced accuracy, too."""
    place = TRIAL_COLUMNS.index(search.SCORE) + 1
    balanced = [curves.BALANCED] if searched.largest_class else []
    return [*TRIAL_COLUMNS[:place], *balanced, *TRIAL_COLUMNS[place:]]


def comparison(named: Mapping[str, Study]) -> Iterator[Section]:
    """The best trial's curves of each study, the best arms, what differs, and the best so far."""
    best = {name: study_findings(study).search.ranked.head(5) for name, study in named.items()}
    dataset = next(iter(named.values())).manifest["dataset"]
    scope = wording.comparison_scope(dataset["name"])
    # By a role of its own, for a study may be called what a role of a search is.
    labels = {f"study {name}": name for name, trials in best.items() if len(trials)}
    rows = []
    for number, (role, name) in enumerate(labels.items()):
        trial = curves.learning_curves(best[name].head(1), named[name].epochs)
        rows.append(trial.assign(role=role, trial=number))
    draw = None
    # One epoch is no curve, and one trial no progress.
    if any(len(trial) > 1 for trial in rows):
        draw = partial(
            figures.comparative_curves,
            readings=pd.concat(rows),
            labels=labels,
            classes=len(dataset["classes"]),
        )
    listed = {
        wording.FIVE_BEST: pd.concat(best.values())[["study", *TRIAL_COLUMNS]],
        wording.DIFFERENT_SETTINGS: _different_settings(named),
    }
    yield Section(
        "curves",
        wording.comparison_finding(bool(labels)),
        scope=scope,
        draw=draw,
        tables=listed,
        heading=wording.BEST_TRIALS,
    )
    if any(len(study_findings(study).search.ranked) > 1 for study in named.values()):
        yield _best_so_far(named, scope)


def _different_settings(named: Mapping[str, Study]) -> pd.DataFrame:
    """The settings and numbers of images in which the studies differ, a column per study."""
    settings = pd.DataFrame(
        {
            name: study.manifest["dataset"]["counts"] | study.manifest["settings"]
            for name, study in named.items()
        }
    )
    settings = settings.astype("str").rename_axis("setting").reset_index()
    return settings[settings[[*named]].nunique(axis=1) > 1]


def sections(study: Study) -> Iterator[Section]:
    """The page from above: the comparative curves of the search, what is confirmed, what each
    factor does, what the study cost, and the chosen model. What there are no trials for is
    skipped."""
    facts = study_findings(study)
    searched = facts.search
    scope = wording.scope(study)
    readings = curves.learning_curves(searched.table, study.epochs)
    if len(searched.table):
        yield _curves(study, readings, scope)
    if facts.confirmed and facts.confirmed.arms:
        yield from _confirmed(study, facts.confirmed)
    if bool((~is_baseline(searched.table)).any()):
        yield from _levels(study, searched, readings, scope)
        yield from _factors(searched, study.manifest["design"]["factors"], scope)
    yield _cost(study, facts)
    if len(searched.table):
        draw = partial(figures.pareto_points, table=searched.table)
        heights = [figures.HEIGHT] * 3
        yield Section("pareto", wording.PARETO, scope=scope, draw=draw, heights=heights)
        yield _best_so_far({study.manifest["name"]: study}, scope)
    yield from _shape(study, searched)
    try:
        confusion, predictions = read_confusion(study.path), read_predictions(study.path)
    except UsageError as error:  # costs its own section, not the report
        yield Section("confusion", wording.NO_CONFUSION, str(error))
    else:
        if confusion is not None:
            yield _chosen(confusion, predictions, study.path, wording.chosen_scope(study))


def _curves(study: Study, readings: pd.DataFrame, scope: str) -> Section:
    draw = partial(
        figures.comparative_curves,
        readings=readings,
        labels=wording.role_labels(study),
        classes=len(study.manifest["dataset"]["classes"]),
    )
    return Section("curves", wording.headline(study), wording.EDGE, scope, draw)


def _factors(
    searched: findings.SearchFindings, factors: Sequence[Mapping[str, Any]], scope: str
) -> Iterator[Section]:
    """How much each factor explains in the search, and the response to those with a range."""
    reliable = bool(searched.importances["reliable"].any())
    listed = {wording.heading("importance"): searched.importances} if reliable else {}
    yield Section(
        "importance",
        wording.importance_finding(searched),
        wording.IMPORTANCE,
        tables=listed,
        hidden="" if reliable else wording.IMPORTANCE_HIDDEN,
    )
    for factor in factors:
        name = factor["name"]
        responses = searched.responses.get(name, pd.DataFrame())
        if responses.empty:
            continue
        yield Section(
            name.replace("_", "-"),
            wording.rates_finding(responses, name),
            wording.RATES,
            f"{wording.LEVELS} {scope}",
            partial(figures.rate_points, table=searched.table, factor=factor),
            [figures.HEIGHT],
            {wording.BEST_BY_ARM: responses.head(20)},
        )


def _cost(study: Study, facts: findings.StudyFindings) -> Section:
    by_level = {
        name: costs(facts.spent.merge(levels, on="trial"), "level")
        for name, levels in facts.search.levels.items()
    }
    listed = {wording.cost_table(by): costs(facts.spent, by) for by in ("stage", "state")}
    listed[wording.cost_table("level")] = _stacked(by_level)
    bars = timeline(study.trials, study.epochs)
    if bars.empty or len(bars) > MOST_BARS:
        return Section("cost", wording.COST, tables=listed)
    return Section(
        "cost",
        wording.idle_finding(findings.slot_use(bars)),
        wording.TIMELINE,
        draw=partial(figures.timeline_bars, bars=bars),
        heights=[figures.HEIGHT],
        tables=listed,
    )


def _best_so_far(named: Mapping[str, Study], scope: str) -> Section:
    rows = {}
    for name, study in named.items():
        cores = study.manifest["settings"].get("cpus_per_trial") or 1
        rows[name] = curves.best_so_far(study_findings(study).search.table, cores)
    finding = wording.best_so_far_finding(findings.best_trials(named))
    draw = partial(figures.best_lines, tables=rows)
    heights = [figures.HEIGHT] * 2
    return Section("best-so-far", finding, wording.IN_ORDER, scope, draw, heights)


def _shape(study: Study, searched: findings.SearchFindings) -> Iterator[Section]:
    shape = curves.training_shape(searched.table, study.epochs)
    by_level = {
        name: curves.shape_by_level(shape, levels) for name, levels in searched.levels.items()
    }
    table = _stacked(by_level)
    if len(table):
        listed = {wording.SHAPE_BY_LEVEL: table}
        yield Section("shape", wording.SHAPE_FINDING, wording.SHAPE, tables=listed)


def _levels(
    study: Study, searched: findings.SearchFindings, readings: pd.DataFrame, scope: str
) -> Iterator[Section]:
    """The learning curves by arm and by the levels of each factor, and slices at each level."""
    classes = len(study.manifest["dataset"]["classes"])
    caption = f"{wording.MEDIANS} {wording.SLICES} {wording.LEVELS} {wording.EDGE}"
    for name, levels in {**searched.levels, "arm": curves.arm_levels(searched.table)}.items():
        quartiles = curves.level_curves(readings, levels)
        draw = partial(
            figures.factor_panels,
            readings=readings,
            levels=levels,
            quartiles=quartiles,
            classes=classes,
            table=searched.table,
        )
        finding = wording.level_finding(findings.level_range(quartiles, classes), name)
        heights = [*figures.CURVE_HEIGHTS, figures.HEIGHT]
        yield Section(f"by-{name}", finding, caption, scope, draw, heights, tab=True)


def _chosen(
    confusion: pd.DataFrame, predictions: pd.DataFrame | None, folder: Path, scope: str
) -> Section:
    recognised = pd.Series(confusion.to_numpy().diagonal(), confusion.index)
    accuracies = recognised / confusion.sum(axis=1).replace(0, np.nan)
    finding = wording.confusion_finding(accuracies)
    listed, sheet = {}, ""
    if predictions is not None:
        path = folder / "best" / "mistakes.png"
        if path.exists() and path.stat().st_size < MOST_BYTES:
            sheet = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
        listed[wording.MISTAKES] = findings.mistakes(predictions).head(MOST_MISTAKES).reset_index()
    return Section("confusion", finding, scope, tables=listed, matrix=confusion, sheet=sheet)


def _matrix(confusion: pd.DataFrame) -> dict[str, list[Cell]]:
    """The rows of the heat map by true class."""
    shares = confusion.div(confusion.sum(axis=1).clip(lower=1), axis=0)
    return {
        str(name): list(map(Cell, confusion.loc[name], shares.loc[name].round(3)))
        for name in confusion.index
    }


def _confirmed(study: Study, confirmed: findings.ConfirmFindings) -> Iterator[Section]:
    """What differs among the arms that were trained again with several seeds, these arms, and
    their curves."""
    stage = confirmed.stage
    scope = f"{wording.interval_scope(confirmed)} {wording.scope(study, Stage.CONFIRM)}"
    if confirmed.effects:
        yield _effects(confirmed, scope)
    listed = {
        wording.ARMS: tables.arms_table(confirmed),
        wording.RATES_TRIED: tables.tuning_table(study, confirmed),
    }
    if not stage.numbers(ArmRole.WINNER):
        listed[wording.MEANS_BY_EPOCH] = tables.means_table(confirmed)
    yield Section(
        "confirmed",
        wording.confirmed_finding(confirmed),
        wording.ARM_POINTS,
        scope,
        partial(confirm_figures.arm_points, rows=confirmed.arms, outcome=stage.outcome),
        [figures.row_height(len(confirmed.arms), 1)],
        listed,
    )
    by_epoch = tables.epochs_table(study)
    if len(by_epoch):
        yield _effects_by_epoch(study, confirmed, by_epoch, scope)
    best = sorted(confirmed.arms, key=lambda row: -row.mean)[:MOST_ARM_CURVES]
    arms = [row.arm for row in best]
    draw = partial(confirm_figures.seed_curves, stage=stage, bold=arms)
    caption = wording.confirmed_curves_caption(arms)
    heights = [figures.HEIGHT] * 4
    yield Section("confirmed-curves", wording.CONFIRMED_CURVES, caption, scope, draw, heights)


def _effects(confirmed: findings.ConfirmFindings, scope: str) -> Section:
    """What each factor does after the last epoch."""
    stage, effects = confirmed.stage, confirmed.effects
    return Section(
        "effects",
        wording.effects_finding(effects),
        wording.effects_caption(confirmed),
        scope,
        partial(
            confirm_figures.effect_bars, effects=effects, margin=stage.margin, outcome=stage.outcome
        ),
        [figures.row_height(len(effects), 2)],
        {
            wording.effects_table(stage.outcome): tables.effects_table(confirmed),
            wording.INTERACTIONS: tables.interactions_table(confirmed),
        },
    )


def _effects_by_epoch(
    study: Study, confirmed: findings.ConfirmFindings, by_epoch: pd.DataFrame, scope: str
) -> Section:
    stage = confirmed.stage
    rows = confirm.effects_by_epoch(study)
    return Section(
        "effects-by-epoch",
        wording.drifts_finding(confirmed.drifts),
        wording.effects_by_epoch_caption(stage.outcome),
        scope,
        partial(confirm_figures.effect_curves, table=rows, margin=stage.margin),
        [figures.HEIGHT] * min(by_epoch.shape[1] - 1, MOST_EFFECT_CURVES),
        {wording.epochs_table(stage.outcome): by_epoch},
    )


def _stacked(by_factor: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of the factors, one below the other, after a column with the factor's name."""
    if not by_factor:
        return pd.DataFrame()
    return pd.concat(by_factor, names=["factor"]).reset_index("factor")


def _write(folder: Path, parts: Iterable[Section], page: Mapping[str, Any]) -> Path:
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"out: invalid value {folder}: expected a directory that can be made ({error.strerror})"
        ) from None
    drawings: dict[str, panels.Drawing] = {}
    shown = []
    for part in parts:
        if part.draw:
            drawings[part.name] = _write_figures(folder / "figures", part, part.draw)
        shown.append(part)
    markup = [panel.markup for drawing in drawings.values() for panel in drawing.panels]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {"wording": wording, "listing": _listing, "matrix": _matrix}
    text = environment.get_template("template.html.jinja").render(
        sections=shown,
        drawings=drawings,
        colors=panels.dark_colors({"#000000", "#ffffff", *panels.colors_of(markup)}),
        **page,
    )
    temporary = folder / ".index.html"  # the page is there complete or not at all
    temporary.write_text(text, encoding="utf-8")
    return temporary.replace(folder / "index.html")


def _write_figures(folder: Path, part: Section, draw: Draw) -> panels.Drawing:
    """Write a section's figure; gives it for the page."""
    with mpl.rc_context(panels.STYLE):
        composed = figures.compose(draw, part.finding, f"{part.caption} {part.scope}", part.heights)
        drawing = panels.draw(composed, part.name)
    (folder / f"{part.name}.svg").write_bytes(drawing.svg)
    (folder / f"{part.name}.png").write_bytes(drawing.png)
    return drawing


def shown_trials(table: pd.DataFrame) -> pd.DataFrame:
    """At most 300 trials for the page: the 100 best, the baselines, and a fixed random sample of
    the others."""
    best = curves.ranked(table)["trial"].head(TRIALS_SHOWN // 3)
    first = table["trial"].isin(best) | is_baseline(table)
    others = table[~first]
    room = max(0, TRIALS_SHOWN - int(first.sum()))
    others = others.sample(min(len(others), room), random_state=0)
    return pd.concat([table[first], others]).sort_values("trial", ignore_index=True)


def small_curves(epochs: pd.DataFrame, trials: pd.Series) -> list[str]:
    """Each trial's validation accuracy by epoch as the points of a line in a box of 100 × 100, at
    most 50 of them."""
    rows = epochs[epochs["trial"].isin(trials) & epochs["validation_accuracy"].notna()]
    last = int(max(rows["epoch"].max(), 2)) if len(rows) else 2
    rows = rows[(rows["epoch"] - 1) % -(-last // POINTS_SHOWN) == 0]
    pairs = zip(rows["epoch"], rows["validation_accuracy"], strict=True)
    places = [
        f"{100 * (epoch - 1) / (last - 1):.0f},{100 - 100 * value:.1f}" for epoch, value in pairs
    ]
    lines = pd.Series(places, rows["trial"], dtype="str").groupby(level=0).agg(" ".join)
    return list(lines.reindex(trials, fill_value=""))
