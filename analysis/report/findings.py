"""What a study shows, as facts: `wording` puts them into sentences, `page` and `figures` show them.

Scores of the search stage are of one seed, on validation images, and the best is a maximum.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

import pandas as pd
from scipy import stats

from analysis.load import Study
from analysis.statistics import confirm, curves, search
from analysis.statistics.arms import FIELDS, Arm, ConfirmStage, confirm_stage
from analysis.statistics.confirm import ArmSummary, Drift, Effect
from analysis.statistics.cost import spent
from analysis.statistics.estimate import Estimate
from trainables.vocabulary import (
    MOST_SEEDS_BY_WIDTH,
    ArmRole,
    Outcome,
    SearchMode,
    Stage,
    TrialStatus,
)

MANY_SEEDS = 1_000_000
UNEVEN = 1.5
"""From so many times its even share the largest class is named beside an accuracy."""
LEAST_SAMPLES = 20
BEST_ARMS = 4
ENDED_BADLY = (TrialStatus.DIVERGED, TrialStatus.FAILED)


class SlotUse(NamedTuple):
    """How many trials ran at once at most, for how many seconds, and the share of that time that
    slots were without a training epoch."""

    slots: int
    seconds: float
    idle: float


@dataclass(frozen=True)
class LargestClass:
    """The class of a part's most images, and the accuracy of always naming it."""

    name: str
    share: float


@dataclass(frozen=True)
class Ties:
    """How many other arms have a score of at least `bound`, the lower end of the best score's 95%
    interval for the sampling of validation images alone (Wilson 1927)."""

    arms: int
    bound: float
    trials: int
    images: int


@dataclass(frozen=True, eq=False)
class SearchFindings:
    """What the search stage shows.

    Attributes:
        table: its trials, of `curves.results`.
        ranked: the complete ones, best first.
        levels: of `curves.factor_levels`, by factor.
        importances: of `search.importance`.
        responses: of `search.rate_response`, by factor with a range.
        scientific: the factors whose effect is the question.
        ties: with the best score; None while there is none, or where the images are not counted.
        largest_class: of the validation images, where accuracy is to be read beside it.
    """

    table: pd.DataFrame
    ranked: pd.DataFrame
    levels: Mapping[str, pd.DataFrame]
    importances: pd.DataFrame
    responses: Mapping[str, pd.DataFrame]
    scientific: Sequence[Mapping[str, Any]]
    ties: Ties | None
    largest_class: LargestClass | None


@dataclass(frozen=True)
class Standing:
    """What the confirmed arms reach.

    Attributes:
        seeds: that all compared arms have completed.
        images: test images that the outcome was read on, 0 where it is another.
        own_epochs: whether arms were trained for different numbers of epochs.
        outcome: the reading that decides.
        winner: None in a design without one.
        accuracy: test accuracy of the winner; None where too few of its seeds are complete.
        baseline: how far the winner is above it.
        optimism: by how much the winner's score in the search was above the mean of its seeds.
        best: in a design without a winner its best arms.
        largest_class: of the test images, where accuracy is to be read beside it.
    """

    seeds: int
    images: int
    own_epochs: bool
    outcome: Outcome
    winner: Arm | None = None
    accuracy: ArmSummary | None = None
    baseline: ArmSummary | None = None
    above_baseline: Estimate | None = None
    optimism: float | None = None
    best: tuple[ArmSummary, ...] = ()
    largest_class: LargestClass | None = None


class InteractionFinding(NamedTuple):
    """A significant interaction, with the simple effects where it is of one pair of factors."""

    interaction: confirm.Interaction
    simple: Sequence[confirm.SimpleEffect]


class IncompleteArm(NamedTuple):
    """An arm of which trials diverged or failed; `excluded` where too few are complete."""

    arm: Arm
    statuses: Mapping[TrialStatus, int]
    excluded: bool


