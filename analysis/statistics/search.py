"""Which factor matters, in the search stage: DataFrame → DataFrame.

All take the table of `curves.results`. Only complete trials have a score; the others are counted.
Scores are validation accuracies (fractions) of one seed, so nothing here says how much another seed
would change.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics.curves import factor_levels, is_baseline, is_complete, ranked
from trainables.vocabulary import TrialStatus

SCORE = "validation_accuracy"
MOST_TRIALS = 1000
SEEDS = range(5)
TREES: Mapping[str, int] = {"n_trees": 16, "max_depth": 8}
"""Of a forest; five of them on 1,000 trials take a few seconds, and deeper trees add little."""
ENOUGH_TRIALS, ENOUGH_EXPLAINED = 20, 0.3
"""Below either, importance is not reliable: without any effect, 20 trials explain more than 0.3 in
under 5%."""
EDGE = 0.1  # of a range, on its scale


def isolation(table: pd.DataFrame, factor: Mapping[str, Any]) -> pd.DataFrame:
    """The best complete trial of each level of a factor over everything else.

    A maximum grows with the number of trials and has no interval: a bootstrap cannot give one
    (Bickel & Freedman 1981, section 6). *Isolation*: Godbole et al. 2023, Deep Learning Tuning
    Playbook.

    Returns:
        level: label.
        trials, and each state: how many trials of the level there are, in all and by state.
        trial, arm, learning_rate: of the best.
        validation_accuracy: of the best, a fraction.
    """
    rows = table.merge(factor_levels(table, factor), on="trial")
    best = ranked(rows).drop_duplicates("level").set_index("level")
    counts = rows.groupby(["level", "state"], observed=False).size().unstack()
    counts.columns = counts.columns.astype("str")
    counts.insert(0, "trials", counts.sum(axis=1))
    both = counts.join(best[["trial", "arm", "learning_rate", SCORE]])
    return both.astype({"trial": "Int64"}).reset_index().astype({"level": "str"})


def importance(table: pd.DataFrame, factors: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The share of the score's variance that each factor explains alone, by fANOVA (Hutter et al.
    2014) over the complete trials but the baselines, most first. Stopped trials are excluded, so
    weak regions count less than they should.

    Returns:
        factor: name.
        importance, least, most: mean and range of the share over forests of several seeds.
        trials: how many were used (at most 1,000, a fixed random sample).
        explained: share of the variance that a forest predicts for trials it was not grown on
            (out-of-bag R², Breiman 2001).
        reliable: whether both are enough to rely on.
    """
    rows = table[is_complete(table) & ~is_baseline(table)]
    rows = rows.sample(min(len(rows), MOST_TRIALS), random_state=0).sort_values("trial")
    places = pd.DataFrame(
        {factor["name"]: _places(rows[factor["name"]], factor) for factor in factors}, rows.index
    )
    varied = [name for name in places if places[name].nunique() > 1]
    if len(rows) < 4 or not varied or rows[SCORE].nunique() < 2:
        names = pd.Series([factor["name"] for factor in factors], dtype="str")
        missing = dict.fromkeys(("importance", "least", "most", "explained"), np.nan)
        return pd.DataFrame({"factor": names}).assign(trials=len(rows), reliable=False, **missing)
    from sklearn.ensemble import RandomForestRegressor

    inputs = places[varied]
    shares = _variance_shares(inputs, rows[SCORE]).reindex(columns=list(places), fill_value=0.0)
    forest = RandomForestRegressor(100, oob_score=True, random_state=0)
    explained = forest.fit(inputs.to_numpy(), rows[SCORE]).oob_score_
    importances = pd.DataFrame(
        {"importance": shares.mean(), "least": shares.min(), "most": shares.max()}
    )
    importances = importances.rename_axis("factor").reset_index()
    importances = importances.sort_values("importance", ascending=False, ignore_index=True)
    reliable = len(rows) >= ENOUGH_TRIALS and explained >= ENOUGH_EXPLAINED
    return importances.assign(trials=len(rows), explained=explained, reliable=reliable)


