"""Copies a study to storage while it runs, and fetches it from there: `--storage`.

The study directory is the authority while a driver runs. A thread of the driver looks at it every
second and copies what is new, so that the study never waits for storage: checkpoints before the
part of the record that mentions them, and what is no longer needed is removed after it. What was
copied is then at every moment a study that can be continued.
"""

import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from study import lease
from study.checkpoints import KEPT, epoch_of
from study.lease import Lease, LeaseLost
from study.opening import begin_study
from study.phrases import counted
from study.provenance import command
from study.record import complete_lines, locked_record, parse_record, replace_file
from study.state import StudyState
from study.storage import (
    Storage,
    StorageError,
    newest_generation,
    part_name,
    stored_record,
)
from trainables.config import UsageError, invalid
from trainables.vocabulary import TrialStatus

log = logging.getLogger("study")

VIEWS = ("study.json", "trials.csv", "epochs.csv", "test_images.csv", "study.log")
FOLDERS = ("checkpoints", "best", "report")
BEST = "best/trial.txt"
"""Written last: without it a copy of `best/` does not count."""

LOOK_SECONDS = 1.0
PART_SECONDS = 30.0
"""What is recorded is copied at the latest after so long; with each checkpoint, too."""
RETRY_SECONDS = 30.0
"""Between tries, at most."""
PATIENCE_SECONDS = 3.0
"""For so long nothing is said of the last copy."""
LAST_SECONDS = 120.0
"""For so long the last copy is tried."""


@contextmanager
def copied(given: Mapping[str, Any]) -> Iterator["StudyCopy"]:
    """The copy of the study that `--storage` asks for, fetched where it is newer than the study
    directory.

    Raises:
        UsageError: storage cannot be used, another driver copies to it, or what it has and the
            study directory have diverged.
        CannotWrite: what was fetched cannot be written.
    """
    settings = begin_study(given)[0]
    if not (settings.name or settings.dataset):
        raise UsageError("--storage: expected --name or --dataset beside it")
    folder = settings.folder(settings.dataset or "")
    storage = Storage(given["storage"], folder.name)
    try:
        copy = StudyCopy(storage, folder)
    except StorageError as error:
        raise invalid("--storage", storage.uri, f"storage that can be used ({error})") from None
    try:
        yield copy
    finally:
        copy.finish()


