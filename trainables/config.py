"""What goes into a trial and what comes out of an epoch.

Two frozen dataclasses and the one error for bad input; standard library only, so that the
analysis can read a study where neither torch nor ray is installed.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

DEPTHS: Mapping[int, tuple[int, int, int, int]] = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks in each of the four stages, by depth (He et al. 2015, table 1; 10 is its halved 18)."""

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "stem_kernel": (2, 3, 5, 7),
    "stem_stride": (1, 2),
    "stem_maxpool": (True, False),
    "depth": tuple(DEPTHS),
    "residual": (True, False),
    "shortcut": ("projection", "zero-padding"),
    "init": ("he", "default"),
    "optimizer": ("sgd", "adam", "adamw"),
    "nesterov": (True, False),
    "schedule": ("constant", "cosine"),
    "normalize": ("data", "half"),
}
"""What each discrete field may be."""

RANGES: Mapping[str, tuple[float, float, str]] = {
    "width": (1, 1024, "an integer from 1 to 1024"),
    "learning_rate": (math.nextafter(0, 1), math.inf, "a finite number above 0"),
    "momentum": (0.0, math.nextafter(1, 0), "a number from 0 to below 1"),
    "weight_decay": (0.0, math.inf, "a finite number from 0"),
    "label_smoothing": (0.0, math.nextafter(1, 0), "a number from 0 to below 1"),
    "batch_size": (2, 1 << 20, "an integer from 2"),
    "max_epochs": (1, 1 << 20, "an integer from 1"),
    "seed": (0, (1 << 32) - 1, "an integer from 0 to 4294967295"),
}
"""The least and the greatest of each numeric field, and how that is said."""


class UsageError(ValueError):
    """Input that cannot be used: one line that names the parameter, what it is and what is allowed."""


@dataclass(frozen=True)
class TrialConfig:
    """All that decides what a trial computes, given the images and the precision.

    The stem is a convolution `stem_kernel` wide (padding `stem_kernel // 2`) of stride `stem_stride`,
    BatchNorm, ReLU and, with `stem_maxpool`, a 3×3 maximum pool of stride 2. `width` counts the channels
    of the first stage. Without `residual` the same layers run without the addition (and so without
    shortcuts). `shortcut` says what joins maps of unlike shape: option B of the ResNet paper
    (`projection`) or its option A (`zero-padding`), section 3.3. `init` is `he` (section 3.4) or
    PyTorch's `default`. `normalize` takes the pixel statistics of the training part (`data`) or mean
    and standard deviation 0.5 (`half`). `learning_rate` stays (`constant`) or falls by a half cosine to
    0 over `max_epochs` (`cosine`). `momentum` is SGD's, and beta 1 of Adam and AdamW.
    """

    stem_kernel: int = 7
    stem_stride: int = 2
    stem_maxpool: bool = True
    depth: int = 18
    width: int = 64
    residual: bool = True
    shortcut: str = "projection"
    init: str = "he"
    learning_rate: float = 0.01
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    batch_size: int = 128
    schedule: str = "constant"
    max_epochs: int = 20
    normalize: str = "data"
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_value(field.name, getattr(self, field.name))
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise UsageError("nesterov: received True, allowed only with optimizer sgd and a momentum above 0")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config with these fields, defaults for the rest.

        Raises:
            UsageError: a field is unknown, of the wrong type or out of range.
        """
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise UsageError(f"{unknown[0]}: no such field of a trial, allowed: {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return asdict(self)

    @property
    def arm(self) -> str:
        """A short label of the architecture, such as `k3 s1 no-pool d18`; what is unusual is appended."""
        usual = TrialConfig()
        pool = "pool" if self.stem_maxpool else "no-pool"
        label = f"k{self.stem_kernel} s{self.stem_stride} {pool} d{self.depth}"
        if self.width != usual.width:
            label += f" w{self.width}"
        if not self.residual:
            label += " plain"
        elif self.shortcut != usual.shortcut:
            label += f" {self.shortcut}"
        return label


def check_value(name: str, value: Any) -> None:
    """Raise `UsageError` where `value` is not allowed for the field `name` of a trial."""
    kind: Any = {field.name: field.type for field in fields(TrialConfig)}[name]
    if name in CHOICES:
        good = type(value) is kind and value in CHOICES[name]
        allowed = ", ".join(str(choice) for choice in CHOICES[name])
    else:
        least, greatest, allowed = RANGES[name]
        good = isinstance(value, (int, kind)) and not isinstance(value, bool)
        good = good and least <= value <= greatest and math.isfinite(value)
    if not good:
        raise UsageError(f"{name}: received {value!r}, allowed: {allowed}")


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch of one trial said. Accuracies are fractions, times are seconds.

    `train_*` are means over the epoch's batches as they were trained: augmented images, weights still
    moving, label smoothing included. The other parts are read after the epoch, without augmentation or
    smoothing; a part that a stage does not read is None. `learning_rate` is the one of the epoch's first step.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    train_seconds: float
    eval_seconds: float

    @property
    def diverged(self) -> bool:
        """Whether some loss is not a finite number."""
        losses = (self.train_loss, self.validation_loss, self.test_loss)
        return any(loss is not None and not math.isfinite(loss) for loss in losses)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, with None for what is not a finite number (JSON knows no NaN)."""
        return {name: value if math.isfinite(value or 0) else None for name, value in vars(self).items()}