@dataclass(frozen=True, eq=False)
class ConfirmFindings:
    """What the confirm stage shows.

    Attributes:
        stage: its arrays.
        arms: those with a complete trial, and what they reach.
        standing: None while the arms have no complete seed in common.
        effects: of each factor.
        interactions: the significant ones, by p.
        tested: the interactions there are.
        drifts: effects that still change at the last epoch.
        incomplete: arms of which trials diverged or failed.
        noisy: the arm that varies more over seeds than the others.
        tuned: whether arms have learning rates of their own.
        shared_nuisances: that were not tuned for each arm but are the winner's.
    """

    stage: ConfirmStage
    arms: tuple[ArmSummary, ...]
    standing: Standing | None
    effects: tuple[Effect, ...]
    interactions: tuple[InteractionFinding, ...]
    tested: tuple[confirm.Interaction, ...]
    drifts: tuple[Drift, ...]
    incomplete: tuple[IncompleteArm, ...]
    noisy: Arm | None
    tuned: bool
    shared_nuisances: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """What a study cost, in seconds; `wall` is None while that is not known."""

    core: float
    gpu: float
    saved_core: float
    wall: float | None
    trials: int


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


@lru_cache(maxsize=4)
def study_findings(study: Study) -> StudyFindings:
    """The findings of a study; they take seconds, and page and terminal ask for the same."""
    searched = _search_findings(study)
    confirmed = _confirm_findings(study)
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


def _search_findings(study: Study) -> SearchFindings:
    factors = study.manifest["design"]["factors"]
    table = curves.results(study.trials, study.epochs)
    ranked = curves.ranked(table)
    return SearchFindings(
        table=table,
        ranked=ranked,
        levels={factor["name"]: curves.factor_levels(table, factor) for factor in factors},
        importances=search.importance(table, factors),
        responses={
            factor["name"]: search.rate_response(table, factor)
            for factor in factors
            if "levels" not in factor
        },
        scientific=search.scientific(factors),
        ties=_ties(ranked, study.manifest["dataset"]["counts"].get("validation") or 0),
        largest_class=_largest_class(study, "validation"),
    )


def _largest_class(study: Study, part: str) -> LargestClass | None:
    """None where the classes are about as large, or the study did not record it."""
    dataset = study.manifest["dataset"]
    largest = LargestClass(*dataset.get("largest_class", {}).get(part, ("", 0.0)))
    return largest if largest.share > UNEVEN / len(dataset["classes"]) else None


def _ties(ranked: pd.DataFrame, images: int) -> Ties | None:
    if ranked.empty or not images:
        return None
    scores = ranked["validation_accuracy"]
    recognised = round(scores.iloc[0] * images)
    bound = stats.binomtest(recognised, images).proportion_ci(method="wilson").low
    arms = ranked.loc[scores >= bound, "arm"].nunique() - 1
    return Ties(arms, bound, len(ranked), images)


def _confirm_findings(study: Study) -> ConfirmFindings | None:
    stage = confirm_stage(study)
    if stage is None:
        return None
    arms = tuple(confirm.arm_summaries(stage, stage.outcome))
    tested = confirm.interactions(study)
    significant = sorted((row for row in tested if row.significant), key=lambda row: row.p)
    tuned = bool((study.trials["stage"] == Stage.TUNE).any())
    return ConfirmFindings(
        stage=stage,
        arms=arms,
        standing=_standing(study, stage, arms),
        effects=confirm.effects(study),
        interactions=tuple(
            InteractionFinding(row, confirm.simple_effects(study, row)) for row in significant
        ),
        tested=tested,
        drifts=tuple(drift for drift in confirm.drifts(study) if drift.moves),
        incomplete=tuple(_incomplete(stage)),
        noisy=confirm.noisy_arm(stage),
        tuned=tuned or bool(stage.numbers(ArmRole.ARM)),
        shared_nuisances=_shared_nuisances(study, stage, tuned),
    )


def _standing(study: Study, stage: ConfirmStage, arms: Sequence[ArmSummary]) -> Standing | None:
    kept, seeds = stage.paired(stage.compared)
    if not kept:
        return None
    on_images = stage.outcome is Outcome.TEST_ACCURACY
    images = study.manifest["dataset"]["counts"].get("test", 0) if on_images else 0
    largest = _largest_class(study, "test") if on_images else None
    own_epochs = len({stage.arms[number]["max_epochs"] for number in kept}) > 1
    winners = stage.numbers(ArmRole.WINNER)
    if not winners:
        best = sorted(arms, key=lambda summary: -summary.mean)[:BEST_ARMS]
        return Standing(
            seeds=len(seeds),
            images=images,
            own_epochs=own_epochs,
            outcome=stage.outcome,
            best=tuple(best),
            largest_class=largest,
        )
    winner = stage.arms[winners[0]]
    accuracies = {row.arm: row for row in confirm.arm_summaries(stage, Outcome.TEST_ACCURACY)}
    accuracy = accuracies.get(winner)
    pair = confirm.against_baseline(study) if on_images else None
    return Standing(
        seeds=len(seeds),
        images=images,
        own_epochs=own_epochs,
        outcome=stage.outcome,
        winner=winner,
        accuracy=accuracy,
        baseline=accuracies[pair.baseline] if pair else None,
        above_baseline=pair.estimate if pair else None,
        optimism=_optimism(study, accuracy) if accuracy else None,
        largest_class=largest,
    )


