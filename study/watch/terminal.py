"""A study on the terminal: a line for each trial that ended, which also goes to `study.log`, and on
a real terminal below them a live view, which does not scroll."""

import logging
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from study.pace import Pace
from study.phrases import duration
from study.state import TRIES, NotEnded, StudyState, TrialRecord
from study.watch.progress import StageProgress, best_trials, images_per_second, last_reading
from study.watch.surfaces import Surface
from trainables.vocabulary import Stage, TrialStatus

trials_log = logging.getLogger("study.trials")
"""Has its lines on the terminal only where nothing is shown live; what goes wrong always."""

VIEW_SECONDS = 0.5
"""The live view is drawn anew at most this often."""
QUIET_SECONDS = 60.0
"""Without a live view a line says at least this often how far the study is."""
RUNNING_SHOWN, ENDED_SHOWN = 8, 3
"""So many trials fit on a screen of 24 lines."""
LEAST_BAR, MOST_BAR, LEAST_ARM, MOST_ARM = 4, 24, 22, 44
TITLES = ("arm", "rate", "epoch", "accuracy", "images/s", "last result")
WIDTHS = (8, 7, 9, 10, 13)
"""Of the columns after the arm: with them and the narrowest arm a line has 80 columns."""
NOTHING = "–"


class Lines(Surface):
    """A log line for each trial that ended, and where nothing is shown live for each minute without
    one."""

    name = "lines"

    def __init__(self, heartbeat: bool) -> None:
        self._heartbeat = heartbeat
        self._stage: StageProgress | None = None
        self._last = time.monotonic()

    def stage(self, state: StudyState, stage: Stage, trials: int) -> None:
        self._stage = StageProgress.begin(state, stage, trials)
        self._not_ended, self._ended = NotEnded(state, stage), 0

    def event(self, state: StudyState, event: Mapping[str, Any]) -> None:
        if event["event"] not in ("trial_failed", "trial_ended"):
            return
        trial = state.trials[event["trial"]]
        if event["event"] == "trial_failed" and trial.failures >= TRIES:
            return  # the trial's end follows
        bad = trial.state not in (TrialStatus.COMPLETE, TrialStatus.STOPPED)
        self._say(logging.WARNING if bad else logging.INFO, trial_line(trial))

    def tick(self, state: StudyState) -> None:
        if self._heartbeat and self._stage and time.monotonic() - self._last > QUIET_SECONDS:
            self._say(logging.INFO, status_line(state, self._stage))

    def _say(self, level: int, line: str) -> None:
        assert self._stage
        looked_at = self._not_ended.look()
        self._ended += sum(trial.state != TrialStatus.RUNNING for trial in looked_at)
        stage, trials = self._stage.stage, self._stage.trials
        trials_log.log(level, "[%s %d/%d] %s", stage, self._ended, trials, line)
        self._last = time.monotonic()


class LiveView(Surface):
    """The moving part at the lower end of a terminal."""

    name = "live view"

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._stage: StageProgress | None = None
        self._pace = Pace(VIEW_SECONDS)
        self._heard: dict[int, float] = {}

    def stage(self, state: StudyState, stage: Stage, trials: int) -> None:
        self._stage = StageProgress.begin(state, stage, trials)
        self._live.start()
        self._draw(state)

    def event(self, state: StudyState, event: Mapping[str, Any]) -> None:
        if "trial" in event:
            self._heard[event["trial"]] = time.monotonic()

    def tick(self, state: StudyState) -> None:
        if self._pace.is_due:
            self._draw(state)

    def close(self) -> None:
        self._live.stop()

    def _draw(self, state: StudyState) -> None:
        now = time.monotonic()
        if self._stage:
            since = {trial: now - heard for trial, heard in self._heard.items()}
            with self._pace.making():
                view = live_view(state, self._stage, since, self._live.console.width)
                self._live.update(view, refresh=True)


def trial_line(trial: TrialRecord) -> str:
    """What became of a trial, in one line."""
    again = trial.state == TrialStatus.RUNNING
    end = "failed and is tried again" if again else trial.state
    line = f"trial {trial.trial} {end}: {trial.arm}, learning rate {_rate(trial)}"
    epoch = len(trial.epochs)
    if trial.error:
        return f"{line}: {trial.error}"
    if trial.state == TrialStatus.DIVERGED:
        return f"{line}, in epoch {epoch}"
    accuracy = trial.epochs[-1][f"{trial.part}_accuracy"]
    return f"{line}, {trial.part} accuracy {accuracy:.1%} at epoch {epoch}"


