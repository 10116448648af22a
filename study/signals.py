"""SIGINT, SIGTERM and SIGHUP end a study in good order and leave no temporary files."""

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("study")

SIGHUP = getattr(signal, "SIGHUP", None)
"""The terminal was closed; not on every system."""


def _signals() -> tuple[signal.Signals, ...]:
    """What ends a study; `nohup` and the like ignore SIGHUP, which then stays ignored."""
    hangup = () if SIGHUP is None or signal.getsignal(SIGHUP) == signal.SIG_IGN else (SIGHUP,)
    return signal.SIGINT, signal.SIGTERM, *hangup


@dataclass
class Interrupted:
    """Whether a person or the system asked the study to end, and whether it ends when it can (or at
    once).

    Attributes:
        signals: those that ask.
        scratch: the temporary folders that were made.
    """

    signals: tuple[signal.Signals, ...]
    asked: bool = False
    when_it_can: bool = False
    scratch: list[str] = field(default_factory=list)

    def end(self) -> None:
        """Ask from another thread: the study ends at its next step."""
        self.asked = True

    def listen(self) -> None:
        """Handle the signals."""
        for number in self.signals:
            signal.signal(number, self._ask)

    @contextmanager
    def scratch_folder(self) -> Iterator[str]:
        """A temporary folder that is removed however the study ends, but by SIGKILL."""
        folder = tempfile.mkdtemp(prefix="resnet-study-")
        self.scratch.append(folder)
        try:
            yield folder
        finally:
            self.remove_scratch()

    def remove_scratch(self) -> None:
        """Remove the temporary folders, those too that a late thread of Tune has made again."""
        for folder in self.scratch:
            _remove(folder)

    def _ask(self, number: int, _: Any) -> None:
        if not self.asked:
            self.asked = True
            log.warning("asked to end; a second signal ends at once")
            if not self.when_it_can:
                raise KeyboardInterrupt
        elif number != SIGHUP:  # which shell and system both send
            self.remove_scratch()
            # Nothing is lost: the record is synced. Ray's processes follow: trials in seconds, its
            # agents in a minute.
            os._exit(130)


def _remove(folder: str) -> None:
    """Remove a folder in which Tune's threads may still write."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.02)


@contextmanager
def interruptible() -> Iterator[Interrupted]:
    """While it lasts, the signals end the study in good order; a second one ends it at once."""
    interrupted = Interrupted(_signals())
    before = {number: signal.getsignal(number) for number in interrupted.signals}
    interrupted.listen()
    try:
        yield interrupted
    finally:
        interrupted.remove_scratch()
        # Once asked, the process is ending: a second signal may still come, and must not end it in
        # another way.
        for number, handler in before.items() if not interrupted.asked else ():
            signal.signal(number, handler)


@contextmanager
def hangup_blocked() -> Iterator[None]:
    """Processes that are started meanwhile survive the end of the terminal, as long as this one."""
    if SIGHUP is None:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
