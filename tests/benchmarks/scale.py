"""What a driver does per trial after 100 to 10,000 trials, and its memory: `python -m
tests.benchmarks.scale`.

Searcher, scheduler, record, surfaces and the study directory as a study has them, without Ray and
without training: the readings are made up. Each size is a process of its own, which resumes a
record of so many trials, runs some to warm up, and then the trials that are timed. What is paced by
the clock and not by trials (the tables, the live view, the gauges) is timed by itself.
With Ray: `python -m tests.benchmarks.scale_ray`.
"""

import heapq
import json
import logging
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.console import Console

import study.record
import study.stages
from study.designs import SEARCH, arm_label
from study.driver import take_up
from study.record import Record, write_tables
from study.scheduler import build_scheduler
from study.searcher import StudySearcher
from study.stages import RecordCallback
from study.state import state_at_end
from study.watch.metrics import Metrics, values_of
from study.watch.optuna import OptunaView
from study.watch.progress import StageProgress
from study.watch.surfaces import Surface, Surfaces, Ticks
from study.watch.tensorboard import TensorBoard
from study.watch.terminal import Lines, LiveView, live_view
from trainables.config import EpochMetrics, TrialConfig
from trainables.vocabulary import Stage, TrialStatus

SIZES = (100, 1_000, 3_000, 10_000)
WARM, TIMED, AT_ONCE, EPOCHS = 10, 400, 8, 6
TARGET = 20
"""CPU ms per trial."""
BEFORE = (23.7, 81.0, 226.0, 710.5)
"""The same of the code before, which looked at all trials again for each."""
CLASSES = [str(digit) for digit in range(10)]
COUNTS = {"train": 1293, "validation": 144, "test": 360}
HEADER = {
    "name": "study",
    "design": {"name": SEARCH.name, **SEARCH.to_dict()},
    "dataset": {"name": "none", "image_shape": [1, 16, 16], "classes": CLASSES, "counts": COUNTS},
    "settings": {"cpus_per_trial": 1, "gpus_per_trial": 0.0, "precision": "float32", "seed": 0},
    "command": "",
    "git": None,
}


