"""What keeps a study from starting, and what a trial failed of, each in one line."""

import textwrap
from pathlib import Path
from typing import Any

NODE_LOST = ("actor is temporarily unavailable", "its node has died", "node was terminated")
"""How Ray says that a machine of the cluster is gone, or that it does not answer."""


class CannotStart(Exception):  # noqa: N818
    """What trials run on cannot be started: one line that says why."""


def error_line(text: str) -> str:
    """The line of a traceback that says what went wrong; running out of memory is named as that,
    and so is the loss of a machine."""
    if any(words in text for words in NODE_LOST):
        return "its node was lost or does not answer"
    lines = [line.strip() for line in text.splitlines()]
    memory = [line for line in lines if "OutOfMemoryError" in line or "low on memory" in line]
    return textwrap.shorten(
        f"out of memory: {memory[0]}" if memory else lines[-1], 300, placeholder=" …"
    )


def error_text(trial: Any) -> str:
    """What Ray says a trial of Tune failed of: a traceback."""
    # Not `trial.get_error()`: that reads the copy in Tune's storage, which is not there yet.
    file = Path(trial.error_file) if trial.error_file else None
    text = file.read_text(encoding="utf-8").strip() if file and file.exists() else ""
    return text or "the trial's process ended"
