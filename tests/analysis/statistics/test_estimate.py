"""Contrasts and their variances, against least squares, scipy, loops and drawing."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.estimate import (
    Estimate,
    estimates,
    holm,
    image_variances,
    mean_estimates,
    seed_variances,
    stands_out,
)

RANDOM = np.random.default_rng(0)
TABLE = 0.9 + RANDOM.normal(0, 0.01, (4, 3)) + RANDOM.normal(0, 0.02, 3)
CONTRASTS = np.array([[-0.5, -0.5, 0.5, 0.5], [-1.0, 1.0, 0.0, 0.0]])
NOISY = TABLE + np.array([[0.0] * 3, [0.0] * 3, [0.0] * 3, [-0.3, 0.4, -0.1]])


def least_squares(table: np.ndarray) -> tuple[np.ndarray, float, int]:
    """Covariance of the arms' coefficients, residual mean square and its freedom, by indicators of
    arms and seeds."""
    arms, seeds = table.shape
    design = np.array(
        [np.r_[np.eye(arms)[a], np.eye(seeds)[s][1:]] for a in range(arms) for s in range(seeds)]
    )
    y = table.ravel()
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    freedom = len(y) - np.linalg.matrix_rank(design)
    square = residual @ residual / freedom
    return (np.linalg.inv(design.T @ design) * square)[:arms, :arms], square, freedom


def test_the_variance_over_seeds_is_that_of_least_squares():
    covariance, _, freedom = least_squares(TABLE)
    variances, freedoms = seed_variances(CONTRASTS, TABLE)
    assert variances == pytest.approx([c @ covariance @ c for c in CONTRASTS])
    assert freedoms.tolist() == [freedom, freedom] == [6, 6]
    means = [value.difference for value in estimates(CONTRASTS, TABLE)]
    assert means == pytest.approx(
        [TABLE[2:].mean() - TABLE[:2].mean(), TABLE[1].mean() - TABLE[0].mean()]
    )


def test_two_arms_alone_are_a_paired_t_test():
    (value,) = estimates(np.array([[1.0, -1.0]]), TABLE[:2])
    exact = stats.ttest_rel(TABLE[0], TABLE[1])
    interval = exact.confidence_interval(0.95)
    assert value.interval.ends == pytest.approx((interval.low, interval.high))
    assert value.p == pytest.approx(exact.pvalue)
    above = stats.ttest_1samp(TABLE[0] - TABLE[1], -0.02, alternative="greater").pvalue
    below = stats.ttest_1samp(TABLE[0] - TABLE[1], 0.02, alternative="less").pvalue
    assert value.p_equivalence(0.02) == pytest.approx(max(above, below))


def test_an_arm_that_stands_out_has_its_own_variance_and_the_others_share_one():
    residual = NOISY - NOISY.mean(axis=1, keepdims=True) - NOISY.mean(axis=0) + NOISY.mean()
    squares = [sum(each**2 for each in row) for row in residual]
    assert stands_out(NOISY) == 3
    assert stands_out(TABLE) is None
    square = sum(squares) / 6
    # At most what leaves each of the three others a fiftieth of the mean variance.
    noisy = min(4 / 2 * (squares[3] / 2 - square / 4), (4 - 3 * 0.02) * square)
    assert noisy > square
    other = (4 * square - noisy) / 3
    (variance, alone), (freedom, freedom_alone) = seed_variances(CONTRASTS, NOISY)
    # Each of the four arms weighs a half in the first contrast; the noisy one is not in the second.
    noise, residual = noisy / 4 / 3, 3 * other / 4 / 3
    assert variance == pytest.approx(noise + residual)
    assert freedom == pytest.approx((noise + residual) / (noise / 2 + residual / (2 * 2)))
    assert (alone, freedom_alone) == (pytest.approx(2 * other / 3), pytest.approx(4))


def test_a_contrast_without_the_noisy_arm_has_a_variance_however_noisy_that_is():
    table = np.array([[0.5, 0.5, 0.5], [0.6, 0.6, 0.6], [0.7, 0.7, 0.7], [0.1, 0.5, 0.9]])
    variances, freedoms = seed_variances(CONTRASTS, table)
    assert (variances > 0).all() and np.isfinite(freedoms).all()


@pytest.mark.parametrize(("arms", "seeds"), [(4, 3), (8, 3), (8, 5)])
def test_arms_alike_stand_out_in_at_most_one_of_twenty(arms, seeds):
    random = np.random.default_rng(arms + seeds)
    share = np.mean(
        [stands_out(random.normal(0, 1, (arms, seeds))) is not None for _ in range(4000)]
    )
    assert 0.03 <= share <= 0.057  # two standard errors above 0.05
    odd = random.normal(0, 1, (1000, arms, seeds)) * np.r_[np.ones(arms - 1), 6.0][:, None]
    assert np.mean([stands_out(table) == arms - 1 for table in odd]) > (0.25 if arms == 4 else 0.75)


def test_the_variance_of_an_arm_that_stands_out_is_unbiased():
    random, contrast = np.random.default_rng(5), np.array([[-1.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    spreads = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 20.0])
    drawn = [
        random.normal(0, 1, (6, 5)) * spreads[:, None] + random.normal(0, 9, 5) for _ in range(2000)
    ]
    variances = [seed_variances(contrast, table)[0][0] for table in drawn if stands_out(table) == 5]
    assert len(variances) > 1990
    assert np.mean(variances) == pytest.approx((1 + 400) / 5, rel=0.08)


def test_image_variances_are_those_of_loops():
    correct = RANDOM.integers(0, 2, (4, 3, 7))
    (images, over_images, over_both, change), _ = image_variances(CONTRASTS, correct)
    d = [
        [sum(CONTRASTS[0][a] * correct[a, s, i] for a in range(4)) for i in range(7)]
        for s in range(3)
    ]
    by_image = [sum(d[s][i] for s in range(3)) / 3 for i in range(7)]
    by_seed, mean = [sum(row) / 7 for row in d], sum(map(sum, d)) / 21
    assert images == 7
    assert over_images == pytest.approx(sum((x - mean) ** 2 for x in by_image) / 6 / 7)
    residual = sum(
        (d[s][i] - by_seed[s] - by_image[i] + mean) ** 2 for s in range(3) for i in range(7)
    )
    assert over_both == pytest.approx(residual / (2 * 6 * 3 * 7))
    assert change == pytest.approx(sum(x**2 for x in by_image) / sum(abs(x) for x in by_image))
    (_, alone, both, _), _ = image_variances(CONTRASTS, correct[:, :1])
    assert (alone, both) == (pytest.approx(np.var(d[0], ddof=1) / 7), 0.0)


def test_the_parts_add_up_to_the_variance_of_new_seeds_and_new_images():
    """Images of unequal difficulty for two arms that differ in which they find hard, and seeds that
    differ in skill."""
    random, contrast, drawn = np.random.default_rng(8), np.array([[-1.0, 1.0]]), []
    for _ in range(1500):
        ease = (
            random.normal(1.5, 1, (2, 1, 60))
            + random.normal(0, 0.5, (2, 4, 1))
            + random.normal(0, 0.7, (2, 4, 60))
        )
        correct = ease > random.logistic(size=(2, 4, 60))
        (value,) = estimates(contrast, correct.mean(axis=2), correct)
        drawn.append((value.difference, value.over_seeds, value.over_images, value.over_both))
    differences, over_seeds, over_images, over_both = np.array(drawn).T
    assert np.mean(over_seeds + over_images - over_both) == pytest.approx(
        differences.var(), rel=0.1
    )
    assert np.mean(over_seeds) < 0.9 * differences.var()


@pytest.mark.parametrize(
    ("parts", "variance"),
    [((4.0, 2.0, 1.0), 5.0), ((4.0, 1.0, 2.0), 4.0), ((1.0, 4.0, 3.5), 4.0)],
    ids=["the sum", "over seeds", "over images"],
)
def test_the_variance_is_at_least_each_part(parts, variance):
    over_seeds, over_images, over_both = parts
    value = Estimate(0.3, 3, over_seeds, 6.0, 101, over_images, over_both)
    assert value.variance == pytest.approx(variance)
    freedom = variance**2 / (over_seeds**2 / 6 + over_images**2 / 100)
    assert value.total_freedom == pytest.approx(freedom)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    assert value.interval.ends == pytest.approx((0.3 - half, 0.3 + half))
    assert value.interval.half == pytest.approx(half)
    narrow = stats.t.ppf(0.975, 6) * math.sqrt(over_seeds)
    assert value.interval_on_images.ends == pytest.approx((0.3 - narrow, 0.3 + narrow))
    assert value.p == pytest.approx(2 * stats.t.sf(0.3 / math.sqrt(variance), freedom))
    one_sided = [stats.t.sf((1 + sign * 0.3) / math.sqrt(variance), freedom) for sign in (-1, 1)]
    assert value.p_equivalence(1.0) == pytest.approx(max(one_sided))


def test_equivalence_is_judged_by_the_variance_that_a_difference_as_large_as_the_margin_has():
    """Of 400 images of which each either changes by 0.5 or not, a difference of 0.01 is eight that
    change."""
    value = Estimate(0.004, 3, 1e-6, 14.0, 400, 0.004 * 0.5 / 400, 0.0, 0.5)
    at_margin = 1e-6 + 0.01 * 0.5 / 400
    freedom = at_margin**2 / (1e-12 / 14 + (0.01 * 0.5 / 400) ** 2 / 399)
    assert value.p_equivalence(0.01) == pytest.approx(
        stats.t.sf(0.006 / math.sqrt(at_margin), freedom)
    )
    beyond = Estimate(0.02, 3, 1e-6, 14.0, 400, 1e-5, 0.0, 0.5)
    t = 0.01 / math.sqrt(1.1e-5)
    assert beyond.p_equivalence(0.01) == pytest.approx(stats.t.cdf(t, beyond.total_freedom))


def test_images_of_which_none_changes_have_no_variance():
    same = np.broadcast_to(RANDOM.integers(0, 2, 7), (4, 3, 7))
    assert image_variances(CONTRASTS, same) == [(7, 0.0, 0.0, 0.0)] * 2


def test_new_images_never_make_an_interval_narrower():
    """Here Welch and Satterthwaite's freedom is 1.4575 instead of 1.3626, which would outweigh the
    added variance."""
    value = Estimate(0.01, 2, 6.896e-4, 1.3626, 359, 8.40e-5, 6.05e-5)
    assert value.variance > value.over_seeds
    assert (
        stats.t.ppf(0.975, value.total_freedom) * value.variance**0.5
        < value.interval_on_images.half
    )
    assert value.interval == value.interval_on_images
    assert value.p == pytest.approx(2 * stats.t.sf(0.01 / value.over_seeds**0.5, 1.3626))


def test_more_seeds_shrink_all_but_what_is_of_the_images_alone():
    value = Estimate(0.1, 3, 6.0, 12.0, 50, 2.0, 0.5)
    assert value.with_seeds(3) == value
    more = value.with_seeds(6)
    assert (more.over_seeds, more.over_both, more.freedom) == (3.0, 0.25, 30.0)
    assert more.over_images == 1.5 + 0.25
    assert value.with_seeds(10**9).variance == pytest.approx(1.5)


def test_one_seed_shows_no_spread():
    (value,) = estimates(CONTRASTS[:1], TABLE[:, :1], RANDOM.integers(0, 2, (4, 1, 9)))
    assert value.difference == pytest.approx(TABLE[2:, 0].mean() - TABLE[:2, 0].mean())
    assert value.over_images > 0
    for each in (
        value.p,
        value.p_equivalence(0.1),
        *value.interval.ends,
        *value.interval_on_images.ends,
    ):
        assert math.isnan(each)


def test_where_nothing_varies_there_is_no_doubt():
    one, other = estimates(np.array([[-1.0, 1.0], [0.0, 0.0]]), np.array([[0.7] * 3, [0.9] * 3]))
    assert (one.p, one.p_equivalence(0.01), one.interval.half) == (0.0, 1.0, 0.0)
    assert (other.p, other.p_equivalence(0.01)) == (1.0, 0.0)
    assert stands_out(np.full((3, 3), 0.5)) is None


def test_holm_by_hand():
    # Holm 1979: 0.01·4, then 0.02·3, then 0.03·2 (not below the one before), then 0.5.
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([math.nan, 0.04]) == pytest.approx([math.nan, 0.04], nan_ok=True)
    assert holm([0.7, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_means_hold_what_seeds_share_and_pool_the_rest():
    a, n = TABLE.shape
    seeds = a * sum((TABLE[:, s].mean() - TABLE.mean()) ** 2 for s in range(n)) / (n - 1)
    residual = least_squares(TABLE)[1]
    variance = (seeds + (a - 1) * residual) / (a * n)
    freedom = (seeds + (a - 1) * residual) ** 2 / (
        seeds**2 / (n - 1) + ((a - 1) * residual) ** 2 / ((a - 1) * (n - 1))
    )
    for row, value in zip(TABLE, mean_estimates(TABLE), strict=True):
        half = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
        assert value.interval.ends == pytest.approx((row.mean() - half, row.mean() + half))


@pytest.mark.parametrize("table", [NOISY, TABLE[:1]], ids=["one stands out", "one arm"])
def test_means_have_their_own_spread_where_it_cannot_be_pooled(table):
    for row, value in zip(table, mean_estimates(table), strict=True):
        interval = stats.t.interval(0.95, 2, row.mean(), stats.sem(row))
        assert value.interval.ends == pytest.approx(interval)
    assert math.isnan(mean_estimates(table[:, :1])[0].interval.low)


def test_intervals_of_means_cover_the_truth():
    random, covered = np.random.default_rng(2), []
    for _ in range(1000):
        table = random.normal(0, 1, (8, 3)) + random.normal(0, 1, 3) + np.arange(8)[:, None]
        covered += [
            v.interval.low < truth < v.interval.high
            for truth, v in enumerate(mean_estimates(table))
        ]
    assert 0.93 <= np.mean(covered) <= 0.98


def test_effects_of_a_complete_factorial_are_differences_of_halves():
    signs = np.array(list(itertools.product((1, -1), repeat=3)))
    table = RANDOM.normal(0.9, 0.01, (8, 4))
    values = estimates(-signs.T / 4, table)
    for column, value in zip(signs.T, values, strict=True):
        assert value.difference == pytest.approx(
            table[column < 0].mean() - table[column > 0].mean()
        )
        assert value.over_seeds == pytest.approx(least_squares(table)[1] * 2 / (4 * 4))
