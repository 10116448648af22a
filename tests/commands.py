"""The command as a user runs it: processes of their own, in a directory and with a home of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

COMMAND = [sys.executable, str(Path(__file__).resolve().parents[1] / "study" / "run.py")]


class Place:
    """A directory to run the command in, with a home of its own."""

    def __init__(self, root: Path, images: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.home.mkdir()
        self.images = images
        self.environment = {**os.environ, "HOME": str(self.home), "COLUMNS": "200"}

    def arguments(self, *arguments: str) -> list[str]:
        usual = [
            "--dataset",
            str(self.images),
            "--image-size",
            "16",
            "--precision",
            "float32",
            "--no-dashboard",
        ]
        return [*COMMAND, *usual, "--confirm-seeds", "0", *arguments]

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
        )

    def tables(self, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        study = self.root / "results" / name
        return pd.read_csv(study / "trials.csv"), pd.read_csv(study / "epochs.csv")
