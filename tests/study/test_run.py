"""The command refuses wrong usage in one line, and its exit status says what became of a study."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private.utils import read_ray_address

from study.run import RAY_ENVIRONMENT, conclude, main
from study.state import StudyState, TrialRecord


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory, and the environment restored after the command."""
    for name, value in RAY_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUN = Path(__file__).resolve().parents[2] / "study" / "run.py"
REFUSED = {
    "--samples 0": "--samples: invalid value 0",
    "--design none": "--design: invalid value 'none': expected search, course, stem",
    "--design none.toml": "'none.toml' (No such file or directory): expected search",
    "--design recipe --samples 10": "--samples: invalid value 10: expected a multiple",
    "--epochs 0": "--epochs: invalid value 0",
    "--name a/b": "--name: invalid value 'a/b'",
    "--dataset cifar11": "--dataset: invalid value 'cifar11'",
    "--dataset /no/such/folder": "--dataset: invalid value '/no/such/folder'",
    "--train-images 3": "--train-images: invalid value 3",
    "--address 127.0.0.1:1": "--address: invalid value '127.0.0.1:1'",
    "--address nowhere": "--address: invalid value 'nowhere'",
    "--address auto": "--address: invalid value 'auto'",
    "--address ray://127.0.0.1:10001": "expected a running cluster (HOST:PORT of its head, ",
    "--results-dir a-file": "--results-dir: invalid value 'a-file'",
    "--results-dir /proc/no": "--results-dir: invalid value '/proc/no'",
    "--cpus-per-trial 9999": "--cpus-per-trial: invalid value 9999",
}


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.items(), ids=list(REFUSED))
def test_wrong_use_is_one_line_and_status_2_and_starts_nothing(folder, capsys, arguments, reason):
    if "auto" in arguments and read_ray_address():
        pytest.skip("`ray start` was called on this machine, and `auto` would join its cluster")
    (folder / "a-file").touch()
    usual = [] if "--dataset" in arguments else ["--dataset", "digits"]
    assert main([*usual, "--no-dashboard", *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert not (folder / "results").exists()


LONG = "x" * 100
ENVIRONMENTS = {
    "sockets": ({"TMPDIR": f"/tmp/{LONG}"}, "", "set TMPDIR to a shorter path"),
    "home": ({"HOME": "/proc/nothing"}, "", "set HOME to a folder that can be written to"),
    "not UTF-8": (
        {},
        "caf\udce9",
        "set only paths that are UTF-8",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "folder", "hint"), ENVIRONMENTS.values(), ids=list(ENVIRONMENTS)
)
def test_an_environment_in_which_ray_cannot_start_is_one_line_that_says_what_to_set(
    tmp_path, environment, folder, hint
):
    """By a process of its own, for Ray reads its environment once."""
    (tmp_path / folder).mkdir(exist_ok=True)
    command = [sys.executable, str(RUN), "--dataset", "digits", "--no-dashboard"]
    done = subprocess.run(
        command,
        cwd=tmp_path / folder,
        env={**os.environ, "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
    )
    shutil.rmtree(f"/tmp/{LONG}", ignore_errors=True)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("resnet-study: Ray cannot be started: ")
    assert hint in line
    assert not (tmp_path / folder / "results").exists()


def test_images_that_are_unavailable_start_nothing(folder, capsys, monkeypatch):
    # urllib keeps the proxies of its first request, in this test and after it.
    monkeypatch.setattr("urllib.request._opener", None)
    for name in ("http_proxy", "https_proxy"):
        # As a server that is out of reach.
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert main(["--dataset", "cifar10"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cifar-10-python.tar.gz" in line
    assert "c58f30108f718f92721af3b95e74349a" in line
    assert str(folder / "data") in line
    assert not (folder / "results").exists()


def states(names: str) -> StudyState:
    """Trials of these states; those after a `/` are of the confirm stage."""
    rows = [{"validation_accuracy": 0.5, "validation_loss": 1.0}]
    trials, stage = {}, "search"
    for name in names.split():
        if name == "/":
            stage = "confirm"
            continue
        about = {"state": name, "epochs": rows, "error": "boom"}
        trials[len(trials)] = TrialRecord(len(trials), stage, "random", "arm", {}, 1, 1, **about)
    return StudyState(trials=trials)


ENDED = {
    "complete stopped": 0,
    "complete failed": 0,
    "complete diverged": 0,
    "complete": 1,
    "complete running": 1,
    "diverged diverged": 1,
    "failed stopped": 1,
    # With a search stage it must have a complete trial, whatever became of the confirm stage.
    "complete / complete": 0,
    "complete / failed": 0,
    "complete / running": 1,
    "stopped / complete": 1,
    # Without one the confirm stage must.
    "/ complete diverged": 0,
    "/ diverged diverged": 1,
    "/ complete": 1,
}


@pytest.mark.parametrize(("ended", "status"), ENDED.items(), ids=list(ENDED))
def test_exit_status(ended, status):
    assert conclude(states(ended), 2, "resnet-study") == status
