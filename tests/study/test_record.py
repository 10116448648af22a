"""The record is the authority, the views follow from it; both are read here with json and pandas
alone."""

import base64
import json
import resource
import signal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from study.record import CannotWrite, Record, RecordError, read_record, write_views
from study.state import StudyState, state_at_end
from trainables.config import TrialConfig, UsageError

SETTINGS = {"cpus_per_trial": 2, "gpus_per_trial": 0.5, "precision": "float32"}
HEADER = {
    "name": "s",
    "design": {},
    "dataset": {"counts": {"test": 11}},
    "settings": SETTINGS,
    "command": "c",
    "git": None,
}

TRIALS = (
    "trial stage origin arm state error epochs stem_kernel stem_stride stem_maxpool depth width residual "
    "shortcut init bn_statistics learning_rate optimizer momentum nesterov weight_decay label_smoothing batch_size "
    "schedule max_epochs normalize seed parameters forward_flops precision node train_seconds"
).split()
EPOCHS = (
    "trial epoch learning_rate train_loss train_accuracy validation_loss validation_accuracy test_loss "
    "test_accuracy train_seconds eval_seconds"
).split()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


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


@pytest.fixture
def folder(tmp_path):
    """A study of five trials: complete, stopped, diverged, failed and still running."""
    record = Record(tmp_path / "s", HEADER)
    record.append("driver_started", pid=1, host="here")
    for number in range(5):
        start(record, number, "baseline:b" if number == 0 else "random")
    epoch(record, 0, 1, 0.5)
    epoch(record, 1, 1, 0.25)
    end(record, 1, "stopped")
    epoch(record, 0, 2, 0.75, 0.3)
    end(record, 0, "complete")
    epoch(record, 2, 1, None, None)
    end(record, 2, "diverged")
    end(record, 3, "failed", 'RuntimeError: a "quoted", comma')
    epoch(record, 4, 1, 0.9)
    record.append("driver_ended", seconds=12.5)
    record.close()
    return tmp_path / "s"


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


def test_the_wall_time_of_a_killed_driver_counts_up_to_its_last_event():
    state = StudyState()
    at = "2026-11-24T04:{:02}:00.000+00:00".format
    state.apply({"event": "study", "version": 1, "time": at(0), **HEADER})
    state.apply({"event": "driver_started", "time": at(1), "pid": 1, "host": "here"})
    config = TrialConfig().to_dict()
    about = {
        "stage": "search",
        "origin": "random",
        "arm": "a",
        "config": config,
        "parameters": 1,
        "forward_flops": 1,
    }
    state.apply({"event": "trial_started", "time": at(4), "trial": 0, **about})
    assert state.wall() == 180
    state.apply({"event": "driver_started", "time": at(9), "pid": 2, "host": "here"})
    state.apply({"event": "driver_ended", "time": at(10), "seconds": 60.0, "missing": 1})
    assert state.wall() == 240


def test_read_back_it_is_the_same(folder):
    state = read_record(folder)
    before = (folder / "trials.csv").read_text(), (folder / "epochs.csv").read_text()
    for name in ("trials.csv", "epochs.csv", "study.json"):
        (folder / name).unlink()
    write_views(folder, state)
    assert ((folder / "trials.csv").read_text(), (folder / "epochs.csv").read_text()) == before


def test_what_was_written_and_what_is_read_back_are_one_state(tmp_path):
    record = Record(tmp_path / "s", HEADER)
    for number, state in enumerate(("complete", "running", "diverged", "failed")):
        start(record, number)
        epoch(
            record,
            number,
            1,
            None if state == "diverged" else 1 / 3,
            None if state == "diverged" else 0.1 + 0.2,
        )
        assert read_record(tmp_path / "s") == record.state, "at any moment"
        if state != "running":
            end(record, number, state, "Größe: 3 × 4\tx" if state == "failed" else "")
    record.append("driver_ended", seconds=0.1)
    assert read_record(tmp_path / "s") == record.state
    record.close()
    assert read_record(tmp_path / "s") == record.state


def test_every_line_is_json_without_nan_and_begins_with_the_study(folder):
    def refuse(constant):
        raise AssertionError(constant)

    lines = (folder / "record.jsonl").read_text().splitlines()
    events = [json.loads(line, parse_constant=refuse) for line in lines]
    assert (events[0]["event"], events[0]["version"], events[0]["name"]) == ("study", 2, "s")
    kinds = [event["event"] for event in events]
    assert (kinds.count("trial_started"), kinds.count("epoch"), kinds.count("trial_ended")) == (
        5,
        5,
        4,
    )
    times = [pd.Timestamp(event["time"]) for event in events]
    assert times == sorted(times)
    json.loads((folder / "study.json").read_text(), parse_constant=refuse)


