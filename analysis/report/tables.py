"""The tables of the confirm stage on the page, as text: DataFrames of strings.

Their columns are named as facts; `wording.values.readable` writes the headers.
"""

import numpy as np
import pandas as pd

from analysis.load import Study
from analysis.report.confirm_findings import ConfirmFindings
from analysis.report.wording import confirm_text, values
from analysis.statistics import confirm
from analysis.statistics.arms import BALANCED, READINGS, Arm
from analysis.statistics.contrasts import Change
from analysis.statistics.estimate import Interval
from analysis.statistics.tuning import rates_tried
from trainables.vocabulary import Outcome, TrialStatus

EPOCHS_LISTED, SEEDS_LISTED = 12, 10
ENDED = (TrialStatus.COMPLETE, TrialStatus.DIVERGED, TrialStatus.FAILED)


def arms_table(confirmed: ConfirmFindings) -> pd.DataFrame:
    """One row per arm: its learning rate, its trials by state, and the means of its readings."""
    stage = confirmed.stage
    readings = dict.fromkeys([stage.outcome, Outcome.TEST_ACCURACY, "test_loss"])
    summaries = {
        reading: {row.arm: row for row in confirm.arm_summaries(stage, reading)}
        for reading in readings
    }
    uneven = confirmed.standing is not None and confirmed.standing.largest_class
    balanced = {row.arm: row for row in confirm.arm_summaries(stage, BALANCED) if uneven}
    rows = []
    for row in confirmed.arms:
        arm = row.arm
        cells = {"name": values.arm_name(arm), "arm": arm.label, **_rate(arm, "learning_rate")}
        cells |= {str(status): str(row.states.get(status, 0)) for status in ENDED}
        for reading, by_arm in summaries.items():
            cells[reading] = values.mean_text(by_arm[arm], _form(reading))
        if arm in balanced:
            cells[BALANCED] = f"{balanced[arm].mean:.1%}"
        seeds = [f"{value:.1%}" for value in row.values[:SEEDS_LISTED]]
        rows.append({**cells, "by_seed": ", ".join(seeds)})
    return pd.DataFrame(rows)


def _rate(arm: Arm, header: str) -> dict[str, str]:
    """An arm's learning rate, and whether that is at an end of those tried."""
    return {header: f"{arm['learning_rate']:.3g}", "rate_at_end": arm.rate_at_end}


def tuning_table(study: Study, confirmed: ConfirmFindings) -> pd.DataFrame:
    """One row per arm that was tuned: the learning rates tried, with their validation loss or how
    the trial ended, and the one chosen."""
    table = rates_tried(study)
    rows = []
    for number, tried in table.groupby("number"):
        arm = confirmed.stage.arms[int(str(number))]
        texts = []
        for trial in tried.to_dict("records"):
            complete = trial["state"] == TrialStatus.COMPLETE
            result = f"{trial['validation_loss']:.3f}" if complete else trial["state"]
            texts.append(f"{trial['learning_rate']:.3g}: {result}")
        name = {"arm": values.arm_name(arm), "tried": ", ".join(texts)}
        rows.append({**name, **_rate(arm, "chosen")})
    return pd.DataFrame(rows)


def means_table(confirmed: ConfirmFindings) -> pd.DataFrame:
    """One row per arm and epoch: the means of the readings over the complete trials."""
    stage = confirmed.stage
    rows = []
    for number, arm in enumerate(stage.arms):
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
            rows.append({"arm": values.arm_name(arm), "epoch": str(epoch + 1), **means})
    return pd.DataFrame(rows)


def effects_table(confirmed: ConfirmFindings) -> pd.DataFrame:
    """One row per effect after the last epoch."""
    rows = []
    for effect in confirmed.effects:
        estimate, change = effect.estimate, effect.change
        row = {
            "factor": change.factor,
            "change": values.levels_text(change.before, change.after),
            "difference": values.points(estimate.difference, estimate.interval),
        }
        if estimate.images:
            row["on_these_test_images"] = values.interval_text(estimate.interval_on_images)
        rows.append({**row, "verdict": confirm_text.verdict_text(effect, confirmed.stage.margin)})
    return pd.DataFrame(rows)


def interactions_table(confirmed: ConfirmFindings) -> pd.DataFrame:
    """One row per interaction of two factors."""
    return pd.DataFrame(
        [
            {
                "factors": confirm_text.pairs_text(row),
                "levels": " × ".join(values.levels_text(*pair) for pair in row.levels),
                "interaction": values.points(row.estimate.difference, row.estimate.interval),
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
        name = values.change_text(Change(row["factor"], row["from"], row["to"]))
        size = values.size_text(row["difference"], Interval(row["low"], row["high"]))
        cells.setdefault(row["epoch"], {"epoch": row["epoch"]})[name] = size
    return pd.DataFrame(list(cells.values()))


def _form(reading: str) -> str:
    """How a reading is written: an accuracy in percent, a loss with three decimals."""
    return ".1%" if reading.endswith("accuracy") else ".3f"
