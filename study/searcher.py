"""Optuna as a Tune searcher that tells Optuna the truth.

A trial that the scheduler stopped is PRUNED with all its intermediate values; one that diverged is PRUNED
with NaN at its epoch, so that TPE ranks it last (it ignores FAIL); one that crashed is FAIL. Only a trial
that trained all its epochs is COMPLETE. (Tune's own OptunaSearch calls the stopped ones COMPLETE and never
ends the diverged ones.) It is told from the record alone, before each draw, whether what the record says
was written a moment ago or by an earlier driver: continuing, extending and trying again are no special cases.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from study.designs import Design, Factor
from study.record import StudyState
from trainables.config import TrialConfig

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


class StageSearcher(Searcher):
    """Hands out the trials of a stage: first those that the record has as running and nobody trains, then new ones.

    `suggest` returns Tune's config of a trial: its `trial` number (from 0, over all stages), `stage`, `origin`,
    the `slot` it runs in (the lowest that no other trial holds), `config`, the fields of its `TrialConfig`, and
    the `checkpoint` to go on from, or None. Before, `begin` has recorded a new trial (number, stage, origin,
    config), so that none is drawn twice; `resume` gives the checkpoint of one that was begun.
    """

    stage: str

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        # Tune pickles its searcher to restore it, and we never restore.
        return Searcher, ()

    def __init__(
        self,
        state: StudyState,
        trials: int,
        begin: Callable[[int, str, str, TrialConfig], None],
        resume: Callable[[int], Any],
    ) -> None:
        super().__init__(metric="validation_accuracy", mode="max")
        self._state = state
        self._trials = trials
        self._begin, self._resume = begin, resume
        self._live: dict[str, tuple[int, int]] = {}

    def draw(self, number: int) -> tuple[str, TrialConfig]:
        """The origin and the config of a new trial, which will have this number."""
        raise NotImplementedError

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        live = {number for number, _ in self._live.values()}
        mine = self._state.in_stage(self.stage)
        waiting = [trial.trial for trial in mine if trial.state == "running" and trial.trial not in live]
        checkpoint = None
        if waiting:
            number, checkpoint = waiting[0], self._resume(waiting[0])
        elif len(mine) < self._trials:
            number = len(self._state.trials)
            self._begin(number, self.stage, *self.draw(number))
        else:
            # A trial that runs may fail yet, and is then tried again.
            return None if live else Searcher.FINISHED
        slots = {slot for _, slot in self._live.values()}
        slot = min(set(range(len(slots) + 1)) - slots)
        self._live[trial_id] = number, slot
        trial = self._state.trials[number]
        about = {"trial": number, "stage": self.stage, "origin": trial.origin, "config": dict(trial.config)}
        return about | {"slot": slot, "checkpoint": checkpoint}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        del self._live[trial_id]

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what continues a study is its record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


class StudySearcher(StageSearcher):
    """The search stage: the design's baselines first, Optuna for the others."""

    stage = "search"

    def __init__(self, design: Design, sampler: str, max_epochs: int, seed: int, *stage: Any) -> None:
        """`stage` is what `StageSearcher` takes."""
        super().__init__(*stage)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna_study = optuna.create_study(direction="maximize")
        self._design = design
        self._sampler = sampler
        self._max_epochs = max_epochs
        self._seed = seed
        self._distributions = {factor.name: distribution(factor) for factor in design.factors}
        self._asked: dict[int, optuna.Trial] = {}

    def draw(self, number: int) -> tuple[str, TrialConfig]:
        self.learn()
        baselines = list(self._design.baselines)
        if len(self._asked) < len(baselines):
            name = baselines[len(self._asked)]
            config = self._design.baseline(name, self._max_epochs, self._seed)
            self._ask_for(number, config.to_dict())
            return f"baseline:{name}", config
        trials = self.optuna_study.get_trials(deepcopy=False)
        learnt = sum(trial.state in LEARNS_FROM.get(self._sampler, ()) for trial in trials)
        self.optuna_study.sampler = build_sampler(self._sampler, self._design, self._seed, number)
        self._asked[number] = asked = self.optuna_study.ask(self._distributions)
        origin = "model" if learnt >= STARTUP_TRIALS else "random"
        return origin, self._design.config(asked.params, self._max_epochs, self._seed)

    def _ask_for(self, number: int, config: Mapping[str, Any]) -> None:
        """Make a trial of these values in the Optuna study, drawing nothing."""
        self.optuna_study.sampler = optuna.samplers.RandomSampler()
        self.optuna_study.enqueue_trial({name: config[name] for name in self._distributions})
        self._asked[number] = self.optuna_study.ask(self._distributions)

    def learn(self) -> None:
        """Tell Optuna what the record has come to know."""
        mine = self._state.in_stage(self.stage)
        for trial in mine:
            if trial.trial not in self._asked:
                self._ask_for(trial.trial, trial.config)
        told = self.optuna_study.get_trials(deepcopy=False)
        for trial in mine:
            asked = self._asked[trial.trial]
            for row in trial.epochs[len(told[asked.number].intermediate_values) :]:
                value = row["validation_accuracy"]
                asked.report(math.nan if value is None else value, row["epoch"])
            if trial.state == "running" or told[asked.number].state.is_finished():
                continue
            if trial.state == "complete":
                self.optuna_study.tell(asked, trial.epochs[-1]["validation_accuracy"])
            else:
                state = TrialState.FAIL if trial.state == "failed" else TrialState.PRUNED
                self.optuna_study.tell(asked, state=state)
