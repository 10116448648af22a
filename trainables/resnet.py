"""The ResNet family of the study, built by hand: stem → four stages of basic blocks → head.

Deep Residual Learning for Image Recognition, He, Zhang, Ren and Sun 2015 (arXiv:1512.03385), with
the stem, the depth, the shortcuts and the addition itself as parameters. Tensor names carry their
dimensions: B images, C channels, H×W pixels, K classes.
"""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import DEPTHS, TrialConfig
from trainables.convolution import Conv2d
from trainables.pixels import Pixels
from trainables.prediction import Predictions, read_images

BATCH = 256
"""Images at once of those whose classes are predicted."""


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, maps of one pixel in two dimensions: their gradient takes torch ten times
    as long in four."""

    def forward(self, x_BxCxHxW: Tensor) -> Tensor:
        if x_BxCxHxW.shape[2:].numel() > 1:
            return super().forward(x_BxCxHxW)
        return super().forward(x_BxCxHxW.flatten(1))[:, :, None, None]

    def _check_input_dim(self, input: Tensor) -> None:  # two dimensions will do
        pass


class Stem(nn.Sequential):
    """The first convolution and, where the config has it, the maximum pool."""

    def __init__(self, config: TrialConfig, in_channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(
            in_channels,
            config.width,
            config.stem_kernel,
            config.stem_stride,
            config.stem_kernel // 2,
        )
        self.norm = BatchNorm2d(config.width)
        self.relu = nn.ReLU(inplace=True)
        if config.stem_maxpool:
            self.pool = nn.MaxPool2d(3, stride=2, padding=1)


class ZeroPaddingShortcut(nn.Module):
    """Option A of the paper (section 3.3): every second pixel, new channels filled with zeros."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = out_channels - in_channels, stride

    def forward(self, x_BxCxHxW: Tensor) -> Tensor:
        return F.pad(
            x_BxCxHxW[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels)
        )


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and, in a residual network, the addition of the input (section 3.2)."""

    def __init__(
        self, config: TrialConfig, in_channels: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, out_channels, 3, stride, 1)
        self.norm1 = BatchNorm2d(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3, 1, 1)
        self.norm2 = BatchNorm2d(out_channels)
        self.shortcut = (
            _shortcut(config, in_channels, out_channels, stride) if config.residual else None
        )

    def forward(self, x_BxCxHxW: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x_BxCxHxW)), inplace=True)
        out = self.norm2(self.conv2(out))
        if self.shortcut is not None:
            out = out + self.shortcut(x_BxCxHxW)
        return F.relu(out, inplace=True)


def _shortcut(config: TrialConfig, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if config.shortcut == "zero-padding":
        return ZeroPaddingShortcut(in_channels, out_channels, stride)
    return nn.Sequential(Conv2d(in_channels, out_channels, 1, stride, 0), BatchNorm2d(out_channels))


class ResNet(nn.Module):
    """Maps images, float B×C×H×W, to logits, float B×K."""

    def __init__(self, config: TrialConfig, in_channels: int, classes: int) -> None:
        super().__init__()
        self.stem = Stem(config, in_channels)
        self.stages = nn.Sequential()
        channels = config.width
        for stage, blocks in enumerate(DEPTHS[config.depth]):
            out_channels = config.width * 2**stage
            first = BasicBlock(config, channels, out_channels, 2 if stage else 1)
            others = [BasicBlock(config, out_channels, out_channels, 1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(first, *others))
            channels = out_channels
        self.head = nn.Linear(channels, classes)

    def forward(self, x_BxCxHxW: Tensor) -> Tensor:
        logits_BxK: Tensor = self.head(self.stages(self.stem(x_BxCxHxW)).mean(dim=(2, 3)))
        return logits_BxK


def build_resnet(config: TrialConfig, image_shape: tuple[int, int, int], classes: int) -> ResNet:
    """The network of `config` for images of `image_shape` (C, H, W), on the CPU in float32.

    A pure function: the weights come from `config.seed`, torch's global random state is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = ResNet(config, image_shape[0], classes)
        if config.init == "he":
            for module in model.modules():
                # Section 3.4 through its reference [13], equation 14 (variance 2/fan-out, kept by
                # the backward pass): the form of the authors' own code and of torchvision.
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


@dataclass(frozen=True)
class NetworkCost:
    """Trainable parameters; of one image the floating-point operations of the forward pass, and the
    values that convolutions put out, which the backward pass needs."""

    parameters: int
    forward_flops: int
    activations: int

    def training_bytes(self, batch_size: int) -> float:
        """Roughly the memory of a process that trains the network in float32.

        Measured on a CPU, depths 10 to 34, 16 to 224 pixels: 0.75 GB for Python and torch, and for
        a value 12 to 15 bytes (what BatchNorm and ReLU keep, and gradients); bf16 takes 11.
        """
        return 0.75e9 + 14.0 * self.activations * batch_size + 12.0 * self.parameters


