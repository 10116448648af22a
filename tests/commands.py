"""The command as a user runs it: processes of their own, in a directory and with a home of their
own."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import psutil
from terminals import Terminal, hear_signals

COMMAND = [sys.executable, str(Path(__file__).resolve().parents[1] / "study" / "run.py")]


def with_defaults(defaults: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
    """The arguments after those default options that are not among them."""
    lacking = [item for item in defaults.items() if item[0] not in arguments]
    return [word for item in lacking for word in item if word] + list(arguments)


class Place:
    """A directory to run the command in, with a home of its own."""

    def __init__(self, root: Path, images: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.home.mkdir()
        self.images = images
        self.environment = {**os.environ, "HOME": str(self.home), "COLUMNS": "200"}

    def arguments(self, *arguments: str) -> list[str]:
        defaults = {
            "--dataset": str(self.images),
            "--image-size": "16",
            "--precision": "float32",
            "--confirm-seeds": "0",
            "--no-dashboard": "",
        }
        return [*COMMAND, *with_defaults(defaults, arguments)]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.arguments(*arguments),
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=1800,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.arguments(*arguments),
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=hear_signals,
        )

    def start_on(self, terminal: Terminal, *arguments: str) -> subprocess.Popen[bytes]:
        return terminal.start(self.arguments(*arguments), self.root, self.environment)

    def refused(self, *arguments: str) -> str:
        """The one line that says why, after status 2 and with nothing made."""
        done = self.run(*arguments)
        assert done.returncode == 2, done.stdout + done.stderr
        assert not (self.root / "results").exists()
        (line,) = done.stderr.splitlines()
        return line

    def tables(self, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        study = self.root / "results" / name
        return pd.read_csv(study / "trials.csv"), pd.read_csv(study / "epochs.csv")


def untimed(table: pd.DataFrame, *but: str) -> pd.DataFrame:
    """A table of a study without the columns that are seconds, and without these."""
    seconds = [name for name in table if name.endswith("seconds")]
    return table.drop(columns=[*seconds, *but], errors="ignore")


def check_same(once, name: str, twice, other: str, *but: str) -> None:
    """All that is recorded of the trials of two studies, each in its place, is the same, but how
    long they took and these columns."""
    for expected, found in zip(once.tables(name), twice.tables(other), strict=True):
        pd.testing.assert_frame_equal(
            untimed(expected, *but), untimed(found, *but), check_exact=True
        )


def wait_for(condition, seconds: float = 200.0, every: float = 0.01) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(every)


def epochs_recorded(study: Path) -> int:
    record = study / "record.jsonl"
    return record.read_text().count('"event": "epoch"') if record.exists() else 0


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [
        each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE
    ]
