"""A study does not depend on who watches: what cannot be shown is dropped or escaped, the study
runs to its end, and its log has everything."""

import os
import re
import signal
import time

import pytest
from commands import wait_for
from drivers import Place, Slow
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
        assert next(lines).endswith(" data set: digits\n")
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


def test_the_live_view_stays_in_its_place_and_follows_the_window(place):
    narrow = Place(place.root, place.usual["--address"], place.environment["HOME"])
    del narrow.environment["COLUMNS"]
    terminal = Terminal(80)
    # Many slow epochs: the study must not end before the window has been seen at both sizes.
    arguments = "--samples 24 --epochs 3"
    driver = narrow.start("live", arguments, output=terminal.name, trainable=Slow)
    heads = []
    for columns in (80, 160):
        terminal.resize(columns)
        seen = place.events("live", "epoch")
        wait_for(lambda seen=seen: place.events("live", "epoch") > seen + 2)
        wait_for(lambda: any(line.startswith("search ") for line in terminal.screen))
        time.sleep(1)  # two pictures
        heads.append([line for line in terminal.screen if line.startswith("search ")])
        (head,) = heads[-1]
        assert "━━━" in head
        assert [line.split()[:2] for line in terminal.screen].count(["running", "arm"]) == 1
        assert not any("[search" in line for line in terminal.screen), "ended trials do not scroll"
    assert narrow.end(driver) == 0
    wait_for(lambda: any(line.startswith("study: /") for line in terminal.screen))
    terminal.close()
    assert "━" not in "".join(terminal.screen), "what is left is the plain summary"
    assert "[search 24/24]" in (place.root / "live" / "study.log").read_text()


def test_quiet_is_silent_and_the_log_has_all_of_it(place):
    assert place.run("quiet", f"{STUDY} --quiet") == 0
    check_complete(place, "quiet")
    assert place.output("quiet") == ""


def test_a_terminal_that_speaks_ascii(place):
    assert place.run("ascii", STUDY, encoding="ascii") == 0, place.output("ascii")
    check_complete(place, "ascii")
    assert r"images of 1\xd716\xd716 pixels" in place.output("ascii")
    # Without a terminal lines bear the time, but for the summary.
    lines = place.output("ascii").splitlines()
    (ended,) = [line for line in lines if "[search 2/2]" in line]
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[search 2/2\] trial 1 complete: .*", ended)
    assert any(line.startswith("report: /") for line in lines)
    assert "images of 1×16×16 pixels" in (place.root / "ascii" / "study.log").read_text()
