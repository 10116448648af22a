"""A real pseudo-terminal, with somebody who reads it until they hang up."""

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyte

LINES = 40


def hear_signals() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, `nohup` with SIGHUP, which
    a child inherits."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Terminal:
    """A terminal of 40 lines.

    Attributes:
        name: the file that a process opens for it.
        text: what was written on it, without colours and movements of the cursor.
        screen: what is seen on it now, a text per line.
    """

    def __init__(self, columns: int = 200) -> None:
        self._mine, self._theirs = pty.openpty()
        self._drawing = threading.Lock()
        self._screen = pyte.Screen(columns, LINES)
        self._stream = pyte.Stream(self._screen)
        self.resize(columns)
        self.name = os.ttyname(self._theirs)
        self._written = ""
        self._watching = True
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def start(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Run a command on this terminal as its own: it gets Ctrl-C, and SIGHUP when it closes."""

        def own() -> None:
            hear_signals()
            fcntl.ioctl(self._theirs, termios.TIOCSCTTY, 0)

        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            preexec_fn=own,
        )
        os.close(self._theirs)
        return process

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._written)

    @property
    def screen(self) -> list[str]:
        with self._drawing:
            return [line.rstrip() for line in self._screen.display]

    def resize(self, columns: int) -> None:
        """As by dragging the window's edge: the process on it gets SIGWINCH."""
        with self._drawing:
            self._screen.resize(LINES, columns)
        fcntl.ioctl(self._mine, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._mine, keys)

    def close(self) -> None:
        """Hang up."""
        if self._watching:
            self._watching = False
            self._reader.join()
            os.close(self._mine)
            with contextlib.suppress(OSError):
                os.close(self._theirs)

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while self._watching:
            if select.select([self._mine], [], [], 0.1)[0]:
                try:
                    written = decoder.decode(os.read(self._mine, 65536))
                except OSError:  # all that had it open have ended
                    return
                self._written += written
                with self._drawing:
                    self._stream.feed(written)
