"""What the terminal says of a study, by hand; on a real terminal as it is seen there."""

import io
import re

import pytest
from records import HEADER
from rich.console import Console

from study.phrases import duration
from study.state import StudyState, TrialRecord
from study.watch.progress import StageProgress, progress
from study.watch.terminal import Lines, LiveView, seconds_saved, status_line, trial_line
from trainables.vocabulary import Stage

SEARCH = Stage.SEARCH


def trial(
    number: int, state: str, epochs: int, accuracy: float = 0.5, error: str = ""
) -> TrialRecord:
    """A trial of the search that took three seconds an epoch, two of them to train."""
    row = {"validation_accuracy": accuracy, "validation_loss": 1.0, "train_seconds": 2.0}
    config = {"learning_rate": 0.0123, "max_epochs": 6}
    return TrialRecord(
        *(number, SEARCH, "random", "k3 s1 pool d18", config, 1, 1),
        state=state,
        error=error,
        epochs=[row] * epochs,
        seconds=3.0 * epochs,
    )


def confirmed(number: int, state: str, epochs: int, accuracy: float, budget: int) -> TrialRecord:
    row = {"test_accuracy": accuracy, "test_loss": 1.0, "validation_accuracy": None}
    config = {"learning_rate": 0.25, "max_epochs": budget}
    return TrialRecord(
        *(number, Stage.CONFIRM, "confirm", "k7 s2 pool d18", config, 1, 1),
        state=state,
        epochs=[row | {"train_seconds": 2.0}] * epochs,
        seconds=2.0 * epochs,
    )


@pytest.fixture
def state() -> StudyState:
    trials = [
        trial(0, "complete", 6, 0.875),
        trial(1, "stopped", 1),
        trial(2, "diverged", 2),
        trial(3, "failed", 0, error="RuntimeError: no memory"),
        trial(4, "running", 3),
    ]
    header = HEADER | {"dataset": {"counts": {"train": 1000, "validation": 100, "test": 11}}}
    return StudyState(header, trials={each.trial: each for each in trials}, winner=trials[0])


@pytest.fixture
def confirming(state) -> StudyState:
    """The search stage as above, and two trials of the confirm stage with unlike budgets."""
    for each in (confirmed(5, "complete", 6, 0.75, 6), confirmed(6, "running", 5, 0.5, 20)):
        state.trials[each.trial] = each
    return state


def test_status_line(state):
    line = "1 running · 1 stopped · 1 diverged · 1 failed · best 87.5% (k3 s1 pool d18)"
    assert status_line(state, StageProgress(SEARCH, 10, before=0.5)) == line
    assert status_line(StudyState(), StageProgress(SEARCH, 10, before=0)) == "0 running"


def test_each_stage_is_counted_by_itself(confirming):
    expected = "1 running · best 87.5% (k3 s1 pool d18)"
    assert status_line(confirming, StageProgress(Stage.CONFIRM, 4, before=0.9)) == expected


def test_progress_counts_ended_trials_whole_and_running_ones_by_epochs(confirming):
    assert progress(confirming, SEARCH, 10) == pytest.approx((4 + 3 / 6) / 10)
    assert progress(confirming, Stage.CONFIRM, 4) == pytest.approx((1 + 5 / 20) / 4)


def test_the_time_left_is_by_what_this_driver_has_done(state, monkeypatch):
    monkeypatch.setattr("study.watch.progress.time.monotonic", lambda: clock)
    clock = 100.0
    stage = StageProgress.begin(state, SEARCH, 10)
    object.__setattr__(stage, "started", 100.0)
    clock = 130.0
    assert stage.seconds_left(state) is None, "nothing done yet, whatever earlier drivers did"
    for number in (5, 6):
        state.trials[number] = trial(number, "complete", 6)
    # 4.5 trials of 10 were there; 2 in 30 s leave 3.5.
    assert stage.seconds_left(state) == pytest.approx(52.5)
    assert status_line(state, stage).endswith(" · 52 s left in this stage")


def test_stopping_early_saves_the_epochs_that_were_not_trained(state):
    state.trials[5] = trial(5, "stopped", 2)
    assert seconds_saved(state) == pytest.approx(5 * 3 + 4 * 3)


