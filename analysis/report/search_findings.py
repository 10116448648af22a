"""What the search stage shows, as facts.

Its scores are of one seed, on validation images, and the best is a maximum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from scipy import stats

from analysis.load import Study
from analysis.report.largest_class import LargestClass, largest_class
from analysis.statistics import curves, search


@dataclass(frozen=True)
class Ties:
    """How many other arms have a score of at least `bound`, the lower end of the best score's 95%
    interval for the sampling of validation images alone (Wilson 1927)."""

    arms: int
    bound: float
    trials: int
    images: int


@dataclass(frozen=True, eq=False)
class SearchFindings:
    """What the search stage shows.

    Attributes:
        table: its trials, of `curves.results`.
        ranked: the complete ones, best first.
        levels: of `curves.factor_levels`, by factor.
        importances: of `search.importance`.
        responses: of `search.rate_response`, by factor with a range.
        scientific: the factors whose effect is the question.
        ties: with the best score; None while there is none, or where the images are not counted.
        largest_class: of the validation images, where accuracy is to be read beside it.
    """

    table: pd.DataFrame
    ranked: pd.DataFrame
    levels: Mapping[str, pd.DataFrame]
    importances: pd.DataFrame
    responses: Mapping[str, pd.DataFrame]
    scientific: Sequence[Mapping[str, Any]]
    ties: Ties | None
    largest_class: LargestClass | None


class LevelRange(NamedTuple):
    """The levels of a factor with the lowest and the highest median validation accuracy at the last
    epoch that all their trials reached."""

    epoch: int
    lowest: str
    low: float
    highest: str
    high: float


def search_findings(study: Study) -> SearchFindings:
    """The findings of the search stage, which may have no trial."""
    factors = study.manifest["design"]["factors"]
    table = curves.results(study.trials, study.epochs)
    ranked = curves.ranked(table)
    return SearchFindings(
        table=table,
        ranked=ranked,
        levels={factor["name"]: curves.factor_levels(table, factor) for factor in factors},
        importances=search.importance(table, factors),
        responses={
            factor["name"]: search.rate_response(table, factor)
            for factor in factors
            if "levels" not in factor
        },
        scientific=search.scientific(factors),
        ties=_ties(ranked, study.manifest["dataset"]["counts"].get("validation") or 0),
        largest_class=largest_class(study, "validation"),
    )


def _ties(ranked: pd.DataFrame, images: int) -> Ties | None:
    if ranked.empty or not images:
        return None
    scores = ranked["validation_accuracy"]
    recognised = round(scores.iloc[0] * images)
    bound = stats.binomtest(recognised, images).proportion_ci(method="wilson").low
    arms = ranked.loc[scores >= bound, "arm"].nunique() - 1
    return Ties(arms, bound, len(ranked), images)


def level_range(quartiles: pd.DataFrame, classes: int) -> LevelRange | None:
    """That of `curves.level_curves`; None without such an epoch, or where all are below twice what
    guessing one of `classes` gives, so that nothing has been learnt that could be compared."""
    rows = quartiles[quartiles["reading"] == "validation_accuracy"].astype({"level": "str"})
    rows["median"] = rows["median"].where(rows["over_all"])
    shared = rows.pivot(index="epoch", columns="level", values="median").dropna()
    if shared.empty or len(shared.columns) < 2:
        return None
    last = shared.iloc[-1].sort_values(kind="stable")
    epoch = int(shared.index[-1])
    if last.iloc[-1] < 2 / max(classes, 2):
        return None
    return LevelRange(epoch, str(last.index[0]), last.iloc[0], str(last.index[-1]), last.iloc[-1])
