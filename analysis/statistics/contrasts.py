"""What the confirm stage compares, and the contrasts of the arms' means that show it.

A contrast is a weight for each arm; what it shows is the weighted sum of their means.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from analysis.statistics.arms import FAMILY, ConfirmStage
from analysis.statistics.estimate import Estimate, estimates
from trainables.vocabulary import ArmRole

Levels = tuple[tuple[Any, Any], tuple[Any, Any]]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Change:
    """A factor's level `after` beside its level `before`."""

    factor: str
    before: Any
    after: Any


@dataclass(frozen=True, eq=False)
class Group:
    """Changes that the same arms and seeds of the stage (by place) show, each by a contrast (a row;
    an arm a column); those that are not `estimable` lost their arms."""

    stage: ConfirmStage
    arms: Sequence[int]
    seeds: Sequence[int]
    changes: Sequence[Change]
    contrasts: np.ndarray
    estimable: Sequence[bool]

    def estimated(self, values: Sequence[Estimate]) -> list[tuple[Change, Estimate]]:
        """The estimable changes with their estimates, of those of all changes."""
        rows = zip(self.changes, values, self.estimable, strict=True)
        return [(change, value) for change, value, estimable in rows if estimable]

    def by_epoch(self) -> np.ndarray:
        """The outcome by arm, seed and epoch, up to the last epoch that all trials have."""
        table: np.ndarray = self.stage.readings[self.stage.outcome][np.ix_(self.arms, self.seeds)]
        return table[:, :, : int(np.isfinite(table).all(axis=(0, 1)).sum())]


def outcome_estimates(
    stage: ConfirmStage, contrasts: np.ndarray, arms: Sequence[int], seeds: Sequence[int]
) -> list[Estimate]:
    """Contrasts of the outcome, with the variance over images where that is known."""
    cells = np.ix_(arms, seeds)
    return estimates(
        contrasts, stage.values(stage.outcome)[cells], stage.bits(stage.outcome, arms, seeds)
    )


def groups(stage: ConfirmStage | None) -> list[Group]:
    """The changes that the stage compares."""
    both = [] if stage is None else [_crossed(stage), _single(stage)]
    return [group for group in both if group is not None]


def _crossed(stage: ConfirmStage) -> Group | None:
    """Every two levels of each crossed factor, by least squares: in a complete design the
    difference of their means; where an arm is lost, what the others say if the factors add up."""
    kept, seeds = stage.paired(stage.numbers(*FAMILY))
    if not kept or not stage.factors:
        return None
    places, columns = _indicators(stage, kept)
    changes = [
        Change(name, *pair)
        for name, levels in stage.factors.items()
        for pair in combinations(levels, 2)
    ]
    wanted = np.zeros((len(changes), columns.shape[1]))
    for row, change in zip(wanted, changes, strict=True):
        row[places[change.factor, change.before]] = -1.0
        row[places[change.factor, change.after]] = 1.0
    contrasts = wanted @ np.linalg.pinv(columns)
    estimable = np.isclose(contrasts @ columns, wanted).all(axis=1).tolist()
    return Group(stage, kept, seeds, changes, contrasts, estimable)


def _single(stage: ConfirmStage) -> Group | None:
    """The winner with one factor changed less the winner; of a study of baselines alone each less
    the first."""
    kept, seeds = stage.paired(stage.compared)
    alone = stage.numbers(ArmRole.ALONE)
    others = [number for number in alone if number in kept]
    if not alone and not stage.numbers(*FAMILY):
        others = kept[1:]
    first = next(iter(stage.numbers(ArmRole.WINNER) or kept), None)
    if first not in kept or not others:
        return None
    changes, contrasts = [], np.zeros((len(others), len(kept)))
    for row, number in zip(contrasts, others, strict=True):
        row[kept.index(first)] = -1.0
        row[kept.index(number)] = 1.0
        before, after = stage.arms[first], stage.arms[number]
        factor = after.factor
        if factor:
            changes.append(Change(factor, before[factor], after[factor]))
        else:
            changes.append(Change("baseline", before.baseline, after.baseline))
    return Group(stage, kept, seeds, changes, contrasts, [True] * len(changes))


def _indicators(
    stage: ConfirmStage, arms: Sequence[int]
) -> tuple[dict[tuple[str, Any], int], np.ndarray]:
    """The place of each factor's level among the columns, and these: 1 where an arm has the level,
    after one of 1."""
    levels = [(name, level) for name, levels in stage.factors.items() for level in levels]
    columns = [np.ones(len(arms)), *(stage.has_level(arms, *level) for level in levels)]
    return {level: place for place, level in enumerate(levels, 1)}, np.array(columns).T


def interaction_contrasts(
    stage: ConfirmStage, planned: Sequence[int], arms: Sequence[int]
) -> Iterator[tuple[tuple[Pair, ...], Levels, np.ndarray]]:
    """The interactions that the planned arms hold, each with its contrast of those arms that are
    left, where these still hold it."""
    for pairs, levels in _aliases(stage, planned):
        row = _interaction(stage, arms, pairs[0], levels)
        if row is not None:
            yield pairs, levels, row


def _aliases(stage: ConfirmStage, arms: Sequence[int]) -> Iterator[tuple[tuple[Pair, ...], Levels]]:
    """The interactions that the planned arms hold: the pairs of factors that share one, and the
    levels of the first."""
    shared: dict[tuple[float, ...], tuple[list[Pair], Levels]] = {}
    for factors in combinations(stage.factors, 2):
        one, two = (list(combinations(stage.factors[name], 2)) for name in factors)
        for levels in product(one, two):
            row = _interaction(stage, arms, factors, levels)
            if row is not None:
                # Pairs share an interaction where their contrasts are the same but for the sign.
                signs = row.round(9)
                key = tuple(signs * np.sign(signs[np.flatnonzero(signs)[0]]) + 0.0)
                shared.setdefault(key, ([], levels))[0].append(factors)
    for pairs, levels in shared.values():
        yield tuple(pairs), levels


def _interaction(
    stage: ConfirmStage, arms: Sequence[int], factors: Pair, levels: Levels
) -> np.ndarray | None:
    """The contrast of an interaction beside the effects; None where these arms do not hold it."""
    signs = [
        stage.has_level(arms, name, after) - stage.has_level(arms, name, before)
        for name, (before, after) in zip(factors, levels, strict=True)
    ]
    column, (_, columns) = np.prod(signs, axis=0), _indicators(stage, arms)
    own = column - columns @ (np.linalg.pinv(columns) @ column)
    size = float(own @ own)
    return np.asarray(2 * own / size) if size > 1e-9 else None


def simple_contrast(
    stage: ConfirmStage, arms: Sequence[int], factor: str, level: Any, change: Change
) -> np.ndarray:
    """The contrast of a change among the arms at this level of a factor, over the arms that are
    there before and after it."""
    others = [name for name in stage.factors if name != change.factor]
    places: dict[tuple[Any, ...], int] = {}
    for place, number in enumerate(arms):
        arm = stage.arms[number]
        if arm[factor] == level:
            places[arm[change.factor], *(arm[name] for name in others)] = place
    matched = [key[1:] for key in places if key[0] == change.before]
    matched = [key for key in matched if (change.after, *key) in places]
    row = np.zeros(len(arms))
    for key in matched:
        row[places[change.before, *key]] -= 1 / len(matched)
        row[places[change.after, *key]] += 1 / len(matched)
    return row
