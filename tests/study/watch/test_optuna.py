"""What Optuna reads in the journal, beside what was put into the record."""

import gc
import itertools
import json
import math
import subprocess
import sys
import threading
from datetime import datetime, timedelta

import optuna
import psutil
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from records import HEADER, confirmed, end, epoch, every_end, start

from study.designs import SEARCH, Factor
from study.record import Record
from study.watch.optuna import OptunaView, main
from study.watch.surfaces import Surfaces

WHEN = Factor("momentum", "nuisance", low=0.5, high=0.9, when={"stem_kernel": 3})
FACTORS = [*SEARCH.factors, WHEN]
DESIGN = {"name": "d", **SEARCH.to_dict(), "factors": [factor.to_dict() for factor in FACTORS]}
LIVE = timedelta(seconds=1)
"""So far apart may be when an event is recorded and when it is shown."""


def play(record: Record) -> None:
    """Search trials: complete, stopped, diverged, failed, running; one tuned, one confirmed."""
    every_end(record, [0.5, None], stem_kernel=3, depth=10, stem_maxpool=False)
    start(record, 5, "tune", "tune", learning_rate=0.6, stem_kernel=7)
    epoch(record, 5, 1, 0.875)
    end(record, 5, "complete")
    confirmed(record, 6, seed=11)


@pytest.fixture
def record(tmp_path):
    record = Record(tmp_path / "s", HEADER | {"design": DESIGN})
    yield record
    record.close()


@pytest.fixture
def watch(record):
    """Shows the record in Optuna's words, anew with each call."""
    return lambda: Surfaces(record, [OptunaView(record.folder)])


def read(record: Record) -> dict[str, list[FrozenTrial]]:
    """The trials of each Optuna study."""
    storage = JournalStorage(JournalFileBackend(str(record.folder / "optuna.log")))
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage).trials for name in names}


def content(record: Record) -> dict[str, list[dict]]:
    """All that is said of the trials but when."""
    return {
        name: [
            {key: value for key, value in vars(trial).items() if "datetime" not in key}
            for trial in trials
        ]
        for name, trials in read(record).items()
    }


def event_times(record: Record, kind: str) -> dict[int, datetime]:
    lines = (record.folder / "record.jsonl").read_text().splitlines()
    return {
        event["trial"]: datetime.fromisoformat(event["time"]).astimezone().replace(tzinfo=None)
        for event in map(json.loads, lines)
        if event["event"] == kind
    }


def test_states_values_and_readings(record, watch):
    watch()
    play(record)
    found = read(record)
    assert list(found) == ["s", "s tune", "s confirm"]
    assert [(t.state, t.value, t.intermediate_values) for t in found["s"]] == [
        (TrialState.COMPLETE, 0.75, {1: 0.5, 2: 0.75}),
        (TrialState.PRUNED, 0.25, {1: 0.25}),
        (TrialState.PRUNED, None, {1: 0.5}),
        (TrialState.FAIL, None, {}),
        (TrialState.RUNNING, None, {1: 0.125}),
    ]
    (tune,), (confirm,) = found["s tune"], found["s confirm"]
    assert (tune.state, tune.value) == (TrialState.COMPLETE, 0.875)
    assert (confirm.state, confirm.value) == (TrialState.COMPLETE, 0.99)
    assert confirm.intermediate_values == {1: 0.99}


def test_attributes_have_the_words_of_the_record(record, watch):
    watch()
    play(record)
    found = read(record)
    states = ["complete", "stopped", "diverged", "failed", "running"]
    assert [trial.user_attrs["state"] for trial in found["s"]] == states
    assert [trial.user_attrs["error"] for trial in found["s"]] == ["", "", "", "OSError: gone", ""]
    (confirm,) = found["s confirm"]
    assert confirm.user_attrs == {
        "trial": 6,
        "state": "complete",
        "stage": "confirm",
        "arm": "k7 s2 pool d18",
        "origin": "confirm",
        "error": "",
        "parameters": 10,
        "forward_flops": 20,
        "learning_rate": 0.07,
        "seed": 11,
        "max_epochs": 20,
    }


