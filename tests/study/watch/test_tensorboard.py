"""What TensorBoard's own reader finds in the event files, beside what was put into the record."""

import gc
import math
import threading
import time
from datetime import UTC, datetime

import psutil
import pytest
from records import HEADER, confirmed, end, epoch, every_end, start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata

from study.designs import SEARCH
from study.record import Record
from study.watch.surfaces import Surfaces
from study.watch.tensorboard import TensorBoard

DESIGN = {"name": SEARCH.name, **SEARCH.to_dict()}
HPARAMS = (metadata.EXPERIMENT_TAG, metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)


def play(record: Record) -> None:
    """A study of six trials: complete, stopped, diverged, failed, running and confirmed."""
    every_end(record, [None], stem_kernel=3)
    confirmed(record, 5)


@pytest.fixture
def record(tmp_path):
    record = Record(tmp_path / "s", HEADER | {"design": DESIGN})
    yield record
    record.close()


@pytest.fixture
def watch(record):
    """Shows the record in TensorBoard, anew with each call."""
    return lambda: Surfaces(record, [TensorBoard(record.folder)])


def read(record: Record, trial: int) -> EventAccumulator:
    """What is in the one event file of a trial."""
    (path,) = (record.folder / "tensorboard" / f"trial-{trial}").iterdir()
    return EventAccumulator(str(path)).Reload()


def scalars(record: Record, trial: int) -> dict[str, dict[int, tuple[float, float]]]:
    """Value and time of each scalar by tag and step."""
    found = read(record, trial)
    return {
        tag: {event.step: (event.value, event.wall_time) for event in found.Scalars(tag)}
        for tag in found.Tags()["scalars"]
    }


def values(record: Record, trial: int) -> dict[str, dict[int, float]]:
    return {
        tag: {step: value for step, (value, _) in steps.items()}
        for tag, steps in scalars(record, trial).items()
    }


def compared(record: Record, trial: int) -> tuple[dict[str, object], int] | None:
    """What the HParams page gets of a trial: the hyperparameters, and how it ended."""
    found = read(record, trial)
    tags = (
        found.PluginTagToContent("hparams") if "hparams" in found._plugin_to_tag_to_content else {}
    )
    if not tags:
        return None
    experiment, begun, ended = (tags[tag] for tag in HPARAMS)
    metrics = metadata.parse_experiment_plugin_data(experiment).metric_infos
    assert [each.name.tag for each in metrics] == ["validation_accuracy", "test_accuracy"]
    hparams = metadata.parse_session_start_info_plugin_data(begun).hparams
    status = metadata.parse_session_end_info_plugin_data(ended).status
    return {name: getattr(v, v.WhichOneof("kind")) for name, v in hparams.items()}, status


def everything(record: Record) -> list[object]:
    return [(scalars(record, trial), compared(record, trial)) for trial in record.state.trials]


def test_every_reading_is_a_scalar_at_its_epoch_and_time(record, watch):
    watch()
    before = time.time()
    play(record)
    read_in_both = {"learning_rate": 0.1, "train_accuracy": 0.5}
    seconds = {"train_seconds": 2.0, "eval_seconds": 0.5}
    found = values(record, 0)
    assert found.pop("validation_accuracy") == {1: 0.5, 2: 0.75}
    assert found.pop("validation_loss") == found.pop("train_loss") == {1: 2.0, 2: 2.0}
    expected = read_in_both | seconds
    assert found == {tag: {1: pytest.approx(v), 2: pytest.approx(v)} for tag, v in expected.items()}
    confirm = values(record, 5)
    assert confirm["test_accuracy"] == {1: pytest.approx(0.99)}
    assert confirm["test_loss"] == {1: 0.5}
    assert not [tag for tag in confirm if tag.startswith("validation")]
    # What diverged has no loss and no reading; the rest of its epoch is there.
    assert set(values(record, 2)) == set(read_in_both | seconds)
    assert values(record, 4)["validation_accuracy"] == {1: 0.125}, "flushed while it runs"
    for steps in scalars(record, 0).values():
        assert all(before - 0.01 <= at <= time.time() for _, at in steps.values())


