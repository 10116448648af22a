"""The tables and the manifest follow from the record; read here with json and pandas alone."""

import base64
import json

import numpy as np
import pandas as pd
import pytest
from records import HEADER, epoch, start

from study.record import Record, read_record, write_tables
from study.state import StudyState
from trainables.config import TrialConfig

TRIALS = (
    "trial stage origin arm state error epochs stem_kernel stem_stride stem_maxpool depth width "
    "residual shortcut init bn_statistics learning_rate optimizer momentum nesterov weight_decay "
    "label_smoothing batch_size schedule max_epochs normalize seed parameters forward_flops "
    "precision node train_seconds"
).split()
EPOCHS = (
    "trial epoch learning_rate train_loss train_accuracy validation_loss validation_accuracy "
    "test_loss test_accuracy train_seconds eval_seconds "
    "validation_balanced_accuracy test_balanced_accuracy wall_seconds"
).split()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_views_say_what_the_record_says(folder):
    trials, epochs = pd.read_csv(folder / "trials.csv"), pd.read_csv(folder / "epochs.csv")
    assert list(trials.columns) == TRIALS
    assert list(epochs.columns) == EPOCHS
    assert trials["state"].tolist() == ["complete", "stopped", "diverged", "failed", "running"]
    assert trials["epochs"].tolist() == [2, 1, 1, 0, 1]
    assert trials["error"].fillna("").tolist() == [
        "",
        "",
        "",
        'RuntimeError: a "quoted", comma',
        "",
    ]
    assert trials["learning_rate"].tolist() == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05])
    assert trials["train_seconds"].tolist() == [4.0, 2.0, 2.0, 0.0, 2.0]
    assert epochs[["trial", "epoch"]].to_numpy().tolist() == [
        [0, 1],
        [0, 2],
        [1, 1],
        [2, 1],
        [4, 1],
    ]
    assert epochs["validation_accuracy"].isna().tolist() == [False, False, False, True, False]
    events = [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]
    of_record = [
        (event["trial"], event["epoch"], event["validation_loss"])
        for event in events
        if event["event"] == "epoch"
    ]
    of_table = epochs.astype(object).where(epochs.notna(), None)[
        ["trial", "epoch", "validation_loss"]
    ]
    assert sorted(of_record) == [tuple(row) for row in of_table.to_numpy().tolist()]


def test_an_epoch_has_the_seconds_that_drivers_had_run_without_the_pause_between_them():
    state = StudyState(header=HEADER | {"time": "2026-01-01T00:00:00+00:00"})
    config = TrialConfig().to_dict()
    cost = {"parameters": 1, "forward_flops": 1}
    trial = {"stage": "search", "origin": "random", "arm": "a", "config": config, **cost}
    readings = dict.fromkeys(EPOCHS[2:-1], 0.5)
    for kind, minute, content in (
        ("driver_started", 0, {}),
        ("trial_started", 1, {"trial": 0, **trial}),
        ("epoch", 2, {"trial": 0, "epoch": 1, "node": "n", **readings}),
        ("driver_ended", 3, {"seconds": 180.0, "missing": 1}),
        ("driver_started", 40, {}),
        ("epoch", 41, {"trial": 0, "epoch": 2, "node": "n", **readings}),
    ):
        state.apply({"event": kind, "time": f"2026-01-01T00:{minute:02}:00+00:00", **content})
    assert [row["wall_seconds"] for row in state.epoch_rows()] == [120.0, 240.0]


def test_manifest(folder):
    manifest = json.loads((folder / "study.json").read_text())
    assert {
        "name",
        "design",
        "dataset",
        "settings",
        "command",
        "git",
        "created",
        "ended",
        "seconds",
    } <= set(manifest)
    # Five epochs of 2.5 s, on two cores and half an accelerator each.
    assert manifest["seconds"] == {"search": {"core": 25.0, "accelerator": 6.25}, "wall": 12.5}
    assert pd.Timestamp(manifest["created"]) <= pd.Timestamp(manifest["ended"])


