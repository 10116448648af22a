"""What the confirm stage says: the effects of the factors, their interactions, and the means of the
arms.

A search's best score is a maximum, of one seed, on the images that it was chosen by; these numbers
are not. Effects are those of a two-level factorial around the winner (Box, Hunter & Hunter 2005,
Statistics for Experimenters, chapters 5 and 6), or of every two levels of a factorial design,
averaged over the other factors.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.load import Study
from analysis.statistics.arms import FAMILY, Arm, ConfirmStage, confirm_stage
from analysis.statistics.contrasts import (
    Change,
    Group,
    Levels,
    Pair,
    groups,
    interaction_contrasts,
    outcome_estimates,
    simple_contrast,
)
from analysis.statistics.estimate import (
    LEVEL,
    NOTHING,
    Estimate,
    Interval,
    estimates,
    holm,
    mean_intervals,
    stands_out,
)
from trainables.vocabulary import ArmRole

MOST_SEEDS = 1000
USUAL_IMAGES = 1000
"""Of a part, where it is not known how many it has."""
COLUMNS = "factor from to difference low high low_seeds high_seeds p p_equivalence verdict".split()


class Verdict(StrEnum):
    """What is concluded of an effect."""

    MATTERS = "matters"
    EQUIVALENT = "does not matter"
    INCONCLUSIVE = "inconclusive"


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
    shown = list(interaction_contrasts(stage, planned, kept))
    if not seeds or not shown:
        return ()
    values = outcome_estimates(stage, np.array([row for *_, row in shown]), kept, seeds)
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
        row = simple_contrast(stage, kept, first, level, change)
        if row.any():
            (estimate,) = outcome_estimates(stage, row[None], kept, seeds)
            simple.append(SimpleEffect(level, change, estimate))
    return simple


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
    (estimate,) = outcome_estimates(stage, np.array([[1.0, -1.0]]), pair, seeds)
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

    def widest(seeds: int) -> float:
        return max(value.with_seeds(seeds).interval.half for value in values)

    if not values or widest(MOST_SEEDS) > width:
        return None
    return next(seeds for seeds in range(2, MOST_SEEDS + 1) if widest(seeds) <= width)


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
        tables = group.by_epoch()
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
        tables = group.by_epoch()
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
    images = (stage.images or USUAL_IMAGES) if reading.endswith("accuracy") else 0
    bits = stage.bits(reading, kept, seeds)
    means = mean_intervals(table[np.ix_(kept, seeds)], bits, images)
    intervals = dict(zip(kept, means, strict=True))
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


def _estimated(group: Group) -> Iterator[tuple[Change, Estimate]]:
    values = outcome_estimates(group.stage, group.contrasts, group.arms, group.seeds)
    for change, value, there in zip(group.changes, values, group.estimable, strict=True):
        yield change, value if there else NOTHING
