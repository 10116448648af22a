"""Whole studies by the command, as real processes with a real Ray; and every wrong use of the
command."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from commands import Place
from PIL import Image

from analysis.load import load_study
from analysis.report.summary import scope
from study.record import StudyState, TrialState, read_record
from study.run import conclude
from study.stages import RecordCallback
from trainables.datasets import load_images, split_images
from trainables.resnet import load_resnet


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Images of three classes that differ in where they are bright; small, so that every arm is
    quick."""
    root = tmp_path_factory.mktemp("images") / "squares"
    draw = np.random.default_rng(0)
    for label, name in enumerate(("left", "middle", "right")):
        (root / name).mkdir(parents=True)
        for index in range(24):
            pixels = draw.integers(0, 100, (16, 16), dtype=np.uint8)
            pixels[:, 5 * label : 5 * label + 5] += 150
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory, folder) -> Place:
    return Place(tmp_path_factory.mktemp("place"), folder)


@pytest.fixture(scope="module")
def finished(place) -> subprocess.CompletedProcess[str]:
    """A study of four trials, run to its end: the next tests look at what it left."""
    return place.run(
        "--samples",
        "4",
        "--epochs",
        "2",
        "--seed",
        "3",
        "--max-concurrent",
        "2",
        "--scheduler",
        "fifo",
    )


