"""Effects against known truth, and against scipy, scikit-learn, numpy and hand values."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import FACTORS, MadeTrial, falling, write_study

from analysis import load_study
from analysis.statistics.curves import results
from analysis.statistics.search import (
    ENOUGH_EXPLAINED,
    importance,
    isolation,
    rate_response,
)

RATE = FACTORS[0]


def table_of(folder: Path, made: Sequence[MadeTrial]) -> pd.DataFrame:
    study = load_study(write_study(folder, made))
    return results(study.trials, study.epochs)


def trial(
    score: float, state: str = "complete", origin: str = "random", **config: Any
) -> MadeTrial:
    """One epoch whose validation accuracy is the score."""
    return MadeTrial(state, [(1.0, 0.5, 1.0, score)], origin, config)


def random_search(
    n: int, effect: Mapping[str, float], seed: int = 0, noise: float = 0.01
) -> list[MadeTrial]:
    """Scores that depend on log10 of the learning rate, depth and stride as `effect` says, and on
    noise."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        config = {
            factor["name"]: factor["levels"][rng.integers(len(factor["levels"]))]
            for factor in FACTORS[1:]
        }
        config["learning_rate"] = float(10 ** rng.uniform(math.log10(0.0003), math.log10(0.3)))
        score = 0.5 + effect.get("learning_rate", 0) * (math.log10(config["learning_rate"]) + 2)
        score += (
            effect.get("depth", 0) * (config["depth"] == 34)
            + effect.get("stem_stride", 0) * config["stem_stride"]
        )
        made.append(trial(float(np.clip(score + rng.normal(0, noise), 0, 1)), **config))
    return made


def test_isolation_takes_the_best_complete_trial_of_each_level_and_counts_the_rest(
    tmp_path: Path,
) -> None:
    made = [
        trial(0.9, "stopped", depth=10),
        trial(0.6, depth=10, learning_rate=0.02),
        trial(0.7, depth=10, learning_rate=0.03),
        trial(0.5, depth=34),
        trial(math.nan, "diverged", depth=34),
        MadeTrial("failed", [], config={"depth": 34}),
        trial(0.99, origin="baseline:small-stem", depth=34),
        MadeTrial("complete", falling(2, accuracy=0.99), config={"depth": 34}, stage="confirm"),
    ]
    rows = isolation(table_of(tmp_path, made), FACTORS[4]).set_index("level")
    assert list(rows.index) == ["10", "18", "34"]
    assert rows["trial"].tolist()[::2] == [2, 3]
    assert pd.isna(rows.loc["18", "trial"])
    np.testing.assert_array_equal(rows["validation_accuracy"], [0.7, math.nan, 0.5])
    assert rows["learning_rate"].tolist()[0] == 0.03
    states = ["trials", "complete", "stopped", "diverged", "failed", "running"]
    assert rows[states].to_numpy().tolist() == [[3, 2, 1, 0, 0, 0], [0] * 6, [3, 1, 0, 1, 1, 0]]


def test_importance_finds_the_factors_that_were_planted(tmp_path: Path) -> None:
    effect = {"learning_rate": 0.1, "depth": 0.12}
    table = table_of(tmp_path, random_search(120, effect))
    shares = importance(table, FACTORS)
    assert shares["factor"].tolist()[:2] == ["learning_rate", "depth"]
    # The variances of the two effects: a uniform logarithm over 3 decades, and one level in three.
    rate, depth = 0.1**2 * 3**2 / 12, 0.12**2 * (1 / 3) * (2 / 3)
    expected = [rate / (rate + depth + 0.01**2), depth / (rate + depth + 0.01**2)]
    assert shares["importance"].tolist()[:2] == pytest.approx(expected, abs=0.05)
    assert (shares["importance"][2:] < 0.02).all()
    assert (
        (shares["least"] <= shares["importance"]) & (shares["importance"] <= shares["most"])
    ).all()
    assert shares["reliable"].all()
    assert shares["trials"].tolist() == [120] * 5
    assert shares["explained"].iloc[0] > 0.9


def test_importance_leaves_out_baselines_and_what_is_not_complete(tmp_path: Path) -> None:
    made = random_search(40, {"stem_stride": 0.2})
    spoiled = [
        trial(0.999, origin="baseline:small-stem", depth=10),
        trial(0.001, "stopped", depth=34),
    ] * 10
    first = importance(table_of(tmp_path / "a", made), FACTORS)
    second = importance(table_of(tmp_path / "b", [*made, *spoiled]), FACTORS)
    pd.testing.assert_frame_equal(first, second)
    assert first["factor"][0] == "stem_stride"


