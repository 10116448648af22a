"""Is bf16 safe? The same trials in both precisions, over several seeds on digits, compared in
pairs.

Read on the test part, which is larger than the validation part and by which nothing is chosen here;
the learning rate ends at zero, for at a constant one a single reading says more of its epoch than
of the precision.
"""

import dataclasses
import itertools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy import stats

from study.designs import SEARCH
from trainables.config import TrialConfig
from trainables.datasets import load_images
from trainables.parts import TrialData, search_data, split_images
from trainables.timing import PRECISIONS
from trainables.training import Trainer, prepare_process

SEEDS = 8
EPOCHS = 12
SHARED = {"schedule": "cosine", "max_epochs": EPOCHS}
ARMS = {
    "imagenet-stem": SEARCH.baselines["imagenet-stem"],
    "small-stem": SEARCH.baselines["small-stem"],
    "k3 s1 no-pool d18": {
        **SEARCH.fixed,
        **{"stem_kernel": 3, "stem_stride": 1, "stem_maxpool": False, "learning_rate": 0.01},
    },
}


def read(data: TrialData, arm: str, seed: int, precision: str) -> float:
    """The last accuracy of one trial."""
    prepare_process(1)
    config = TrialConfig.from_dict({**ARMS[arm], **SHARED, "seed": seed})
    trainer = Trainer(config, data, "cpu", precision)
    return [trainer.run_epoch() for _ in range(EPOCHS)][-1].validation_accuracy or 0.0


def main() -> None:
    """Print a row for each arm: the mean accuracies, their mean difference in pairs, its interval
    and p-value."""
    images = load_images("digits", Path("data"))
    split = split_images(images)
    data = dataclasses.replace(search_data(images, split), validation=split.test)
    runs = list(itertools.product(ARMS, range(SEEDS), PRECISIONS))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=spawn) as pool:
        values = pool.map(read, itertools.repeat(data), *zip(*runs, strict=True))
        by_arm = np.reshape(list(values), (len(ARMS), SEEDS, len(PRECISIONS)))
    print(
        f"accuracy on {len(split.test.labels)} test images after {EPOCHS} epochs on digits, "
        f"cosine, {SEEDS} seeds, "
        "bf16 - float32 in pairs (t interval)"
    )
    for arm, (float32, bf16) in zip(ARMS, by_arm.transpose(0, 2, 1), strict=True):
        differences = bf16 - float32
        test = stats.ttest_1samp(differences, 0)
        low, high = test.confidence_interval(0.95)
        print(
            f"{arm:18} float32 {float32.mean():.4f}, bf16 {bf16.mean():.4f}, "
            f"difference {differences.mean():+.4f} [{low:+.4f}, {high:+.4f}], p = {test.pvalue:.2f}"
        )


if __name__ == "__main__":
    main()