class Stopwatch:
    """CPU seconds by part, for the machine may be shared; what a part calls of another counts there
    alone."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.seconds: Counter[str] = Counter()
        self._clock = clock
        self._inside: list[float] = []

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        started = self._clock()
        self._inside.append(0.0)
        try:
            yield
        finally:
            lasted = self._clock() - started
            self.seconds[part] += lasted - self._inside.pop()
            if self._inside:
                self._inside[-1] += lasted

    def wrapped(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            with self(part):
                return function(*arguments, **named)

        return timed


def metrics_of(config: TrialConfig, epoch: int, noise: float) -> EpochMetrics:
    """A made-up epoch: best at a learning rate of 0.03, a small kernel and 18 layers."""
    quality = 0.95 - 0.05 * (math.log10(config.learning_rate) + 1.5) ** 2
    quality -= 0.01 * config.stem_kernel + 0.02 * (config.depth != 18)
    accuracy = max(0.1, quality * (1 - 0.5**epoch) + 0.02 * noise)
    return EpochMetrics(
        epoch=epoch,
        learning_rate=config.learning_rate,
        train_loss=1 - accuracy,
        train_accuracy=accuracy,
        validation_loss=1.1 - accuracy,
        validation_accuracy=accuracy,
        test_loss=None,
        test_accuracy=None,
        validation_balanced_accuracy=accuracy,
        test_balanced_accuracy=None,
        train_seconds=1.0,
        eval_seconds=0.25,
    )


def write_history(folder: Path, trials: int) -> None:
    """A record of so many ended trials of random configs, most of them stopped early."""
    draw = np.random.default_rng(0)
    event = partial(json.dumps, default=str)
    at = {"time": "2026-11-26T00:00:00.000+00:00"}
    lines = [event({"event": "study", "version": 2, **at, **HEADER})]
    for number in range(trials):
        levels = {factor.name: factor.at(draw.random()) for factor in SEARCH.factors}
        config = SEARCH.config(levels, epochs=EPOCHS, seed=0)
        about = {
            "stage": Stage.SEARCH,
            "origin": "random",
            "arm": arm_label(config, HEADER["design"]),
        }
        cost = {"parameters": 0, "forward_flops": 0}
        head = {"event": "trial_started", **at, "trial": number, **about, **cost}
        lines.append(event({**head, "config": config.to_dict()}))
        last = int(draw.choice([1, 3, EPOCHS], p=[0.6, 0.25, 0.15]))
        for epoch in range(1, last + 1):
            readings = metrics_of(config, epoch, draw.normal()).to_dict()
            lines.append(event({"event": "epoch", **at, "trial": number, "node": "", **readings}))
        end = {"state": state_at_end(last, False, EPOCHS), "error": ""}
        lines.append(event({"event": "trial_ended", **at, "trial": number, **end}))
    folder.mkdir()
    (folder / "record.jsonl").write_text("\n".join(lines) + "\n")


def instrument(stopwatch: Stopwatch, surfaces: list[Surface]) -> None:
    """Time the parts of the driver where they are called."""
    study.record.os = SimpleNamespace(**vars(os) | {"fsync": stopwatch.wrapped("fsync", os.fsync)})
    study.record.write_tables = stopwatch.wrapped("tables", study.record.write_tables)
    study.stages.keep_best = stopwatch.wrapped("best weights", study.stages.keep_best)
    for surface in surfaces:
        surface.event = stopwatch.wrapped(surface.name, surface.event)  # type: ignore[method-assign]


class Driver:
    """A driver that has resumed a study."""

    def __init__(self, folder: Path, trials: int, sampler: str, stopwatch: Stopwatch) -> None:
        self.watch = stopwatch
        self.record = Record(folder)
        self.scheduler = build_scheduler("asha", EPOCHS)
        self.record.append("driver_started", pid=0, host="")
        take_up(self.record, self.scheduler, retry_failed=False)
        screen = Console(file=open(os.devnull, "w"), force_terminal=True, width=120, height=40)  # noqa: SIM115
        surfaces = [
            Lines(False),
            TensorBoard(folder),
            OptunaView(folder),
            Metrics(),
            LiveView(screen),
        ]
        instrument(stopwatch, surfaces)
        self.surfaces = Surfaces(self.record, surfaces)
        self.ticks = Ticks(self.surfaces)
        self.keeper = RecordCallback(self.record, SimpleNamespace(asked=False), False)
        self.surfaces.stage(Stage.SEARCH, trials)
        begin = stopwatch.wrapped("record", self.keeper.begin)
        self.searcher = StudySearcher(
            SEARCH, trials, sampler, EPOCHS, 0, self.record.state, begin, self.keeper.resume
        )
        self.draw = np.random.default_rng(1)

    def run(self, trials: int) -> None:
        """Run so many trials, some at once, epochs in the order in which they would end."""
        running: list[tuple[float, int, Any, TrialConfig, int]] = []
        left, clock = trials, 0.0
        while left or running:
            while left and len(running) < AT_ONCE:
                left -= 1
                trial = SimpleNamespace(trial_id=f"{trials}-{left}", error_file=None)
                with self.watch("searcher"):
                    trial.config = self.searcher.suggest(trial.trial_id)
                with self.watch("scheduler"):
                    self.scheduler.on_trial_add(None, trial)
                config = TrialConfig.from_dict(trial.config["config"])
                heapq.heappush(running, (clock + self.draw.uniform(1, 2), left, trial, config, 1))
            clock, order, trial, config, epoch = heapq.heappop(running)
            if not self.ended(trial, config, epoch):
                later = clock + self.draw.uniform(1, 2)
                heapq.heappush(running, (later, order, trial, config, epoch + 1))

    def ended(self, trial: Any, config: TrialConfig, epoch: int) -> bool:
        """What the driver does with an epoch's result; whether the trial ended."""
        metrics = metrics_of(config, epoch, self.draw.normal())
        result = {**metrics.to_dict(), "diverged": False, "hostname": "", "node_id": ""}
        trial.last_result = result
        with self.watch("scheduler"):
            over = epoch == EPOCHS
            if over:
                self.scheduler.on_trial_complete(None, trial, result)
            else:
                over = self.scheduler.on_trial_result(None, trial, result) == "STOP"
        with self.watch("record"):
            self.keeper.on_trial_result(0, [], trial, result)
        if over:
            with self.watch("record"):
                self.keeper.on_trial_complete(0, [], trial)
            with self.watch("searcher"):
                self.searcher.on_trial_complete(trial.trial_id, result)
        with self.watch("tick"):
            self.ticks.on_step_end(0, [])
        return over


