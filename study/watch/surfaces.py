"""Surfaces: what shows a running study, each fed with the events of its record in one place.

The record is the source of truth, and every surface a view that can be made again from it.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from ray import tune

from study.record import Record
from study.state import StudyState
from trainables.vocabulary import Stage

log = logging.getLogger("study")


class Surface:
    """Shows a study somewhere; this one nowhere. `name` says what is lost where it fails."""

    name = "surface"

    def start(self, state: StudyState) -> None:
        """Show what is recorded when a driver starts."""

    def stage(self, state: StudyState, stage: Stage, trials: int) -> None:
        """A stage begins that has so many trials in all, those of earlier drivers included."""

    def event(self, state: StudyState, event: Mapping[str, Any]) -> None:
        """Show an event, which `state` has already taken in."""

    def tick(self, state: StudyState) -> None:
        """Some time has passed: called about ten times a second while trials run."""

    def close(self) -> None:
        """The driver ends, or the surface has failed."""


class Surfaces:
    """All surfaces of a driver. A study does not depend on them: one that fails is closed, with a
    warning."""

    def __init__(self, record: Record, surfaces: Iterable[Surface]) -> None:
        """Show what `record` has, and every event that it takes in from here on."""
        self._state = record.state
        self._surfaces = list(surfaces)
        self._each("start", self._state)
        record.subscribe(lambda event: self._each("event", self._state, event))

    def stage(self, stage: Stage, trials: int) -> None:
        """As of a surface."""
        self._each("stage", self._state, stage, trials)

    def tick(self) -> None:
        """As of a surface."""
        self._each("tick", self._state)

    def close(self) -> None:
        """As of a surface."""
        self._each("close")

    def _each(self, method: str, *arguments: Any) -> None:
        for surface in list(self._surfaces):
            try:
                getattr(surface, method)(*arguments)
            # Whatever goes wrong there: a study outlives a full disk of TensorBoard's.
            except Exception as error:
                log.warning("%s: not written any more: %s", surface.name, error)
                log.debug("traceback", exc_info=error)
                self._surfaces.remove(surface)
                if method != "close":
                    with suppress(Exception):
                        surface.close()


class DriverCallback(tune.Callback):
    """A callback that lives in this process: Tune pickles its callbacks to restore them, and we
    never restore."""

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        return tune.Callback, ()


class Ticks(DriverCallback):
    """Tells the surfaces that time passes."""

    def __init__(self, surfaces: Surfaces) -> None:
        self._surfaces = surfaces

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        self._surfaces.tick()
