"""When a trial is stopped, worked out by hand on a real ASHA."""

import math
import random
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.scheduler import StudyAsha, build_scheduler, replay, rungs
from study.state import StudyState, TrialRecord


def add(asha: StudyAsha, name: str, origin: str = "random") -> SimpleNamespace:
    trial = SimpleNamespace(trial_id=f"tune-{name}", config={"trial": name, "origin": origin})
    asha.on_trial_add(None, trial)
    return trial


def goes_on(asha: StudyAsha, trial: SimpleNamespace, accuracy: float, epoch: int = 1) -> bool:
    result = {"epoch": epoch, "validation_accuracy": accuracy, "diverged": False}
    return asha.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE


def readings(asha: StudyAsha, epoch: int) -> dict[str, float]:
    (bracket,) = asha._brackets
    return dict(bracket._rungs)[epoch]


@pytest.mark.parametrize(
    ("budget", "epochs"),
    [
        (2, [1]),
        (4, [1]),
        (5, [1]),
        (6, [1, 3]),
        (9, [1, 3]),
        (18, [1, 3, 9]),
        (21, [3, 9]),
        (60, [3, 9, 27]),
    ],
)
def test_rungs(budget, epochs):
    assert rungs(budget) == epochs
    (bracket,) = StudyAsha(budget)._brackets
    assert sorted(epoch for epoch, _ in bracket._rungs) == epochs


def test_the_best_third_goes_on():
    asha = StudyAsha(6)
    assert goes_on(asha, add(asha, "first"), 0.50), "there is nothing to compare with"
    assert not goes_on(asha, add(asha, "b"), 0.40)
    # Of 0.40 and 0.50 the 66.7th percentile is 0.4667, of 0.40, 0.46 and 0.50 it is 0.4733.
    assert not goes_on(asha, add(asha, "c"), 0.46)
    assert goes_on(asha, add(asha, "d"), 0.4734)
    # Of 0.40, 0.46, 0.4734 and 0.50 it is 0.4734 itself: who is as good goes on.
    assert goes_on(asha, add(asha, "e"), 0.4734)


def test_between_rungs_nothing_is_stopped():
    asha = StudyAsha(6)
    for name, accuracy in (("a", 0.9), ("b", 0.9)):
        assert goes_on(asha, add(asha, name), accuracy)
    late = add(asha, "c")
    assert goes_on(asha, late, 0.95)
    assert goes_on(asha, late, 0.0, epoch=2)
    assert goes_on(asha, late, 0.0, epoch=3), "the first at its rung"
    assert not goes_on(asha, add(asha, "d"), 0.95 - 0.06)


def test_a_baseline_is_never_stopped_but_its_reading_counts():
    asha = StudyAsha(6)
    assert goes_on(asha, add(asha, "good", "baseline:good"), 0.5)
    assert not goes_on(asha, add(asha, "b"), 0.4)
    weak = add(asha, "weak", "baseline:weak")
    for epoch in range(1, 7):
        assert goes_on(asha, weak, 0.1, epoch)
    assert readings(asha, 1) == {"good": 0.5, "b": 0.4, "weak": 0.1}
    # Of 0.1, 0.4 and 0.5 the 66.7th percentile is 0.4333; without the weak baseline it were 0.4667.
    assert goes_on(asha, add(asha, "c"), 0.44)


def test_a_diverged_trial_leaves_no_reading():
    asha = StudyAsha(6)
    assert goes_on(asha, add(asha, "a"), 0.5)
    lost = add(asha, "lost")
    asha.on_trial_complete(
        None, lost, {"epoch": 1, "validation_accuracy": math.nan, "diverged": True}
    )
    assert readings(asha, 1) == {"a": 0.5}
    assert not goes_on(asha, add(asha, "b"), 0.49)
    assert goes_on(asha, add(asha, "c"), 0.51)


def test_a_crashed_trial_is_forgotten_without_an_error():
    asha = StudyAsha(6)
    lost = add(asha, "lost")
    asha.on_trial_error(None, lost)
    assert readings(asha, 1) == {}


def test_a_trial_that_is_tried_again_keeps_its_reading():
    asha = StudyAsha(6)
    first = add(asha, "first")
    assert goes_on(asha, first, 0.5)
    asha.on_trial_error(None, first)
    again = add(asha, "first")
    again.trial_id = "another"
    assert goes_on(asha, again, 0.1), "what it reported first stands"
    assert readings(asha, 1) == {"first": 0.5}


@pytest.mark.parametrize("seed", range(5))
def test_replayed_readings_make_the_decisions_that_were_made(seed):
    """Trials report in a random order; then all of it is replayed up to each moment."""
    draw = random.Random(seed)
    asha, state, live = StudyAsha(9), StudyState(), {}
    for number in range(8):
        origin = "baseline:b" if number == 0 else "random"
        state.trials[number] = TrialRecord(number, "search", origin, "arm", {}, 1, 1)
        live[number] = add(asha, number, origin)
    while live:
        number = draw.choice(list(live))
        trial, accuracy = state.trials[number], draw.random()
        epoch = len(trial.epochs) + 1
        stopped = epoch == 9 or not goes_on(asha, live[number], accuracy, epoch)
        trial.epochs.append({"validation_accuracy": accuracy})
        state.reported.append((number, epoch))
        if epoch < 9:
            assert (number in replay(StudyAsha(9), state, "search")) == stopped
        if stopped:
            trial.state = "stopped"
            del live[number]
    fresh = StudyAsha(9)
    replay(fresh, state, "search")
    assert [readings(fresh, epoch) for epoch in (1, 3)] == [
        readings(asha, epoch) for epoch in (1, 3)
    ]


def test_the_confirm_stage_is_not_replayed():
    """It reads no validation images, and its trials are not compared with those of the search."""
    state = StudyState()
    for number, stage in enumerate(("search", "confirm", "search")):
        state.trials[number] = TrialRecord(number, stage, "random", "arm", {}, 1, 1)
        state.trials[number].epochs = [{"validation_accuracy": (0.5, None, 0.4)[number]}]
        state.reported.append((number, 1))
    asha = StudyAsha(6)
    assert replay(asha, state, "search") == {2}
    assert readings(asha, 1) == {0: 0.5, 2: 0.4}


def test_fifo_stops_nothing():
    fifo = build_scheduler("fifo", 6)
    assert type(fifo) is FIFOScheduler
    for name, accuracy in (("a", 0.9), ("b", 0.0)):
        trial = SimpleNamespace(trial_id=name, config={"origin": "random"})
        assert goes_on(fifo, trial, accuracy)
    assert isinstance(build_scheduler("asha", 6), StudyAsha)
