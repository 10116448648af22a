"""When what is recorded happened; a `StudyState` has the seconds that drivers ran, not the time."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

Times = dict[tuple[int, str, int], datetime]
"""By trial, kind of event and epoch (0 where it has none); of several, the last."""


def recorded_times(folder: Path) -> Times:
    """The times of all trials' events in the record of a study."""
    with (folder / "record.jsonl").open("rb") as lines:
        events = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return {key_of(event): time_of(event) for event in events if "trial" in event}


def key_of(event: Mapping[str, Any]) -> tuple[int, str, int]:
    """What an event of a trial has its time under."""
    return event["trial"], event["event"], event.get("epoch", 0)


def time_of(event: Mapping[str, Any]) -> datetime:
    """When an event was recorded."""
    return datetime.fromisoformat(event["time"])
