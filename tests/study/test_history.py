"""What a sampler considers: all that is learnt up to a bound, and of more a part that a resumed
study chooses again."""

import math
from copy import deepcopy
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState
from searches import EPOCHS, RecordedSearcher, Run, accuracy

import study.history
import study.searcher
from study.history import History
from study.state import NotEnded, TrialRecord, state_at_end
from trainables.config import TrialConfig
from trainables.vocabulary import Stage

LEARNT = (TrialState.COMPLETE, TrialState.PRUNED)


@pytest.fixture
def bound(monkeypatch):
    """Sets how many trials are considered."""

    def most(trials: float) -> None:
        for sampler in ("tpe", "gp"):
            monkeypatch.setitem(study.history.ALL_UP_TO, sampler, trials)

    return most


class Spy(optuna.samplers.RandomSampler):
    """A sampler that keeps the trials which it could learn from."""

    seen: list[list[optuna.trial.FrozenTrial]]

    def infer_relative_search_space(self, study, trial):
        self.seen.append(study.get_trials(deepcopy=False))
        return super().infer_relative_search_space(study, trial)


def told(search: RecordedSearcher) -> list[tuple]:
    """What Optuna knows."""
    trials = search.optuna_study.get_trials()
    return [(t.number, t.state, t.params, str(t.intermediate_values), t.values) for t in trials]


def drawn(samples: int, sampler: str = "tpe", crashing: tuple[int, ...] = ()) -> list[dict]:
    run = Run(RecordedSearcher(sampler, samples), diverging=(5,), crashing=crashing).all()
    return [config["config"] for config in run.configs]


def test_up_to_the_bound_trials_are_drawn_as_without_one(bound):
    bound(math.inf)
    without = drawn(40, crashing=(7,))
    bound(38)  # of 40, one crashed and the last is being drawn
    assert drawn(40, crashing=(7,)) == without
    bound(30)
    assert drawn(40, crashing=(7,))[:32] == without[:32]
    assert drawn(40, crashing=(7,))[32:] != without[32:]


def test_no_more_than_the_bound_are_considered_and_what_runs(bound, monkeypatch):
    bound(30)
    monkeypatch.setattr(study.searcher, "build_sampler", lambda *_: Spy())
    monkeypatch.setattr(Spy, "seen", [], raising=False)
    search = RecordedSearcher("tpe", 60)
    search.suggest("running")
    run = Run(search, diverging=(5,), crashing=(7,))
    while (order := search.suggest(f"t{len(search.state.trials)}")) is not None:
        run.one(SimpleNamespace(trial_id=f"t{order['trial']}", config=order))
    counts = [sum(trial.state in LEARNT for trial in seen) for seen in Spy.seen]
    # The first three are baselines, the first of them runs, and trial 7 crashes.
    ended = [number - 1 - (number > 7) for number in range(3, 60)]
    assert counts == [count if count <= 30 else 15 for count in ended]
    running = [sum(trial.state == TrialState.RUNNING for trial in seen) for seen in Spy.seen]
    # The one that is being drawn, which has no values yet, is only in what is seen of all.
    assert running == [2 if count <= 30 else 1 for count in ended]
    assert len(search.optuna_study.get_trials()) == 60, "all are there again afterwards"


def test_the_best_the_newest_and_others_are_considered(bound):
    bound(40)
    run = Run(RecordedSearcher("random", 60), diverging=(5, 9)).all()
    history = History("tpe")
    for trial in run.search.state.trials.values():
        history.study.enqueue_trial(trial.config)
        history.tell(history.ask(), trial)
    drawn = []
    for seed in (1, 1, 2):
        with history.considering(0, seed):
            drawn.append([trial.number for trial in history.study.get_trials()])
    assert drawn[0] == drawn[1] != drawn[2], "a function of the seed"
    ended = [t for t in run.search.state.trials.values() if t.state == "complete"]
    best = sorted(ended, key=lambda trial: trial.epochs[-1]["validation_accuracy"])[-5:]
    for numbers in drawn:
        assert len(numbers) == 20
        assert numbers == sorted(numbers)
        assert {trial.trial for trial in best} <= set(numbers)
        assert set(range(55, 60)) <= set(numbers)


