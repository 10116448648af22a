"""A study on a cluster in which everything is killed, by chance; see `Chaos`."""

import contextlib
import random
import shutil
import time
from pathlib import Path

import psutil
from buckets import Bucket
from clusters import Cluster, lose
from commands import wait_for
from drivers import Place, Slow, kill

from study.lease import LeaseTimes
from trainables.trainable import ResNetTrainable

KINDS = ("worker", "node", "driver", "head", "machine", "storage")
STORAGE_SECONDS = 60.0
QUICK = LeaseTimes(renewed=0.5, run_out=5.0, settled=0.2)
USUAL = (
    "--samples 6 --epochs 8 --seed 3 --max-concurrent 1 --checkpoint-seconds 0 --confirm-seeds 0"
)


class Chaos:
    """A study that is resumed after every kill that ends it, until it is complete.

    A worker is a process that trains; a node has its raylet and all its processes, and no checkout;
    without a head the study is resumed on another cluster; with the driver's machine its study
    directory goes too, and the cluster, and what is in storage is all that is left. Storage is out
    of reach for a minute, and keeps what it has.
    """

    def __init__(
        self,
        root: Path,
        home: Path,
        python: Path,
        storage: Bucket,
        seed: int,
        arguments: str = USUAL,
        trainable: type[ResNetTrainable] = Slow,
    ) -> None:
        self._draw = random.Random(seed)
        self._root, self._home, self._python = root, home, python
        self._storage, self._trainable = storage, trainable
        self._arguments = f"{arguments} --storage {storage.uri}"
        self._machines = 0
        self.printed = ""
        self._begin_cluster()
        self._begin_machine()
        self._start()

    def _begin_cluster(self) -> None:
        self.cluster = Cluster(self._home)
        for _ in range(2):
            self.cluster.join(self._python)

    def _begin_machine(self) -> None:
        self._machines += 1
        folder = self._root / str(self._machines)
        folder.mkdir()
        self.place = Place(folder, self.cluster.address, self._home)

    def _start(self) -> None:
        options = f"{self._arguments} --address {self.cluster.address}"
        self.driver = self.place.start("chaos", options, trainable=self._trainable, lease=QUICK)

    def kill(self, kind: str) -> None:
        """Kill one such thing after a few more events, and see to it that the study goes on."""
        wait_for(lambda: self._has_begun() or not self.driver.is_alive())
        until = self.place.events("chaos") + self._draw.randint(1, 6)
        wait_for(lambda: self.place.events("chaos") >= until or not self.driver.is_alive())
        assert self.driver.is_alive(), "it had ended before"
        getattr(self, f"_kill_{kind}")()
        if not self.driver.is_alive():
            self._start()

    def _has_begun(self) -> bool:
        record = self.place.root / "chaos" / "record.jsonl"
        return record.exists() and f'"pid": {self.driver.pid},'.encode() in record.read_bytes()

    def _kill_worker(self) -> None:
        wait_for(lambda: self.cluster.slow_trials() or not self.driver.is_alive())
        before = self._tried_again()
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            self._draw.choice(self.cluster.slow_trials()).kill()
            # Or it had just ended its trial.
            later = self.place.events("chaos") + 10
            wait_for(
                lambda: (
                    self._tried_again() > before
                    or self.place.events("chaos") > later
                    or not self.driver.is_alive()
                )
            )

    def _tried_again(self) -> int:
        return self.place.output("chaos").count("tried again")

    def _kill_node(self) -> None:
        lose(self._draw.choice(self.cluster.nodes))
        self.cluster.join(self._python)

    def _kill_driver(self) -> None:
        kill(self.driver)

    def _kill_head(self) -> None:
        self.cluster.close()
        # It ends by itself, and says how to resume.
        assert self.place.end(self.driver) in (0, 1)
        self._begin_cluster()

    def _kill_machine(self) -> None:
        kill(self.driver)
        self.cluster.close()
        self.printed += self.place.output("chaos")
        shutil.rmtree(self.place.root)
        self._begin_cluster()
        self._begin_machine()

    def _kill_storage(self) -> None:
        self._storage.stop()
        time.sleep(STORAGE_SECONDS)
        self._storage.start()

    def end(self) -> int:
        """Wait for the study's end; its exit status."""
        status = self.place.end(self.driver, 1200.0)
        self.printed += self.place.output("chaos")
        return status

    def close(self) -> None:
        kill(self.driver)
        self.cluster.close()
