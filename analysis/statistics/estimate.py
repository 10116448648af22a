"""Contrasts of arm means and their variance, over seeds and over test images: arrays in, numbers
out.

Seeds and test images are both samples. Seeds × images is the reader × case analysis of diagnostic
tests (Dorfman, Berbaum & Metz 1992; Gallas 2006, One-shot estimate of MRMC variance), the seed as
the reader: the variances over the two add up, less what is in both (Owen 2007, The pigeonhole
bootstrap).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

LEVEL = 0.05
LEAST_SHARE = 0.02
"""The variance that the other arms share is at least this part of the mean one, which else may
leave them none."""
NO_IMAGES = (0, 0.0, 0.0, 0.0)
"""The parts of a variance over images that are not known one by one."""


@dataclass(frozen=True)
class Interval:
    """A 95% interval; NaN where one seed shows no spread."""

    low: float
    high: float

    @property
    def ends(self) -> tuple[float, float]:
        """Low and high."""
        return self.low, self.high

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
        change: by how much the outcome of an image changes where it does, between 0 and 1.
    """

    difference: float
    seeds: int
    over_seeds: float
    freedom: float
    images: int = 0
    over_images: float = 0.0
    over_both: float = 0.0
    change: float = 0.0

    @property
    def variance(self) -> float:
        """For new seeds and new images."""
        return max(
            self.over_seeds + self.over_images - self.over_both, self.over_seeds, self.over_images
        )

    @property
    def total_freedom(self) -> float:
        """Of `variance`, by Welch and Satterthwaite."""
        parts = self.over_seeds**2 / self.freedom if self.freedom else math.nan
        parts += self.over_images**2 / (self.images - 1) if self.images > 1 else 0.0
        return self.variance**2 / parts if parts else self.freedom

    @property
    def interval(self) -> Interval:
        """For new seeds and new images; without images as `interval_on_images`, and never narrower
        than that."""
        return _interval(self.difference, *self._leading())

    @property
    def interval_on_images(self) -> Interval:
        """For new seeds on these test images."""
        return _interval(self.difference, math.sqrt(self.over_seeds), self.freedom)

    @property
    def p(self) -> float:
        """Two-sided, of no difference."""
        return 2 * _tail(abs(self.difference), *self._leading())

    def p_equivalence(self, margin: float) -> float:
        """Of a difference of at least the margin: the larger of two one-sided tests (Schuirmann
        1987).

        The variance over images is that of a difference as large as the margin, as for paired
        proportions (Tango 1998, Statistics in Medicine 17: 891): a sample with too few images that
        change shows too small a difference and too small a variance at once.
        """
        short = max(0.0, margin - abs(self.difference))
        more = self.change * short / self.images if self.images else 0.0
        return _tail(
            margin - abs(self.difference),
            *replace(self, over_images=self.over_images + more)._leading(),
        )

    def _leading(self) -> tuple[float, float]:
        """The standard error and the degrees of freedom of `interval`."""
        both = [
            (math.sqrt(self.over_seeds), self.freedom),
            (math.sqrt(self.variance), self.total_freedom),
        ]
        # With one or two degrees of freedom over seeds, those of the images may outweigh the
        # variance that they add.
        return max(both, key=lambda pair: _half(*pair))

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
"""Of a contrast that the remaining arms do not hold."""


def estimates(
    contrasts: np.ndarray, table: np.ndarray, correct: np.ndarray | None = None
) -> list[Estimate]:
    """The contrasts (one row each, one column per arm) of the means of a `table` (arms × seeds).

    Their variance over seeds is from its two-way residual, that over images from what each trial is
    `correct` about (arms × seeds × images)."""
    over_seeds, freedoms = seed_variances(contrasts, table)
    parts = [NO_IMAGES] * len(contrasts) if correct is None else image_variances(contrasts, correct)
    # Where nothing varies, rounding errors are no difference.
    differences = (contrasts @ table.mean(axis=1)).round(12)
    rows = zip(differences, over_seeds, freedoms, parts, strict=True)
    return [
        Estimate(float(mean), table.shape[1], float(own), float(nu), *part)
        for mean, own, nu, part in rows
    ]


