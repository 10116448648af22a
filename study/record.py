"""The study directory: `record.jsonl`, the only authority, and the views made from it.

One line an event, appended and synced: `study` (first), `driver_started`, `trial_started`, `epoch`,
`trial_failed` (a try of it), `trial_continued`, `trial_reopened`, `trial_ended`, `confirm_planned`
(the arms), `confirm_extended` (more seeds), `driver_ended`. What they say is folded into a
`StudyState`; `study.json`, `trials.csv`, `epochs.csv` and `test_images.csv` are made of that alone.

Version 1 of the format is read and continued: its trials are read by BatchNorm's running
statistics, and its confirm stage changes one factor at a time, at the winner's learning rate.
"""

import csv
import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from study.pace import Pace
from study.state import (
    EPOCH_COLUMNS,
    IMAGE_COLUMNS,
    TRIAL_COLUMNS,
    VERSION,
    StudyState,
)
from study.summary import Summary
from trainables.config import UsageError, invalid

VIEW_SECONDS = 2.0
"""The views are made again at most this often while trials run, and less often where that takes
more than 2% of the time, as it does of thousands of trials; always when a driver ends."""

log = logging.getLogger(__name__)


class RecordError(Exception):
    """The record is damaged: one line that names the file, the line and what is wrong with it."""


class CannotWrite(BaseException):
    """The study directory cannot be written to, and why, in one line. Ray Tune would catch an
    `Exception`."""


class Record:
    """The record of a study that this driver alone is writing, and its views."""

    def __init__(
        self,
        folder: Path,
        header: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Lock the record in `folder`, which lasts as long as the process, and open or start it.

        Raises:
            UsageError: another driver holds it, or has started a study there.
            RecordError: it is damaged.
            CannotWrite: there is no writing to it.
        """
        self.folder = folder
        self._views = Pace(VIEW_SECONDS, clock)
        self._readers: list[Callable[[Mapping[str, Any]], None]] = []
        path = folder / "record.jsonl"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        with ExitStack() as refused:
            refused.callback(self._file.close)
            _lock(self._file, path)
            self.state, self._size = _read(path)
            if bool(header) == bool(self.state.header):
                raise UsageError(
                    f"--name: invalid value {folder.name!r}: another process started or removed it"
                )
            refused.pop_all()
        self._file.truncate(self._size)
        if header:
            self.append("study", version=VERSION, **header)
        with writing(folder):
            write_views(folder, self.state)

    def append(self, event: str, **content: Any) -> None:
        """Write an event, on the disk when this returns; take it in; make the views if they are
        old.

        Raises:
            CannotWrite: the disk is full, say; the record has all of the event or nothing.
        """
        line = {"event": event, "time": _now(), **content}
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
                row = {**line, **self.state.trials[line["trial"]].epochs[-1]}
                with (self.folder / "epochs.csv").open("a", encoding="utf-8") as file:
                    file.write(_csv(EPOCH_COLUMNS, [row], header=False))
            if self._views.is_due:
                with self._views.making():
                    write_tables(self.folder, self.state)
        for reader in self._readers:
            reader(line)

    def subscribe(self, reader: Callable[[Mapping[str, Any]], None]) -> None:
        """Call `reader` with every event from here on, once it is on the disk and taken in."""
        self._readers.append(reader)

    def close(self) -> None:
        """Make the views a last time and let go of the record."""
        try:
            with writing(self.folder):
                write_views(self.folder, self.state)
        finally:
            self._file.close()


@contextmanager
def locked_record(folder: Path) -> Iterator[IO[bytes]]:
    """The record in `folder`, made where there is none, open to be continued and locked while it
    lasts.

    Raises as `Record` does.
    """
    path = folder / "record.jsonl"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            _lock(file, path)
            yield file
            file.flush()
            os.fsync(file.fileno())


def _lock(file: IO[bytes], path: Path) -> None:
    """Lock the record, or raise as `Record` does."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        driver = _read(path)[0].driver
        who = f"process {driver.get('pid')} on {driver.get('host')}"
        raise invalid("--name", path.parent.name, f"not what {who} is running") from None
    except OSError as error:  # a file system without locks, as some of clusters are mounted
        raise CannotWrite(f"{path} cannot be locked ({error.strerror})") from error


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
    content = json.dumps(_manifest(state), indent=2) + "\n"
    replace_file(folder / "study.json", content.encode())
    replace_file(folder / "trials.csv", _csv(TRIAL_COLUMNS, state.trial_rows()).encode())
    replace_file(folder / "test_images.csv", _csv(IMAGE_COLUMNS, state.image_rows()).encode())


def _manifest(state: StudyState) -> dict[str, Any]:
    """The content of `study.json`."""
    return state.manifest() | {"summary": asdict(Summary.of(state))}


def complete_lines(content: bytes) -> bytes:
    """The lines that were written to their end."""
    return content[: content.rfind(b"\n") + 1]


def has_study(folder: Path) -> bool:
    """Whether `folder` has a study."""
    try:
        with (folder / "record.jsonl").open("rb") as file:
            return file.readline().endswith(b"\n")
    except OSError:
        return False


def read_record(folder: Path) -> StudyState:
    """What is recorded of a study; a torn last line, as a kill leaves it, is skipped.

    Raises:
        RecordError: there is no record, or a line of it cannot be used.
    """
    path = folder / "record.jsonl"
    state, _ = _read(path)
    if not state.header:
        raise RecordError(f"{path}: does not begin with a study")
    return state


def _read(path: Path) -> tuple[StudyState, int]:
    """The state that the complete lines make, and their size in bytes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from error
    complete = complete_lines(content)
    if len(complete) < len(content):
        log.warning("%s: the last line is torn and skipped", path)
    return parse_record(complete, str(path)), len(complete)


def parse_record(content: bytes, where: str) -> StudyState:
    """The state that complete lines make.

    Raises:
        RecordError: a line of it cannot be used, and `where`.
    """
    state, number = StudyState(), 0
    try:
        for line in content.splitlines():
            number += 1
            state.apply(json.loads(line))
        if state.header:
            # What no view can be made of is damaged too.
            json.dumps(_manifest(state), allow_nan=False)
            _csv(TRIAL_COLUMNS, state.trial_rows())
            _csv(IMAGE_COLUMNS, state.image_rows())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(f"{where}, line {number}: {type(error).__name__}: {error}") from error
    return state


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _csv(columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]], header: bool = True) -> str:
    lines: list[str] = []
    # A field with one of the characters that end a line is quoted; read back, a bare carriage
    # return would end it.
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")
    if header:
        writer.writerow(columns)
    for row in rows:
        writer.writerow([row.get(column, "") for column in columns])
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)
