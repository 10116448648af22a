"""Signals end a study in good order: real processes, a real Ray."""

import signal
import time

import psutil
import pytest
from commands import Place, alive, epochs_recorded, wait_for

from analysis.load import load_study
from analysis.report.wording import scope
from study.record import read_record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory, squares) -> Place:
    return Place(tmp_path_factory.mktemp("place"), squares)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_study_ends_in_good_order(place, number):
    name = f"interrupted-{number}"
    study = place.root / "results" / name
    driver = place.start(*"--samples 8 --epochs 500 --max-concurrent 2 --name".split(), name)
    wait_for(lambda: epochs_recorded(study) >= 2)
    children = psutil.Process(driver.pid).children(recursive=True)
    assert children
    asked = time.monotonic()
    driver.send_signal(number)
    output, _ = driver.communicate(timeout=120)
    assert time.monotonic() - asked < 15
    assert driver.returncode == 130, output
    assert "Traceback" not in output
    assert output.splitlines()[-1].startswith("to resume: python ")
    assert f"--name {name}" in output.splitlines()[-1]
    assert not alive(children)
    state = read_record(study)
    assert {trial.state for trial in state.trials.values()} == {"running"}
    assert state.ended is None and state.started is None, "the driver has ended, the study has not"
    assert "; the study is not finished" in scope(load_study(study))
    assert not list(study.rglob("*.tmp"))


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
    output = driver.communicate(timeout=10)
    # By itself, or by one of the signals (each seen once in many runs, why is not known): at once
    # it is.
    assert driver.returncode in (130, -signal.SIGINT, -signal.SIGTERM), output
    wait_for(lambda: not alive(trials), seconds=15)
    assert sum(len(trial.epochs) for trial in read_record(study).trials.values()) >= recorded


def test_an_interrupt_before_the_first_trial_leaves_nothing(tmp_path, pets):
    place = Place(tmp_path, pets)
    process = place.start("--samples", "1", "--epochs", "1", "--skip-bad-images")
    assert process.stdout is not None
    assert process.stdout.readline() == f"data set: {pets}\n"  # next come the images, then Ray
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert not (tmp_path / "results").exists()
    assert not alive(children)
