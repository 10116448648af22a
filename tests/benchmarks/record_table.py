"""Train the table that readings, samplers and schedulers are compared on.

`python -m tests.benchmarks.record_table [back]`.

Digits, depth 18, every stem and pool × learning rates, each trial to its last epoch, read after every epoch
by the weights as they are and by moving averages of several horizons. Takes about 100 minutes of one core;
goes on where it stopped, and a second process may come towards it from the `back`. The result, `digits.csv`,
is kept beside this file; accuracies are counts of images, `test` is read at the end alone.
"""

import copy
import csv
import itertools
import math
import random
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from study.designs import SEARCH
from trainables.config import TrialConfig
from trainables.datasets import TrialData, load_images, split_images
from trainables.training import DevicePart, Trainer, evaluate

TABLE = Path(__file__).with_name("digits.csv")
EPOCHS = 6
LEARNING_RATES = {"constant": (0.0003, 0.0017, 0.0095, 0.053, 0.3), "cosine": (0.001, 0.0095, 0.09)}
HORIZONS = (0.1, 0.25, 0.5, 1.0)
READINGS = ("raw", *(f"averaged {horizon:g}" for horizon in HORIZONS))
VARIED = ("stem_kernel", "stem_stride", "stem_maxpool", "learning_rate", "schedule")
COLUMNS = (*VARIED, "epoch", *(f"{part} {reading}" for reading in READINGS for part in ("loss", "accuracy", "test")))


class MovingAverage:
    """An exponential moving average of a network's weights and BatchNorm statistics, over `horizon` steps.

    Corrected for its start, as in Adam: the initial weights have no part in it, and what BatchNorm's own
    average still holds of its initial 0 and 1 is taken out.
    """

    def __init__(self, model: nn.Module, horizon: float) -> None:
        self.raw, self.model, self.steps = model, copy.deepcopy(model), 0
        self.decay = math.exp(-1 / horizon)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network as it is; once after every step."""
        self.steps += 1
        share = (1 - self.decay) / (1 - self.decay**self.steps)
        initial = 0.9**self.steps  # BatchNorm keeps nine tenths at every step
        averaged = self.model.state_dict()
        for name, newest in self.raw.state_dict().items():
            if name.endswith("running_mean"):
                newest = newest / (1 - initial)
            elif name.endswith("running_var"):
                newest = (newest - initial) / (1 - initial)
            if newest.is_floating_point():
                averaged[name].lerp_(newest, share)


def rows(config: TrialConfig, data: TrialData) -> list[dict[str, object]]:
    """One row an epoch."""
    trainer = Trainer(config, replace(data, test=None))
    test = DevicePart.of(data.test, trainer.device)
    averages = [MovingAverage(trainer.model, horizon * len(trainer.batches)) for horizon in HORIZONS]
    trainer.optimizer.register_step_post_hook(lambda *_: [average.update() for average in averages])
    table = []
    for _ in range(EPOCHS):
        metrics = trainer.run_epoch()
        row: dict[str, object] = {name: getattr(config, name) for name in VARIED} | {"epoch": metrics.epoch}
        table.append(row)
        if metrics.diverged:
            break
        for reading, model in zip(READINGS, (trainer.model, *(each.model for each in averages)), strict=True):
            said = evaluate(model, trainer.validation, trainer.pixels, "float32")
            row[f"accuracy {reading}"], row[f"loss {reading}"] = round(said.accuracy * 144), f"{said.loss:.4g}"
            if metrics.epoch == EPOCHS:
                said = evaluate(model, test, trainer.pixels, "float32")
                row[f"test {reading}"] = round(said.accuracy * len(test))
    return table


def recorded() -> set[tuple[str, ...]]:
    """The trials that the table holds."""
    TABLE.touch()
    with TABLE.open(newline="") as file:
        return {tuple(row[name] for name in VARIED) for row in csv.DictReader(file)}


def main() -> None:
    torch.set_num_threads(1)
    split = split_images(load_images("digits", Path("data")), None)
    data = TrialData(split.train, split.validation, split.test, 10, False)
    stems = itertools.product((2, 3, 5, 7), (1, 2), (True, False))
    points = [
        dict(zip(VARIED, (*stem, rate, schedule), strict=True))
        for stem in stems
        for schedule, rates in LEARNING_RATES.items()
        for rate in rates
    ]
    random.Random(0).shuffle(points)  # what an interrupted run leaves is a fair sample
    points.sort(key=lambda point: point["schedule"])
    for point in points if len(sys.argv) == 1 else reversed(points):
        if tuple(str(point[name]) for name in VARIED) in recorded():
            continue
        config = TrialConfig.from_dict({**SEARCH.fixed, **point, "max_epochs": EPOCHS})
        table = rows(config, data)
        with TABLE.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if TABLE.stat().st_size == 0:
                writer.writeheader()
            writer.writerows(table)
        print(point, table[-1].get("accuracy averaged 0.25"), flush=True)


if __name__ == "__main__":
    main()
