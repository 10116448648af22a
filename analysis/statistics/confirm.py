"""What the confirm stage says: the effects of the factors, their interactions, and the means of the
arms.

A search's best score is a maximum, of one seed, on the images that it was chosen by; these numbers
are not. Effects are those of a two-level factorial around the winner (Box, Hunter & Hunter 2005,
Statistics for Experimenters, chapters 5 and 6), or of every two levels of a factorial design,
averaged over the other factors.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from analysis.load import Study
from analysis.statistics.arms import FAMILY, Arm, ConfirmStage, confirm_stage
from analysis.statistics.estimate import (
    LEVEL,
    NOTHING,
    Estimate,
    Interval,
    estimates,
    holm,
    mean_estimates,
    stands_out,
)
from trainables.vocabulary import ArmRole

MOST_SEEDS = 1000
COLUMNS = "factor from to difference low high low_seeds high_seeds p p_equivalence verdict".split()
Levels = tuple[tuple[Any, Any], tuple[Any, Any]]
Pair = tuple[str, str]


class Verdict(StrEnum):
    """What is concluded of an effect."""

    MATTERS = "matters"
    EQUIVALENT = "does not matter"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Change:
    """A factor's level `after` beside its level `before`."""

    factor: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Effect:
    """What a change does to the outcome, averaged over the other factors of the confirm stage.

    `p` and `p_equivalence` are adjusted for all effects (Holm 1979), NaN where one seed shows no
    spread.
    """

    change: Change
    estimate: Estimate
    p: float
    p_equivalence: float

    @property
    def verdict(self) -> Verdict:
        """Equivalence goes before significance: an effect may be both, and then it is too small to
        matter."""
        if self.p_equivalence < LEVEL:
            return Verdict.EQUIVALENT
        return Verdict.MATTERS if self.p < LEVEL else Verdict.INCONCLUSIVE

    @property
    def small(self) -> bool:
        """Whether it is significant, and yet does not matter."""
        return self.verdict is Verdict.EQUIVALENT and self.p < LEVEL


@dataclass(frozen=True)
class Interaction:
    """Half of how much the effect of one factor differs between two levels of another.

    The `pairs` of factors that the arms cannot separate share one. `p` is adjusted for all
    interactions.
    """

    pairs: tuple[Pair, ...]
    levels: Levels
    estimate: Estimate
    p: float

    @property
    def significant(self) -> bool:
        """Whether effects depend on each other."""
        return self.p < LEVEL


class SimpleEffect(NamedTuple):
    """A change's effect at one level of another factor."""

    level: Any
    change: Change
    estimate: Estimate


class BaselineComparison(NamedTuple):
    """How far the winner is above a baseline."""

    baseline: Arm
    estimate: Estimate


@dataclass(frozen=True)
class Drift:
    """How much an effect changed from epoch `start` to epoch `end`, the last that all arms have;
    `p` is adjusted."""

    change: Change
    start: int
    end: int
    estimate: Estimate
    p: float

    @property
    def moves(self) -> bool:
        """Whether the effect still changes at the end."""
        return self.p < LEVEL


@dataclass(frozen=True)
class ArmSummary:
    """An arm's trials by state, and its reading by seed with the mean; NaN ends where the seeds
    stand alone."""

    arm: Arm
    states: Mapping[str, int]
    values: tuple[float, ...]
    interval: Interval

    @property
    def mean(self) -> float:
        """Over its seeds."""
        return float(np.mean(self.values)) if self.values else math.nan


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


def conclude(study: Study) -> pd.DataFrame:
    """What each factor does, as `report/effects.csv` has it; empty before the confirm stage.

    Returns:
        factor: field of a trial.
        from, to: its levels.
        difference: of the outcome, `to` less `from`, a fraction.
        low, high: 95% interval for new seeds and new test images, fractions.
        low_seeds, high_seeds: 95% interval for new seeds on these test images, fractions.
        p: two-sided, adjusted (Holm 1979).
        p_equivalence: of a difference of the margin or more, adjusted likewise.
        verdict: matters, does not matter or inconclusive.
    """
    rows = []
    for effect in effects(study):
        change, estimate = effect.change, effect.estimate
        ends = *estimate.interval.ends, *estimate.interval_on_images.ends
        tests = effect.p, effect.p_equivalence, str(effect.verdict)
        levels = change.factor, change.before, change.after
        rows.append((*levels, estimate.difference, *ends, *tests))
    return pd.DataFrame(rows, columns=COLUMNS)