class StudyCopy:
    """The copy of a study in storage, which this driver holds the lease of."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        """Take the lease, and fetch what is newer.

        Raises as `copied` does, and StorageError.
        """
        self.folder = folder
        self.error = ""
        self._storage = storage
        self._lease = Lease(storage, lease.TIMES)
        try:
            self._old_parts = storage.names("record")
            self._generation = newest_generation(self._old_parts) + 1
            fetch(storage, stored_record(storage, self._old_parts), folder)
            self._checkpoints = set(storage.names("checkpoints"))
            # By name, and when a file had changed last that was copied.
            self._stored = {name: 0 for top in FOLDERS for name in storage.names(top)}
        except BaseException:
            self._lease.release()
            raise
        self._copied = 0
        self._last = -PART_SECONDS
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)

    @property
    def is_lost(self) -> bool:
        """Whether another driver has taken it over."""
        return bool(self._lease.lost)

    def start(self, end: Callable[[], None]) -> None:
        """Copy from here on; call `end`, from another thread, where the lease is lost."""
        self._thread.start()
        self._lease.when_lost(end)

    def finish(self) -> None:
        """Copy what is left, for a bounded time, and let go of the lease; say what failed."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE_SECONDS)
            if self._thread.is_alive():
                log.info("copying what is left to %s; a signal ends that", self._storage.uri)
            self._thread.join(LAST_SECONDS + RETRY_SECONDS)
        if self._thread.is_alive():
            self.error = self.error or "no answer"
        where = self._storage.uri
        if self.is_lost:
            only = f"what is only here: {self.folder}"
            log.error("stopped: %s: %s; %s", where, self._lease.lost, only)
        elif self.error:
            left = f"the study is in {self.folder}; to copy it: {command()}"
            log.error("not copied to %s: %s; %s", where, self.error, left)
        else:
            self._lease.release()

    def _run(self) -> None:
        delay = LOOK_SECONDS
        while not self._ending.wait(delay) and not self.is_lost:
            self._try(self._copy_if_due)
            delay = min(2 * delay, RETRY_SECONDS) if self.error else LOOK_SECONDS
        until = time.monotonic() + LAST_SECONDS
        while not self.is_lost and not self._try(self._copy_all):
            if time.monotonic() > until:
                self.error = self.error or "its files did not stand still"
                return
            time.sleep(LOOK_SECONDS)

    def _try(self, copy: Callable[[], None]) -> bool:
        """Whether all could be copied; the first failure and the first success after it are
        logged."""
        try:
            copy()
        # The one is said at the end; a file that went meanwhile is no longer asked for next time.
        except (LeaseLost, FileNotFoundError):
            return False
        # Whatever goes wrong there: a study outlives its copy.
        except Exception as error:
            if not self.error:
                log.warning("not copied to %s, tried again: %s", self._storage.uri, error)
                log.debug("traceback", exc_info=error)
            self.error = str(error) or type(error).__name__
            return False
        if self.error:
            log.info("copied to %s again", self._storage.uri)
        self.error = ""
        return True

    def _copy_if_due(self) -> None:
        size, checkpoints, _ = self._look()
        is_old = time.monotonic() - self._last >= PART_SECONDS and size > self._copied
        if size and (is_old or self.error or not self._stored.keys() >= set(checkpoints)):
            self._copy()

    def _copy_all(self) -> None:
        """Copy what is new, and the views."""
        if not self._size():
            return
        self._copy()
        self._copy_folder("report", "report")
        for name in VIEWS:
            with suppress(FileNotFoundError):
                self._copy_file(name, name)
        reports = [name for name in self._stored if name.startswith("report/")]
        self._remove(name for name in reports if not (self.folder / name).exists())

    def _copy(self) -> None:
        """Copy what is new.

        Raises:
            FileNotFoundError: `best/` was replaced meanwhile, and copying must start again.
        """
        size, checkpoints, best = self._look()
        for name in checkpoints:
            # One that has gone by now was replaced, by newer ones or, where it was the winner's
            # last one, by `best/`.
            with suppress(FileNotFoundError):
                if name not in self._stored:
                    self._copy_file(name, name)
        if best:
            self._copy_best(best)
        if self._best() != best:
            raise FileNotFoundError(best)
        self._copy_record(size)
        self._remove_checkpoints(checkpoints)
        if best:
            others = [name for name in self._stored if name.startswith("best/")]
            self._remove(name for name in others if not name.startswith(f"{best}/"))
        self._last = time.monotonic()

    def _look(self) -> tuple[int, list[str], str]:
        """The size of the record; the checkpoints, and the name in storage of `best/`, that there
        were when it had that size."""
        while True:
            size = self._size()
            paths = self.folder.glob("checkpoints/*/*.pt")
            names = sorted(str(path.relative_to(self.folder)) for path in paths)
            best = self._best()
            if self._size() == size:
                return size, names, best

    def _best(self) -> str:
        """A name for `best/` as it is: that of another trial, or of other weights, is another."""
        try:
            marker = self.folder / BEST
            return f"best/{marker.read_text().strip()}-{marker.stat().st_mtime_ns}"
        except FileNotFoundError:
            return ""

    def _size(self) -> int:
        record = self.folder / "record.jsonl"
        return record.stat().st_size if record.exists() else 0

    def _copy_best(self, best: str) -> None:
        self._copy_folder("best", best)
        marker = f"{best}/{Path(BEST).name}"
        if marker not in self._stored and self._best() == best:
            self._write(marker, f"{_trial_of(best)}\n".encode())
            self._stored[marker] = 0

    def _copy_folder(self, folder: str, target: str) -> None:
        home = self.folder / folder
        for path in sorted(home.rglob("*")):
            name = path.relative_to(self.folder)
            if path.is_file() and str(name) != BEST:
                self._copy_file(str(name), f"{target}/{path.relative_to(home)}")

    def _copy_file(self, name: str, target: str) -> None:
        """Copy a file that has changed."""
        path = self.folder / name
        changed = path.stat().st_mtime_ns
        if self._stored.get(target) != changed:
            self._write(target, path.read_bytes())
            self._stored[target] = changed

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._lease.confirm()
            self._storage.remove(name)
            del self._stored[name]

    def _copy_record(self, size: int) -> None:
        with (self.folder / "record.jsonl").open("rb") as file:
            file.seek(self._copied)
            content = complete_lines(file.read(size - self._copied))
        if not content:
            return
        self._write(part_name(self._generation, self._copied), content)
        self._copied += len(content)
        while self._old_parts:
            self._lease.confirm()
            self._storage.remove(self._old_parts[-1])
            self._old_parts.pop()

    def _remove_checkpoints(self, here: list[str]) -> None:
        """Remove what is in storage of trials that have ended, and of others all but two: those
        that are here before all."""
        running = {Path(name).parent for name in here}
        there = [name for name in self._stored if name.startswith("checkpoints/")]
        there.sort(key=lambda name: (name in here, epoch_of(Path(name)) or 0), reverse=True)
        counts: Counter[Path] = Counter()
        for name in there:
            trial = Path(name).parent
            counts[trial] += 1
            if counts[trial] > KEPT or trial not in running:
                self._remove([name])

    def _write(self, name: str, content: bytes) -> None:
        self._lease.confirm()
        self._storage.write(name, content)


