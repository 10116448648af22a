"""Signals end a study in good order and leave no temporary files: real processes, a real Ray, a
real terminal."""

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest
from commands import Place, alive, epochs_recorded, wait_for
from terminals import Terminal

from analysis.load import load_study
from analysis.report.wording.scope_text import scope
from study.record import read_record

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path, squares):
    """With a temporary folder of its own, of a short path for the sockets of Ray."""
    place = Place(tmp_path, squares)
    temporary = tempfile.mkdtemp(prefix="t-", dir="/tmp")
    # Tune snapshots itself at every step, and so also while the study ends.
    place.environment |= {"TMPDIR": temporary, "TUNE_GLOBAL_CHECKPOINT_S": "0"}
    yield place
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture
def terminal():
    terminal = Terminal()
    yield terminal
    terminal.close()


def press_ctrl_c(terminal: Terminal, driver: subprocess.Popen) -> None:
    terminal.type(b"\x03")


def terminate(terminal: Terminal, driver: subprocess.Popen) -> None:
    driver.send_signal(signal.SIGTERM)


def hang_up(terminal: Terminal, driver: subprocess.Popen) -> None:
    terminal.close()


def temporary_files(place: Place) -> set[str]:
    """All but Ray's sessions, where its logs are, and torch's cache."""
    names = {path.name for path in Path(place.environment["TMPDIR"]).iterdir()}
    return {name for name in names if name != "ray" and not name.startswith("torchinductor_")}


@pytest.mark.parametrize(
    "end", [press_ctrl_c, terminate, hang_up], ids=["Ctrl-C", "SIGTERM", "hangup"]
)
def test_an_interrupted_study_ends_in_good_order(place, terminal, end):
    study = place.root / "results" / "search-squares"
    driver = place.start_on(terminal, *"--samples 8 --epochs 500 --max-concurrent 2".split())
    wait_for(lambda: epochs_recorded(study) >= 2)
    children = psutil.Process(driver.pid).children(recursive=True)
    assert children
    end(terminal, driver)
    assert driver.wait(timeout=60) == 130, terminal.text[-2000:]
    wait_for(lambda: not alive(children), seconds=60)
    if end is not hang_up:
        assert "Traceback" not in terminal.text
        last = terminal.text.splitlines()[-1]
        assert last.startswith("to resume: python "), last
    assert "asked to end" in (study / "study.log").read_text()
    state = read_record(study)
    assert {trial.state for trial in state.trials.values()} == {"running"}
    assert state.ended is None and state.started is None, "the driver has ended, the study has not"
    assert "; the study is not finished" in scope(load_study(study))
    assert not list(study.rglob("*.tmp"))
    assert temporary_files(place) == set()


def test_a_second_signal_ends_at_once_and_nothing_is_lost(place):
    study = place.root / "results" / "search-squares"
    driver = place.start("--samples", "4", "--epochs", "500")
    wait_for(lambda: epochs_recorded(study) >= 2)
    children = psutil.Process(driver.pid).children(recursive=True)
    # Two agents of Ray's look for their raylet once a minute only.
    trials = [child for child in children if "Agent" not in " ".join(child.cmdline())]
    recorded = epochs_recorded(study)
    driver.send_signal(signal.SIGINT)
    driver.send_signal(signal.SIGTERM)
    output = driver.communicate(timeout=60)
    # By itself, or by one of the signals (each seen once in many runs, why is not known): at once
    # it is.
    assert driver.returncode in (130, -signal.SIGINT, -signal.SIGTERM), output
    wait_for(lambda: not alive(trials), seconds=60)
    assert sum(len(trial.epochs) for trial in read_record(study).trials.values()) >= recorded
    if driver.returncode == 130:
        assert temporary_files(place) == set()


def test_an_interrupt_before_the_first_trial_leaves_nothing(tmp_path, pets):
    place = Place(tmp_path, pets)
    process = place.start("--samples", "1", "--epochs", "1", "--skip-bad-images")
    assert process.stdout is not None
    assert process.stdout.readline().endswith(
        f" data set: {pets}\n"
    )  # next come the images, then Ray
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert not (tmp_path / "results").exists()
    assert not alive(children)
