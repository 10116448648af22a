"""A command is told how a study ended, and cannot change how it ended."""

import logging
import sys
import time

import pytest

from study.provenance import command
from study.watch import notify as module
from study.watch.notify import notify


def test_the_command_is_told_name_status_and_headline(tmp_path):
    told = tmp_path / "told"
    notify(
        f'printf "%s|" "$STUDY_NAME" "$STUDY_STATUS" "$STUDY_HEADLINE" > {told}',
        "flowers",
        "complete",
        "k3 wins; $(rm -rf /nowhere) 'quoted'",
    )
    assert told.read_text() == "flowers|complete|k3 wins; $(rm -rf /nowhere) 'quoted'|"


@pytest.mark.parametrize(
    ("asked", "warning"),
    [
        ("echo no mail server >&2; exit 7", "--notify failed: exit status 7: no mail server"),
        ("exit 3", "--notify failed: exit status 3"),
        ("sleep 60", "--notify failed: Command 'sleep 60' timed out after 0.2 seconds"),
        ("a\0b", "--notify failed: embedded null byte"),
    ],
    ids=["says why", "says nothing", "hangs", "cannot be started"],
)
def test_a_command_that_fails_leaves_a_warning(asked, warning, caplog, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.2)
    with caplog.at_level(logging.WARNING, logger="study"):
        notify(asked, "flowers", "complete", "")
    assert [record.getMessage() for record in caplog.records] == [warning]


def test_what_a_command_started_ends_with_it(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.5)
    notify(f"(sleep 2; touch {tmp_path}/late) & sleep 60; true", "flowers", "complete", "")
    (warning,) = caplog.records
    assert "timed out" in warning.getMessage()
    time.sleep(2.5)
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize(
    "asked", [["--notify", "curl https://secret"], ["--notify=curl https://secret"]], ids=len
)
def test_the_recorded_command_does_not_hold_it(asked, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["study/run.py", "--samples", "3", *asked, "--seed", "1"])
    assert command() == "python study/run.py --samples 3 --seed 1"
