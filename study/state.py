"""What is recorded of a study: its events, folded one by one, just written or read back.

Version 1 of the format is read and continued: its trials are read by BatchNorm's running
statistics, and its confirm stage changes one factor at a time, at the winner's learning rate.
"""

import base64
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from trainables.config import EpochMetrics, TrialConfig
from trainables.vocabulary import ArmRole, Stage, TrialStatus

VERSION = 2
METRICS = tuple(item.name for item in fields(EpochMetrics))
EPOCH_COLUMNS = ("trial", *METRICS, "wall_seconds")
TRIAL_COLUMNS = (
    *("trial", "stage", "origin", "arm", "state", "error", "epochs"),
    *(item.name for item in fields(TrialConfig)),
    *("parameters", "forward_flops", "precision", "node", "train_seconds"),
)
IMAGE_COLUMNS = ("trial", "correct")
TRIES = 3
"""A trial that failed so often is not tried again unless it is asked for."""


def state_at_end(epoch: int, diverged: bool, max_epochs: int) -> TrialStatus:
    """What a trial that ended of itself or by the scheduler is, by its last epoch."""
    if diverged:
        return TrialStatus.DIVERGED
    return TrialStatus.COMPLETE if epoch >= max_epochs else TrialStatus.STOPPED


@dataclass
class TrialRecord:
    """All that is recorded of one trial."""

    trial: int
    stage: Stage
    origin: str
    arm: str
    config: dict[str, Any]
    parameters: int
    forward_flops: int
    node: str = ""
    state: TrialStatus = TrialStatus.RUNNING
    error: str = ""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    diverged: bool = False
    checkpoint: int = 0
    """The epoch of its newest checkpoint; 0 where there is none."""
    failures: int = 0
    """Tries that failed since its last epoch, its start or its being reopened."""
    seconds: float = 0.0
    """Inside training and evaluation."""
    correct: str = ""
    """Of a confirm trial at its last epoch, whether each test image is recognised: bits, packed, in
    base64."""

    @property
    def part(self) -> str:
        """The part of the images that it is read on."""
        return "test" if self.stage == Stage.CONFIRM else "validation"

    @property
    def rank(self) -> tuple[float, float, int]:
        """The objective, greater is better: last validation accuracy, ties by lower loss, then by
        number."""
        last = self.epochs[-1]
        return last["validation_accuracy"], -last["validation_loss"], -self.trial


