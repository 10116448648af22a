"""Writes the report, one self-contained page with its figures, and the page that compares
studies."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd

from analysis.load import Study, read_confusion
from analysis.report import confirm_figures, figures, findings, panels, tables, wording
from analysis.report.figures import Draw
from analysis.report.findings import study_findings
from analysis.statistics import confirm, curves, search
from analysis.statistics.cost import costs
from analysis.statistics.curves import is_baseline
from trainables.config import UsageError
from trainables.vocabulary import ArmRole, Stage

LISTED = ["trial", "origin", "arm", "learning_rate", "state", "epochs"]
LISTED += ["validation_accuracy", "validation_loss", "train_accuracy", "train_loss"]
TRIAL_COLUMNS = [*LISTED, "train_seconds", "parameters", "forward_flops", "error"]
TRIALS_SHOWN, POINTS_SHOWN = 300, 50
MOST_EFFECT_CURVES, MOST_ARM_CURVES = 8, 6


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: of its files.
        finding: what it shows.
        caption: how to read it, and what its numbers rest on.
        draw: what draws its figure, if it has one.
        heights: of the panels that this fills, inches.
        tables: by title.
        heading: where that is not `wording.heading` of the name.
    """

    name: str
    finding: str
    caption: str
    draw: Draw | None = None
    heights: Sequence[float] = figures.CURVE_HEIGHTS
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    heading: str = ""


def write_report(study: Study, out: str | Path | None = None) -> Path:
    """Write `index.html`, `effects.csv` and `figures/*.{png,svg}` into `out` (default: the study's
    `report/`), replacing what was there; gives the page's path.

    Raises:
        UsageError: `out` cannot be made.
    """
    table = study_findings(study).search.table
    shown = shown_trials(table)
    axes = [*study.manifest["design"]["factors"], {"name": search.SCORE}]
    values = shown[[axis["name"] for axis in axes]]
    page = {
        "name": study.manifest["name"],
        "answer": wording.answer(study),
        "scope": wording.scope(study),
        "trials": wording.readable(shown, *TRIAL_COLUMNS),
        "curves": small_curves(study.epochs, shown["trial"]),
        "of": len(table),
        "best": str(curves.winner(table)),
        "plane": {"axes": axes, "rows": json.loads(values.to_json(orient="values"))},
        "manifest": json.dumps(study.manifest, indent=2, ensure_ascii=False),
    }
    path = _write(study.path / "report" if out is None else Path(out), sections(study), page)
    confirm.conclude(study).to_csv(path.parent / "effects.csv", index=False)
    return path


def write_comparison(studies: Sequence[Study], out: str | Path) -> Path:
    """Write the page that sets studies (of `load_studies`) side by side into `out`; gives its path,
    raises as above."""
    named = {study.manifest["name"]: study for study in studies}
    page = {
        "name": " – ".join(named),
        "answer": [f"{name}: {wording.answer(study)[0]}" for name, study in named.items()],
        "scope": " ".join(f"{name}: {wording.scope(study)}" for name, study in named.items()),
    }
    return _write(Path(out), comparison(named), page)


def comparison(named: Mapping[str, Study]) -> Iterator[Section]:
    """The best trial's curves of each study, the best arms, what differs, and the best so far."""
    best = {name: study_findings(study).search.ranked.head(5) for name, study in named.items()}
    settings = pd.DataFrame(
        {
            name: study.manifest["dataset"]["counts"] | study.manifest["settings"]
            for name, study in named.items()
        }
    )
    settings = settings.astype("str").rename_axis("setting").reset_index()
    dataset = next(iter(named.values())).manifest["dataset"]
    caption = wording.comparison_scope(dataset["name"])
    # By a role of its own, for a study may be called what a role of a search is.
    labels = {f"study {name}": name for name, trials in best.items() if len(trials)}
    rows = []
    for number, (role, name) in enumerate(labels.items()):
        trial = curves.learning_curves(best[name].head(1), named[name].epochs)
        rows.append(trial.assign(role=role, trial=number))
    draw = None
    if labels:
        draw = partial(
            figures.comparative_curves,
            readings=pd.concat(rows),
            labels=labels,
            classes=len(dataset["classes"]),
        )
    listed = {
        wording.FIVE_BEST: pd.concat(best.values())[["study", *TRIAL_COLUMNS]],
        wording.DIFFERENT_SETTINGS: settings[settings[[*named]].nunique(axis=1) > 1],
    }
    yield Section(
        "curves",
        wording.comparison_finding(bool(labels)),
        caption,
        draw,
        tables=listed,
        heading=wording.BEST_TRIALS,
    )
    yield _best_so_far(named, caption)


