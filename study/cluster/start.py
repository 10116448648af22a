"""Starts Ray on this machine, or joins a running one."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from study.errors import CannotStart
from study.resources import MOST_CONCURRENT, usable_cores
from study.settings import StudySettings
from trainables.config import UsageError


@contextmanager
def ray_running(settings: StudySettings) -> Iterator[str]:
    """Ray, started here or joined, quiet unless asked; gives the dashboard's address, or an empty
    text."""
    starts_here = settings.address in (None, "local")
    cores = usable_cores()
    if cores <= (settings.max_concurrent or MOST_CONCURRENT) * settings.cpus_per_trial:
        # Ray starts a process a core at once; the first trials then find there what takes seconds
        # to import.
        os.environ.setdefault("RAY_preload_python_modules", "trainables.trainable,torch._dynamo")
    try:
        _check_reachable(settings.address)
        context = ray.init(
            address=settings.address or "local",
            num_cpus=cores if starts_here else None,
            # Of a cluster that is joined, the dashboard is up or not as its head was started.
            include_dashboard=settings.dashboard if settings.address is None else None,
            log_to_driver=settings.verbose,
            # Tune logs the traceback of a failed trial as an error; the record keeps what matters
            # of it.
            logging_level=logging.INFO if settings.verbose else logging.CRITICAL,
        )
    # Ray raises nothing narrower where a machine is too busy for its processes to come up.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if settings.address is None:
            raise CannotStart(f"Ray cannot be started: {reason}") from error
        raise UsageError(
            f"--address: invalid value {settings.address!r}: expected a running cluster ({reason})"
        ) from error
    try:
        yield context.dashboard_url or ""
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raise `OSError` or `ValueError` where nothing listens at HOST:PORT, for which Ray would wait
    for minutes."""
    if address not in (None, "auto", "local"):
        if (
            "://" in address
        ):  # through Ray's client Tune would run, and the record be written, on another machine
            raise ValueError("HOST:PORT of its head, from a machine of the cluster")
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()
