"""What keeps a study from starting, and what a trial failed of, each in one line."""

import textwrap


class CannotStart(Exception):  # noqa: N818
    """What trials run on cannot be started: one line that says why."""


def error_line(text: str) -> str:
    """The line of a traceback that says what went wrong; running out of memory is named as that."""
    lines = [line.strip() for line in text.splitlines()]
    memory = [line for line in lines if "OutOfMemoryError" in line or "low on memory" in line]
    return textwrap.shorten(
        f"out of memory: {memory[0]}" if memory else lines[-1], 300, placeholder=" …"
    )
