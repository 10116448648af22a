"""Surfaces get every event of the record, and cannot break a study."""

import pytest
from records import HEADER, end, epoch, start

from study.record import Record
from study.watch.surfaces import Surface, Surfaces


class Heard(Surface):
    """Keeps what it is told."""

    name = "heard"

    def __init__(self):
        self.told = []

    def start(self, state):
        self.told.append(("start", len(state.trials)))

    def stage(self, state, stage, trials):
        self.told.append((stage, trials))

    def event(self, state, event):
        self.told.append((event["event"], len(state.trials[event["trial"]].epochs)))

    def tick(self, state):
        self.told.append("tick")

    def close(self):
        self.told.append("close")


class Failing(Heard):
    """Cannot take the second epoch."""

    name = "failing"

    def event(self, state, event):
        super().event(state, event)
        if event["event"] == "epoch":
            raise OSError(28, "No space left on device")


@pytest.fixture
def record(tmp_path):
    record = Record(tmp_path / "s", HEADER)
    start(record, 0)
    yield record
    record.close()


def test_a_surface_gets_what_was_there_and_then_each_event_once_it_is_in_the_state(record):
    heard = Heard()
    surfaces = Surfaces(record, [heard])
    surfaces.stage("search", 3)
    epoch(record, 0, 1, 0.5)
    surfaces.tick()
    end(record, 0, "stopped")
    surfaces.close()
    assert heard.told == [
        ("start", 1),
        ("search", 3),
        ("epoch", 1),
        "tick",
        ("trial_ended", 1),
        "close",
    ]


def test_one_that_fails_is_closed_with_a_warning_and_the_others_and_the_record_go_on(
    record, caplog
):
    failing, heard = Failing(), Heard()
    Surfaces(record, [failing, heard])
    epoch(record, 0, 1, 0.5)
    epoch(record, 0, 2, 0.6)
    assert failing.told == [("start", 1), ("epoch", 1), "close"]
    assert heard.told == [("start", 1), ("epoch", 1), ("epoch", 2)]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning == "failing: not written any more: [Errno 28] No space left on device"
    assert len(record.state.trials[0].epochs) == 2
