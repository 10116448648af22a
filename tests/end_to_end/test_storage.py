"""A study outlives the machine of its driver: real drivers, really killed, a real S3 server."""

import shutil
import time

import pytest
from buckets import SECRET, bucket
from commands import check_same, wait_for
from drivers import Place, Slow, kill

from study.lease import LeaseTimes
from study.record import read_record
from study.storage import Storage, stored_record

pytestmark = pytest.mark.slow

USUAL = (
    "--samples 7 --epochs 4 --seed 3 --max-concurrent 1 --checkpoint-seconds 0 --confirm-seeds 1"
)
QUICK = LeaseTimes(renewed=0.3, run_out=6.0, settled=0.2)


@pytest.fixture(scope="module")
def s3():
    with bucket() as made:
        yield made


@pytest.fixture
def machine(tmp_path_factory, home, head):
    """Makes places of which each has nothing of the others, as another machine."""
    return lambda: Place(tmp_path_factory.mktemp("machine"), head[0], home)


def stored(s3, name: str) -> bytes:
    storage = Storage(s3.uri, name)
    return stored_record(storage, storage.names("record"))


def stored_epochs(s3, name: str) -> int:
    return stored(s3, name).count(b'"event": "epoch"')


def check_no_secret(place: Place, name: str) -> None:
    text = [place.output(name)]
    files = [path for path in (place.root / name).rglob("*") if path.is_file()]
    text += [path.read_bytes().decode(errors="replace") for path in files]
    assert len(files) > 5 and not [each for each in text if SECRET in each]


def test_a_study_whose_machines_are_lost_ends_as_if_nothing_had_happened(machine, s3):
    usual, name = f"{USUAL} --storage {s3.uri}", "lost"
    straight = machine()
    assert straight.run(name, USUAL) == 0, straight.output(name)
    known = 0
    for more in (5, 9):
        place = machine()
        # Slow: what is stored tells how far it is, and it does not end meanwhile.
        driver = place.start(name, usual, lease=QUICK, trainable=Slow)
        wait_for(lambda epochs=known + more: stored_epochs(s3, name) >= epochs)
        assert driver.is_alive(), place.output(name)
        kill(driver)
        shutil.rmtree(place.root / name)
        assert ("fetched from" in place.output(name)) == bool(known)
        known = stored_epochs(s3, name)
    place = machine()
    assert place.run(name, usual, lease=QUICK, report=True) == 0, place.output(name)
    assert f"fetched from {s3.shown}: {name}: " in place.output(name)
    assert "waiting for the lease of process" in place.output(name)
    assert stored(s3, name).startswith(b'{"event": "study"')
    check_same(straight, name, place, name)
    epochs = place.tables(name)[1].groupby("trial")["epoch"].apply(list)
    assert all(each == list(range(1, len(each) + 1)) for each in epochs)
    best = [(each.root / name / "best" / "trial.txt").read_text() for each in (straight, place)]
    assert best[0] == best[1]
    storage = Storage(s3.uri, name)
    assert storage.names("checkpoints") == []
    assert storage.read("lease.json") is None
    assert storage.read("trials.csv") == (place.root / name / "trials.csv").read_bytes()
    check_no_secret(place, name)
    settings = read_record(place.root / name).header["settings"]
    assert settings["storage"] == s3.shown

    # It is complete: another machine has all of it, and no trial runs.
    another = machine()
    assert another.run(name, f"--storage {s3.uri}", lease=QUICK, report=True) == 0
    assert "nothing to run: all " in another.output(name)
    for kept in ("record.jsonl", "best/trial.txt", "report/index.html", "epochs.csv"):
        assert (another.root / name / kept).read_bytes() == (place.root / name / kept).read_bytes()
    assert stored(s3, name) == (another.root / name / "record.jsonl").read_bytes()

    # Without storage it says what is not done any more.
    assert another.run(name, "--samples 7") == 0
    assert f"not copied to {s3.shown} any more" in another.output(name)


def test_a_second_driver_is_refused_and_one_that_was_cut_off_ends(machine, s3):
    name, arguments = "twice", f"--samples 4 --epochs 200 --storage {s3.uri}"
    first, second = machine(), machine()
    driver = first.start(name, arguments, lease=QUICK)
    wait_for(lambda: stored_epochs(s3, name) > 0)
    assert second.run(name, arguments, lease=QUICK) == 2
    last = second.output(name).splitlines()[-1]
    assert "--storage: invalid value " in last
    assert f"process {driver.pid} on " in last
    assert not (second.root / name).exists()
    # As a newcomer does when the first could not be reached for so long.
    Storage(s3.uri, name).write("lease.json", b'{"host": "oak", "pid": 7, "token": "of-oak"}')
    assert first.end(driver) == 1
    line = first.output(name).splitlines()[-1]
    assert f"stopped: {s3.shown}: process 7 on oak has taken it over" in line
    assert "Traceback" not in first.output(name)
    assert first.events(name, "driver_ended") == 1
    assert b"of-oak" in Storage(s3.uri, name).read("lease.json")


def test_a_study_does_not_wait_for_storage_that_is_out_of_reach(machine, s3):
    place, name = machine(), "unreachable"
    arguments = f"--samples 3 --epochs 30 --scheduler fifo --max-concurrent 1 --storage {s3.uri}"
    # Slow: it takes the client a dozen seconds to give up, in which a study must not end.
    driver = place.start(name, f"{arguments} --checkpoint-seconds 0", trainable=Slow)
    wait_for(lambda: stored_epochs(s3, name) > 0)
    s3.stop()
    wait_for(lambda: "tried again" in place.output(name))
    before = place.events(name, "epoch")
    wait_for(lambda: place.events(name, "epoch") > before + 5)
    time.sleep(1.0)
    s3.start()
    assert place.end(driver) == 0, place.output(name)
    output = place.output(name)
    assert output.count(f"not copied to {s3.shown}, tried again: ") == 1
    assert output.count(f"copied to {s3.shown} again") == 1
    assert stored(s3, name) == (place.root / name / "record.jsonl").read_bytes()
    check_no_secret(place, name)


def test_where_the_last_copy_fails_the_study_is_complete_but_the_status_is_1(machine, tmp_path):
    place, name, shared = machine(), "kept", tmp_path / "shared"
    driver = place.start(
        name, f"--samples 2 --epochs 20 --storage {shared}", lease=QUICK, last_seconds=1.0
    )
    wait_for(lambda: (shared / name / "record").exists())
    shared.rename(tmp_path / "gone")
    shared.touch()
    assert place.end(driver) == 1
    last = place.output(name).splitlines()[-1]
    assert f"not copied to {shared}: " in last
    assert f"the study is in {place.root / name}; to copy it: resnet-study" in last
    assert place.state(name).ended is not None
    # Once it can be used, the same command copies it.
    shared.unlink()
    assert place.run(name, f"--storage {shared}", lease=QUICK) == 0
    assert stored_here(shared, name) == (place.root / name / "record.jsonl").read_bytes()


def stored_here(shared, name: str) -> bytes:
    storage = Storage(str(shared), name)
    return stored_record(storage, storage.names("record"))
