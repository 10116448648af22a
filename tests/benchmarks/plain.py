"""The plain recipe, which the project is measured against: what a careful person writes from the
tutorials.

torchvision's PIL transforms in a DataLoader, torchvision's own network with another stem, float32;
loading workers and the memory layout may be chosen. The study is the one of Ray Tune's
documentation for CIFAR-10: a function trainable with a DataLoader in each trial, FIFO, no reuse of
actors.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models.resnet import BasicBlock, ResNet

from trainables.config import DEPTHS, TrialConfig
from trainables.parts import Part, TrialData

WORKERS = 2


class Images(Dataset):
    """Images as PIL has them, transformed when they are asked for."""

    def __init__(self, part: Part, augment: bool, flip: bool) -> None:
        grey, size = part.images.shape[1] == 1, part.images.shape[2]
        arrays = part.images[:, 0] if grey else np.moveaxis(part.images, 1, -1)
        self.images = [Image.fromarray(array) for array in arrays]
        self.labels = part.labels
        steps = [transforms.RandomCrop(size, padding=size // 8)] if augment else []
        steps += [transforms.RandomHorizontalFlip()] if augment and flip else []
        self.transform = transforms.Compose(
            [*steps, transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def network(config: TrialConfig, channels: int, classes: int) -> nn.Module:
    """torchvision's ResNet of this depth with this stem."""
    model = ResNet(BasicBlock, list(DEPTHS[config.depth]), num_classes=classes)
    kernel, stride = config.stem_kernel, config.stem_stride
    model.conv1 = nn.Conv2d(channels, 64, kernel, stride, kernel // 2, bias=False)
    if not config.stem_maxpool:
        model.maxpool = nn.Identity()
    return model


class Training:
    """A network, its optimizer and its loaders, an epoch at a time."""

    def __init__(
        self,
        config: TrialConfig,
        data: TrialData,
        workers: int = WORKERS,
        channels_last: bool = False,
    ) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        train, validation = (
            Images(data.train, True, data.flip),
            Images(data.validation, False, False),
        )
        self.train = DataLoader(
            train, config.batch_size, shuffle=True, num_workers=workers, drop_last=True
        )
        self.validation = DataLoader(validation, config.batch_size, num_workers=workers)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.layout: dict[str, Any] = {"memory_format": layout}
        self.model = network(config, data.train.images.shape[1], data.classes).to(**self.layout)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            config.learning_rate,
            config.momentum,
            weight_decay=config.weight_decay,
        )

    def train_epoch(self, warm: int = 1) -> float:
        """Train one epoch; images a second, without the first batches and the workers' start."""
        self.model.train()
        images = 0
        for batch, (inputs, labels) in enumerate(self.train):
            if batch == warm:
                started = time.perf_counter()
            self.optimizer.zero_grad()
            loss = self.loss(self.model(inputs.to(**self.layout)), labels)
            loss.backward()
            self.optimizer.step()
            images += len(labels) if batch >= warm else 0
        return images / (time.perf_counter() - started)

    def validate(self) -> float:
        """Accuracy on the validation part."""
        self.model.eval()
        right = 0
        with torch.no_grad():
            for inputs, labels in self.validation:
                right += int((self.model(inputs).argmax(1) == labels).sum())
        return right / len(self.validation.dataset)  # type: ignore[arg-type]


def train_trial(config: dict[str, Any], data: TrialData) -> None:
    """The function trainable, with the variant that is the fastest on two cores (`epoch.variants`):
    no loading workers, channels_last."""
    from ray import tune

    training = Training(TrialConfig.from_dict(config["trial"]), data, 0, channels_last=True)
    for _ in range(training.config.max_epochs):
        training.train_epoch()
        tune.report({"validation_accuracy": training.validate()})


def study(
    dataset: str, samples: int, epochs: int, seed: int, train_images: int | None = None
) -> None:
    """A study of the design `search`, baselines included, other trials drawn at random; prints the
    best."""
    from ray import tune

    from study.designs import SEARCH
    from study.searcher import StudySearcher
    from study.state import StudyState
    from tests.benchmarks.choices import beginning
    from trainables.datasets import load_images
    from trainables.parts import search_data, split_images

    images = load_images(dataset, Path("data"))
    data = search_data(images, split_images(images, train_images))
    state = StudyState(header={"settings": {}})
    begin = beginning(lambda event, **about: state.apply({"event": event, "time": "", **about}))
    draw = StudySearcher(SEARCH, samples, "random", epochs, seed, state, begin, lambda _: None)
    configs = [draw.suggest(str(number))["config"] for number in range(samples)]  # type: ignore[index]
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_trial, data=data), {"cpu": 1}),
        param_space={"trial": tune.grid_search(configs)},
        tune_config=tune.TuneConfig(metric="validation_accuracy", mode="max"),
    )
    best = tuner.fit().get_best_result()
    print(f"best validation accuracy {best.metrics['validation_accuracy']:.4f}")


if __name__ == "__main__":
    from tests.benchmarks import (
        plain,
    )  # what Ray gets from a `__main__` module it takes by value, which fails

    plain.study(sys.argv[1], *map(int, sys.argv[2:]))
