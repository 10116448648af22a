"""Results and learning curves of the search stage: DataFrame → DataFrame.

Losses are mean cross-entropies in nats, accuracies are fractions. The objective is the validation accuracy at
the last epoch trained, ties by lower validation loss, then by lower trial number.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

PARTS: Mapping[str, str] = {"training": "train", "validation": "validation"}
QUANTITIES = ("loss", "accuracy")
READINGS = [f"{prefix}_{quantity}" for prefix in PARTS.values() for quantity in QUANTITIES]
BASELINE = "baseline:"
WINNER = "winner"
OTHER = "other"


def results(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """The search trials by number, each with its last readings (`train_loss` … `validation_accuracy`), its
    `best_validation_accuracy` over the epochs, and in `epochs` how many it was read at."""
    readings = epochs.groupby("trial")
    last = epochs[["trial", *READINGS]].drop_duplicates("trial", keep="last")
    best = readings["validation_accuracy"].max().rename("best_validation_accuracy")
    table = trials[trials["stage"] == "search"].drop(columns="epochs").merge(last, on="trial", how="left")
    table = table.join(best, on="trial").join(readings["epoch"].max().rename("epochs"), on="trial")
    return table.assign(epochs=table["epochs"].fillna(0).astype("int64")).sort_values("trial", ignore_index=True)


def best_trials(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """The complete search trials, best first, with the columns of `results`."""
    table = results(trials, epochs)
    complete = table[(table["state"] == "complete") & table["validation_accuracy"].notna()]
    order = ["validation_accuracy", "validation_loss", "trial"]
    return complete.sort_values(order, ascending=[False, True, True], ignore_index=True)


def winner(trials: pd.DataFrame, epochs: pd.DataFrame) -> int | None:
    """The number of the best complete search trial; None while there is none."""
    ranked = best_trials(trials, epochs)
    return None if ranked.empty else int(ranked["trial"].iloc[0])


def baselines(trials: pd.DataFrame, epochs: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """A row for each of the named baselines, in their order: `baseline` and of `results` the trial, arm, state,
    epochs, learning rate and last readings, missing where it is `not run`."""
    table = results(trials, epochs).astype({"trial": "Int64", "epochs": "Int64"})
    wanted = pd.DataFrame({"baseline": list(names)}, dtype="str")
    wanted = wanted.assign(origin=BASELINE + wanted["baseline"]).merge(table, on="origin", how="left")
    state = wanted["state"].astype("str").fillna("not run")
    return wanted.assign(state=state)[["baseline", "trial", "arm", "state", "epochs", "learning_rate", *READINGS]]


def learning_curves(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """A row for each search trial, epoch, `part` (training, validation) and `quantity` (loss, accuracy): `value`,
    missing where it was not finite, the trial's `state`, and its `role`: `baseline:NAME`, `winner` or `other`."""
    search = trials.loc[trials["stage"] == "search", ["trial", "state", "origin"]]
    rest = pd.Series(np.where(search["trial"] == winner(trials, epochs), WINNER, OTHER), search.index, dtype="str")
    search = search.assign(role=search["origin"].where(search["origin"].str.startswith(BASELINE), rest))
    readings = epochs.merge(search[["trial", "state", "role"]], on="trial")
    keys = ["trial", "epoch", "state", "role"]
    panels = [
        readings[keys].assign(part=part, quantity=quantity, value=readings[f"{prefix}_{quantity}"])
        for part, prefix in PARTS.items()
        for quantity in QUANTITIES
    ]
    curves = pd.concat(panels, ignore_index=True)
    return curves.assign(value=curves["value"].where(np.isfinite(curves["value"])))


def curve_ends(curves: pd.DataFrame) -> pd.DataFrame:
    """The last row of every curve (trial, part, quantity) whose trial is not complete."""
    last = curves["epoch"] == curves.groupby("trial")["epoch"].transform("max")
    return curves[last & (curves["state"] != "complete")].reset_index(drop=True)


def factor_levels(trials: pd.DataFrame, factor: Mapping[str, Any]) -> pd.DataFrame:
    """The `level` of a factor of the design for each search `trial`: an ordered category of labels.

    A range is cut into bins that hold their lower end: decades, or thirds where it spans few decades or is
    not logarithmic. The first and the last bin also hold what lies outside of the range.
    """
    search = trials[trials["stage"] == "search"]
    values = search[factor["name"]]
    if "levels" in factor:
        ordered = [*factor["levels"], *sorted(set(values.unique()) - set(factor["levels"]))]
        labels = [level_label(level) for level in ordered]
        names = values.map(dict(zip(ordered, labels, strict=True)))
    else:
        edges = _bin_edges(factor["low"], factor["high"], factor["scale"] == "log")
        labels = [f"{low:.3g}–{high:.3g}" for low, high in pairwise(edges)]
        names = pd.Series(np.array(labels)[np.digitize(values, edges[1:-1])], search.index)
    return pd.DataFrame({"trial": search["trial"], "level": pd.Categorical(names, labels, ordered=True)})


def level_label(level: Any) -> str:
    """How a level of a factor is written: a flag as yes or no."""
    return ("yes" if level else "no") if isinstance(level, bool | np.bool_) else str(level)


def _bin_edges(low: float, high: float, logarithmic: bool) -> list[float]:
    if not logarithmic:
        return [float(edge) for edge in np.linspace(low, high, 4)]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = [float(f"1e{power}") for power in powers]
    inner = [edge for edge in decades if low < edge < high]
    return [low, *inner, high] if len(inner) > 1 else [float(edge) for edge in np.geomspace(low, high, 4)]


def level_medians(curves: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """The `median` for each level, part, quantity and epoch over the `n` of the level's `trials` that have a
    value there; `whole` where those are all of them. Where not, it is a median over survivors."""
    keys = ["level", "part", "quantity", "epoch"]
    values = curves.merge(levels, on="trial").groupby(keys, observed=True)["value"]
    table = values.agg(median="median", n="count").reset_index()
    table["trials"] = table["level"].map(levels["level"].value_counts()).astype("int64")
    table["whole"] = table["n"] == table["trials"]
    return table[table["n"] > 0].reset_index(drop=True)