@dataclass
class StudyState:
    """All that is recorded; `reported` are (trial, epoch) in the order in which they came.

    `winner` is the best complete search trial, `started` when the driver started that runs or was
    killed, `ended` when one ended that left no trial missing.
    """

    header: dict[str, Any] = field(default_factory=dict)
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    reported: list[tuple[int, int]] = field(default_factory=list)
    winner: TrialRecord | None = None
    driver: dict[str, Any] = field(default_factory=dict)
    confirm: dict[str, Any] = field(default_factory=dict)
    """The latest plan of the confirm stage; see `study.arms.ConfirmPlan.to_dict`."""
    started: str | None = None
    ended: str | None = None
    last: str = ""
    wall_seconds: float = 0.0
    events: int = 0
    # What `in_stage` has sorted already.
    _stages: dict[Stage, list[TrialRecord]] = field(
        default_factory=lambda: defaultdict(list), init=False, repr=False, compare=False
    )
    _sorted: int = field(default=0, init=False, repr=False, compare=False)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the event does not follow from those
            before it.
        """
        kind, number = event["event"], event.get("trial")
        if (kind == "study") == bool(self.header):
            raise ValueError(f"unexpected event {kind!r}")
        if kind == "study":
            _check_version(event["version"])
            self.header = _without(event, "event")
        elif kind == "driver_started":
            self.wall_seconds = self.wall()
            self.started = event["time"]
            self.ended = None
            self.driver = _without(event, "event")
            # A study may be extended or moved: the settings of its last start stand.
            self.header["settings"] = event.get("settings", self.header["settings"])
        elif kind == "driver_ended":
            self.started = None
            self.ended = None if event.get("missing") else event["time"]
            self.wall_seconds += event["seconds"]
        elif kind == "trial_started" and number == len(self.trials):
            self.trials[number] = self._new_trial(event)
        elif kind == "confirm_planned":
            for arm in event["arms"]:
                TrialConfig.from_dict(arm["config"])
            self.confirm = {"factors": event["factors"], "arms": event["arms"]}
        elif kind == "confirm_extended":
            self.header["settings"] = self.header["settings"] | {"confirm_seeds": event["seeds"]}
        elif number in self.trials:
            self._apply_to(self.trials[number], kind, event)
        else:
            raise ValueError(f"unexpected event {kind!r} of trial {number!r}")
        self.last = event["time"]
        self.events += 1

    def _new_trial(self, event: Mapping[str, Any]) -> TrialRecord:
        usual = {"bn_statistics": "running"} if self.version == 1 else {}
        config = TrialConfig.from_dict(usual | event["config"]).to_dict()
        stage = Stage(event["stage"])
        content = _without(event, "event", "time", "config", "stage")
        return TrialRecord(config=config, stage=stage, **content)

    def _apply_to(self, trial: TrialRecord, kind: str, event: Mapping[str, Any]) -> None:
        """Take in an event of a trial that has started."""
        needed = TrialStatus.FAILED if kind == "trial_reopened" else TrialStatus.RUNNING
        if trial.state != needed:
            raise ValueError(f"{kind} of trial {trial.trial}, which is {trial.state}")
        if kind == "epoch" and event["epoch"] == len(trial.epochs) + 1:
            row: dict[str, Any] = {name: event.get(name) for name in METRICS}
            recorded = event.get("diverged")  # not by old versions
            trial.diverged = EpochMetrics(**row).diverged if recorded is None else recorded
            trial.node = event["node"]
            trial.seconds += row["train_seconds"] + row["eval_seconds"]
            trial.checkpoint = event["epoch"] if event.get("checkpoint") else trial.checkpoint
            trial.correct = event.get("correct", "")
            trial.failures = 0  # a node that is lost now and then is no fault of the trial
            trial.epochs.append(row | {"wall_seconds": self.wall(event["time"])})
            self.reported.append((trial.trial, event["epoch"]))
        elif kind == "trial_failed":
            trial.failures += 1
            trial.error = event["error"]
        elif kind == "trial_reopened":
            trial.state = TrialStatus.RUNNING
            trial.error = ""
            trial.failures = 0
        elif kind == "trial_ended" and _may_end(trial, TrialStatus(event["state"])):
            trial.state = TrialStatus(event["state"])
            trial.error = event["error"]
            if trial.stage == Stage.SEARCH and trial.state == TrialStatus.COMPLETE:
                self.winner = max(filter(None, (self.winner, trial)), key=lambda each: each.rank)
        elif kind != "trial_continued":
            raise ValueError(
                f"unexpected event {kind!r} of trial {trial.trial} after epoch {len(trial.epochs)}"
            )

    @property
    def version(self) -> int:
        """The version of the format that the study was made with."""
        version: int = self.header.get("version", VERSION)
        return version

    def in_state(self, *states: TrialStatus) -> list[TrialRecord]:
        """The trials in one of these states, by number."""
        return [trial for trial in self.trials.values() if trial.state in states]

    def ended_trials(self, stage: Stage | None = None) -> list[TrialRecord]:
        """The trials that are not running, by number: all, or those of a stage."""
        trials = self.trials.values() if stage is None else self.in_stage(stage)
        return [trial for trial in trials if trial.state != TrialStatus.RUNNING]

    def in_stage(self, stage: Stage) -> Sequence[TrialRecord]:
        """The trials of a stage, by number: those that there are whenever it is looked at."""
        for number in range(self._sorted, len(self.trials)):
            self._stages[self.trials[number].stage].append(self.trials[number])
        self._sorted = len(self.trials)
        return self._stages[stage]

    def chosen(self) -> TrialRecord | None:
        """The trial whose weights are given out: the first confirm seed of the winner's arm, at its
        tuned learning rate; before there is one, the winner."""
        if (winner := self.winner) is None:
            return None
        arms = self.confirm.get("arms", ())
        tuned = [arm["config"] for arm in arms if arm["role"] == ArmRole.WINNER] or [winner.config]
        if _without(tuned[0], "learning_rate", "seed") != _without(
            winner.config, "learning_rate", "seed"
        ):
            return winner  # the search was extended since; its new winner is not confirmed yet
        same = [
            trial
            for trial in self.in_stage(Stage.CONFIRM)
            if trial.state == TrialStatus.COMPLETE
            and _without(trial.config, "seed") == _without(tuned[0], "seed")
        ]
        return min(same, key=lambda trial: trial.config["seed"], default=winner)

    def seconds(self) -> dict[str, Any]:
        """Core- and accelerator-seconds inside trials by stage, and the drivers' wall-clock
        seconds."""
        settings = self.header["settings"]
        stages: dict[str, Any] = {}
        for trial in self.trials.values():
            spent = stages.setdefault(trial.stage, {"core": 0.0, "accelerator": 0.0})
            spent["core"] += trial.seconds * settings["cpus_per_trial"]
            spent["accelerator"] += trial.seconds * settings["gpus_per_trial"]
        return {**stages, "wall": self.wall()}

    def wall(self, until: str | None = None) -> float:
        """Seconds of all drivers; one that runs or was killed counts up to its last event, or to
        the time given."""
        if self.started is None:
            return self.wall_seconds
        last = datetime.fromisoformat(until or self.last)
        span = last - datetime.fromisoformat(self.started)
        return self.wall_seconds + span.total_seconds()

    def manifest(self) -> dict[str, Any]:
        """The content of `study.json`."""
        header = _without(self.header, "time")
        header |= {"confirm": self.confirm} if self.confirm else {}
        return header | {
            "created": self.header["time"],
            "ended": self.ended,
            "seconds": self.seconds(),
        }

    def trial_rows(self) -> Iterable[dict[str, Any]]:
        """The rows of `trials.csv`."""
        for trial in self.trials.values():
            yield {
                **vars(trial),
                **trial.config,
                "epochs": len(trial.epochs),
                "precision": self.header["settings"]["precision"],
                "train_seconds": sum(epoch["train_seconds"] for epoch in trial.epochs),
            }

    def image_rows(self) -> Iterable[dict[str, Any]]:
        """The rows of `test_images.csv`: 1 or 0 for each test image, in the test part's order."""
        for trial in self.trials.values():
            if trial.correct:
                bits = "".join(f"{byte:08b}" for byte in base64.b64decode(trial.correct))
                yield {
                    "trial": trial.trial,
                    "correct": bits[: self.header["dataset"]["counts"]["test"]],
                }

    def epoch_rows(self) -> Iterable[dict[str, Any]]:
        """The rows of `epochs.csv`."""
        for trial in self.trials.values():
            for epoch in trial.epochs:
                yield {"trial": trial.trial, **epoch}


class NotEnded:
    """Follows the trials of a stage, so that who counts or learns looks at none again once it knows
    that it has ended. (One that is tried again counts as new only where this is made afterwards.)
    """

    def __init__(self, state: StudyState, stage: Stage) -> None:
        self._state, self._stage = state, stage
        self._seen = 0
        self._running: list[TrialRecord] = []

    def look(self) -> list[TrialRecord]:
        """The trials that had not ended at the last look and those that have started since, by
        number."""
        mine = self._state.in_stage(self._stage)
        looked_at = [*self._running, *mine[self._seen :]]
        self._seen = len(mine)
        self._running = [trial for trial in looked_at if trial.state == TrialStatus.RUNNING]
        return looked_at


def _check_version(version: object) -> None:
    if version not in range(1, VERSION + 1):
        raise ValueError(f"written by version {version!r} of the format, this reads 1 to {VERSION}")


def _may_end(trial: TrialRecord, state: TrialStatus) -> bool:
    """A trial without an epoch can only have failed."""
    return state == TrialStatus.FAILED or (state.has_ended and bool(trial.epochs))


def _without(config: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}
