"""Epochs on one GPU: `python -m tests.benchmarks.gpu`. Needs torch, torchvision and `trainables`,
no Ray.

One, two, four and eight trials at once: what a study gains by giving a trial a share of the card
(`--gpus-per-trial 0.5`, `0.25` or `0.125`). Images are noise. The share of the card is of the rate
of a matrix product in bf16, measured in the same run.
"""

import multiprocessing
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import torch

from tests.benchmarks.epoch import ARMS, SHAPE, time_ours
from trainables.resnet import network_cost
from trainables.timing import PRECISIONS

IMAGES = 10_000
AT_ONCE = (1, 2, 4, 8)


def time_products(size: int = 8192) -> float:
    """The rate of a bf16 matrix product on the GPU, TFLOP/s."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for repeats in (3, 20):  # the first to warm up
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            a @ b
        torch.cuda.synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - started) / 1e12


def row(arm: str, precision: str, at_once: int, products: float, device: str, images: int) -> str:
    """One row of the table."""
    with ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
        trials = [
            pool.submit(time_ours, ARMS[arm], SHAPE, images, precision, device)
            for _ in range(at_once)
        ]
        speeds = [trial.result() for trial in trials]
    rate = sum(speed.training for speed in speeds)
    performed = 3 * network_cost(ARMS[arm], SHAPE, 10).forward_flops * rate / 1e12
    evaluation = statistics.median(speed.training / speed.evaluation for speed in speeds)
    batches = statistics.median(speed.batches for speed in speeds)
    return (
        f"{arm:18} {precision:9} {at_once:6} {rate:9.0f} {performed:8.1f} "
        f"{performed / products:6.0%} {evaluation:10.2f} {batches:8.1%}"
    )


def main() -> int:
    """Print the table."""
    if not torch.cuda.is_available():
        print("no GPU here", file=sys.stderr)
        return 1
    products = time_products()
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}: bf16 products "
        f"{products:.0f} TFLOP/s"
    )
    print(
        f"{'arm':18} {'precision':9} {'trials':>6} {'train/s':>9} {'TFLOP/s':>8} {'share':>6} "
        f"{'eval/train':>10} {'batches':>8}"
    )
    for arm in ARMS:
        for precision in PRECISIONS:
            for at_once in AT_ONCE:
                print(row(arm, precision, at_once, products, "cuda", IMAGES), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
