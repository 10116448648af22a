"""Drivers of small trials for the tests that start and kill many: real processes, forked where all
is imported."""

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest
import ray.cloudpickle
from commands import with_defaults

import analysis.report.page
import study.copying
import study.lease
import study.stages
from study.designs import DESIGNS, SEARCH, Factor
from study.record import read_record
from study.run import main
from study.state import StudyState
from trainables.trainable import ResNetTrainable

# The search of the default design, over networks that train an epoch in a tenth of a second.
SMALL = {"width": 4, "depth": 10, "stem_stride": 2, "batch_size": 32}
FACTORS = (SEARCH.factors[0], Factor("stem_kernel", "scientific", levels=(3, 5, 7)))
DESIGN = replace(
    SEARCH, factors=FACTORS, fixed=SMALL, baselines={"a": SMALL, "b": {**SMALL, "stem_kernel": 3}}
)
WILD = replace(
    DESIGN,
    factors=(Factor("learning_rate", "nuisance", low=1e6, high=2e6, scale="log"), FACTORS[1]),
    baselines={"a": {**SMALL, "learning_rate": 1e6}},
)

DESIGN_FILE = """
samples = 6

[fixed]
width = 4
depth = 10
stem_stride = 2
batch_size = 32

[[factors]]
name = "learning_rate"
role = "nuisance"
low = 1e-2
high = 3e-2
scale = "log"

[[factors]]
name = "weight_decay"
role = "nuisance"
low = 1e-5
high = 1e-2
scale = "log"

[[factors]]
name = "optimizer"
role = "scientific"
levels = ["sgd", "adam"]

[[factors]]
name = "momentum"
role = "nuisance"
low = 0.5
high = 0.8
when = { optimizer = "sgd" }

[[factors]]
name = "stem_kernel"
role = "scientific"
levels = [3, 5]

[baselines.first]
width = 4
depth = 10
stem_kernel = 7
batch_size = 32
learning_rate = 1e-6
"""
"""A design as a file, as small: what is sampled, and a factor that exists at a level of another."""

# Ray reads it when it is imported, so the process from which the drivers are forked must have it
# already.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-for-the-tests-of-this-project"}


class Raising(ResNetTrainable):
    """Trial 1 cannot train its second epoch while there is a file `raise` in the home directory."""

    def step(self):
        if (
            self.config["trial"] == 1
            and self.trainer.epoch == 1
            and (Path.home() / "raise").exists()
        ):
            raise RuntimeError("no second epoch")
        return super().step()


class Held(ResNetTrainable):
    """No trial trains its third epoch before there is a file `go` in the home directory."""

    def step(self):
        while self.trainer.epoch == 2 and not (Path.home() / "go").exists():
            time.sleep(0.02)
        return super().step()


class Broken(ResNetTrainable):
    """Does not train on a node with BROKEN in its environment."""

    def setup(self, config):
        if "BROKEN" in os.environ:
            raise RuntimeError("no disk here")
        super().setup(config)


class Slow(ResNetTrainable):
    """Trains long enough to be killed in between."""

    pause = 0.3

    def step(self):
        time.sleep(self.pause)
        return super().step()


class Slower(Slow):
    """Trains through minutes without storage."""

    pause = 1.0


class Hoarding(ResNetTrainable):
    """Trial 1 takes more and more memory."""

    def step(self):
        hoard = []
        while self.config["trial"] == 1:
            hoard.append(bytearray(os.urandom(1 << 20)) * 64)
            time.sleep(0.02)
        return super().step()


def run(
    arguments: list[str],
    output: str,
    environment: dict[str, str],
    design=DESIGN,
    trainable=None,
    report=False,
    encoding="utf-8",
    nohup=False,
    lease=None,
    last_seconds=None,
) -> None:
    """What a driver's process does: the command, by default without writing its report, which takes
    longer than these studies. All it prints goes to the file `output`."""
    os.setpgid(0, 0)
    os.environ.update(environment)
    os.chdir(Path(output).parent)  # Ray's workers import from here: not from a checkout
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    if nohup:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    DESIGNS["search"] = design
    if trainable is not None:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        study.stages.ResNetTrainable = trainable
    if lease is not None:
        study.lease.TIMES = lease
    if last_seconds is not None:
        study.copying.LAST_SECONDS = last_seconds
    if not report:
        analysis.report.page.write_report = lambda study: study.path / "report" / "index.html"
    sys.argv = ["resnet-study", *arguments]
    sys.exit(main())


class Place:
    """A directory of studies, and a Ray that the drivers may join."""

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["drivers", "analysis.report.page", "ray.tune"])

    def __init__(self, root: Path, address: str, home: Path, beside: Path | None = None) -> None:
        self.root = root
        self.beside = beside or root
        self.usual = {
            "--dataset": "digits",
            "--train-images": "200",
            "--precision": "float32",
            "--confirm-seeds": "0",
            "--no-dashboard": "",
            "--results-dir": str(root),
            "--data-dir": str(self.beside / "data"),
            "--address": address,
        }
        self.environment = {"HOME": str(home), "COLUMNS": "200"}
        with pytest.MonkeyPatch.context() as patch:
            for item in TOKEN.items():
                patch.setenv(*item)
            # The fork server imports by its own path, and is silent about what it does not find.
            patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
            multiprocessing.forkserver.ensure_running()

    def start(self, name: str, arguments: str, output="", **how) -> multiprocessing.Process:
        command = with_defaults(self.usual, ["--name", name, *arguments.split()])
        inputs = (command, output or str(self.beside / f"{name}.txt"), self.environment)
        process = self.context.Process(target=run, args=inputs, kwargs=how)
        process.start()
        return process

    def end(self, process: multiprocessing.Process, seconds: float = 300.0) -> int:
        process.join(seconds)
        assert process.exitcode is not None, "does not end"
        return process.exitcode

    def run(self, name: str, arguments: str, **how) -> int:
        return self.end(self.start(name, arguments, **how))

    def output(self, name: str) -> str:
        file = self.beside / f"{name}.txt"
        return file.read_text() if file.exists() else ""

    def state(self, name: str) -> StudyState:
        return read_record(self.root / name)

    def events(self, name: str, kind: str = "") -> int:
        record = self.root / name / "record.jsonl"
        return record.read_bytes().count(f'"event": "{kind}'.encode()) if record.exists() else 0

    def tables(self, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        return tuple(
            pd.read_csv(self.root / name / f"{table}.csv") for table in ("trials", "epochs")
        )


def trial_processes(above: psutil.Process) -> list[psutil.Process]:
    """The processes of trials that run now: Ray names a worker by the actor's method."""
    trials = []
    for process in above.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if re.search(r"ray::.*(train|Trainable)", " ".join(process.cmdline())):
                trials.append(process)
    return trials


def kill(process: multiprocessing.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.join()


@contextlib.contextmanager
def ray_head(home: Path, **environment: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a Ray with two cores and the process it hangs on; it goes when this does."""
    code = "import ray, sys; ray = ray.init('local', num_cpus=2, include_dashboard=False); "
    code += "print(ray.address_info['gcs_address'], flush=True); sys.stdin.read()"
    environment = {
        **os.environ,
        "HOME": str(home),
        "RAY_USAGE_STATS_ENABLED": "0",
        # As where the command starts Ray: the first trials find what takes seconds to import.
        "RAY_preload_python_modules": "trainables.trainable,torch._dynamo",
        **TOKEN,
        **environment,
    }
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as head:
        yield head.stdout.readline().strip(), psutil.Process(head.pid)
        head.stdin.close()
