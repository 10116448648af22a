"""Small studies by events."""

import pytest
from records import HEADER, end, epoch, start
from stories import Story

from study.record import Record


@pytest.fixture
def folder(tmp_path):
    """A study of five trials: complete, stopped, diverged, failed and still running."""
    record = Record(tmp_path / "s", HEADER)
    record.append("driver_started", pid=1, host="here")
    for number in range(5):
        start(record, number, "baseline:b" if number == 0 else "random")
    epoch(record, 0, 1, 0.5)
    epoch(record, 1, 1, 0.25)
    end(record, 1, "stopped")
    epoch(record, 0, 2, 0.75, 0.3)
    end(record, 0, "complete")
    epoch(record, 2, 1, None, None)
    end(record, 2, "diverged")
    end(record, 3, "failed", 'RuntimeError: a "quoted", comma')
    epoch(record, 4, 1, 0.9)
    record.append("driver_ended", seconds=12.5)
    record.close()
    return tmp_path / "s"


@pytest.fixture
def story() -> Story:
    """The winner is trial 2: kernel 5, depth 18, learning rate 0.2."""
    story = Story()
    story.baseline("first", 0.2, 0.3, 0.4)
    story.baseline("second", 0.9, 0.95)  # kernel 7, better than all of kernel 7 that was searched
    story.searched("complete", 0.5, 0.6, 0.97, learning_rate=0.2, stem_kernel=5, depth=18)
    story.searched("complete", 0.5, 0.6, 0.70, learning_rate=0.3, stem_kernel=3, depth=10)
    story.searched("stopped", 0.8, learning_rate=0.4, stem_kernel=7, depth=10)
    story.searched("complete", 0.5, 0.6, 0.65, learning_rate=0.5, stem_kernel=7, depth=10)
    story.searched("diverged", 0.99, learning_rate=0.6, stem_kernel=7, depth=10)
    story.searched("running", 0.99, learning_rate=0.7, stem_kernel=7, depth=10)
    story.searched("failed", learning_rate=0.8, stem_kernel=7, depth=10)
    return story
