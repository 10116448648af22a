"""One trial's epoch loop: augmentation, one epoch of training, and the state between epochs.

Training and evaluation return numbers and never log. Tensor names carry their dimensions: B images
of a batch, N of a part, C channels, H×W pixels, K classes. All work stays on the trial's device;
the processor waits for an accelerator once a part, when its sums are read.
"""

import copy
import ctypes
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import EpochMetrics, TrialConfig
from trainables.evaluation import (
    DevicePart,
    Readings,
    balanced_accuracy,
    batchnorm_sample,
    compute_precise_statistics,
    evaluate,
    logits_of,
)
from trainables.parts import TrialData
from trainables.pixels import Pixels
from trainables.resnet import build_resnet

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def prepare_process(threads: int) -> None:
    """Give this process's training so many threads, and let it keep the memory that a batch frees.

    By default glibc gives large blocks back to the system at once, and every batch faults them in
    again: a few hundredths of an epoch.
    """
    # An unset OMP_NUM_THREADS, or one that a reused worker kept, would decide otherwise.
    torch.set_num_threads(threads)
    with suppress(AttributeError, OSError, TypeError):  # no glibc here
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


@dataclass(frozen=True)
class Batches:
    """An epoch's batches of augmented uint8 images, all random numbers drawn at its start.

    Each image is padded with zeros by an eighth of its size on every side and cropped at a place of
    its own; with `flip`, half of the images are mirrored. Iterating gives (images B×C×H×W, labels
    B).
    """

    part: DevicePart
    batch_size: int
    flip: bool
    generator: torch.Generator

    def __len__(self) -> int:
        """The number of batches. A last batch of a single image is dropped: BatchNorm needs two
        values."""
        full, remaining = divmod(len(self.part), self.batch_size)
        return full + (remaining > 1)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        height, width = self.part.images_NxCxHxW.shape[2:]
        pad_h = height // 8
        pad_w = width // 8
        count = len(self.part)
        device = self.generator.device
        random: dict[str, Any] = {"generator": self.generator, "device": device}
        order_N = torch.randperm(count, **random)
        top_N = torch.randint(2 * pad_h + 1, (count,), **random)
        left_N = torch.randint(2 * pad_w + 1, (count,), **random)
        mirrored_N = torch.rand(count, **random) < (0.5 if self.flip else 0.0)
        rows_H = torch.arange(height, device=device)
        columns_W = torch.arange(width, device=device)
        for batch in range(len(self)):
            places = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            chosen_B = order_N[places]
            padded = F.pad(self.part.images_NxCxHxW[chosen_B], (pad_w, pad_w, pad_h, pad_h))
            rows_BxH = top_N[places, None] + rows_H
            columns_BxW = left_N[places, None] + columns_W
            columns_BxW = torch.where(mirrored_N[places, None], columns_BxW.flip(1), columns_BxW)
            images_B = torch.arange(len(chosen_B), device=device)[:, None, None]
            # Indexing with the channels last writes what the convolutions read: channels_last
            # memory.
            cropped_BxHxWxC = padded.permute(0, 2, 3, 1)[
                images_B, rows_BxH[:, :, None], columns_BxW[:, None, :]
            ]
            yield cropped_BxHxWxC.permute(0, 3, 1, 2), self.part.labels_N[chosen_B]


def learning_rate_at(config: TrialConfig, progress: float) -> float:
    """The learning rate after `progress` (0 to 1) of the epoch budget."""
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate


def in_memory_order(tensor: Tensor) -> Tensor:
    """The same memory, with its dimensions in the order in which they lie there (plain or
    channels_last)."""
    if tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1)
    return tensor


