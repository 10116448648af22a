"""What a real Optuna study learns while a real ASHA stops trials, and what is drawn next."""

import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from searches import EPOCHS, SEARCH, RecordedSearcher, Run, accuracy

from study.scheduler import StudyAsha
from study.searcher import ListSearcher
from study.state import StudyState, TrialRecord, state_at_end
from trainables.config import TrialConfig


def test_optuna_learns_the_truth():
    run = Run(RecordedSearcher(), diverging=(5, 12), crashing=(7,)).all()
    assert len(run.curves[5]) == 2, "no rung stopped it before it diverged"
    trials = run.search.optuna_study.get_trials()
    assert (
        [trial.number for trial in trials]
        == [config["trial"] for config in run.configs]
        == list(range(20))
    )
    for trial in trials:
        curve = run.curves[trial.number]
        values = [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)]
        if trial.number == 7:
            assert trial.state == TrialState.FAIL
        elif trial.number in (5, 12) and len(curve) == 2:
            assert trial.state == TrialState.PRUNED
            assert values[0] == curve[0]
            assert math.isnan(values[1])
        else:
            assert values == curve
            assert trial.state == (
                TrialState.COMPLETE if len(curve) == EPOCHS else TrialState.PRUNED
            )
        if trial.state == TrialState.COMPLETE:
            assert trial.value == curve[-1]
    states = Counter(trial.state for trial in trials)
    assert states[TrialState.RUNNING] == states[TrialState.WAITING] == 0
    assert states[TrialState.PRUNED] > 5
    assert run.search.optuna_study.best_trial.number == 3


def test_tpe_continues_after_divergence_and_failure():
    run = Run(RecordedSearcher("tpe", samples=16), diverging=(4, 5, 6), crashing=(7, 8)).all()
    assert len(run.configs) == 16
    origins = [config["origin"].split(":")[0] for config in run.configs]
    # Ten must have ended as COMPLETE or PRUNED; two of the first twelve crashed.
    assert origins == ["baseline"] * 3 + ["random"] * 9 + ["model"] * 4


def test_baselines_come_first_and_as_they_stand():
    run = Run(RecordedSearcher(samples=4)).all()
    assert [config["origin"] for config in run.configs] == [
        "baseline:imagenet-stem",
        "baseline:small-stem",
        "baseline:small-stem-no-pool",
        "random",
    ]
    stem = [
        (c["config"]["stem_kernel"], c["config"]["stem_stride"], c["config"]["stem_maxpool"])
        for c in run.configs
    ]
    assert stem[:3] == [(7, 2, True), (2, 1, True), (2, 1, False)]
    assert {c["config"]["init"] for c in run.configs[:3]} == {"default"}
    assert {c["config"]["normalize"] for c in run.configs[:3]} == {"half"}
    assert (run.configs[3]["config"]["init"], run.configs[3]["config"]["normalize"]) == (
        "he",
        "data",
    )
    for config, trial in zip(run.configs, run.search.optuna_study.get_trials(), strict=True):
        assert {name: config["config"][name] for name in trial.params} == trial.params
    assert run.curves.keys() == {0, 1, 2, 3}
    assert all(len(run.curves[baseline]) == EPOCHS for baseline in range(3))


def interleaved(search: RecordedSearcher, at_once: int) -> list[dict]:
    """As Tune runs several trials at once: an epoch of each in turn, a new trial as soon as one has
    ended."""
    asha, configs, running = StudyAsha(EPOCHS), [], []
    while True:
        while len(running) < at_once:
            trial_id = f"tune-{len(configs)}"
            config = search.suggest(trial_id)
            if config in (None, Searcher.FINISHED):
                break
            configs.append(config)
            running.append([SimpleNamespace(trial_id=trial_id, config=config), 0])
            asha.on_trial_add(None, running[-1][0])
        if not running:
            search.learn()
            return configs
        for pair in list(running):
            trial, epoch = pair[0], pair[1] + 1
            pair[1] = epoch
            result = {
                "epoch": epoch,
                "validation_accuracy": accuracy(trial.config["trial"], epoch),
                "diverged": False,
            }
            search.read(trial.config["trial"], epoch, result["validation_accuracy"])
            if epoch == EPOCHS or asha.on_trial_result(None, trial, result) == TrialScheduler.STOP:
                asha.on_trial_complete(None, trial, result)
                search.finish(
                    trial.trial_id, trial.config["trial"], state_at_end(epoch, False, EPOCHS)
                )
                running.remove(pair)