def _variance_shares(inputs: pd.DataFrame, scores: pd.Series) -> pd.DataFrame:
    """The share of the variance of `scores` that each column of `inputs` (from 0 to 1) explains
    alone, one row per seed of the forests."""
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.importance import FanovaImportanceEvaluator

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    space: dict[str, Any] = dict.fromkeys(map(str, inputs), FloatDistribution(0.0, 1.0))
    for values, score in zip(inputs.to_numpy().tolist(), scores, strict=True):
        config = dict(zip(space, values, strict=True))
        study.add_trial(optuna.create_trial(params=config, distributions=space, value=score))
    return pd.DataFrame(
        [FanovaImportanceEvaluator(seed=seed, **TREES).evaluate(study) for seed in SEEDS]
    )


def _places(values: pd.Series, factor: Mapping[str, Any]) -> pd.Series:
    """A factor's values as places from 0 to 1, so that levels take up equal lengths and a range is
    even on its scale. (Optuna's fANOVA would weigh a logarithmic range evenly on the linear scale,
    and levels by a cube of indicators.)"""
    if "levels" in factor:
        order = list(dict.fromkeys([*factor["levels"], *values]))
        return (values.map(order.index) + 0.5) / len(order)
    # Where a condition excludes the factor, its value may be 0.
    return _on_scale(values.clip(factor["low"], factor["high"]), factor)


def _on_scale(values: pd.Series, factor: Mapping[str, Any]) -> pd.Series:
    """Where values lie on a factor's scale between the ends of its range, 0 and 1."""
    scale = np.log10 if factor["scale"] == "log" else np.asarray
    low = scale(factor["low"])
    places: pd.Series = (scale(values) - low) / (scale(factor["high"]) - low)
    return places


def scientific(factors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The factors whose effect is the question."""
    return [
        factor for factor in factors if factor.get("role") == "scientific" and "levels" in factor
    ]


def rate_response(table: pd.DataFrame, factor: Mapping[str, Any]) -> pd.DataFrame:
    """The response of each arm to a factor with a range (the learning rate), best arm first.

    Returns:
        arm: label.
        trial, best: number of its best trial, and the factor's value there.
        validation_accuracy: of that, a fraction.
        trials, complete, diverged: how many the arm has, in all and by state.
        edge: `low` or `high` where the best is in the outer tenth of the range on its scale, else
            empty.
        next_low, next_high: there the range to try next, one decade to either side of the best (a
            logarithmic scale) or half the range (a linear one).
    """
    name = factor["name"]
    varied = table[~is_baseline(table)]
    for condition, level in factor.get("when", {}).items():  # only there does it exist
        varied = varied[varied[condition] == level]
    best = ranked(varied).drop_duplicates("arm").set_index("arm")[["trial", name, SCORE]]
    states = pd.crosstab(varied["arm"], varied["state"]).reindex(best.index)
    counts = {
        str(state): states.get(state, 0) for state in (TrialStatus.COMPLETE, TrialStatus.DIVERGED)
    }
    place = _on_scale(best[name], factor)
    edge = np.select([place <= EDGE, place >= 1 - EDGE], ["low", "high"], "")
    if factor["scale"] == "log":
        below, above = best[name] / 10, best[name] * 10
    else:
        reach = (factor["high"] - factor["low"]) / 2
        below, above = best[name] - reach, best[name] + reach
    # No such value is negative unless the design's are.
    below = below.clip(lower=min(factor["low"], 0.0))
    response = best.rename(columns={name: "best"}).assign(
        trials=states.sum(axis=1),
        **counts,
        edge=edge,
        next_low=below.where(edge != ""),
        next_high=above.where(edge != ""),
    )
    return response.reset_index()