def network_cost(
    config: TrialConfig, image_shape: tuple[int, int, int], classes: int
) -> NetworkCost:
    """What the network of `config` costs; convolutions and the head, 2 operations a multiply-add.

    By arithmetic on the shapes, for building a network takes a tenth of a second and a design has
    many arms.
    """
    parameters = flops = activations = 0

    def convolve(size: list[int], c_in: int, c_out: int, kernel: int, stride: int) -> list[int]:
        nonlocal parameters, flops, activations
        out = [(pixels + 2 * (kernel // 2) - kernel) // stride + 1 for pixels in size]
        parameters += c_in * c_out * kernel**2 + 2 * c_out  # with BatchNorm's scale and shift
        flops += 2 * c_in * c_out * kernel**2 * math.prod(out)
        activations += c_out * math.prod(out)
        return out

    channels, *size = image_shape
    size = convolve(size, channels, config.width, config.stem_kernel, config.stem_stride)
    if config.stem_maxpool:
        size = [(pixels - 1) // 2 + 1 for pixels in size]
    channels = config.width
    for stage, blocks in enumerate(DEPTHS[config.depth]):
        for block in range(blocks):
            stride, c_out = 2 if stage and not block else 1, config.width * 2**stage
            out = convolve(size, channels, c_out, 3, stride)
            convolve(out, c_out, c_out, 3, 1)
            if (
                config.residual
                and config.shortcut == "projection"
                and (stride, channels) != (1, c_out)
            ):
                convolve(size, channels, c_out, 1, stride)
            size, channels = out, c_out
    head = channels * classes
    return NetworkCost(parameters + head + classes, flops + 2 * head, activations)


def save_resnet(
    folder: Path,
    config: TrialConfig,
    image_shape: tuple[int, int, int],
    classes: tuple[str, ...],
    pixel_mean: list[float],
    pixel_std: list[float],
    weights: dict[str, Tensor],
    value_range: tuple[float, float] | None = None,
) -> None:
    """Write what `load_resnet` needs into `folder`: `config.json` and `weights.pt`."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "config": config.to_dict(),
        "image_shape": image_shape,
        "classes": classes,
        "pixel_mean": pixel_mean,
        "pixel_std": pixel_std,
        "value_range": value_range,
    }
    (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n")
    # Not by torch itself, which calls a full disk a RuntimeError.
    (folder / "weights.pt").write_bytes(pack(weights))


def pack(state: dict[str, Any]) -> bytes:
    """Tensors and plain values as bytes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, Any]:
    """What `pack` was given, on the CPU; nothing in `content` is run."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    return state


class TrainedResNet(ResNet):
    """A network with all that reading images by it needs: classes, shape, normalisation."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        image_shape, classes = description["image_shape"], description["classes"]
        super().__init__(TrialConfig.from_dict(description["config"]), image_shape[0], len(classes))
        self.image_shape = tuple(image_shape)
        self.classes = tuple(classes)
        self.value_range = description.get("value_range")
        for name in ("pixel_mean", "pixel_std"):
            # A buffer, so that it moves to a device with the network; not one of its weights.
            self.register_buffer(name, torch.tensor(description[name]), persistent=False)

    def predict(self, images: str | Path | np.ndarray) -> Predictions:
        """The probability of each class for an image file, the images of a folder, or an array of
        images (uint8, N×H×W×C or N×H×W); resized and normalised as in training.

        Raises:
            UsageError: there are no such images, or one cannot be read.
        """
        names, pixels_NxCxHxW = read_images(images, self.image_shape, self.value_range)
        return Predictions(names, self.classes, self.probabilities(pixels_NxCxHxW))

    @torch.inference_mode()
    def probabilities(self, images_NxCxHxW: np.ndarray) -> np.ndarray:
        """Of each class (float64 N×K), for images of the network's shape (uint8)."""
        pixels = Pixels(self.get_buffer("pixel_mean"), self.get_buffer("pixel_std"))
        batches = [
            self(pixels.normalize(torch.tensor(batch_BxCxHxW, device=pixels.mean_C.device)))
            for batch_BxCxHxW in np.split(images_NxCxHxW, range(BATCH, len(images_NxCxHxW), BATCH))
        ]
        probabilities_NxK: np.ndarray = torch.cat(batches).double().softmax(1).cpu().numpy()
        return probabilities_NxK


def load_resnet(folder: Path | str) -> TrainedResNet:
    """The trained network that a study left in its folder `best`, in evaluation mode.

    Called, it takes images as `(uint8 / 255 - pixel_mean) / pixel_std` and gives logits; `predict`
    takes them as they are.
    """
    description = json.loads((Path(folder) / "config.json").read_text())
    with torch.random.fork_rng(devices=[]):  # its weights are drawn, then replaced
        model = TrainedResNet(description)
    model.load_state_dict(unpack((Path(folder) / "weights.pt").read_bytes()))
    return model.eval()
