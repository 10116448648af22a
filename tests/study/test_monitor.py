"""What the terminal says, by hand."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from study.monitor import Monitor, progress, status_line, trial_line
from study.phrases import duration
from study.state import StudyState, TrialRecord


def trial(
    number: int, state: str, epochs: int, accuracy: float = 0.5, error: str = ""
) -> TrialRecord:
    rows = [{"validation_accuracy": accuracy, "validation_loss": 1.0} for _ in range(epochs)]
    config = {"learning_rate": 0.0123, "max_epochs": 6}
    return TrialRecord(
        number,
        "search",
        "random",
        "k3 s1 pool d18",
        config,
        1,
        1,
        state=state,
        error=error,
        epochs=rows,
    )


def confirmed(number: int, state: str, epochs: int, accuracy: float, budget: int) -> TrialRecord:
    rows = [
        {"test_accuracy": accuracy, "test_loss": 1.0, "validation_accuracy": None}
        for _ in range(epochs)
    ]
    config = {"learning_rate": 0.25, "max_epochs": budget}
    return TrialRecord(
        number, "confirm", "confirm", "k7 s2 pool d18", config, 1, 1, state=state, epochs=rows
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
    return StudyState(trials={each.trial: each for each in trials})


def test_status_line(state):
    line = "search: 4/10 done · 1 running · 1 stopped · best 87.5% (k3 s1 pool d18) · 12 min left"
    assert status_line(state, "search", 10, 700.0) == line
    assert (
        status_line(StudyState(), "search", 10, None) == "search: 0/10 done · 0 running · 0 stopped"
    )


def test_progress_counts_ended_trials_whole_and_running_ones_by_epochs(state):
    assert progress(state, "search", 10) == pytest.approx((4 + 3 / 6) / 10)


@pytest.fixture
def confirming(state) -> StudyState:
    """The search stage as above, and two trials of the confirm stage with unlike budgets."""
    for each in (confirmed(5, "complete", 6, 0.75, 6), confirmed(6, "running", 5, 0.5, 20)):
        state.trials[each.trial] = each
    return state


def test_each_stage_is_counted_by_itself(confirming):
    expected = "confirm: 1/4 done · 1 running · 0 stopped · best 87.5% (k3 s1 pool d18)"
    assert status_line(confirming, "confirm", 4, None) == expected
    assert status_line(confirming, "search", 10, None).startswith(
        "search: 4/10 done · 1 running · 1 stopped"
    )
    assert progress(confirming, "confirm", 4) == pytest.approx((1 + 5 / 20) / 4)
    assert progress(confirming, "search", 10) == pytest.approx((4 + 3 / 6) / 10)


def test_the_time_left_is_by_what_this_driver_has_done(state, monkeypatch):
    monkeypatch.setattr("study.monitor.time.monotonic", lambda: clock)
    clock = 100.0
    monitor = Monitor(state, "search", 10, Console(file=io.StringIO()))
    clock = 130.0
    monitor.on_step_end(0, [])
    assert "left" not in monitor._progress.tasks[0].description, (
        "nothing done yet, whatever earlier drivers did"
    )
    for number in (5, 6):
        state.trials[number] = trial(number, "complete", 6)
    monitor.on_step_end(0, [])
    # 4.5 trials of 10 were there; 2 in 30 s leave 3.5.
    assert monitor._progress.tasks[0].description.endswith(" · 52 s left")


def test_a_trial_of_the_confirm_stage_is_told_with_its_test_accuracy(confirming, caplog):
    caplog.set_level("INFO", "study")
    monitor = Monitor(confirming, "confirm", 4, Console(file=io.StringIO()))
    monitor.on_trial_complete(0, [], SimpleNamespace(config={"trial": 5}))
    line = "trial 5 complete: k7 s2 pool d18, learning rate 0.25, test accuracy 75.0% at epoch 6"
    assert caplog.messages == [f"[confirm 1/4] {line}"]


def test_trial_lines(state):
    about = "k3 s1 pool d18, learning rate 0.012"
    assert [trial_line(each) for each in state.ended_trials()] == [
        f"trial 0 complete: {about}, validation accuracy 87.5% at epoch 6",
        f"trial 1 stopped: {about}, validation accuracy 50.0% at epoch 1",
        f"trial 2 diverged: {about}, in epoch 2",
        f"trial 3 failed: {about}: RuntimeError: no memory",
    ]


def test_a_failed_try_is_told_as_one():
    tried = trial(5, "running", 2, error="RuntimeError: boom")
    expected = (
        "trial 5 failed and is tried again: k3 s1 pool d18, learning rate 0.012: RuntimeError: boom"
    )
    assert trial_line(tried) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (90000, "25.0 h")],
)
def test_duration(seconds, expected):
    assert duration(seconds) == expected


def watched(state: StudyState, terminal: bool) -> str:
    """What the monitor writes itself while the trials of `state` come in."""
    written = io.StringIO()
    monitor = Monitor(
        state, "search", 10, Console(file=written, force_terminal=terminal, width=200)
    )
    monitor.setup()
    for number in state.trials:
        trial = SimpleNamespace(config={"trial": number})
        monitor.on_step_end(0, [])
        if state.trials[number].state == "failed":
            monitor.on_trial_error(0, [], trial)
        elif state.trials[number].state != "running":
            monitor.on_trial_complete(0, [], trial)
    monitor.close()
    return written.getvalue()


def test_each_trial_that_ended_is_logged_once_the_bad_ones_as_warnings(state, caplog):
    caplog.set_level("INFO", "study")
    watched(state, terminal=False)
    assert [(record.levelname, record.getMessage().split(":")[0]) for record in caplog.records] == [
        ("INFO", "[search 4/10] trial 0 complete"),
        ("INFO", "[search 4/10] trial 1 stopped"),
        ("WARNING", "[search 4/10] trial 2 diverged"),
        ("WARNING", "[search 4/10] trial 3 failed"),
    ]


def test_the_moving_line_is_for_terminals_only(state):
    assert "search: 4/10 done · 1 running · 1 stopped · best 87.5% (k3 s1 pool d18)" in watched(
        state, terminal=True
    )
    assert watched(state, terminal=False).strip() == ""
