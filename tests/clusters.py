"""Clusters of Ray for tests: nodes on this machine, each of its own `ray start`."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import psutil
from commands import wait_for
from drivers import TOKEN

RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """Nodes on this machine; by default the head has no core and no dashboard."""

    def __init__(self, home: Path, *options: str) -> None:
        self._home = home
        # As where the environment is active: a job's `python` is the one of the head's PATH.
        path = f"{RAY.parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, **TOKEN, "HOME": str(home), "PATH": path}
        self.address = f"127.0.0.1:{free_port()}"
        self._nodes: list[subprocess.Popen] = []
        self._scratch: list[str] = []
        head = ["--head", "--port", self.address.rpartition(":")[2]]
        options = options or ("--num-cpus", "0", "--include-dashboard=false")
        self.start(sys.executable, *head, *options)

    @property
    def nodes(self) -> list[subprocess.Popen]:
        """Those with cores, the oldest first."""
        return [node for node in self._nodes[1:] if node.poll() is None]

    def slow_trials(self) -> list[psutil.Process]:
        """The processes that train slowly."""
        return [
            process
            for node in self.nodes
            for process in psutil.Process(node.pid).children(recursive=True)
            # What an actor does is in its name: one that waits for its next trial trains none.
            if re.match(r"ray::Slow\w*\.tra", process.name())
        ]

    def start(self, python: str | Path, *options: str, **more: str) -> subprocess.Popen:
        """A node, once it has started; with a directory of its own, as on its own machine."""
        # Also, what `ray start` makes current would be joined by others. Sockets need a short path.
        self._scratch.append(tempfile.mkdtemp(prefix="ray-"))
        where = ["--node-ip-address", "127.0.0.1", "--disable-usage-stats", "--block"]
        node = subprocess.Popen(
            [
                python,
                "-m",
                "ray.scripts.scripts",
                "start",
                *options,
                *where,
                "--temp-dir",
                self._scratch[-1],
            ],
            env={**self.environment, **more},
            cwd=self._home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        self._nodes.append(node)
        assert node.stdout
        wait_for(lambda: "Ray runtime started" in node.stdout.readline())
        return node

    def join(self, python: str | Path = sys.executable, **environment: str) -> subprocess.Popen:
        """A node with one core."""
        return self.start(python, "--address", self.address, "--num-cpus", "1", **environment)

    def close(self) -> None:
        for node in reversed(self._nodes):
            lose(node)
        for folder in self._scratch:
            shutil.rmtree(folder, ignore_errors=True)


def lose(node: subprocess.Popen) -> None:
    """As when the machine is taken away: everything on it ends at once."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(node.pid)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
    node.wait()
    node.stdout.close()


def environment(place: Path) -> Path:
    """A virtual environment that has the packages of this one, but not the editable
    install."""
    venv.create(place, symlinks=True)
    (site,) = place.glob("lib/*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib"))
    return place / "bin" / "python"
