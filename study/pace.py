"""When to make again what is made of all trials, which takes the longer the more there are."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TIMES_AS_LONG = 50
"""From the end of one making to the next, in times that it took: 2% of the time at most."""


class Pace:
    """Something is due `least` seconds after it was made, or fifty times as long as that took."""

    def __init__(self, least: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._least, self._clock = least, clock
        self._next = -math.inf

    @property
    def is_due(self) -> bool:
        """Whether it is time, as it is at first."""
        return self._clock() >= self._next

    @contextmanager
    def making(self) -> Iterator[None]:
        """It is made while this lasts."""
        started = self._clock()
        yield
        ended = self._clock()
        self._next = ended + max(self._least, TIMES_AS_LONG * (ended - started))
