"""Thousands of simulated studies whose truth is known, from the record to what is concluded."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import conclude
from analysis.statistics.arms import confirm_stage
from analysis.statistics.confirm import Verdict, arm_summaries, seeds_for_width
from tests.simulated import EFFECTS, LEVELS, TWO_LEVELS, UNTUNED, Images, Simulation, World

STUDIES = 2000
SEARCHES = 40
"""Studies of a world share the first part of the record with others that began alike; what is
confirmed is each's."""
UNEQUAL = tuple(np.linspace(0.003, 0.009, 8))
MOST_SEEDS = 12
"""To which a study is extended."""


def sized(*sizes: float) -> dict[str, dict[Any, float]]:
    """Effects of these sizes, of the second level of each factor beside the first."""
    return {
        name: {levels[1]: size} for (name, levels), size in zip(LEVELS.items(), sizes, strict=True)
    }


SOME, NONE, POINT = (
    sized(0.01, -0.005, 0.0, -0.01),
    sized(0, 0, 0, 0),
    sized(0.01, -0.01, 0.01, -0.01),
)
INTERACTIONS = {("stem_kernel", "stem_stride"): 0.004, ("stem_stride", "depth"): -0.002}
PLAIN = partial(World, design=UNTUNED, curvature=0.0)
# As of a small and of a large test part; the spread of the arms over seeds is 0.6 points at 90%.
DIGITS = partial(PLAIN, images=Images(360), spread=(0.1,), shared=0.1)
MANY_IMAGES = partial(PLAIN, images=Images(2000), accuracy=0.9, spread=(0.11,), shared=0.1)
WORLDS = {
    "noisy arm": World(SOME, TWO_LEVELS, interactions=INTERACTIONS, spread=(0.024, *[0.004] * 7)),
    "no effect": PLAIN(NONE, spread=tuple(np.linspace(0.01, 0.04, 8))),
    "ceiling": World(
        SOME,
        TWO_LEVELS,
        accuracy=0.975,
        interactions=INTERACTIONS,
        spread=tuple(np.linspace(0.05, 0.25, 8)),
        shared=0.1,
        images=Images(360),
    ),
    "no effect, few images": DIGITS(NONE, accuracy=0.975),
    "one point, few images": DIGITS(POINT, accuracy=0.975),
    "no effect, many images": MANY_IMAGES(NONE),
    "one point, many images": MANY_IMAGES(POINT),
}


@lru_cache(maxsize=2)
def searched(world: str, number: int) -> Simulation:
    """A study of the world whose search and tune stages have ended."""
    return Simulation(WORLDS[world], np.random.default_rng([1, *world.encode(), number]))


