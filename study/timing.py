"""Which precision trains faster here: a timing of a few seconds, before a study is planned."""

import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import ray

from study.cluster.nodes import on_node
from study.cluster.waiting import WAIT_SECONDS
from study.designs import Design
from study.errors import CannotStart, error_line
from study.resources import LargestTrial, has_gpu, usable_cores
from study.settings import DecidedSettings
from trainables.config import TrialConfig
from trainables.parts import ImageData, Part, TrialData
from trainables.resnet import network_cost
from trainables.timing import PRECISIONS, time_training

log = logging.getLogger("study")

TIMING = """
import json, pickle, sys
from trainables.timing import time_training
json.dump(time_training(*pickle.load(sys.stdin.buffer)), sys.stdout)
"""


FEW, FEW_ON_GPU = 16, 1024
"""Images: fewer say little of a network that is fast, and a GPU is not even warm after them."""
ROUND_FLOPS, ROUND_FLOPS_ON_GPU = 4e10, 2e13
"""Of the forward passes of a round, so that two rounds of both precisions take about 10 s where a
core trains at 50 GFLOP/s, and a GPU at 25 TFLOP/s."""


class Timings(NamedTuple):
    """Seconds that training takes per image by precision, and what is to be said of it."""

    seconds: Mapping[str, float]
    notes: list[str]


class TimingJob(NamedTuple):
    """What `time_training` takes."""

    config: TrialConfig
    data: TrialData
    precisions: tuple[str, ...]
    threads: int
    gpu: bool
    scale: float


def timing_job(settings: DecidedSettings, design: Design, data: ImageData, gpu: bool) -> TimingJob:
    """The precisions left open, with so few images of the most expensive arm that they take
    seconds; where two are too many, of a cheaper arm, for time goes by FLOPs."""
    flops = forward_flops(design, data, 1)
    allowed = ROUND_FLOPS_ON_GPU if gpu else ROUND_FLOPS
    affordable = [arm for arm, cost in flops.items() if 2 * cost <= allowed]
    arm = max(affordable or [min(flops, key=flops.__getitem__)], key=flops.__getitem__)
    count = min(FEW_ON_GPU if gpu else FEW, max(2, int(allowed / flops[arm])))
    sample = Part(data.train.images[:count].copy(), data.train.labels[:count].copy())
    return TimingJob(
        config=arm,
        data=TrialData(sample, None, None, len(data.classes), data.flip),
        precisions=PRECISIONS if settings.precision == "auto" else (settings.precision,),
        threads=settings.cpus_per_trial,
        gpu=gpu,
        scale=max(flops.values()) / flops[arm],
    )


def forward_flops(design: Design, data: ImageData, epochs: int) -> dict[TrialConfig, int]:
    """FLOPs of a forward pass of an image, by network of the design; its trials have so many
    epochs, or their own."""
    classes = len(data.classes)
    return {
        arm: network_cost(arm, data.image_shape, classes).forward_flops
        for arm in design.networks(epochs)
    }


def largest_trial(design: Design, data: ImageData) -> LargestTrial:
    """What `concurrent_trials` asks of a machine's memory."""
    trials = [
        LargestTrial(
            network.arm,
            network.batch_size,
            network_cost(network, data.image_shape, len(data.classes)).training_bytes(
                min(network.batch_size, len(data.train))
            ),
        )
        for network in design.networks(1)
    ]
    return max(trials, key=lambda trial: trial.memory)


@contextmanager
def timing_here(
    settings: DecidedSettings, design: Design, data: ImageData
) -> Iterator[Callable[[], Timings | None]]:
    """Start `time_training` in a process of its own, where this machine's CPU is sure to be what
    trials run on.

    Gives what waits for its result; that is None where it was not started, or could not be ended.
    In contrast to a task of Ray it can run while Ray starts, and leaves Ray's first processes to
    the first trials.
    """
    gpu = settings.gpus_per_trial != 0 and has_gpu()
    if settings.address is not None or gpu or settings.cpus_per_trial > usable_cores():
        yield lambda: None
        return
    # In a session of its own, for Ctrl-C reaches every process of a terminal's, and this one is
    # ended below.
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "start_new_session": True,
    }
    process = subprocess.Popen([sys.executable, "-P", "-c", TIMING], **pipes)
    assert process.stdin and process.stdout
    with suppress(BrokenPipeError), process.stdin as pipe:  # it has died: there is no result
        # As a plain tuple: that process needs nothing of the package `study`.
        pickle.dump(tuple(timing_job(settings, design, data, gpu=False)), pipe)

    def result() -> Timings | None:
        assert process.stdout
        output = process.stdout.read()
        return Timings(json.loads(output), []) if process.wait() == 0 else None

    try:
        yield result
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def timing_on_ray(job: TimingJob, gpus: float, kinds: Mapping[str, str]) -> Timings:
    """The result of `time_training` as a task of Ray, where trials run: on a node of every kind
    (name and node id), or anywhere where none is known yet.

    The slowest kind decides, for all trials of a study have one precision.

    Raises:
        CannotStart: training could not be timed.
    """
    # A process that used a GPU keeps its memory, so it ends with the task; any other is taken over
    # by the first trial, for which torch is imported then.
    decorator = ray.remote(num_cpus=job.threads, num_gpus=gpus, max_calls=int(gpus > 0))
    remote: Any = decorator(time_training)
    places: list[Any] = [on_node(node_id, soft=True) for node_id in kinds.values()]
    results = [
        remote.options(scheduling_strategy=place).remote(*job) for place in places or ["DEFAULT"]
    ]
    try:
        if len(ray.wait(results, num_returns=len(results), timeout=WAIT_SECONDS)[0]) < len(results):
            log.info("waiting for the cluster: training is timed there once a core is free")
        timings: list[dict[str, float]] = ray.get(results)
    except ray.exceptions.RayError as error:
        hint = "; --gpus-per-trial 0 trains on the CPU" if gpus else ""
        reason = error_line(str(error) or type(error).__name__)
        raise CannotStart(f"training cannot be timed: {reason}{hint}") from error
    return slowest(dict(zip(kinds or [""], timings, strict=True)))


def slowest(timings: Mapping[str, Mapping[str, float]]) -> Timings:
    """Of the seconds per image by kind of node and precision the most, in the precisions that every
    kind has."""
    everywhere = set.intersection(*(set(seconds) for seconds in timings.values()))
    most = {
        precision: max(seconds[precision] for seconds in timings.values())
        for precision in PRECISIONS
        if precision in everywhere
    }
    lacking = {
        precision: ", ".join(kind for kind in timings if precision not in timings[kind])
        for precision in set.union(*(set(seconds) for seconds in timings.values())) - everywhere
    }
    notes = [f"precision: no {precision} on {kinds}" for precision, kinds in lacking.items()]
    return Timings(most, notes)