def test_a_record_torn_anywhere_in_its_last_line_reads_as_before_it(folder):
    whole = (folder / "record.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (folder / "record.jsonl").write_bytes(b"".join(lines[:-1]))
    before = read_record(folder)
    for kept in range(1, len(lines[-1])):
        (folder / "record.jsonl").write_bytes(whole[: -len(lines[-1])] + lines[-1][:kept])
        assert read_record(folder) == before


def test_a_torn_last_line_is_passed_over_with_a_warning(folder, caplog):
    whole = read_record(folder)
    with (folder / "record.jsonl").open("a") as file:
        file.write('{"event": "epoch", "tri')
    assert read_record(folder) == whole
    assert "torn" in caplog.text


@pytest.mark.parametrize(
    ("line", "replacement", "said"),
    [
        (4, '{"event": "epo', "line 4: JSONDecodeError"),
        (
            9,
            '{"event": "epoch", "trial": 99}',
            "line 9: ValueError: unexpected event 'epoch' of trial 99",
        ),
        (5, '{"event": "party"}', "line 5: ValueError: unexpected event 'party'"),
        (5, "[]", "line 5: TypeError"),
        (
            12,
            '{"event": "trial_ended", "trial": 0, "state": "lost", "error": ""}',
            "line 12: ValueError: 'lost' is not",
        ),
        (
            8,
            '{"event": "epoch", "trial": 0, "epoch": 2}',
            "line 8: ValueError: unexpected event 'epoch' of trial 0",
        ),
        (1, '{"event": "study", "version": 99}', "version 99"),
        (
            5,
            '{"event": "confirm_planned", "factors": [], "arms": [{"config": {"depth": 7}}]}',
            "line 5: UsageError",
        ),
    ],
)
def test_a_damaged_record_is_refused_with_file_and_line(folder, line, replacement, said):
    path = folder / "record.jsonl"
    lines = path.read_text().splitlines()
    lines[line - 1] = replacement
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RecordError) as caught:
        read_record(folder)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_record(tmp_path):
    with pytest.raises(RecordError, match=r"record\.jsonl: No such file"):
        read_record(tmp_path)
    (tmp_path / "record.jsonl").write_text("")
    with pytest.raises(RecordError, match="does not begin with a study"):
        read_record(tmp_path)


def test_a_record_has_one_writer_and_is_begun_once(tmp_path):
    with pytest.raises(UsageError, match="started or removed"):
        Record(tmp_path / "s")
    record = Record(tmp_path / "s", HEADER)
    record.append("driver_started", pid=12, host="there")
    with pytest.raises(
        UsageError,
        match=r"--name: invalid value 's': expected not what process 12 on there is running",
    ):
        Record(tmp_path / "s")
    record.close()
    with pytest.raises(UsageError, match="started or removed"):
        Record(tmp_path / "s", HEADER)
    Record(tmp_path / "s").close()


def test_it_goes_on_behind_a_torn_line(folder):
    whole = (folder / "record.jsonl").read_bytes()
    (folder / "record.jsonl").write_bytes(whole + b'{"event": "epoch", "tri')
    record = Record(folder)
    assert (folder / "record.jsonl").read_bytes() == whole
    epoch(record, 4, 2, 0.95)
    assert pd.read_csv(folder / "epochs.csv")[["trial", "epoch"]].to_numpy().tolist()[-1] == [
        4,
        2,
    ], "appended"
    record.close()
    assert read_record(folder).trials[4].epochs[1]["validation_accuracy"] == 0.95


def test_what_does_not_get_onto_the_disk_leaves_the_record_whole(tmp_path):
    """As on a full disk: a file of this process may not grow beyond a limit."""
    record = Record(tmp_path / "s", HEADER)
    path = tmp_path / "s" / "record.jsonl"
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(CannotWrite, match=r"record\.jsonl: "):
            record.append("trial_failed", trial=0, error="x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    start(record, 0)
    record.close()
    assert list(read_record(tmp_path / "s").trials) == [0]


def test_tries_and_reopening(tmp_path):
    record = Record(tmp_path / "s", HEADER)
    start(record, 0)
    epoch(record, 0, 1, 0.5)
    for _ in range(3):
        record.append("trial_failed", trial=0, error="boom")
        record.append("trial_continued", trial=0, from_epoch=1, note="")
    end(record, 0, "failed", "boom")
    trial = record.state.trials[0]
    assert (trial.state, trial.failures, trial.error) == ("failed", 3, "boom")
    record.append("trial_reopened", trial=0)
    assert (trial.state, trial.failures, trial.error) == ("running", 0, "")
    record.close()


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=strategies.data())
def test_any_bytes_are_a_clear_error_or_a_study_of_which_views_can_be_made(
    folder, tmp_path_factory, data
):
    lines = (folder / "record.jsonl").read_bytes().splitlines()
    number = data.draw(strategies.integers(0, len(lines) - 1))
    if data.draw(strategies.booleans()):
        event = json.loads(lines[number])
        scalars = (
            strategies.none()
            | strategies.booleans()
            | strategies.integers()
            | strategies.text(max_size=5)
        )
        value = scalars | strategies.floats() | strategies.lists(scalars, max_size=2)
        event[data.draw(strategies.sampled_from(sorted(event)))] = data.draw(value)
        lines[number] = json.dumps(event).encode()
    else:
        start = data.draw(strategies.integers(0, len(lines[number])))
        length = data.draw(strategies.integers(0, 5))
        lines[number] = (
            lines[number][:start]
            + data.draw(strategies.binary(max_size=5))
            + lines[number][start + length :]
        )
    damaged = tmp_path_factory.mktemp("damaged")
    content = b"\n".join(lines) + b"\n"
    (damaged / "record.jsonl").write_bytes(content)
    try:
        state = read_record(damaged)
    except RecordError as error:
        assert str(damaged / "record.jsonl") in str(error)
        assert "\n" not in str(error)
    else:
        write_views(damaged, state)
        assert len(pd.read_csv(damaged / "trials.csv")) == len(state.trials)
    assert (damaged / "record.jsonl").read_bytes() == content


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