def test_trials_in_flight_are_numbered_held_in_slots_and_all_ended():
    search = RecordedSearcher("tpe", samples=24)
    configs = interleaved(search, at_once=4)
    assert [config["trial"] for config in configs] == list(range(24))
    assert {config["slot"] for config in configs} == {0, 1, 2, 3}
    trials = search.optuna_study.get_trials()
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for config, trial in zip(configs, trials, strict=True):
        epochs = list(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))
        assert all(
            value == accuracy(trial.number, epoch)
            for epoch, value in trial.intermediate_values.items()
        )
        assert {name: config["config"][name] for name in trial.params} == trial.params
    # Ten must have ended before the one that is drawn, and with four in flight that is later than
    # the tenth.
    origins = [config["origin"].split(":")[0] for config in configs]
    model_from = origins.index("model")
    assert 10 < model_from <= 13
    assert set(origins[3:model_from]) == {"random"}
    assert set(origins[model_from:]) == {"model"}


def test_no_more_trials_than_asked_for_and_no_end_while_one_may_fail():
    search = RecordedSearcher(samples=2)
    assert [search.suggest(name)["trial"] for name in "ab"] == [0, 1]
    assert search.suggest("c") is None
    for number, name in enumerate("ab"):
        search.read(number, 1, 0.5)
        search.finish(name, number, "stopped")
    assert search.suggest("d") == Searcher.FINISHED
    assert len(search.optuna_study.get_trials()) == 2


def test_a_trial_that_fails_is_handed_out_again_before_any_other():
    search = RecordedSearcher(samples=3)
    first, second = search.suggest("a"), search.suggest("b")
    search.read(0, 1, 0.5)
    search.on_trial_complete("a", error=True)  # the record has it as running still
    again = search.suggest("c")
    assert again == {**first, "checkpoint": "reference"}
    assert first["checkpoint"] is None
    assert (second["trial"], search.suggest("d")["trial"]) == (1, 2)


def test_trials_are_counted_within_the_stage_and_numbered_over_all():
    search = RecordedSearcher(samples=1)
    search.suggest("a")
    search.finish("a", 0, "failed")
    search.state.trials[1] = TrialRecord(1, "confirm", "confirm", "arm", {}, 1, 1)
    more = RecordedSearcher("qmc", 5, state=search.state)
    drawn = [more.suggest(name) for name in "bcde"]
    assert [config["trial"] for config in drawn] == [2, 3, 4, 5]
    assert [config["origin"] for config in drawn] == [
        "baseline:small-stem",
        "baseline:small-stem-no-pool",
    ] + ["random"] * 2
    assert more.suggest("f") is None


def test_gp_models_once_ten_are_complete_for_it_learns_from_no_others():
    search = RecordedSearcher("gp", samples=19)
    origins = []
    for number in range(19):
        origins.append(search.suggest(str(number))["origin"])
        # Complete are 0, 1, 2, 4, 6, 8, 10, 12, 14 and 16; the others are stopped at the first
        # rung.
        last = EPOCHS if number < 3 or number % 2 == 0 else 1
        for epoch in range(1, last + 1):
            search.read(number, epoch, accuracy(number, epoch))
        search.finish(str(number), number, state_at_end(last, False, EPOCHS))
    assert origins[3:] == ["random"] * 14 + ["model"] * 2


def test_fewer_samples_than_baselines():
    assert [config["origin"] for config in Run(RecordedSearcher(samples=1)).all().configs] == [
        "baseline:imagenet-stem"
    ]


def test_every_suggestion_is_a_valid_trial_with_the_studys_seed():
    for config in Run(RecordedSearcher(samples=30, seed=5)).all().configs:
        trial = TrialConfig.from_dict(config["config"])
        assert 3e-4 <= trial.learning_rate <= 0.3
        assert (trial.seed, trial.max_epochs) == (5, EPOCHS)


def test_slots_are_the_lowest_that_are_free():
    search = RecordedSearcher()
    assert [search.suggest(name)["slot"] for name in "abc"] == [0, 1, 2]
    search.finish("b", 1, "failed")
    assert search.suggest("d")["slot"] == 1
    assert search.suggest("e")["slot"] == 3


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc"])
def test_a_seed_repeats_a_search(sampler):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samples = 15
    first = Run(RecordedSearcher(sampler, samples, seed=1)).all()
    again = Run(RecordedSearcher(sampler, samples, seed=1)).all()
    other = Run(RecordedSearcher(sampler, samples, seed=2)).all()
    assert first.configs == again.configs
    assert [c["config"]["learning_rate"] for c in first.configs[3:]] != [
        c["config"]["learning_rate"] for c in other.configs[3:]
    ]


