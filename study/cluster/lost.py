"""Ends a study in good order where Ray's head, or Ray on this machine, is gone.

Ray itself is silent for a minute then, and ends the process with a line of C++, past every
`except` and `finally` of Python.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console

from study.provenance import command
from study.signals import Interrupted

log = logging.getLogger("study")


class Patience(NamedTuple):
    """Seconds between two looks, and without an answer until that is said, and until the study
    ends. A head that is started again within a minute, as Kubernetes may do, Ray finds again."""

    look: float = 2.0
    reported: float = 10.0
    lost: float = 50.0


@contextmanager
def ray_watched(
    address: str,
    raylet: str,
    console: Console,
    interrupted: Interrupted,
    patience: Patience = Patience(),  # noqa: B008  # it cannot change
) -> Iterator[None]:
    """While it lasts, the process ends with status 1 and a line that says how to resume, where for
    so long nothing has listened at the head's address (HOST:PORT) or at the socket of this
    machine's raylet."""

    def end() -> None:
        log.error("stopped: Ray's head at %s or its node here is gone", address)
        log.error("nothing that was recorded is lost; to resume, on any cluster: %s", command())
        console.show_cursor()
        interrupted.remove_scratch()
        # Not an exception: the main thread may wait in Ray for what does not come.
        os._exit(1)

    ended = threading.Event()
    watch = threading.Thread(
        target=watch_for,
        args=(lambda: _listens(address, raylet), end, ended, patience),
        daemon=True,
    )
    watch.start()
    try:
        yield
    finally:
        ended.set()


def watch_for(
    answers: Callable[[], bool],
    lost: Callable[[], None],
    ended: threading.Event,
    patience: Patience,
) -> None:
    """Call `lost` once there is no answer any more; return where `ended` is set."""
    # By looks, for between two of them this process may have been stopped for long.
    silent, is_said = 0.0, False
    while not ended.wait(patience.look):
        silent += patience.look
        if answers():
            silent = 0.0
            if is_said:
                log.info("the head of Ray answers again")
            is_said = False
        elif silent >= patience.lost:
            lost()
            return
        elif silent >= patience.reported and not is_said:
            log.warning("the head of Ray does not answer; the study ends if it stays so")
            is_said = True


def _listens(address: str, raylet: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        with socket.socket(socket.AF_UNIX) as local:
            local.settimeout(5)
            local.connect(raylet)
    except OSError:
        return False
    return True
