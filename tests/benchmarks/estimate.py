"""The estimate of a study's time, beside the time that its networks really take: the arms of the
default design by FLOPs, at images of several sizes.

Predicted as a plan does it: from the timing of one arm, by FLOPs. Measured: six arms of the design,
from the cheapest to the most expensive, a warm-up and then an epoch of a few batches each.
"""

import time

import numpy as np

from study.designs import SEARCH
from study.settings import StudySettings, decided
from study.timing import forward_flops, timing_job
from tests.benchmarks.epoch import noise
from trainables.config import TrialConfig
from trainables.parts import ImageData
from trainables.timing import time_training
from trainables.training import Trainer, prepare_process

IMAGES = {16: 512, 32: 256, 64: 128, 224: 2}
"""By image size, how many are trained on."""
ARMS = 6


def images_of(size: int) -> ImageData:
    """A data set of noise."""
    part = noise(IMAGES[size], (3, size, size)).train
    return ImageData("noise", tuple(map(str, range(10))), part, part, flip=True)


def spread_arms(flops: dict[TrialConfig, int]) -> list[TrialConfig]:
    """Arms of the design from the cheapest to the most expensive, evenly by rank."""
    ranked = sorted(flops, key=flops.__getitem__)
    return [ranked[place] for place in np.linspace(0, len(ranked) - 1, ARMS).round().astype(int)]


def measured(config: TrialConfig, size: int) -> float:
    """Seconds per image of training."""
    prepare_process(1)
    trainer = Trainer(config, noise(IMAGES[size], (3, size, size)))
    trainer.train_epoch()
    started = time.perf_counter()
    trainer.train_epoch()
    return (time.perf_counter() - started) / IMAGES[size]


def main() -> None:
    """Print a row for each size."""
    settings = decided(StudySettings(precision="float32", cpus_per_trial=1), SEARCH)
    print("seconds per image, mean of six arms; the timing's own seconds")
    print(f"{'pixels':>6} {'predicted':>10} {'measured':>10} {'ratio':>6} {'timing':>7}")
    for size in IMAGES:
        data = images_of(size)
        flops = forward_flops(SEARCH, data, 1)
        started = time.perf_counter()
        job = timing_job(settings, SEARCH, data, gpu=False)
        most_expensive = time_training(*job)["float32"]
        seconds = time.perf_counter() - started
        arms = spread_arms(flops)
        predicted = most_expensive * sum(flops[arm] for arm in arms) / max(flops.values()) / ARMS
        real = sum(measured(arm, size) for arm in arms) / ARMS
        row = (
            f"{size:>6} {predicted:>10.4f} {real:>10.4f} {predicted / real:>6.2f} {seconds:>6.1f}s"
        )
        print(row, flush=True)


if __name__ == "__main__":
    main()