@lru_cache(maxsize=4)
def effects(study: Study) -> tuple[Effect, ...]:
    """The effect of every factor that is crossed or changed alone; where there are only baselines,
    of each beside the first."""
    stage = confirm_stage(study)
    pairs = [pair for group in groups(stage) for pair in _estimated(group)]
    margin = stage.margin if stage else 0.0
    p = holm([estimate.p for _, estimate in pairs])
    p_equivalence = holm([estimate.p_equivalence(margin) for _, estimate in pairs])
    return tuple(
        Effect(*pair, *tests) for pair, *tests in zip(pairs, p, p_equivalence, strict=True)
    )


@lru_cache(maxsize=4)
def interactions(study: Study) -> tuple[Interaction, ...]:
    """The two-factor interactions that the crossed arms show."""
    if (stage := confirm_stage(study)) is None:
        return ()
    planned = stage.numbers(*FAMILY)
    kept, seeds = stage.paired(planned)
    named = [
        (pairs, levels, _interaction(stage, kept, pairs[0], levels))
        for pairs, levels in _aliases(stage, planned)
    ]
    shown = [(pairs, levels, row) for pairs, levels, row in named if row is not None]
    if not seeds or not shown:
        return ()
    values = _contrast(stage, np.array([row for *_, row in shown]), kept, seeds)
    p = holm([value.p for value in values])
    rows = zip(shown, values, p, strict=True)
    return tuple(Interaction(pairs, levels, value, own) for (pairs, levels, _), value, own in rows)


def simple_effects(study: Study, interaction: Interaction) -> list[SimpleEffect]:
    """The effect of the interaction's second factor at each of the two levels of its first; nothing
    where pairs of factors share it. Intervals alone, for they are chosen by what was seen, and no
    comparisons of their own."""
    stage = confirm_stage(study)
    if stage is None or len(interaction.pairs) > 1:
        return []
    kept, seeds = stage.paired(stage.numbers(*FAMILY))
    (first, second), (fixed, levels) = interaction.pairs[0], interaction.levels
    change = Change(second, *levels)
    simple = []
    for level in fixed:
        row = _simple_contrast(stage, kept, first, level, change)
        if row.any():
            (estimate,) = _contrast(stage, row[None], kept, seeds)
            simple.append(SimpleEffect(level, change, estimate))
    return simple


