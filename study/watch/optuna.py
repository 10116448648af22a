"""A study in optuna-dashboard: `optuna-dashboard STUDY/optuna.log`, during and after it.

`python -m study.watch.optuna STUDY` writes the file of a study that is over.

The search trials are an Optuna study of the study's name, by validation accuracy; those of the
other stages one each, `NAME tune`, by validation accuracy, and `NAME confirm`, by test accuracy.
Trials are as the searcher has them in its own Optuna studies: what the scheduler stopped and what
diverged is PRUNED, the latter without a value; FAIL is for crashes. The user attribute `state` has
the record's word. A factor whose range does not hold a trial's value is no parameter of it, for
Optuna takes no such trial. The file is made anew when a study is resumed; an open dashboard has
then to be started again.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from study.designs import Factor
from study.record import RecordError, read_record
from study.searcher import suggest
from study.state import StudyState, TrialRecord
from study.watch.surfaces import Surface
from study.watch.times import Times, key_of, recorded_times, time_of
from trainables.vocabulary import Stage, TrialStatus

STATES = {
    TrialStatus.RUNNING: TrialState.RUNNING,
    TrialStatus.COMPLETE: TrialState.COMPLETE,
    TrialStatus.STOPPED: TrialState.PRUNED,
    TrialStatus.DIVERGED: TrialState.PRUNED,
    TrialStatus.FAILED: TrialState.FAIL,
}
HAVE_VALUE = (TrialStatus.COMPLETE, TrialStatus.STOPPED)
ATTRIBUTES = ("trial", "state", "stage", "arm", "origin", "error", "parameters", "forward_flops")
SETTINGS = ("learning_rate", "seed", "max_epochs")
"""Of a trial's config, what is shown whether or not it is a factor."""


class Journal(JournalFileBackend):
    """A journal file that is not synced and not locked: the record is synced, and has one writer.

    A sync takes milliseconds, and the lock of a killed driver would hold up the next.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with open(self._file_path, "ab") as file:
            file.write(b"".join(json.dumps(log).encode() + b"\n" for log in logs))


class OptunaView(Surface):
    """Keeps `optuna.log` in the study's directory."""

    name = "Optuna"

    def __init__(self, study: Path) -> None:
        """`study` is the study's directory."""
        self._study = study
        self._path = study / "optuna.log"

    def start(self, state: StudyState) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        temporary = self._path.with_name("optuna.log.tmp")
        temporary.unlink(missing_ok=True)
        self._storage = JournalStorage(Journal(str(temporary)))
        self._studies: dict[Stage, int] = {}
        times = recorded_times(self._study)
        for trial in state.trials.values():
            self._add(state, trial, times)
        os.replace(temporary, self._path)
        self._storage = JournalStorage(Journal(str(self._path)))

    def event(self, state: StudyState, event: Mapping[str, Any]) -> None:
        # A journal numbers the trials of all its studies in the order in which they are made, as
        # the record does.
        kind, number = event["event"], event.get("trial", -1)
        if kind == "trial_started":
            self._add(state, state.trials[number], {key_of(event): time_of(event)})
        elif kind == "epoch":
            reading = readings(state.trials[number]).get(event["epoch"])
            if reading is not None:
                self._storage.set_trial_intermediate_value(number, event["epoch"], reading)
        elif kind in ("trial_failed", "trial_ended"):
            trial = state.trials[number]
            self._storage.set_trial_user_attr(number, "error", trial.error)
            if kind == "trial_ended":
                self._storage.set_trial_user_attr(number, "state", trial.state)
                self._storage.set_trial_state_values(number, STATES[trial.state], values(trial))

    def _add(self, state: StudyState, trial: TrialRecord, times: Times) -> None:
        """Make a trial as far as it is recorded."""
        stage, name = trial.stage, state.header["name"]
        if stage not in self._studies:
            name = name if stage == Stage.SEARCH else f"{name} {stage}"
            study = self._storage.create_new_study([StudyDirection.MAXIMIZE], name)
            # What `Study.set_metric_names` sets, with a warning.
            label = outcome(trial).replace("_", " ")
            self._storage.set_study_system_attr(study, "study:metric_names", [label])
            self._studies[stage] = study
        frozen = frozen_trial(trial, state.header["design"]["factors"], times)
        self._storage.create_new_trial(self._studies[stage], frozen)


def frozen_trial(
    trial: TrialRecord, factors: Sequence[Mapping[str, Any]], times: Times
) -> FrozenTrial:
    """A trial as it is recorded, in Optuna's words."""
    # Gives each factor the distribution that the searcher draws from.
    fixed = FixedTrial(trial.config)
    for table in factors:
        factor = Factor(**{**table, "levels": tuple(table.get("levels", ()))})
        if factor.exists(fixed.params) and factor.holds(trial.config[factor.name]):
            suggest(fixed, factor)  # type: ignore[arg-type]  # what a `Trial` can
    ended = times.get((trial.trial, "trial_ended", 0))
    attributes = {name: getattr(trial, name) for name in ATTRIBUTES}
    return FrozenTrial(
        number=-1,  # the storage numbers them
        trial_id=-1,
        state=STATES[trial.state],
        value=None,
        values=values(trial),
        datetime_start=times[trial.trial, "trial_started", 0],
        datetime_complete=ended if trial.state.has_ended else None,
        params=fixed.params,
        distributions=fixed.distributions,
        user_attrs=attributes | {name: trial.config[name] for name in SETTINGS},
        system_attrs={},
        intermediate_values=readings(trial),
    )


def outcome(trial: TrialRecord) -> str:
    """What the trials of its stage are compared by."""
    return f"{trial.part}_accuracy"


def readings(trial: TrialRecord) -> dict[int, float]:
    """The outcome after each epoch in which it is a number."""
    read = {row["epoch"]: row[outcome(trial)] for row in trial.epochs}
    return {epoch: value for epoch, value in read.items() if value is not None}


def values(trial: TrialRecord) -> list[float] | None:
    """The last reading of a trial that is complete or was stopped, as Optuna has it."""
    read = list(readings(trial).values()) if trial.state in HAVE_VALUE else []
    return read[-1:] or None


def main() -> None:
    """The command; what cannot be done is one line on standard error."""
    parser = argparse.ArgumentParser("python -m study.watch.optuna", description=__doc__)
    parser.add_argument("study", type=Path, metavar="STUDY", help="the directory of a study")
    folder = parser.parse_args().study
    try:
        OptunaView(folder).start(read_record(folder))
    except (RecordError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"optuna-dashboard {folder / 'optuna.log'}")


if __name__ == "__main__":
    main()
