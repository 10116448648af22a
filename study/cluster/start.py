"""Starts Ray on this machine, or joins a running one."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from study.errors import CannotStart
from study.resources import MOST_CONCURRENT, usable_cores
from study.settings import StudySettings
from study.signals import hangup_blocked
from trainables.config import UsageError

log = logging.getLogger("study")


@contextmanager
def ray_running(settings: StudySettings) -> Iterator[str]:
    """Ray, started here or joined, quiet unless asked; gives the dashboard's address, or an empty
    text."""
    cores = usable_cores()
    if cores <= (settings.max_concurrent or MOST_CONCURRENT) * settings.cpus_per_trial:
        # Ray starts a process a core at once; the first trials then find there what takes seconds
        # to import.
        os.environ.setdefault("RAY_preload_python_modules", "trainables.trainable,torch._dynamo")
    # Tune's snapshots of itself are of no use to us, and would be written while a study ends.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "inf")
    try:
        with hangup_blocked():
            dashboard = _start_or_join(settings, cores)
    # Ray raises nothing narrower where a machine is too busy for its processes to come up.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if settings.address is None:
            raise CannotStart(f"Ray cannot be started: {reason}{_hint(error)}") from error
        raise UsageError(
            f"--address: invalid value {settings.address!r}: expected a running cluster ({reason})"
        ) from error
    try:
        yield dashboard
    finally:
        ray.shutdown()


def _start_or_join(settings: StudySettings, cores: int) -> str:
    _check_reachable(settings.address)
    context: Any = ray.init(
        address=settings.address or "local",
        num_cpus=cores if settings.address in (None, "local") else None,
        # Of a cluster that is joined, the dashboard is up or not as its head was started.
        include_dashboard=settings.dashboard if settings.address is None else None,
        log_to_driver=settings.verbose,
        # Tune logs the traceback of a failed trial as an error; what matters of it is recorded.
        logging_level=logging.INFO if settings.verbose else logging.CRITICAL,
    )
    if settings.address is None:
        log.info("Ray's own files: %s", context.address_info["session_dir"])
    return context.dashboard_url or ""


def _hint(error: Exception) -> str:
    """What to set in the environment, where that is the cause."""
    if "AF_UNIX path length" in str(error):
        return "; set TMPDIR to a shorter path, such as /tmp"
    if isinstance(error, OSError) and str(error.filename).startswith(str(Path.home())):
        return "; set HOME to a folder that can be written to"
    if isinstance(error, UnicodeError):
        return "; set only paths that are UTF-8: options, working directory, TMPDIR, HOME"
    return ""


def _check_reachable(address: str | None) -> None:
    """Raise `OSError` or `ValueError` where nothing listens at HOST:PORT, for which Ray would wait
    for minutes."""
    if address in (None, "auto", "local"):
        return
    if "://" in address:
        # Through Ray's client Tune would run, and the record be written, on another machine.
        raise ValueError("HOST:PORT of its head, from a machine of the cluster")
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=10).close()
