"""When a study is over: runs the command of `--notify`, which may send mail or a message."""

import logging
import os
import subprocess

log = logging.getLogger("study")

SECONDS = 30


def notify(command: str, name: str, status: str, headline: str) -> None:
    """Run a shell command, with what it may say in the environment variables `STUDY_NAME`,
    `STUDY_STATUS` (complete, incomplete or interrupted) and `STUDY_HEADLINE`.

    Of a command that fails or takes more than half a minute only a warning is left: the study is
    over, and its exit status is its own.
    """
    said = {"STUDY_NAME": name, "STUDY_STATUS": status, "STUDY_HEADLINE": headline}
    try:
        done = subprocess.run(
            command,
            shell=True,
            env=os.environ | said,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        log.warning("--notify failed: %s", error)
        return
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [""]
        log.warning("--notify failed with exit status %d: %s", done.returncode, lines[-1])