def mean_estimates(table: np.ndarray, correct: np.ndarray | None = None) -> list[Estimate]:
    """The mean of each arm (a row of the table) for new seeds, whose shared part is in it too; the
    spread is pooled over the arms, or each arm's own where one stands out. The variance over images
    is that of what is `correct`."""
    arms, seeds = table.shape
    parts = [NO_IMAGES] * arms if correct is None else image_variances(np.eye(arms), correct)
    if seeds < 2:
        variances, freedom = np.full(arms, math.nan), 0.0
    elif arms < 2 or stands_out(table) is not None:
        variances, freedom = table.var(axis=1, ddof=1) / seeds, seeds - 1.0
    else:
        shared = arms * table.mean(axis=0).var(ddof=1)
        unshared = (arms - 1) * (residuals(table) ** 2).sum() / ((arms - 1) * (seeds - 1))
        variances = np.full(arms, (shared + unshared) / (arms * seeds))
        squares = shared**2 / (seeds - 1) + unshared**2 / ((arms - 1) * (seeds - 1))
        freedom = (
            float((shared + unshared) ** 2 / squares) if squares else seeds - 1.0
        )  # Satterthwaite 1946
    rows = zip(table.mean(axis=1), variances, parts, strict=True)
    return [Estimate(float(mean), seeds, float(own), freedom, *part) for mean, own, part in rows]


def mean_intervals(table: np.ndarray, correct: np.ndarray | None, images: int) -> list[Interval]:
    """The intervals of the arms' means, worked out where no limit is near and carried back: of
    shares of so many images on the logit scale, of losses (0 images) on the logarithmic one."""
    if not table.size:
        return []
    if not images:
        means = mean_estimates(np.log(np.maximum(table, 1e-12)))
        return [_carried(mean, np.exp) for mean in means]
    # Of all right or all wrong the logit is infinite: half an image is added to both (Haldane
    # 1956).
    fractions = (table * images + 0.5) / (images + 1)
    means = mean_estimates(special.logit(fractions), correct)
    slopes = 1 / (fractions.mean(axis=1) * (1 - fractions.mean(axis=1)))
    intervals = []
    for mean, slope in zip(means, slopes, strict=True):
        scaled = replace(
            mean, over_images=mean.over_images * slope**2, over_both=mean.over_both * slope**2
        )
        intervals.append(_carried(scaled, special.expit))
    return intervals


def _carried(estimate: Estimate, back: Callable[[float], float]) -> Interval:
    return Interval(*(float(back(end)) for end in estimate.interval.ends))


def residuals(table: np.ndarray) -> np.ndarray:
    """What arms and seeds leave unexplained: two-way analysis of variance without replication
    (Fisher 1925)."""
    by_arm = table.mean(axis=1, keepdims=True)
    unexplained: np.ndarray = table - by_arm - table.mean(axis=0) + table.mean()
    return unexplained.round(12)  # where nothing varies, rounding errors are no spread


def stands_out(table: np.ndarray) -> int | None:
    """The place of the arm of a table (arms × seeds) whose residuals have too large a sum of
    squares to be like the others', at 5% (Cochran 1941, The distribution of the largest of a set of
    estimated variances)."""
    squares, (arms, seeds) = (residuals(table) ** 2).sum(axis=1), table.shape
    if arms < 3 or seeds < 2 or not squares.sum() > 0:
        return None
    # Residuals of a table depend on each other: an arm's share of the sum is (1 - 1 / arms) times a
    # beta variable, by which Cochran's limit, of independent variances, is a little lower; with
    # four arms and three seeds it is 0.67 where his, 0.77, can never be reached.
    beta = special.betaincinv((seeds - 1) / 2, (arms - 2) * (seeds - 1) / 2, 1 - LEVEL / arms)
    largest = int(squares.argmax())
    return largest if squares[largest] / squares.sum() > (1 - 1 / arms) * beta else None


