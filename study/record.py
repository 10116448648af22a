"""The study directory: `record.jsonl`, the only authority, and the views made from it.

One line an event, appended and synced: `study` (first), `driver_started`, `trial_started`, `epoch`,
`trial_failed` (a try of it), `trial_continued`, `trial_reopened`, `trial_ended`, `confirm_planned`
(the arms), `confirm_extended` (more seeds), `driver_ended`. `StudyState` is what the events say,
folded one by one, whether they were just written or read back; `study.json`, `trials.csv`,
`epochs.csv` and `test_images.csv` are made from it alone.

Version 1 of the format is read and continued: its trials are read by BatchNorm's running
statistics, and its confirm stage changes one factor at a time, at the winner's learning rate.
"""

import base64
import csv
import errno
import fcntl
import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainables.config import EpochMetrics, TrialConfig, UsageError

VERSION = 2
VIEW_SECONDS = 2.0
"""The views are made again at most this often while trials run."""

EPOCH_COLUMNS = ("trial", *(item.name for item in fields(EpochMetrics)))
TRIAL_COLUMNS = (
    *("trial", "stage", "origin", "arm", "state", "error", "epochs"),
    *(item.name for item in fields(TrialConfig)),
    *("parameters", "forward_flops", "precision", "node", "train_seconds"),
)
IMAGE_COLUMNS = ("trial", "correct")
ENDED = ("complete", "stopped", "diverged", "failed")

log = logging.getLogger(__name__)


class RecordError(Exception):
    """The record is damaged: one line that names the file, the line and what is wrong with it."""


class CannotWrite(BaseException):
    """The study directory cannot be written to: one line that says why. Ray Tune would catch an
    `Exception`."""


def state_at_end(epoch: int, diverged: bool, max_epochs: int) -> str:
    """What a trial that ended of itself or by the scheduler is, by its last epoch."""
    if diverged:
        return "diverged"
    return "complete" if epoch >= max_epochs else "stopped"


@dataclass
class TrialState:
    """All that the record says of one trial."""

    trial: int
    stage: str
    origin: str
    arm: str
    config: dict[str, Any]
    parameters: int
    forward_flops: int
    node: str = ""
    state: str = "running"
    error: str = ""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    diverged: bool = False
    checkpoint: int = 0
    """The epoch of its newest checkpoint; 0 where there is none."""
    failures: int = 0
    """Tries that failed since it began or was reopened."""
    seconds: float = 0.0
    """Inside training and evaluation."""
    correct: str = ""
    """Of a confirm trial at its last epoch, whether each test image is recognised: bits, packed, in
    base64."""

    @property
    def rank(self) -> tuple[float, float, int]:
        """The objective, greater is better: last validation accuracy, ties by lower loss, then by
        number."""
        last = self.epochs[-1]
        return last["validation_accuracy"], -last["validation_loss"], -self.trial


