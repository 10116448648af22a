"""A driver on real Ray, trials by a stand-in that reports made-up epochs at once: `python -m
tests.benchmarks.scale_ray [TRIALS,AT_ONCE ...]`.

The driver is then as fast as it can be. What its thread does is told apart: searcher, scheduler,
record and surfaces are ours, the rest is Tune's. Ray is told that there are as many cores as
trials at once; each is a process of about 100 MB.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import psutil
import ray
import ray.cloudpickle
from ray import tune

import study.record
import study.stages
from study.designs import SEARCH
from study.record import Record
from study.scheduler import StudyAsha, build_scheduler
from study.searcher import StudySearcher
from study.signals import Interrupted
from study.stages import RecordCallback, Stages
from study.watch.metrics import Metrics
from study.watch.optuna import OptunaView
from study.watch.surfaces import Surfaces, Ticks
from study.watch.tensorboard import TensorBoard
from study.watch.terminal import Lines
from tests.benchmarks.scale import EPOCHS, HEADER, Stopwatch, metrics_of
from trainables.config import TrialConfig

CASES = ((100, 2), (100, 8), (100, 64), (1000, 2), (1000, 8), (1000, 64))
OURS = (
    ("searcher", StudySearcher, ("suggest", "on_trial_complete")),
    ("scheduler", StudyAsha, ("on_trial_add", "on_trial_result", "on_trial_complete")),
    ("record", RecordCallback, ("begin", "on_trial_result", "on_trial_complete")),
    ("surfaces", Surfaces, ("_each",)),
    ("surfaces", Ticks, ("on_step_end",)),
)


class StandIn(tune.Trainable):  # type: ignore[misc]
    """Reports epochs that nothing has trained."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.trial, self.epoch = TrialConfig.from_dict(new_config["config"]), 0
        self.draw = np.random.default_rng(new_config["trial"])
        return True

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        metrics = metrics_of(self.trial, self.epoch, self.draw.normal())
        return {**metrics.to_dict(), "diverged": False, "done": self.epoch == EPOCHS, "node_id": ""}

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": 1}])


def instrument(stopwatch: Stopwatch) -> None:
    """Time what Tune calls of ours."""
    for part, kind, methods in OURS:
        for method in methods:
            setattr(kind, method, stopwatch.wrapped(part, getattr(kind, method)))
    study.record.write_tables = stopwatch.wrapped("tables", study.record.write_tables)


def search(folder: Path, trials: int, at_once: int) -> tuple[int, int]:
    """Run the search stage of a study; gives the epochs that it recorded, and the bytes of Ray's
    processes when half of the trials had started (shared pages once)."""
    sizes: list[int] = []

    def weigh(event: Mapping[str, Any]) -> None:
        if event["event"] == "trial_started" and event["trial"] == trials // 2:
            ray_processes = psutil.Process().children(recursive=True)
            sizes.append(sum(each.memory_full_info().pss for each in ray_processes))

    record = Record(folder, HEADER)
    record.subscribe(weigh)
    record.append("driver_started", pid=0, host="")
    settings = SimpleNamespace(address=None, samples=trials, sampler="tpe", seed=0, verbose=False)
    settings.cpus_per_trial, settings.checkpoint_seconds = 1, 60.0
    plan: Any = SimpleNamespace(
        settings=settings, design=SEARCH, epochs=EPOCHS, precision="float32"
    )
    plan.images = SimpleNamespace(data=None, split=None)
    plan.gpus_per_trial, plan.concurrent = 0.0, at_once
    surfaces = Surfaces(record, [Lines(False), Metrics(), TensorBoard(folder), OptunaView(folder)])
    stages = Stages(plan, record, surfaces, Interrupted(()), nodes=None)
    stages.search(build_scheduler("asha", EPOCHS))
    surfaces.close()
    record.close()
    ended = record.state.ended_trials()
    assert len(ended) == trials, f"{len(ended)} of {trials} trials ended"
    return len(record.state.reported), sizes[0]


def measure(trials: int, at_once: int) -> dict[str, float]:
    """CPU milliseconds of the driver's thread by part, and what the machine did meanwhile."""
    stopwatch = Stopwatch(time.thread_time)
    logging.getLogger("study").addHandler(logging.NullHandler())
    logging.getLogger("study").propagate = False
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "inf"  # as `study.cluster.start` sets it
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.cloudpickle.register_pickle_by_value(sys.modules["tests.benchmarks.scale"])
    study.stages.ResNetTrainable = StandIn
    study.stages.search_data = lambda *_: None
    instrument(stopwatch)
    ray.init(
        "local",
        num_cpus=at_once,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
        object_store_memory=200 * 2**20,
    )
    with tempfile.TemporaryDirectory() as place:
        wall, thread, process = time.perf_counter(), time.thread_time(), time.process_time()
        epochs, size = search(Path(place) / "study", trials, at_once)
        wall = time.perf_counter() - wall
        thread, process = time.thread_time() - thread, time.process_time() - process
    ray.shutdown()
    parts = {part: 1000 * seconds / trials for part, seconds in stopwatch.seconds.items()}
    ours = sum(parts.values())
    return {
        "epochs per trial": epochs / trials,
        **parts,
        "ours": ours,
        "Tune's": 1000 * thread / trials - ours,
        "thread, per trial": 1000 * thread / trials,
        "thread, per epoch": 1000 * thread / epochs,
        "process, per trial": 1000 * process / trials,
        "wall clock, per trial": 1000 * wall / trials,
        "wall clock, per epoch": 1000 * wall / epochs,
        "share of wall clock": thread / wall,
        "driver, MiB": psutil.Process().memory_info().rss / 2**20,
        "Ray's processes, MiB": size / 2**20,
    }


def main() -> None:
    """Print the table, a column per number of trials and of those at once."""
    asked = [tuple(map(int, case.split(","))) for case in sys.argv[1:]]
    columns = {}
    for trials, at_once in asked or CASES:
        code = "import json; from tests.benchmarks.scale_ray import measure; "
        code += f"print(json.dumps(measure({trials}, {at_once})))"
        done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
        columns[f"{trials:,} by {at_once}"] = json.loads(done.stdout.splitlines()[-1])
        print(pd.DataFrame(columns).round(2).to_string(), flush=True)


if __name__ == "__main__":
    main()
