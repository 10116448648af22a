"""Ray's head, while it answers, for a while does not, and is gone."""

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from study.cluster.lost import Patience, watch_for

QUICK = Patience(look=0.01, reported=0.1, lost=0.5)
SCRIPT = """
import logging, os, socket, sys
from rich.console import Console
from study.cluster.lost import Patience, ray_watched
from study.signals import Interrupted

logging.getLogger("study").addHandler(logging.StreamHandler(sys.stdout))
head, raylet = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
raylet.bind("raylet")
raylet.listen()
address = f"127.0.0.1:{head.getsockname()[1]}"
interrupted = Interrupted(())
with interrupted.scratch_folder() as scratch:
    with ray_watched(address, "raylet", Console(), interrupted, Patience(0.01, 0.1, 0.5)):
        print(scratch, flush=True)
        {"head": head, "raylet": raylet}[sys.argv[1]].close()
        os.read(0, 1)  # as where the main thread waits in Ray
"""


@pytest.mark.parametrize("what", ["head", "raylet"])
def test_without_head_or_raylet_the_process_ends_and_says_how_to_resume(tmp_path, what):
    driver = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, what],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with driver:
        assert driver.stdout
        scratch, silent, stopped, resume = driver.stdout.read().splitlines()
    assert driver.returncode == 1
    assert "does not answer" in silent and stopped.startswith("stopped: Ray's head at 127.0.0.1:")
    assert resume.startswith("nothing that was recorded is lost; to resume, on any cluster: ")
    assert not Path(scratch).exists()


def test_a_head_that_is_gone_is_reported_and_ends_the_study_once(caplog):
    lost: list[float] = []
    began = time.monotonic()
    watch_for(lambda: False, lambda: lost.append(time.monotonic()), threading.Event(), QUICK)
    (at,) = lost
    assert at - began >= 0.5
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "does not answer" in record.message


def test_a_head_that_comes_back_in_time_ends_nothing(caplog):
    caplog.set_level(logging.INFO, logger="study")
    lost: list[None] = []
    ended = threading.Event()

    def answers() -> bool:
        """Silent until that is reported, and back in the look after it."""
        if len(caplog.records) == 2:
            ended.set()
        return bool(caplog.records)

    watch_for(answers, lambda: lost.append(None), ended, QUICK._replace(lost=60.0))
    assert lost == []
    assert [record.message for record in caplog.records] == [
        "the head of Ray does not answer; the study ends if it stays so",
        "the head of Ray answers again",
    ]


def test_nothing_is_watched_once_the_study_has_ended():
    looks: list[str] = []
    ended = threading.Event()
    ended.set()
    watch_for(lambda: bool(looks.append("look")), lambda: looks.append("lost"), ended, QUICK)
    assert looks == []
