"""`make bench`: images a second of training and of evaluation, by arm and precision, one thread.

The precisions of an arm run in turn, so that a noisy machine slows all of them alike; the best of the rounds stands.
"""

import numpy as np
import torch

from trainables.config import TrialConfig
from trainables.datasets import Part, TrialData
from trainables.resnet import network_cost
from trainables.training import PRECISIONS, Trainer

ARMS = {
    "imagenet-stem": TrialConfig(),
    "small-stem": TrialConfig(stem_kernel=2, stem_stride=1),
    "small-stem-no-pool": TrialConfig(stem_kernel=2, stem_stride=1, stem_maxpool=False),
}
ROUNDS = 3


def random_part(count: int, shape: tuple[int, int, int]) -> Part:
    """Images and labels of noise: speed does not depend on what they show."""
    draw = np.random.default_rng(0)
    return Part(draw.integers(0, 256, (count, *shape), dtype=np.uint8), draw.integers(0, 10, count))


def measure(shape: tuple[int, int, int], count: int) -> None:
    """Print a row for each arm on images of `shape` (C, H, W)."""
    part = random_part(count, shape)
    data = TrialData(part, part, None, classes=10, flip=True)
    for name, config in ARMS.items():
        trainers = {precision: Trainer(config, data, "cpu", precision) for precision in PRECISIONS}
        rounds = [{p: trainer.run_epoch() for p, trainer in trainers.items()} for _ in range(ROUNDS)]
        flops = network_cost(config, shape, 10).forward_flops
        cells = [f"{name:20} {'×'.join(map(str, shape)):>8}"]
        for precision in PRECISIONS:
            train = count / min(each[precision].train_seconds for each in rounds)
            evaluation = count / min(each[precision].eval_seconds for each in rounds)
            cells.append(f"{train:9.0f} {3 * flops * train / 1e9:9.0f} {evaluation:9.0f}")
        print(" │ ".join(cells), flush=True)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    heading = "train/s   GFLOP/s    eval/s"
    print(f"{'one thread, batch 128':29} │ " + " │ ".join(f"{precision}: {heading}"[-29:] for precision in PRECISIONS))
    print(f"{'':29} │ " + " │ ".join(f"{precision:^29}" for precision in PRECISIONS))
    measure((1, 16, 16), 256)
    measure((3, 32, 32), 256)


if __name__ == "__main__":
    main()
