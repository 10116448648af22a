"""The tables of the confirm stage on the page, as text: DataFrames of strings.

Their columns are named as facts; `wording.readable` writes the headers.
"""

import numpy as np
import pandas as pd

from analysis.load import Study
from analysis.report.findings import ConfirmFindings, arm_results
from analysis.report.wording import (
    arm_name,
    change_text,
    interval_text,
    levels_text,
    mean_text,
    pairs_text,
    points,
    size_text,
    verdict_text,
)
from analysis.statistics import confirm
from analysis.statistics.arms import READINGS
from analysis.statistics.confirm import Change
from analysis.statistics.estimate import Interval
from analysis.statistics.tuning import rates_tried
from trainables.vocabulary import TrialStatus

EPOCHS_LISTED, SEEDS_LISTED = 12, 10
ENDED = (TrialStatus.COMPLETE, TrialStatus.DIVERGED, TrialStatus.FAILED)


def arms_table(confirmed: ConfirmFindings) -> pd.DataFrame:
    """One row per arm: its learning rate, its trials by state, and the means of its readings."""
    stage = confirmed.stage
    rows: dict[str, dict[str, str]] = {}
    for key, summary in confirmed.arms:
        name = arm_name(key)
        arm = summary.arm
        rows[name] = {
            "name": name,
            "arm": arm.label,
            "learning_rate": f"{arm['learning_rate']:.3g}",
            "rate_at_end": arm.rate_at_end,
            **{str(status): str(summary.states.get(status, 0)) for status in ENDED},
        }
    for reading in dict.fromkeys([stage.outcome, "test_accuracy", "test_loss"]):
        form = _form(reading)
        for key, summary in arm_results(stage, confirmed.keys, reading):
            rows[arm_name(key)][reading] = mean_text(summary, form)
    for key, summary in confirmed.arms:
        seeds = [f"{value:.1%}" for value in summary.values[:SEEDS_LISTED]]
        rows[arm_name(key)]["by_seed"] = ", ".join(seeds)
    return pd.DataFrame(list(rows.values()))


def tuning_table(study: Study, confirmed: ConfirmFindings) -> pd.DataFrame:
    """One row per arm that was tuned: the learning rates tried, with their validation loss or how
    the trial ended, and the one chosen."""
    table = rates_tried(study)
    rows = []
    for number, key in enumerate(confirmed.keys):
        tried = table[table["number"] == number]
        losses = [
            f"{rate:.3g}: {loss:.3f}" if state == TrialStatus.COMPLETE else f"{rate:.3g}: {state}"
            for rate, loss, state in zip(
                tried["learning_rate"], tried["validation_loss"], tried["state"], strict=True
            )
        ]
        if losses:
            arm = confirmed.stage.arms[number]
            chosen = {"chosen": f"{arm['learning_rate']:.3g}", "rate_at_end": arm.rate_at_end}
            rows.append({"arm": arm_name(key), "tried": ", ".join(losses), **chosen})
    return pd.DataFrame(rows)


def means_table(confirmed: ConfirmFindings) -> pd.DataFrame:
    """One row per arm and epoch: the means of the readings over the complete trials."""
    stage = confirmed.stage
    rows = []
    for number, key in enumerate(confirmed.keys):
        complete = stage.states[number] == TrialStatus.COMPLETE
        if not complete.any():
            continue
        readings = {reading: stage.readings[reading][number][complete] for reading in READINGS}
        epochs = int(np.isfinite(readings["train_loss"]).all(axis=0).sum())
        for epoch in range(epochs):
            means = {
                reading: f"{table[:, epoch].mean():{_form(reading)}}"
                for reading, table in readings.items()
            }
            rows.append({"arm": arm_name(key), "epoch": str(epoch + 1), **means})
    return pd.DataFrame(rows)


def effects_table(confirmed: ConfirmFindings) -> pd.DataFrame:
    """One row per effect after the last epoch."""
    rows = []
    for effect in confirmed.effects:
        estimate, change = effect.estimate, effect.change
        row = {
            "factor": change.factor,
            "change": levels_text(change.before, change.after),
            "difference": points(estimate.difference, estimate.interval),
        }
        if estimate.images:
            row["on_these_test_images"] = interval_text(estimate.interval_on_images)
        rows.append({**row, "verdict": verdict_text(effect, confirmed.stage.margin)})
    return pd.DataFrame(rows)


def interactions_table(confirmed: ConfirmFindings) -> pd.DataFrame:
    """One row per interaction of two factors."""
    return pd.DataFrame(
        [
            {
                "factors": pairs_text(row),
                "levels": " × ".join(levels_text(*pair) for pair in row.levels),
                "interaction": points(row.estimate.difference, row.estimate.interval),
                "significant": "yes" if row.significant else "no",
            }
            for row in confirmed.tested
        ]
    )


def epochs_table(study: Study) -> pd.DataFrame:
    """One row per epoch, one column per effect; of many epochs some, the last among them."""
    table = confirm.effects_by_epoch(study)
    last = table["epoch"].max() if len(table) else 0
    if last < 2:
        return pd.DataFrame()
    step = -(-int(last) // EPOCHS_LISTED)
    rows = table[(last - table["epoch"]) % step == 0]
    cells: dict[int, dict[str, str]] = {}
    for row in rows.to_dict("records"):
        name = change_text(Change(row["factor"], row["from"], row["to"]))
        size = size_text(row["difference"], Interval(row["low"], row["high"]))
        cells.setdefault(row["epoch"], {"epoch": row["epoch"]})[name] = size
    return pd.DataFrame(list(cells.values()))


def _form(reading: str) -> str:
    """How a reading is written: an accuracy in percent, a loss with three decimals."""
    return ".1%" if reading.endswith("accuracy") else ".3f"
