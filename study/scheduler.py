"""Which trials are stopped early: asynchronous successive halving (Li et al. 2018,
arXiv:1810.05934).

Ray Tune's ASHA with two rules of its own: baselines are never stopped, though their readings fill
the rungs, and a diverged trial leaves no reading at all. Trials are known by their number, so that
one which is continued or tried again, a new trial to Tune, keeps its readings.
"""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from study.state import StudyState
from trainables.vocabulary import Stage

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

REDUCTION_FACTOR = 3


class StudyAsha(AsyncHyperBandScheduler):
    """ASHA on `validation_accuracy` by `epoch`: at a rung the best third continues."""

    def __init__(self, max_epochs: int) -> None:
        epochs = rungs(max_epochs)
        super().__init__(
            time_attr="epoch",
            metric="validation_accuracy",
            mode="max",
            grace_period=epochs[0],
            # Ray's own last rung would be the last power of three below its `max_t`, however near
            # the end.
            max_t=epochs[-1],
            stop_last_trials=False,
            reduction_factor=REDUCTION_FACTOR,
        )

    def on_trial_add(self, tune_controller: "TuneController", trial: Trial) -> None:
        super().on_trial_add(tune_controller, _numbered(trial))

    def on_trial_result(
        self, tune_controller: "TuneController", trial: Trial, result: dict[str, Any]
    ) -> str:
        decision: str = super().on_trial_result(tune_controller, _numbered(trial), result)
        if trial.config["origin"].startswith("baseline:"):
            return TrialScheduler.CONTINUE
        return decision

    def on_trial_complete(
        self, tune_controller: "TuneController", trial: Trial, result: dict[str, Any]
    ) -> None:
        if result["diverged"]:
            # Its NaN would count as a reading of the rung.
            self.on_trial_remove(tune_controller, trial)
        else:
            super().on_trial_complete(tune_controller, _numbered(trial), result)

    def on_trial_remove(self, tune_controller: "TuneController", trial: Trial) -> None:
        super().on_trial_remove(tune_controller, _numbered(trial))


def _numbered(trial: Trial) -> Any:
    return SimpleNamespace(trial_id=trial.config["trial"])


def replay(scheduler: Any, state: StudyState, stage: Stage) -> set[int]:
    """Tell a new scheduler what the trials of a stage have reported, in the order in which they
    did.

    Returns the trials that it stops: one is still running in the record where the driver was killed
    just then.
    """
    trials: dict[int, Any] = {}
    for trial in state.in_stage(stage):
        entries = {"trial": trial.trial, "origin": trial.origin}
        trials[trial.trial] = SimpleNamespace(trial_id=str(trial.trial), config=entries)
        scheduler.on_trial_add(None, trials[trial.trial])
    stopped = set()
    for number, epoch in state.reported:
        row = state.trials[number].epochs[epoch - 1] if number in trials else {}
        if row.get("validation_accuracy") is not None:
            result = {"epoch": epoch, "validation_accuracy": row["validation_accuracy"]}
            if scheduler.on_trial_result(None, trials[number], result) == TrialScheduler.STOP:
                stopped.add(number)
    return stopped


def rungs(max_epochs: int) -> list[int]:
    """The epochs at which trials may be stopped, from 1, or from 3 where the budget is over 20:
    none past half the budget, where stopping saves little.

    Of 20 trials of four epochs, a rung after the third would leave hardly one complete beside the
    baselines.
    """
    epochs = [3 if max_epochs > 20 else 1]
    while epochs[-1] * REDUCTION_FACTOR <= max_epochs / 2:
        epochs.append(epochs[-1] * REDUCTION_FACTOR)
    return epochs


def build_scheduler(name: str, max_epochs: int) -> TrialScheduler:
    """The scheduler of this name: `asha` or `fifo`, which stops nothing."""
    return StudyAsha(max_epochs) if name == "asha" else FIFOScheduler()
