"""Small records that are made by events, as the driver makes them."""

from dataclasses import replace
from typing import Any

from study.arms import Arm
from study.confirm import confirm_plan, missing_confirm_trials, missing_tune_trials
from study.designs import Design, Factor
from study.state import StudyState
from trainables.config import TrialConfig

EPOCHS, SEED = 3, 10
SETTINGS = {
    "epochs": EPOCHS,
    "seed": SEED,
    "cpus_per_trial": 1,
    "gpus_per_trial": 0.0,
    "precision": "float32",
}

SEARCH = Design(
    "small",
    (
        Factor("learning_rate", "nuisance", low=1e-3, high=1.0, scale="log"),
        Factor("stem_kernel", "scientific", (3, 5, 7)),
        Factor("depth", "scientific", (10, 18)),
    ),
    {"width": 8},
    {"first": {"stem_kernel": 2, "width": 4}, "second": {"stem_kernel": 7, "max_epochs": 2}},
)


class Story:
    """A record that is made by events, as the driver makes it."""

    def __init__(self, design: Design = SEARCH, version: int = 2) -> None:
        self.design, self.state = design, StudyState()
        self.apply("study", version=version, settings=SETTINGS)

    def apply(self, event: str, **about: Any) -> None:
        self.state.apply({"event": event, "time": "2026-11-24T04:00:00+00:00", **about})

    def trial(
        self,
        end: str,
        *readings: float,
        stage: str = "search",
        origin: str = "random",
        config: Any,
        loss: float = 1.0,
    ) -> int:
        """A trial with these accuracies, epoch by epoch, and the same loss after each."""
        number = len(self.state.trials)
        about = {
            "origin": origin,
            "arm": config.arm,
            "config": config.to_dict(),
            "parameters": 1,
            "forward_flops": 1,
        }
        self.apply("trial_started", trial=number, stage=stage, **about)
        part = "test" if stage == "confirm" else "validation"
        for epoch, accuracy in enumerate(readings, 1):
            losses = {
                "learning_rate": 0.1,
                "train_loss": 1.0,
                "train_accuracy": 0.5,
                f"{part}_loss": loss,
            }
            seconds = {"train_seconds": 1.0, "eval_seconds": 1.0}
            self.apply(
                "epoch",
                trial=number,
                epoch=epoch,
                node="",
                **{f"{part}_accuracy": accuracy},
                **losses,
                **seconds,
            )
        if end != "running":
            self.apply("trial_ended", trial=number, state=end, error="")
        return number

    def searched(self, end: str, *readings: float, loss: float = 1.0, **values: Any) -> int:
        return self.trial(
            end, *readings, config=self.design.config(values, EPOCHS, SEED), loss=loss
        )

    def baseline(self, name: str, *readings: float) -> int:
        config = self.design.baseline(name, EPOCHS, SEED)
        return self.trial("complete", *readings, origin=f"baseline:{name}", config=config)

    def confirm(self, config: TrialConfig, end: str = "complete") -> int:
        return self.trial(
            end, *[0.5] * config.max_epochs, stage="confirm", origin="confirm", config=config
        )

    def tune(self, config: TrialConfig, loss: float, end: str = "complete") -> int:
        config = replace(config, seed=SEED)
        return self.trial(
            end, *[0.5] * config.max_epochs, stage="tune", origin="tune", config=config, loss=loss
        )

    def plan(self) -> tuple[Arm, ...]:
        return confirm_plan(self.design, self.state).arms

    def arms(self, seeds: int = 1) -> list[TrialConfig]:
        return confirm_plan(self.design, self.state).trials(SEED, seeds)

    def missing(self, seeds: int) -> list[TrialConfig]:
        return missing_confirm_trials(self.design, self.state, seeds)

    def to_tune(self) -> list[TrialConfig]:
        return missing_tune_trials(self.design, self.state)


def a_trial(**values: Any) -> TrialConfig:
    """A config of the design above, as the confirm stage trains it with its first seed."""
    return TrialConfig(**{"width": 8, "max_epochs": EPOCHS, "seed": SEED + 1} | values)
