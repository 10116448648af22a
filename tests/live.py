"""A study that changes on disk, and `python -m analysis STUDY --watch` as a user runs it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synthetic import MadeTrial, write_study
from terminals import hear_signals

PATIENCE = 120.0
"""Seconds: other tests may run on the same cores."""


def replace_study(folder: Path, trials: Sequence[MadeTrial], **changes: Any) -> None:
    """Bring a study to where it has these trials, file by file, as a driver does."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        write_study(Path(made), trials, **changes)
        for name in ("study.json", "trials.csv", "epochs.csv"):
            (Path(made) / name).replace(folder / name)


@contextmanager
def watching(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command; ended by force where it has not ended by itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "analysis", str(folder), "--watch", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_signals,
        env={**os.environ, "COLUMNS": "200"},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until something is true, as long as the command runs."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.1)
