"""A study in a few numbers, kept in `study.json`, so that a hundred studies are listed at once."""

from collections.abc import Mapping
from dataclasses import dataclass

from study.state import StudyState
from trainables.vocabulary import Stage


@dataclass(frozen=True)
class Summary:
    """What is shown of a study beside others.

    Attributes:
        events: of the record that it is made of.
        started: when the driver started that runs or was killed, with its `pid` and `host`.
        ended: when one ended that left no trial missing.
        last: when the last event was recorded.
        trials: by stage how many have ended, and how many are known to be wanted.
        best: validation accuracy and arm of the best complete search trial.
    """

    events: int
    started: str | None
    pid: int
    host: str
    ended: str | None
    last: str
    trials: Mapping[str, tuple[int, int]]
    best: tuple[float, str] | None
    core_seconds: float

    @classmethod
    def of(cls, state: StudyState) -> "Summary":
        """The summary of what is recorded."""
        settings, winner = state.header["settings"], state.winner
        return cls(
            state.events,
            state.started,
            state.driver.get("pid", 0),
            state.driver.get("host", ""),
            state.ended,
            state.last,
            _trials(state),
            (winner.epochs[-1]["validation_accuracy"], winner.arm) if winner else None,
            settings["cpus_per_trial"] * sum(trial.seconds for trial in state.trials.values()),
        )


def _trials(state: StudyState) -> dict[str, tuple[int, int]]:
    settings, arms = state.header["settings"], len(state.confirm.get("arms", ()))
    wanted = {
        Stage.SEARCH: settings.get("samples", 0),
        Stage.CONFIRM: arms * settings.get("confirm_seeds", 0),
    }
    counts = {}
    for stage in Stage:
        trials = state.in_stage(stage)
        if trials or wanted.get(stage):
            ended = len(state.ended_trials(stage))
            counts[str(stage)] = (ended, max(len(trials), wanted.get(stage, 0)))
    return counts
