"""One driver copies a study: the lease of those that run, of those that were killed, of one that
was cut off."""

import json
import os
import platform
import threading
import time

import pytest
from commands import wait_for

from study.lease import Lease, LeaseLost, LeaseTimes
from study.storage import Storage, StorageError
from trainables.config import UsageError

TIMES = LeaseTimes(renewed=0.1, run_out=1.0, settled=0.1)


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path), "flowers")


def stored(storage):
    return json.loads(storage.read("lease.json"))


def left_behind(storage, **changes):
    """The lease of a driver that was killed."""
    holder = {"host": "oak", "pid": 7, "token": "of-oak", "counter": 3, **changes}
    storage.write("lease.json", json.dumps(holder).encode())


def test_it_names_the_driver_is_renewed_and_goes_with_it(storage):
    lease = Lease(storage, TIMES)
    first = stored(storage)
    assert (first["host"], first["pid"]) == (platform.node(), os.getpid())
    wait_for(lambda: stored(storage)["counter"] >= first["counter"] + 3)
    assert stored(storage)["token"] == first["token"]
    lease.confirm()
    lease.release()
    assert storage.read("lease.json") is None
    time.sleep(3 * TIMES.renewed)
    assert storage.read("lease.json") is None, "it is not renewed any more"
    Lease(storage, TIMES).release()


def test_a_second_driver_is_refused_while_the_first_renews_it(storage, caplog):
    caplog.set_level("INFO", "study")
    lease = Lease(storage, TIMES)
    who = f"process {os.getpid()} on {platform.node()}"
    with pytest.raises(UsageError, match=f"^--storage: invalid value .*: expected .*{who}"):
        Lease(storage, TIMES)
    assert f"waiting for the lease of {who} to run out" in caplog.messages
    lease.confirm()
    lease.release()


def test_one_that_is_not_renewed_is_taken_over(storage):
    left_behind(storage)
    before = time.monotonic()
    lease = Lease(storage, TIMES)
    assert time.monotonic() - before >= TIMES.run_out
    assert stored(storage)["pid"] == os.getpid()
    lease.release()


def test_one_that_is_let_go_of_meanwhile_is_free(storage):
    left_behind(storage)
    threading.Timer(0.2, storage.remove, ["lease.json"]).start()
    before = time.monotonic()
    times = LeaseTimes(renewed=0.1, run_out=60.0, settled=0.1)
    lease = Lease(storage, times)
    assert time.monotonic() - before < times.run_out
    lease.release()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"oak"'], ids=str)
def test_a_damaged_one_is_taken_over_when_nobody_renews_it(storage, content):
    storage.write("lease.json", content)
    lease = Lease(storage, TIMES)
    assert stored(storage)["pid"] == os.getpid()
    lease.release()


def test_of_many_that_come_at_once_one_gets_it(storage):
    left_behind(storage)
    got, refused = [], []

    def take():
        try:
            got.append(Lease(Storage(storage.uri, "flowers"), TIMES))
        except UsageError as error:
            refused.append(error)

    drivers = [threading.Thread(target=take) for _ in range(6)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert (len(got), len(refused)) == (1, 5)
    got[0].confirm()
    got[0].release()


def test_a_driver_whose_lease_was_taken_over_is_told_and_copies_nothing_more(storage):
    lease, told = Lease(storage, TIMES), []
    lease.when_lost(lambda: told.append(True))
    left_behind(storage)
    wait_for(lambda: told)
    with pytest.raises(LeaseLost, match="process 7 on oak has taken it over"):
        lease.confirm()
    lease.release()
    assert stored(storage)["token"] == "of-oak", "it is the other's"
    assert told == [True]


def test_one_that_was_removed_is_lost_for_another_may_have_had_it(storage):
    lease, told = Lease(storage, TIMES), []
    storage.remove("lease.json")
    wait_for(lambda: lease.lost)
    lease.when_lost(lambda: told.append(True))
    assert told == [True]
    assert storage.read("lease.json") is None


def test_a_driver_that_was_stopped_looks_before_it_copies(storage):
    """Its thread has not renewed the lease yet."""
    times = LeaseTimes(renewed=0.5, run_out=1.0, settled=0.1)
    lease = Lease(storage, times)
    lease.confirm()
    lease._ended.set()
    left_behind(storage)
    time.sleep(times.renewed)
    with pytest.raises(LeaseLost):
        lease.confirm()


def point(link, target):
    """Have a link point elsewhere, in one step: between two of them the lease would be gone."""
    new = link.with_name("new")
    new.symlink_to(target)
    new.replace(link)


def test_storage_that_is_out_of_reach_for_a_while_costs_nothing(storage, tmp_path):
    home, real, no_folder = (tmp_path / name for name in ("flowers", "real", "no folder"))
    real.mkdir()
    no_folder.touch()
    point(home, real)
    lease, told = Lease(storage, TIMES), []
    lease.when_lost(lambda: told.append(True))
    point(home, no_folder)
    with pytest.raises(StorageError):
        storage.read("lease.json")
    time.sleep(5 * TIMES.renewed)
    point(home, real)
    before = stored(storage)["counter"]
    wait_for(lambda: stored(storage)["counter"] > before)
    lease.confirm()
    assert (lease.lost, told) == ("", []), "it is still this driver's"
    lease.release()
    assert storage.read("lease.json") is None