def _optimism(study: Study, winner: ArmSummary) -> float | None:
    """By how much the search's best score is above the confirmed mean; None where the confirmed arm
    has another learning rate."""
    table = curves.results(study.trials, study.epochs)
    best = table[table["trial"] == curves.winner(table)]
    if best.empty or best["learning_rate"].iloc[0] != winner.arm["learning_rate"]:
        return None
    return float(best["validation_accuracy"].iloc[0]) - winner.mean


def _incomplete(stage: ConfirmStage) -> list[IncompleteArm]:
    arms = []
    for number, arm in enumerate(stage.arms):
        states = stage.states[number].tolist()
        ended = (TrialStatus.COMPLETE, *ENDED_BADLY)
        counts = {status: states.count(status) for status in ended}
        if any(counts[status] for status in ENDED_BADLY):
            # A baseline is compared with the winner alone.
            pair = [*stage.numbers(ArmRole.WINNER), number]
            compared = stage.compared if number in stage.compared else pair
            arms.append(IncompleteArm(arm, counts, number not in stage.paired(compared)[0]))
    return arms


def _shared_nuisances(study: Study, stage: ConfirmStage, tuned: bool) -> tuple[str, ...]:
    if not stage.numbers(ArmRole.WINNER):
        return ()
    nuisances = [
        factor["name"]
        for factor in study.manifest["design"]["factors"]
        if factor.get("role") == "nuisance"
    ]
    return tuple(name for name in nuisances if not (tuned and name == "learning_rate"))


def recommend(study: Study, searched: SearchFindings) -> Recommendation:
    """What to run next: by what is missing, never by the size of an effect."""
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


class LevelRange(NamedTuple):
    """The levels of a factor with the lowest and the highest median validation accuracy at the last
    epoch that all their trials reached."""

    epoch: int
    lowest: str
    low: float
    highest: str
    high: float


def level_range(quartiles: pd.DataFrame, classes: int) -> LevelRange | None:
    """That of `curves.level_curves`; None without such an epoch, or where all are below twice what
    guessing one of `classes` gives, so that nothing has been learnt that could be compared."""
    rows = quartiles[quartiles["reading"] == "validation_accuracy"].astype({"level": "str"})
    rows["median"] = rows["median"].where(rows["over_all"])
    shared = rows.pivot(index="epoch", columns="level", values="median").dropna()
    if shared.empty or len(shared.columns) < 2:
        return None
    last = shared.iloc[-1].sort_values(kind="stable")
    epoch = int(shared.index[-1])
    if last.iloc[-1] < 2 / max(classes, 2):
        return None
    return LevelRange(epoch, str(last.index[0]), last.iloc[0], str(last.index[-1]), last.iloc[-1])


def next_command(study: Study) -> str:
    """The command of the study with the recommended options; empty where there are none."""
    step = study_findings(study).next_step
    name, _, value = step.command.partition(" ")
    words = shlex.split(str(study.manifest.get("command") or ""))
    if not words or not (step.command or step.reason is Reason.UNFINISHED):
        return ""
    if name in words:
        place = words.index(name)
        del words[place : place + 2]
    kept = [word for word in words if not (name and word.startswith(f"{name}="))]
    return shlex.join([*kept, *filter(None, (name, value))])


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


class BestTrial(NamedTuple):
    """Which trial of a study is best, and which sample that was of how many."""

    study: str
    trial: int
    sample: int
    samples: int


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


def has_confirmed_model(study: Study) -> bool:
    """Whether the chosen model is the winner's first confirm seed, and not yet the search trial."""
    stage = confirm_stage(study)
    if stage is None:
        return False
    return bool((stage.states[stage.numbers(ArmRole.WINNER)] == TrialStatus.COMPLETE).any())


def mistakes(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of `load.read_predictions` that are wrong, the most confident first."""
    wrong = predictions[predictions["predicted class"] != predictions["true class"]]
    return wrong.sort_values("probability", ascending=False, kind="stable")
