"""What a person with a folder of their own images meets at the command line, by real processes."""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

COMMAND = [sys.executable, str(Path(__file__).resolve().parents[2] / "study" / "run.py")]
OPTIONS = "--samples 1 --epochs 1 --image-size 16 --precision float32 --max-concurrent 1 --no-dashboard".split()
OPTIONS += ["--confirm-seeds", "0"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """No split, two classes of 30 images, mixed sizes and formats, one grey, and one file that is
    cut in half."""
    root = tmp_path / "pets"
    draw = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for index in range(30):
            height, width = draw.integers(16, 40, 2)
            pixels = draw.integers(
                100 * label, 100 * label + 100, (height, width, 3), dtype=np.uint8
            )
            Image.fromarray(pixels).save(
                root / name / f"{index}.{('png', 'jpg', 'bmp')[index % 3]}"
            )
    Image.fromarray(np.full((20, 30), 50, dtype=np.uint8)).save(root / "cat" / "grey.png")
    (root / "dog" / "broken.png").write_bytes((root / "dog" / "0.png").read_bytes()[:200])
    return root


def start(place: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in the directory `place`, with a home of its own."""
    (place / "home").mkdir(exist_ok=True)
    environment = {**os.environ, "HOME": str(place / "home"), "COLUMNS": "200"}
    return subprocess.Popen(
        [*COMMAND, *OPTIONS, *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what it runs in the background with SIGINT ignored, and a child inherits
        # that.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def refused(place: Path, *arguments: str) -> str:
    """The one line that says why, after status 2 and with nothing made."""
    process = start(place, *arguments)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors
    assert not (place / "results").exists()
    (line,) = errors.splitlines()
    return line


@pytest.mark.slow
def test_a_broken_file_is_named_or_skipped_with_a_count(tmp_path: Path, folder: Path) -> None:
    line = refused(tmp_path, "--dataset", str(folder))
    for part in (
        "--dataset: invalid value",
        "1 of 62 files",
        "dog/broken.png",
        "--skip-bad-images",
    ):
        assert part in line
    process = start(tmp_path, "--dataset", str(folder), "--skip-bad-images")
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, said + errors
    study = tmp_path / "results" / "search-pets"
    dataset = json.loads((study / "study.json").read_text())["dataset"]
    assert (
        dataset["skipped"] == 1
        and dataset["classes"] == ["cat", "dog"]
        and dataset["image_shape"] == [3, 16, 16]
    )
    assert dataset["counts"] == {"train": 44, "validation": 5, "test": 12}
    assert (study / "report" / "index.html").exists()


@pytest.mark.slow
def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "file").touch()
    line = refused(tmp_path, "--dataset", str(folder), "--data-dir", "file")
    assert (
        "--data-dir: invalid value" in line
        and str(tmp_path / "file") in line
        and "expected a folder" in line
    )


@pytest.mark.slow
def test_an_interrupt_before_the_first_trial_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    process = start(tmp_path, "--dataset", str(folder), "--skip-bad-images")
    assert process.stdout is not None
    assert process.stdout.readline() == f"data set: {folder}\n"  # next come the images, then Ray
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 130, said + errors
    assert "Traceback" not in said + errors
    assert not (tmp_path / "results").exists()
    assert not [
        child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    ]
