"""Complete studies by the command, as real processes with a real Ray."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import Place, untimed

from trainables.datasets import load_images
from trainables.parts import split_images
from trainables.resnet import load_resnet

USUAL = "--samples 4 --epochs 2 --seed 3 --scheduler fifo".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory, squares) -> Place:
    return Place(tmp_path_factory.mktemp("place"), squares)


@pytest.fixture(scope="module")
def finished(place) -> subprocess.CompletedProcess[str]:
    """A study of four trials, run to its end: the next tests look at what it left."""
    return place.run(*USUAL, "--max-concurrent", "2")


def snapshot(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.mark.slow
def test_a_study_runs_through_to_its_figures(place, finished):
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    assert finished.stdout.splitlines()[0].endswith(f" data set: {place.images}")
    study = place.root / "results" / "search-squares"
    assert {path.name for path in study.iterdir()} == {
        *(
            "record.jsonl",
            "study.json",
            "trials.csv",
            "epochs.csv",
            "test_images.csv",
            "study.log",
            "best",
            "report",
            "tensorboard",
            "optuna.log",
        )
    }
    trials, epochs = place.tables("search-squares")
    assert trials["trial"].tolist() == [0, 1, 2, 3]
    assert trials["origin"].tolist() == [
        *("baseline:imagenet-stem", "baseline:small-stem", "baseline:small-stem-no-pool", "random")
    ]
    assert set(trials["state"]) == {"complete"}
    assert epochs.groupby("trial")["epoch"].apply(list).tolist() == [[1, 2]] * 4
    assert epochs[["test_loss", "test_accuracy"]].isna().all(axis=None)
    assert (
        epochs[["train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]]
        .notna()
        .all(axis=None)
    )
    assert (study / "report" / "index.html").stat().st_size > 10_000
    figures = {path.name for path in (study / "report" / "figures").iterdir()}
    factors = ("learning_rate", "stem_kernel", "stem_stride", "stem_maxpool", "depth")
    names = {
        "curves",
        "best-so-far",
        "learning-rate",
        "pareto",
        *(f"by-{factor}" for factor in factors),
    }
    assert {f"{name}.{kind}" for name in names for kind in ("png", "svg")} <= figures
    assert {Path(name).suffix for name in figures} == {".png", ".svg"}
    assert not list(place.home.glob("ray_results"))


@pytest.mark.slow
def test_the_manifest_tells_how_the_study_was_made(place, finished):
    manifest = json.loads((place.root / "results" / "search-squares" / "study.json").read_text())
    data = load_images(str(place.images), place.root / "data", 16)
    shares = {
        part: pd.Series(getattr(split_images(data), part).labels).value_counts(normalize=True)
        for part in ("train", "validation", "test")
    }
    largest = manifest["dataset"].pop("largest_class")
    assert {part: share for part, (_, share) in largest.items()} == {
        part: pytest.approx(of_class.max()) for part, of_class in shares.items()
    }
    assert {name for name, _ in largest.values()} <= {"left", "middle", "right"}
    assert manifest["dataset"] == {
        "name": "squares",
        "chosen": None,
        "fingerprint": data.fingerprint,
        "counts": {"train": 52, "validation": 6, "test": 14},
        "available": 58,
        "image_shape": [1, 16, 16],
        "classes": ["left", "middle", "right"],
        "skipped": 0,
        "value_range": None,
        "duplicates": {"validation": 0, "test": 0},
        "mirrored": [],
    }
    assert manifest["settings"]["epochs"] == 2
    assert manifest["settings"]["precision"] == "float32"
    assert manifest["packages"]["torch"] == torch.__version__.split("+")[0]
    assert manifest["machine"]["cores"] >= 1
    assert "--samples 4" in manifest["command"]
    mirrored = "mirrored at random (--no-flip: not)"
    assert manifest["notes"] == [
        f"augmentation: padded by 2 pixels and cropped at random, {mirrored}"
    ]
    assert manifest["design"]["name"] == "search"
    _, epochs = place.tables("search-squares")
    core_seconds = epochs["train_seconds"].sum() + epochs["eval_seconds"].sum()
    assert manifest["seconds"]["search"]["core"] == pytest.approx(core_seconds)


@pytest.mark.slow
def test_the_winner_is_kept_and_reads_the_validation_images_as_recorded(place, finished):
    best = place.root / "results" / "search-squares" / "best"
    trials, epochs = place.tables("search-squares")
    last = epochs[epochs["epoch"] == 2].sort_values(
        ["validation_accuracy", "validation_loss", "trial"], ascending=[False, True, True]
    )
    winner = last.iloc[0]
    about = json.loads((best / "config.json").read_text())
    row = trials.set_index("trial").loc[winner["trial"]]
    assert all(row[name] == value for name, value in about["config"].items())

    part = split_images(load_images(str(place.images), place.root / "data", 16)).validation
    mean, std = (np.array(about[name]).reshape(-1, 1, 1) for name in ("pixel_mean", "pixel_std"))
    with torch.no_grad():
        logits = load_resnet(best)(torch.from_numpy((part.images / 255 - mean) / std).float())
    predicted = logits.argmax(1).numpy()
    assert (predicted == part.labels).mean() == pytest.approx(winner["validation_accuracy"])
    table = pd.crosstab(
        pd.Categorical(part.labels, range(3)), pd.Categorical(predicted, range(3)), dropna=False
    )
    with (best / "confusion_matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["true class", "left", "middle", "right"]
    assert [[int(count) for count in row[1:]] for row in rows[1:]] == table.to_numpy().tolist()
    by_class = pd.read_csv(best / "accuracy_by_class.csv")
    assert by_class["validation_accuracy"].tolist() == pytest.approx(
        [(predicted[part.labels == label] == label).mean() for label in range(3)]
    )


@pytest.mark.slow
def test_another_question_is_refused_and_the_study_left_alone(place, finished):
    before = snapshot(place.root / "results")
    again = place.run("--samples", "4", "--epochs", "3")
    assert again.returncode == 2
    assert again.stderr.splitlines() == [
        "resnet-study: --epochs: invalid value 3, the study has 2: "
        "expected the same, or another --name"
    ]
    assert snapshot(place.root / "results") == before


@pytest.mark.slow
def test_a_seed_repeats_a_study_exactly_however_many_trials_run_at_once(place, finished):
    done = place.run(*USUAL, "--max-concurrent", "1", "--name", "again")
    assert done.returncode == 0, done.stdout + done.stderr
    tables = zip(place.tables("search-squares"), place.tables("again"), strict=True)
    for once, twice in tables:
        keys = ["trial", "epoch"] if "epoch" in once.columns else ["trial"]
        once, twice = (untimed(table).set_index(keys).sort_index() for table in (once, twice))
        pd.testing.assert_frame_equal(once, twice, check_exact=True)


@pytest.fixture
def real_images(tmp_path) -> Path:
    """Some of the real images of each class; test_datasets reads all of them."""
    if "RESNET_STUDY_IMAGES" not in os.environ:
        pytest.skip("RESNET_STUDY_IMAGES names no folder of images")
    for part, count in (("train", 120), ("test", 20)):
        for folder in sorted(Path(os.environ["RESNET_STUDY_IMAGES"], part).iterdir()):
            copy = tmp_path / "cifar10" / part / folder.name
            copy.mkdir(parents=True)
            for path in sorted(folder.iterdir())[:count]:
                shutil.copy(path, copy)
    return tmp_path / "cifar10"


@pytest.mark.slow
def test_the_baselines_learn_real_images(tmp_path, real_images):
    place = Place(tmp_path, real_images)
    done = place.run(*"--samples 3 --epochs 2 --name cifar".split())
    assert done.returncode == 0, done.stdout + done.stderr
    trials, epochs = place.tables("cifar")
    assert trials["state"].tolist() == ["complete"] * 3
    losses = epochs.pivot(index="trial", columns="epoch", values="train_loss")
    assert (losses[2] < losses[1]).all()
