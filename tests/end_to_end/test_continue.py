"""Nothing is lost: drivers, workers and checkpoints that die, and studies that go on. Real
processes, really killed."""

import json
import os
import random
import shutil
import subprocess
import time
from functools import partial

import psutil
import pytest
from commands import check_same, wait_for
from drivers import (
    DESIGN,
    WILD,
    Hoarding,
    Place,
    Raising,
    kill,
    ray_head,
    trial_processes,
)
from optuna.trial import TrialState

from study.searcher import StudySearcher

pytestmark = pytest.mark.slow

USUAL = (
    "--samples 7 --epochs 4 --seed 3 --max-concurrent 1 --checkpoint-seconds 0 --confirm-seeds 1"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory, home, head):
    return Place(tmp_path_factory.mktemp("studies"), head[0], home)


@pytest.fixture(scope="module")
def straight(place):
    """A study that nothing happened to: all stages, the last of the winner, of another kernel and
    of a baseline."""
    assert place.run("straight", USUAL, report=True) == 0, place.output("straight")
    trials, epochs = place.tables("straight")
    stages = trials["stage"].tolist()
    assert stages[:7] == ["search"] * 7
    # Two arms at three rates, of which the search has one or more; a winner that is the baseline is
    # there once.
    tune, confirm = stages.count("tune"), stages.count("confirm")
    assert 1 <= tune <= 5 and confirm in (2, 3)
    assert stages[7:] == ["tune"] * tune + ["confirm"] * confirm
    return trials, epochs


def moved_on(place: Place, name: str, events: int, driver) -> bool:
    return place.events(name) > events or not driver.is_alive()


def check_whole(place: Place, name: str, samples: int) -> None:
    """Exactly the search trials asked for, each epoch once, and Optuna made from the record is told
    the same."""
    trials, epochs = place.tables(name)
    assert trials["trial"].tolist() == list(range(len(trials)))
    assert (trials["stage"] == "search").tolist() == [
        number < samples for number in trials["trial"]
    ]
    assert set(trials["state"]) <= {"complete", "stopped", "failed"}
    counted = epochs.groupby("trial")["epoch"].apply(list)
    assert counted.tolist() == [list(range(1, count + 1)) for count in trials["epochs"]]
    assert trials["origin"].tolist()[:2] == ["baseline:a", "baseline:b"]
    assert trials["origin"].str.startswith("baseline").sum() == 2
    searcher = StudySearcher(DESIGN, samples, "tpe", 4, 3, place.state(name), None, None)
    searcher.learn()
    (optuna_study,) = searcher.optuna_studies
    told = {
        "complete": TrialState.COMPLETE,
        "stopped": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }
    for trial, row in zip(optuna_study.get_trials(), trials[:samples].itertuples(), strict=True):
        assert trial.state == told[row.state]
        read = epochs[epochs["trial"] == row.trial].set_index("epoch")["validation_accuracy"]
        assert trial.intermediate_values == read.to_dict()
    assert not (place.root / name / "checkpoints").exists()


def test_killed_at_five_random_moments_it_ends_as_if_nothing_had_happened(place, straight):
    draw, name, kills = random.Random(0), "killed", 0
    known: dict[int, tuple[dict, list]] = {}
    while kills < 5:
        before, more = place.events(name), draw.randint(0, 12)
        driver = place.start(name, USUAL)
        if more:
            wait_for(partial(moved_on, place, name, before + more, driver))
            time.sleep(draw.random() * 0.2)
        else:
            time.sleep(draw.random() * 5)
        assert driver.exitcode in (None, 0), place.output(name)
        kill(driver)
        kills += 1
        if place.events(name):
            trials = place.state(name).trials
            for number, (config, rows) in known.items():
                assert trials[number].config == config
                assert trials[number].epochs[: len(rows)] == rows
            known = {number: (trial.config, trial.epochs) for number, trial in trials.items()}
    assert place.run(name, USUAL) == 0, place.output(name)
    check_whole(place, name, 7)
    check_same(place, "straight", place, name)
    _, twice = place.tables(name)
    confirmed = twice["trial"].map(straight[0].set_index("trial")["stage"]) == "confirm"
    assert twice["validation_accuracy"].isna().tolist() == confirmed.tolist()
    assert twice["test_accuracy"].notna().tolist() == confirmed.tolist()
    bits = [(place.root / each / "test_images.csv").read_text() for each in ("straight", name)]
    assert (
        bits[0] == bits[1] and bits[0].count("\n") == 1 + (straight[0]["stage"] == "confirm").sum()
    )