def test_no_sampler_repeats_a_point():
    for sampler in ("tpe", "random", "qmc"):
        rates = [
            c["config"]["learning_rate"]
            for c in Run(RecordedSearcher(sampler, 20)).all().configs[3:]
        ]
        assert len(set(rates)) == len(rates)


def test_qmc_fills_the_space_evenly():
    search = RecordedSearcher("qmc", samples=67)
    drawn = [search.suggest(str(n))["config"] for n in range(67)][3:]
    for factor in SEARCH.factors[1:]:
        counts = Counter(config[factor.name] for config in drawn)
        expected = 64 / len(factor.levels)
        assert all(abs(counts[level] - expected) <= 2 for level in factor.levels), (
            factor.name,
            counts,
        )
    octaves = (
        np.log(np.array([config["learning_rate"] for config in drawn]) / 3e-4) / np.log(1000) * 8
    )
    assert all(7 <= count <= 9 for count in np.bincount(octaves.astype(int), minlength=8))


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc"])
def test_the_next_trial_depends_on_what_is_recorded_not_on_who_learnt_it(sampler):
    """A searcher made anew, as after a restart, draws what one that never stopped draws."""
    straight = Run(RecordedSearcher(sampler, 14), diverging=(4,), crashing=(7,)).all()
    fresh = RecordedSearcher(sampler, 15, state=straight.search.state)
    longer = Run(RecordedSearcher(sampler, 15), diverging=(4,), crashing=(7,)).all()
    assert fresh.suggest("x")["config"] == longer.configs[14]["config"]
    for old, new in zip(
        straight.search.optuna_study.get_trials(), fresh.optuna_study.get_trials(), strict=False
    ):
        assert (old.state, old.params, str(old.intermediate_values), old.value) == (
            *(new.state, new.params, str(new.intermediate_values), new.value),
        )


def test_asha_stops_by_the_rule_and_never_a_baseline():
    run = Run(RecordedSearcher(samples=20), diverging=(6,)).all()
    read: dict[int, list[float]] = {1: [], 3: []}
    for number, curve in run.curves.items():
        stopped_at = None
        for epoch, value in enumerate(curve, 1):
            if epoch not in read or math.isnan(value):
                continue
            # The best third goes on, counting only those who were there before.
            behind = bool(read[epoch]) and value < np.percentile(read[epoch], 100 * 2 / 3)
            read[epoch].append(value)
            if behind and number > 2:
                stopped_at = epoch
                break
        if number == 6:
            continue
        assert len(curve) == (stopped_at or EPOCHS), number
    (bracket,) = run.asha._brackets
    for epoch, readings in bracket._rungs:
        assert sorted(readings.values()) == sorted(read[epoch])
        assert not any(math.isnan(value) for value in readings.values())


def test_the_confirm_stage_hands_out_what_is_missing_and_then_ends():
    state = StudyState()
    state.trials[0] = TrialRecord(
        0, "search", "random", "arm", {}, 1, 1
    )  # running: not of this stage
    missing = [TrialConfig(seed=seed, width=4) for seed in (1, 2)]
    begun = []

    def begin(number: int, stage: str, origin: str, config: TrialConfig) -> None:
        begun.append((number, stage, origin, config))
        state.trials[number] = TrialRecord(
            number, stage, origin, config.arm, config.to_dict(), 1, 1
        )

    search = ListSearcher(
        "confirm", missing, state, begin, lambda number: f"checkpoint of {number}"
    )
    first, second = search.suggest("a"), search.suggest("b")
    assert begun == [(1, "confirm", "confirm", missing[0]), (2, "confirm", "confirm", missing[1])]
    assert [
        (config["trial"], config["slot"], config["checkpoint"]) for config in (first, second)
    ] == [*((1, 0, None), (2, 1, None))]
    assert first["config"] == missing[0].to_dict()
    assert (first["stage"], first["origin"]) == ("confirm", "confirm")
    search.on_trial_complete("a", error=True)  # a try: the record has it as running
    again = search.suggest("c")
    assert again == {**first, "checkpoint": "checkpoint of 1"}
    assert search.suggest("d") is None, "two of its trials are running"
    for name, number in (("b", 2), ("c", 1)):
        search.on_trial_complete(name)
        state.trials[number].state = "complete"
    assert search.suggest("e") == Searcher.FINISHED
    assert len(begun) == 2
