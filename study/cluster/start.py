"""Starts Ray on this machine, or joins a running one."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import ray
from ray._private.authentication.http_token_authentication import (
    get_auth_headers_if_auth_enabled,
)
from ray._private.utils import read_ray_address
from ray.job_config import JobConfig

import trainables
from study.cluster.ray_patches import apply_patches, log_what_ray_prints
from study.errors import CannotStart
from study.resources import MOST_CONCURRENT, usable_cores
from study.settings import StudySettings
from study.signals import hangup_blocked
from trainables.config import invalid

log = logging.getLogger("study")


JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this environment variable in what `ray job submit` runs."""


CODE = str(Path(trainables.__file__).parent)
"""The package that trials run."""


def cluster_address(asked: str | None) -> str | None:
    """HOST:PORT of the cluster to join; None where Ray is started here.

    Without an address it is that of `RAY_ADDRESS`, which a Ray job has; `auto` is that, or the
    cluster that `ray start` last started or joined on this machine. A Ray that another program
    started for itself is never joined: it would end with that program.

    Raises:
        UsageError: there is no such cluster, or nothing answers there.
    """
    inherited = os.environ.get("RAY_ADDRESS")
    address = inherited if asked in (None, "auto") else asked
    if asked == "auto" and not address:
        address = read_ray_address()
        if not address:
            expected = "RAY_ADDRESS to be set, or `ray start` on this machine"
            raise invalid("--address", asked, expected)
    if address in (None, "", "local"):
        return None
    try:
        _check_reachable(address)
    except (OSError, ValueError) as error:
        option = "--address" if asked else "RAY_ADDRESS"
        raise invalid(option, asked or address, f"a running cluster ({error})") from error
    return address


def check_kept(results_dir: str) -> None:
    """Refuses a results directory that would be deleted with the working directory of a Ray job.

    Raises:
        UsageError: it is one.
    """
    if JOB in os.environ and not Path(results_dir).expanduser().is_absolute():
        expected = "an absolute path, for a Ray job's working directory is deleted with it"
        raise invalid("--results-dir", results_dir, expected)


@contextmanager
def ray_running(settings: StudySettings, study: str) -> Iterator[str]:
    """Ray, started here or joined, quiet unless asked; gives the dashboard's address, or an empty
    text. There this driver is a job by the name of the study."""
    cores = usable_cores()
    if cores <= (settings.max_concurrent or MOST_CONCURRENT) * settings.cpus_per_trial:
        # Ray starts a process a core at once; the first trials then find there what takes seconds
        # to import.
        os.environ.setdefault("RAY_preload_python_modules", "trainables.trainable,torch._dynamo")
    if settings.address is not None:
        # Trials that wait for a node are drawn one by one, so that each knows what was read so far.
        os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1")
    # Tune's snapshots of itself are of no use to us, and would be written while a study ends.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "inf")
    try:
        with hangup_blocked():
            dashboard = _start_or_join(settings, study, cores)
    # Ray raises nothing narrower where a machine is too busy for its processes to come up.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if settings.address is None:
            raise CannotStart(f"Ray cannot be started: {reason}{_hint(error)}") from error
        raise invalid("--address", settings.address, f"a running cluster ({reason})") from error
    try:
        yield dashboard
    finally:
        ray.shutdown()


def _start_or_join(settings: StudySettings, study: str, cores: int) -> str:
    if settings.address:
        os.environ["RAY_ADDRESS"] = settings.address  # for Ray it has the last word
    apply_patches()
    if not settings.verbose:
        log_what_ray_prints()
    context: Any = ray.init(
        address=settings.address or "local",
        num_cpus=cores if settings.address is None else None,
        # Of a cluster that is joined, the dashboard is up or not as its head was started.
        include_dashboard=settings.dashboard if settings.address is None else None,
        # The nodes need the packages only: this checkout's code for trials is sent to them. Here it
        # is at hand, and without it trials take over the processes that Ray starts at once.
        runtime_env={"py_modules": [CODE]} if settings.address else None,
        log_to_driver=settings.verbose,
        # Tune logs the traceback of a failed trial as an error; what matters of it is recorded.
        logging_level=logging.INFO if settings.verbose else logging.CRITICAL,
        # In what `ray job submit` runs, what was submitted has the last word, also on the name.
        job_config=JobConfig(metadata={"job_name": study}),
    )
    if settings.address is None:
        log.info("Ray's own files: %s", context.address_info["session_dir"])
    return context.dashboard_url or ""


def _hint(error: Exception) -> str:
    """What to set in the environment, where that is the cause."""
    if "dashboard.log" in str(error):
        return "; --no-dashboard does without Ray's dashboard, which did not start"
    if "AF_UNIX path length" in str(error):
        return "; set TMPDIR to a shorter path, such as /tmp"
    if isinstance(error, OSError) and str(error.filename).startswith(str(Path.home())):
        return "; set HOME to a folder that can be written to"
    if isinstance(error, UnicodeError):
        return "; set only paths that are UTF-8: options, working directory, TMPDIR, HOME"
    return ""


def _check_reachable(address: str) -> None:
    """Raise `OSError` or `ValueError` where nothing listens at HOST:PORT, for which Ray would wait
    for minutes."""
    if "://" in address:
        # Through Ray's client Tune would run, and the record be written, on another machine.
        raise ValueError("HOST:PORT of its head, from a machine of the cluster")
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    _check_token(address)


def _check_token(address: str) -> None:
    """Raise `ValueError` where the cluster asks for another token, with which Ray would try for a
    minute."""
    try:
        token = get_auth_headers_if_auth_enabled({})
        reason = "the token is another one" if token else "RAY_AUTH_MODE=token is not set"
    except ray.exceptions.AuthenticationError:
        token, reason = {}, "there is no ~/.ray/auth_token or RAY_AUTH_TOKEN"
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            ask(b"", timeout=10, metadata=tuple(token.items()))
        except grpc.RpcError as error:
            # What else may be wrong Ray says itself.
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise ValueError(f"it asks for its token, {reason}") from error
