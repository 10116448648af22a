"""What a study cost, when its trials ran, what early stopping saved, and which trials pay:
DataFrame → DataFrame."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from analysis.statistics.curves import is_complete
from trainables.vocabulary import TrialStatus

COSTS = ("parameters", "forward_flops", "seconds_per_epoch")
SECONDS = ["core_seconds", "gpu_seconds", "saved_core_seconds"]


def spent(trials: pd.DataFrame, epochs: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """What each trial of every stage cost.

    Returns:
        columns of `trials`: as they are.
        core_seconds, gpu_seconds: seconds of training and evaluation by the cores and GPUs of a
            trial.
        saved_core_seconds: what the epochs that a stopped trial was spared would have taken at its
            own pace.
    """
    seconds = (epochs["train_seconds"] + epochs["eval_seconds"]).groupby(epochs["trial"])
    sums = seconds.agg(["sum", "mean"]).reindex(trials["trial"]).set_index(trials.index)
    unused = trials["max_epochs"] - trials["epochs"]
    spared = unused.where(trials["state"] == TrialStatus.STOPPED, 0).astype(float)
    total = sums["sum"].fillna(0)
    saved = (sums["mean"] * spared).fillna(0)
    cores = settings.get("cpus_per_trial") or 1
    gpus = settings.get("gpus_per_trial") or 0
    return trials.assign(
        core_seconds=total * cores, gpu_seconds=total * gpus, saved_core_seconds=saved * cores
    )


def costs(trials: pd.DataFrame, by: str) -> pd.DataFrame:
    """Of the trials of `spent`, for each value of the column `by` that occurs: the number of
    `trials`, and the sums of `core_seconds`, `gpu_seconds` and `saved_core_seconds`."""
    groups = trials.groupby(by, observed=True)
    sums = groups[SECONDS].sum()
    return sums.assign(trials=groups.size()).reset_index()[[by, "trials", *SECONDS]]


def timeline(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """When each epoch ran and in which slot: its trial's own, or the one free for the longest.

    Returns:
        trial, stage: of the trial.
        start, end: seconds that the drivers had run.
        slot: from 0; as many as epochs that ran at once.
    """
    known = epochs[epochs["wall_seconds"].notna()]
    end = known["wall_seconds"]
    start = (end - known["train_seconds"] - known["eval_seconds"]).clip(lower=0)
    bars = known[["trial"]].assign(start=start, end=end)
    bars = bars.merge(trials[["trial", "stage"]], on="trial").sort_values("start")
    following = bars.groupby("trial")[["start", "end"]].shift(-1)
    goes_on = following["start"] - bars["end"] < bars["end"] - bars["start"]
    bars["held"] = following["end"].where(goes_on, bars["end"])
    rows = bars[["trial", "start", "end", "held"]].itertuples(index=False, name=None)
    slots = _slots(rows)
    return bars.drop(columns="held").assign(slot=slots).reset_index(drop=True)


def _slots(bars: Iterable[tuple[int, float, float, float]]) -> list[int]:
    """The slot of each bar: trial, start, end, and until when its slot is kept for the trial; in
    the order of their start."""
    slots = []
    last: list[tuple[int, float]] = []  # by slot its trial, and until when it is kept for that
    for trial, start, end, held in bars:
        # The driver hears of an epoch a little after it: half an epoch is no overlap.
        free = [slot for slot, (_, until) in enumerate(last) if until <= (start + end) / 2]
        free.sort(key=lambda slot: last[slot][1])
        own = [slot for slot, (kept_for, _) in enumerate(last) if kept_for == trial]
        slot = next(iter([*own[:1], *free]), len(last))
        last[slot : slot + 1] = [(trial, held)]
        slots.append(slot)
    return slots


def pareto(table: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The complete trials of `results` by rising cost.

    Returns:
        columns of `table`: as they are.
        seconds_per_epoch: of training and evaluation.
        front: whether the trial is on the Pareto front: no other is at least as accurate and as
            cheap, and better in one of the two (Pareto 1906, in the sense of minimal elements).
    """
    complete = table[is_complete(table)]
    complete = complete.assign(seconds_per_epoch=complete["seconds"] / complete["epochs"])
    order = [cost, "validation_accuracy"]
    rows = complete[complete[cost].notna()]
    rows = rows.sort_values(order, ascending=[True, False], ignore_index=True)
    price = rows[cost].astype(float)
    score = rows["validation_accuracy"]
    tops = score.groupby(price).max()  # of the trials that cost the same
    before = price.map(tops.cummax().shift(fill_value=-1.0))  # of those that cost less
    return rows.assign(front=(score == price.map(tops)) & (score > before))
