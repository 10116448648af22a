"""The study directory: `record.jsonl`, the only authority, and the views made from it.

One line an event, appended and synced: `study` (first), `driver_started`, `trial_started`, `epoch`,
`trial_ended`, `driver_ended`. `StudyState` is what the events say, folded one by one, whether they were
just written or read back; `study.json`, `trials.csv` and `epochs.csv` are made from it alone.
"""

import csv
import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from trainables.config import EpochMetrics, TrialConfig

VERSION = 1
VIEW_SECONDS = 2.0
"""The views are made again at most this often while trials run."""

EPOCH_COLUMNS = ("trial", *(item.name for item in fields(EpochMetrics)))
TRIAL_COLUMNS = (
    *("trial", "stage", "origin", "arm", "state", "error", "epochs"),
    *(item.name for item in fields(TrialConfig)),
    *("parameters", "forward_flops", "precision", "node", "train_seconds"),
)

log = logging.getLogger(__name__)


class RecordError(Exception):
    """The record is damaged: one line that names the file, the line and what is wrong with it."""


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

    @property
    def seconds(self) -> float:
        """Seconds inside training and evaluation."""
        return float(sum(epoch["train_seconds"] + epoch["eval_seconds"] for epoch in self.epochs))

    @property
    def rank(self) -> tuple[float, float, int]:
        """The objective, greater is better: last validation accuracy, ties by lower loss, then by number."""
        last = self.epochs[-1]
        return last["validation_accuracy"], -last["validation_loss"], -self.trial


@dataclass
class StudyState:
    """All that the record says."""

    header: dict[str, Any] = field(default_factory=dict)
    trials: dict[int, TrialState] = field(default_factory=dict)
    ended: str | None = None
    wall_seconds: float = 0.0

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event.

        Raises:
            ValueError, KeyError, TypeError: the event does not follow from those before it.
        """
        kind = event["event"]
        if kind == "study":
            if event["version"] != VERSION:
                raise ValueError(f"written by version {event['version']!r} of the format, this reads {VERSION}")
            self.header = {key: value for key, value in event.items() if key != "event"}
        elif kind == "driver_started":
            self.ended = None
        elif kind == "driver_ended":
            self.ended = event["time"]
            self.wall_seconds += event["seconds"]
        elif kind == "trial_started":
            about = {key: value for key, value in event.items() if key not in ("event", "time")}
            self.trials[event["trial"]] = TrialState(**about)
        elif kind == "epoch":
            trial = self.trials[event["trial"]]
            trial.node = event["node"]
            trial.epochs.append({name: event[name] for name in EPOCH_COLUMNS[1:]})
        elif kind == "trial_ended":
            trial = self.trials[event["trial"]]
            trial.state, trial.error = event["state"], event["error"]
        else:
            raise ValueError(f"unknown event {kind!r}")

    def in_state(self, *states: str) -> list[TrialState]:
        """The trials in one of these states, by number."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.state in states]

    def ended_trials(self) -> list[TrialState]:
        """The trials that are not running, by number."""
        return self.in_state("complete", "stopped", "diverged", "failed")

    def winner(self) -> TrialState | None:
        """The best complete search trial."""
        complete = [trial for trial in self.in_state("complete") if trial.stage == "search"]
        return max(complete, key=lambda trial: trial.rank, default=None)

    def seconds(self) -> dict[str, Any]:
        """Core- and accelerator-seconds inside trials by stage, and the drivers' wall-clock seconds."""
        cpus, gpus = (self.header["settings"][name] for name in ("cpus_per_trial", "gpus_per_trial"))
        stages: dict[str, Any] = {}
        for trial in self.trials.values():
            spent = stages.setdefault(trial.stage, {"core": 0.0, "accelerator": 0.0})
            spent["core"] += trial.seconds * cpus
            spent["accelerator"] += trial.seconds * gpus
        return {**stages, "wall": self.wall_seconds}

    def manifest(self) -> dict[str, Any]:
        """The content of `study.json`."""
        header = {key: value for key, value in self.header.items() if key != "time"}
        return header | {"created": self.header["time"], "ended": self.ended, "seconds": self.seconds()}

    def trial_rows(self) -> Iterable[dict[str, Any]]:
        """The rows of `trials.csv`."""
        for number, trial in sorted(self.trials.items()):
            about = {name: value for name, value in vars(trial).items() if name not in ("config", "epochs")}
            yield {
                **about,
                **trial.config,
                "trial": number,
                "epochs": len(trial.epochs),
                "precision": self.header["settings"]["precision"],
                "train_seconds": sum(epoch["train_seconds"] for epoch in trial.epochs),
            }

    def epoch_rows(self) -> Iterable[dict[str, Any]]:
        """The rows of `epochs.csv`."""
        for number, trial in sorted(self.trials.items()):
            for epoch in trial.epochs:
                yield {"trial": number, **epoch}


class Record:
    """The record of a study that a driver is writing, and its views."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self.state = StudyState()
        self._clock = clock
        self._views_made = -VIEW_SECONDS
        self._file = (folder / "record.jsonl").open("x", encoding="utf-8")

    @classmethod
    def create(cls, folder: Path, header: Mapping[str, Any]) -> Self:
        """Begin the record of a new study.

        Raises:
            FileExistsError: `folder` holds something already.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FileExistsError(folder)
        record = cls(folder)
        record.append("study", version=VERSION, **header)
        return record

    def append(self, event: str, **about: Any) -> None:
        """Write an event, on the disk when this returns; take it in; make the views if they are old."""
        line = {"event": event, "time": _now(), **about}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.state.apply(line)
        if self._clock() - self._views_made >= VIEW_SECONDS:
            self.make_views()

    def make_views(self) -> None:
        """Make `study.json`, `trials.csv` and `epochs.csv` from what is recorded."""
        write_views(self.folder, self.state)
        self._views_made = self._clock()

    def close(self) -> None:
        """Make the views a last time and let go of the file."""
        self.make_views()
        self._file.close()


def write_views(folder: Path, state: StudyState) -> None:
    """Each view in one piece: a reader sees the old one or the new one."""
    _replace(folder / "study.json", json.dumps(state.manifest(), indent=2) + "\n")
    _replace(folder / "trials.csv", _csv(TRIAL_COLUMNS, state.trial_rows()))
    _replace(folder / "epochs.csv", _csv(EPOCH_COLUMNS, state.epoch_rows()))


def read_record(folder: Path) -> StudyState:
    """What the record of a study says; a torn last line, as a kill leaves it, is passed over.

    Raises:
        RecordError: there is no record, or a line of it cannot be used.
    """
    path = folder / "record.jsonl"
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from error
    state = StudyState()
    if lines[-1]:
        log.warning("%s: the last line is torn and passed over", path)
    for number, line in enumerate(lines[:-1], 1):
        try:
            state.apply(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}, line {number}: {type(error).__name__}: {error}") from error
    if not state.header:
        raise RecordError(f"{path}: does not begin with a study")
    return state


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _csv(columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