def seed_variances(contrasts: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each contrast of arm means its variance over seeds, and the degrees of freedom of that."""
    arms, seeds = table.shape
    if arms < 2 or seeds < 2:
        return np.full(len(contrasts), np.nan), np.zeros(len(contrasts))
    unexplained = residuals(table)
    freedom = (arms - 1) * (seeds - 1)
    square = (unexplained**2).sum() / freedom
    if (noisy := stands_out(table)) is None:
        return square * (contrasts**2).sum(axis=1) / seeds, np.full(len(contrasts), float(freedom))
    # Grubbs 1948: a residual's expected square is 1 - 2 / arms of its own arm's variance and 1 /
    # arms of the mean one.
    own = arms / (arms - 2) * ((unexplained[noisy] ** 2).sum() / (seeds - 1) - square / arms)
    own = min(max(own, square), (arms - (arms - 1) * LEAST_SHARE) * square)
    squares = np.full(arms, (arms * square - own) / (arms - 1))
    squares[noisy] = own
    shares = contrasts**2 * squares / seeds
    noise, others = shares[:, noisy], np.delete(shares, noisy, axis=1).sum(axis=1)
    # By Cochran & Cox (1957, Experimental Designs, section 4.14): Satterthwaite's degrees of
    # freedom, from a variance of two or three seeds, are large just when that variance is too
    # small.
    inverse = (noise / (seeds - 1) + others / ((arms - 2) * (seeds - 1))) / (noise + others)
    return noise + others, 1 / inverse


def image_variances(
    contrasts: np.ndarray, correct: np.ndarray
) -> list[tuple[int, float, float, float]]:
    """Of each contrast of arms the number of test images, its variance over them, what of that is
    over seeds too, and the size of a change, from what each trial is right about (arms × seeds ×
    images)."""
    arms, seeds, images = correct.shape
    differences = (contrasts @ correct.reshape(arms, -1)).reshape(-1, seeds, images)
    by_image, mean = differences.mean(axis=1), differences.mean(axis=(1, 2))
    over_images = by_image.var(axis=1, ddof=1) / images
    over_both = np.zeros(len(contrasts))
    if seeds > 1:
        # Sums of squares: what neither seeds nor images explain remains of the total.
        total = np.einsum("csi,csi->c", differences, differences) - seeds * images * mean**2
        of_seeds = images * ((differences.mean(axis=2) - mean[:, None]) ** 2).sum(axis=1)
        remaining = total - of_seeds - seeds * (images - 1) * images * over_images
        over_both = remaining.clip(min=0.0) / ((seeds - 1) * (images - 1) * seeds * images)
    sizes = np.abs(by_image).sum(axis=1)
    changes = np.divide((by_image**2).sum(axis=1), sizes, out=np.zeros_like(sizes), where=sizes > 0)
    rows = zip(over_images, over_both, changes, strict=True)
    return [(images, float(own), float(both), float(change)) for own, both, change in rows]


def holm(values: Sequence[float]) -> list[float]:
    """The p-values adjusted so that among all of them a false one comes in at most at the level
    (Holm 1979); one that is NaN does not count."""
    order = sorted((value, place) for place, value in enumerate(values) if not math.isnan(value))
    adjusted, most = [math.nan] * len(values), 0.0
    for rank, (value, place) in enumerate(order):
        most = max(most, min(1.0, (len(order) - rank) * value))
        adjusted[place] = most
    return adjusted


def _interval(middle: float, error: float, freedom: float) -> Interval:
    half = _half(error, freedom)
    return Interval(middle - half, middle + half)


def _half(error: float, freedom: float) -> float:
    if not freedom or math.isnan(error):
        return math.nan
    return float(special.stdtrit(freedom, 1 - LEVEL / 2)) * error


def _tail(distance: float, error: float, freedom: float) -> float:
    """The one-sided probability beyond a distance by Student's t (1908)."""
    if not freedom or math.isnan(error):
        return math.nan
    if not error:
        return 0.0 if distance > 0 else 0.5 if distance == 0 else 1.0
    return float(special.stdtr(freedom, -distance / error))
