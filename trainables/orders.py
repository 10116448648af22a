"""What the driver orders of an actor; it travels as Ray Tune's config of a trial."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from trainables.config import TrialConfig
from trainables.vocabulary import Stage


@dataclass(frozen=True)
class Workplace:
    """What all trials of a stage share.

    Attributes:
        study: the name of the study.
        cpus: threads of a trial.
        gpus: GPUs of a trial, or a share of one.
        precision: of the network's arithmetic, `float32` or `bf16`.
        checkpoint_seconds: of training between the checkpoints of a trial.
        data: Ray's reference to a `TrialData`.
    """

    study: str
    cpus: int
    gpus: float
    precision: str
    checkpoint_seconds: float
    data: Any

    def to_tune(self) -> dict[str, Any]:
        """The entries of Tune's config."""
        return dict(vars(self))

    @classmethod
    def from_tune(cls, entries: Mapping[str, Any]) -> Self:
        """What `to_tune` wrote, out of a trial's config."""
        return cls(**{name: entries[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class TrialOrder:
    """One trial to train, or to resume.

    Attributes:
        trial: its number in the study, from 0 over all stages.
        stage: what it is for.
        origin: where its values come from, such as `baseline:NAME` or `model`.
        slot: where it runs, the lowest number that no other running trial has.
        config: what it trains.
        checkpoint: Ray's reference to the bytes of the checkpoint to resume from, or None.
        avoided: ids of the nodes on which it must not run.
    """

    trial: int
    stage: Stage
    origin: str
    slot: int
    config: TrialConfig
    checkpoint: Any = None
    avoided: tuple[str, ...] = ()

    def to_tune(self) -> dict[str, Any]:
        """The entries of Tune's config: plain values, and the reference."""
        return {**vars(self), "stage": str(self.stage), "config": self.config.to_dict()}

    @classmethod
    def from_tune(cls, entries: Mapping[str, Any]) -> Self:
        """What `to_tune` wrote, out of a trial's config."""
        values = {name: entries[name] for name in cls.__dataclass_fields__}
        values["stage"] = Stage(values["stage"])
        values["config"] = TrialConfig.from_dict(values["config"])
        return cls(**values)
