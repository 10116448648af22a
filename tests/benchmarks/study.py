"""A whole study: how much of it is training, how fast it starts and turns over, and a plain one
beside it."""

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """One study by the command: seconds of the wall clock, and the events of its record."""

    seconds: float
    started: float
    events: list[dict]
    most_memory: float

    @property
    def best(self) -> float:
        """The best validation accuracy of a complete search trial."""
        complete = {event["trial"] for event in self.events if event.get("state") == "complete"}
        complete -= {event["trial"] for event in self.events if event.get("stage") == "confirm"}
        last = {event["trial"]: event for event in self.events if event["event"] == "epoch"}
        return max(last[trial]["validation_accuracy"] for trial in complete)

    def steps(self) -> dict[int, tuple[float, float]]:
        """Of each trial, when its first step began and its last reading was recorded."""
        spans: dict[int, tuple[float, float]] = {}
        for event in self.events:
            if event["event"] == "epoch":
                at = datetime.fromisoformat(event["time"]).timestamp()
                began = at - event["train_seconds"] - event["eval_seconds"]
                spans[event["trial"]] = (spans.get(event["trial"], (began, 0))[0], at)
        return spans

    def turnovers(self, slots: int) -> list[float]:
        """Seconds from a trial's last step to the first of the next on its slot: the one that was
        free longest."""
        free: list[float] = []
        gaps = []
        for began, ended in sorted(self.steps().values()):
            if len(free) == slots:
                gaps.append(began - free.pop(free.index(min(free))))
            free.append(ended)
        return gaps

    def share(self, slots: int) -> float:
        """The share of core-seconds between the first step and the last that lie in training and
        evaluation."""
        spans = self.steps().values()
        wall = max(end for _, end in spans) - min(begin for begin, _ in spans)
        inside = sum(
            e["train_seconds"] + e["eval_seconds"] for e in self.events if e["event"] == "epoch"
        )
        return inside / wall / slots


def proportional_memory() -> float:
    """GiB of proportional set size of this process's descendants, shared memory included once."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**30


def run_study(*arguments: str) -> Run:
    """Run the command in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    started, clock, most = time.time(), time.perf_counter(), 0.0
    command = [
        sys.executable,
        "study/run.py",
        "--results-dir",
        str(folder),
        "--name",
        "study",
        *arguments,
    ]
    try:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            time.sleep(1.0)
            most = max(most, proportional_memory())
        assert process.returncode == 0, process.returncode
        events = [
            json.loads(line)
            for line in (folder / "study" / "record.jsonl").read_text().splitlines()
        ]
        return Run(time.perf_counter() - clock, started, events, most)
    finally:
        shutil.rmtree(folder)


def default_study() -> None:
    """Print what a default study on digits spends where."""
    run = run_study("--samples", "20", "--dataset", "digits")
    first = min(began for began, _ in run.steps().values()) - run.started
    print(f"default study: {run.seconds:.0f} s from the command to the report; best {run.best:.4f}")
    print(
        f"  core-seconds between the first step and the last inside trials: {run.share(2):.0%} "
        f"(target 85%)"
    )
    print(f"  from the command to the first step: {first:.1f} s (target 15 s)")
    turnovers = run.turnovers(2)
    print(
        f"  turnover of a trial: median {statistics.median(turnovers):.2f} s of {len(turnovers)} "
        f"(target 0.3 s)"
    )


def against_plain(
    dataset: str, *train_images: str, samples: int = 20, epochs: int = 6, seeds: int = 3
) -> None:
    """Print the wall time of the project's study and of the plain one, same design, samples and
    epochs, in turn."""
    print(
        f"study of {samples} samples and {epochs} epochs on {' '.join((dataset, *train_images))}:"
    )
    rows = []
    for seed in range(seeds):
        ours = run_study(
            *(
                "--samples",
                str(samples),
                "--dataset",
                dataset,
                "--epochs",
                str(epochs),
                "--seed",
                str(seed),
            ),
            *("--confirm-seeds", "0"),  # the plain one has no confirm stage
            *(("--train-images", *train_images) if train_images else ()),
        )
        started = time.perf_counter()
        command = [sys.executable, "-m", "tests.benchmarks.plain", dataset]
        command += [*map(str, (samples, epochs, seed)), *train_images]
        plain = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - started
        found = re.search(r"best validation accuracy ([\d.]+)", plain.stdout)
        assert found
        rows.append((ours.seconds, ours.best, seconds, float(found[1])))
        print(
            "  seed {}: ours {:.0f} s, best {:.4f}; plain {:.0f} s, best {:.4f}".format(
                seed, *rows[-1]
            ),
            flush=True,
        )
    ratio = statistics.median(row[2] / row[0] for row in rows)
    print(f"  {ratio:.1f}× in the median (target 6×)")


def memory(folder: str) -> None:
    """Print the most memory that a study on all images of `folder` holds, two trials at once."""
    arguments = ("--samples", "2", "--epochs", "1", "--dataset", folder, "--max-concurrent", "2")
    run = run_study(*arguments, "--confirm-seeds", "0")
    print(
        f"memory of a study on {folder}, two trials at once: {run.most_memory:.2f} GiB (target 6 "
        f"GiB)"
    )
