"""Numbers as a person says them."""


def duration(seconds: float) -> str:
    """Seconds as `40 s`, `12 min` or `3.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is not one: `1 core`, `2 cores`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
