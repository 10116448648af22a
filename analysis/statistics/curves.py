"""Results and learning curves of the search stage: DataFrame → DataFrame.

Losses are mean cross-entropies in nats, accuracies are fractions. The objective is the validation
accuracy at the last epoch trained, ties by lower validation loss, then by lower trial number. Most
functions take the table that `results` gives: confirm trials are not in it.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

READINGS = ["train_loss", "validation_loss", "train_accuracy", "validation_accuracy"]
BASELINE, WINNER, OTHER = "baseline:", "winner", "other"
ARMS_SHOWN = 6


def results(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """The search trials by number, each with its last readings (`train_loss` …
    `validation_accuracy`), how many `epochs` it was read at, their `seconds` of training and
    evaluation, and its `role`: `baseline:NAME`, `winner` (where that is none of them) or `other`.
    """
    readings = epochs.assign(seconds=epochs["train_seconds"] + epochs["eval_seconds"]).groupby(
        "trial"
    )
    sums = readings.agg(epochs=("epoch", "max"), seconds=("seconds", "sum"))
    last = epochs[["trial", *READINGS]].drop_duplicates("trial", keep="last")
    table = (
        trials[trials["stage"] == "search"]
        .drop(columns="epochs")
        .merge(last, on="trial", how="left")
    )
    table = table.join(sums, on="trial").fillna({"epochs": 0, "seconds": 0.0})
    table = table.astype({"epochs": "int64"}).sort_values("trial", ignore_index=True)
    rest = np.where(table["trial"] == winner(table), WINNER, OTHER)
    return table.assign(
        role=table["origin"].where(is_baseline(table), pd.Series(rest, table.index, dtype="str"))
    )


def is_baseline(table: pd.DataFrame) -> pd.Series:
    """Which trials are baselines. They differ from the others in fixed settings too, so no factor's
    levels are compared with them."""
    found: pd.Series = table["origin"].str.startswith(BASELINE).astype(bool)
    return found


def is_complete(table: pd.DataFrame) -> pd.Series:
    """Which trials are complete and so have a score; a stopped trial's reading only bounds it (it
    is censored)."""
    return (table["state"] == "complete") & table["validation_accuracy"].notna()


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The complete trials, best first."""
    order = ["validation_accuracy", "validation_loss", "trial"]
    return table[is_complete(table)].sort_values(
        order, ascending=[False, True, True], ignore_index=True
    )


def winner(table: pd.DataFrame) -> int | None:
    """The number of the best complete trial; None while there is none."""
    return next(map(int, ranked(table)["trial"]), None)