def each_time(act: Callable[[], Any]) -> float:
    """CPU milliseconds that something takes, the median of three."""
    lasted = []
    for _ in range(3):
        started = time.process_time()
        act()
        lasted.append(time.process_time() - started)
    return 1000 * statistics.median(lasted)


def paced(driver: Driver) -> dict[str, float]:
    """CPU milliseconds of what is due by the clock."""
    state, stage = driver.record.state, StageProgress(Stage.SEARCH, 1, 0.0)
    return {
        "tables, each time": each_time(lambda: write_tables(driver.record.folder, state)),
        "live view, each time": each_time(lambda: live_view(state, stage, {}, 120)),
        "gauges, each time": each_time(lambda: list(values_of(state, stage))),
    }


def measure(trials: int, sampler: str) -> dict[str, float]:
    """CPU milliseconds per trial by part, wall-clock ones of the disk, and the memory."""
    stopwatch = Stopwatch()
    log = logging.getLogger("study")
    log.addHandler(logging.NullHandler())
    log.setLevel(logging.INFO)
    log.propagate = False
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "study"
        write_history(folder, trials)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        driver = Driver(folder, trials + WARM + TIMED, sampler, stopwatch)
        driver.run(WARM)
        resumed = time.process_time() - started
        stopwatch.seconds.clear()
        wall, cpu = time.perf_counter(), time.process_time()
        driver.run(TIMED)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        driver.surfaces.close()
        assert not driver.record.state.in_state(TrialStatus.RUNNING)
        by_clock = paced(driver)
        driver.record.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        **{part: 1000 * seconds / TIMED for part, seconds in stopwatch.seconds.items()},
        "all": 1000 * cpu / TIMED,
        "all, wall clock": 1000 * wall / TIMED,
        **by_clock,
        "resume, s": resumed,
        "MiB": (memory - before) / 1024,
    }


def draw(table: pd.DataFrame) -> None:
    """The figure beside this file: the table's total and parts, and that of the driver before."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    sizes = [int(column.replace(",", "")) for column in table.columns]
    axes.plot(SIZES, BEFORE, "o--", color="grey", label="all, before")
    axes.plot(sizes, table.loc["all"], "o-", color="black", label="all")
    for part in ("searcher", "record", "TensorBoard", "Optuna", "scheduler"):
        axes.plot(sizes, table.loc[part], ".-", linewidth=1, label=part)
    axes.axhline(TARGET, color="red", linewidth=1, linestyle=":", label=f"target: {TARGET} ms")
    axes.set(xscale="log", yscale="log", xlabel="trials in the study", ylabel="CPU ms per trial")
    axes.set_title("The driver's own work per trial, without Ray")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)


def main() -> None:
    """Print the table, a column per number of trials."""
    sampler = sys.argv[2] if len(sys.argv) > 2 else "tpe"
    sizes = [int(size) for size in sys.argv[1].split(",")] if len(sys.argv) > 1 else list(SIZES)
    columns = {}
    for size in sizes:
        code = "import json; from tests.benchmarks.scale import measure; "
        code += f"print(json.dumps(measure({size}, {sampler!r})))"
        done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
        columns[f"{size:,}"] = json.loads(done.stdout.splitlines()[-1])
    table = pd.DataFrame(columns).round(2)
    print(f"CPU ms per trial, {sampler}\n{table.to_string()}", flush=True)
    if sizes == list(SIZES) and sampler == "tpe":
        draw(table)


if __name__ == "__main__":
    main()
