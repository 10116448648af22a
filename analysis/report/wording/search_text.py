"""What the search stage shows, in words: one short function per fact."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.load import Study
from analysis.report.findings import BestTrial, study_findings
from analysis.report.search_findings import LevelRange, SearchFindings, Ties
from analysis.report.wording.values import (
    beside_largest,
    plural,
    sentence,
    show,
    spoken,
    stage_trials,
    trial_name,
)
from analysis.statistics import curves, search
from trainables.vocabulary import Stage, TrialStatus


def headline(study: Study) -> str:
    """The best complete search trial, and the best baseline beside it; or that there is none."""
    ranked = study_findings(study).search.ranked
    finished = study.manifest.get("ended")
    if ranked.empty:
        yet = "" if finished else " yet"
        return f"No complete trial{yet} ({stage_trials(study, Stage.SEARCH)})"
    best = ranked.iloc[0].to_dict()
    so_far = "" if finished else " so far"
    rate = f"learning rate {best['learning_rate']:.3g}"
    score = f"{best['validation_accuracy']:.1%} validation accuracy"
    lead = f"{sentence(trial_name(best))} ({best['arm']}, {rate}) is best{so_far}"
    text = f"{lead}: {score} after {plural(best['epochs'], 'epoch')}"
    text += beside_largest(study_findings(study).search.largest_class)
    for rival in ranked[curves.is_baseline(ranked)].head(1).to_dict("records"):
        if rival["trial"] != best["trial"]:
            return f"{text}, best {trial_name(rival)} {rival['validation_accuracy']:.1%}"
    return text


def ties_text(ties: Ties | None) -> str:
    """What the number of trials, images and seeds says of the best score."""
    if ties is None:
        return "which arm is best is not known yet"
    trials = plural(ties.trials, "complete search trial")
    images = plural(ties.images, "validation image")
    optimistic = f"a maximum over {trials}, {images} and one seed is optimistic"
    if not ties.arms:
        return optimistic
    arms = f"{plural(ties.arms, 'other arm')} with {ties.bound:.1%} or more"
    return f"{optimistic}, and on these images it is not significantly above {arms}"


def importance_finding(searched: SearchFindings) -> str:
    """Which factor matters, as far as importance is reliable."""
    shares = searched.importances
    trials = int(shares["trials"].max()) if len(shares) else 0
    if not shares["reliable"].any():
        enough = trials >= search.ENOUGH_TRIALS
        reason = ", and the factors do not predict their scores" if enough else ""
        complete = f"{plural(trials, 'complete trial')} beside the baselines"
        return f"Which factor matters is not known yet: {complete}{reason}"
    names = [factor["name"] for factor in searched.scientific]
    first = shares.head(1)
    scientific = shares[shares["factor"].isin(names)].head(1)
    texts = [
        f"{spoken(row['factor'])}, {row['importance']:.0%} "
        f"({row['least']:.0%}–{row['most']:.0%} by forest)"
        for row in pd.concat([first, scientific]).drop_duplicates("factor").to_dict("records")
    ]
    lead = f"What seems to explain most of the variance over {trials} complete trials (fANOVA)"
    return f"{lead} is the {'; of the scientific factors the '.join(texts)}"


def rates_finding(responses: pd.DataFrame, factor: str) -> str:
    """How many arms did best at an end of a range."""
    arms = plural(len(responses), "arm")
    edges = (responses["edge"] != "").sum()
    return f"{edges} of {arms} did best at an end of the range of {spoken(factor)}s"


def level_finding(levels: LevelRange | None, factor: str) -> str:
    """The lowest and the highest median among the levels of a factor."""
    name = spoken(factor)
    if levels is None:
        return f"Learning curves by {name}"
    lead = f"After epoch {levels.epoch}, the last that all trials reached"
    low, high = f"{levels.low:.1%} ({levels.lowest})", f"{levels.high:.1%} ({levels.highest})"
    return f"{lead}, median validation accuracy by {name} runs from {low} to {high}"


def best_so_far_finding(best: Sequence[BestTrial]) -> str:
    """Which sample was the best of each study."""
    texts = [
        f"{row.study}, trial {row.trial}, sample {row.sample} of {row.samples}" for row in best
    ]
    return f"The best trial: {'; '.join(texts) or 'none yet'}"


def role_labels(study: Study) -> dict[str, str]:
    """The legend's text of the winner and of each baseline that has started, by role, the best
    first."""
    table = study_findings(study).search.table
    best = curves.winner(table)
    shown = table[table["role"] != curves.OTHER]
    shown = shown.sort_values("trial", key=lambda trial: trial != best, kind="stable")
    return {row["role"]: _role_label(row, best) for row in shown.to_dict("records")}


def _role_label(trial: Mapping[Any, Any], best: int | None) -> str:
    lead = "best: " if trial["trial"] == best else ""
    arm = f", {trial['arm']}" if trial["role"] == curves.WINNER else ""
    score = show(trial["validation_accuracy"], "validation_accuracy")
    state = "" if trial["state"] == TrialStatus.COMPLETE else f" ({trial['state']})"
    return f"{lead}{trial_name(trial)}{arm}, lr {trial['learning_rate']:.3g}: {score}{state}"


def others_label(trials: int) -> str:
    """All trials that are neither the best nor baselines, in a legend."""
    return f"{trials} other trials and their median"


def level_legend(level: str, trials: int, epoch: int, read: int) -> str:
    """A level in a legend, with how many of its trials were read at the last epoch."""
    return f"{level}: n = {trials}, at epoch {epoch} n = {read}"


def status_legend(status: str, trials: int) -> str:
    """A state's marker in a legend."""
    return f"{status} ({trials})"
