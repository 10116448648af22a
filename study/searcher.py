"""Optuna as a Tune searcher that tells Optuna the truth.

A trial that the scheduler stopped is PRUNED with all its intermediate values; one that diverged is PRUNED
with NaN at its epoch, so that TPE ranks it last (it ignores FAIL); one that crashed is FAIL. Only a trial
that trained all its epochs is COMPLETE. (Tune's own OptunaSearch calls the stopped ones COMPLETE and never
ends the diverged ones.)
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from study.designs import Design, Factor
from study.record import state_at_end

STARTUP_TRIALS = 10
"""Trials that TPE or GP must have learnt from before it models anything; until then they draw at random."""
LEARNS_FROM = {"tpe": (TrialState.COMPLETE, TrialState.PRUNED), "gp": (TrialState.COMPLETE,)}
"""The states of the trials that a model is made from; other samplers make none."""


class SobolSampler(BaseSampler):
    """Trial n is point n of one scrambled Sobol sequence: nothing to remember, so nothing is repeated."""

    def __init__(self, factors: tuple[Factor, ...], seed: int) -> None:
        self._factors = factors
        self._seed = seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        from scipy.stats import qmc  # slow to import, and only this sampler needs it

        names = [factor.name for factor in self._factors]
        column = names.index(param_name)
        sequence = qmc.Sobol(len(names), scramble=True, seed=self._seed)
        if trial.number:
            sequence.fast_forward(trial.number)
        return self._factors[column].at(float(sequence.random(1)[0, column]))


def build_sampler(name: str, design: Design, seed: int, trial: int) -> BaseSampler:
    """The sampler that draws this trial; its random state is a function of (study seed, trial number)."""
    drawn = int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])
    if name == "tpe":
        return optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=drawn)
    if name == "gp":
        return optuna.samplers.GPSampler(n_startup_trials=STARTUP_TRIALS, seed=drawn)
    if name == "qmc":
        return SobolSampler(design.factors, seed)
    return optuna.samplers.RandomSampler(seed=drawn)


def distribution(factor: Factor) -> BaseDistribution:
    """What Optuna draws a factor's values from."""
    if factor.levels:
        return CategoricalDistribution(factor.levels)
    return FloatDistribution(factor.low, factor.high, log=factor.scale == "log")


class StudySearcher(Searcher):
    """Numbers the trials from 0, the design's baselines first, and asks Optuna for the others.

    `suggest` returns Tune's config of a trial: its `trial` number, `stage`, `origin`, the `slot` it runs in
    (the lowest that no other trial holds) and `config`, the fields of its `TrialConfig`.
    """

    def __init__(self, design: Design, sampler: str, samples: int, max_epochs: int, seed: int) -> None:
        super().__init__(metric="validation_accuracy", mode="max")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna_study = optuna.create_study(direction="maximize")
        self._design = design
        self._sampler = sampler
        self._samples = samples
        self._max_epochs = max_epochs
        self._seed = seed
        self._distributions = {factor.name: distribution(factor) for factor in design.factors}
        self._running: dict[str, tuple[optuna.Trial, int]] = {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:  # fmt: skip
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]  # FINISHED is a str
        trials = self.optuna_study.get_trials(deepcopy=False)
        number = len(trials)
        if number >= self._samples:
            return Searcher.FINISHED
        baselines = list(self._design.baselines)
        self.optuna_study.sampler = build_sampler(self._sampler, self._design, self._seed, number)
        if number < len(baselines):
            origin = f"baseline:{baselines[number]}"
            config = self._design.baseline(baselines[number], self._max_epochs, self._seed)
            self.optuna_study.enqueue_trial({name: getattr(config, name) for name in self._distributions})
            asked = self.optuna_study.ask(self._distributions)
        else:
            learnt = sum(trial.state in LEARNS_FROM.get(self._sampler, ()) for trial in trials)
            origin = "model" if learnt >= STARTUP_TRIALS else "random"
            asked = self.optuna_study.ask(self._distributions)
            config = self._design.config(asked.params, self._max_epochs, self._seed)
        slots = {slot for _, slot in self._running.values()}
        slot = min(set(range(len(slots) + 1)) - slots)
        self._running[trial_id] = asked, slot
        return {"trial": number, "stage": "search", "origin": origin, "slot": slot, "config": config.to_dict()}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        self._running[trial_id][0].report(result["validation_accuracy"], result["epoch"])

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:  # fmt: skip
        asked, _ = self._running.pop(trial_id)
        if error or result is None:
            self.optuna_study.tell(asked, state=TrialState.FAIL)
            return
        epoch, value = result["epoch"], result["validation_accuracy"]
        state = state_at_end(epoch, result["diverged"], self._max_epochs)
        # Tune does not pass the last result to on_trial_result.
        asked.report(math.nan if state == "diverged" else value, epoch)
        if state == "complete":
            self.optuna_study.tell(asked, value)
        else:
            self.optuna_study.tell(asked, state=TrialState.PRUNED)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what continues a study is its record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""