def test_importance_draws_a_thousand_trials_of_more(tmp_path: Path) -> None:
    shares = importance(table_of(tmp_path, random_search(1010, {"stem_stride": 0.2})), FACTORS[2:4])
    assert shares["trials"].tolist() == [1000, 1000]
    assert shares["importance"].iloc[0] > 0.9


@pytest.mark.parametrize("n", [0, 1, 3, 19])
def test_few_trials_are_not_reliable(tmp_path: Path, n: int) -> None:
    shares = importance(table_of(tmp_path, random_search(n, {"stem_stride": 0.3})), FACTORS)
    assert not shares["reliable"].any()
    assert shares["trials"].tolist() == [n] * 5


def test_equal_scores_are_not_reliable(tmp_path: Path) -> None:
    shares = importance(
        table_of(tmp_path, [trial(0.5, depth=depth) for depth in (10, 18, 34) * 10]), FACTORS
    )
    assert not shares["reliable"].any()


@pytest.mark.slow
def test_noise_is_seldom_reliable() -> None:
    """Without any effect, importance is reliable in at most 5% of 40 draws of 20 trials."""
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(0)
    reliable = 0
    for _ in range(40):
        columns = [rng.uniform(size=20), *(rng.integers(0, levels, 20) for levels in (4, 2, 2, 3))]
        forest = RandomForestRegressor(100, oob_score=True, random_state=0)
        reliable += (
            forest.fit(np.column_stack(columns), rng.normal(size=20)).oob_score_ >= ENOUGH_EXPLAINED
        )
    assert reliable <= 2


@pytest.mark.parametrize(
    ("rate", "edge", "beyond"),
    [
        (0.0004, "low", (0.00004, 0.004)),
        (0.01, "", None),
        (0.28, "high", (0.028, 2.8)),
        (0.5, "high", (0.05, 5.0)),
    ],
    ids=["low", "inside", "high", "beyond the range"],
)
def test_a_best_rate_at_an_end_of_the_range_is_flagged(
    tmp_path: Path, rate: float, edge: str, beyond: tuple[float, float] | None
) -> None:
    made = [
        trial(0.9, learning_rate=rate),
        trial(0.8, learning_rate=0.02),
        trial(0.99, "diverged", learning_rate=0.3),
    ]
    (row,) = rate_response(table_of(tmp_path, made), RATE).to_dict("records")
    assert (row["arm"], row["best"], row["trials"], row["complete"], row["diverged"]) == (
        "k7 s2 pool d18",
        rate,
        3,
        2,
        1,
    )
    assert row["edge"] == edge
    if beyond:
        assert (row["next_low"], row["next_high"]) == pytest.approx(beyond)
    else:
        assert math.isnan(row["next_low"])


def test_a_range_that_a_condition_left_out_is_not_its_best_value(tmp_path: Path) -> None:
    """Label smoothing exists with SGD only; elsewhere it is 0, which has no place on a logarithmic
    scale."""
    factor = {
        "name": "label_smoothing",
        "role": "nuisance",
        "low": 0.01,
        "high": 0.2,
        "scale": "log",
    }
    factor |= {"when": {"optimizer": "sgd"}}
    score = [(1.0, 0.5, 1.0, 0.5)]
    configs = [
        {"optimizer": "adam"},
        *({"optimizer": "sgd", "label_smoothing": 0.05} for _ in range(2)),
    ]
    table = table_of(tmp_path, [MadeTrial("complete", score, config=config) for config in configs])
    (row,) = rate_response(table, factor).to_dict("records")
    assert (row["best"], row["trials"], row["edge"]) == (0.05, 2, "")


def test_rates_are_by_arm_best_first_and_may_be_linear(tmp_path: Path) -> None:
    made = [
        trial(0.7, depth=10, momentum=0.5),
        trial(0.9, depth=34, momentum=0.89),
        trial(0.99, "stopped", depth=18, momentum=0.9),
    ]
    linear = {"name": "momentum", "role": "nuisance", "low": 0.0, "high": 0.9, "scale": "linear"}
    rows = rate_response(table_of(tmp_path, made), linear)
    assert rows["arm"].tolist() == ["k7 s2 pool d34", "k7 s2 pool d10"]
    assert rows["edge"].tolist() == ["high", ""]
    assert rows["next_low"].iloc[0] == pytest.approx(0.89 - 0.45)
    assert rate_response(table_of(tmp_path / "none", []), linear).empty
