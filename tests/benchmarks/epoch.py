"""An epoch on this machine's CPU, beside the plain recipe and beside the machine's own rate.

The two sides run alternately, both warmed up and timed over `BATCHES` batches: the plain recipe in
one process, in whichever of its variants (threads, loading workers, channels_last) is the fastest
here, then the project as a study runs it, two processes of one thread at once. Images are noise,
for speed does not depend on what they show.
"""

import itertools
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from tests.benchmarks import plain
from trainables.config import TrialConfig
from trainables.evaluation import DevicePart
from trainables.parts import Part, TrialData
from trainables.resnet import network_cost
from trainables.training import Batches, Trainer, prepare_process

ARMS = {
    "k7 s2 pool d18": TrialConfig(),
    "k2 s1 pool d18": TrialConfig(stem_kernel=2, stem_stride=1),
    "k2 s1 no-pool d18": TrialConfig(stem_kernel=2, stem_stride=1, stem_maxpool=False),
}
TARGETS = {"k7 s2 pool d18": 2.7, "k2 s1 pool d18": 3.3, "k2 s1 no-pool d18": 2.7}
SHAPE = (3, 32, 32)
BATCHES, WARM, TRIED = 16, 3, 4
"""Batches that are timed, that go before them, and that choose among the variants of the peer."""
ROUNDS = 3


def noise(count: int, shape: tuple[int, int, int]) -> TrialData:
    """Images and labels of noise, as many for validation as for training."""
    draw = np.random.default_rng(0)
    part = Part(draw.integers(0, 256, (count, *shape), dtype=np.uint8), draw.integers(0, 10, count))
    return TrialData(part, part, None, classes=10, flip=True)


@dataclass(frozen=True)
class Speed:
    """Images a second of training and evaluation, and the share of training that making the batches
    takes."""

    training: float
    evaluation: float
    batches: float


def time_ours(
    config: TrialConfig,
    shape: tuple[int, int, int],
    count: int,
    precision: str,
    device: str = "cpu",
) -> Speed:
    """One trial's speed, on one thread or a GPU, after a few batches that warm up."""
    prepare_process(1)
    trainer = Trainer(config, noise(count, shape), device, precision)
    everything, trainer.batches = trainer.batches, few(trainer, WARM)
    trainer.train_epoch()
    trainer.batches = everything
    metrics = trainer.run_epoch()
    started = time.perf_counter()
    for images, _ in Batches(trainer.train, config.batch_size, True, trainer.generator):
        last = trainer.pixels.normalize(images)
    last.sum().item()  # which waits for the device
    share = (time.perf_counter() - started) / metrics.train_seconds
    return Speed(count / metrics.train_seconds, count / metrics.eval_seconds, share)


def few(trainer: Trainer, batches: int) -> Batches:
    """The trainer's batches of the first images only."""
    size = trainer.config.batch_size * batches
    part = DevicePart(trainer.train.images_NxCxHxW[:size], trainer.train.labels_N[:size])
    return replace(trainer.batches, part=part)


@dataclass(frozen=True)
class Variant:
    """How the plain recipe is run: torch's threads, the loader's workers, and the memory layout."""

    threads: int
    workers: int
    channels_last: bool

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{self.threads} threads, {self.workers} workers, {layout}"


def variants() -> list[Variant]:
    """Those that are tried: all cores in the network, with or without workers beside it."""
    cores = len(os.sched_getaffinity(0))
    return list(itertools.starmap(Variant, itertools.product([cores], [0, 1, 2], [False, True])))


def time_plain(
    config: TrialConfig, shape: tuple[int, int, int], variant: Variant, batches: int
) -> float:
    """The plain recipe's images a second over so many batches, after those that warm up."""
    torch.set_num_threads(variant.threads)
    data = noise(config.batch_size * (WARM + batches), shape)
    training = plain.Training(config, data, variant.workers, variant.channels_last)
    return training.train_epoch(WARM)


def time_products(dtype_name: str, size: int = 1024) -> float:
    """The best rate of a matrix product on one thread, GFLOP/s."""
    torch.set_num_threads(1)
    a, b = (torch.randn(size, size).to(getattr(torch, dtype_name)) for _ in range(2))
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e9


def compare(arm: str, precision: str, pool: ProcessPoolExecutor, cores: int) -> str:
    """One row of the table."""
    config = ARMS[arm]
    count = BATCHES * config.batch_size
    tried = {
        variant: pool.submit(time_plain, config, SHAPE, variant, TRIED).result()
        for variant in variants()
    }
    best = max(tried, key=lambda variant: tried[variant])
    plain_rates, our_rates, speeds = [], [], []
    for _ in range(ROUNDS):
        plain_rates.append(pool.submit(time_plain, config, SHAPE, best, BATCHES).result())
        at_once = [pool.submit(time_ours, config, SHAPE, count, precision) for _ in range(cores)]
        speeds += (these := [each.result() for each in at_once])
        our_rates.append(sum(speed.training for speed in these))
    ours, theirs = statistics.median(our_rates), statistics.median(plain_rates)
    dtype = "bfloat16" if precision == "bf16" else "float32"
    machine = sum(
        each.result() for each in [pool.submit(time_products, dtype) for _ in range(cores)]
    )
    flops = 3 * network_cost(config, SHAPE, 10).forward_flops
    evaluation = statistics.median(speed.training / speed.evaluation for speed in speeds)
    batches = statistics.median(speed.batches for speed in speeds)
    return (
        f"{arm:18} {theirs:8.0f} {ours:8.0f} {ours / theirs:6.1f}× {TARGETS[arm]:6.1f}× "
        f"{flops * ours / 1e9:9.0f} "
        f"{machine:9.0f} {flops * ours / 1e9 / machine:6.0%} {evaluation:9.2f} {batches:8.1%}\n"
        f"{'':18} plain at its best with {best}; all: "
        f"{', '.join(f'{rate:.0f} ({variant})' for variant, rate in tried.items())}"
    )


def main(precision: str) -> None:
    """Print the table."""
    cores = len(os.sched_getaffinity(0))
    print(
        f"training, 3×32×32, batch 128, {cores} cores, {precision}; GFLOP/s by the network's "
        f"forward FLOPs × 3"
    )
    print(
        f"{'arm':18} {'plain/s':>8} {'ours/s':>8} {'ratio':>7} {'target':>7} {'GFLOP/s':>9} "
        f"{'products':>9} "
        f"{'share':>6} {'eval/train':>10} {'batches':>7}"
    )
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        for arm in ARMS:
            print(compare(arm, precision, pool, cores), flush=True)


def profile(arm: str, precision: str) -> str:
    """Where an epoch of this arm goes, by operator."""
    torch.set_num_threads(1)
    trainer = Trainer(ARMS[arm], noise(256, SHAPE), "cpu", precision)
    trainer.run_epoch()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        trainer.run_epoch()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return "\n".join(
        f"  {event.self_cpu_time_total / total:6.1%} {event.key}" for event in events[:8]
    )