def _simple_contrast(
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


@lru_cache(maxsize=4)
def against_baseline(study: Study) -> BaselineComparison | None:
    """How far the winner is above the first baseline: a comparison of its own, of these two arms
    alone."""
    stage = confirm_stage(study)
    if stage is None:
        return None
    winner = stage.numbers(ArmRole.WINNER)
    # An arm around the winner may be the baseline as it stands.
    baselines = [number for number, arm in enumerate(stage.arms) if arm.baseline]
    pair = [*winner, *(number for number in baselines if number not in winner)][:2]
    kept, seeds = stage.paired(pair)
    if not winner or len(pair) < 2 or kept != pair:
        return None
    (estimate,) = _contrast(stage, np.array([[1.0, -1.0]]), pair, seeds)
    return BaselineComparison(stage.arms[pair[1]], estimate)


def seeds_for_width(study: Study, width: float) -> int | None:
    """The least number of seeds at which every effect's interval may be expected to reach at most
    `width` (a fraction) to either side; None where the test images alone make it wider, and where
    there is no effect.

    It depends on the spread alone, never on the effects seen: power at those says nothing (Hoenig &
    Heisey 2001), and seeds that are added until something is significant find what is not there.
    """
    values = [effect.estimate for effect in effects(study) if effect.estimate.seeds]
    if any(value.seeds == 1 for value in values):
        return 2  # which show a spread
    if not values or max(value.with_seeds(MOST_SEEDS).interval.half for value in values) > width:
        return None
    halves = (
        max(value.with_seeds(seeds).interval.half for value in values)
        for seeds in range(2, MOST_SEEDS + 1)
    )
    return next(seeds for seeds, half in enumerate(halves, 2) if half <= width)


def effects_by_epoch(study: Study) -> pd.DataFrame:
    """The effects at every epoch that all arms have.

    Returns:
        factor, from, to: as in `conclude`.
        epoch: from 1.
        difference: of the outcome, a fraction.
        low, high: 95% interval for new seeds on these test images, fractions (which images were
            right is known of the last epoch only).
    """
    stage = confirm_stage(study)
    rows: list[tuple[Any, ...]] = []
    for group in groups(stage):
        tables = _by_epoch(group)
        for epoch, table in enumerate(np.moveaxis(tables, 2, 0), 1):
            for change, value in group.estimated(estimates(group.contrasts, table)):
                size = value.difference, *value.interval.ends
                rows.append((change.factor, change.before, change.after, epoch, *size))
    return pd.DataFrame(rows, columns="factor from to epoch difference low high".split())


def drifts(study: Study) -> list[Drift]:
    """By how much each effect changed over the last third of the epochs, paired over seeds."""
    stage = confirm_stage(study)
    rows: list[tuple[Change, int, int, Estimate]] = []
    for group in groups(stage):
        tables = _by_epoch(group)
        end = tables.shape[2]
        start = end - max(1, end // 3)
        if start >= 1:
            values = estimates(group.contrasts, tables[:, :, end - 1] - tables[:, :, start - 1])
            rows += [(change, start, end, value) for change, value in group.estimated(values)]
    p = holm([value.p for *_, value in rows])
    return [Drift(*row, own) for row, own in zip(rows, p, strict=True)]


def arm_summaries(stage: ConfirmStage, reading: str) -> list[ArmSummary]:
    """Every arm with a complete trial: its values of a reading, and the interval of its mean for
    new seeds (of test accuracy for new images too). The spread is pooled over the arms that are
    compared, on the logit scale of an accuracy and the logarithmic one of a loss; of other arms the
    seeds stand alone."""
    table = stage.values(reading)
    kept, seeds = stage.paired(stage.compared)
    intervals = dict(zip(kept, _mean_intervals(stage, reading, kept, seeds), strict=True))
    alone = Interval(math.nan, math.nan)
    return [
        ArmSummary(
            arm=arm,
            states=Counter(state for state in stage.states[number].tolist() if state),
            values=tuple(
                table[number][seeds]
                if number in kept
                else table[number][np.isfinite(table[number])]
            ),
            interval=intervals.get(number, alone),
        )
        for number, arm in enumerate(stage.arms)
        if np.isfinite(table[number]).any()
    ]


def noisy_arm(stage: ConfirmStage) -> Arm | None:
    """The arm of the effects that spreads more than the others, where one does."""
    kept, seeds = stage.paired(stage.compared)
    place = stands_out(stage.values(stage.outcome)[np.ix_(kept, seeds)]) if kept else None
    return None if place is None else stage.arms[kept[place]]


def groups(stage: ConfirmStage | None) -> list[Group]:
    """The changes that the stage compares."""
    both = [] if stage is None else [_crossed(stage), _single(stage)]
    return [group for group in both if group is not None]


def _estimated(group: Group) -> Iterator[tuple[Change, Estimate]]:
    values = _contrast(group.stage, group.contrasts, group.arms, group.seeds)
    for change, value, there in zip(group.changes, values, group.estimable, strict=True):
        yield change, value if there else NOTHING


def _contrast(
    stage: ConfirmStage, contrasts: np.ndarray, arms: Sequence[int], seeds: Sequence[int]
) -> list[Estimate]:
    """Contrasts of the outcome, with the variance over images where that is known."""
    cells = np.ix_(arms, seeds)
    return estimates(
        contrasts, stage.values(stage.outcome)[cells], stage.bits(stage.outcome, arms, seeds)
    )


def _by_epoch(group: Group) -> np.ndarray:
    """The outcome by arm, seed and epoch, up to the last epoch that all trials have."""
    table: np.ndarray = group.stage.readings[group.stage.outcome][np.ix_(group.arms, group.seeds)]
    return table[:, :, : int(np.isfinite(table).all(axis=(0, 1)).sum())]


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


def _mean_intervals(
    stage: ConfirmStage, reading: str, arms: Sequence[int], seeds: Sequence[int]
) -> list[Interval]:
    """The intervals of the arms' means, worked out where no limit is near and carried back."""
    if not arms:
        return []
    values, bits = stage.values(reading)[np.ix_(arms, seeds)], stage.bits(reading, arms, seeds)
    if not reading.endswith("accuracy"):
        return [
            _carried(value, np.exp) for value in mean_estimates(np.log(np.maximum(values, 1e-12)))
        ]
    # Of all right or all wrong the logit is infinite: half an image is added to both (Haldane
    # 1956).
    images = stage.images or 1000
    fractions = (values * images + 0.5) / (images + 1)
    parts = mean_estimates(special.logit(fractions), bits)
    slopes = 1 / (fractions.mean(axis=1) * (1 - fractions.mean(axis=1)))
    intervals = []
    for part, slope in zip(parts, slopes, strict=True):
        scaled = replace(
            part, over_images=part.over_images * slope**2, over_both=part.over_both * slope**2
        )
        intervals.append(_carried(scaled, special.expit))
    return intervals


def _carried(estimate: Estimate, back: Callable[[float], float]) -> Interval:
    return Interval(*(float(back(end)) for end in estimate.interval.ends))
