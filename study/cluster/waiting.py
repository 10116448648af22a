"""Says so where trials wait for the cluster."""

import logging
import math
import time
from typing import Any

from study.watch.surfaces import DriverCallback

log = logging.getLogger("study")

WAIT_SECONDS = 10.0


class Waiting(DriverCallback):
    """A line where for ten seconds no trial runs: on a cluster others may have the cores, or none
    have joined yet."""

    def __init__(self) -> None:
        self._idle_since = math.inf
        self._is_said = False

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        states = {trial.status for trial in trials}
        if "RUNNING" in states or "PENDING" not in states:
            self._idle_since = math.inf
            self._is_said = False
        else:
            self._idle_since = min(self._idle_since, time.monotonic())
        if time.monotonic() - self._idle_since > WAIT_SECONDS and not self._is_said:
            log.info("waiting for a free core of the cluster, or for processes to start there")
            self._is_said = True
