"""What goes into a trial and what comes out of an epoch.

Two frozen dataclasses and the one error for bad input; standard library only, so that the
analysis can read a study where neither torch nor ray is installed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

DEPTHS: Mapping[int, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
}
"""Blocks in each of the four stages, by depth (He et al. 2015, table 1; 10 is its halved 18)."""


class UsageError(ValueError):
    """Unusable input: one line that names the parameter, its value and what is allowed."""


def invalid(name: str, value: Any, expected: str, problem: str = "") -> UsageError:
    """The error for a value that a parameter cannot have; where it does not say enough, with the
    problem before what is expected."""
    cause = f"{problem}: " if problem else ""
    return UsageError(f"{name}: invalid value {value!r}: {cause}expected {expected}")


def _choice(*choices: Any, default: Any) -> Any:
    """A field that is one of a few."""
    expected = ", ".join(str(choice) for choice in choices)
    return field(default=default, metadata={"expected": expected, "check": choices.__contains__})


def _number(default: float, expected: str, check: Callable[[float], bool]) -> Any:
    """A field in a range: in words, and by a check."""
    return field(default=default, metadata={"expected": expected, "check": check})


IN_LABEL = (
    "stem_kernel",
    "stem_stride",
    "stem_maxpool",
    "depth",
    "width",
    "residual",
    "shortcut",
    "optimizer",
)
"""The fields that an arm's label may name, see `TrialConfig.arm`."""


@dataclass(frozen=True)
class TrialConfig:
    """All that decides what a trial computes, given the images and the precision.

    The stem is a convolution `stem_kernel` wide (padding `stem_kernel // 2`) of stride
    `stem_stride`, BatchNorm, ReLU and, with `stem_maxpool`, a 3×3 maximum pool of stride 2. `width`
    counts the channels of the first stage. Without `residual` the same layers run without the
    addition (and so without shortcuts). `shortcut` joins maps of different shape: option B of the
    ResNet paper (`projection`) or its option A (`zero-padding`), section 3.3. `init` is `he`
    (section 3.4) or PyTorch's `default`. `bn_statistics` says what BatchNorm normalises by in
    evaluation: statistics computed anew after every epoch (`precise`) or PyTorch's moving average
    over the last batches (`running`). `normalize` takes the pixel statistics of the training part
    (`data`) or mean and standard deviation 0.5 (`half`). `learning_rate` stays (`constant`) or
    falls by a half cosine to 0 over `max_epochs` (`cosine`). `momentum` is SGD's, and beta 1 of
    Adam and AdamW.
    """

    stem_kernel: int = _choice(2, 3, 5, 7, default=7)
    stem_stride: int = _choice(1, 2, default=2)
    stem_maxpool: bool = _choice(True, False, default=True)
    depth: int = _choice(*DEPTHS, default=18)
    width: int = _number(64, "an integer from 1 to 1024", lambda x: 1 <= x <= 1024)
    residual: bool = _choice(True, False, default=True)
    shortcut: str = _choice("projection", "zero-padding", default="projection")
    init: str = _choice("he", "default", default="he")
    bn_statistics: str = _choice("precise", "running", default="precise")
    learning_rate: float = _number(0.01, "a finite number above 0", lambda x: 0 < x < math.inf)
    optimizer: str = _choice("sgd", "adam", "adamw", default="sgd")
    momentum: float = _number(0.9, "a number from 0 to below 1", lambda x: 0 <= x < 1)
    nesterov: bool = _choice(True, False, default=False)
    weight_decay: float = _number(5e-4, "a finite number from 0", lambda x: 0 <= x < math.inf)
    label_smoothing: float = _number(0.0, "a number from 0 to below 1", lambda x: 0 <= x < 1)
    batch_size: int = _number(128, "an integer from 2 to 1048576", lambda x: 2 <= x <= 1 << 20)
    schedule: str = _choice("constant", "cosine", default="constant")
    max_epochs: int = _number(20, "an integer from 1 to 1048576", lambda x: 1 <= x <= 1 << 20)
    normalize: str = _choice("data", "half", default="data")
    seed: int = _number(0, "an integer from 0 to 4294967295", lambda x: 0 <= x < 1 << 32)

    def __post_init__(self) -> None:
        for each in fields(self):
            value, kind = getattr(self, each.name), each.type
            assert isinstance(kind, type)
            right_type = isinstance(value, (int, kind)) and isinstance(value, bool) == (
                kind is bool
            )
            if not (right_type and each.metadata["check"](value)):
                raise invalid(each.name, value, each.metadata["expected"])
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            expected = "only with optimizer sgd and a momentum above 0"
            raise invalid("nesterov", True, expected)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config with these fields, and defaults for all others.

        Raises:
            UsageError: a field is unknown, of the wrong type or out of range.
        """
        known = [each.name for each in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise UsageError(f"{unknown[0]}: no such field of a trial: expected {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return dict(vars(self))

    @property
    def arm(self) -> str:
        """A short label, such as `k3 s1 no-pool d18`; what else of network and optimizer is unusual
        follows."""
        usual = USUAL
        pool = "pool" if self.stem_maxpool else "no-pool"
        label = f"k{self.stem_kernel} s{self.stem_stride} {pool} d{self.depth}"
        if self.width != usual.width:
            label += f" w{self.width}"
        if not self.residual:
            label += " plain"
        elif self.shortcut != usual.shortcut:
            label += f" {self.shortcut}"
        if self.optimizer != usual.optimizer:
            label += f" {self.optimizer}"
        return label


USUAL = TrialConfig()


@dataclass(frozen=True)
class EpochMetrics:
    """The readings of one epoch of one trial. Accuracies are fractions, times are seconds.

    `train_*` are means over the epoch's batches as they were trained: augmented images, weights
    still moving, label smoothing included. The other parts are read after the epoch, without
    augmentation or smoothing; a part that a stage does not read is None. The balanced accuracy is
    the mean over the classes of the share of a class's images that are recognised. `learning_rate`
    is the one of the epoch's first step.
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
    validation_balanced_accuracy: float | None
    test_balanced_accuracy: float | None

    @property
    def diverged(self) -> bool:
        """Whether some loss is not a finite number."""
        losses = (self.train_loss, self.validation_loss, self.test_loss)
        return any(loss is not None and not math.isfinite(loss) for loss in losses)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, with None for what is not a finite number (JSON knows no NaN)."""
        return {
            name: value if math.isfinite(value or 0) else None for name, value in vars(self).items()
        }