def events_of(place: Place, name: str, kind: str) -> list[dict]:
    lines = (place.root / name / "record.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_a_killed_worker_is_tried_again_and_recorded_once(place, head):
    driver = place.start(
        "worker", "--samples 2 --epochs 30 --max-concurrent 1 --checkpoint-seconds 0"
    )
    wait_for(lambda: place.events("worker", "epoch") > 5)
    for process in trial_processes(head[1]):
        process.kill()
    assert place.end(driver) == 0, place.output("worker")
    check_whole(place, "worker", 2)
    # These tests start many drivers, and a report would be most of what one does.
    assert not (place.root / "worker" / "report").exists()
    (failed,), (continued,) = (
        events_of(place, "worker", "trial_failed"),
        events_of(place, "worker", "trial_continued"),
    )
    assert "died" in failed["error"]
    assert continued["from_epoch"] >= 4
    assert "is tried again" in place.output("worker")
    assert "Traceback" not in place.output("worker")


def test_what_fails_three_times_is_failed_until_asked_for_again(place, home):
    cause = home / "raise"
    cause.touch()
    arguments = "--samples 4 --epochs 3 --max-concurrent 2 --checkpoint-seconds 0 --scheduler fifo"
    assert place.run("raising", arguments, trainable=Raising) == 0, place.output("raising")
    check_whole(place, "raising", 4)
    failed = place.tables("raising")[0].loc[1]
    assert (failed["state"], failed["epochs"]) == ("failed", 1)
    assert failed["error"].startswith("RuntimeError: no second epoch")
    assert "study.log" in failed["error"]
    assert "no second epoch" in (place.root / "raising" / "study.log").read_text()
    assert [event["trial"] for event in events_of(place, "raising", "trial_failed")] == [1, 1, 1]
    assert "1 trial failed" in place.output("raising")
    assert "Traceback" not in place.output("raising")
    before = (place.root / "raising" / "record.jsonl").read_bytes()
    assert place.run("raising", arguments) == 0
    assert (place.root / "raising" / "record.jsonl").read_bytes() == before, (
        "nothing is tried again unasked"
    )

    cause.unlink()
    assert place.run("raising", f"{arguments} --retry-failed", trainable=Raising) == 0
    check_whole(place, "raising", 4)
    assert place.tables("raising")[0]["state"].tolist() == ["complete"] * 4


def test_a_worker_that_takes_too_much_memory_is_named_as_that(tmp_path, home):
    share = psutil.virtual_memory().percent / 100 + 0.08
    limits = {"RAY_memory_usage_threshold": f"{share:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    with ray_head(home, **limits) as (address, _):
        place = Place(tmp_path, address, home)
        assert (
            place.run("hoarding", "--samples 2 --epochs 1 --max-concurrent 1", trainable=Hoarding)
            == 0
        )
    trials, _ = place.tables("hoarding")
    assert trials["state"].tolist() == ["complete", "failed"]
    assert trials["error"][1].startswith("out of memory: ")
    assert "\n" not in trials["error"][1]


@pytest.fixture(scope="module")
def interrupted_in_a_trial(place):
    """A driver killed in its first trial, with two checkpoints kept."""
    driver = place.start("cut", "--samples 1 --epochs 25 --checkpoint-seconds 0")
    wait_for(lambda: place.events("cut", "epoch") >= 5)
    kill(driver)
    return sorted(
        (place.root / "cut" / "checkpoints" / "0").glob("*.pt"),
        key=lambda path: int(path.stem.split("-")[0]),
    )


@pytest.mark.parametrize("harm", ["none", "newest lost", "newest torn", "all lost"])
def test_a_lost_or_torn_checkpoint_falls_back_and_the_record_says_so(
    place, interrupted_in_a_trial, harm
):
    older, newest = (int(path.stem.split("-")[0]) for path in interrupted_in_a_trial)
    recorded, name = place.events("cut", "epoch"), harm.replace(" ", "-")
    shutil.copytree(place.root / "cut", place.root / name)
    home = place.root / name / "checkpoints" / "0"
    path = home / interrupted_in_a_trial[1].name
    if harm == "newest lost":
        path.unlink()
    elif harm == "newest torn":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif harm == "all lost":
        shutil.rmtree(home)
    assert place.run(name, "--max-concurrent 1") == 0, place.output(name)
    (continued,) = events_of(place, name, "trial_continued")
    usable = newest if newest <= recorded else older
    expected = {"none": usable, "newest lost": older, "newest torn": older, "all lost": 0}
    assert continued["from_epoch"] == expected[harm]
    assert ("lost" in continued["note"]) == ("lost" in harm)
    assert ("torn" in continued["note"]) == ("torn" in harm)
    trials, epochs = place.tables(name)
    assert trials["state"].tolist() == ["complete"]
    assert epochs["epoch"].tolist() == list(range(1, 26))


def test_extending_adds_trials_and_fewer_run_nothing(place):
    for samples in (6, 12, 20):
        assert place.run("extended", f"--samples {samples} --epochs 3 --max-concurrent 2") == 0
        check_whole(place, "extended", samples)
    record = (place.root / "extended" / "record.jsonl").read_bytes()
    for arguments in ("--samples 5", ""):
        # What a driver leaves that is killed between the record of a trial's end and what follows
        # from it.
        left = place.root / "extended" / "checkpoints" / "19"
        left.mkdir(parents=True)
        (left / "3-00000000.pt").touch()
        assert place.run("extended", arguments, report=True) == 0
        assert "nothing to run" in place.output("extended")
        assert not left.parent.exists()
    assert (place.root / "extended" / "record.jsonl").read_bytes() == record
    page = place.root / "extended" / "report" / "index.html"
    written = page.stat().st_mtime_ns
    assert place.run("extended", "", report=True) == 0
    assert f"report: {page}" in place.output("extended")
    assert page.stat().st_mtime_ns == written, "a page that would be the same is not made again"
    assert place.run("extended", "--epochs 4 --seed 9") == 2
    last_line = place.output("extended").splitlines()[-1]
    assert (
        "--epochs: invalid value 4, the study has 3; --seed: invalid value 9, the study has 0"
        in last_line
    )
    assert (place.root / "extended" / "record.jsonl").read_bytes() == record


def test_where_every_trial_diverges_it_says_so(place):
    assert place.run("wild", "--samples 3 --epochs 4", design=WILD, report=True) == 1
    assert place.tables("wild")[0]["state"].tolist() == ["diverged"] * 3
    assert "no trial is complete (3 diverged, 0 failed)" in place.output("wild").splitlines()[-1]
    assert "Traceback" not in place.output("wild")


def test_one_driver_a_study(place):
    driver = place.start("twice", "--samples 4 --epochs 200")
    wait_for(lambda: place.events("twice", "epoch") > 0)
    assert place.run("twice", "--samples 4 --epochs 200") == 2
    assert f"process {driver.pid} on" in place.output("twice").splitlines()[-1]
    kill(driver)
    before = place.events("twice", "epoch")
    driver = place.start("twice", "--samples 4")
    wait_for(lambda: place.events("twice", "epoch") > before)
    kill(driver)


@pytest.fixture
def small_disk(tmp_path):
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mounted)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system needs the right to mount one")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_a_full_disk_stops_the_study_which_goes_on_when_there_is_room(
    small_disk, tmp_path, home, head
):
    place = Place(small_disk, head[0], home, tmp_path)
    stuffing = small_disk / "stuffing"
    stuffing.write_bytes(bytes(3_500_000))
    tell, told = tmp_path / "tell", tmp_path / "told"
    tell.write_text(f'#!/bin/sh\necho "$STUDY_NAME $STUDY_STATUS $STUDY_HEADLINE" > {told}\n')
    tell.chmod(0o755)
    arguments = "--samples 3 --epochs 6 --max-concurrent 1 --checkpoint-seconds 0"
    arguments += f" --notify {tell}"
    assert place.run("full", arguments) == 1
    assert told.read_text().startswith("full incomplete stopped: ")
    last = place.output("full").splitlines()[-1]
    assert "No space left on device; to resume when it can be written to: resnet-study" in last
    assert "Traceback" not in place.output("full")
    place.state("full")
    stuffing.unlink()
    assert place.run("full", arguments) == 0, place.output("full")
    assert told.read_text().startswith("full complete ")
    check_whole(place, "full", 3)
