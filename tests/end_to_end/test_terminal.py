"""A study does not depend on who watches: what cannot be shown is dropped or escaped, the study
runs to its end, and its log has everything."""

import os
import signal

import pytest
from commands import wait_for
from drivers import Place
from terminals import Terminal

pytestmark = pytest.mark.slow

STUDY = "--samples 2 --epochs 2 --max-concurrent 1"


@pytest.fixture(scope="module")
def place(tmp_path_factory, home, head):
    return Place(tmp_path_factory.mktemp("watched"), head[0], home)


def check_complete(place: Place, name: str) -> None:
    assert place.tables(name)[0]["state"].tolist() == ["complete"] * 2
    assert place.state(name).ended is not None
    log = (place.root / name / "study.log").read_text()
    assert "[search 1/2] trial 0 complete" in log and "[search 2/2] trial 1 complete" in log


def test_a_reader_who_leaves_after_three_lines(place):
    """As `| head -3`."""
    pipe = place.root / "pipe"
    os.mkfifo(pipe)
    driver = place.start("piped", STUDY, output=str(pipe))
    with pipe.open() as lines:
        assert next(lines) == "data set: digits\n"
        next(lines), next(lines)
    assert place.end(driver) == 0
    check_complete(place, "piped")


def test_a_full_disk_below_the_output(place):
    assert place.run("full", STUDY, output="/dev/full") == 0
    check_complete(place, "full")


def test_a_terminal_that_is_closed_while_its_hangup_is_ignored(place):
    """As after `nohup`, or where a shell leaves its jobs running."""
    terminal = Terminal()
    driver = place.start("left", STUDY, output=terminal.name, nohup=True)
    wait_for(lambda: place.events("left", "trial_started"))
    terminal.close()
    os.kill(driver.pid, signal.SIGHUP)
    assert place.end(driver) == 0
    check_complete(place, "left")


def test_a_terminal_that_speaks_ascii(place):
    assert place.run("ascii", STUDY, encoding="ascii") == 0, place.output("ascii")
    check_complete(place, "ascii")
    assert r"images of 1\xd716\xd716 pixels" in place.output("ascii")
    assert "images of 1×16×16 pixels" in (place.root / "ascii" / "study.log").read_text()
