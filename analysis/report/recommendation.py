"""What to run next, and why: by what is missing, never by the size of an effect."""

import shlex
from dataclasses import dataclass
from enum import Enum, auto
from math import ceil
from typing import NamedTuple

from analysis.load import Study
from analysis.report.search_findings import SearchFindings
from analysis.statistics import confirm
from trainables.vocabulary import MOST_SEEDS_BY_WIDTH, SearchMode, TrialStatus

MANY_SEEDS = 1_000_000
LEAST_SAMPLES = 20


class Reason(Enum):
    """Why something is recommended."""

    UNFINISHED = auto()
    DIVERGED = auto()
    NONE_COMPLETE = auto()
    ONE_SEED = auto()
    WIDE_INTERVALS = auto()
    TOO_FEW_IMAGES = auto()
    BETTER_ARM = auto()
    ALL_CONCLUDED = auto()
    RATE_AT_END = auto()
    NONE_CONFIRMED = auto()
    FACTORS_UNCLEAR = auto()
    BEST_UNCONFIRMED = auto()


class RateRange(NamedTuple):
    """A range to try next, because an arm's best is at the `edge` (low or high) of the last."""

    factor: str
    arm: str
    edge: str
    low: float
    high: float


@dataclass(frozen=True)
class Recommendation:
    """What to run next: options of the command, the reason, and what that refers to.

    Attributes:
        reason: why.
        command: options, empty where none help.
        width: half of the widest interval aimed at, a fraction.
        seeds: with which every interval may be expected to be that narrow.
        floor: half of the widest interval that the test images alone leave, a fraction; 0 where
            they are not known one by one.
        rates: to try.
    """

    reason: Reason
    command: str = ""
    width: float = 0.0
    seeds: int = 0
    floor: float = 0.0
    rates: RateRange | None = None


def recommend(study: Study, searched: SearchFindings) -> Recommendation:
    """What the study lacks most, and which options of the command give it that."""
    if not study.manifest.get("ended"):
        return Recommendation(Reason.UNFINISHED)
    if len(searched.table) and searched.ranked.empty:
        diverged = (searched.table["state"] == TrialStatus.DIVERGED).any()
        return Recommendation(Reason.DIVERGED if diverged else Reason.NONE_COMPLETE)
    mode = SearchMode(study.manifest["design"].get("search", SearchMode.SAMPLED))
    more_samples = f"--samples {_more_samples(len(searched.table), mode)}"
    if confirm.effects(study):
        return _after_confirm(study, mode, more_samples)
    return _after_search(searched, mode, more_samples)


def _more_samples(trials: int, mode: SearchMode) -> int:
    """Twice the samples there are, and at least `LEAST_SAMPLES`; in a factorial design a multiple
    of the arms, as those there are."""
    if mode is SearchMode.FACTORIAL:
        return trials * ceil(LEAST_SAMPLES / max(1, min(LEAST_SAMPLES // 2, trials)))
    return max(LEAST_SAMPLES, 2 * trials)


def _after_confirm(study: Study, mode: SearchMode, more_samples: str) -> Recommendation:
    """What brings every effect's interval within the margin, or where all are, a better arm."""
    estimates = [effect.estimate for effect in confirm.effects(study) if effect.estimate.seeds]
    margin = study.manifest["design"].get("margin", 0.01)
    if any(estimate.seeds == 1 for estimate in estimates):
        return Recommendation(Reason.ONE_SEED, "--confirm-seeds 5")
    if all(estimate.interval.half <= margin for estimate in estimates):
        if mode is SearchMode.SAMPLED:
            return Recommendation(Reason.BETTER_ARM, more_samples)
        return Recommendation(Reason.ALL_CONCLUDED)
    on_images = [estimate for estimate in estimates if estimate.images]
    halves = [estimate.with_seeds(MANY_SEEDS).interval.half for estimate in on_images]
    floor = max(halves, default=0.0)
    seeds = confirm.seeds_for_width(study, margin)
    if seeds is None:
        return Recommendation(Reason.TOO_FEW_IMAGES, width=margin, floor=floor)
    command = f"--confirm-until-width {100 * margin:g}"
    if seeds > MOST_SEEDS_BY_WIDTH:
        command = f"--confirm-seeds {seeds}"
    return Recommendation(Reason.WIDE_INTERVALS, command, margin, seeds, floor)


def _after_search(searched: SearchFindings, mode: SearchMode, more_samples: str) -> Recommendation:
    rates = _rates_to_try(searched)
    if rates:
        return Recommendation(Reason.RATE_AT_END, rates=rates)
    if mode is SearchMode.NONE:
        return Recommendation(Reason.NONE_CONFIRMED)
    if not searched.importances["reliable"].any():
        return Recommendation(Reason.FACTORS_UNCLEAR, more_samples)
    return Recommendation(Reason.BEST_UNCONFIRMED, "--confirm-seeds 3")


def _rates_to_try(searched: SearchFindings) -> RateRange | None:
    """Where the best arm did best at an end of a range, the range around that."""
    for name, response in searched.responses.items():
        for row in response.head(1).to_dict("records"):
            if row["edge"] and row["arm"] == searched.ranked["arm"].iloc[0]:
                return RateRange(name, row["arm"], row["edge"], row["next_low"], row["next_high"])
    return None


def next_command(study: Study, step: Recommendation) -> str:
    """The command of the study with the recommended options; empty where there are none."""
    name, _, value = step.command.partition(" ")
    words = shlex.split(str(study.manifest.get("command") or ""))
    if not words or not (step.command or step.reason is Reason.UNFINISHED):
        return ""
    if name in words:
        place = words.index(name)
        del words[place : place + 2]
    kept = [word for word in words if not (name and word.startswith(f"{name}="))]
    return shlex.join([*kept, *filter(None, (name, value))])
