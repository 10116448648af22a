"""What trials run on: the cores of this process, the nodes that Ray has, how many trials fit."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from study.settings import StudySettings
from trainables.config import UsageError, invalid

MOST_CONCURRENT = 8
"""Trials at once unless the person says more: a searcher with many trials in flight learns little.
"""
GPU_SHARE = 0.25


def usable_cores(
    groups: Path = Path("/proc/self/cgroup"), tree: Path = Path("/sys/fs/cgroup")
) -> int:
    """How many cores this process may use: those of its affinity (`taskset`, Slurm), at most the
    quota of its control groups (containers, systemd), at least one."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([cores, *map(int, _quotas(groups, tree))]))


def _quotas(groups: Path, tree: Path) -> Iterator[float]:
    """The cores that each control group above this process grants, by cgroup version 1 and 2."""
    lines = groups.read_text().splitlines() if groups.exists() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        # The hierarchy of version 2 has no name.
        if controllers and "cpu" not in controllers.split(","):
            continue
        inner = Path(path.lstrip("/"))
        for group in (inner, *inner.parents):
            yield from _quota(tree / controllers / group)


def _quota(group: Path) -> Iterator[float]:
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        with suppress(OSError):  # not of this version, or without a quota
            quota, period = " ".join((group / name).read_text() for name in names).split()
            if quota not in ("max", "-1"):
                yield int(quota) / int(period)


@dataclass(frozen=True)
class Node:
    """A machine: its CPU cores, GPUs and bytes of memory."""

    cpus: float
    gpus: float = 0.0
    memory: float = math.inf


@dataclass(frozen=True)
class Resources:
    """The machines that trials may run on."""

    nodes: tuple[Node, ...]

    @property
    def most_cpus(self) -> float:
        """Of one machine."""
        return max(node.cpus for node in self.nodes)

    @property
    def most_gpus(self) -> float:
        """Of one machine."""
        return max(node.gpus for node in self.nodes)


def has_gpu() -> bool:
    """Whether torch finds a GPU here that it can use."""
    import torch  # not before somebody asks: that takes seconds

    return torch.cuda.is_available()


def ray_resources(settings: StudySettings) -> Resources:
    """What the running Ray has. Here it counts GPUs that torch cannot use, too: those are none."""
    import ray  # takes seconds, too

    usable = settings.address is not None or has_gpu()
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Resources(
        tuple(
            Node(
                cpus=node.get("CPU", 0.0),
                gpus=node.get("GPU", 0.0) if usable else 0.0,
                # Ray divides what was free when it started.
                memory=node.get("memory", math.inf) + node.get("object_store_memory", 0.0),
            )
            for node in alive
        )
    )


@dataclass(frozen=True)
class LargestTrial:
    """The trial of a design that needs the most memory, in bytes; see `timing.largest_trial`."""

    arm: str
    batch_size: int
    memory: float

    @property
    def need(self) -> str:
        """What it needs, in words."""
        return f"a trial of {self.arm} needs about {self.memory / 1e9:.1f} GB of memory"


def gpus_per_trial(settings: StudySettings, resources: Resources) -> float:
    """The GPUs of a trial, as asked for; by default a quarter where there is a GPU.

    Raises:
        UsageError: no machine has so many.
    """
    most = resources.most_gpus
    asked = settings.gpus_per_trial
    if asked is None:
        return GPU_SHARE if most else 0.0
    if asked > most:
        what = (
            f"at most {most:g}, what a machine has"
            if most
            else "0 where torch finds no GPU that it can use"
        )
        raise UsageError(f"--gpus-per-trial: invalid value {asked:g}: expected {what}")
    return asked


def concurrent_trials(
    settings: StudySettings, resources: Resources, gpus: float, largest: LargestTrial
) -> tuple[int, list[str]]:
    """How many trials run at once, and the notes on that. On a GPU memory is not counted.

    On a cluster nodes may join, or be started once trials wait for them: `--max-concurrent` may ask
    for more than fit.

    Raises:
        UsageError: no machine has the cores, or on a CPU the memory, of one trial.
    """
    cpus, is_cluster = settings.cpus_per_trial, settings.address is not None
    if cpus > resources.most_cpus:
        expected = f"at most {resources.most_cpus:g}, what a machine has"
        raise invalid("--cpus-per-trial", cpus, expected)
    fit = max(1, sum(_fit_on(node, cpus, gpus) for node in resources.nodes))
    by_memory = fit if gpus else _fit_in_memory(cpus, resources, largest)
    if by_memory < min(fit, settings.max_concurrent or MOST_CONCURRENT):
        return by_memory, [f"max_concurrent: {by_memory}, for {largest.need}"]
    if settings.max_concurrent is None:
        if fit <= MOST_CONCURRENT:
            return fit, []
        reason = "with many trials in flight a searcher learns little; --max-concurrent takes more"
        return MOST_CONCURRENT, [
            f"max_concurrent: {MOST_CONCURRENT} of the {fit} that fit: {reason}"
        ]
    if settings.max_concurrent > fit and is_cluster:
        note = f"{fit} fit now, the others wait for nodes"
        return settings.max_concurrent, [f"max_concurrent: {settings.max_concurrent}, {note}"]
    if settings.max_concurrent > fit:
        return fit, [f"max_concurrent: asked {settings.max_concurrent}, only {fit} fit"]
    return settings.max_concurrent, []


def _fit_in_memory(cpus: float, resources: Resources, largest: LargestTrial) -> int:
    """How many trials there are cores and memory for; raises where there is memory for none."""
    fit = sum(
        int(min(_fit(node.cpus, cpus), node.memory / largest.memory)) for node in resources.nodes
    )
    if not fit:
        most = max(node.memory for node in resources.nodes)
        why = f"{largest.need}, a machine has {most / 1e9:.1f} GB"
        expected = f"less of it in the design, or smaller images: {why}"
        raise invalid("batch_size", largest.batch_size, expected)
    return fit


def _fit_on(node: Node, cpus: float, gpus: float) -> int:
    by_cpu = _fit(node.cpus, cpus)
    return min(by_cpu, _fit(node.gpus, gpus)) if gpus else by_cpu


def _fit(available: float, needed: float) -> int:
    """How many trials of this need fit; none has shares of two GPUs."""
    return int(available) * int(1 / needed) if needed < 1 else int(available / needed)