def test_what_is_best_is_what_tpe_takes_for_it():
    """Complete trials before stopped ones, later before earlier, and at last what diverged."""
    history = History("tpe")
    for end, values in (
        ("stopped", [0.99]),
        ("stopped", [0.1, 0.2, 0.3]),
        ("diverged", [0.5, math.nan]),
        ("complete", [0.1] * EPOCHS),
        ("complete", [0.2] * EPOCHS),
        ("failed", [0.9]),
        ("stopped", [0.1, 0.1]),
    ):
        trial = TrialRecord(0, Stage.SEARCH, "random", "arm", {}, 1, 1, state=end)
        for epoch, value in enumerate(values, start=1):
            reading = None if math.isnan(value) else value
            trial.epochs.append({"epoch": epoch, "validation_accuracy": reading})
        history.tell(history.ask(), trial)
    assert [rank[-1] for rank in history._ranked] == [0, 2, 6, 1, 3, 4]


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_beyond_the_bound_a_resumed_study_draws_what_one_that_never_stopped_draws(bound, sampler):
    bound(20)
    state = Run(RecordedSearcher("random", 120), diverging=(4,), crashing=(7,)).all().search.state
    straight = RecordedSearcher(sampler, 122, state=state)
    straight.suggest("t120")
    straight.read(120, 1, 0.5)
    straight.finish("t120", 120, "stopped")
    resumed = RecordedSearcher(sampler, 122, state=deepcopy(state))
    order = straight.suggest("t121")
    assert resumed.suggest("t121") == order
    assert (order["trial"], order["origin"]) == (121, "model")
    (history,) = resumed._histories
    assert history.considered == 10 < history.learnt


def test_learnt_step_by_step_is_what_is_learnt_at_once():
    search, ends = RecordedSearcher("tpe", 16), {5: "diverged", 7: "failed"}
    running: list[int] = []
    while search.suggest(f"t{len(search.state.trials)}") != "FINISHED":
        running.append(len(search.state.trials) - 1)
        while len(running) == 3 or (running and len(search.state.trials) == 16):
            number = running.pop(0)
            for epoch in range(1, EPOCHS if number % 2 else EPOCHS + 1):
                search.read(number, epoch, accuracy(number, epoch))
                search.learn()
            end = ends.get(number, state_at_end(EPOCHS - number % 2, False, EPOCHS))
            search.finish(f"t{number}", number, end)
            search.learn()
            fresh = RecordedSearcher("tpe", 16, state=search.state)
            fresh.learn()
            assert told(search) == told(fresh)
            assert search._histories[0]._ranked == sorted(fresh._histories[0]._ranked)
    assert len(search._asked) == 0, "nothing is kept of what has ended"


def test_what_has_ended_is_looked_at_once_more_and_never_again():
    search = RecordedSearcher(samples=6)
    look = NotEnded(search.state, Stage.SEARCH).look
    for number in range(4):
        search.suggest(f"t{number}")
    search.state.trials[4] = TrialRecord(4, Stage.CONFIRM, "confirm", "arm", {}, 1, 1)
    assert [trial.trial for trial in look()] == [0, 1, 2, 3]
    search.finish("t1", 1, "stopped")
    search.record(5, Stage.SEARCH, "random", TrialConfig())
    assert [trial.trial for trial in look()] == [0, 1, 2, 3, 5]
    assert [trial.trial for trial in look()] == [0, 2, 3, 5]


def test_that_a_part_is_considered_is_said_once(bound, caplog):
    bound(20)
    caplog.set_level("INFO", "study")
    Run(RecordedSearcher("tpe", 20)).all()
    assert caplog.messages == []
    Run(RecordedSearcher("tpe", 30)).all()
    (line,) = caplog.messages
    assert "learns from 10 of the trials that have ended" in line
