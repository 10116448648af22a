"""The tune and confirm stages: which arms are trained again, with which learning rates and seeds.

The best of a search is the maximum of many noisy scores of one seed, read on the images that it was
chosen by: it is optimistic, and it does not say which part mattered (Bouthillier et al. 2021,
Accounting for variance in machine learning benchmarks). So a two-level factorial design around the
winner (Box, Hunter & Hunter 2005, Statistics for Experimenters, chapters 5 and 6), in which every
trial informs every effect, is trained again on training and validation images together, and read on
test images that nothing was chosen by. Before, each of its arms gets its own learning rate, on
validation images: at one shared rate the effects depend on the rate.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from study.designs import Design, Factor
from study.state import StudyState, TrialRecord
from trainables.config import TrialConfig
from trainables.vocabulary import ArmRole, SearchMode, Stage, TrialStatus

RATE = "learning_rate"
RATE_STEP = 3.0
"""An arm's learning rate is tuned among the winner's, and it divided and multiplied by this."""
GENERATORS: Mapping[int, Sequence[Sequence[int]]] = {
    4: [(0, 1, 2)],
    5: [(0, 1, 2, 3)],
    6: [(0, 1, 2), (1, 2, 3)],
    7: [(0, 1, 2), (1, 2, 3), (0, 2, 3)],
    8: [(1, 2, 3), (0, 2, 3), (0, 1, 2), (0, 1, 3)],
}
"""By number of factors, of which of the first ones each of the others is the product: half fraction
of 8 arms, then 16 arms, all of resolution IV at least (Box, Hunter & Hunter 2005, table 6.22)."""
MOST_FACTORS = max(GENERATORS)


TUNED = (ArmRole.WINNER, ArmRole.FRACTION, ArmRole.ALONE)


@dataclass(frozen=True)
class Change:
    """The two levels of a factor that are compared: the winner's and its best other one."""

    factor: str
    start: Any
    to: Any


