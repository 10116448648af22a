"""The named designs: factors with roles and levels, what is fixed, and the baselines.

The words are those of the Deep Learning Tuning Playbook (Godbole et al. 2023): a *scientific* factor's
effect is the question, a *nuisance* must be tuned for the comparison to be fair, all else is fixed.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.config import TrialConfig


@dataclass(frozen=True)
class Factor:
    """A hyperparameter that a design varies: over `levels`, or over a range, linear or logarithmic."""

    name: str
    role: str
    levels: tuple[Any, ...] = ()
    low: float = math.nan
    high: float = math.nan
    scale: str = "linear"

    def to_dict(self) -> dict[str, Any]:
        """What is set, ready for JSON."""
        about: dict[str, Any] = {"name": self.name, "role": self.role}
        if self.levels:
            return about | {"levels": list(self.levels)}
        return about | {"low": self.low, "high": self.high, "scale": self.scale}

    def at(self, unit: float) -> Any:
        """The value at `unit` (0 to below 1) of the factor, for points of a sequence in the unit cube."""
        if self.levels:
            return self.levels[int(unit * len(self.levels))]
        if self.scale == "log":
            return math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))
        return self.low + unit * (self.high - self.low)


@dataclass(frozen=True)
class Design:
    """Factors, fixed values (where they differ from `TrialConfig`'s defaults) and baselines by name."""

    name: str
    factors: tuple[Factor, ...]
    fixed: Mapping[str, Any]
    baselines: Mapping[str, Mapping[str, Any]]

    def config(self, values: Mapping[str, Any], epochs: int, seed: int) -> TrialConfig:
        """The trial that these values of the factors make."""
        return TrialConfig.from_dict({**self.fixed, **values, "max_epochs": epochs, "seed": seed})

    def baseline(self, name: str, epochs: int, seed: int) -> TrialConfig:
        """A baseline as it stands: the design's fixed values are not applied to it."""
        return TrialConfig.from_dict({**self.baselines[name], "max_epochs": epochs, "seed": seed})

    def arms(self) -> list[TrialConfig]:
        """A trial of every combination of the discrete factors' levels."""
        discrete = [factor for factor in self.factors if factor.levels]
        combinations = itertools.product(*(factor.levels for factor in discrete))
        names = [factor.name for factor in discrete]
        return [self.config(dict(zip(names, levels, strict=True)), 1, 0) for levels in combinations]

    def to_dict(self) -> dict[str, Any]:
        """The design, ready for JSON."""
        return {
            "name": self.name,
            "factors": [factor.to_dict() for factor in self.factors],
            "fixed": dict(self.fixed),
            "baselines": {name: dict(values) for name, values in self.baselines.items()},
        }


# The course report's recipe: SGD at a constant 0.01, momentum 0.9, weight decay 5e-4, batch 128,
# PyTorch's initialisation, pixels normalised by 0.5 and 0.5.
_COURSE = {"learning_rate": 0.01, "init": "default", "normalize": "half", "depth": 18}
COURSE_BASELINES: Mapping[str, Mapping[str, Any]] = {
    "imagenet-stem": {**_COURSE, "stem_kernel": 7, "stem_stride": 2, "stem_maxpool": True},
    "small-stem": {**_COURSE, "stem_kernel": 2, "stem_stride": 1, "stem_maxpool": True},
    "small-stem-no-pool": {**_COURSE, "stem_kernel": 2, "stem_stride": 1, "stem_maxpool": False},
}

SEARCH = Design(
    name="search",
    factors=(
        Factor("learning_rate", "nuisance", low=3e-4, high=0.3, scale="log"),
        Factor("stem_kernel", "scientific", levels=(2, 3, 5, 7)),
        Factor("stem_stride", "scientific", levels=(1, 2)),
        Factor("stem_maxpool", "scientific", levels=(True, False)),
        Factor("depth", "scientific", levels=(10, 18, 34)),
    ),
    fixed={"init": "he", "normalize": "data"},
    baselines=COURSE_BASELINES,
)

DESIGNS: Mapping[str, Design] = {SEARCH.name: SEARCH}