def sections(study: Study) -> Iterator[Section]:
    """The page from above: what is confirmed, the comparative curves of the search, what each
    factor does in it, what the study cost, and the chosen model. What there are no trials for is
    skipped."""
    facts = study_findings(study)
    searched = facts.search
    scope = wording.scope(study)
    if facts.confirmed and facts.confirmed.arms:
        yield from _confirmed(study, facts.confirmed)
    if len(searched.table):
        yield _curves(study, searched, scope)
    varied = bool((~is_baseline(searched.table)).any())
    if varied:
        caption = f"{wording.LEVELS} {scope}"
        yield from _factors(searched, study.manifest["design"]["factors"], caption)
    yield _cost(facts, scope)
    if len(searched.table):
        draw = partial(figures.pareto_points, table=searched.table)
        yield Section("pareto", wording.PARETO, scope, draw, [figures.HEIGHT] * 3)
        yield _best_so_far({study.manifest["name"]: study}, scope)
    yield _shape(study, searched, scope)
    if varied:
        yield from _levels(study, searched, scope)
    try:
        confusion = read_confusion(study.path)
    except UsageError as error:  # costs its own section, not the report
        yield Section("confusion", wording.NO_CONFUSION, str(error))
    else:
        if confusion is not None:
            yield _chosen(confusion, wording.chosen_scope(study))


def _curves(study: Study, searched: findings.SearchFindings, scope: str) -> Section:
    draw = partial(
        figures.comparative_curves,
        readings=curves.learning_curves(searched.table, study.epochs),
        labels=wording.role_labels(study),
        classes=len(study.manifest["dataset"]["classes"]),
    )
    baselines = searched.table.loc[is_baseline(searched.table), LISTED]
    caption = f"{scope} {wording.EDGE}"
    listed = {wording.BASELINES: baselines}
    return Section("curves", wording.headline(study), caption, draw, tables=listed)


def _factors(
    searched: findings.SearchFindings, factors: Sequence[Mapping[str, Any]], caption: str
) -> Iterator[Section]:
    """What each factor does in the search."""
    if searched.scientific:
        yield _isolation(searched, caption)
    importances = {wording.heading("importance"): searched.importances}
    finding = wording.importance_finding(searched)
    yield Section("importance", finding, f"{wording.IMPORTANCE} {caption}", tables=importances)
    for factor in factors:
        name = factor["name"]
        if name not in searched.responses:
            continue
        responses = searched.responses[name]
        yield Section(
            name.replace("_", "-"),
            wording.rates_finding(responses, name),
            f"{wording.RATES} {caption}",
            partial(figures.rate_points, table=searched.table, factor=factor),
            [figures.HEIGHT],
            {wording.BEST_BY_ARM: responses.head(20)},
        )


def _isolation(searched: findings.SearchFindings, caption: str) -> Section:
    factors = searched.scientific
    best = _stacked(
        {factor["name"]: search.isolation(searched.table, factor) for factor in factors}
    )
    return Section(
        "isolation",
        wording.isolation_finding(findings.widest_gap(best)),
        f"{wording.ISOLATION} {caption}",
        partial(figures.isolation_points, table=searched.table, factors=factors),
        [figures.HEIGHT] * len(factors),
        {wording.BEST_BY_LEVEL: best},
    )


def _cost(facts: findings.StudyFindings, scope: str) -> Section:
    by_level = {
        name: costs(facts.spent.merge(levels, on="trial"), "level")
        for name, levels in facts.search.levels.items()
    }
    listed = {wording.cost_table(by): costs(facts.spent, by) for by in ("stage", "state")}
    listed[wording.cost_table("level")] = _stacked(by_level)
    return Section("cost", wording.cost_text(facts.cost), scope, tables=listed)


def _best_so_far(named: Mapping[str, Study], scope: str) -> Section:
    rows = {}
    for name, study in named.items():
        cores = study.manifest["settings"].get("cpus_per_trial") or 1
        rows[name] = curves.best_so_far(study_findings(study).search.table, cores)
    finding = wording.best_so_far_finding(findings.best_trials(named))
    draw = partial(figures.best_lines, tables=rows)
    return Section(
        "best-so-far", finding, f"{wording.IN_ORDER} {scope}", draw, [figures.HEIGHT] * 2
    )


def _shape(study: Study, searched: findings.SearchFindings, scope: str) -> Section:
    shape = curves.training_shape(searched.table, study.epochs)
    by_level = {
        name: curves.shape_by_level(shape, levels) for name, levels in searched.levels.items()
    }
    listed = {wording.SHAPE_BY_LEVEL: _stacked(by_level)}
    return Section("shape", wording.SHAPE_FINDING, f"{wording.SHAPE} {scope}", tables=listed)


