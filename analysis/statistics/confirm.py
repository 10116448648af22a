"""What the confirm stage says: contrasts of arm means, with intervals over seeds and test images.

A search's best score is a maximum, of one seed, on the images that it was chosen by; these numbers are not. Effects are
those of a two-level factorial around the winner (Box, Hunter & Hunter 2005, Statistics for Experimenters, chapters 5
and 6), or of every two levels of a factorial design, averaged over the other factors. Seeds and test images are both
samples: seeds × images is the reader × case analysis of diagnostic tests (Obuchowski & Rockette 1995; Gallas 2006), the
seed as the reader, and the variances of the two add up less what both hold (Owen 2007, The pigeonhole bootstrap).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analysis.load import ArmRole, Study
from analysis.statistics.arms import FAMILY, Arm, ConfirmStage, confirm_stage

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE
MOST_SEEDS = 1000
LEAST_SHARE = 0.02
"""An arm's own variance is at least this share of the mean one: from few seeds it may come out as 0 or less."""
COLUMNS = (
    *("factor", "from", "to", "difference", "low", "high", "low_seeds", "high_seeds"),
    *("p", "p_equivalence", "verdict"),
)


class Verdict(StrEnum):
    """What is concluded of an effect."""

    MATTERS = "matters"
    EQUIVALENT = "does not matter"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Interval:
    """A 95% interval; NaN where one seed shows no spread."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half its width."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Estimate:
    """A contrast of arm means and the parts of its variance.

    Attributes:
        difference: the contrast.
        seeds: how many it rests on.
        over_seeds: variance of the contrast over seeds, on these test images.
        freedom: of `over_seeds`.
        images: how many test images; 0 where it is not known which of them were right.
        over_images: variance over test images, with these seeds.
        over_both: what is in both.
    """

    difference: float
    seeds: int
    over_seeds: float
    freedom: float
    images: int = 0
    over_images: float = 0.0
    over_both: float = 0.0

    @property
    def error(self) -> float:
        """The standard error for new seeds and new images."""
        both = self.over_seeds + self.over_images - self.over_both
        return math.sqrt(max(both, self.over_seeds, self.over_images))

    @property
    def total_freedom(self) -> float:
        """Of `error`, by Welch and Satterthwaite."""
        parts = self.over_seeds**2 / self.freedom if self.freedom else math.nan
        parts += self.over_images**2 / (self.images - 1) if self.images > 1 else 0.0
        return self.error**4 / parts if parts else self.freedom

    @property
    def interval(self) -> Interval:
        """For new seeds and new images; without images as `interval_on_images`."""
        return _interval(self.difference, self.error, self.total_freedom)

    @property
    def interval_on_images(self) -> Interval:
        """For new seeds on these test images."""
        return _interval(self.difference, math.sqrt(self.over_seeds), self.freedom)

    @property
    def p(self) -> float:
        """Two-sided, of no difference."""
        return 2 * _tail(abs(self.difference), self.error, self.total_freedom)

    def p_equivalence(self, margin: float) -> float:
        """Of a difference of at least the margin: the larger of two one-sided tests (Schuirmann 1987)."""
        return _tail(margin - abs(self.difference), self.error, self.total_freedom)

    def with_seeds(self, seeds: int) -> "Estimate":
        """The same contrast as it may be expected of another number of seeds."""
        times = self.seeds / seeds
        lasting = max(0.0, self.over_images - self.over_both)
        return replace(
            self,
            seeds=seeds,
            over_seeds=self.over_seeds * times,
            freedom=self.freedom * (seeds - 1) / (self.seeds - 1),
            over_images=lasting + (self.over_images - lasting) * times,
            over_both=self.over_both * times,
        )


NOTHING = Estimate(math.nan, 0, math.nan, 0.0)
"""Of a contrast that the arms that are left do not hold."""


@dataclass(frozen=True)
class Effect:
    """What a change of a factor from `before` to `after` does, averaged over the other factors of the confirm stage.

    `p` and `p_equivalence` are adjusted for all effects (Holm 1979), NaN where one seed shows no spread.
    """

    factor: str
    before: Any
    after: Any
    estimate: Estimate
    p: float
    p_equivalence: float

    @property
    def verdict(self) -> Verdict:
        """Equivalence goes before significance: an effect may be both, and then it is too small to matter."""
        if self.p_equivalence < LEVEL:
            return Verdict.EQUIVALENT
        return Verdict.MATTERS if self.p < LEVEL else Verdict.INCONCLUSIVE

    @property
    def small(self) -> bool:
        """Whether it is there, and yet does not matter."""
        return self.verdict is Verdict.EQUIVALENT and self.p < LEVEL


@dataclass(frozen=True)
class Interaction:
    """Half of how much the effect of one factor differs between two levels of another; `pairs` of factors that the
    arms do not tell apart share one. `p` is adjusted for all interactions."""

    pairs: tuple[tuple[str, str], ...]
    levels: tuple[tuple[Any, Any], tuple[Any, Any]]
    estimate: Estimate
    p: float

    @property
    def significant(self) -> bool:
        """Whether the effects depend on each other."""
        return self.p < LEVEL


def conclude(study: Study) -> pd.DataFrame:
    """What each factor does, as `report/effects.csv` has it; empty before the confirm stage.

    Returns:
        factor: field of a trial.
        from, to: its levels.
        difference: of the outcome, a fraction, `to` less `from`.
        low, high: 95% interval for new seeds and new test images, fractions.
        low_seeds, high_seeds: 95% interval for new seeds on these test images, fractions.
        p: two-sided, adjusted (Holm 1979).
        p_equivalence: of a difference of the margin or more, adjusted likewise.
        verdict: matters, does not matter or inconclusive.
    """
    rows = []
    for effect in effects(study):
        intervals = effect.estimate.interval, effect.estimate.interval_on_images
        ends = [end for interval in intervals for end in (interval.low, interval.high)]
        values = effect.factor, effect.before, effect.after, effect.estimate.difference, *ends
        rows.append((*values, effect.p, effect.p_equivalence, str(effect.verdict)))
    return pd.DataFrame(rows, columns=COLUMNS)


@lru_cache(maxsize=4)
def effects(study: Study) -> tuple[Effect, ...]:
    """The effect of each factor: of the crossed arms, of each factor that was changed alone, or, where there are only
    baselines, of each baseline beside the first."""
    stage = confirm_stage(study)
    if stage is None:
        return ()
    found = [*_crossed_effects(stage), *_single_effects(stage)]
    adjusted = holm([estimate.p for *_, estimate in found])
    equivalence = holm([estimate.p_equivalence(stage.margin) for *_, estimate in found])
    return tuple(Effect(*each, *both) for each, *both in zip(found, adjusted, equivalence, strict=True))


@lru_cache(maxsize=4)
def interactions(study: Study) -> tuple[Interaction, ...]:
    """The two-factor interactions that the crossed arms show."""
    stage = confirm_stage(study)
    if stage is None:
        return ()
    kept, seeds = stage.paired(stage.numbers(*FAMILY))
    names = list(_aliases(stage, stage.numbers(*FAMILY)))
    rows = [_interaction(stage, kept, factors, levels) for _, factors, levels in names]
    there = [number for number, row in enumerate(rows) if row is not None]
    values = estimates(stage, np.array([rows[number] for number in there]), kept, seeds)
    adjusted = holm([value.p for value in values])
    return tuple(
        Interaction(names[number][0], names[number][2], value, p)
        for number, value, p in zip(there, values, adjusted, strict=True)
    )


@lru_cache(maxsize=4)
def against_baseline(study: Study) -> tuple[Arm, Estimate] | None:
    """The first baseline, and what the winner is above it: a comparison of its own, of these two arms alone."""
    stage = confirm_stage(study)
    if stage is None or not (stage.numbers(ArmRole.WINNER) and stage.numbers(ArmRole.BASELINE)):
        return None
    pair = [stage.numbers(ArmRole.WINNER)[0], stage.numbers(ArmRole.BASELINE)[0]]
    kept, seeds = stage.paired(pair)
    if kept != pair or not seeds:
        return None
    (estimate,) = estimates(stage, np.array([[1.0, -1.0]]), pair, seeds)
    return stage.arms[pair[1]], estimate


def seeds_for_width(study: Study, width: float) -> int | None:
    """The least number of seeds at which every effect's interval may be expected to reach at most `width` (a fraction)
    to either side; None where the test images alone make it wider, and where there is no effect.

    It depends on the spread alone, never on the effects seen: power at those says nothing (Hoenig & Heisey 2001), and
    seeds that are added until something is significant find what is not there.
    """
    values = [effect.estimate for effect in effects(study) if not math.isnan(effect.estimate.difference)]
    if any(value.seeds == 1 for value in values):
        return 2  # which show a spread
    if not values or max(value.with_seeds(MOST_SEEDS).interval.half for value in values) > width:
        return None
    halves = (max(value.with_seeds(seeds).interval.half for value in values) for seeds in range(2, MOST_SEEDS + 1))
    return next(seeds for seeds, half in enumerate(halves, 2) if half <= width)


def noisy_arm(stage: ConfirmStage) -> Arm | None:
    """The arm of the effects that spreads more than the others, where one does."""
    kept, seeds = stage.paired(compared(stage))
    place = stands_out(residuals(stage.values(stage.outcome)[np.ix_(kept, seeds)])) if seeds else None
    return None if place is None else stage.arms[kept[place]]


def compared(stage: ConfirmStage) -> list[int]:
    """The arms of the effects: the crossed ones and those with one factor changed, or else the baselines."""
    return stage.numbers(*FAMILY, ArmRole.ALONE) or stage.numbers(ArmRole.BASELINE)


def estimates(
    stage: ConfirmStage,
    contrasts: np.ndarray,
    arms: Sequence[int],
    seeds: Sequence[int],
    table: np.ndarray | None = None,
) -> list[Estimate]:
    """The contrasts (a row each, a column an arm) of the outcome, or without images those of a `table` (arms × seeds).

    Over seeds by the two-way residual of these arms, over images by the bits of test accuracy.
    """
    cells = np.ix_(arms, seeds)
    use_bits = table is None and stage.outcome == "test_accuracy" and stage.correct.shape[2] > 1
    table = stage.values(stage.outcome)[cells] if table is None else table
    over_seeds, freedoms = seed_variances(contrasts, table)
    parts = [(0, 0.0, 0.0)] * len(contrasts)
    if use_bits and stage.known[cells].all():
        parts = image_variances(contrasts, stage.correct[cells])
    rows = zip(contrasts @ table.mean(axis=1), over_seeds, freedoms, parts, strict=True)
    return [Estimate(float(mean), len(seeds), float(own), float(nu), *part) for mean, own, nu, part in rows]


def residuals(table: np.ndarray) -> np.ndarray:
    """What arms and seeds leave unexplained: two-way analysis of variance without replication (Fisher 1925)."""
    rest: np.ndarray = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    return rest


def stands_out(rest: np.ndarray) -> int | None:
    """The place of the arm whose sum of squared residuals is too large to be that of the others, at 5% (Cochran 1941,
    The distribution of the largest of a set of estimated variances)."""
    squares, (arms, seeds) = (rest**2).sum(axis=1), rest.shape
    if arms < 3 or seeds < 2 or not squares.sum() > 0:
        return None
    limit = special.fdtri(seeds - 1, (arms - 1) * (seeds - 1), 1 - LEVEL / arms)
    largest = int(squares.argmax())
    return largest if squares[largest] / squares.sum() > 1 / (1 + (arms - 1) / limit) else None


def seed_variances(contrasts: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each contrast of arm means its variance over seeds, and the degrees of freedom of that."""
    arms, seeds = table.shape
    if arms < 2 or seeds < 2:
        return np.full(len(contrasts), np.nan), np.zeros(len(contrasts))
    rest, freedom = residuals(table), (arms - 1) * (seeds - 1)
    square = (rest**2).sum() / freedom
    if stands_out(rest) is None:
        return square * (contrasts**2).sum(axis=1) / seeds, np.full(len(contrasts), float(freedom))
    # A residual's expected square is (1 - 2 / arms) of its own arm's variance and 1 / arms of the mean one.
    own = arms / (arms - 2) * ((rest**2).sum(axis=1) / (seeds - 1) - square / arms)
    shares = contrasts**2 * np.maximum(own, LEAST_SHARE * square) / seeds
    total = shares.sum(axis=1)
    return total, ((seeds - 1) * total**2 / (shares**2).sum(axis=1)).clip(seeds - 1, freedom)


