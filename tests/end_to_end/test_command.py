"""What a person with a folder of their own images meets at the command line, by real processes."""

import json
from pathlib import Path

import pytest
from commands import Place

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path, pets: Path) -> Place:
    return Place(tmp_path, pets)


def test_a_broken_file_is_named_or_skipped_with_a_count(place: Place) -> None:
    line = place.refused()
    for part in (
        "--dataset: invalid value",
        "1 of 62 files",
        "dog/broken.png",
        "--skip-bad-images",
    ):
        assert part in line
    done = place.run("--samples", "1", "--epochs", "1", "--skip-bad-images")
    assert done.returncode == 0, done.stdout + done.stderr
    study = place.root / "results" / "search-pets"
    dataset = json.loads((study / "study.json").read_text())["dataset"]
    assert dataset["skipped"] == 1
    assert dataset["classes"] == ["cat", "dog"]
    assert dataset["image_shape"] == [3, 16, 16]
    assert dataset["counts"] == {"train": 44, "validation": 5, "test": 12}
    assert (study / "report" / "index.html").exists()


def test_a_data_directory_that_is_a_file_is_refused(place: Place) -> None:
    (place.root / "file").touch()
    line = place.refused("--data-dir", "file")
    assert "--data-dir: invalid value" in line
    assert str(place.root / "file") in line
    assert "expected a folder" in line
