"""An epoch on one GPU: `python -m tests.benchmarks.gpu`. Needs torch and `trainables`, no Ray.

Noise in the size of CIFAR-10's search stage: 45,000 training and 5,000 validation images of 3×32×32.
"""

import sys
import time

import torch

from tests.benchmarks.epoch import ARMS, SHAPE, noise
from trainables.resnet import network_cost
from trainables.training import PRECISIONS, Trainer

TRAIN, VALIDATION, EPOCHS = 45_000, 5_000, 3


def products(size: int = 8192) -> float:
    """The rate of a bf16 matrix product on the GPU, TFLOP/s."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for repeats in (3, 20):  # the first to warm up
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            a @ b
        torch.cuda.synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - started) / 1e12


def main() -> int:
    """Print the table."""
    if not torch.cuda.is_available():
        print("no GPU here", file=sys.stderr)
        return 1
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: bf16 products {products():.0f} TFLOP/s")
    print(f"{'arm':18} {'precision':9} {'s/epoch':>8} {'train/s':>9} {'eval/s':>9} {'TFLOP/s':>8} {'GiB':>6}")
    whole = noise(TRAIN, SHAPE)
    part = type(whole.train)(whole.train.images[:VALIDATION], whole.train.labels[:VALIDATION])
    data = type(whole)(whole.train, part, None, whole.classes, whole.flip)
    for arm, config in ARMS.items():
        flops = 3 * network_cost(config, SHAPE, whole.classes).forward_flops
        for precision in PRECISIONS:
            torch.cuda.reset_peak_memory_stats()
            trainer = Trainer(config, data, "cuda", precision)
            metrics = min((trainer.run_epoch() for _ in range(EPOCHS)), key=lambda each: each.train_seconds)
            rate = TRAIN / metrics.train_seconds
            print(
                f"{arm:18} {precision:9} {metrics.train_seconds + metrics.eval_seconds:8.2f} {rate:9.0f} "
                f"{VALIDATION / metrics.eval_seconds:9.0f} {flops * rate / 1e12:8.1f} "
                f"{torch.cuda.max_memory_allocated() / 2**30:6.1f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