def image_variances(contrasts: np.ndarray, correct: np.ndarray) -> list[tuple[int, float, float]]:
    """Of each contrast of arms the number of test images, its variance over them, and what of that is over seeds too,
    from what each trial is right about (arms × seeds × images)."""
    arms, seeds, images = correct.shape
    differences = (contrasts @ correct.reshape(arms, -1)).reshape(-1, seeds, images)
    by_image, mean = differences.mean(axis=1), differences.mean(axis=(1, 2))
    over_images = by_image.var(axis=1, ddof=1) / images
    if seeds < 2:
        return [(images, float(own), 0.0) for own in over_images]
    # Sums of squares: what neither seeds nor images explain is the rest of the total.
    total = np.einsum("csi,csi->c", differences, differences) - seeds * images * mean**2
    of_seeds = images * ((differences.mean(axis=2) - mean[:, None]) ** 2).sum(axis=1)
    rest = total - of_seeds - seeds * (images - 1) * images * over_images
    over_both = rest.clip(min=0.0) / ((seeds - 1) * (images - 1) * seeds * images)
    return [(images, float(own), float(both)) for own, both in zip(over_images, over_both, strict=True)]


def holm(values: Sequence[float]) -> list[float]:
    """The p-values adjusted so that among all of them a false one comes in at most at the level (Holm 1979); one that
    is NaN does not count."""
    order = sorted((value, place) for place, value in enumerate(values) if not math.isnan(value))
    adjusted, most = [math.nan] * len(values), 0.0
    for rank, (value, place) in enumerate(order):
        most = max(most, min(1.0, (len(order) - rank) * value))
        adjusted[place] = most
    return adjusted