def test_parameters_are_the_factors_that_exist_in_the_ranges_of_the_design(record, watch):
    watch()
    play(record)
    found = read(record)
    assert found["s"][1].params == {
        "learning_rate": 0.02,
        "stem_kernel": 3,
        "stem_stride": 2,
        "stem_maxpool": False,
        "depth": 10,
        "momentum": 0.9,
    }
    assert found["s"][1].distributions["learning_rate"] == FloatDistribution(3e-4, 0.3, log=True)
    assert found["s"][1].distributions["depth"] == CategoricalDistribution((10, 18, 34))
    (tune,) = found["s tune"]
    assert set(tune.params) == {"stem_kernel", "stem_stride", "stem_maxpool", "depth"}, (
        "a rate of 0.6 is outside of the design's range, momentum is one of kernel 3"
    )
    for trials in found.values():
        for trial in trials:
            if trial.state != TrialState.RUNNING:
                optuna.create_study().add_trial(trial)  # refuses what does not fit together


def test_times_are_the_records_own(record, watch):
    watch()
    play(record)
    begun, ended = event_times(record, "trial_started"), event_times(record, "trial_ended")
    for trial in itertools.chain(*read(record).values()):
        number = trial.user_attrs["trial"]
        assert trial.datetime_start == begun[number]
        if number != 4:
            assert abs(trial.datetime_complete - ended[number]) < LIVE
    watch()
    for trial in itertools.chain(*read(record).values()):
        number = trial.user_attrs["trial"]
        assert (trial.datetime_start, trial.datetime_complete) == (begun[number], ended.get(number))


def test_a_resumed_study_has_the_same_content_and_grows(record, watch):
    watch()
    play(record)
    before = content(record)
    # Not closed, as after a kill, and in the middle of a line.
    with (record.folder / "optuna.log").open("a") as file:
        file.write('{"op_code": 4, "study')
    record.close()
    record = Record(record.folder)
    Surfaces(record, [OptunaView(record.folder)])
    assert content(record) == before
    epoch(record, 4, 2, 0.375)
    end(record, 4, "complete")
    confirmed(record, 7, "running")
    found = read(record)
    assert found["s"][4].state == TrialState.COMPLETE
    assert found["s"][4].intermediate_values == {1: 0.125, 2: 0.375}
    assert [trial.state for trial in found["s confirm"]] == [
        TrialState.COMPLETE,
        TrialState.RUNNING,
    ]
    assert sorted(path.name for path in record.folder.glob("optuna*")) == ["optuna.log"]
    record.close()


def test_a_try_that_failed_is_said_while_the_trial_is_tried_again(record, watch):
    watch()
    start(record, 0)
    record.append("trial_failed", trial=0, error="OSError: gone")
    (trial,) = read(record)["s"]
    assert (trial.state, trial.user_attrs["error"]) == (TrialState.RUNNING, "OSError: gone")
    epoch(record, 0, 1, 0.5)
    end(record, 0, "stopped")
    (trial,) = read(record)["s"]
    assert (trial.state, trial.user_attrs["error"]) == (TrialState.PRUNED, "")


def test_the_command_writes_the_same_of_a_study_that_is_over(record, watch):
    play(record)
    watch()
    before = content(record)
    (record.folder / "optuna.log").unlink()
    command = [sys.executable, "-m", "study.watch.optuna", str(record.folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"optuna-dashboard {record.folder / 'optuna.log'}\n"
    assert content(record) == before


def test_the_command_says_in_one_line_that_there_is_no_study(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["optuna", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == f"error: {tmp_path / 'record.jsonl'}: No such file or directory"


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
        end(record, number, "complete")
    assert (process.num_fds(), threading.active_count()) == before
    watch()
    assert (process.num_fds(), threading.active_count()) == before
    assert len(read(record)["s"]) == 1000