def build_optimizer(config: TrialConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of `config`; weight decay is on all parameters, as the course report had it.

    It holds the parameters in memory order, for its fused update copies what is not contiguous;
    call `hand_over_gradients` before every step.
    """
    parameters = [
        nn.Parameter(in_memory_order(parameter.detach())) for parameter in model.parameters()
    ]
    shared: dict[str, Any] = {
        "lr": config.learning_rate,
        "weight_decay": config.weight_decay,
        "fused": True,
    }
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, momentum=config.momentum, nesterov=config.nesterov, **shared
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, betas=(config.momentum, 0.999), **shared)


def hand_over_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer the gradients of the model's parameters, and leave the model none."""
    optimized_parameters = optimizer.param_groups[0]["params"]
    for parameter, optimized in zip(model.parameters(), optimized_parameters, strict=True):
        assert parameter.grad is not None
        optimized.grad = in_memory_order(parameter.grad)
        parameter.grad = None


class Trainer:
    """One trial: its config, network, optimizer, random state and data, an epoch at a time."""

    def __init__(
        self, config: TrialConfig, data: TrialData, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self.config = config
        self.precision = precision
        self.device = torch.device(device)
        self.epoch = 0
        self.train = DevicePart.of(data.train, self.device)
        self.validation = DevicePart.of(data.validation, self.device) if data.validation else None
        self.test = DevicePart.of(data.test, self.device) if data.test else None
        self.pixels = Pixels.of(config.normalize, self.train.images_NxCxHxW)
        channels, height, width = data.train.images.shape[1:]
        model = build_resnet(config, (channels, height, width), data.classes)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(config, self.model)
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.batches = Batches(self.train, config.batch_size, data.flip, self.generator)
        self.bn_sample_NxCxHxW = (
            batchnorm_sample(self.train) if config.bn_statistics == "precise" else None
        )
        # Rows: true classes; columns: predicted. Of the last part evaluated.
        self.confusion_KxK = torch.zeros(data.classes, data.classes, dtype=torch.int64)
        # By test image, whether the last evaluation classified it correctly; None before any and
        # where there is no test part.
        self.correct_N: np.ndarray | None = None

    def run_epoch(self) -> EpochMetrics:
        """Train one epoch and evaluate what this trial may read; see `EpochMetrics`.

        A trial that diverged is not evaluated: its readings are NaN.
        """
        self.epoch += 1
        started = time.perf_counter()
        trained = self.train_epoch()
        trained_at = time.perf_counter()
        diverged = not math.isfinite(trained.loss)
        if self.bn_sample_NxCxHxW is not None and not diverged:
            compute_precise_statistics(
                self.model, self.bn_sample_NxCxHxW, self.pixels, self.precision
            )
        validation = self._read(self.validation, diverged)
        test = self._read(self.test, diverged)
        self.correct_N = self._correct(test)
        return EpochMetrics(
            epoch=self.epoch,
            learning_rate=learning_rate_at(self.config, (self.epoch - 1) / self.config.max_epochs),
            train_loss=trained.loss,
            train_accuracy=trained.accuracy,
            validation_loss=validation.loss if validation else None,
            validation_accuracy=validation.accuracy if validation else None,
            validation_balanced_accuracy=validation.balanced_accuracy if validation else None,
            test_loss=test.loss if test else None,
            test_accuracy=test.accuracy if test else None,
            test_balanced_accuracy=test.balanced_accuracy if test else None,
            train_seconds=trained_at - started,
            eval_seconds=time.perf_counter() - trained_at,
        )

    def train_epoch(self) -> Readings:
        """One pass over the training part.

        A loss that is not finite makes the epoch's loss NaN; on a CPU, where looking costs nothing,
        it ends it.
        """
        loss_sum, correct_sum = torch.zeros(2, device=self.device)
        images_seen = 0
        self.model.train()
        for batch, (images_BxCxHxW, labels_B) in enumerate(self.batches):
            progress = (self.epoch - 1 + batch / len(self.batches)) / self.config.max_epochs
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate_at(self.config, progress)
            logits_BxK = logits_of(self.model, images_BxCxHxW, self.pixels, self.precision)
            loss = F.cross_entropy(
                logits_BxK, labels_B, label_smoothing=self.config.label_smoothing
            )
            loss.backward()
            hand_over_gradients(self.model, self.optimizer)
            self.optimizer.step()
            with torch.no_grad():
                loss_sum += loss * len(labels_B)
                correct_sum += (logits_BxK.argmax(1) == labels_B).sum()
            images_seen += len(labels_B)
            if self.device.type == "cpu" and not math.isfinite(loss.item()):
                break
        loss_mean = loss_sum.item() / images_seen
        if not math.isfinite(loss_mean):
            loss_mean = math.nan
        return Readings(loss_mean, correct_sum.item() / images_seen)

    def _read(self, part: DevicePart | None, diverged: bool) -> Readings | None:
        if part is None:
            return None
        if diverged:
            return Readings(math.nan, math.nan)
        readings = evaluate(self.model, part, self.pixels, self.precision)
        if not math.isfinite(readings.loss):  # the epoch's last update broke the weights
            return Readings(math.nan, math.nan)
        assert readings.predictions_N is not None
        pairs = part.labels_N * len(self.confusion_KxK) + readings.predictions_N
        counts = torch.bincount(pairs, minlength=self.confusion_KxK.numel())
        self.confusion_KxK = counts.reshape(self.confusion_KxK.shape).cpu()
        return replace(readings, balanced_accuracy=balanced_accuracy(self.confusion_KxK.numpy()))

    def _correct(self, test: Readings | None) -> np.ndarray | None:
        if self.test is None or test is None or test.predictions_N is None:
            return None
        correct_N: np.ndarray = (test.predictions_N == self.test.labels_N).cpu().numpy()
        return correct_N

    def state_dict(self) -> dict[str, Any]:
        """All that resuming needs, tensors and plain values only; a copy, which later training does
        not change."""
        return copy.deepcopy(
            {
                "epoch": self.epoch,
                "generator": self.generator.get_state(),
                "confusion": self.confusion_KxK,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from `state_dict()` of a trial of the same config."""
        self.epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.confusion_KxK = state["confusion"]
