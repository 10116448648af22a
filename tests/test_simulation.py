"""Thousands of simulated studies whose truth is known, from the record to the conclusions."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import pytest

from analysis.verdict import verdict
from tests.simulated import EFFECTS, simulate, tables, truth

STUDIES = 2000


def with_effects(number: int) -> tuple[pd.DataFrame, float, float, float]:
    """Of a study with effects the differences from the winner beside the truth; the search's best score, the
    confirmed mean and the true score of the winner."""
    said = verdict(tables(simulate(EFFECTS, np.random.default_rng([1, number]))))
    arms = said.arms.assign(truth=[truth(row, EFFECTS) for row in said.arms.to_dict("records")]).set_index("label")
    winner = arms.index[arms["role"] == "winner"][0]
    table = said.differences[winner]
    table = table.assign(truth=arms["truth"].loc[table["arm"]].to_numpy() - arms["truth"][winner])
    confirmed = said.means["test_accuracy"].set_index("label")["mean"][winner]
    return table, confirmed + said.optimism, confirmed, arms["truth"][winner]


def without_effects(number: int) -> bool:
    """Whether a study in which nothing matters says that something does."""
    return verdict(tables(simulate({}, np.random.default_rng([2, number])))).effects["tells"].any()


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def simulated(pool):
    return list(pool.map(with_effects, range(STUDIES), chunksize=50))


@pytest.mark.slow
def test_intervals_of_differences_cover_the_truth(simulated):
    rows = pd.concat([table for table, *_ in simulated])
    covered = ((rows["low"] <= rows["truth"]) & (rows["truth"] <= rows["high"])).mean()
    assert len(rows) > 4 * STUDIES
    assert 0.93 <= covered <= 0.97


@pytest.mark.slow
def test_the_searchs_best_score_is_optimistic_and_the_confirmed_one_is_not(simulated):
    best, confirmed, true = np.array([numbers for _, *numbers in simulated]).T
    assert abs(np.mean(confirmed - true)) < 3 * np.std(confirmed - true) / np.sqrt(STUDIES)
    assert np.mean(best - true) > 10 * np.std(best - true) / np.sqrt(STUDIES)


@pytest.mark.slow
def test_where_nothing_matters_little_is_said_to(pool):
    told = np.mean(list(pool.map(without_effects, range(STUDIES), chunksize=50)))
    assert told <= 0.07
    assert told > 0.02, "needlessly shy"
