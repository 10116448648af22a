"""A study's copy: at every moment one that can be continued, fetched where it is newer, and never
in the study's way."""

import json
import logging
import shutil
import time

import pytest
from buckets import bucket
from commands import wait_for
from records import HEADER, end, epoch, start

from study import copying, lease
from study.checkpoints import load_checkpoint, remove_checkpoints, save_checkpoint
from study.copying import StudyCopy
from study.lease import LeaseTimes
from study.record import Record, read_record, replace_file
from study.storage import Storage, stored_record
from trainables.config import UsageError
from trainables.vocabulary import TrialStatus


@pytest.fixture(autouse=True)
def quickly(monkeypatch, caplog):
    monkeypatch.setattr(lease, "TIMES", LeaseTimes(renewed=0.1, run_out=0.5, settled=0.0))
    monkeypatch.setattr(copying, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(copying, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(copying, "LAST_SECONDS", 0.5)
    caplog.set_level("INFO", "study")


@pytest.fixture(scope="module")
def s3():
    with bucket() as made:
        yield made


@pytest.fixture(params=["path", "s3"])
def storage(request, tmp_path):
    if request.param == "path":
        return Storage(str(tmp_path / "shared"), "s")
    s3 = request.getfixturevalue("s3")
    s3.empty()
    return Storage(s3.uri, "s")


@pytest.fixture
def shared(tmp_path):
    return Storage(str(tmp_path / "shared"), "s")


def copy_of(storage, folder, ended=None) -> StudyCopy:
    copy = StudyCopy(storage, folder)
    copy.start(lambda: ended.append(True) if ended is not None else None)
    return copy


def once(storage, folder) -> StudyCopy:
    """A driver that copies what there is, and ends."""
    copy = copy_of(storage, folder)
    copy.finish()
    assert not copy.error
    return copy


def record_of(storage) -> bytes:
    return stored_record(storage, storage.names("record"))


def add(folder, lines: int, accuracy=0.5) -> None:
    """More epochs of the trial that runs."""
    record = Record(folder)
    known = len(record.state.trials[4].epochs)
    for number in range(known + 1, known + lines + 1):
        epoch(record, 4, number, accuracy)
    record.close()


def kept(folder) -> dict[str, bytes]:
    """What a study directory holds that is not made anew from the record."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("events.")
    }


def test_what_was_copied_is_fetched_on_a_fresh_machine(storage, folder, tmp_path, caplog):
    for number in (1, 2):
        save_checkpoint(folder, 4, number, memoryview(b"weights %d" % number))
    for name in ("best/model.pt", "best/trial.txt", "report/index.html", "report/figures/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("0\n" if name == "best/trial.txt" else name)
    (folder / "study.log").write_text("12:00 a line\n")
    once(storage, folder)
    before = kept(folder)
    other = tmp_path / "elsewhere" / "s"
    once(storage, other)
    assert kept(other) == before
    assert f"fetched from {storage.uri}: s: 4 trials ended, 1 started" in caplog.messages
    assert storage.read("lease.json") is None
    # What is made anew from the record is not there.
    (folder / "optuna.log").touch()
    once(storage, folder)
    assert not storage.read("optuna.log")


class Watched(Storage):
    """Storage that a driver may be killed at after every write: then it must be a study that can
    be continued, with the weights of its winner."""

    def write(self, name, content):
        super().write(name, content)
        self.look(name)

    def remove(self, name):
        super().remove(name)
        self.look(name)

    def look(self, name):
        if name != lease.NAME and (content := record_of(self)):
            try:
                self.check(content)
            except AssertionError as error:
                self.broken.append(f"after {name}: {error}")
            self.moments += 1

    def check(self, content):
        folder = self.folder
        shutil.rmtree(folder, ignore_errors=True)
        copying.fetch(Storage(self.home, "s"), content, folder / "s")
        state = read_record(folder / "s")
        for trial in state.in_state(TrialStatus.RUNNING):
            reached, _, _ = load_checkpoint(folder / "s", trial)
            assert bool(reached) == bool(trial.epochs)
        if (winner := state.winner) is not None:
            whose = folder / "s" / "best" / "trial.txt"
            is_best = whose.exists() and whose.read_text() == f"{winner.trial}\n"
            weights = load_checkpoint(folder / "s", winner)[1]
            assert is_best or weights == b"%d of %d" % (len(winner.epochs), winner.trial)
            if is_best:
                model = (folder / "s" / "best" / "model.pt").read_text()
                assert model == f"model of {winner.trial}"


def test_at_every_moment_it_is_a_study_that_can_be_continued(tmp_path, monkeypatch):
    storage = Watched(str(tmp_path / "shared"), "s")
    storage.home, storage.folder = str(tmp_path / "shared"), tmp_path / "killed"
    storage.moments, storage.broken = 0, []
    monkeypatch.setattr(copying, "LAST_SECONDS", 20)
    folder = tmp_path / "s"
    record = Record(folder, HEADER)
    copy = copy_of(storage, folder)
    record.append("driver_started", pid=1, host="here")
    for number in range(6):
        start(record, number, "random")
        for count in range(1, 5):
            content = b"%d of %d" % (count, number)
            save_checkpoint(folder, number, count, memoryview(content))
            epoch(record, number, count, 0.1 * number + 0.01 * count)
            # Sometimes several epochs between two looks at the study.
            time.sleep(0.03 * (count % 2))
        end(record, number, "complete")
        new = folder / "best.tmp"
        new.mkdir()
        (new / "model.pt").write_text(f"model of {number}")
        (new / "trial.txt").write_text(f"{number}\n")
        shutil.rmtree(folder / "best", ignore_errors=True)
        new.rename(folder / "best")
        remove_checkpoints(folder, number)
    record.close()
    copy.finish()
    assert not copy.error
    assert storage.broken == []
    assert storage.moments > 20
    assert record_of(storage) == (folder / "record.jsonl").read_bytes()
    assert storage.names("checkpoints") == []


def test_a_checkpoint_is_copied_at_once_and_the_record_after_a_while(shared, tmp_path, monkeypatch):
    folder = tmp_path / "s"
    record = Record(folder, HEADER)
    copy = copy_of(shared, folder)
    start(record, 0)
    wait_for(lambda: record_of(shared))
    first = record_of(shared)
    epoch(record, 0, 1, 0.5)
    time.sleep(0.3)
    assert record_of(shared) == first
    save_checkpoint(folder, 0, 1, memoryview(b"weights"))
    wait_for(lambda: record_of(shared) != first, 20)  # not after PART_SECONDS
    assert [name for name in shared.names("checkpoints") if "/0/1-" in name]
    second = record_of(shared)
    monkeypatch.setattr(copying, "PART_SECONDS", 0.2)
    epoch(record, 0, 2, 0.5)
    wait_for(lambda: record_of(shared) != second, 20)
    assert len(shared.names("record")) == 3, "only what is new is written"
    copy.finish()
    record.close()


def test_where_the_study_directory_is_ahead_nothing_is_fetched(storage, folder, caplog):
    once(storage, folder)
    add(folder, 3)
    before = (folder / "record.jsonl").read_bytes()
    once(storage, folder)
    assert (folder / "record.jsonl").read_bytes() == before == record_of(storage)
    assert not [line for line in caplog.messages if line.startswith("fetched")]


def test_where_storage_is_ahead_it_is_fetched_over_what_is_there(storage, folder, tmp_path):
    older = tmp_path / "older" / "s"
    shutil.copytree(folder, older)
    save_checkpoint(older, 4, 2, memoryview(b"of an epoch that was not recorded here"))
    with (older / "record.jsonl").open("a") as file:
        file.write('{"event": "epo')  # as a kill leaves it
    add(folder, 3)
    save_checkpoint(folder, 4, 4, memoryview(b"weights"))
    once(storage, folder)
    once(storage, older)
    assert kept(older) == kept(folder)


def test_a_torn_or_missing_part_is_an_older_copy(storage, folder, tmp_path):
    once(storage, folder)
    (whole,) = storage.names("record")
    content = record_of(storage)
    storage.write(whole, content[:-10])
    other = tmp_path / "other" / "s"
    once(storage, other)
    lines = content.splitlines(keepends=True)
    assert (other / "record.jsonl").read_bytes() == b"".join(lines[:-1])
    # The machine with all of it comes back: its copy is the newest.
    once(storage, folder)
    assert record_of(storage) == content == (folder / "record.jsonl").read_bytes()
    assert len(storage.names("record")) == 1


def test_where_a_middle_part_is_missing_what_was_before_it_is_continued(shared, folder, tmp_path):
    copy = copy_of(shared, folder)
    wait_for(lambda: record_of(shared))
    for count in (1, 2):
        add(folder, 1)
        save_checkpoint(folder, 4, 1 + count, memoryview(b"weights"))
        wait_for(lambda count=count: len(shared.names("record")) > count)
    copy.finish()
    _, middle, last = shared.names("record")
    shared.remove(middle)
    other = tmp_path / "other" / "s"
    once(shared, other)
    assert len(read_record(other).trials[4].epochs) == 1
    # It goes another way, which the part that was behind the missing one is no part of.
    add(other, 5, accuracy=0.75)
    once(shared, other)
    assert record_of(shared) == (other / "record.jsonl").read_bytes()
    assert last not in shared.names("record")


def test_where_they_have_diverged_it_is_refused(storage, folder, tmp_path):
    other = tmp_path / "other" / "s"
    shutil.copytree(folder, other)
    add(folder, 1, 0.5)
    once(storage, folder)
    add(other, 1, 0.75)
    before, stored = kept(other), record_of(storage)
    with pytest.raises(UsageError) as caught:
        StudyCopy(storage, other)
    line = str(caught.value)
    assert line.startswith("--storage: invalid value ") and "\n" not in line
    assert str(other) in line and storage.uri in line and "diverged" in line
    assert (kept(other), record_of(storage)) == (before, stored)
    assert storage.read("lease.json") is None


def test_a_driver_without_storage_is_not_disturbed(shared, folder, tmp_path):
    older = tmp_path / "older" / "s"
    shutil.copytree(folder, older)
    add(folder, 1)
    once(shared, folder)
    running = Record(older)
    before = kept(older)
    with pytest.raises(UsageError, match="--name"):
        StudyCopy(shared, older)
    assert kept(older) == before
    running.close()


def test_a_study_that_was_never_recorded_leaves_nothing(shared, tmp_path):
    once(shared, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    assert shared.names("") == []


def messages(caplog, start):
    return [line for line in caplog.messages if line.startswith(start)]


def test_storage_that_is_out_of_reach_for_a_while_costs_one_warning_and_one_line(
    s3, folder, caplog, monkeypatch
):
    monkeypatch.setattr(copying, "PART_SECONDS", 0.0)
    monkeypatch.setattr(lease, "TIMES", LeaseTimes(renewed=30.0, run_out=60.0, settled=0.0))
    s3.empty()
    storage = Storage(s3.uri, "s")
    copy = copy_of(storage, folder)
    wait_for(lambda: record_of(storage) == (folder / "record.jsonl").read_bytes())
    s3.stop()
    add(folder, 1)
    wait_for(lambda: messages(caplog, f"not copied to {s3.shown}, tried again: "))
    add(folder, 1)
    time.sleep(1.0)
    s3.start()
    wait_for(lambda: messages(caplog, f"copied to {s3.shown} again"))
    add(folder, 1)
    copy.finish()
    assert record_of(storage) == (folder / "record.jsonl").read_bytes()
    assert len(messages(caplog, "not copied to")) == len(messages(caplog, "copied to")) == 1
    assert not copy.error


def test_where_the_last_copy_fails_it_says_so_after_a_while(shared, tmp_path, folder, caplog):
    copy = copy_of(shared, folder)
    wait_for(lambda: record_of(shared))
    home = tmp_path / "shared" / "s"
    home.rename(tmp_path / "gone")
    home.touch()
    add(folder, 1)
    before = time.monotonic()
    copy.finish()
    assert time.monotonic() - before < 60  # by default it is two minutes
    assert copy.error and not copy.is_lost
    assert len(messages(caplog, f"not copied to {shared.uri}, tried again: ")) == 1
    last = caplog.records[-1]
    assert last.levelno == logging.ERROR
    assert last.message.startswith(f"not copied to {shared.uri}: ")
    assert f"the study is in {folder}; to copy it: " in last.message


def test_a_driver_that_was_cut_off_stops_copying_and_ends(shared, folder, caplog):
    ended = []
    copy = copy_of(shared, folder, ended)
    wait_for(lambda: record_of(shared))
    shared.write("lease.json", json.dumps({"host": "oak", "pid": 7, "token": "x"}).encode())
    wait_for(lambda: ended)
    stored = record_of(shared)
    add(folder, 2)
    save_checkpoint(folder, 4, 3, memoryview(b"weights"))
    copy.finish()
    assert copy.is_lost
    assert record_of(shared) == stored and shared.names("checkpoints") == []
    assert json.loads(shared.read("lease.json"))["token"] == "x"
    (line,) = messages(caplog, "stopped: ")
    assert "process 7 on oak has taken it over" in line and str(folder) in line


def test_a_driver_that_was_stopped_copies_nothing_before_it_has_looked_at_its_lease(
    shared, folder, monkeypatch
):
    monkeypatch.setattr(lease, "TIMES", LeaseTimes(renewed=60.0, run_out=60.0, settled=0.0))
    copy = copy_of(shared, folder)
    wait_for(lambda: record_of(shared))
    shared.write("lease.json", json.dumps({"host": "oak", "pid": 7, "token": "x"}).encode())
    copy._lease._renewed -= 60.0  # as if it had been stopped for so long
    save_checkpoint(folder, 4, 1, memoryview(b"weights"))
    wait_for(lambda: copy.is_lost)
    copy.finish()
    assert shared.names("checkpoints") == []


def test_a_copy_of_best_counts_once_its_last_file_is_there(shared, folder, tmp_path):
    (folder / "best").mkdir()
    (folder / "best" / "model.pt").write_text("model")
    (folder / "best" / "predictions.csv").write_text("old")
    replace_file(folder / "best" / "trial.txt", b"0\n")
    once(shared, folder)
    first = shared.names("best")
    assert len(first) == 3
    (folder / "best" / "predictions.csv").write_text("new")
    once(shared, folder)
    assert shared.names("best") == first
    # Trained again, with other weights.
    replace_file(folder / "best" / "trial.txt", b"0\n")
    (folder / "best" / "predictions.csv").unlink()
    once(shared, folder)
    _, marker = shared.names("best")
    assert marker not in first
    other = tmp_path / "other" / "s"
    once(shared, other)
    assert kept(other) == kept(folder)
    shared.remove(shared.names("best")[-1])
    once(shared, tmp_path / "third" / "s")
    assert not (tmp_path / "third" / "s" / "best").exists()
