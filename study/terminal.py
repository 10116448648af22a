"""Output for whoever watches. A study does not depend on them."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any


class SafeStream:
    """A text stream that is safe to write to: it escapes what its encoding lacks, and drops
    everything once it cannot be written to, be it a closed terminal or a full disk."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write a text where that is possible."""
        with self._outlived():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered where that is possible."""
        with self._outlived():
            self._stream.flush()

    @contextmanager
    def _outlived(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            # Drops also what is still buffered, which Python would write at its end.
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
        except RuntimeError:
            # A signal's handler writes while something is being written: its line is lost.
            pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
