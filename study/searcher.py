"""Optuna as a Tune searcher that tells Optuna the truth.

A trial that the scheduler stopped is PRUNED with all its intermediate values; one that diverged is
PRUNED with NaN at its epoch, so that TPE ranks it last of those that ended there (it ignores FAIL);
one that crashed is FAIL. Only a trial that trained all its epochs is COMPLETE. (Tune's own
OptunaSearch calls the stopped ones COMPLETE and never ends the diverged ones.) It learns from the
record alone, before each draw, whether that was written a moment ago or by an earlier driver:
resuming, extending and trying again are no special cases. What it has learnt of a trial that has
ended it does not look up again, and of more than 500 trials TPE considers 250: the best, the newest
and a draw of the others (`study.history`; of more than 200 GP considers 100), so that a draw takes
as long however many there are.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from ray.tune.search import Searcher

from study.designs import KINDS, Design, Factor
from study.history import History
from study.state import NotEnded, StudyState
from trainables.config import TrialConfig
from trainables.orders import TrialOrder
from trainables.vocabulary import SearchMode, Stage, TrialStatus

STARTUP_TRIALS = 10
"""Trials that TPE or GP must have learnt from before it models anything; until then they draw at
random."""


class SobolSampler(optuna.samplers.RandomSampler):
    """Trial n is point n of one scrambled Sobol sequence: nothing to remember, so nothing is
    repeated. As at random, each factor is drawn by itself."""

    def __init__(self, factors: tuple[Factor, ...], seed: int) -> None:
        super().__init__(seed)
        self._factors = factors
        self._seed = seed

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        from scipy.stats import qmc  # slow to import, and only this sampler needs it

        names = [factor.name for factor in self._factors]
        column = names.index(param_name)
        sequence = qmc.Sobol(len(names), scramble=True, seed=self._seed)
        if trial.number:
            sequence.fast_forward(trial.number)
        return self._factors[column].at(float(sequence.random(1)[0, column]))


class KnownSpaceTpe(optuna.samplers.TPESampler):
    """TPE that is given the factors: to infer them from 1,000 trials takes two thirds of a draw."""

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int) -> None:
        super().__init__(n_startup_trials=STARTUP_TRIALS, seed=seed)
        self._space = {name: space[name] for name in sorted(space) if not space[name].single()}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._space


def build_sampler(
    name: str, design: Design, seed: int, trial: int, space: Mapping[str, BaseDistribution]
) -> BaseSampler:
    """The sampler that draws this trial; its random state is a function of (study seed, trial
    number). `space` is what the last trial that ended was drawn from."""
    drawn = int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])
    if name == "tpe":
        # `group` lets the model of a factor that sometimes does not exist be made from the trials
        # that have it.
        if not any(factor.when for factor in design.factors):
            return KnownSpaceTpe(space, drawn)
        with warnings.catch_warnings(
            action="ignore", category=optuna.exceptions.ExperimentalWarning
        ):
            return optuna.samplers.TPESampler(
                n_startup_trials=STARTUP_TRIALS, seed=drawn, group=True
            )
    if name == "gp":
        return optuna.samplers.GPSampler(n_startup_trials=STARTUP_TRIALS, seed=drawn)
    if name == "qmc":
        return SobolSampler(design.factors, seed)
    return optuna.samplers.RandomSampler(seed=drawn)


def suggest(trial: optuna.Trial, factor: Factor) -> Any:
    """The value that Optuna draws for a factor of a trial."""
    if factor.levels:
        return trial.suggest_categorical(factor.name, factor.levels)
    if KINDS[factor.name] is int:
        return trial.suggest_int(
            factor.name, int(factor.low), int(factor.high), log=factor.scale == "log"
        )
    return trial.suggest_float(factor.name, factor.low, factor.high, log=factor.scale == "log")


class StageSearcher(Searcher):
    """Hands out the trials of a stage: first those that are recorded as running and nobody trains,
    then new ones.

    `suggest` returns a `TrialOrder` as Tune's config. Before, `begin` has recorded a new trial
    (number, stage, origin, config), so that none is drawn twice; `resume` gives the checkpoint of
    one that was started, and `avoided` the nodes on which it must not run.
    """

    stage: Stage

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        # Tune pickles its searcher to restore it, and we never restore.
        return Searcher, ()

    def __init__(
        self,
        state: StudyState,
        begin: Callable[[int, Stage, str, TrialConfig], None],
        resume: Callable[[int], Any],
        avoided: Callable[[int], tuple[str, ...]] = lambda trial: (),
    ) -> None:
        super().__init__(metric="validation_accuracy", mode="max")
        self._state = state
        self._not_ended = NotEnded(state, self.stage)
        self._begin, self._resume, self._avoided = begin, resume, avoided
        self._live: dict[str, tuple[int, int]] = {}

    def draw(self, number: int) -> tuple[str, TrialConfig] | None:
        """The origin and the config of a new trial, which will have this number; None where there
        is no more."""
        raise NotImplementedError

    def suggest(  # type: ignore[override]  # FINISHED is a str
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        live = {number for number, _ in self._live.values()}
        waiting = [
            trial.trial
            for trial in self._not_ended.look()
            if trial.state == TrialStatus.RUNNING and trial.trial not in live
        ]
        number = waiting[0] if waiting else len(self._state.trials)
        checkpoint = self._resume(number) if waiting else None
        if not waiting:
            drawn = self.draw(number)
            if drawn is None:
                # A trial that runs may fail yet, and is then tried again.
                return None if live else Searcher.FINISHED
            self._begin(number, self.stage, *drawn)
        slots = {slot for _, slot in self._live.values()}
        slot = min(set(range(len(slots) + 1)) - slots)
        self._live[trial_id] = number, slot
        trial = self._state.trials[number]
        config = TrialConfig.from_dict(trial.config)
        return TrialOrder(
            number, self.stage, trial.origin, slot, config, checkpoint, self._avoided(number)
        ).to_tune()

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        del self._live[trial_id]

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what continues a study is its record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


class ListSearcher(StageSearcher):
    """A stage whose trials are known before: the `missing` ones, in their order."""

    def __init__(self, stage: Stage, missing: list[TrialConfig], *shared: Any) -> None:
        """`shared` is what `StageSearcher` takes."""
        self.stage = stage
        super().__init__(*shared)
        self._missing = list(missing)

    def draw(self, number: int) -> tuple[str, TrialConfig] | None:
        return (self.stage, self._missing.pop(0)) if self._missing else None


class StudySearcher(StageSearcher):
    """The search stage: the design's baselines first, Optuna for the others.

    In a factorial design every arm has an Optuna study of its own, in which its nuisances are
    drawn; the arms take turns, so that each gets the same number of trials. Else there is one
    study, for all factors.
    """

    stage = Stage.SEARCH

    def __init__(
        self, design: Design, samples: int, sampler: str, max_epochs: int, seed: int, *stage: Any
    ) -> None:
        """`stage` is what `StageSearcher` takes."""
        super().__init__(*stage)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._design = design
        self._samples = samples
        self._sampler = sampler
        self._budget = {"epochs": max_epochs, "seed": seed}
        self._arms: list[dict[str, Any]] = (
            design.arms() if design.search == SearchMode.FACTORIAL else [{}]
        )
        self._histories = [History(sampler) for _ in self._arms]
        self.optuna_studies = [history.study for history in self._histories]
        self._unlearnt = NotEnded(self._state, self.stage)
        self._asked: dict[int, tuple[History, optuna.Trial] | None] = {}
        self._started = 0

    def draw(self, number: int) -> tuple[str, TrialConfig] | None:
        self.learn()
        if self._started >= self._samples:
            return None
        if self._started < len(self._design.baselines):
            name = list(self._design.baselines)[self._started]
            config = self._design.baseline(name, **self._budget)
            self._ask_for(number, config.to_dict())
            return f"baseline:{name}", config
        turn, seed = self._started % len(self._arms), self._budget["seed"]
        history = self._histories[turn]
        drawing = self._sampler, self._design, seed, number, history.space
        history.study.sampler = build_sampler(*drawing)
        unlearnt = "grid" if self._design.search == SearchMode.FACTORIAL else "random"
        origin = "model" if history.learnt >= STARTUP_TRIALS else unlearnt
        with history.considering(seed, number):
            return origin, self._design.config(self._ask(number, turn), **self._budget)

    def _ask(self, number: int, turn: int) -> dict[str, Any]:
        """The values of all factors that exist, of the next trial of an arm's study."""
        values = dict(self._arms[turn])
        asked = self._histories[turn].ask()
        for factor in self._design.factors:
            if factor.name not in values and factor.exists(values):
                values[factor.name] = suggest(asked, factor)
        self._asked[number] = self._histories[turn], asked
        self._started += 1
        return values

    def _ask_for(self, number: int, config: Mapping[str, Any]) -> None:
        """Make a trial of these values in the Optuna study of their arm, drawing nothing.

        None is made where the factors cannot have them, as may be in a baseline: Optuna takes no
        such trial.
        """
        values = self._design.existing(config)
        varied = [factor for factor in self._design.factors if factor.name in values]
        if not all(factor.holds(values[factor.name]) for factor in varied):
            self._asked[number] = None
            self._started += 1
            return
        turn = next(turn for turn, arm in enumerate(self._arms) if arm.items() <= config.items())
        study = self._histories[turn].study
        study.sampler = optuna.samplers.RandomSampler()
        study.enqueue_trial({factor.name: config[factor.name] for factor in self._design.factors})
        self._ask(number, turn)

    def learn(self) -> None:
        """Tell Optuna what the record has learnt since."""
        unlearnt = self._unlearnt.look()
        for trial in unlearnt:
            if trial.trial not in self._asked:
                self._ask_for(trial.trial, trial.config)
        for trial in unlearnt:
            ended = trial.state != TrialStatus.RUNNING
            asked = self._asked.pop(trial.trial) if ended else self._asked[trial.trial]
            if asked is not None:
                history, optuna_trial = asked
                history.tell(optuna_trial, trial)
