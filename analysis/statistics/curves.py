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

from trainables.vocabulary import Stage, TrialStatus

READINGS = ["train_loss", "validation_loss", "train_accuracy", "validation_accuracy"]
BASELINE, WINNER, OTHER = "baseline:", "winner", "other"
BALANCED = "validation_balanced_accuracy"
ARMS_SHOWN = 6


def results(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """The search trials by number, with their last readings.

    Returns:
        columns of `trials`: as they are, but for `epochs`.
        train_loss, validation_loss: at the last epoch, nats.
        train_accuracy, validation_accuracy, validation_balanced_accuracy: there, fractions.
        epochs: how many the trial was read at.
        seconds: of training and evaluation, over all epochs.
        role: `baseline:NAME`, `winner` (where that is no baseline) or `other`.
    """
    seconds = epochs["train_seconds"] + epochs["eval_seconds"]
    by_trial = epochs.assign(seconds=seconds).groupby("trial")
    sums = by_trial.agg(epochs=("epoch", "max"), seconds=("seconds", "sum"))
    last = epochs[["trial", *READINGS, BALANCED]].drop_duplicates("trial", keep="last")
    searched = trials[trials["stage"] == Stage.SEARCH].drop(columns="epochs")
    table = searched.merge(last, on="trial", how="left").join(sums, on="trial")
    table = table.fillna({"epochs": 0, "seconds": 0.0}).astype({"epochs": "int64"})
    table = table.sort_values("trial", ignore_index=True)
    sampled = np.where(table["trial"] == winner(table), WINNER, OTHER)
    sampled_roles = pd.Series(sampled, table.index, dtype="str")
    return table.assign(role=table["origin"].where(is_baseline(table), sampled_roles))


def is_baseline(table: pd.DataFrame) -> pd.Series:
    """Which trials are baselines. They differ from the others in fixed settings too, so no factor's
    levels are compared with them."""
    baselines: pd.Series = table["origin"].str.startswith(BASELINE).astype(bool)
    return baselines


def is_complete(table: pd.DataFrame) -> pd.Series:
    """Which trials are complete and so have a score; a stopped trial's reading only bounds it (it
    is censored)."""
    return (table["state"] == TrialStatus.COMPLETE) & table["validation_accuracy"].notna()


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The complete trials, best first."""
    order = ["validation_accuracy", "validation_loss", "trial"]
    complete = table[is_complete(table)]
    return complete.sort_values(order, ascending=[False, True, True], ignore_index=True)


def winner(table: pd.DataFrame) -> int | None:
    """The number of the best complete trial; None while there is none."""
    return next(map(int, ranked(table)["trial"]), None)


def learning_curves(table: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """The readings of the trials of `table` by epoch, one row per trial and epoch.

    Returns:
        trial, epoch: numbers, epochs from 1.
        train_loss, validation_loss: nats, missing where not finite.
        train_accuracy, validation_accuracy: fractions, missing where not finite.
        state, role: of the trial.
    """
    readings = epochs[READINGS].where(np.isfinite(epochs[READINGS]))
    trials = table[["trial", "state", "role"]].astype({"role": "category"})
    return epochs[["trial", "epoch"]].join(readings).merge(trials, on="trial")


def factor_levels(table: pd.DataFrame, factor: Mapping[str, Any]) -> pd.DataFrame:
    """The level of a factor of the design for each trial but the baselines.

    A range is cut into thirds on its scale, which hold their lower end, the first and the last also
    what is outside.

    Returns:
        trial: number.
        level: ordered category of labels.
    """
    varied = table[~is_baseline(table)]
    values = varied[factor["name"]]
    if "levels" in factor:
        ordered = [*factor["levels"], *sorted(set(values.unique()) - set(factor["levels"]))]
        labels = [level_label(level) for level in ordered]
        names = values.map(dict(zip(ordered, labels, strict=True)))
    else:
        space = np.geomspace if factor["scale"] == "log" else np.linspace
        edges = space(factor["low"], factor["high"], 4)
        labels = [f"{low:.3g}–{high:.3g}" for low, high in pairwise(edges)]
        names = pd.Series(np.array(labels)[np.digitize(values, edges[1:-1])], varied.index)
    return _leveled(varied["trial"], names, labels)


def level_label(level: Any) -> str:
    """How a level of a factor is written: a flag as yes or no."""
    return ("yes" if level else "no") if isinstance(level, bool | np.bool_) else str(level)


def arm_levels(table: pd.DataFrame) -> pd.DataFrame:
    """The same for the arm: those of the best complete trials, at most `ARMS_SHOWN`, best first."""
    varied = table[~is_baseline(table)]
    arms = list(ranked(varied)["arm"].unique()[:ARMS_SHOWN])
    rows = varied[varied["arm"].isin(arms)]
    return _leveled(rows["trial"], rows["arm"], arms)


def _leveled(trials: pd.Series, names: pd.Series, labels: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"trial": trials, "level": pd.Categorical(names, labels, ordered=True)})


def level_curves(curves: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """The quartiles of every reading over the trials of each level.

    Returns:
        level, epoch, reading: of `levels`, from 1, and one of `READINGS`.
        lower, median, upper: quartiles over the trials that have a value there.
        n: how many these are.
        trials: of the level in all.
        over_all: whether n is that; if not, the quartiles are over survivors and no estimate for
            the level.
    """
    level = levels.set_index("trial")["level"]
    leveled = curves.assign(level=curves["trial"].map(level))
    groups = leveled.groupby(["level", "epoch"], observed=True)[READINGS]
    shares = {"lower": 0.25, "median": 0.5, "upper": 0.75}
    quartiles = {name: groups.quantile(share).stack() for name, share in shares.items()}
    table = pd.DataFrame({**quartiles, "n": groups.count().stack()}).query("n > 0")
    table = table.rename_axis(["level", "epoch", "reading"]).reset_index()
    trials = table["level"].map(level.value_counts()).astype("int64")
    return table.assign(trials=trials, over_all=table["n"] == trials)


def best_so_far(table: pd.DataFrame, cores: float = 1) -> pd.DataFrame:
    """The best score by number of trials, one row per trial in order of number. Trials that ran
    side by side count one after another.

    Returns:
        trial, state: of the trial.
        samples: trials started until then.
        core_seconds: spent until then, with `cores` per trial.
        score: validation accuracy, a fraction; missing where the trial is not complete.
        best: the best score until then.
    """
    score = table["validation_accuracy"].where(is_complete(table))
    rows = table[["trial", "state"]].assign(
        samples=np.arange(1, len(table) + 1), core_seconds=(table["seconds"] * cores).cumsum()
    )
    return rows.assign(score=score, best=score.cummax().ffill())


def training_shape(table: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """How the complete trials trained, one row per trial.

    Returns:
        trial, arm, validation_accuracy: of the trial.
        gap: training less validation accuracy at the last epoch, a fraction.
        slope: least-squares rise of validation accuracy per epoch in the last third of the epochs.
        unsteadiness: standard deviation of its changes from epoch to epoch there, a fraction;
            missing under two changes.
        changes: how many these are.
    """
    columns = ["trial", "arm", "train_accuracy", "validation_accuracy", "max_epochs"]
    complete = table.loc[is_complete(table), columns]
    rows = epochs.rename(columns={"validation_accuracy": "value"})
    rows = rows.merge(complete[["trial", "max_epochs"]], on="trial")
    rows["change"] = rows["value"] - rows.groupby("trial")["value"].shift()
    rows["product"] = rows["epoch"] * rows["value"]
    rows["square"] = rows["epoch"] ** 2
    third = rows[rows["epoch"] > 2 * rows["max_epochs"] / 3]
    # Slope of the regression on the epoch: covariance over variance.
    means = third.groupby("trial")[["epoch", "value", "product", "square"]].mean()
    covariance = means["product"] - means["epoch"] * means["value"]
    variance = means["square"] - means["epoch"] ** 2
    changes = third.groupby("trial")["change"]
    shape = pd.DataFrame(
        {"slope": covariance / variance, "unsteadiness": changes.std(), "changes": changes.count()}
    )
    gap = complete["train_accuracy"] - complete["validation_accuracy"]
    return complete[["trial", "arm", "validation_accuracy"]].assign(gap=gap).join(shape, on="trial")


def shape_by_level(shape: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """The medians of score, gap, slope and unsteadiness over each level's complete trials, and how
    many there are."""
    groups = shape.merge(levels, on="trial").groupby("level", observed=True)
    medians = groups[["validation_accuracy", "gap", "slope", "unsteadiness"]].median()
    return medians.assign(complete=groups.size()).reset_index()
