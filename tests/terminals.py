"""A real pseudo-terminal, with somebody who reads it until they hang up."""

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


class Terminal:
    """A terminal of 200 columns.

    Attributes:
        name: the file that a process opens for it.
        text: what was written on it, without colours and movements of the cursor.
    """

    def __init__(self) -> None:
        self._mine, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
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
            signal.signal(signal.SIGINT, signal.SIG_DFL)
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
        while self._watching:
            if select.select([self._mine], [], [], 0.1)[0]:
                try:
                    self._written += os.read(self._mine, 65536).decode(errors="replace")
                except OSError:  # all that had it open have ended
                    return