def snapshot(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.mark.slow
def test_a_study_runs_through_to_its_figures(place, finished):
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    assert finished.stdout.splitlines()[0] == f"data set: {place.images}"
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
        "isolation",
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
    assert manifest["dataset"] == {
        "name": "squares",
        "chosen": None,
        "fingerprint": data.fingerprint,
        "counts": {"train": 52, "validation": 6, "test": 14},
        "available": 58,
        "image_shape": [1, 16, 16],
        "classes": ["left", "middle", "right"],
        "skipped": 0,
        "duplicates": {"validation": 0, "test": 0},
    }
    assert manifest["settings"]["epochs"] == 2
    assert manifest["settings"]["precision"] == "float32"
    assert manifest["packages"]["torch"] == torch.__version__.split("+")[0]
    assert manifest["machine"]["cores"] >= 1
    assert "--samples 4" in manifest["command"]
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
    said = logits.argmax(1).numpy()
    assert (said == part.labels).mean() == pytest.approx(winner["validation_accuracy"])
    table = pd.crosstab(
        pd.Categorical(part.labels, range(3)), pd.Categorical(said, range(3)), dropna=False
    )
    with (best / "confusion_matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["true class", "left", "middle", "right"]
    assert [[int(count) for count in row[1:]] for row in rows[1:]] == table.to_numpy().tolist()
    by_class = pd.read_csv(best / "accuracy_by_class.csv")
    assert by_class["validation_accuracy"].tolist() == pytest.approx(
        [(said[part.labels == label] == label).mean() for label in range(3)]
    )


@pytest.mark.slow
def test_another_question_is_refused_and_the_study_left_alone(place, finished):
    before = snapshot(place.root / "results")
    again = place.run("--samples", "4", "--epochs", "3")
    assert again.returncode == 2
    assert again.stderr.splitlines() == [
        "resnet-study: --epochs: invalid value 3, the study has 2: expected the same, or another --name"
    ]
    assert snapshot(place.root / "results") == before


@pytest.mark.slow
def test_a_seed_repeats_a_study_exactly(place, finished):
    tables = []
    for name in ("once", "twice"):
        options = (
            "--samples",
            "6",
            "--epochs",
            "2",
            "--seed",
            "3",
            "--max-concurrent",
            "1",
            "--name",
            name,
        )
        done = place.run(*options)
        assert done.returncode == 0, done.stdout + done.stderr
        tables.append(place.tables(name))
    for once, twice in zip(*tables, strict=True):
        timed = [column for column in once.columns if column.endswith("seconds")]
        pd.testing.assert_frame_equal(
            once.drop(columns=timed), twice.drop(columns=timed), check_exact=True
        )


def wait_for(condition, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def epochs_recorded(study: Path) -> int:
    record = study / "record.jsonl"
    return record.read_text().count('"event": "epoch"') if record.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_ends_in_good_order(place, number):
    name = f"interrupted-{number}"
    study = place.root / "results" / name
    driver = place.start(
        "--samples", "8", "--epochs", "500", "--max-concurrent", "2", "--name", name
    )
    wait_for(lambda: epochs_recorded(study) >= 2)
    children = psutil.Process(driver.pid).children(recursive=True)
    assert children
    asked = time.monotonic()
    driver.send_signal(number)
    said, _ = driver.communicate(timeout=120)
    assert time.monotonic() - asked < 15
    assert driver.returncode == 130, said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("to resume: python ")
    assert f"--name {name}" in said.splitlines()[-1]
    assert not alive(children)
    state = read_record(study)
    assert {trial.state for trial in state.trials.values()} == {"running"}
    assert state.ended is None and state.started is None, "the driver has ended, the study has not"
    assert "; the study is not finished" in scope(load_study(study))
    assert not list(study.rglob("*.tmp"))


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [
        each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_nothing_is_lost(place):
    study = place.root / "results" / "twice"
    driver = place.start("--samples", "4", "--epochs", "500", "--name", "twice")
    wait_for(lambda: epochs_recorded(study) >= 2)
    children = psutil.Process(driver.pid).children(recursive=True)
    # Two agents of Ray's look for their raylet once a minute only.
    trials = [child for child in children if "Agent" not in " ".join(child.cmdline())]
    recorded = epochs_recorded(study)
    driver.send_signal(signal.SIGINT)
    driver.send_signal(signal.SIGTERM)
    said = driver.communicate(timeout=10)
    # By itself, or by one of the signals (each seen once in many runs, why is not known): at once
    # it is.
    assert driver.returncode in (130, -signal.SIGINT, -signal.SIGTERM), said
    wait_for(lambda: not alive(trials), seconds=15)
    assert sum(len(trial.epochs) for trial in read_record(study).trials.values()) >= recorded


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--samples", "0"], "--samples: invalid value 0"),
        (["--design", "none"], "--design: invalid value 'none': expected search, course, stem"),
        (
            ["--design", "none.toml"],
            "--design: invalid value 'none.toml' (No such file or directory): expected search",
        ),
        (
            ["--design", "recipe", "--samples", "10"],
            "--samples: invalid value 10: expected a multiple",
        ),
        (["--epochs", "0"], "--epochs: invalid value 0"),
        (["--name", "a/b"], "--name: invalid value 'a/b'"),
        (["--dataset", "cifar11"], "--dataset: invalid value 'cifar11'"),
        (["--dataset", "/no/such/folder"], "--dataset: invalid value '/no/such/folder'"),
        (["--train-images", "3"], "--train-images: invalid value 3"),
        (["--address", "127.0.0.1:1"], "--address: invalid value '127.0.0.1:1'"),
        (["--address", "nowhere"], "--address: invalid value 'nowhere'"),
        (["--address", "auto"], "--address: invalid value 'auto'"),
        (
            ["--address", "ray://127.0.0.1:10001"],
            "expected a running cluster (HOST:PORT of its head, ",
        ),
        (["--results-dir", "a-file"], "--results-dir: invalid value 'a-file'"),
        (["--results-dir", "/proc/no"], "--results-dir: invalid value '/proc/no'"),
        (["--cpus-per-trial", "9999"], "--cpus-per-trial: invalid value 9999"),
    ],
)
@pytest.mark.slow
def test_wrong_use_is_one_line_and_status_2_and_starts_nothing(tmp_path, folder, arguments, said):
    if "auto" in arguments and any(
        process.name() == "gcs_server" for process in psutil.process_iter()
    ):
        pytest.skip("a Ray runs on this machine, and `auto` would join it")
    place = Place(tmp_path, folder)
    (tmp_path / "a-file").write_text("")
    done = place.run(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_images_that_cannot_be_had_start_nothing(tmp_path, folder):
    place = Place(tmp_path, folder)
    # A proxy that is not there stands for a server that cannot be reached.
    place.environment |= {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = place.run("--dataset", "cifar10")
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    for part in (
        "cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        str(tmp_path / "data"),
    ):
        assert part in line
    assert not (tmp_path / "results").exists()


def states(*names: str) -> StudyState:
    """Trials of these states; those after a `/` are of the confirm stage."""
    rows = [{"validation_accuracy": 0.5, "validation_loss": 1.0}]
    trials, stage = {}, "search"
    for name in names:
        if name == "/":
            stage = "confirm"
            continue
        about = {"state": name, "epochs": rows, "error": "boom"}
        trials[len(trials)] = TrialState(len(trials), stage, "random", "arm", {}, 1, 1, **about)
    return StudyState(trials=trials)


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        (("complete", "stopped"), 0),
        (("complete", "failed"), 0),
        (("complete", "diverged"), 0),
        (("complete",), 1),
        (("complete", "running"), 1),
        (("diverged", "diverged"), 1),
        (("failed", "stopped"), 1),
        # With a search stage it must have a complete trial, whatever became of the confirm stage.
        (("complete", "/", "complete"), 0),
        (("complete", "/", "failed"), 0),
        (("complete", "/", "running"), 1),
        (("stopped", "/", "complete"), 1),
        # Without one the confirm stage must.
        (("/", "complete", "diverged"), 0),
        (("/", "diverged", "diverged"), 1),
        (("/", "complete"), 1),
    ],
)
def test_exit_status(ended, status):
    assert conclude(states(*ended), 2, "resnet-study") == status


@pytest.mark.slow
@pytest.mark.skipif(
    "RESNET_STUDY_IMAGES" not in os.environ, reason="RESNET_STUDY_IMAGES names no folder of images"
)
def test_the_baselines_learn_real_images(tmp_path):
    place = Place(tmp_path, Path(os.environ["RESNET_STUDY_IMAGES"]))
    done = place.run(
        *("--image-size 32 --samples 3 --train-images 2500 --epochs 2 --name cifar").split()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trials, epochs = place.tables("cifar")
    assert trials["state"].tolist() == ["complete"] * 3
    losses = epochs.pivot(index="trial", columns="epoch", values="train_loss")
    assert (losses[2] < losses[1]).all()


def test_the_callback_is_not_pickled_with_the_record():
    """Tune pickles its callbacks; ours hold an open file and are never restored."""
    import ray.cloudpickle as cloudpickle

    copy = cloudpickle.loads(cloudpickle.dumps(RecordCallback(None, None)))
    assert not isinstance(copy, RecordCallback)
