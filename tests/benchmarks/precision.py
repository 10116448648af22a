"""Is bf16 safe? The same trials in both precisions, over several seeds on digits, compared in pairs."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from study.designs import SEARCH
from trainables.config import TrialConfig
from trainables.datasets import load_images, search_data, split_images
from trainables.training import Trainer

SEEDS = 8
EPOCHS = 4
ARMS = {
    "imagenet-stem": SEARCH.baseline("imagenet-stem", EPOCHS, 0),
    "k3 s1 pool d10": TrialConfig.from_dict(
        {**SEARCH.fixed, "stem_kernel": 3, "stem_stride": 1, "depth": 10, "learning_rate": 0.03, "max_epochs": EPOCHS}
    ),
}


def main() -> None:
    """Print a row for each arm: the mean accuracies, their mean difference in pairs, its interval and p-value."""
    torch.set_num_threads(1)
    images = load_images("digits", Path("data"))
    data = search_data(images, split_images(images))
    print(f"validation accuracy after {EPOCHS} epochs on digits, {SEEDS} seeds, bf16 - float32 in pairs (t interval)")
    for name, arm in ARMS.items():
        readings: dict[str, list[float]] = {"float32": [], "bf16": []}
        for seed in range(SEEDS):
            for precision, values in readings.items():
                trainer = Trainer(dataclasses.replace(arm, seed=seed), data, "cpu", precision)
                values.append([trainer.run_epoch() for _ in range(EPOCHS)][-1].validation_accuracy or 0.0)
        differences = np.subtract(readings["bf16"], readings["float32"])
        test = stats.ttest_1samp(differences, 0)
        low, high = test.confidence_interval(0.95)
        means = ", ".join(f"{precision} {np.mean(values):.4f}" for precision, values in readings.items())
        print(
            f"{name:16} {means}, difference {differences.mean():+.4f} [{low:+.4f}, {high:+.4f}], p = {test.pvalue:.2f}"
        )


if __name__ == "__main__":
    main()
