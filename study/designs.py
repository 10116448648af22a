"""The designs: factors with roles and levels, what is fixed, the baselines.

The words are those of the Deep Learning Tuning Playbook (Godbole et al. 2023): a *scientific*
factor's effect is the question, a *nuisance* must be tuned for the comparison to be fair, all else
is fixed. `search` is how arms are found: `sampled`, a sampler draws all factors;
`factorial`, every arm (combination of the scientific levels) gets the same number of trials and the
sampler draws its nuisances; `none`, the baselines alone, and they are confirmed at once.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from trainables.config import IN_LABEL, TrialConfig
from trainables.vocabulary import Outcome, SearchMode

KINDS = {item.name: item.type for item in fields(TrialConfig)}


@dataclass(frozen=True)
class Factor:
    """A hyperparameter that a design varies: over `levels`, or over a range, linear or logarithmic.

    With `when` (factor → level) it exists only where those factors have those levels.
    """

    name: str
    role: str
    levels: tuple[Any, ...] = ()
    low: float = math.nan
    high: float = math.nan
    scale: str = "linear"
    when: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What is set, ready for JSON and TOML."""
        table: dict[str, Any] = {"name": self.name, "role": self.role}
        if self.when:
            table["when"] = dict(self.when)
        if self.levels:
            return table | {"levels": list(self.levels)}
        return table | {"low": self.low, "high": self.high, "scale": self.scale}

    def holds(self, value: Any) -> bool:
        """Whether a trial that is drawn may have this value."""
        return value in self.levels if self.levels else self.low <= value <= self.high

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Whether a trial with these values of other factors has this one."""
        return all(values.get(name) == level for name, level in self.when.items())

    def at(self, unit: float) -> Any:
        """The value at `unit` (0 to below 1) of the factor, for points of a sequence in the unit
        cube."""
        if self.levels:
            return self.levels[int(unit * len(self.levels))]
        if self.scale == "log":
            value = math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + unit * (self.high - self.low)
        return round(value) if KINDS[self.name] is int else value


@dataclass(frozen=True)
class Design:
    """Factors, fixed values (where they differ from `TrialConfig`'s defaults) and baselines by
    name.

    `outcome` is what the confirmed arms are compared by, `samples` the default number of search
    trials, `margin` the difference of accuracies (a fraction) below which two levels count as
    equivalent. A baseline may have a `max_epochs` of its own.
    """

    name: str
    factors: tuple[Factor, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    search: SearchMode = SearchMode.SAMPLED
    outcome: Outcome = Outcome.TEST_ACCURACY
    samples: int = 20
    margin: float = 0.01

    @property
    def scientific(self) -> list[Factor]:
        """The factors whose effect is the question."""
        return [factor for factor in self.factors if factor.role == "scientific"]

    def existing(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """These values without those of factors that do not exist with the others."""
        kept = dict(values)
        # In order: what a factor depends on stands before it, and may itself not exist.
        for factor in self.factors:
            if not factor.exists(kept):
                kept.pop(factor.name, None)
        return kept

    def config(self, values: Mapping[str, Any], epochs: int, seed: int) -> TrialConfig:
        """The trial that these values make; those of factors that do not exist with them count for
        nothing."""
        return TrialConfig.from_dict(
            {**self.fixed, **self.existing(values), "max_epochs": epochs, "seed": seed}
        )

    def baseline(self, name: str, epochs: int, seed: int) -> TrialConfig:
        """A baseline as it stands: the design's fixed values are not applied to it."""
        return TrialConfig.from_dict({"max_epochs": epochs, **self.baselines[name], "seed": seed})

    def arms(self) -> list[dict[str, Any]]:
        """Every combination of the scientific levels, of factors that exist with each other."""
        names = [factor.name for factor in self.scientific]
        combinations = itertools.product(*(factor.levels for factor in self.scientific))
        arms = [dict(zip(names, levels, strict=True)) for levels in combinations]
        real = [self.existing(arm) for arm in arms]
        return [arm for number, arm in enumerate(real) if arm not in real[:number]]

    def networks(self, epochs: int) -> list[TrialConfig]:
        """A trial of every arm and of every baseline: what the study may train."""
        baselines = [self.baseline(name, epochs, 0) for name in self.baselines]
        arms = self.arms() if self.factors else []
        return baselines + [self.config(arm, epochs, 0) for arm in arms]

    def one_budget(self) -> "Design":
        """The design whose baselines have no budget of epochs of their own."""
        free = {
            name: {key: value for key, value in values.items() if key != "max_epochs"}
            for name, values in self.baselines.items()
        }
        return replace(self, baselines=free)

    def with_running_statistics(self) -> "Design":
        """The design as studies of version 1 had it: trials are read by BatchNorm's running
        statistics."""
        before = {"bn_statistics": "running"}
        baselines = {name: {**before, **values} for name, values in self.baselines.items()}
        return replace(self, fixed={**before, **self.fixed}, baselines=baselines)

    def to_dict(self) -> dict[str, Any]:
        """The design, ready for JSON and TOML; `study.design_files` reads it."""
        return {
            "search": self.search,
            "outcome": self.outcome,
            "samples": self.samples,
            "margin": self.margin,
            "fixed": dict(self.fixed),
            "factors": [factor.to_dict() for factor in self.factors],
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
COURSE_EPOCHS = {"imagenet-stem": 50, "small-stem": 50, "small-stem-no-pool": 20}

RATE = Factor("learning_rate", "nuisance", low=3e-4, high=0.3, scale="log")
KERNEL = Factor("stem_kernel", "scientific", levels=(2, 3, 5, 7))
STRIDE = Factor("stem_stride", "scientific", levels=(1, 2))
MAXPOOL = Factor("stem_maxpool", "scientific", levels=(True, False))
FIXED = {"init": "he", "normalize": "data"}

SEARCH = Design(
    "search",
    (RATE, KERNEL, STRIDE, MAXPOOL, Factor("depth", "scientific", levels=(10, 18, 34))),
    FIXED,
    COURSE_BASELINES,
)
COURSE = Design(
    "course",
    # As the course report read them: what its curves show is not what precise statistics show.
    baselines={
        name: {**COURSE_BASELINES[name], "bn_statistics": "running", "max_epochs": epochs}
        for name, epochs in COURSE_EPOCHS.items()
    },
    search=SearchMode.NONE,
    samples=0,
)
# Is it the kernel or the stride? The course report changed both.
STEM = Design(
    "stem",
    (RATE, KERNEL, STRIDE, MAXPOOL),
    {**FIXED, "depth": 18},
    search=SearchMode.FACTORIAL,
    samples=64,
)
# Does a deeper plain network train worse, and a deeper residual one not (He et al. 2015, figures 1
# and 4)?
DEGRADATION = Design(
    "degradation",
    (
        RATE,
        Factor("residual", "scientific", (True, False)),
        Factor("depth", "scientific", (18, 34)),
    ),
    FIXED,
    search=SearchMode.FACTORIAL,
    outcome=Outcome.TRAIN_ACCURACY,
    samples=24,
)
# The course report's remark on Adam, and options A and B of the paper (section 3.3).
RECIPE = Design(
    "recipe",
    (
        replace(RATE, low=1e-4),
        Factor("optimizer", "scientific", ("sgd", "adam")),
        Factor("shortcut", "scientific", ("projection", "zero-padding")),
    ),
    FIXED,
    search=SearchMode.FACTORIAL,
    samples=24,
)

DESIGNS: Mapping[str, Design] = {
    design.name: design for design in (SEARCH, COURSE, STEM, DEGRADATION, RECIPE)
}


def arm_label(config: TrialConfig, design: Mapping[str, Any]) -> str:
    """A trial's arm: `TrialConfig.arm`, with the levels of those scientific factors of a recorded
    design that it leaves out."""
    names = [factor["name"] for factor in design["factors"] if factor["role"] == "scientific"]
    more = [
        f"{name.replace('_', ' ')} {getattr(config, name)}"
        for name in names
        if name not in IN_LABEL
    ]
    return ", ".join([config.arm, *more])
