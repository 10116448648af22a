"""A study for Prometheus: gauges of the driver, served by Ray beside its own as `ray_NAME`.

Prometheus runs with the configuration that Ray writes when it starts:

    prometheus --config.file=/tmp/ray/session_latest/metrics/prometheus/prometheus.yml \\
        --storage.tsdb.path=/tmp/prometheus

and `grafana.json` beside this file is a dashboard to import into Grafana. A gauge shows about 10 s
after it was set and is gone 20 s after it was set last: so are those of a trial that has ended.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray.util.metrics import Gauge

from study.pace import Pace
from study.state import StudyState
from study.watch.progress import StageProgress, images_per_second, last_reading
from study.watch.surfaces import Surface
from trainables.vocabulary import Stage, TrialStatus

SET_SECONDS = 2.0
"""The gauges are set again this often: Ray drops what was not for two of its intervals, which are
10 s unless set otherwise."""
PREFIX = "resnet_study_"
OF_TRIAL = ("stage", "trial", "arm")
GAUGES = {
    "trials": ("Trials of the study.", ("stage", "state")),
    "best_validation_accuracy_ratio": ("Of the best complete search trial, from 0 to 1.", ()),
    "trial_epochs": ("Epochs that a running trial has ended.", OF_TRIAL),
    "trial_accuracy_ratio": (
        "Last reading of a running trial, from 0 to 1, on validation or (confirm) test images.",
        OF_TRIAL,
    ),
    "trial_loss_nats": ("Cross-entropy of the same reading, in nats per image.", OF_TRIAL),
    "trial_images_per_second": ("In the last epoch of training of a running trial.", OF_TRIAL),
    "core_seconds": ("Seconds inside trials, by all drivers, times cores of a trial.", ("stage",)),
    "gpu_seconds": ("Seconds inside trials, by all drivers, times GPUs of a trial.", ("stage",)),
    "stage_seconds_left": ("Estimate by the speed of this driver, in seconds.", ("stage",)),
    "last_result_age_seconds": ("Seconds since a trial ended an epoch, or the driver started.", ()),
}
"""By name: what it is, and its tags besides `study`."""


@dataclass(frozen=True)
class Value:
    """A gauge with what it is set to; None leaves it out."""

    gauge: str
    value: float | None
    tags: Mapping[str, str]


class Metrics(Surface):
    """Sets the gauges while trials run."""

    name = "metrics"

    def __init__(self) -> None:
        self._gauges = {
            name: Gauge(PREFIX + name, text, ("study", *tags))
            for name, (text, tags) in GAUGES.items()
        }
        self._stage: StageProgress | None = None
        self._result = time.monotonic()
        self._pace = Pace(SET_SECONDS, lambda: time.monotonic())

    def stage(self, state: StudyState, stage: Stage, trials: int) -> None:
        self._stage = StageProgress.begin(state, stage, trials)

    def event(self, state: StudyState, event: Mapping[str, Any]) -> None:
        if event["event"] == "epoch":
            self._result = time.monotonic()

    def tick(self, state: StudyState) -> None:
        if not self._stage or not self._pace.is_due:
            return
        with self._pace.making():
            values = [*values_of(state, self._stage)]
            age = time.monotonic() - self._result
            values.append(Value("last_result_age_seconds", age, {}))
            study = {"study": state.header["name"]}
            for each in values:
                self._gauges[each.gauge].set(each.value, study | dict(each.tags))


def values_of(state: StudyState, stage: StageProgress) -> Iterator[Value]:
    """All gauges of a study but the age of its last result."""
    counts = Counter((trial.stage, trial.state) for trial in state.trials.values())
    for name, spent in state.seconds().items():
        if name == "wall":
            continue
        # Also a state that no trial is in any more, or its gauge would keep the last number.
        for status in TrialStatus:
            yield Value("trials", counts[Stage(name), status], {"stage": name, "state": status})
        yield Value("core_seconds", spent["core"], {"stage": name})
        yield Value("gpu_seconds", spent["accelerator"], {"stage": name})
    if winner := state.winner:
        yield Value("best_validation_accuracy_ratio", winner.rank[0], {})
    yield Value("stage_seconds_left", stage.seconds_left(state), {"stage": stage.stage})
    for trial in state.in_state(TrialStatus.RUNNING):
        tags = {"stage": trial.stage, "trial": str(trial.trial), "arm": trial.arm}
        yield Value("trial_epochs", len(trial.epochs), tags)
        yield Value("trial_accuracy_ratio", last_reading(trial, "accuracy"), tags)
        yield Value("trial_loss_nats", last_reading(trial, "loss"), tags)
        yield Value("trial_images_per_second", images_per_second(state, trial), tags)