def fetch(storage: Storage, stored: bytes, folder: Path) -> None:
    """Fetch a study whose stored record is longer than the one in `folder`, or is all there is.

    Raises as `StudyCopy` does.
    """
    record = folder / "record.jsonl"
    here = complete_lines(record.read_bytes()) if record.exists() else b""
    if here.startswith(stored):
        return
    if not stored.startswith(here):
        expected = f"a copy of {folder}, which has diverged: move one of the two away"
        raise invalid("--storage", storage.uri, expected)
    state = parse_record(stored, f"{storage.uri}: the record of {folder.name}")
    with locked_record(folder) as file, _fetched(storage, state, folder) as new:
        for name in FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
        for path in new.iterdir():
            path.replace(folder / path.name)
        # Last: until then the study directory is the older copy that it was.
        file.truncate(len(here))
        file.write(stored[len(here) :])
    ended, started = len(state.ended_trials()), len(state.in_state(TrialStatus.RUNNING))
    trials = f"{counted(ended, 'trial')} ended, {started} started"
    log.info("fetched from %s: %s: %s", storage.uri, folder.name, trials)


@contextmanager
def _fetched(storage: Storage, state: StudyState, folder: Path) -> Iterator[Path]:
    """A folder in `folder` with all that is fetched beside the record: so nothing is lost where
    that breaks off."""
    new = folder / "fetched.tmp"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        for name, path in _wanted(storage, state):
            content = storage.read(name)
            if content is not None:
                (new / path).parent.mkdir(parents=True, exist_ok=True)
                replace_file(new / path, content)
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _wanted(storage: Storage, state: StudyState) -> Iterator[tuple[str, str]]:
    """What is fetched beside the record, and what it is called in the study directory."""
    names = [*storage.names("checkpoints"), *VIEWS, *storage.names("report")]
    yield from zip(names, names, strict=True)
    bests = storage.names("best")
    complete = [name.rpartition("/")[0] for name in bests if Path(name).name == Path(BEST).name]
    for trial in filter(None, (state.chosen(), state.winner)):
        for best in complete:
            if _trial_of(best) == str(trial.trial):
                mine = [name for name in bests if name.startswith(f"{best}/")]
                yield from ((name, name.replace(best, "best")) for name in mine)
                return


def _trial_of(best: str) -> str:
    return best.removeprefix("best/").partition("-")[0]
