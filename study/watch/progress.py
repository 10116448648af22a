"""How far a stage is, and how long it will take."""

import time
from dataclasses import dataclass, field

from study.state import StudyState, TrialRecord
from trainables.vocabulary import Stage, TrialStatus

BEST_SHOWN = 5
ENOUGH = 0.05
"""The part of a stage that a driver must have done before it says how long the rest takes."""


@dataclass(frozen=True)
class StageProgress:
    """A stage as this driver found it.

    Attributes:
        trials: that it has in all.
        before: the fraction that was done when the driver began it.
        started: then, on the monotonic clock, seconds.
    """

    stage: Stage
    trials: int
    before: float
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(cls, state: StudyState, stage: Stage, trials: int) -> "StageProgress":
        """The stage from here on."""
        return cls(stage, trials, progress(state, stage, trials))

    def done(self, state: StudyState) -> float:
        """The fraction of the stage that is done."""
        return progress(state, self.stage, self.trials)

    def seconds_left(self, state: StudyState) -> float | None:
        """By the speed of this driver; None as long as too little is done to tell."""
        done = self.done(state)
        mine = done - self.before
        return (time.monotonic() - self.started) * (1 - done) / mine if mine > ENOUGH else None


def progress(state: StudyState, stage: Stage, trials: int) -> float:
    """The fraction of a stage of so many trials that is done: an ended trial counts as one, a
    running one by its epochs."""
    shares = (
        len(trial.epochs) / trial.config["max_epochs"] if trial.state == TrialStatus.RUNNING else 1
        for trial in state.in_stage(stage)
    )
    return sum(shares) / trials


def images_per_second(state: StudyState, trial: TrialRecord) -> float | None:
    """Of a trial's last epoch of training; None before there is one."""
    if not trial.epochs or not trial.epochs[-1]["train_seconds"]:
        return None
    counts = state.header["dataset"]["counts"]
    confirms = trial.stage == Stage.CONFIRM  # on these images, too
    images = counts["train"] + (counts["validation"] if confirms else 0)
    return float(images / trial.epochs[-1]["train_seconds"])


def last_reading(trial: TrialRecord, metric: str) -> float | None:
    """The last `accuracy` or `loss`, of the part that the trial's stage may read; None before there
    is one."""
    value: float | None = trial.epochs[-1][f"{trial.part}_{metric}"] if trial.epochs else None
    return value


def best_trials(state: StudyState) -> list[TrialRecord]:
    """The best complete search trials, best first."""
    searched = state.in_stage(Stage.SEARCH)
    complete = [trial for trial in searched if trial.state == TrialStatus.COMPLETE]
    return sorted(complete, key=lambda trial: trial.rank, reverse=True)[:BEST_SHOWN]
