"""Searches without training: a searcher, its record, and what Tune does with them."""

import math
from types import SimpleNamespace

import optuna
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from study.designs import DESIGNS, Design
from study.scheduler import StudyAsha
from study.searcher import StudySearcher
from study.state import StudyState, TrialRecord, state_at_end
from trainables.config import TrialConfig

SEARCH = DESIGNS["search"]
EPOCHS = 6


class RecordedSearcher(StudySearcher):
    """A searcher and the record that it reads, written here as the driver writes it."""

    def __init__(
        self,
        sampler: str = "random",
        samples: int = 20,
        seed: int = 0,
        state: StudyState | None = None,
        design: Design = SEARCH,
    ) -> None:
        self.state = state or StudyState()
        about = (self.state, self.record, lambda number: "reference")
        super().__init__(design, samples, sampler, EPOCHS, seed, *about)

    @property
    def optuna_study(self) -> optuna.Study:
        (study,) = self.optuna_studies
        return study

    def record(self, number: int, stage: str, origin: str, config: TrialConfig) -> None:
        assert number == len(self.state.trials)
        self.state.trials[number] = TrialRecord(
            number, stage, origin, config.arm, config.to_dict(), 1, 1
        )

    def read(self, number: int, epoch: int, value: float) -> None:
        row = {"epoch": epoch, "validation_accuracy": None if math.isnan(value) else value}
        self.state.trials[number].epochs.append(row)

    def finish(self, trial_id: str, number: int, state: str) -> None:
        self.on_trial_complete(trial_id, {}, error=state == "failed")
        self.state.trials[number].state = state


def accuracy(trial: int, epoch: int) -> float:
    """A made-up learning curve; trial 3 is the best, trials 10 and 11 are hopeless."""
    quality = 0.9 if trial == 3 else 0.05 if trial in (10, 11) else 0.3 + 0.02 * (trial * 7 % 13)
    return quality * (1 - 0.5**epoch)


class Run:
    """What Tune does with a searcher and a scheduler, one trial after the other."""

    def __init__(
        self,
        search: RecordedSearcher,
        diverging: tuple[int, ...] = (),
        crashing: tuple[int, ...] = (),
    ) -> None:
        self.search, self.asha = search, StudyAsha(EPOCHS)
        self.diverging, self.crashing = diverging, crashing
        self.configs: list[dict] = []
        self.curves: dict[int, list[float]] = {}

    def all(self) -> "Run":
        while True:
            trial_id = f"tune-{len(self.configs)}"
            config = self.search.suggest(trial_id)
            if config == Searcher.FINISHED:
                self.search.learn()
                return self
            self.configs.append(config)
            self.one(SimpleNamespace(trial_id=trial_id, config=config))

    def one(self, trial: SimpleNamespace) -> None:
        number = trial.config["trial"]
        self.asha.on_trial_add(None, trial)
        self.curves[number] = []
        for epoch in range(1, EPOCHS + 1):
            if number in self.crashing:
                self.asha.on_trial_error(None, trial)
                self.search.finish(trial.trial_id, number, "failed")
                return
            diverged = number in self.diverging and epoch == 2
            value = math.nan if diverged else accuracy(number, epoch)
            self.curves[number].append(value)
            result = {"epoch": epoch, "validation_accuracy": value, "diverged": diverged}
            done = diverged or epoch == EPOCHS
            if not done:
                done = self.asha.on_trial_result(None, trial, result) == TrialScheduler.STOP
            self.search.read(number, epoch, value)
            if done:
                self.asha.on_trial_complete(None, trial, result)
                self.search.finish(trial.trial_id, number, state_at_end(epoch, diverged, EPOCHS))
                return


def factorial(
    sampler: str, samples: int, state: StudyState | None = None, design: Design = DESIGNS["stem"]
) -> RecordedSearcher:
    return RecordedSearcher(sampler, samples, state=state, design=design)


def draw_all(search: RecordedSearcher) -> list[dict]:
    """All trials of a study, each stopped after an epoch before the next is drawn."""
    drawn = []
    while (config := search.suggest(f"tune-{len(drawn)}")) != Searcher.FINISHED:
        drawn.append(config)
        search.read(config["trial"], 1, accuracy(config["trial"], 1))
        search.finish(f"tune-{len(drawn) - 1}", config["trial"], "stopped")
    return drawn


def levels(config: dict) -> tuple:
    return tuple(config["config"][name] for name in ("stem_kernel", "stem_stride", "stem_maxpool"))