def test_trial_lines(confirming):
    about = "k3 s1 pool d18, learning rate 0.012"
    assert [trial_line(each) for each in confirming.ended_trials()] == [
        f"trial 0 complete: {about}, validation accuracy 87.5% at epoch 6",
        f"trial 1 stopped: {about}, validation accuracy 50.0% at epoch 1",
        f"trial 2 diverged: {about}, in epoch 2",
        f"trial 3 failed: {about}: RuntimeError: no memory",
        "trial 5 complete: k7 s2 pool d18, learning rate 0.25, test accuracy 75.0% at epoch 6",
    ]


def test_a_failed_try_is_told_as_one():
    tried = trial(5, "running", 2, error="RuntimeError: boom")
    expected = (
        "trial 5 failed and is tried again: k3 s1 pool d18, learning rate 0.012: RuntimeError: boom"
    )
    assert trial_line(tried) == expected


def logged(state: StudyState, *events: dict, heartbeat: bool = False) -> Lines:
    lines = Lines(heartbeat)
    lines.stage(state, SEARCH, 10)
    for event in events:
        lines.event(state, event)
    return lines


def test_each_trial_that_ended_is_logged_once_the_bad_ones_as_warnings(state, caplog):
    caplog.set_level("INFO", "study")
    state.trials[3].failures = 3
    ends = [{"event": "trial_ended", "trial": number} for number in range(4)]
    logged(state, *ends[:3], {"event": "trial_failed", "trial": 3}, ends[3])
    assert [(record.levelname, record.getMessage().split(":")[0]) for record in caplog.records] == [
        ("INFO", "[search 4/10] trial 0 complete"),
        ("INFO", "[search 4/10] trial 1 stopped"),
        ("WARNING", "[search 4/10] trial 2 diverged"),
        ("WARNING", "[search 4/10] trial 3 failed"),
    ]


def test_a_minute_without_a_line_has_one_where_nothing_is_shown_live(state, caplog, monkeypatch):
    caplog.set_level("INFO", "study")
    clock = 100.0
    monkeypatch.setattr("study.watch.terminal.time.monotonic", lambda: clock)
    beating, silent = logged(state, heartbeat=True), logged(state)
    for clock in (159.0, 161.0, 162.0):  # noqa: B007  # the lambda above reads it
        beating.tick(state)
        silent.tick(state)
    (line,) = caplog.messages
    assert line.startswith("[search 4/10] 1 running · 1 stopped")


@pytest.mark.parametrize("columns", [80, 160])
def test_the_live_view_says_what_runs_what_is_best_and_what_it_cost(confirming, columns):
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=columns, color_system=None)
    view = LiveView(console)
    view.event(confirming, {"event": "epoch", "trial": 4})
    view.stage(confirming, SEARCH, 10)
    lines = [
        line.rstrip() for line in re.sub(r"\x1b\[[^a-zA-Z]*.", "", written.getvalue()).split("\n")
    ]
    view.close()
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines)
    counts = "1 running · 1 complete · 1 stopped · 1 diverged · 1 failed"
    assert re.search(rf"^search 4/10 ━{{9,24}} {counts}$", text, re.M)
    # 1,000 training images in two seconds.
    running = r"^trial 4 +k3 s1 pool d18 +0\.012 +3/6 +50\.0% +500 +0 s ago$"
    assert re.search(running, text, re.M)
    best = r"^best of the search\ntrial 0 +k3 s1 pool d18 +0\.012 +6/6 +87\.5% +complete$"
    assert re.search(best, text, re.M)
    last = r"^last ended\ntrial 3 +k3 s1 pool d18 +0\.012 +0/6 +– +failed$"
    assert re.search(last, text, re.M)
    # Half of a GPU: 12 epochs of 3 s and 11 of 2 s. The stopped trial had five epochs to come.
    assert "29 GPU-seconds spent, about 8 saved by stopping trials early" in text


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (90000, "25.0 h")],
)
def test_duration(seconds, expected):
    assert duration(seconds) == expected