def test_ended_trials_are_compared_by_what_they_are_and_how_they_ended(record, watch):
    watch()
    play(record)
    found = {trial: compared(record, trial) for trial in (0, 1, 2, 3, 5)}
    assert {trial: (about["state"], status) for trial, (about, status) in found.items()} == {
        0: ("complete", api_pb2.STATUS_SUCCESS),
        1: ("stopped", api_pb2.STATUS_SUCCESS),
        2: ("diverged", api_pb2.STATUS_FAILURE),
        3: ("failed", api_pb2.STATUS_FAILURE),
        5: ("complete", api_pb2.STATUS_SUCCESS),
    }
    about, _ = found[1]
    # The design's factors, what a baseline sets, and the seed; not what is fixed.
    assert about == {
        "stage": "search",
        "arm": "k3 s2 pool d18",
        "state": "stopped",
        "learning_rate": 0.02,
        "stem_kernel": 3,
        "stem_stride": 2,
        "stem_maxpool": True,
        "depth": 18,
        "init": "he",
        "normalize": "data",
        "seed": 0,
    }
    assert about["stem_maxpool"] is True
    assert found[5][0]["stage"] == "confirm"
    assert compared(record, 4) is None, "it runs"


def test_a_resumed_study_has_the_same_content_and_grows(record, watch):
    record.append("driver_started", pid=1, host="here")
    watch()
    play(record)
    before = everything(record)
    (record.folder / "tensorboard" / "trial-9").mkdir()
    # The surface is not closed, as after a kill.
    record.close()
    record = Record(record.folder)
    Surfaces(record, [TensorBoard(record.folder)])
    assert everything(record) == before, "times included"
    assert len(list((record.folder / "tensorboard").iterdir())) == 6
    epoch(record, 4, 2, 0.375)
    end(record, 4, "complete")
    assert values(record, 4)["validation_accuracy"] == {1: 0.125, 2: 0.375}
    assert compared(record, 4)[0]["state"] == "complete"
    record.close()


def test_times_are_the_records_own(record, watch):
    play(record)
    path, year = record.folder / "record.jsonl", str(datetime.now(UTC).year)
    path.write_text(path.read_text().replace(f'"time": "{year}-', '"time": "2001-'))
    watch()
    for _, at in scalars(record, 0)["train_loss"].values():
        assert datetime.fromtimestamp(at, UTC).year == 2001


def test_a_full_disk_ends_it_with_a_warning_and_the_study_continues(record, watch, caplog):
    watch()
    start(record, 0)
    epoch(record, 0, 1, 0.5)
    (path,) = (record.folder / "tensorboard" / "trial-0").iterdir()
    path.unlink()
    path.symlink_to("/dev/full")
    epoch(record, 0, 2, 0.5)
    assert "TensorBoard: not written any more: [Errno 28]" in caplog.text
    epoch(record, 0, 3, 0.5)
    assert len(record.state.trials[0].epochs) == 3


@pytest.mark.slow
def test_a_thousand_trials_leave_no_file_open_and_no_thread(record, watch, monkeypatch):
    monkeypatch.setattr("study.record.os.fsync", lambda file: None)
    monkeypatch.setattr("study.record.VIEW_SECONDS", math.inf)
    gc.collect()
    process = psutil.Process()
    before = process.num_fds(), threading.active_count()
    watch()
    for number in range(1000):
        start(record, number)
        epoch(record, number, 1, 0.5)
        if number % 100 == 0:
            assert process.num_fds() == before[0], "while one runs"
        end(record, number, "complete")
    assert (process.num_fds(), threading.active_count()) == before
    watch()
    assert (process.num_fds(), threading.active_count()) == before
    assert values(record, 999)["validation_accuracy"] == {1: 0.5}