@dataclass(frozen=True)
class Arm:
    """An arm that is confirmed: its config (seed 0), and for its role the factor changed or the
    baseline's name.

    `rate_at_end` is `low` or `high` where its best learning rate is at that end of those tried, so
    that a better one may lie beyond.
    """

    role: ArmRole
    config: TrialConfig
    factor: str = ""
    baseline: str = ""
    rate_at_end: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The arm, ready for JSON; no seed is part of it."""
        config = self.config.to_dict()
        del config["seed"]
        return {
            "role": str(self.role),
            "factor": self.factor,
            "baseline": self.baseline,
            "rate_at_end": self.rate_at_end,
            "config": config,
        }


@dataclass(frozen=True)
class ConfirmPlan:
    """The arms of the confirm stage, and in a sampled design the change of each factor."""

    changes: tuple[Change, ...]
    arms: tuple[Arm, ...]

    def to_dict(self) -> dict[str, Any]:
        """The plan, ready for JSON: what the record keeps and the analysis reads."""
        factors = [
            {"factor": each.factor, "from": each.start, "to": each.to} for each in self.changes
        ]
        return {"factors": factors, "arms": [arm.to_dict() for arm in self.arms]}

    def trials(self, seed: int, seeds: int) -> list[TrialConfig]:
        """Every arm with the first of the seeds that follow the study's own, then every arm with
        the next: arms are paired by seed, and a stage cut short is even."""
        configs = list(dict.fromkeys(arm.config for arm in self.arms))
        return [
            replace(config, seed=seed + 1 + number) for number in range(seeds) for config in configs
        ]


def confirm_plan(design: Design, state: StudyState) -> ConfirmPlan:
    """The arms to confirm, each at its tuned learning rate, after the search and tune stages."""
    plan = _plan_at_winners_rate(design, state)
    arms = [arm for arm in plan.arms if arm.role in TUNED]
    if state.version > 1 and arms and _rates_to_try(design, arms[0].config):
        arms = _at_best_rates(design, replace(plan, arms=tuple(arms)), state)
    others = [arm for arm in plan.arms if arm.role not in TUNED]
    for baseline in [arm for arm in others if arm.role == ArmRole.BASELINE]:
        for place, arm in enumerate(arms):
            if arm.config == baseline.config:  # it is one of the arms around the winner
                arms[place] = replace(arm, baseline=baseline.baseline)
                others.remove(baseline)
    return replace(plan, arms=(*arms, *others))


def missing_tune_trials(design: Design, state: StudyState) -> list[TrialConfig]:
    """The trials that the tune stage needs and the record lacks, after the search stage."""
    if state.version == 1 or design.search != SearchMode.SAMPLED:
        # Studies of version 1 took the winner's rate; a factorial search tunes within every arm.
        return []
    seed = state.header["settings"]["seed"]
    wanted = [
        replace(arm.config, learning_rate=rate, seed=seed)
        for arm in _plan_at_winners_rate(design, state).arms
        if arm.role in TUNED
        for rate in _rates_to_try(design, arm.config)
    ]
    known = [trial.config for trial in (*_searched(state), *state.in_stage(Stage.TUNE))]
    return [config for config in wanted if config.to_dict() not in known]


def missing_confirm_trials(design: Design, state: StudyState, seeds: int) -> list[TrialConfig]:
    """The trials that the confirm stage needs and the record does not have."""
    known = [trial.config for trial in state.in_stage(Stage.CONFIRM)]
    wanted = confirm_plan(design, state).trials(state.header["settings"]["seed"], seeds)
    return [config for config in wanted if config.to_dict() not in known]


def most_arms(design: Design) -> int:
    """How many arms are confirmed, at most."""
    if design.search != SearchMode.SAMPLED:
        return (
            len(design.arms()) if design.search == SearchMode.FACTORIAL else len(design.baselines)
        )
    return most_tuned_arms(design) + min(1, len(design.baselines))


def most_tune_trials(design: Design) -> int:
    """How many trials the tune stage has, at most."""
    if design.search != SearchMode.SAMPLED or not any(
        factor.name == RATE for factor in design.factors
    ):
        return 0
    return 3 * most_tuned_arms(design) - 1  # the winner has its own rate from the search


def most_tuned_arms(design: Design) -> int:
    """How many arms of a sampled design are tuned, at most."""
    crossed, alone = _crossed_and_alone(design.scientific)
    return len(two_level_design(len(crossed))) + len(alone)


def two_level_design(factors: int) -> list[tuple[int, ...]]:
    """The arms of a two-level design of so many factors (at most 8), +1 or -1 by factor; the first
    is all +1.

    Up to three factors every combination; above, the fraction that `GENERATORS` defines, in which
    the last factors are products of the first ones.
    """
    generators = GENERATORS.get(factors, [])
    runs = itertools.product((1, -1), repeat=factors - len(generators))
    return [
        (*run, *(math.prod(run[place] for place in product) for product in generators))
        for run in runs
    ]


def _plan_at_winners_rate(design: Design, state: StudyState) -> ConfirmPlan:
    """In a sampled design the arms around the winner and the first baseline as it stands; in a
    factorial one every arm at its own best nuisances; without a search stage the baselines."""
    epochs = state.header["settings"]["epochs"]
    baselines = [
        Arm(ArmRole.BASELINE, design.baseline(name, epochs, 0), baseline=name)
        for name in design.baselines
    ]
    if design.search == SearchMode.NONE:
        return ConfirmPlan((), tuple(baselines))
    if design.search == SearchMode.FACTORIAL:
        return ConfirmPlan((), tuple(_factorial_arms(design, state)))
    if (winner := state.winner()) is None:
        return ConfirmPlan((), ())
    existing = [
        factor for factor in design.scientific if factor.name in design.existing(winner.config)
    ]
    changes = {
        factor.name: Change(
            factor.name, winner.config[factor.name], _best_other(design, state, winner, factor)
        )
        for factor in existing
    }
    # Studies of version 1 changed one factor at a time.
    crossed, alone = ([], existing) if state.version == 1 else _crossed_and_alone(existing)
    arms = list(_crossed_arms(design, winner, [changes[factor.name] for factor in crossed]))
    for factor in alone:
        arms.append(
            Arm(ArmRole.ALONE, _changed(design, winner, [changes[factor.name]]), factor=factor.name)
        )
    return ConfirmPlan(tuple(changes.values()), (*arms, *baselines[:1]))


def _crossed_and_alone(factors: Sequence[Factor]) -> tuple[list[Factor], list[Factor]]:
    """The factors that are varied together, and those that are changed one at a time: the ones that
    exist only at some levels of others, and those for which there is no two-level design."""
    free = [factor for factor in factors if not factor.when]
    return free[:MOST_FACTORS], [
        *free[MOST_FACTORS:],
        *(factor for factor in factors if factor.when),
    ]


def _crossed_arms(design: Design, winner: TrialRecord, changes: Sequence[Change]) -> Iterator[Arm]:
    """The members of the two-level design around the winner, the winner first."""
    for signs in two_level_design(len(changes)):
        changed = [change for change, sign in zip(changes, signs, strict=True) if sign < 0]
        role = ArmRole.FRACTION if changed else ArmRole.WINNER
        yield Arm(role, _changed(design, winner, changed))


def _factorial_arms(design: Design, state: StudyState) -> Iterator[Arm]:
    for levels in design.arms():
        tried = [
            trial
            for trial in state.in_stage(Stage.SEARCH)
            if levels.items() <= trial.config.items()
        ]
        if complete := [trial for trial in tried if trial.state == TrialStatus.COMPLETE]:
            best = max(complete, key=lambda trial: trial.rank)
            yield Arm(ArmRole.ARM, _seedless(best), rate_at_end=_end_of_rates(best, tried))


def _best_other(design: Design, state: StudyState, winner: TrialRecord, factor: Factor) -> Any:
    """The level of a factor, not the winner's, that did best in the search; a complete trial goes
    before a stopped one, and baselines do not count, for they differ in more. The first level where
    no trial has another."""
    mine = winner.config[factor.name]
    best: TrialRecord | None = None
    for trial in state.in_stage(Stage.SEARCH):
        level = design.existing(trial.config).get(factor.name, mine)
        eligible = trial.state in ("complete", "stopped") and not trial.origin.startswith(
            "baseline:"
        )
        if level != mine and eligible and (best is None or _goes_before(trial, best)):
            best = trial
    return (
        best.config[factor.name]
        if best
        else next(level for level in factor.levels if level != mine)
    )


def _goes_before(trial: TrialRecord, other: TrialRecord) -> bool:
    return (trial.state == TrialStatus.COMPLETE, trial.rank) > (
        other.state == TrialStatus.COMPLETE,
        other.rank,
    )


def _changed(design: Design, winner: TrialRecord, changes: Sequence[Change]) -> TrialConfig:
    """The winner with these factors at their other levels; what only exists with the winner's
    levels falls back."""
    values = {**winner.config, **{change.factor: change.to for change in changes}}
    kept = design.existing(values)
    usual = TrialConfig().to_dict() | dict(design.fixed)
    gone = {each.name: usual[each.name] for each in design.factors if each.name not in kept}
    return TrialConfig.from_dict({**values, **gone, "seed": 0})


def _rates_to_try(design: Design, config: TrialConfig) -> list[float]:
    """The learning rates that an arm is tuned over, around the one that it has; none where the
    design fixes it."""
    rate = config.learning_rate
    factor = next((factor for factor in design.factors if factor.name == RATE), None)
    if factor is None or not factor.exists(config.to_dict()):
        return []
    if factor.levels:
        levels = sorted({*factor.levels, rate})
        place = levels.index(rate)
        return levels[max(0, place - 1) : place + 2]
    # A winner that is a baseline may lie outside the range.
    low, high = min(factor.low, rate), max(factor.high, rate)
    return sorted({min(max(rate * step, low), high) for step in (1 / RATE_STEP, 1.0, RATE_STEP)})


def _at_best_rates(design: Design, plan: ConfirmPlan, state: StudyState) -> list[Arm]:
    """The arms of a plan, each at the one of its learning rates tried where the fitted validation
    loss is least.

    An arm of which no trial is complete keeps the winner's rate: the confirm stage shows whether it
    diverges, too.
    """
    tried = [_tried(design, arm, state) for arm in plan.arms]
    complete = [
        (place, trial)
        for place, trials in enumerate(tried)
        for trial in trials
        if trial.state == TrialStatus.COMPLETE
    ]
    places_P = np.array([place for place, _ in complete], dtype=int)
    steps_P = np.array(
        [
            math.log(trial.config[RATE] / plan.arms[place].config.learning_rate)
            for place, trial in complete
        ]
    )
    losses_P = np.array([trial.epochs[-1]["validation_loss"] for _, trial in complete])
    starts = [
        [getattr(arm.config, each.factor) == each.start for each in plan.changes]
        for arm in plan.arms
    ]
    fitted_P = response_surface(places_P, steps_P, losses_P, np.where(starts, 1.0, -1.0))
    worst_first = sorted(
        zip(fitted_P, complete, strict=True), key=lambda row: (-row[0], -row[1][1].trial)
    )
    best = {place: trial for _, (place, trial) in worst_first}
    return [
        replace(
            arm, config=_seedless(best[place]), rate_at_end=_end_of_rates(best[place], tried[place])
        )
        if place in best
        else arm
        for place, arm in enumerate(plan.arms)
    ]


def response_surface(
    places_P: np.ndarray, steps_P: np.ndarray, losses_P: np.ndarray, signs_AxF: np.ndarray
) -> np.ndarray:
    """The validation losses of P trials, smoothed over the learning rate.

    Least squares on the logarithm of the loss: each arm has a level of its own, all share the
    curvature in the logarithm of the rate, and the optimum is additive in the factors (Box & Wilson
    1951, On the experimental attainment of optimum conditions). One arm's losses alone are too
    noisy: of few images, with one seed.

    Args:
        places_P: the arm of each trial, a row of `signs_AxF`.
        steps_P: the logarithm of its learning rate, from that of the winner.
        losses_P: its validation loss, in nats.
        signs_AxF: by arm and factor, 1 at the winner's level and -1 at the other one.
    """
    levels = np.eye(len(signs_AxF))[places_P]
    slopes = signs_AxF[places_P] * steps_P[:, None]
    terms = np.column_stack([levels, steps_P, steps_P**2, slopes])
    logarithms = np.log(np.maximum(losses_P, 1e-12))
    return np.asarray(terms @ np.linalg.lstsq(terms, logarithms, rcond=None)[0])


def _tried(design: Design, arm: Arm, state: StudyState) -> list[TrialRecord]:
    """The search and tune trials of an arm about the learning rate that it has; those that failed
    are none."""
    rates = _rates_to_try(design, arm.config)
    return [
        trial
        for trial in (*_searched(state), *state.in_stage(Stage.TUNE))
        if trial.state in ("complete", "diverged")
        and rates[0] <= trial.config[RATE] <= rates[-1]
        and _seedless(trial, learning_rate=arm.config.learning_rate) == arm.config
    ]


def _searched(state: StudyState) -> list[TrialRecord]:
    """The search trials that say how good their setting is."""
    return [
        trial for trial in state.in_stage(Stage.SEARCH) if trial.state in ("complete", "diverged")
    ]


def _end_of_rates(best: TrialRecord, tried: Iterable[TrialRecord]) -> str:
    """Which end of the learning rates that were tried the best one is at; empty where it is between
    others."""
    rates = [trial.config[RATE] for trial in tried]
    if min(rates) == max(rates):
        return ""
    return {min(rates): "low", max(rates): "high"}.get(best.config[RATE], "")


def _seedless(trial: TrialRecord, **changes: Any) -> TrialConfig:
    return TrialConfig.from_dict({**trial.config, **changes, "seed": 0})
