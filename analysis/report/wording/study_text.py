"""What a study says as a whole: its answer, the tiles, its cost, the next step, and the lines for
the terminal."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd

from analysis.load import Study
from analysis.report.confirm_findings import Standing
from analysis.report.findings import Cost, SlotUse, StudyFindings, study_findings
from analysis.report.recommendation import RateRange, Reason, Recommendation
from analysis.report.wording.captions import BASELINES_LAST, BEST_COMPLETE, OUTCOMES
from analysis.report.wording.confirm_text import confirmed_standing, effect_lines, sentences
from analysis.report.wording.scope_text import scope
from analysis.report.wording.search_text import headline, importance_finding, ties_text
from analysis.report.wording.values import (
    MISSING,
    beside_largest,
    interval_text,
    network_text,
    plural,
    point_count,
    readable,
    sentence,
    signed,
    spoken,
    trial_name,
)
from analysis.statistics import curves, search
from trainables.vocabulary import TrialStatus

NEXT_STEPS: Mapping[Reason, str] = {
    Reason.UNFINISHED: "wait for the study to end; the same command resumes it",
    Reason.DIVERGED: "lower learning rates, as trials diverged",
    Reason.NONE_COMPLETE: "see why no trial is complete (study.log)",
    Reason.ONE_SEED: "{command}, for one seed shows no spread",
    Reason.WIDE_INTERVALS: (
        "{command} (about {seeds} seeds, until every effect is known within {bound}{floor})"
    ),
    Reason.TOO_FEW_IMAGES: (
        "more test images, for no number of seeds brings every interval within {bound}{floor}"
    ),
    Reason.BETTER_ARM: "more trials ({command}), in case there is a better arm",
    Reason.ALL_CONCLUDED: "nothing",
    Reason.RATE_AT_END: "{rates}",
    Reason.NONE_CONFIRMED: "see why nothing is confirmed (study.log)",
    Reason.FACTORS_UNCLEAR: "more trials ({command})",
    Reason.BEST_UNCONFIRMED: "the best arms again with several seeds ({command})",
}


def answer(study: Study) -> list[str]:
    """The best arm, what each factor does, what it cost and what to run next: from the confirm
    stage where it has a result, else from the search."""
    facts = study_findings(study)
    searched = [
        f"{headline(study)}; {ties_text(facts.search.ties)}.",
        f"{importance_finding(facts.search)}.",
    ]
    last = f"{cost_text(facts.cost)}. Next: {next_step(facts.next_step)}."
    return [*(sentences(study) or searched), last]


class Tile(NamedTuple):
    """One of the answers on top of the page."""

    title: str
    value: str
    text: str


def tiles(study: Study) -> list[Tile]:
    """Which network, how it compares with the baseline, what matters, and what it cost."""
    facts = study_findings(study)
    standing = facts.confirmed.standing if facts.confirmed else None
    best = _searched_tiles(study, facts) if standing is None else _confirmed_tiles(standing)
    effects = facts.confirmed.effects if facts.confirmed else ()
    why = "" if effects else f"{importance_finding(facts.search)}."
    cost = facts.cost
    value = f"{cost.core:,.0f} core-seconds"
    after = f"{sentence(_cost_details(cost))}. Next: {next_step(facts.next_step)}."
    return [*best, Tile("What matters", "", why), Tile("Cost and next step", value, after)]


def _confirmed_tiles(standing: Standing) -> list[Tile]:
    title, other = "Best network", "Against the baseline"
    arm, summary = standing.winner, standing.accuracy
    if arm is None and standing.best:
        arm, summary = standing.best[0].arm, standing.best[0]
    if arm is None or summary is None:
        return [Tile(title, MISSING, f"{confirmed_standing(standing)}."), Tile(other, MISSING, "")]
    on = f" on {standing.images:,} test images" if standing.images else ""
    ends = ""
    if not math.isnan(summary.interval.low):
        ends = f", 95% interval {summary.interval.low:.1%} to {summary.interval.high:.1%}"
    chosen = ". It was chosen on validation images" if standing.winner else ""
    reached = f"{OUTCOMES[standing.outcome]}{on}, {plural(standing.seeds, 'seed')}{ends}"
    reached += f"{beside_largest(standing.largest_class)}{chosen}."
    best = Tile(title, f"{summary.mean:.1%}", f"{sentence(network_text(arm))}: {reached}")
    if standing.baseline is None or standing.above_baseline is None:
        return [best, Tile(other, MISSING, "No baseline is confirmed.")]
    estimate, baseline = standing.above_baseline, standing.baseline
    reach = interval_text(estimate.interval)
    interval = f"95% interval {reach}; " if reach != MISSING else ""
    against = f"{baseline.arm.baseline} ({network_text(baseline.arm)}) has {baseline.mean:.1%}."
    points_above = f"{signed(estimate.difference)} points"
    return [best, Tile(other, points_above, f"{interval}{against}")]


def _searched_tiles(study: Study, facts: StudyFindings) -> list[Tile]:
    title, other = "Best network so far", "Against the baseline"
    ranked = facts.search.ranked
    if ranked.empty:
        return [Tile(title, MISSING, f"{headline(study)}."), Tile(other, MISSING, "")]
    best = ranked.iloc[0].to_dict()
    score = best[search.SCORE]
    others = beside_largest(facts.search.largest_class)
    text = f"{sentence(network_text(best))}: validation accuracy, not confirmed{others}."
    first = Tile(title, f"{score:.1%}", f"{text} {sentence(ties_text(facts.search.ties))}.")
    for rival in ranked[curves.is_baseline(ranked)].head(1).to_dict("records"):
        gap = f"{signed(score - rival[search.SCORE])} points"
        text = f"{sentence(trial_name(rival))} ({network_text(rival)}) has"
        return [first, Tile(other, gap, f"{text} {rival[search.SCORE]:.1%} in the search.")]
    return [first, Tile(other, MISSING, "No baseline is complete.")]


def cost_text(cost: Cost) -> str:
    """What the study cost, and what early stopping saved."""
    return f"It cost {cost.core:,.0f} core-seconds {_cost_details(cost)}"


def _cost_details(cost: Cost) -> str:
    gpu = f"and {cost.gpu:,.0f} GPU-seconds " if cost.gpu else ""
    wall = f" and {cost.wall:,.0f} s of wall time" if cost.wall else ""
    saved = (
        f"; stopping early saved about {cost.saved_core:,.0f} core-seconds"
        if cost.saved_core
        else ""
    )
    return f"{gpu}in {plural(cost.trials, 'trial')}{wall}{saved}"


def idle_finding(use: SlotUse) -> str:
    """How many trials ran at once, and how long slots stood idle."""
    at_once = f"At most {plural(use.slots, 'trial')} at once"
    return f"{at_once}; slots were idle {use.idle:.0%} of {use.seconds / 60:.1f} minutes"


def next_step(step: Recommendation) -> str:
    """What to run next, and why."""
    images = f"the test images alone leave ±{100 * step.floor:.1f} points, however many seeds"
    return NEXT_STEPS[step.reason].format(
        command=step.command,
        seeds=step.seeds,
        bound=f"±{point_count(step.width)}",
        floor=f"; {images}" if step.floor >= 0.0005 else "",
        rates=rates_text(step.rates) if step.rates else "",
    )


def rates_text(rates: RateRange) -> str:
    """Which range to try next, and why."""
    span = f"from {rates.low:.3g} to {rates.high:.3g}"
    reason = f"for the best of {rates.arm} lies at the {rates.edge} end of the range"
    return f"{spoken(rates.factor)}s {span}, {reason}"


def confusion_finding(accuracies: pd.Series) -> str:
    """The class that is recognised least often."""
    return f"Least accurate on class {accuracies.idxmin()}, {accuracies.min():.1%}"


def closing_lines(study: Study) -> list[str]:
    """Plain lines for the terminal: the answer, the five best, the baselines, warnings, and a line
    for each effect."""
    facts = study_findings(study)
    ranked, table = facts.search.ranked, facts.search.table
    # They fit on a terminal of 80 columns.
    columns = ("trial", "arm", "learning_rate", "validation_accuracy")
    baselines = table[curves.is_baseline(table)]
    tables = {
        BEST_COMPLETE: readable(ranked.head(5), *columns),
        BASELINES_LAST: readable(baselines, "origin", "state", "arm", "validation_accuracy"),
    }
    effects = effect_lines(facts.confirmed) if facts.confirmed else []
    lines = [line for line in answer(study) if line not in effects]
    lines.append(scope(study))
    for title, rows in tables.items():
        if len(rows):
            lines += ["", title, *_indented(rows.to_string(index=False))]
    for status in (TrialStatus.FAILED, TrialStatus.DIVERGED):
        trials = study.trials.loc[study.trials["state"] == status, "trial"]
        if len(trials):
            numbers = ", ".join(map(str, trials))
            lines += ["", f"Warning: {len(trials)} {status}: trial {numbers}"]
    return [*lines, "", *effects] if effects else lines


def _indented(text: str) -> Iterable[str]:
    return (f"  {line}" for line in text.splitlines())


def waiting(study: object) -> str:
    """Plain line for the terminal: a study that is watched has not started."""
    return f"Waiting for the study in {study} to begin; Ctrl+C stops"


def watching(page: object) -> str:
    """Plain line for the terminal: where the live page is."""
    return f"Live report: {page} (updated until the study is over; Ctrl+C stops)"