def _levels(study: Study, searched: findings.SearchFindings, scope: str) -> Iterator[Section]:
    """The learning curves by arm and by the levels of each factor."""
    readings = curves.learning_curves(searched.table, study.epochs)
    caption = f"{wording.MEDIANS} {wording.LEVELS} {scope} {wording.EDGE}"
    for name, levels in {"arm": curves.arm_levels(searched.table), **searched.levels}.items():
        quartiles = curves.level_curves(readings, levels)
        draw = partial(
            figures.level_curves,
            readings=readings,
            levels=levels,
            quartiles=quartiles,
            classes=len(study.manifest["dataset"]["classes"]),
        )
        yield Section(
            f"by-{name}",
            wording.level_finding(findings.level_range(quartiles), name),
            caption,
            draw,
        )


def _chosen(confusion: pd.DataFrame, scope: str) -> Section:
    recognised = pd.Series(confusion.to_numpy().diagonal(), confusion.index)
    accuracies = recognised / confusion.sum(axis=1).replace(0, np.nan)
    images = confusion.add_prefix("as ").rename_axis("true class").reset_index()
    images.insert(1, "accuracy", accuracies.to_numpy())
    finding = wording.confusion_finding(accuracies)
    return Section("confusion", finding, scope, tables={wording.CONFUSION: images})


def _confirmed(study: Study, confirmed: findings.ConfirmFindings) -> Iterator[Section]:
    """The arms that were trained again with several seeds, what differs among them, and their
    curves."""
    stage = confirmed.stage
    scope = wording.scope(study, Stage.CONFIRM)
    intervals = f"{wording.interval_scope(confirmed)} {scope}"
    finding = next(iter(wording.sentences(study)), wording.NONE_YET).removesuffix(".")
    listed = {
        wording.ARMS: tables.arms_table(confirmed),
        wording.RATES_TRIED: tables.tuning_table(study, confirmed),
    }
    if not stage.numbers(ArmRole.WINNER):
        listed[wording.MEANS_BY_EPOCH] = tables.means_table(confirmed)
    yield Section(
        "confirmed",
        finding,
        f"{wording.ARM_POINTS} {intervals}",
        partial(confirm_figures.arm_points, rows=confirmed.arms, outcome=stage.outcome),
        [figures.row_height(len(confirmed.arms), 1)],
        listed,
    )
    if confirmed.effects:
        yield _effects(confirmed, intervals)
    by_epoch = tables.epochs_table(study)
    if len(by_epoch):
        yield _effects_by_epoch(study, confirmed, by_epoch, scope)
    best = sorted(confirmed.arms, key=lambda row: -row.mean)[:MOST_ARM_CURVES]
    arms = [row.arm for row in best]
    draw = partial(confirm_figures.seed_curves, stage=stage, bold=arms)
    caption = f"{wording.confirmed_curves_caption(arms)} {scope}"
    yield Section("confirmed-curves", wording.CONFIRMED_CURVES, caption, draw, [figures.HEIGHT] * 4)


def _effects(confirmed: findings.ConfirmFindings, intervals: str) -> Section:
    """What each factor does after the last epoch."""
    stage, effects = confirmed.stage, confirmed.effects
    return Section(
        "effects",
        wording.effects_finding(effects),
        f"{wording.effects_caption(confirmed)} {intervals}",
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
        f"{wording.effects_by_epoch_caption(stage.outcome)} {scope}",
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
    shown = [
        {
            "part": part,
            "heading": part.heading or wording.heading(part.name),
            "drawing": _write_figures(folder / "figures", part, part.draw) if part.draw else None,
            "tables": {
                title: wording.readable(table) for title, table in part.tables.items() if len(table)
            },
        }
        for part in parts
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("template.html.jinja")
    markup = [panel.markup for each in shown if each["drawing"] for panel in each["drawing"].panels]
    colors = panels.dark_colors({"#000000", "#ffffff", *panels.colors_of(markup)})
    text = template.render(sections=shown, colors=colors, caveat=wording.CAVEAT, **page)
    temporary = folder / ".index.html"  # the page is there complete or not at all
    temporary.write_text(text, encoding="utf-8")
    return temporary.replace(folder / "index.html")


def _write_figures(folder: Path, part: Section, draw: Draw) -> panels.Drawing:
    """Write a section's figure; gives it for the page."""
    with mpl.rc_context(panels.STYLE):
        composed = figures.compose(draw, part.finding, part.caption, part.heights)
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