def _crossed_effects(stage: ConfirmStage) -> Iterator[tuple[str, Any, Any, Estimate]]:
    """Every two levels of each crossed factor, by least squares: in a complete design the difference of their means,
    where an arm is lost what the others say if the factors add up."""
    kept, seeds = stage.paired(stage.numbers(*FAMILY))
    places, columns = _indicators(stage, kept)
    if not kept or not places:
        return
    inverse = np.linalg.pinv(columns)
    changes = [(name, *pair) for name, levels in stage.factors.items() for pair in combinations(levels, 2)]
    wanted = np.zeros((len(changes), columns.shape[1]))
    for row, (name, before, after) in zip(wanted, changes, strict=True):
        row[places[name, before]], row[places[name, after]] = -1.0, 1.0
    estimable = np.isclose(wanted @ inverse @ columns, wanted).all(axis=1)
    for change, value, there in zip(changes, estimates(stage, wanted @ inverse, kept, seeds), estimable, strict=True):
        yield *change, value if there else NOTHING


def _single_effects(stage: ConfirmStage) -> Iterator[tuple[str, Any, Any, Estimate]]:
    """The winner with one factor changed less the winner; of a study of baselines alone each less the first."""
    kept, seeds = stage.paired(compared(stage))
    others = stage.numbers(ArmRole.ALONE) or ([] if stage.numbers(*FAMILY) else kept[1:])
    first = (stage.numbers(ArmRole.WINNER) or kept or [-1])[0]
    others = [number for number in others if number in kept and first in kept]
    if not others:
        return
    contrasts = np.zeros((len(others), len(kept)))
    for row, number in zip(contrasts, others, strict=True):
        row[kept.index(first)], row[kept.index(number)] = -1.0, 1.0
    one = stage.arms[first]
    for number, value in zip(others, estimates(stage, contrasts, kept, seeds), strict=True):
        arm = stage.arms[number]
        if arm.role is ArmRole.ALONE:
            yield arm.factor, one[arm.factor], arm[arm.factor], value
        else:
            yield "baseline", one.baseline, arm.baseline, value


