"""What the searcher draws in factorial and conditional designs, and outside of a design."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from optuna.trial import TrialState
from searches import EPOCHS, SEARCH, RecordedSearcher, Run, accuracy, draw_all, factorial

from study.designs import DESIGNS, Factor
from study.state import StudyState
from trainables.config import TrialConfig


def levels(config: dict) -> tuple:
    return tuple(config["config"][name] for name in ("stem_kernel", "stem_stride", "stem_maxpool"))


ARMS = list(itertools.product((2, 3, 5, 7), (1, 2), (True, False)))


@pytest.mark.parametrize("sampler", ["qmc", "random", "tpe"])
def test_in_a_factorial_design_every_arm_gets_the_same_number_in_turn(sampler):
    drawn = draw_all(factorial(sampler, 48))
    assert [levels(config) for config in drawn] == ARMS * 3
    assert [config["trial"] for config in drawn] == list(range(48))
    assert {config["origin"] for config in drawn} == {"grid"}
    for config in drawn:
        trial = TrialConfig.from_dict(config["config"])
        assert 3e-4 <= trial.learning_rate <= 0.3
        assert (trial.depth, trial.init, trial.normalize, trial.max_epochs) == (
            18,
            "he",
            "data",
            EPOCHS,
        )


def test_under_qmc_all_arms_of_a_factorial_design_have_the_same_learning_rates():
    drawn = draw_all(factorial("qmc", 64))
    rounds = [
        {config["config"]["learning_rate"] for config in drawn[16 * turn : 16 * turn + 16]}
        for turn in range(4)
    ]
    assert [len(rates) for rates in rounds] == [1] * 4
    (rates,) = zip(*rounds, strict=True)
    # Four points of a scrambled Sobol sequence: one in each quarter of the range.
    assert sorted((np.log(np.array(rates) / 3e-4) / np.log(1000) * 4).astype(int)) == [0, 1, 2, 3]


def test_at_random_the_arms_have_learning_rates_of_their_own():
    rates = [config["config"]["learning_rate"] for config in draw_all(factorial("random", 32))]
    assert len(set(rates)) == 32


def test_a_factorial_design_models_each_arm_from_its_own_trials():
    recipe = DESIGNS["recipe"]
    search = factorial("tpe", 48, design=recipe)
    origins = [config["origin"] for config in draw_all(search)]
    # Ten of each of the four arms, then each by a model of its own.
    assert origins == ["grid"] * 40 + ["model"] * 8
    search.learn()
    for turn, study in enumerate(search.optuna_studies):
        mine = list(search.state.trials.values())[turn::4]
        for known, trial in zip(study.get_trials(), mine, strict=True):
            assert known.params == {"learning_rate": trial.config["learning_rate"]}
            assert known.intermediate_values == {1: accuracy(trial.trial, 1)}
            assert known.state == TrialState.PRUNED


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_a_factorial_study_that_was_resumed_draws_what_one_that_never_stopped_draws(sampler):
    straight = draw_all(factorial(sampler, 48))
    first = factorial(sampler, 32)
    assert draw_all(first) == straight[:32]
    assert draw_all(factorial(sampler, 48, first.state)) == straight[32:]


CONDITIONAL = replace(
    SEARCH,
    factors=(
        SEARCH.factors[0],
        Factor("optimizer", "scientific", ("sgd", "adam")),
        Factor("momentum", "nuisance", low=0.5, high=0.8, when={"optimizer": "sgd"}),
        Factor("nesterov", "nuisance", (True, False), when={"optimizer": "sgd"}),
    ),
    fixed={"width": 4},
    baselines={},
)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
@pytest.mark.parametrize("mode", ["sampled", "factorial"])
def test_a_conditional_factor_is_drawn_only_where_it_exists(sampler, mode):
    search = factorial(sampler, 40, design=replace(CONDITIONAL, search=mode))
    configs = [config["config"] for config in draw_all(search)]
    by_optimizer = {
        name: [c for c in configs if c["optimizer"] == name] for name in ("sgd", "adam")
    }
    assert all(len(each) >= 5 for each in by_optimizer.values())
    assert {(c["momentum"], c["nesterov"]) for c in by_optimizer["adam"]} == {(0.9, False)}, (
        "as usual"
    )
    assert all(0.5 <= c["momentum"] <= 0.8 for c in by_optimizer["sgd"])
    assert len({c["momentum"] for c in by_optimizer["sgd"]}) == len(by_optimizer["sgd"])
    assert {c["nesterov"] for c in by_optimizer["sgd"]} == {True, False}
    params = [trial.params for study in search.optuna_studies for trial in study.get_trials()]
    asked = {"learning_rate"} | ({"optimizer"} if mode == "sampled" else set())
    assert Counter(frozenset(each) for each in params) == {
        frozenset(asked): len(by_optimizer["adam"]),
        frozenset(asked | {"momentum", "nesterov"}): len(by_optimizer["sgd"]),
    }


def test_a_conditional_study_that_was_resumed_draws_what_one_that_never_stopped_draws():
    straight = draw_all(factorial("tpe", 24, design=CONDITIONAL))
    first = factorial("tpe", 16, design=CONDITIONAL)
    draw_all(first)
    assert draw_all(factorial("tpe", 24, first.state, CONDITIONAL)) == straight[16:]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc"])
def test_a_baseline_may_lie_outside_of_what_is_searched(sampler):
    """Optuna takes no such trial and does not learn of it; it is a trial of the study all the
    same."""
    outside = {
        "level": {"stem_kernel": 2},
        "rate": {"learning_rate": 1.0},
        "inside": {"stem_kernel": 3},
    }
    factors = (SEARCH.factors[0], Factor("stem_kernel", "scientific", (3, 5, 7)))
    design = replace(SEARCH, factors=factors, baselines=outside)

    def searcher(samples: int, state: StudyState | None = None) -> RecordedSearcher:
        return RecordedSearcher(sampler, samples, state=state, design=design)

    run = Run(searcher(16)).all()
    assert [config["origin"] for config in run.configs[:4]] == [
        *(f"baseline:{name}" for name in outside),
        "random",
    ]
    assert [config["config"]["stem_kernel"] for config in run.configs[:3]] == [2, 7, 3]
    assert run.configs[1]["config"]["learning_rate"] == 1.0
    assert {config["config"]["stem_kernel"] for config in run.configs[3:]} == {3, 5, 7}
    trials = run.search.optuna_study.get_trials()
    assert len(trials) == 14
    for trial, config in zip(trials, run.configs[2:], strict=True):
        assert trial.params == {
            name: config["config"][name] for name in ("learning_rate", "stem_kernel")
        }
        assert list(trial.intermediate_values.values()) == run.curves[config["trial"]]
    # And a study that was resumed draws what one that never stopped draws.
    first = Run(searcher(12)).all()
    assert searcher(16, first.search.state).suggest("x")["config"] == run.configs[12]["config"]
