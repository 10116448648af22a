"""Progress on the terminal: a line for each trial that ended and, on a real terminal, a moving last
line."""

import logging
import time
from collections import Counter
from typing import Any

from ray import tune
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from study.record import StudyState, TrialState

log = logging.getLogger("study")


class DriverCallback(tune.Callback):
    """A callback that lives in this process: Tune pickles its callbacks to restore them, and we
    never restore."""

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        return tune.Callback, ()


class Monitor(DriverCallback):
    """Says what the record has come to know. It must stand behind the callback that writes the
    record."""

    def __init__(self, state: StudyState, stage: str, wanted: int, console: Console) -> None:
        self._state = state
        self._stage = stage
        self._wanted = wanted
        self._started, self._before = time.monotonic(), progress(state, stage, wanted)
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
            [trial for trial in self._state.in_stage(self._stage) if trial.state != "running"]
        )
        log.log(level, "[%s %d/%d] %s", self._stage, done, self._wanted, trial_line(ended))

    on_trial_error = on_trial_complete

    def close(self) -> None:
        """Take the moving line away."""
        self._progress.stop()


def trial_line(trial: TrialState) -> str:
    """What became of a trial, in one line."""
    state = "failed and is tried again" if trial.state == "running" else trial.state
    about = f"trial {trial.trial} {state}: {trial.arm}, learning rate {trial.config['learning_rate']:.2g}"
    if trial.error:
        return f"{about}: {trial.error}"
    if trial.state == "diverged":
        return f"{about}, in epoch {len(trial.epochs)}"
    part = "test" if trial.stage == "confirm" else "validation"
    return f"{about}, {part} accuracy {trial.epochs[-1][f'{part}_accuracy']:.1%} at epoch {len(trial.epochs)}"


def status_line(state: StudyState, stage: str, wanted: int, seconds_left: float | None) -> str:
    """Of a stage the trials done, running and stopped, the best search trial so far and the time
    left."""
    found = Counter(trial.state for trial in state.in_stage(stage))
    done = found.total() - found["running"]
    parts = [
        f"{stage}: {done}/{wanted} done",
        f"{found['running']} running",
        f"{found['stopped']} stopped",
    ]
    winner = state.winner()
    if winner:
        parts.append(f"best {winner.epochs[-1]['validation_accuracy']:.1%} ({winner.arm})")
    if seconds_left is not None:
        parts.append(f"{duration(seconds_left)} left")
    return " · ".join(parts)


def progress(state: StudyState, stage: str, wanted: int) -> float:
    """The fraction of a stage that is done: an ended trial counts whole, a running one by its
    epochs."""
    trials = state.in_stage(stage)
    shares = (
        len(trial.epochs) / trial.config["max_epochs"] if trial.state == "running" else 1
        for trial in trials
    )
    return sum(shares) / wanted


def duration(seconds: float) -> str:
    """Seconds as a person says them: `40 s`, `12 min`, `3.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
