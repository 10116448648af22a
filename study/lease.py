"""The lease of a study in storage, `lease.json`: only the driver that holds it writes there.

It names the driver and has a counter, which the driver moves on every ten seconds. Clocks of
different machines are never compared: whoever finds a lease watches whether it changes.
"""

import json
import logging
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from study.storage import Storage, StorageError
from trainables.config import invalid

log = logging.getLogger("study")

NAME = "lease.json"


@dataclass(frozen=True)
class LeaseTimes:
    """Seconds between two renewals of a lease, after which one that has not changed has run out,
    and after which a new one is read back."""

    renewed: float = 10.0
    run_out: float = 60.0
    settled: float = 1.0


TIMES = LeaseTimes()


class LeaseLost(Exception):  # noqa: N818
    """Another driver has taken the lease over, and which, in one line."""


class Lease:
    """The lease that this driver holds."""

    def __init__(self, storage: Storage, times: LeaseTimes) -> None:
        """Take the lease, and renew it from here on.

        Raises:
            UsageError: another driver holds it.
            StorageError: storage cannot be reached.
        """
        self.lost = ""
        self._storage = storage
        self._times = times
        self._mine: dict[str, Any] = {
            "host": platform.node(),
            "pid": os.getpid(),
            "token": secrets.token_hex(8),
            "counter": 0,
        }
        self._renewed = 0.0
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._when_lost: Callable[[], None] = lambda: None
        self._take()
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    def when_lost(self, act: Callable[[], None]) -> None:
        """Call `act` once the lease is lost, from another thread."""
        self._when_lost = act
        if self.lost:
            act()

    def confirm(self) -> None:
        """Make sure that the lease is still this driver's.

        Raises:
            LeaseLost: it is not.
            StorageError: that cannot be found out.
        """
        with self._lock:
            if not self.lost and time.monotonic() - self._renewed >= self._times.renewed:
                self._renew()
        if self.lost:
            raise LeaseLost(self.lost)

    def release(self) -> None:
        """Let go of it, unless it is another driver's by now."""
        self._ended.set()
        with self._lock, suppress(StorageError):
            if not self.lost and self._is_mine(self._read()):
                self._storage.remove(NAME)

    def _take(self) -> None:
        holder = self._read()
        if holder is not None and self._is_renewed(holder):
            raise self._held_by(holder)
        self._write()
        time.sleep(self._times.settled)
        # Of several that found no lease, or one that had run out, the last one to write has it.
        holder = self._read() or {}
        if not self._is_mine(holder):
            raise self._held_by(holder)

    def _is_renewed(self, holder: dict[str, Any]) -> bool:
        """Whether a lease changes before it has run out."""
        log.info("waiting for the lease of %s to run out", _driver(holder))
        until = time.monotonic() + self._times.run_out
        while time.monotonic() < until:
            time.sleep(self._times.renewed / 10)
            now = self._read()
            if now != holder:
                return now is not None
        return False

    def _keep(self) -> None:
        while not self._ended.wait(self._times.renewed):
            try:
                self.confirm()
            except StorageError:
                continue  # it is tried again, and the copies say that storage is out of reach
            except LeaseLost:
                self._when_lost()
                return

    def _renew(self) -> None:
        holder = self._read()
        if not self._is_mine(holder):
            self.lost = f"{_driver(holder or {})} has taken it over while it could not be reached"
            return
        self._mine["counter"] += 1
        self._write()

    def _read(self) -> dict[str, Any] | None:
        content = self._storage.read(NAME)
        try:
            return None if content is None else dict(json.loads(content))
        except (ValueError, TypeError):
            return {}

    def _write(self) -> None:
        self._storage.write(NAME, json.dumps(self._mine).encode())
        self._renewed = time.monotonic()

    def _is_mine(self, holder: dict[str, Any] | None) -> bool:
        return holder is not None and holder.get("token") == self._mine["token"]

    def _held_by(self, holder: dict[str, Any]) -> Exception:
        return invalid("--storage", self._storage.uri, f"not what {_driver(holder)} copies to")


def _driver(holder: dict[str, Any]) -> str:
    if "pid" not in holder:
        return "another driver"
    return f"process {holder['pid']} on {holder.get('host')}"