@dataclass
class StudyState:
    """All that the record says; `reported` are (trial, epoch) in the order in which they came.

    `started` is when the driver began that runs or was killed, `ended` when one ended that left no
    trial missing.
    """

    header: dict[str, Any] = field(default_factory=dict)
    trials: dict[int, TrialState] = field(default_factory=dict)
    reported: list[tuple[int, int]] = field(default_factory=list)
    driver: dict[str, Any] = field(default_factory=dict)
    confirm: dict[str, Any] = field(default_factory=dict)
    """The latest plan of the confirm stage; see `study.confirm.ConfirmPlan.to_dict`."""
    started: str | None = None
    ended: str | None = None
    last: str = ""
    wall_seconds: float = 0.0

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the event does not follow from those
            before it.
        """
        about = dict(event)
        kind, number = about.pop("event"), about.get("trial")
        if kind == "study" and event["version"] not in range(1, VERSION + 1):
            raise ValueError(
                f"written by version {event['version']!r} of the format, this reads 1 to {VERSION}"
            )
        if (kind == "study") == bool(self.header):
            raise ValueError(f"unexpected event {kind!r}")
        if kind == "study":
            self.header = about
        elif kind == "driver_started":
            self.wall_seconds = self.wall()
            self.started, self.ended, self.driver = event["time"], None, about
            # A study may be extended or moved: the settings of its last start stand.
            self.header["settings"] = event.get("settings", self.header["settings"])
        elif kind == "driver_ended":
            self.started, self.ended = None, None if event.get("missing") else event["time"]
            self.wall_seconds += event["seconds"]
        elif kind == "trial_started" and number == len(self.trials):
            before = {"bn_statistics": "running"} if self.version == 1 else {}
            about["config"] = TrialConfig.from_dict(before | event["config"]).to_dict()
            del about["time"]
            self.trials[number] = TrialState(**about)
        elif kind == "confirm_planned":
            for arm in event["arms"]:
                TrialConfig.from_dict(arm["config"])
            self.confirm = {"factors": event["factors"], "arms": event["arms"]}
        elif kind == "confirm_extended":
            self.header["settings"] = self.header["settings"] | {"confirm_seeds": event["seeds"]}
        elif number in self.trials:
            self._apply_to(self.trials[number], kind, event)
        else:
            raise ValueError(f"unexpected event {kind!r} of trial {number!r}")
        self.last = event["time"]

    def _apply_to(self, trial: TrialState, kind: str, event: Mapping[str, Any]) -> None:
        """Take in an event of a trial that has begun."""
        if trial.state != ("failed" if kind == "trial_reopened" else "running"):
            raise ValueError(f"{kind} of trial {trial.trial}, which is {trial.state}")
        if kind == "epoch" and event["epoch"] == len(trial.epochs) + 1:
            row: dict[str, Any] = {name: event.get(name) for name in EPOCH_COLUMNS[1:]}
            trial.diverged = event.get("diverged", EpochMetrics(**row).diverged)
            trial.node, trial.seconds = (
                event["node"],
                trial.seconds + row["train_seconds"] + row["eval_seconds"],
            )
            trial.checkpoint = event["epoch"] if event.get("checkpoint") else trial.checkpoint
            trial.correct = event.get("correct", "")
            trial.epochs.append(row)
            self.reported.append((trial.trial, event["epoch"]))
        elif kind == "trial_failed":
            trial.failures, trial.error = trial.failures + 1, event["error"]
        elif kind == "trial_reopened":
            trial.state, trial.error, trial.failures = "running", "", 0
        elif kind == "trial_ended" and (
            event["state"] == "failed" or (event["state"] in ENDED and trial.epochs)
        ):
            trial.state, trial.error = event["state"], event["error"]
        elif kind != "trial_continued":
            raise ValueError(
                f"unexpected event {kind!r} of trial {trial.trial} after epoch {len(trial.epochs)}"
            )

    @property
    def version(self) -> int:
        """The version of the format that the study was made with."""
        version: int = self.header.get("version", VERSION)
        return version

    def in_state(self, *states: str) -> list[TrialState]:
        """The trials in one of these states, by number."""
        return [trial for trial in self.trials.values() if trial.state in states]

    def ended_trials(self) -> list[TrialState]:
        """The trials that are not running, by number."""
        return self.in_state(*ENDED)

    def in_stage(self, stage: str) -> list[TrialState]:
        """The trials of a stage, by number."""
        return [trial for trial in self.trials.values() if trial.stage == stage]

    def winner(self) -> TrialState | None:
        """The best complete search trial."""
        complete = [trial for trial in self.in_state("complete") if trial.stage == "search"]
        return max(complete, key=lambda trial: trial.rank, default=None)

    def chosen(self) -> TrialState | None:
        """The trial whose weights are given out: the first confirm seed of the winner's arm, at its
        tuned learning rate; before there is one, the winner."""
        if (winner := self.winner()) is None:
            return None
        arms = [arm["config"] for arm in self.confirm.get("arms", ()) if arm["role"] == "winner"]
        ours = {**(arms[0] if arms else winner.config), "seed": None}
        if {**ours, "learning_rate": None} != {
            **winner.config,
            "learning_rate": None,
            "seed": None,
        }:
            return winner  # the search went on since, and its new winner has no confirm trials yet
        complete = [trial for trial in self.in_stage("confirm") if trial.state == "complete"]
        same = [trial for trial in complete if {**trial.config, "seed": None} == ours]
        return min(same, key=lambda trial: trial.config["seed"], default=winner)

    def seconds(self) -> dict[str, Any]:
        """Core- and accelerator-seconds inside trials by stage, and the drivers' wall-clock
        seconds."""
        cpus, gpus = (
            self.header["settings"][name] for name in ("cpus_per_trial", "gpus_per_trial")
        )
        stages: dict[str, Any] = {}
        for trial in self.trials.values():
            spent = stages.setdefault(trial.stage, {"core": 0.0, "accelerator": 0.0})
            spent["core"] += trial.seconds * cpus
            spent["accelerator"] += trial.seconds * gpus
        return {**stages, "wall": self.wall()}

    def wall(self) -> float:
        """Seconds of all drivers; one that runs or was killed counts up to its last event."""
        if self.started is None:
            return self.wall_seconds
        span = datetime.fromisoformat(self.last) - datetime.fromisoformat(self.started)
        return self.wall_seconds + span.total_seconds()

    def manifest(self) -> dict[str, Any]:
        """The content of `study.json`."""
        header = {key: value for key, value in self.header.items() if key != "time"}
        header |= {"confirm": self.confirm} if self.confirm else {}
        return header | {
            "created": self.header["time"],
            "ended": self.ended,
            "seconds": self.seconds(),
        }

    def trial_rows(self) -> Iterable[dict[str, Any]]:
        """The rows of `trials.csv`."""
        for trial in self.trials.values():
            yield {
                **vars(trial),
                **trial.config,
                "epochs": len(trial.epochs),
                "precision": self.header["settings"]["precision"],
                "train_seconds": sum(epoch["train_seconds"] for epoch in trial.epochs),
            }

    def image_rows(self) -> Iterable[dict[str, Any]]:
        """The rows of `test_images.csv`: 1 or 0 for each test image, in the order of the test part."""
        for trial in self.trials.values():
            if trial.correct:
                bits = "".join(f"{byte:08b}" for byte in base64.b64decode(trial.correct))
                yield {
                    "trial": trial.trial,
                    "correct": bits[: self.header["dataset"]["counts"]["test"]],
                }

    def epoch_rows(self) -> Iterable[dict[str, Any]]:
        """The rows of `epochs.csv`."""
        for trial in self.trials.values():
            for epoch in trial.epochs:
                yield {"trial": trial.trial, **epoch}


class Record:
    """The record of a study that this driver alone is writing, and its views."""

    def __init__(
        self, folder: Path, header: Mapping[str, Any] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        """Lock the record in `folder`, which goes when the process does, and go on with it or begin
        it.

        Raises:
            UsageError: another driver holds it, or has begun a study there.
            RecordError: it is damaged.
            CannotWrite: there is no writing to it.
        """
        self.folder = folder
        self._clock = clock
        self._views_made = -VIEW_SECONDS
        path = folder / "record.jsonl"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        with ExitStack() as refused:
            refused.callback(self._file.close)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                driver = _read(path)[0].driver
                who = f"process {driver.get('pid')} on {driver.get('host')}"
                raise UsageError(
                    f"--name: invalid value {folder.name!r}: expected not what {who} is running"
                ) from None
            except OSError as error:  # a file system without locks, as some of clusters are mounted
                raise CannotWrite(f"{path} cannot be locked ({error.strerror})") from error
            self.state, self._size = _read(path)
            if bool(header) == bool(self.state.header):
                raise UsageError(
                    f"--name: invalid value {folder.name!r}, which another process has started or removed"
                )
            refused.pop_all()
        self._file.truncate(self._size)
        if header:
            self.append("study", version=VERSION, **header)
        with writing(folder):
            write_views(folder, self.state)

    def append(self, event: str, **about: Any) -> None:
        """Write an event, on the disk when this returns; take it in; make the views if they are
        old.

        Raises:
            CannotWrite: the disk is full, say; the record holds all of the event or nothing.
        """
        line = {"event": event, "time": _now(), **about}
        text = json.dumps(line, allow_nan=False).encode() + b"\n"
        with writing(self.folder / "record.jsonl"):
            try:
                if self._file.write(text) < len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(self._size)
                raise
            self._size += len(text)
            self.state.apply(line)
            if event == "epoch":
                with (self.folder / "epochs.csv").open("a", encoding="utf-8") as file:
                    file.write(_csv(EPOCH_COLUMNS, [line], header=False))
            if self._clock() - self._views_made >= VIEW_SECONDS:
                write_tables(self.folder, self.state)
                self._views_made = self._clock()

    def close(self) -> None:
        """Make the views a last time and let go of the record."""
        try:
            with writing(self.folder):
                write_views(self.folder, self.state)
        finally:
            self._file.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While it lasts, an `OSError` becomes the `CannotWrite` that ends the study in good order."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"{error.filename or path}: {error.strerror or error}") from error


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file in one piece: a reader sees the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_views(folder: Path, state: StudyState) -> None:
    """Make `study.json`, `trials.csv`, `test_images.csv` and `epochs.csv`; to the last a driver
    appends until it makes it again."""
    write_tables(folder, state)
    replace_file(folder / "epochs.csv", _csv(EPOCH_COLUMNS, state.epoch_rows()).encode())


def write_tables(folder: Path, state: StudyState) -> None:
    """Make `study.json`, `trials.csv` and `test_images.csv`."""
    replace_file(folder / "study.json", (json.dumps(state.manifest(), indent=2) + "\n").encode())
    replace_file(folder / "trials.csv", _csv(TRIAL_COLUMNS, state.trial_rows()).encode())
    replace_file(folder / "test_images.csv", _csv(IMAGE_COLUMNS, state.image_rows()).encode())


def has_study(folder: Path) -> bool:
    """Whether a study was begun in `folder`."""
    try:
        with (folder / "record.jsonl").open("rb") as file:
            return file.readline().endswith(b"\n")
    except OSError:
        return False


def read_record(folder: Path) -> StudyState:
    """What the record of a study says; a torn last line, as a kill leaves it, is skipped.

    Raises:
        RecordError: there is no record, or a line of it cannot be used.
    """
    path = folder / "record.jsonl"
    state, _ = _read(path)
    if not state.header:
        raise RecordError(f"{path}: does not begin with a study")
    return state


def _read(path: Path) -> tuple[StudyState, int]:
    """The state that the whole lines make, and their bytes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from error
    state, size = StudyState(), content.rfind(b"\n") + 1
    if size < len(content):
        log.warning("%s: the last line is torn and skipped", path)
    number = 0
    try:
        for line in content[:size].splitlines():
            number += 1
            state.apply(json.loads(line))
        if state.header:
            # What no view can be made of is damaged too.
            json.dumps(state.manifest(), allow_nan=False)
            _csv(TRIAL_COLUMNS, state.trial_rows())
            _csv(IMAGE_COLUMNS, state.image_rows())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(f"{path}, line {number}: {type(error).__name__}: {error}") from error
    return state, size


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _csv(columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]], header: bool = True) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
