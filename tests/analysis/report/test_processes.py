"""Figures are drawn in processes that end with the one that asked for them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from commands import alive, wait_for
from terminals import hear_signals

from analysis.report.processes import map_on_cores


def halved(number: int) -> float:
    if number < 0:
        raise OSError(28, "No space left on device")
    return number / 2


def test_results_come_in_the_order_of_the_items():
    assert map_on_cores(halved, range(5)) == [0, 0.5, 1, 1.5, 2]
    assert map_on_cores(halved, []) == []


def test_what_an_item_raises_is_raised_here():
    with pytest.raises(OSError, match="No space left") as raised:
        map_on_cores(halved, [1, -1, 2])
    assert raised.value.errno == 28


@pytest.mark.parametrize(
    ("ended_by", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["kill", "Ctrl-C"]
)
def test_no_process_outlives_a_command_that_was_ended_while_it_drew(
    study, tmp_path, ended_by, status
):
    command = [sys.executable, "-P", "-m", "analysis", str(study.path), "--out", str(tmp_path)]
    how = {"start_new_session": True, "stderr": subprocess.DEVNULL, "preexec_fn": hear_signals}
    with subprocess.Popen(command, **how) as command_process:
        drawing = drawing_processes(command_process.pid, tmp_path)
        # Ctrl-C reaches every process of a terminal, SIGKILL here the command alone.
        send = os.kill if ended_by == signal.SIGKILL else os.killpg
        send(command_process.pid, ended_by)
        assert command_process.wait(120) == status
    _, alive_still = psutil.wait_procs(drawing, 60)
    assert not alive(alive_still)
    assert not (tmp_path / "index.html").exists()


def drawing_processes(pid: int, out: Path) -> list[psutil.Process]:
    """The processes that draw, once the first figure is there."""
    wait_for(lambda: list(out.glob("figures/*.png")))
    children = psutil.Process(pid).children(recursive=True)
    assert children
    return children