def status_line(state: StudyState, stage: StageProgress) -> str:
    """The trials of a stage that run, were stopped and went wrong, the best search trial so far and
    the time left."""
    counts = Counter(trial.state for trial in state.in_stage(stage.stage))
    parts = [f"{counts[TrialStatus.RUNNING]} running"]
    for status in (TrialStatus.STOPPED, TrialStatus.DIVERGED, TrialStatus.FAILED):
        parts += [f"{counts[status]} {status}"] if counts[status] else []
    if winner := state.winner:
        parts.append(f"best {winner.epochs[-1]['validation_accuracy']:.1%} ({winner.arm})")
    seconds = stage.seconds_left(state)
    parts += [] if seconds is None else [f"{duration(seconds)} left in this stage"]
    return " · ".join(parts)


def live_view(
    state: StudyState, stage: StageProgress, since: Mapping[int, float], columns: int
) -> Text:
    """Stage, bar and time left; the trials that run, with the seconds since each was heard of; the
    best and the last ones; what was spent and saved; on a terminal of so many columns. (Plain text,
    for rich takes ten times as long to lay out a table of it.)"""
    mine = state.in_stage(stage.stage)
    running = [trial for trial in mine if trial.state == TrialStatus.RUNNING]
    ended = state.ended_trials(stage.stage)
    row = partial(_row, min(MOST_ARM, max(LEAST_ARM, columns - 80 + LEAST_ARM)))
    view = Text(no_wrap=True, overflow="ellipsis")
    head = f"{stage.stage} {len(ended)}/{stage.trials} "
    counts = f" {_counts(mine, stage.seconds_left(state))}"
    bar = min(MOST_BAR, max(LEAST_BAR, columns - len(head) - len(counts)))
    full = round(bar * stage.done(state))
    view.append(head, "bold").append("━" * full, "green").append("━" * (bar - full), "dim")
    view.append(f"{counts}\n")
    view.append(row("running", *TITLES), "dim")
    for trial in running[:RUNNING_SHOWN]:
        ago = f"{duration(since[trial.trial])} ago" if trial.trial in since else NOTHING
        view.append(row(*_cells(trial), _speed(state, trial), ago))
    if len(running) > RUNNING_SHOWN:
        view.append(f"and {len(running) - RUNNING_SHOWN} more\n", "dim")
    last = ended[-ENDED_SHOWN:][::-1]
    for title, trials in (("best of the search", best_trials(state)), ("last ended", last)):
        view.append(f"{title}\n" if trials else "", "dim")
        for trial in trials:
            view.append(row(*_cells(trial), trial.state))
    return view.append(_cost_line(state), "dim")


def seconds_saved(state: StudyState) -> float:
    """Seconds that the trials which were stopped would have taken to their last epoch."""
    seconds = 0.0
    for trial in state.in_state(TrialStatus.STOPPED):
        epochs = len(trial.epochs)
        seconds += trial.seconds / epochs * (trial.config["max_epochs"] - epochs)
    return seconds


def _counts(trials: Sequence[TrialRecord], seconds_left: float | None) -> str:
    counts = Counter(trial.state for trial in trials)
    left = [] if seconds_left is None else [f"{duration(seconds_left)} left"]
    return " · ".join([*left, *(f"{counts[each]} {each}" for each in TrialStatus if counts[each])])


def _row(arm_width: int, first: str, arm: str, *others: str) -> str:
    arm = textwrap.shorten(arm, arm_width, placeholder="…")
    cells = [f"{cell:>{width}}" for cell, width in zip(others, WIDTHS, strict=False)]
    return f"{first:<10} {arm:<{arm_width}}{''.join(cells)}\n"


def _cells(trial: TrialRecord) -> Iterator[str]:
    yield f"trial {trial.trial}"
    yield trial.arm
    yield _rate(trial)
    yield f"{len(trial.epochs)}/{trial.config['max_epochs']}"
    accuracy = last_reading(trial, "accuracy")
    yield NOTHING if accuracy is None else f"{accuracy:.1%}"


def _speed(state: StudyState, trial: TrialRecord) -> str:
    speed = images_per_second(state, trial)
    return NOTHING if speed is None else f"{speed:,.0f}"


def _cost_line(state: StudyState) -> str:
    settings = state.header["settings"]
    unit, each = "core", settings["cpus_per_trial"]
    if settings["gpus_per_trial"]:
        unit, each = "GPU", settings["gpus_per_trial"]
    spent = each * sum(trial.seconds for trial in state.trials.values())
    saved = each * seconds_saved(state)
    line = f"{spent:,.0f} {unit}-seconds spent"
    return f"{line}, about {saved:,.0f} saved by stopping trials early" if saved else line


def _rate(trial: TrialRecord) -> str:
    return f"{trial.config['learning_rate']:.2g}"