def test_the_bits_of_a_confirm_trial_are_a_digit_per_test_image(folder):
    record = Record(folder)
    start(record, 5, "confirm", "confirm", max_epochs=2)
    readings = {
        "learning_rate": 0.1,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "validation_loss": None,
    }
    readings |= {"validation_accuracy": None, "test_loss": 1.0, "test_accuracy": 0.5}
    readings |= {"train_seconds": 2.0, "eval_seconds": 0.5}
    record.append("epoch", trial=5, node="here", epoch=1, **readings)
    assert (folder / "test_images.csv").read_text() == "trial,correct\n"
    correct = np.array([1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 1], dtype=bool)
    bits = base64.b64encode(np.packbits(correct).tobytes()).decode()
    record.append("epoch", trial=5, node="here", epoch=2, correct=bits, **readings)
    record.close()
    assert (folder / "test_images.csv").read_text() == "trial,correct\n5,11010001001\n"
    assert read_record(folder) == record.state


def test_a_study_of_version_1_is_read_by_running_statistics(folder):
    path = folder / "record.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    events[0]["version"] = 1
    for event in events:
        event.get("config", {}).pop("bn_statistics", None)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    record = Record(folder)
    start(record, 5, bn_statistics="running")
    record.close()
    trials = pd.read_csv(folder / "trials.csv")
    assert trials["bn_statistics"].tolist() == ["running"] * 6
    assert json.loads((folder / "study.json").read_text())["version"] == 1
    assert read_record(folder) == record.state


def test_the_latest_plan_of_the_confirm_stage_and_its_seeds_stand(folder):
    record = Record(folder)
    assert "confirm" not in record.state.manifest()
    config = TrialConfig().to_dict()
    for level in (3, 5):
        arms = [{"role": "winner", "config": config}]
        record.append(
            "confirm_planned",
            factors=[{"factor": "stem_kernel", "from": 7, "to": level}],
            arms=arms,
        )
    record.append("confirm_extended", seeds=9)
    record.close()
    manifest = json.loads((folder / "study.json").read_text())
    assert manifest["confirm"]["factors"] == [{"factor": "stem_kernel", "from": 7, "to": 5}]
    assert manifest["confirm"]["arms"][0]["config"] == config
    assert manifest["settings"]["confirm_seeds"] == 9
    assert read_record(folder) == record.state


def test_a_study_has_ended_when_no_trial_is_missing(folder):
    record = Record(folder)
    for missing, ended in ((3, False), (0, True)):
        record.append("driver_started", pid=2, host="here")
        record.append("driver_ended", seconds=1.0, missing=missing)
        assert (record.state.manifest()["ended"] is not None) is ended
    record.close()


def test_views_are_made_at_most_every_two_seconds(tmp_path):
    clock = Clock()
    record = Record(tmp_path, HEADER, clock)
    start(record, 0)
    assert pd.read_csv(tmp_path / "trials.csv").empty, "made before two seconds were over"
    assert len((tmp_path / "record.jsonl").read_text().splitlines()) == 2, (
        "the record is never late"
    )
    clock.now = 2.0
    epoch(record, 0, 1, 0.5)
    assert pd.read_csv(tmp_path / "trials.csv")["epochs"].tolist() == [1]
    record.close()


def test_tables_that_take_long_are_made_seldom_and_at_the_end(tmp_path, monkeypatch):
    """So that a study of many trials does not spend its time on them."""
    clock, made = Clock(), []

    def write(folder, state):
        made.append(clock.now)
        clock.now += 0.5
        write_tables(folder, state)

    monkeypatch.setattr("study.record.write_tables", write)
    record = Record(tmp_path, HEADER, clock)
    made.clear()
    for number in range(100):
        clock.now += 1.0
        start(record, number)
    assert made == [26.0, 51.5, 77.0, 102.5], "25 s after the last, by the next event"
    start(record, 100)
    assert len(pd.read_csv(tmp_path / "trials.csv")) == 100, "not yet"
    record.close()
    assert len(made) == 5
    assert len(pd.read_csv(tmp_path / "trials.csv")) == 101
