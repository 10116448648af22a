"""Progress on the terminal: a line for each trial that ended and, on a real terminal, a moving last
line."""

import logging
import time
from collections import Counter
from typing import Any

from ray import tune
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from study.phrases import duration
from study.state import StudyState, TrialRecord
from trainables.vocabulary import Stage, TrialStatus

log = logging.getLogger("study")

EXPECTED_ENDS = (TrialStatus.COMPLETE, TrialStatus.STOPPED)


class DriverCallback(tune.Callback):
    """A callback that lives in this process: Tune pickles its callbacks to restore them, and we
    never restore."""

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        return tune.Callback, ()


class Monitor(DriverCallback):
    """Says what the record has come to know. It must stand behind the callback that writes the
    record."""

    def __init__(self, state: StudyState, stage: Stage, wanted: int, console: Console) -> None:
        self._state = state
        self._stage = stage
        self._wanted = wanted
        self._started = time.monotonic()
        self._before = progress(state, stage, wanted)
        columns = (BarColumn(30), TextColumn("{task.description}", markup=False))
        self._progress = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._progress.add_task("starting", total=1.0)

    def setup(self, *_: Any, **__: Any) -> None:
        self._progress.start()

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        done = progress(self._state, self._stage, self._wanted)
        mine = done - self._before
        left = (time.monotonic() - self._started) * (1 - done) / mine if mine > 0.05 else None
        self._progress.update(
            self._task,
            completed=done,
            description=status_line(self._state, self._stage, self._wanted, left),
        )

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        ended = self._state.trials[trial.config["trial"]]
        level = logging.INFO if ended.state in ("complete", "stopped") else logging.WARNING
        done = len(
            [
                trial
                for trial in self._state.in_stage(self._stage)
                if trial.state != TrialStatus.RUNNING
            ]
        )
        log.log(level, "[%s %d/%d] %s", self._stage, done, self._wanted, trial_line(ended))

    on_trial_error = on_trial_complete

    def close(self) -> None:
        """Remove the moving line."""
        self._progress.stop()


def trial_line(trial: TrialRecord) -> str:
    """What became of a trial, in one line."""
    again = trial.state == TrialStatus.RUNNING
    end = "failed and is tried again" if again else trial.state
    rate = f"learning rate {trial.config['learning_rate']:.2g}"
    line = f"trial {trial.trial} {end}: {trial.arm}, {rate}"
    epoch = len(trial.epochs)
    if trial.error:
        return f"{line}: {trial.error}"
    if trial.state == TrialStatus.DIVERGED:
        return f"{line}, in epoch {epoch}"
    part = "test" if trial.stage == Stage.CONFIRM else "validation"
    return f"{line}, {part} accuracy {trial.epochs[-1][f'{part}_accuracy']:.1%} at epoch {epoch}"


def status_line(state: StudyState, stage: Stage, wanted: int, seconds_left: float | None) -> str:
    """Of a stage the trials done, running and stopped, the best search trial so far and the time
    left."""
    counts = Counter(trial.state for trial in state.in_stage(stage))
    done = counts.total() - counts[TrialStatus.RUNNING]
    parts = [
        f"{stage}: {done}/{wanted} done",
        f"{counts[TrialStatus.RUNNING]} running",
        f"{counts[TrialStatus.STOPPED]} stopped",
    ]
    winner = state.winner()
    if winner:
        parts.append(f"best {winner.epochs[-1]['validation_accuracy']:.1%} ({winner.arm})")
    if seconds_left is not None:
        parts.append(f"{duration(seconds_left)} left")
    return " · ".join(parts)


def progress(state: StudyState, stage: Stage, wanted: int) -> float:
    """The fraction of a stage that is done: an ended trial counts as one, a running one by its
    epochs."""
    trials = state.in_stage(stage)
    shares = (
        len(trial.epochs) / trial.config["max_epochs"] if trial.state == TrialStatus.RUNNING else 1
        for trial in trials
    )
    return sum(shares) / wanted
