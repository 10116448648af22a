"""Events of a record, as the driver writes them."""

from study.record import Record
from trainables.config import TrialConfig

SETTINGS = {"cpus_per_trial": 2, "gpus_per_trial": 0.5, "precision": "float32"}
HEADER = {
    "name": "s",
    "design": {},
    "dataset": {"counts": {"test": 11}},
    "settings": SETTINGS,
    "command": "c",
    "git": None,
}


def start(
    record: Record, number: int, origin: str = "random", stage: str = "search", **config
) -> None:
    config = TrialConfig(**{"learning_rate": 0.01 * (number + 1)} | config)
    about = {"stage": stage, "origin": origin, "arm": config.arm, "config": config.to_dict()}
    record.append("trial_started", trial=number, **about, parameters=10, forward_flops=20)


def epoch(
    record: Record, number: int, count: int, accuracy: float | None, loss: float | None = 1.0
) -> None:
    values = {
        "learning_rate": 0.1,
        "train_loss": loss,
        "train_accuracy": 0.5,
        "test_loss": None,
        "test_accuracy": None,
    }
    readings = {
        "validation_loss": loss,
        "validation_accuracy": accuracy,
        "train_seconds": 2.0,
        "eval_seconds": 0.5,
    }
    record.append("epoch", trial=number, node="here", epoch=count, **values, **readings)


def end(record: Record, number: int, state: str, error: str = "") -> None:
    record.append("trial_ended", trial=number, state=state, error=error)


def confirmed(record: Record, number: int, state: str = "complete", **config) -> None:
    """A trial of the confirm stage: test readings, no validation."""
    start(record, number, "confirm", "confirm", **config)
    values = {
        "learning_rate": 0.1,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "test_loss": 0.5,
        "test_accuracy": 0.99,
    }
    record.append(
        "epoch", trial=number, node="here", epoch=1, train_seconds=4.0, eval_seconds=1.0, **values
    )
    if state != "running":
        end(record, number, state)


def every_end(record: Record, diverged: list[float | None], **config) -> None:
    """Five search trials: complete, stopped, diverged with these readings, failed, running."""
    record.append("driver_started", pid=1, host="here")
    for number in range(5):
        start(record, number, **config)
    for number, scores in enumerate(([0.5, 0.75], [0.25], diverged, [], [0.125])):
        for count, score in enumerate(scores, start=1):
            epoch(record, number, count, score, None if score is None else 2.0)
    for number, state in enumerate(("complete", "stopped", "diverged")):
        end(record, number, state)
    record.append("trial_failed", trial=3, error="OSError: gone")
    end(record, 3, "failed", "OSError: gone")
