"""The driver's own work per trial: searcher, scheduler and record, of 100 trials with TPE."""

import tempfile
import time
from pathlib import Path

from study.designs import SEARCH
from study.record import Record
from study.scheduler import build_scheduler
from study.searcher import StudySearcher
from tests.benchmarks.choices import EPOCHS, beginning, run_simulated
from trainables.config import TrialConfig

TRIALS = 100


def read(config: TrialConfig, epoch: int) -> tuple[float, float]:
    """A made-up accuracy and loss."""
    return 1 - 1 / (1 + epoch) - abs(config.learning_rate - 0.01), 1 / epoch


def main() -> None:
    """Print the seconds a trial; the disk's part of them, for every event is synced, is in it."""
    settings = {"cpus_per_trial": 1, "gpus_per_trial": 0.0, "precision": "float32"}
    header = {"name": "study", "design": {}, "dataset": {}, "settings": settings}
    with tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder), header)
        begin = beginning(record.append)
        searcher = StudySearcher(
            SEARCH, TRIALS, "tpe", EPOCHS, 0, record.state, begin, lambda _: None
        )
        started = time.perf_counter()
        run_simulated(searcher, build_scheduler("asha", EPOCHS), record.append, read)
        seconds = time.perf_counter() - started
        record.close()
    print(
        f"driver: {seconds / TRIALS * 1000:.1f} ms a trial over {TRIALS} trials with TPE (target "
        f"20 ms)"
    )