def learning_curves(table: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """A row for each trial of `table` and epoch: the four readings, missing where not finite, and
    the trial's `state` and `role`."""
    readings = epochs[READINGS].where(np.isfinite(epochs[READINGS]))
    about = table[["trial", "state", "role"]].astype({"role": "category"})
    return epochs[["trial", "epoch"]].join(readings).merge(about, on="trial")


def factor_levels(table: pd.DataFrame, factor: Mapping[str, Any]) -> pd.DataFrame:
    """The `level` of a factor of the design for each `trial` but the baselines: an ordered category
    of labels. A range is cut into thirds on its scale, which hold their lower end, the first and
    the last also what is outside."""
    varied = table[~is_baseline(table)]
    values = varied[factor["name"]]
    if "levels" in factor:
        ordered = [*factor["levels"], *sorted(set(values.unique()) - set(factor["levels"]))]
        labels = [level_label(level) for level in ordered]
        names = values.map(dict(zip(ordered, labels, strict=True)))
    else:
        edges = (np.geomspace if factor["scale"] == "log" else np.linspace)(
            factor["low"], factor["high"], 4
        )
        labels = [f"{low:.3g}–{high:.3g}" for low, high in pairwise(edges)]
        names = pd.Series(np.array(labels)[np.digitize(values, edges[1:-1])], varied.index)
    return pd.DataFrame(
        {"trial": varied["trial"], "level": pd.Categorical(names, labels, ordered=True)}
    )


def level_label(level: Any) -> str:
    """How a level of a factor is written: a flag as yes or no."""
    return ("yes" if level else "no") if isinstance(level, bool | np.bool_) else str(level)


def arm_levels(table: pd.DataFrame) -> pd.DataFrame:
    """The same for the arm: those of the best complete trials, at most `ARMS_SHOWN`, best first."""
    varied = table[~is_baseline(table)]
    arms = list(ranked(varied)["arm"].unique()[:ARMS_SHOWN])
    rows = varied[varied["arm"].isin(arms)]
    return pd.DataFrame(
        {"trial": rows["trial"], "level": pd.Categorical(rows["arm"], arms, ordered=True)}
    )


def level_curves(curves: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """For each level, `reading` and epoch the quartiles `lower`, `median` and `upper` over the `n`
    of the level's `trials` that have a value there; `whole` where those are all of them. Where not,
    they are quartiles over survivors, and no estimate for the level."""
    level = levels.set_index("trial")["level"]
    groups = curves.assign(level=curves["trial"].map(level)).groupby(
        ["level", "epoch"], observed=True
    )[READINGS]
    quartiles = {
        name: groups.quantile(at).stack()
        for name, at in (("lower", 0.25), ("median", 0.5), ("upper", 0.75))
    }
    table = pd.DataFrame({**quartiles, "n": groups.count().stack()}).query("n > 0")
    table = table.rename_axis(["level", "epoch", "reading"]).reset_index()
    trials = table["level"].map(level.value_counts()).astype("int64")
    return table.assign(trials=trials, whole=table["n"] == trials)


def best_so_far(table: pd.DataFrame, cores: float = 1) -> pd.DataFrame:
    """A row a trial in order of number: `samples` begun, `core_seconds` spent by then (on `cores`
    each), and `best`, the best score of the complete trials among them. Trials that ran side by
    side stand one after another."""
    score, spent = (
        table["validation_accuracy"].where(is_complete(table)),
        (table["seconds"] * cores).cumsum(),
    )
    rows = table[["trial", "state"]].assign(
        samples=np.arange(1, len(table) + 1), core_seconds=spent
    )
    return rows.assign(score=score, best=score.cummax().ffill())


def training_shape(table: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """How the complete trials trained, in fractions of accuracy: `gap`, training less validation
    accuracy at the last epoch; `slope`, the least-squares rise of validation accuracy per epoch in
    the last third; `unsteadiness`, the standard deviation of its changes from epoch to epoch there
    (`changes` of them, missing under two)."""
    complete = table.loc[
        is_complete(table), ["trial", "arm", "train_accuracy", "validation_accuracy", "max_epochs"]
    ]
    rows = epochs.rename(columns={"validation_accuracy": "value"}).merge(
        complete[["trial", "max_epochs"]], on="trial"
    )
    rows["change"] = rows["value"] - rows.groupby("trial")["value"].shift()
    rows["product"], rows["square"] = rows["epoch"] * rows["value"], rows["epoch"] ** 2
    third = rows[rows["epoch"] > 2 * rows["max_epochs"] / 3]
    means = third.groupby("trial")[["epoch", "value", "product", "square"]].mean()
    slope = (means["product"] - means["epoch"] * means["value"]) / (
        means["square"] - means["epoch"] ** 2
    )
    changes = third.groupby("trial")["change"]
    shape = pd.DataFrame(
        {"slope": slope, "unsteadiness": changes.std(), "changes": changes.count()}
    )
    gap = complete["train_accuracy"] - complete["validation_accuracy"]
    return complete[["trial", "arm", "validation_accuracy"]].assign(gap=gap).join(shape, on="trial")


def shape_by_level(shape: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """The medians of score, gap, slope and unsteadiness over each level's complete trials, and how
    many there are."""
    groups = shape.merge(levels, on="trial").groupby("level", observed=True)
    medians = groups[["validation_accuracy", "gap", "slope", "unsteadiness"]].median()
    return medians.assign(complete=groups.size()).reset_index()
