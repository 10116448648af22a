"""A small config and random images for trials that are computed in a test."""

import numpy as np
import torch

from trainables.config import TrialConfig
from trainables.evaluation import DevicePart
from trainables.parts import Part, TrialData

SMALL = TrialConfig(
    stem_kernel=3, stem_stride=1, stem_maxpool=False, depth=10, width=8, batch_size=16, max_epochs=4
)


def random_part(count: int, shape: tuple[int, int, int] = (3, 16, 16), seed: int = 0) -> Part:
    draw = np.random.default_rng(seed)
    return Part(draw.integers(0, 256, (count, *shape), dtype=np.uint8), draw.integers(0, 4, count))


def trial_data(count: int = 50, flip: bool = True) -> TrialData:
    return TrialData(random_part(count), random_part(30, seed=1), None, classes=4, flip=flip)


def device_part(part: Part) -> DevicePart:
    return DevicePart.of(part, torch.device("cpu"))
