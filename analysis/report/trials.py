"""The trials of the search on the page: which are shown, in which columns, with small curves."""

import pandas as pd

from analysis.report.search_findings import SearchFindings
from analysis.statistics import curves, search
from analysis.statistics.curves import is_baseline

TRIAL_COLUMNS = ["trial", search.SCORE, "arm", "learning_rate", "state", "epochs", "origin"]
TRIAL_COLUMNS += ["validation_loss", "train_accuracy", "train_loss"]
TRIAL_COLUMNS += ["train_seconds", "parameters", "forward_flops", "error"]
TRIALS_SHOWN, POINTS_SHOWN = 300, 50


def trial_columns(searched: SearchFindings) -> list[str]:
    """The columns of the table of trials: of uneven classes balanced accuracy, too."""
    place = TRIAL_COLUMNS.index(search.SCORE) + 1
    balanced = [curves.BALANCED] if searched.largest_class else []
    return [*TRIAL_COLUMNS[:place], *balanced, *TRIAL_COLUMNS[place:]]


def shown_trials(table: pd.DataFrame) -> pd.DataFrame:
    """At most 300 trials for the page: the 100 best, the baselines, and a fixed random sample of
    the others."""
    best = curves.ranked(table)["trial"].head(TRIALS_SHOWN // 3)
    first = table["trial"].isin(best) | is_baseline(table)
    others = table[~first]
    room = max(0, TRIALS_SHOWN - int(first.sum()))
    others = others.sample(min(len(others), room), random_state=0)
    return pd.concat([table[first], others]).sort_values("trial", ignore_index=True)


def small_curves(epochs: pd.DataFrame, trials: pd.Series) -> list[str]:
    """Each trial's validation accuracy by epoch as the points of a line in a box of 100 × 100, at
    most 50 of them."""
    rows = epochs[epochs["trial"].isin(trials) & epochs["validation_accuracy"].notna()]
    last = int(max(rows["epoch"].max(), 2)) if len(rows) else 2
    rows = rows[(rows["epoch"] - 1) % -(-last // POINTS_SHOWN) == 0]
    pairs = zip(rows["epoch"], rows["validation_accuracy"], strict=True)
    places = [
        f"{100 * (epoch - 1) / (last - 1):.0f},{100 - 100 * value:.1f}" for epoch, value in pairs
    ]
    lines = pd.Series(places, rows["trial"], dtype="str").groupby(level=0).agg(" ".join)
    return list(lines.reindex(trials, fill_value=""))
