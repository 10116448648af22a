"""What a study shows, as facts: `wording` puts them into sentences, page and figures show them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import pandas as pd

from analysis.load import Study
from analysis.report.confirm_findings import ConfirmFindings, confirm_findings
from analysis.report.recommendation import Recommendation, recommend
from analysis.report.search_findings import SearchFindings, search_findings
from analysis.statistics import curves
from analysis.statistics.arms import FIELDS
from analysis.statistics.cost import spent
from trainables.vocabulary import Stage, TrialStatus


@dataclass(frozen=True)
class Cost:
    """What a study cost, in seconds; `wall` is None while that is not known."""

    core: float
    gpu: float
    saved_core: float
    wall: float | None
    trials: int


@dataclass(frozen=True, eq=False)
class StudyFindings:
    """What a study shows; `confirmed` is None before its confirm stage has a trial.
    `nothing_confirmed` is whether that stage ended without any seed in common."""

    search: SearchFindings
    confirmed: ConfirmFindings | None
    nothing_confirmed: bool
    spent: pd.DataFrame
    cost: Cost
    next_step: Recommendation


class BestTrial(NamedTuple):
    """Which trial of a study is best, and which sample that was of how many."""

    study: str
    trial: int
    sample: int
    samples: int


class SlotUse(NamedTuple):
    """How many trials ran at once at most, for how many seconds, and the share of that time that
    slots were without a training epoch."""

    slots: int
    seconds: float
    idle: float


@lru_cache(maxsize=4)
def study_findings(study: Study) -> StudyFindings:
    """The findings of a study; they take seconds, and page and terminal ask for the same."""
    searched = search_findings(study)
    confirmed = confirm_findings(study)
    states = study.trials.loc[study.trials["stage"] == Stage.CONFIRM, "state"]
    ended = len(states) > 0 and not (states == TrialStatus.RUNNING).any()
    costs = spent(study.trials, study.epochs, study.manifest["settings"])
    core, gpu, saved = costs[["core_seconds", "gpu_seconds", "saved_core_seconds"]].sum()
    wall = (study.manifest.get("seconds") or {}).get("wall")
    return StudyFindings(
        search=searched,
        confirmed=confirmed,
        nothing_confirmed=ended and (confirmed is None or confirmed.standing is None),
        spent=costs,
        cost=Cost(core, gpu, saved, wall, len(study.trials)),
        next_step=recommend(study, searched),
    )


def best_config(study: Study) -> dict[str, Any]:
    """The configuration of the winner, or before it is confirmed of the best search trial; empty
    while there is none."""
    facts = study_findings(study)
    if facts.confirmed and facts.confirmed.standing:
        best = facts.confirmed.standing
        arm = best.winner or (best.best[0].arm if best.best else None)
        if arm:
            return {name: arm[name] for name in FIELDS}
    rows = facts.search.ranked.head(1)[FIELDS]
    return dict(*rows.astype("object").to_dict("records"))


def best_trials(named: Mapping[str, Study]) -> list[BestTrial]:
    """The best complete search trial of each study that has one."""
    best = []
    for name, study in named.items():
        table = study_findings(study).search.table
        trial = curves.winner(table)
        if trial is not None:
            sample = 1 + table["trial"].tolist().index(trial)
            best.append(BestTrial(name, trial, sample, len(table)))
    return best


def slot_use(bars: pd.DataFrame) -> SlotUse:
    """How the slots of `cost.timeline` were used."""
    slots, seconds = int(bars["slot"].max()) + 1, float(bars["end"].max())
    busy = float((bars["end"] - bars["start"]).sum())
    return SlotUse(slots, seconds, max(0.0, 1 - busy / (slots * seconds)))


def mistakes(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of `load.read_predictions` that are wrong, the most confident first."""
    wrong = predictions[predictions["predicted class"] != predictions["true class"]]
    return wrong.sort_values("probability", ascending=False, kind="stable")
