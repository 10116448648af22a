"""One trial's epoch loop: augmentation, one epoch of training, evaluation, and the state between
epochs.

Training and evaluation return numbers and never log. Tensor names carry their dimensions: B images
of a batch, N of a part, C channels, H×W pixels, K classes. All work stays on the trial's device;
the processor waits for an accelerator once a part, when its sums are read.
"""

import copy
import ctypes
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import EpochMetrics, TrialConfig
from trainables.parts import Part, TrialData
from trainables.pixels import Pixels
from trainables.resnet import build_resnet

PRECISIONS = ("float32", "bf16")
EVALUATION_BATCH = 250
BN_SAMPLE, BN_SHARE = 512, 20
"""Training images for BatchNorm's precise statistics: at least so many, and of a large part one in
so many.

512 cost 12% of an epoch of the digits, 2,250 of CIFAR-10's 45,000 cost 2%. Over draws of 512 a test
accuracy varies by 0.3 to 0.5 points (digits and CIFAR-10 images), of 128 by 0.3 to 1.5, of 1,024 by
0.2; augmented images give a higher loss, and other sizes of the batches (32, 512) the same.
"""
BN_BATCH = 128
"""About how many of them at once."""
BN_SEED = 20240229
"""A constant, so that all trials on the same images have the same sample."""
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
class DevicePart:
    """A part's images (uint8 N×C×H×W) and labels (int64 N) on the trial's device."""

    images_NxCxHxW: Tensor
    labels_N: Tensor

    @classmethod
    def of(cls, part: Part, device: torch.device) -> "DevicePart":
        """On a CPU the arrays are shared, not copied: they may be read-only memory of Ray's object
        store."""
        with warnings.catch_warnings(action="ignore"):  # that the arrays are not writable
            images, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
        return cls(images.to(device), labels.to(device))

    def __len__(self) -> int:
        return len(self.labels_N)


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


def batchnorm_sample(part: DevicePart) -> Tensor:
    """The images (uint8 N×C×H×W) for precise statistics: the same for every trial and epoch of a
    training part."""
    order_N = torch.randperm(len(part), generator=torch.Generator().manual_seed(BN_SEED))
    chosen = order_N[: max(BN_SAMPLE, len(part) // BN_SHARE)]
    return part.images_NxCxHxW[chosen.to(part.images_NxCxHxW.device)]


@torch.no_grad()
def compute_precise_statistics(
    model: nn.Module, sample_NxCxHxW: Tensor, pixels: Pixels, precision: str
) -> None:
    """Replace the running statistics of every BatchNorm by the mean of those of the sample's
    batches.

    Wu & Johnson 2021, Rethinking "Batch" in BatchNorm (arXiv:2105.07576), section 3: running
    statistics are an average over the last ten batches or so, of weights that have changed since.
    Training never reads them, so it is the same with and without this.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    saved = [(norm.momentum, copy.deepcopy(norm.num_batches_tracked)) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    model.train()
    # Batches of nearly one size count the same, and none is a single image, of which there is no
    # variance.
    batches = sample_NxCxHxW.tensor_split(math.ceil(len(sample_NxCxHxW) / BN_BATCH))
    for batch, images_BxCxHxW in enumerate(batches):
        for norm in norms:
            # The cumulative average; with a momentum of None an accelerator would be waited for in
            # every layer.
            norm.momentum = 1 / (batch + 1)
        logits_of(model, images_BxCxHxW, pixels, precision)
    for norm, (momentum, batches_tracked) in zip(norms, saved, strict=True):
        norm.momentum, norm.num_batches_tracked = momentum, batches_tracked


@dataclass(frozen=True)
class Readings:
    """Mean loss and accuracy (a fraction); of an evaluation also the predicted classes, int64 N,
    and the balanced accuracy."""

    loss: float
    accuracy: float
    predictions_N: Tensor | None = None
    balanced_accuracy: float = math.nan


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
    kinds: dict[str, type[torch.optim.Adam]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    return kinds[config.optimizer](parameters, betas=(config.momentum, 0.999), **shared)


def hand_over_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer the gradients of the model's parameters, and leave the model none."""
    optimized_parameters = optimizer.param_groups[0]["params"]
    for parameter, optimized in zip(model.parameters(), optimized_parameters, strict=True):
        assert parameter.grad is not None
        optimized.grad = in_memory_order(parameter.grad)
        parameter.grad = None


def logits_of(model: nn.Module, images_BxCxHxW: Tensor, pixels: Pixels, precision: str) -> Tensor:
    """The logits of uint8 images; float32, whatever precision they are computed in."""
    x_BxCxHxW = pixels.normalize(images_BxCxHxW).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x_BxCxHxW.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits_BxK: Tensor = model(x_BxCxHxW)
    return logits_BxK.float()


@torch.inference_mode()
def evaluate(model: nn.Module, part: DevicePart, pixels: Pixels, precision: str) -> Readings:
    """Mean cross-entropy and accuracy over a part, no augmentation, BatchNorm by the statistics in
    its buffers."""
    loss_sum = torch.zeros((), device=pixels.mean_C.device)
    predictions = []
    model.eval()
    batches = (tensor.split(EVALUATION_BATCH) for tensor in (part.images_NxCxHxW, part.labels_N))
    for images_BxCxHxW, labels_B in zip(*batches, strict=True):
        logits_BxK = logits_of(model, images_BxCxHxW, pixels, precision)
        loss_sum += F.cross_entropy(logits_BxK, labels_B, reduction="sum")
        predictions.append(logits_BxK.argmax(1))
    predictions_N = torch.cat(predictions)
    correct = (predictions_N == part.labels_N).sum()
    return Readings(loss_sum.item() / len(part), correct.item() / len(part), predictions_N)


def balanced_accuracy(confusion_KxK: np.ndarray) -> float:
    """The mean over the classes (rows) that have images of the share that is recognised: chance is
    1/K however uneven the classes are (Brodersen et al. 2010)."""
    counts_K = confusion_KxK.sum(1)
    present = counts_K > 0
    return float((confusion_KxK.diagonal()[present] / counts_K[present]).mean())


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


def time_training(
    config: TrialConfig,
    data: TrialData,
    precisions: Sequence[str],
    threads: int,
    gpu: bool,
    scale: float = 1.0,
    enough_seconds: float = 5.0,
) -> dict[str, float]:
    """Seconds per image of training a network `scale` times as expensive as that of `config`, by
    precision: the least of two rounds of an epoch of `data`, or of one where that is enough.

    The precisions take turns, for the machine may be busy starting Ray while this runs. Of several,
    bf16 is skipped on a processor without instructions for it, where it takes up to a hundred
    times as long.
    """
    prepare_process(threads)
    if len(precisions) > 1 and not (gpu or has_bf16()):
        precisions = [precision for precision in precisions if precision != "bf16"]
    device = "cuda" if gpu else "cpu"
    trainers = {precision: Trainer(config, data, device, precision) for precision in precisions}
    seconds = dict.fromkeys(precisions, math.inf)
    started = time.monotonic()
    for _ in range(2):
        for precision, trainer in trainers.items():
            seconds[precision] = min(seconds[precision], trainer.run_epoch().train_seconds)
        if time.monotonic() - started > enough_seconds:
            break
    return {precision: scale * least / len(data.train) for precision, least in seconds.items()}


def has_bf16() -> bool:
    """Whether this processor has instructions for bf16."""
    capabilities = torch.cpu.get_capabilities()
    return any(present for name, present in capabilities.items() if "bf16" in name)
