"""SIGINT and SIGTERM end a study in good order."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("study")


@dataclass
class Interrupted:
    """Whether a person or the system asked the study to end, and whether it ends when it can (or at
    once)."""

    asked: bool = False
    when_it_can: bool = False

    def listen(self) -> None:
        """Be told of SIGINT and SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _: Any) -> None:
        if self.asked:
            # Nothing is lost: the record is synced. Ray's processes follow: trials in seconds, its
            # agents in a minute.
            os._exit(130)
        self.asked = True
        log.warning("asked to end; a second signal ends at once")
        if not self.when_it_can:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupted]:
    """While it lasts, SIGINT and SIGTERM end the study in good order; a second one ends it at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupted = Interrupted()
    interrupted.listen()
    try:
        yield interrupted
    finally:
        # Once asked, the process is ending: a second signal may still come, and must not end it in
        # another way.
        for number, handler in before.items() if not interrupted.asked else ():
            signal.signal(number, handler)
