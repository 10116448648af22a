"""How the learning rate of each confirmed arm was chosen: DataFrame → DataFrame."""

import pandas as pd

from analysis.load import Study
from analysis.statistics.arms import FIELDS, confirm_stage
from trainables.vocabulary import TUNED, Stage, TrialStatus


def rates_tried(study: Study) -> pd.DataFrame:
    """The trials that an arm's learning rate was chosen from, by arm and rate; empty without a tune
    stage.

    Returns:
        number: place of the arm in the confirm stage.
        trial: number.
        learning_rate: tried.
        validation_loss: at the last epoch, nats; missing where the trial is not complete.
        state: of the trial.
        chosen: whether the arm is confirmed at this rate.
    """
    stage, trials = confirm_stage(study), study.trials
    columns = ["number", "trial", "learning_rate", "validation_loss", "state", "chosen"]
    if stage is None or not (trials["stage"] == Stage.TUNE).any():
        return pd.DataFrame(columns=columns)
    last = study.epochs.drop_duplicates("trial", keep="last").set_index("trial")["validation_loss"]
    trials = trials[
        trials["stage"].isin([Stage.SEARCH, Stage.TUNE])
        & trials["state"].isin([TrialStatus.COMPLETE, TrialStatus.DIVERGED])
    ]
    others = [name for name in FIELDS if name != "learning_rate"]
    shown = []
    for number in stage.numbers(*TUNED):
        arm = stage.arms[number]
        same = (trials[others] == [arm[name] for name in others]).all(axis=1)
        rows = trials.loc[same, ["trial", "learning_rate", "state"]].sort_values("learning_rate")
        loss = rows["trial"].map(last).where(rows["state"] == TrialStatus.COMPLETE)
        chosen = rows["learning_rate"] == arm["learning_rate"]
        shown.append(rows.assign(number=number, validation_loss=loss, chosen=chosen))
    return pd.concat(shown, ignore_index=True)[columns]
