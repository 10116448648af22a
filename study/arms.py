"""The arms to confirm: which combinations of levels are trained again.

Around the winner of a sampled search a two-level factorial design (Box, Hunter & Hunter 2005,
Statistics for Experimenters, chapters 5 and 6), in which every trial informs every effect; after a
factorial search every arm; without a search the baselines.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from study.designs import Design, Factor
from study.state import StudyState, TrialRecord
from trainables.config import TrialConfig
from trainables.vocabulary import ArmRole, SearchMode, Stage, TrialStatus

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
RATE = "learning_rate"
"""What the tune stage finds for each arm."""


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


def plan_at_winners_rate(design: Design, state: StudyState) -> ConfirmPlan:
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
    if (winner := state.winner) is None:
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
        changed = _changed(design, winner, [changes[factor.name]])
        arms.append(Arm(ArmRole.ALONE, changed, factor=factor.name))
    return ConfirmPlan(tuple(changes.values()), (*arms, *baselines[:1]))


def most_arms(design: Design) -> int:
    """How many arms are confirmed, at most."""
    if design.search != SearchMode.SAMPLED:
        return (
            len(design.arms()) if design.search == SearchMode.FACTORIAL else len(design.baselines)
        )
    return most_tuned_arms(design) + min(1, len(design.baselines))


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
            yield Arm(ArmRole.ARM, seedless(best), rate_at_end=end_of_rates(best, tried))


def _best_other(design: Design, state: StudyState, winner: TrialRecord, factor: Factor) -> Any:
    """The level of a factor, not the winner's, that did best in the search; a complete trial goes
    before a stopped one, and baselines do not count, for they differ in more. The first level where
    no trial has another."""
    mine = winner.config[factor.name]
    others = [
        trial
        for trial in state.in_stage(Stage.SEARCH)
        if trial.state in (TrialStatus.COMPLETE, TrialStatus.STOPPED)
        and not trial.origin.startswith("baseline:")
        and design.existing(trial.config).get(factor.name, mine) != mine
    ]
    if not others:
        return next(level for level in factor.levels if level != mine)
    best = max(others, key=lambda trial: (trial.state == TrialStatus.COMPLETE, trial.rank))
    return best.config[factor.name]


def _changed(design: Design, winner: TrialRecord, changes: Sequence[Change]) -> TrialConfig:
    """The winner with these factors at their other levels; what only exists with the winner's
    levels falls back."""
    values = {**winner.config, **{change.factor: change.to for change in changes}}
    kept = design.existing(values)
    usual = TrialConfig().to_dict() | dict(design.fixed)
    gone = {each.name: usual[each.name] for each in design.factors if each.name not in kept}
    return TrialConfig.from_dict({**values, **gone, "seed": 0})


def end_of_rates(best: TrialRecord, tried: Iterable[TrialRecord]) -> str:
    """Which end of the learning rates that were tried the best one is at; empty where it is between
    others."""
    rates = [trial.config[RATE] for trial in tried]
    if min(rates) == max(rates):
        return ""
    return {min(rates): "low", max(rates): "high"}.get(best.config[RATE], "")


def seedless(trial: TrialRecord, **changes: Any) -> TrialConfig:
    """A trial's config, with these changes, as that of an arm."""
    return TrialConfig.from_dict({**trial.config, **changes, "seed": 0})
