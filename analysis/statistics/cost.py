"""What a study cost, what early stopping saved, and which trials pay: DataFrame → DataFrame."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.statistics.curves import is_complete

COSTS = {
    "parameters": "parameters",
    "forward_flops": "forward FLOP an image",
    "seconds_per_epoch": "seconds an epoch",
}


def spent(trials: pd.DataFrame, epochs: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """`trials` of every stage with their `core_seconds` and `gpu_seconds`: the seconds of training
    and evaluation by the cores and GPUs of a trial; and `saved_core_seconds`, what the epochs that
    a stopped trial was spared would have taken at its own pace."""
    seconds = epochs["train_seconds"] + epochs["eval_seconds"]
    sums = (
        seconds.groupby(epochs["trial"])
        .agg(["sum", "mean"])
        .reindex(trials["trial"])
        .set_index(trials.index)
    )
    spared = (
        (trials["max_epochs"] - trials["epochs"])
        .where(trials["state"] == "stopped", 0)
        .astype(float)
    )
    cores, gpus = settings.get("cpus_per_trial") or 1, settings.get("gpus_per_trial") or 0
    seconds, saved = sums["sum"].fillna(0), (sums["mean"] * spared).fillna(0)
    return trials.assign(
        core_seconds=seconds * cores, gpu_seconds=seconds * gpus, saved_core_seconds=saved * cores
    )


def costs(trials: pd.DataFrame, by: str) -> pd.DataFrame:
    """Of the trials of `spent`, for each value of the column `by` that occurs: the number of
    `trials`, and the sums of `core_seconds`, `gpu_seconds` and `saved_core_seconds`."""
    groups = trials.groupby(by, observed=True)
    sums = groups[["core_seconds", "gpu_seconds", "saved_core_seconds"]].sum()
    return sums.assign(trials=groups.size()).reset_index()[[by, "trials", *sums.columns]]


def pareto(table: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The complete trials of `results` by rising cost, with `seconds_per_epoch` and `front`: no
    other is at least as accurate and as cheap, and better in one of the two (Pareto 1906, in the
    sense of minimal elements)."""
    complete = table[is_complete(table)]
    complete = complete.assign(seconds_per_epoch=complete["seconds"] / complete["epochs"])
    rows = complete[complete[cost].notna()].sort_values(
        [cost, "validation_accuracy"], ascending=[True, False], ignore_index=True
    )
    price, score = rows[cost].astype(float), rows["validation_accuracy"]
    tops = score.groupby(price).max()  # of the trials that cost the same
    before = price.map(tops.cummax().shift(fill_value=-1.0))  # of those that cost less
    return rows.assign(front=(score == price.map(tops)) & (score > before))
