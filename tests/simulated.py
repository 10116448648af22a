"""The command with made-up learning curves instead of training: python tests/simulated.py FATES OPTUNA.json OPTIONS…

All else is real. FATES is JSON, {"diverge": {TRIAL: EPOCH}, "crash": {TRIAL: EPOCH}}. What Optuna was told is left
in OPTUNA.json: state, value and intermediate values of each trial.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import study.driver
from study.run import main
from study.searcher import StudySearcher
from trainables.config import EpochMetrics
from trainables.trainable import ResNetTrainable

SEARCHERS: list[StudySearcher] = []


def simulated_accuracy(trial: int, epoch: int) -> float:
    """Rises to a level of the trial's own, all different."""
    return (0.3 + 0.03 * (trial * 7 % 20)) * (1 - 0.5**epoch)


def simulated_trainable(fates: dict[str, dict[str, int]]) -> type[ResNetTrainable]:
    """A trainable whose trainer makes up its readings; a class made here goes to the workers by value."""

    def accuracy(trial: int, epoch: int) -> float:
        return (0.3 + 0.03 * (trial * 7 % 20)) * (1 - 0.5**epoch)

    class Simulated(ResNetTrainable):
        def _start(self, config: dict[str, Any]) -> None:
            super()._start(config)
            trainer, trial = self.trainer, config["trial"]

            def run_epoch() -> EpochMetrics:
                trainer.epoch += 1
                if fates["crash"].get(str(trial)) == trainer.epoch:
                    raise RuntimeError("made to\ncrash")
                lost = fates["diverge"].get(str(trial)) == trainer.epoch
                loss, reading = (math.nan, math.nan) if lost else (1.0, accuracy(trial, trainer.epoch))
                rate = trainer.config.learning_rate
                return EpochMetrics(trainer.epoch, rate, loss, 0.5, loss, reading, None, None, 0.25, 0.125)

            trainer.run_epoch = run_epoch  # type: ignore[method-assign]

    return Simulated


class WatchedSearcher(StudySearcher):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        SEARCHERS.append(self)


if __name__ == "__main__":
    study.driver.ResNetTrainable = simulated_trainable(json.loads(sys.argv[1]))  # type: ignore[misc]
    study.driver.StudySearcher = WatchedSearcher  # type: ignore[misc]
    status = main(sys.argv[3:])
    told = [
        {"state": trial.state.name, "value": trial.value, "intermediate": trial.intermediate_values}
        for trial in SEARCHERS[0].optuna_study.get_trials()
    ]
    Path(sys.argv[2]).write_text(json.dumps(told))
    sys.exit(status)