def test_the_winner_is_the_best_complete_trial_ties_by_loss_then_number(tmp_path):
    record = Record(tmp_path / "s", HEADER)
    assert record.state.winner() is None
    readings = [
        (0.8, 0.5, "complete"),
        (0.9, 0.4, "complete"),
        (0.9, 0.3, "complete"),
        (0.9, 0.3, "complete"),
    ]
    readings += [(0.99, 0.1, "stopped"), (0.99, 0.1, "running")]
    for number, (accuracy, loss, state) in enumerate(readings):
        start(record, number)
        epoch(record, number, 1, accuracy, loss)
        if state != "running":
            end(record, number, state)
    assert record.state.winner().trial == 2
    record.close()


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


def test_the_confirm_stage_does_not_win_but_gives_the_weights(tmp_path):
    record = Record(tmp_path / "s", HEADER)
    state = record.state
    assert state.chosen() is None
    for number, accuracy in enumerate((0.7, 0.9, 0.8)):
        start(record, number)
        epoch(record, number, 1, accuracy)
        end(record, number, "complete")
    assert state.chosen() is state.trials[1], "before it is confirmed"
    winner = state.trials[1].config
    confirmed(record, 3, **{**winner, "seed": 2})
    assert state.chosen().trial == 3, "the first that there is"
    confirmed(record, 4, state="running", **{**winner, "seed": 1})
    confirmed(record, 5, **{**winner, "seed": 1, "stem_kernel": 3})  # another arm
    confirmed(record, 6, state="diverged", **{**winner, "seed": 0})
    assert state.chosen().trial == 3
    end(record, 4, "complete")
    assert state.chosen().trial == 4, "the first seed"
    confirmed(record, 7, **{**winner, "seed": 3})
    assert state.chosen().trial == 4
    assert state.winner().trial == 1
    # Another winner that is not confirmed yet gives its own.
    start(record, 8)
    epoch(record, 8, 1, 0.95)
    end(record, 8, "complete")
    assert state.chosen() is state.winner() is state.trials[8]
    record.close()
    trials, epochs = (
        pd.read_csv(tmp_path / "s" / "trials.csv"),
        pd.read_csv(tmp_path / "s" / "epochs.csv"),
    )
    assert trials["stage"].tolist() == [*["search"] * 3, *["confirm"] * 5, "search"]
    of_search = epochs["trial"].isin([0, 1, 2, 8])
    assert epochs["validation_accuracy"].notna().tolist() == of_search.tolist()
    assert epochs["test_accuracy"].isna().tolist() == of_search.tolist()
    seconds = json.loads((tmp_path / "s" / "study.json").read_text())["seconds"]
    # Four epochs of 2.5 s and five of 5 s, on two cores and half an accelerator each.
    assert seconds["search"] == {"core": 20.0, "accelerator": 5.0}
    assert seconds["confirm"] == {"core": 50.0, "accelerator": 12.5}


def test_without_a_search_stage_nothing_is_chosen(tmp_path):
    """To choose one of the baselines by its test images is what a study must not do."""
    record = Record(tmp_path / "s", HEADER)
    confirmed(record, 0, seed=1)
    confirmed(record, 1, seed=1, stem_kernel=3)
    assert record.state.winner() is record.state.chosen() is None
    record.close()


def test_what_a_trial_is_when_it_ends():
    assert state_at_end(6, False, 6) == "complete"
    assert state_at_end(3, False, 6) == "stopped"
    assert state_at_end(6, True, 6) == state_at_end(1, True, 6) == "diverged"


def test_no_nan_gets_into_the_record(tmp_path):
    record = Record(tmp_path / "s", HEADER)
    start(record, 0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        epoch(record, 0, 1, float("nan"))
    record.close()