def _indicators(stage: ConfirmStage, arms: Sequence[int]) -> tuple[dict[tuple[str, Any], int], np.ndarray]:
    """The place of each factor's level among the columns, and these: 1 where an arm has the level, after one of 1."""
    levels = [(name, level) for name, levels in stage.factors.items() for level in levels]
    columns = [[1.0] * len(arms)]
    columns += [[float(stage.arms[number][name] == level) for number in arms] for name, level in levels]
    return {level: place for place, level in enumerate(levels, 1)}, np.array(columns).T


Levels = tuple[tuple[Any, Any], tuple[Any, Any]]
Pair = tuple[str, str]


def _aliases(stage: ConfirmStage, arms: Sequence[int]) -> Iterator[tuple[tuple[Pair, ...], Pair, Levels]]:
    """The interactions that the planned arms hold: the pairs of factors that share one, the first, its levels."""
    groups: dict[tuple[float, ...], tuple[list[Pair], Levels]] = {}
    for factors in combinations(stage.factors, 2):
        one, two = (list(combinations(stage.factors[name], 2)) for name in factors)
        for levels in product(one, two):
            row = _interaction(stage, arms, factors, levels)
            if row is not None:
                # Pairs share an interaction where their contrasts are the same but for the sign.
                key = tuple((row * np.sign(row[np.flatnonzero(row)[0]])).round(9))
                groups.setdefault(key, ([], levels))[0].append(factors)
    for pairs, levels in groups.values():
        yield tuple(dict.fromkeys(pairs)), pairs[0], levels


