"""A study in TensorBoard: `tensorboard --logdir RESULTS`, during and after it.

A run and an event file for each trial, in `STUDY/tensorboard/trial-N/`: what is read in each epoch,
and once the trial has ended what the HParams page compares. All of it is made anew from the record
when a study is resumed.
"""

import platform
import shutil
import struct
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tensorboardX.proto.api_pb2 import STATUS_FAILURE
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import hparams

from study.state import METRICS, StudyState, TrialRecord
from study.watch.surfaces import Surface
from study.watch.times import recorded_times, time_of
from trainables.vocabulary import TrialStatus

SCALARS = [name for name in METRICS if name != "epoch"]
COMPARED = ("validation_accuracy", "test_accuracy")
"""The metrics of the HParams page: a trial's last reading of each."""
FAILURES = (TrialStatus.FAILED, TrialStatus.DIVERGED)


class TensorBoard(Surface):
    """Event files of all trials, each open only while something is written.

    They are not written by tensorboardX, whose `SummaryWriter` has two threads and whose
    `EventsWriter` syncs, which takes milliseconds, each time that it is to be readable.
    """

    name = "TensorBoard"

    def __init__(self, study: Path) -> None:
        """`study` is the study's directory."""
        self._study = study

    def start(self, state: StudyState) -> None:
        if (folder := self._study / "tensorboard").exists():
            shutil.rmtree(folder)
        # Later than the file it replaces, so that a TensorBoard which is open takes it for newer.
        self._file = f"events.out.tfevents.{time.time():.0f}.{platform.node()}"
        times, design = recorded_times(self._study), state.header["design"]
        for trial in state.trials.values():
            epochs = [
                epoch_event(row, times[trial.trial, "epoch", row["epoch"]]) for row in trial.epochs
            ]
            if trial.state.has_ended:
                epochs += end_events(trial, design, times[trial.trial, "trial_ended", 0])
            self._write(trial, epochs)

    def event(self, state: StudyState, event: Mapping[str, Any]) -> None:
        if event["event"] == "epoch":
            trial = state.trials[event["trial"]]
            self._write(trial, [epoch_event(trial.epochs[-1], time_of(event))])
        elif event["event"] == "trial_ended":
            trial = state.trials[event["trial"]]
            self._write(trial, end_events(trial, state.header["design"], time_of(event)))

    def _write(self, trial: TrialRecord, events: list[Event]) -> None:
        folder = self._study / "tensorboard" / f"trial-{trial.trial}"
        if events and not folder.exists():
            folder.mkdir(parents=True)
            first = Event(wall_time=events[0].wall_time, file_version="brain.Event:2")
            events = [first, *events]
        if events:
            with (folder / self._file).open("ab") as file:
                file.write(b"".join(map(framed, events)))


def epoch_event(row: Mapping[str, Any], at: datetime) -> Event:
    """The readings of an epoch; what was not read, or is no number, is omitted."""
    read = {name: row[name] for name in SCALARS if row[name] is not None}
    values = [Summary.Value(tag=name, simple_value=value) for name, value in read.items()]
    return Event(wall_time=at.timestamp(), step=row["epoch"], summary=Summary(value=values))


def end_events(trial: TrialRecord, design: Mapping[str, Any], at: datetime) -> list[Event]:
    """What the HParams page compares: stage, arm, state and all that differs between trials of the
    design. Not before a trial's end: TensorBoard keeps the state that it reads first."""
    factors = [factor["name"] for factor in design["factors"]]
    differing = {"learning_rate", "seed", *factors}.union(*design["baselines"].values())
    labels = {"stage": trial.stage, "arm": trial.arm, "state": trial.state}
    labels |= {name: value for name, value in trial.config.items() if name in differing}
    # `add_hparams` would make a second run of each trial.
    summaries = hparams(labels, dict.fromkeys(COMPARED))
    if trial.state in FAILURES:
        # tensorboardX always says success.
        plugin = summaries[-1].value[0].metadata.plugin_data
        content = HParamsPluginData.FromString(plugin.content)
        content.session_end_info.status = STATUS_FAILURE
        plugin.content = content.SerializeToString()
    return [Event(wall_time=at.timestamp(), summary=summary) for summary in summaries]


def framed(event: Event) -> bytes:
    """An event as it stands in a file of TFRecords: length, content, and a checksum of each."""
    content: bytes = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
    return length + checksums[0] + content + checksums[1]
