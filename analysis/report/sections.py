"""The sections of a study's page: what each shows, how to read it, its figure and its tables."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.load import Study, read_confusion, read_predictions
from analysis.report import confirm_figures, figures, findings, tables
from analysis.report.confirm_findings import ConfirmFindings
from analysis.report.document import MOST_BYTES, Section
from analysis.report.findings import study_findings
from analysis.report.layout import CURVE_HEIGHTS, HEIGHT, row_height
from analysis.report.search_findings import SearchFindings, level_range
from analysis.report.wording import captions, confirm_text, scope_text, search_text, study_text
from analysis.statistics import confirm, curves
from analysis.statistics.cost import costs, timeline
from analysis.statistics.curves import is_baseline
from trainables.config import UsageError
from trainables.vocabulary import ArmRole, Stage

MOST_EFFECT_CURVES, MOST_ARM_CURVES = 8, 6
MOST_MISTAKES, MOST_BARS = 10, 20_000


def sections(study: Study) -> Iterator[Section]:
    """The page from above: the comparative curves of the search, what is confirmed, what each
    factor does, what the study cost, and the chosen model. What there are no trials for is
    skipped."""
    facts = study_findings(study)
    searched = facts.search
    scope = scope_text.scope(study)
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
        heights = [HEIGHT] * 3
        yield Section("pareto", captions.PARETO, scope=scope, draw=draw, heights=heights)
        yield best_so_far({study.manifest["name"]: study}, scope)
    yield from _shape(study, searched)
    try:
        confusion, predictions = read_confusion(study.path), read_predictions(study.path)
    except UsageError as error:  # costs its own section, not the report
        yield Section("confusion", captions.NO_CONFUSION, str(error))
    else:
        if confusion is not None:
            yield _chosen(confusion, predictions, study.path, scope_text.chosen_scope(study))


def _curves(study: Study, readings: pd.DataFrame, scope: str) -> Section:
    draw = partial(
        figures.comparative_curves,
        readings=readings,
        labels=search_text.role_labels(study),
        classes=len(study.manifest["dataset"]["classes"]),
    )
    return Section("curves", search_text.headline(study), captions.EDGE, scope, draw)


def _factors(
    searched: SearchFindings, factors: Sequence[Mapping[str, Any]], scope: str
) -> Iterator[Section]:
    """How much each factor explains in the search, and the response to those with a range."""
    reliable = bool(searched.importances["reliable"].any())
    listed = {captions.heading("importance"): searched.importances} if reliable else {}
    yield Section(
        "importance",
        search_text.importance_finding(searched),
        captions.IMPORTANCE,
        tables=listed,
        hidden="" if reliable else captions.IMPORTANCE_HIDDEN,
    )
    for factor in factors:
        name = factor["name"]
        responses = searched.responses.get(name, pd.DataFrame())
        if responses.empty:
            continue
        yield Section(
            name.replace("_", "-"),
            search_text.rates_finding(responses, name),
            captions.RATES,
            f"{captions.LEVELS} {scope}",
            partial(figures.rate_points, table=searched.table, factor=factor),
            [HEIGHT],
            {captions.BEST_BY_ARM: responses.head(20)},
        )


def _cost(study: Study, facts: findings.StudyFindings) -> Section:
    by_level = {
        name: costs(facts.spent.merge(levels, on="trial"), "level")
        for name, levels in facts.search.levels.items()
    }
    listed = {captions.cost_table(by): costs(facts.spent, by) for by in ("stage", "state")}
    listed[captions.cost_table("level")] = _stacked(by_level)
    bars = timeline(study.trials, study.epochs)
    # A study so short that its clock did not move has no timeline.
    if not bars["end"].max() > 0 or len(bars) > MOST_BARS:
        return Section("cost", captions.COST, tables=listed)
    return Section(
        "cost",
        study_text.idle_finding(findings.slot_use(bars)),
        captions.TIMELINE,
        draw=partial(figures.timeline_bars, bars=bars),
        heights=[HEIGHT],
        tables=listed,
    )


def best_so_far(named: Mapping[str, Study], scope: str) -> Section:
    """The best score so far of one study or several."""
    rows = {}
    for name, study in named.items():
        cores = study.manifest["settings"].get("cpus_per_trial") or 1
        rows[name] = curves.best_so_far(study_findings(study).search.table, cores)
    finding = search_text.best_so_far_finding(findings.best_trials(named))
    draw = partial(figures.best_lines, tables=rows)
    heights = [HEIGHT] * 2
    return Section("best-so-far", finding, captions.IN_ORDER, scope, draw, heights)


def _shape(study: Study, searched: SearchFindings) -> Iterator[Section]:
    shape = curves.training_shape(searched.table, study.epochs)
    by_level = {
        name: curves.shape_by_level(shape, levels) for name, levels in searched.levels.items()
    }
    table = _stacked(by_level)
    if len(table):
        listed = {captions.SHAPE_BY_LEVEL: table}
        yield Section("shape", captions.SHAPE_FINDING, captions.SHAPE, tables=listed)


def _levels(
    study: Study, searched: SearchFindings, readings: pd.DataFrame, scope: str
) -> Iterator[Section]:
    """The learning curves by arm and by the levels of each factor, and slices at each level."""
    classes = len(study.manifest["dataset"]["classes"])
    caption = f"{captions.MEDIANS} {captions.SLICES} {captions.LEVELS} {captions.EDGE}"
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
        finding = search_text.level_finding(level_range(quartiles, classes), name)
        heights = [*CURVE_HEIGHTS, HEIGHT]
        yield Section(f"by-{name}", finding, caption, scope, draw, heights, tab=True)


def _chosen(
    confusion: pd.DataFrame, predictions: pd.DataFrame | None, folder: Path, scope: str
) -> Section:
    recognised = pd.Series(confusion.to_numpy().diagonal(), confusion.index)
    accuracies = recognised / confusion.sum(axis=1).replace(0, np.nan)
    finding = study_text.confusion_finding(accuracies)
    listed, sheet = {}, ""
    if predictions is not None:
        path = folder / "best" / "mistakes.png"
        if path.exists() and path.stat().st_size < MOST_BYTES:
            sheet = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
        listed[captions.MISTAKES] = findings.mistakes(predictions).head(MOST_MISTAKES).reset_index()
    return Section("confusion", finding, scope, tables=listed, matrix=confusion, sheet=sheet)


def _confirmed(study: Study, confirmed: ConfirmFindings) -> Iterator[Section]:
    """What differs among the arms that were trained again with several seeds, these arms, and
    their curves."""
    stage = confirmed.stage
    scope = f"{confirm_text.interval_scope(confirmed)} {scope_text.scope(study, Stage.CONFIRM)}"
    if confirmed.effects:
        yield _effects(confirmed, scope)
    listed = {
        captions.ARMS: tables.arms_table(confirmed),
        captions.RATES_TRIED: tables.tuning_table(study, confirmed),
    }
    if not stage.numbers(ArmRole.WINNER):
        listed[captions.MEANS_BY_EPOCH] = tables.means_table(confirmed)
    yield Section(
        "confirmed",
        confirm_text.confirmed_finding(confirmed),
        captions.ARM_POINTS,
        scope,
        partial(confirm_figures.arm_points, rows=confirmed.arms, outcome=stage.outcome),
        [row_height(len(confirmed.arms), 1)],
        listed,
    )
    by_epoch = tables.epochs_table(study)
    if len(by_epoch):
        yield _effects_by_epoch(study, confirmed, by_epoch, scope)
    best = sorted(confirmed.arms, key=lambda row: -row.mean)[:MOST_ARM_CURVES]
    arms = [row.arm for row in best]
    draw = partial(confirm_figures.seed_curves, stage=stage, bold=arms)
    caption = confirm_text.confirmed_curves_caption(arms)
    heights = [HEIGHT] * 4
    yield Section("confirmed-curves", captions.CONFIRMED_CURVES, caption, scope, draw, heights)


def _effects(confirmed: ConfirmFindings, scope: str) -> Section:
    """What each factor does after the last epoch."""
    stage, effects = confirmed.stage, confirmed.effects
    return Section(
        "effects",
        confirm_text.effects_finding(effects),
        confirm_text.effects_caption(confirmed),
        scope,
        partial(
            confirm_figures.effect_bars, effects=effects, margin=stage.margin, outcome=stage.outcome
        ),
        [row_height(len(effects), 2)],
        {
            captions.effects_table(stage.outcome): tables.effects_table(confirmed),
            captions.INTERACTIONS: tables.interactions_table(confirmed),
        },
    )


def _effects_by_epoch(
    study: Study, confirmed: ConfirmFindings, by_epoch: pd.DataFrame, scope: str
) -> Section:
    stage = confirmed.stage
    rows = confirm.effects_by_epoch(study)
    return Section(
        "effects-by-epoch",
        confirm_text.drifts_finding(confirmed.drifts),
        confirm_text.effects_by_epoch_caption(stage.outcome),
        scope,
        partial(confirm_figures.effect_curves, table=rows, margin=stage.margin),
        [HEIGHT] * min(by_epoch.shape[1] - 1, MOST_EFFECT_CURVES),
        {captions.epochs_table(stage.outcome): by_epoch},
    )


def _stacked(by_factor: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of the factors, one below the other, after a column with the factor's name."""
    if not by_factor:
        return pd.DataFrame()
    return pd.concat(by_factor, names=["factor"]).reset_index("factor")