def _interaction(stage: ConfirmStage, arms: Sequence[int], factors: Pair, levels: Levels) -> np.ndarray | None:
    """The contrast of an interaction beside the effects; None where these arms do not hold it."""
    signs = [
        [float(stage.arms[number][name] == two) - float(stage.arms[number][name] == one) for number in arms]
        for name, (one, two) in zip(factors, levels, strict=True)
    ]
    column, (_, effects) = np.prod(signs, axis=0), _indicators(stage, arms)
    rest = column - effects @ (np.linalg.pinv(effects) @ column)
    size = rest @ rest
    row: np.ndarray = 2 * rest / size if size > 1e-9 else rest
    return row if size > 1e-9 else None


def _interval(middle: float, error: float, freedom: float) -> Interval:
    if not freedom or math.isnan(error):
        return Interval(math.nan, math.nan)
    half = float(special.stdtrit(freedom, 1 - LEVEL / 2)) * error
    return Interval(middle - half, middle + half)


def _tail(distance: float, error: float, freedom: float) -> float:
    """The one-sided probability beyond a distance by Student's t (1908)."""
    if not freedom or math.isnan(error):
        return math.nan
    if not error:
        return 0.0 if distance > 0 else 0.5 if distance == 0 else 1.0
    return float(special.stdtr(freedom, -distance / error))
