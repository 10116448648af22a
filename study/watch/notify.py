"""When a study is over: runs the command of `--notify`, which may send mail or a message."""

import logging
import os
import signal
import subprocess
import tempfile
from contextlib import suppress

log = logging.getLogger("study")

SECONDS = 30


def notify(command: str, name: str, status: str, headline: str) -> None:
    """Run a shell command, with what it may say in the environment variables `STUDY_NAME`,
    `STUDY_STATUS` (complete, incomplete or interrupted) and `STUDY_HEADLINE`.

    Of a command that fails or takes more than half a minute only a warning is left: the study is
    over, and its exit status is its own.
    """
    variables = {"STUDY_NAME": name, "STUDY_STATUS": status, "STUDY_HEADLINE": headline}
    try:
        _run(command, os.environ | variables)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warning("--notify failed: %s", error)


def _run(command: str, environment: dict[str, str]) -> None:
    # A file, for whoever reads a pipe waits for all that the command has started; a session of its
    # own, so that all of that can be ended.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            shell=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            status = process.wait(SECONDS)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if status:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            last = f": {lines[-1]}" if lines else ""
            raise subprocess.SubprocessError(f"exit status {status}{last}")
