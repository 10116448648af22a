"""An Optuna study that follows the record, and of which a sampler considers only so much.

Up to a number of trials a sampler considers all; of more, half as many as that: the best, the
newest and a draw of the others. So drawing a trial takes as long however many there are.
"""

import copy
import logging
import math
from bisect import insort
from collections.abc import Container, Iterator
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from study.state import TrialRecord
from trainables.vocabulary import TrialStatus

LEARNS_FROM = {"tpe": (TrialState.COMPLETE, TrialState.PRUNED), "gp": (TrialState.COMPLETE,)}
"""The states of the trials that a model is made from; other samplers make none."""
ALL_UP_TO = {"tpe": 500, "gp": 200}
"""So many trials that a model could be made from are all considered, and of more half as many.
(What they cost is in `tests/benchmarks/README.md`. Of 250 and more TPE takes 25 for good.)"""

log = logging.getLogger("study")


class History:
    """An Optuna study of trials that are in the record, and what it knows of each."""

    def __init__(self, sampler: str) -> None:
        """`sampler` is the name of the one that will draw."""
        self._learns_from = LEARNS_FROM.get(sampler, ())
        self._all_up_to = ALL_UP_TO.get(sampler, math.inf)
        self._storage = _Storage()
        self.study = optuna.create_study(direction="maximize", storage=self._storage)
        self.space: dict[str, BaseDistribution] = {}
        """What the last trial that was learnt from was drawn from."""
        self._running: dict[int, int] = {}
        self._learnt: list[int] = []
        self._ranked: list[tuple[bool, int, float, int]] = []

    @property
    def learnt(self) -> int:
        """How many trials a model could be made from."""
        return len(self._learnt)

    @property
    def considered(self) -> int:
        """How many of these a model is made from."""
        return self.learnt if self.learnt <= self._all_up_to else int(self._all_up_to) // 2

    def ask(self) -> optuna.Trial:
        """A new trial."""
        asked = self.study.ask()
        self._running[asked.number] = 0
        return asked

    def tell(self, asked: optuna.Trial, trial: TrialRecord) -> None:
        """Tell Optuna what it does not know yet of a trial: its readings and its end."""
        known = self._running[asked.number]
        for row in trial.epochs[known:]:
            value = row["validation_accuracy"]
            asked.report(math.nan if value is None else value, row["epoch"])
        self._running[asked.number] = len(trial.epochs)
        if trial.state == TrialStatus.RUNNING:
            return
        if trial.state == TrialStatus.COMPLETE:
            ended = self.study.tell(asked, trial.epochs[-1]["validation_accuracy"])
        else:
            failed = trial.state == TrialStatus.FAILED
            state = TrialState.FAIL if failed else TrialState.PRUNED
            ended = self.study.tell(asked, state=state)
        del self._running[asked.number]
        if ended.state in self._learns_from:
            self._learn(ended)

    def _learn(self, trial: FrozenTrial) -> None:
        self.space = trial.distributions
        insort(self._learnt, trial.number)
        insort(self._ranked, _rank(trial))
        if self.learnt == self._all_up_to + 1:
            log.info(
                "from here on the sampler learns from %d of the trials that have ended: the best, "
                "the newest and a draw of the others; until now it did from all %d",
                *(self.considered, self._all_up_to),
            )

    @contextmanager
    def considering(self, *seed: int) -> Iterator[None]:
        """While it lasts, a sampler sees what it shall consider: a function of the seed and of what
        is known."""
        if self.considered < self.learnt:
            # The only study there, so that its trials have their numbers for ids.
            numbers = sorted([*self._chosen(*seed), *self._running])
            self._storage.shown = [self._storage.get_trial(number) for number in numbers]
        try:
            yield
        finally:
            self._storage.shown = None

    def _chosen(self, *seed: int) -> set[int]:
        quarter = self.considered // 4
        best_and_newest = {rank[-1] for rank in self._ranked[-quarter:]}
        best_and_newest.update(self._learnt[-quarter:])
        # As many as are considered, so that enough of them are neither best nor newest.
        drawn = np.random.default_rng(seed).choice(self.learnt, self.considered, replace=False)
        others = [
            number for place in drawn if (number := self._learnt[place]) not in best_and_newest
        ]
        return best_and_newest.union(others[: self.considered - len(best_and_newest)])


class _Storage(InMemoryStorage):
    """Has all trials of one Optuna study and shows those that are `shown`, or all."""

    shown: list[FrozenTrial] | None = None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if self.shown is None:
            return super().get_all_trials(study_id, deepcopy, states)
        shown = [trial for trial in self.shown if states is None or trial.state in states]
        return copy.deepcopy(shown) if deepcopy else shown


def _rank(trial: FrozenTrial) -> tuple[bool, int, float, int]:
    """What TPE orders trials by, the best last: complete ones by value, then the others by their
    last epoch and what they read there; at last the number."""
    if trial.state == TrialState.COMPLETE:
        return True, 0, trial.values[0], trial.number
    step = trial.last_step or 0
    reading = trial.intermediate_values.get(step, math.nan)
    return False, step, -math.inf if math.isnan(reading) else reading, trial.number
