"""Which factor matters, in the search stage: DataFrame → DataFrame.

All take the table of `analysis.statistics.curves.results`. Only complete trials have a score; the others are
counted. Scores are validation accuracies (fractions) of one seed, so nothing here says how much
another seed would change.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics.curves import factor_levels, is_baseline, is_complete, ranked

SCORE = "validation_accuracy"
MOST_TRIALS = 1000
SEEDS = range(5)
TREES: Mapping[str, int] = {"n_trees": 16, "max_depth": 8}
"""Of a forest; five of them on 1,000 trials take a few seconds, and deeper trees say little else.
"""
ENOUGH_TRIALS, ENOUGH_EXPLAINED = 20, 0.3
"""Below either, importance says nothing: without any effect, 20 trials explain more than 0.3 in
under 5%."""
EDGE = 0.1  # of a range, on its scale


def isolation(table: pd.DataFrame, factor: Mapping[str, Any]) -> pd.DataFrame:
    """For each level of a factor the best complete trial over everything else (its number, arm,
    learning rate and score), and how many trials of each state there are. A maximum grows with
    their number and has no interval: a bootstrap cannot give one (Bickel & Freedman 1981, section
    6). *Isolation*: Godbole et al. 2023, Deep Learning Tuning Playbook."""
    rows = table.merge(factor_levels(table, factor), on="trial")
    best = (
        ranked(rows)
        .drop_duplicates("level")
        .set_index("level")[["trial", "arm", "learning_rate", SCORE]]
    )
    counts = rows.groupby(["level", "state"], observed=False).size().unstack()
    counts.columns = counts.columns.astype("str")
    counts.insert(0, "trials", counts.sum(axis=1))
    return counts.join(best).astype({"trial": "Int64"}).reset_index().astype({"level": "str"})


def importance(table: pd.DataFrame, factors: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The share of the score's variance that each factor explains alone, by fANOVA (Hutter et al.
    2014) over the complete trials but the baselines: the mean, `least` and `most` over forests of
    several seeds, most first.

    `trials` is how many were used (at most 1,000, a fixed draw); `explained` the share of the
    variance that a forest predicts for trials it was not grown on (out-of-bag R², Breiman 2001);
    `tells` whether both are enough to say anything. What was stopped is not in it, so weak regions
    count less than they should.
    """
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.importance import FanovaImportanceEvaluator
    from sklearn.ensemble import RandomForestRegressor

    names = [factor["name"] for factor in factors]
    rows = table[is_complete(table) & ~is_baseline(table)]
    rows = rows.sample(min(len(rows), MOST_TRIALS), random_state=0).sort_values("trial")
    places = {factor["name"]: _places(rows[factor["name"]], factor) for factor in factors}
    varied = [name for name, values in places.items() if values.nunique() > 1]
    if len(rows) < 4 or not varied or rows[SCORE].nunique() < 2:
        nothing = dict.fromkeys(("importance", "least", "most", "explained"), np.nan)
        return pd.DataFrame({"factor": pd.Series(names, dtype="str")}).assign(
            trials=len(rows), tells=False, **nothing
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study, inputs = optuna.create_study(), np.column_stack([places[name] for name in varied])
    space: dict[str, Any] = dict.fromkeys(varied, FloatDistribution(0.0, 1.0))
    for values, score in zip(inputs.tolist(), rows[SCORE], strict=True):
        config = dict(zip(varied, values, strict=True))
        study.add_trial(optuna.create_trial(params=config, distributions=space, value=score))
    shares = pd.DataFrame(
        [FanovaImportanceEvaluator(seed=seed, **TREES).evaluate(study) for seed in SEEDS]
    )
    shares = shares.reindex(columns=names, fill_value=0.0)
    forest = RandomForestRegressor(100, oob_score=True, random_state=0).fit(inputs, rows[SCORE])
    found = pd.DataFrame({"importance": shares.mean(), "least": shares.min(), "most": shares.max()})
    found = (
        found.rename_axis("factor")
        .reset_index()
        .sort_values("importance", ascending=False, ignore_index=True)
    )
    tells = len(rows) >= ENOUGH_TRIALS and forest.oob_score_ >= ENOUGH_EXPLAINED
    return found.assign(trials=len(rows), explained=forest.oob_score_, tells=tells)


def _places(values: pd.Series, factor: Mapping[str, Any]) -> pd.Series:
    """A factor's values as places from 0 to 1, so that levels take up equal lengths and a range is
    even on its scale. (Optuna's fANOVA would weigh a logarithmic range evenly on the linear scale,
    and levels by a cube of indicators.)"""
    if "levels" in factor:
        order = list(dict.fromkeys([*factor["levels"], *values]))
        return (values.map(order.index) + 0.5) / len(order)
    low, high = factor["low"], factor["high"]
    values = values.clip(low, high)  # where a condition leaves the factor out, its value may be 0
    line, *ends = (np.log(x) if factor["scale"] == "log" else x for x in (values, low, high))
    places: pd.Series = (line - ends[0]) / (ends[1] - ends[0])
    return places


def scientific(factors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The factors whose effect is the question."""
    return [
        factor for factor in factors if factor.get("role") == "scientific" and "levels" in factor
    ]


def rate_response(table: pd.DataFrame, factor: Mapping[str, Any]) -> pd.DataFrame:
    """For each arm, best first, its response to a factor with a range (the learning rate): how many
    `trials` it has, `complete` and `diverged`, its `best` value and score, and where that lies in
    the outer tenth of the range on its scale, that `edge` (`low` or `high`, else empty) and the
    range to try next, one decade to either side of the best (a logarithmic scale) or half the range
    (a linear one)."""
    name, logarithmic = factor["name"], factor["scale"] == "log"
    varied = table[~is_baseline(table)]
    for other, level in factor.get("when", {}).items():  # only there does it exist
        varied = varied[varied[other] == level]
    best = ranked(varied).drop_duplicates("arm").set_index("arm")[["trial", name, SCORE]]
    states = pd.crosstab(varied["arm"], varied["state"]).reindex(best.index)
    counts = {state: states.get(state, 0) for state in ("complete", "diverged")}
    low, high, value = (
        np.log10(x) if logarithmic else x for x in (factor["low"], factor["high"], best[name])
    )
    place = (value - low) / (high - low)
    edge = np.select([place <= EDGE, place >= 1 - EDGE], ["low", "high"], "")
    reach = 1.0 if logarithmic else (high - low) / 2
    below, above = (10.0**end if logarithmic else end for end in (value - reach, value + reach))
    below = below.clip(
        lower=min(factor["low"], 0.0)
    )  # no such value is negative unless the design's are
    following = {
        "edge": edge,
        "next_low": below.where(edge != ""),
        "next_high": above.where(edge != ""),
    }
    table = best.rename(columns={name: "best"}).assign(
        trials=states.sum(axis=1), **counts, **following
    )
    return table.reset_index()