def started(world: str, number: int) -> Simulation:
    """A study to be confirmed."""
    random = np.random.default_rng([2, *world.encode(), number])
    return searched(world, number * SEARCHES // STUDIES).confirmed_anew(random)


def concluded(simulation: Simulation, seeds: int) -> pd.DataFrame:
    """What is concluded with so many seeds, beside the truth."""
    rows = conclude(simulation.confirm(seeds))
    new, same = simulation.effects(), simulation.effects(on_these_images=True)
    return rows.assign(
        truth=rows["factor"].map(new), truth_on_images=rows["factor"].map(same), seeds=seeds
    )


def confirmed(world: str, seeds: tuple[int, ...], number: int) -> pd.DataFrame:
    """A study of the world with the first, the second … number of seeds."""
    simulation = started(world, number)
    return pd.concat([concluded(simulation, each) for each in seeds]).assign(study=number)


def extended(world: str, width: float, number: int) -> pd.DataFrame:
    """A study with 3 or 5 seeds that is extended once to those that the width asks for."""
    simulation, first = started(world, number), (3, 5)[number % 2]
    advised = seeds_for_width(simulation.confirm(first), width) or MOST_SEEDS
    return concluded(simulation, min(max(advised, first), MOST_SEEDS)).assign(
        study=number, first=first
    )


def searched_and_confirmed(number: int) -> pd.DataFrame:
    """A study with a search of its own, with 2, 3 and 5 seeds: each effect, and beside it the
    winner's search score, its confirmed mean with the interval (of 3 seeds), and its true score."""
    world = World(EFFECTS, interactions=INTERACTIONS, spread=UNEQUAL)
    simulation = Simulation(world, np.random.default_rng([3, number]))
    best, tables = simulation.state.winner, [concluded(simulation, 2), concluded(simulation, 3)]
    stage = confirm_stage(simulation.confirm(3))
    assert best is not None and stage is not None
    winner = next(row for row in arm_summaries(stage, "test_accuracy") if row.arm.role == "winner")
    return pd.concat([*tables, concluded(simulation, 5)]).assign(
        study=number,
        best=best.rank[0],
        best_truth=world.expected(best.config),
        mean=winner.mean,
        mean_low=winner.interval.low,
        mean_high=winner.interval.high,
        mean_truth=simulation.expected[0],
    )


@pytest.fixture(scope="module")
def studies() -> Iterator[Callable[..., pd.DataFrame]]:
    """Makes 2,000 studies by a function of their number, in processes of their own with a thread
    each, and as nice as Ray's, which else would starve in tests that run beside."""
    spawn = multiprocessing.get_context("spawn")
    nice_pool = ProcessPoolExecutor(2, spawn, os.nice, (15,))
    with pytest.MonkeyPatch.context() as patch, nice_pool as pool:
        patch.setenv("OMP_NUM_THREADS", "1")

        def make(function: Callable[[int], pd.DataFrame], *args: Any) -> pd.DataFrame:
            return pd.concat(
                pool.map(partial(function, *args), range(STUDIES), chunksize=STUDIES // SEARCHES)
            )

        yield make


def covered(rows: pd.DataFrame, truth: str = "truth") -> float:
    """The share of the intervals that have the truth in them."""
    return float(((rows["low"] <= rows[truth]) & (rows[truth] <= rows["high"])).mean())


def share_of_effects(rows: pd.DataFrame, verdict: Verdict) -> float:
    """Of which so is concluded."""
    return float((rows["verdict"] == verdict).mean())


def share_of_studies(rows: pd.DataFrame, where: pd.Series) -> float:
    """In which it is so of any effect."""
    return float(where.groupby(rows["study"]).any().mean())


def false_equivalence(rows: pd.DataFrame) -> float:
    """The share of studies that find an effect not to matter."""
    return share_of_studies(rows, rows["verdict"] == Verdict.EQUIVALENT)


@pytest.fixture(scope="module")
def searched_studies(studies) -> pd.DataFrame:
    """2,000 studies from the search to the conclusions."""
    return studies(searched_and_confirmed)


@pytest.mark.slow
def test_intervals_cover_the_truth_where_arms_spread_differently_and_factors_interact(
    searched_studies,
):
    assert len(searched_studies) == STUDIES * len(EFFECTS) * 3
    for seeds, some in searched_studies.groupby("seeds"):
        assert 0.935 <= covered(some) <= 0.965, seeds


@pytest.mark.slow
def test_intervals_cover_the_truth_where_one_arm_is_six_times_as_noisy(studies):
    rows = studies(confirmed, "noisy arm", (3,))
    assert 0.93 <= covered(rows) <= 0.965


@pytest.mark.slow
def test_where_nothing_matters_little_is_claimed_to(studies):
    """The spread is too large for equivalence, which else goes before a claim."""
    rows = studies(confirmed, "no effect", (3,))
    claims = share_of_studies(rows, rows["verdict"] == Verdict.MATTERS)
    assert 0.02 < claims <= 0.065
    assert share_of_effects(rows, Verdict.INCONCLUSIVE) > 0.95


@pytest.mark.slow
def test_intervals_cover_new_test_images_and_those_over_seeds_alone_do_not(studies):
    rows = studies(confirmed, "ceiling", (2, 3, 5))
    for seeds, some in rows.groupby("seeds"):
        alone = some.assign(low=some["low_seeds"], high=some["high_seeds"])
        assert 0.93 <= covered(some) <= 0.975, seeds
        assert covered(alone) < covered(some) - 0.03, seeds
        assert 0.935 <= covered(alone, "truth_on_images") <= 0.965, seeds
    # With more seeds the images are what is left of the error.
    by_seeds = [
        (some["high_seeds"] - some["low_seeds"]).mean() for _, some in rows.groupby("seeds")
    ]
    assert by_seeds[2] < 0.6 * by_seeds[0]


@pytest.mark.slow
@pytest.mark.parametrize("images", ["few", "many"])
def test_effects_of_one_point_are_not_found_to_be_too_small_to_matter(studies, images):
    rows = studies(confirmed, f"one point, {images} images", (3,))
    assert 0.01 < false_equivalence(rows) <= 0.055
    assert share_of_effects(rows, Verdict.MATTERS) >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize(("images", "power"), [("few", 0.75), ("many", 0.85)])
def test_no_effects_are_found_not_to_matter(studies, images, power):
    rows = studies(confirmed, f"no effect, {images} images", (3,))
    assert share_of_studies(rows, rows["p"] < 0.05) <= 0.065
    assert share_of_effects(rows, Verdict.EQUIVALENT) >= power


@pytest.mark.slow
def test_intervals_cover_the_truth_after_the_seeds_that_a_width_asks_for(studies):
    rows = studies(extended, "ceiling", 0.006)
    assert covered(rows) >= 0.925
    assert (
        covered(rows.assign(low=rows["low_seeds"], high=rows["high_seeds"]), "truth_on_images")
        >= 0.925
    )
    by_study = rows.groupby("study")[["first", "seeds"]].first()
    assert (by_study["seeds"] > by_study["first"]).mean() > 0.7
    assert by_study["seeds"].nunique() > 4
    # It reaches the width where the number of seeds is not at its limit.
    reached = rows[rows["seeds"].lt(MOST_SEEDS) & rows["seeds"].gt(rows["first"])]
    assert ((reached["high"] - reached["low"]) / 2).median() <= 0.006


@pytest.mark.slow
def test_the_searchs_best_score_is_optimistic_and_the_confirmed_one_is_not(searched_studies):
    rows = searched_studies.drop_duplicates("study")
    errors, excess = rows["mean"] - rows["mean_truth"], rows["best"] - rows["best_truth"]
    assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(STUDIES)
    assert excess.mean() > 10 * excess.std() / np.sqrt(STUDIES)
    assert (
        0.91
        <= covered(rows.assign(low=rows["mean_low"], high=rows["mean_high"]), "mean_truth")
        <= 0.97
    )
