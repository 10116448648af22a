"""What a network recognises of a part: its statistics of BatchNorm, its logits, loss and accuracy.

Tensor names carry their dimensions: B images of a batch, N of a part, C channels, H×W pixels, K
classes.
"""

import copy
import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.parts import Part
from trainables.pixels import Pixels

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
