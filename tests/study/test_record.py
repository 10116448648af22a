"""The record is the authority: what is appended is read back, whatever happens to the file."""

import json
import resource
import signal

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies
from records import HEADER, confirmed, end, epoch, start

from study.record import CannotWrite, Record, RecordError, read_record, write_views
from study.state import StudyState, state_at_end
from trainables.config import TrialConfig, UsageError


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


def test_a_torn_last_line_is_skipped_with_a_warning(folder, caplog):
    whole = read_record(folder)
    with (folder / "record.jsonl").open("a") as file:
        file.write('{"event": "epoch", "tri')
    assert read_record(folder) == whole
    assert "torn" in caplog.text


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
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
def test_a_damaged_record_is_refused_with_file_and_line(folder, line, replacement, message):
    path = folder / "record.jsonl"
    lines = path.read_text().splitlines()
    lines[line - 1] = replacement
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RecordError) as caught:
        read_record(folder)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_record(tmp_path):
    with pytest.raises(RecordError, match=r"record\.jsonl: No such file"):
        read_record(tmp_path)
    (tmp_path / "record.jsonl").write_text("")
    with pytest.raises(RecordError, match="does not begin with a study"):
        read_record(tmp_path)


def test_a_record_has_one_writer_and_is_started_once(tmp_path):
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


def test_it_continues_behind_a_torn_line(folder):
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


def test_what_does_not_get_onto_the_disk_leaves_the_record_complete(tmp_path):
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


def test_a_try_counts_while_the_trial_makes_no_progress(tmp_path):
    """As where nodes of a cluster are taken away again and again."""
    record = Record(tmp_path / "s", HEADER)
    start(record, 0)
    counted = []
    for last in (1, 2, 2, 3):
        if last > len(record.state.trials[0].epochs):
            epoch(record, 0, last, 0.5)
        record.append("trial_failed", trial=0, error="its node was lost")
        record.append("trial_continued", trial=0, from_epoch=last, note="")
        counted.append(record.state.trials[0].failures)
    record.close()
    assert counted == [1, 1, 2, 1]
    assert read_record(tmp_path / "s").trials[0].failures == 1


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


def test_the_winner_is_the_best_complete_trial_ties_by_loss_then_number(tmp_path):
    record = Record(tmp_path / "s", HEADER)
    assert record.state.winner is None
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
    assert record.state.winner.trial == 2
    record.close()


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
    assert state.winner.trial == 1
    # Another winner that is not confirmed yet gives its own.
    start(record, 8)
    epoch(record, 8, 1, 0.95)
    end(record, 8, "complete")
    assert state.chosen() is state.winner is state.trials[8]
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
    assert record.state.winner is record.state.chosen() is None
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
