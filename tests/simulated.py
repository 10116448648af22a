"""Studies whose truth is known: instead of training, a score is drawn from a model of seeds and
test images.

Everything else is the product's: the record, the stages, the choice of the arms to confirm, the
rows of the tables. The model is not the analysis's own. Arms spread differently, seeds shift all
arms, factors interact, and where test images are drawn one by one, each has a difficulty, which
arms find differently: a probit model of items (Lord 1952, A theory of test scores), in which the
variance over seeds and over images depends on the accuracy, with its ceiling at 100%.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from analysis.load import Study
from study.confirm import confirm_plan, missing_tune_trials
from study.designs import DESIGNS, RATE, Design, Factor
from study.state import EPOCH_COLUMNS, TRIAL_COLUMNS, VERSION, StudyState
from trainables.config import EpochMetrics, TrialConfig

DESIGN = DESIGNS["search"]
SEEDS = 3
EFFECTS = {
    "stem_kernel": {2: 0.0, 3: 0.01, 5: 0.0, 7: -0.02},
    "stem_stride": {1: 0.02, 2: 0.0},
    "stem_maxpool": {True: -0.015, False: 0.0},
    "depth": {10: 0.0, 18: 0.005, 34: 0.005},
}
SPREAD, SEED_SPREAD, IMAGES_SPREAD = 0.006, 0.004, 0.01
"""Standard deviations of a score: of its own, what all trials of a seed share, and of the few
validation images."""
LEVELS: Mapping[str, tuple[Any, Any]] = {
    "stem_kernel": (3, 5),
    "stem_stride": (1, 2),
    "stem_maxpool": (True, False),
    "depth": (10, 18),
}
TWO_LEVELS = replace(
    DESIGN,
    factors=(RATE, *(Factor(name, "scientific", levels=levels) for name, levels in LEVELS.items())),
    baselines={
        "first-levels": {name: first for name, (first, _) in LEVELS.items()} | {"init": "default"}
    },
)
"""The design with two levels for each factor, baseline included, so that every effect has the size
that it is given."""
UNTUNED = replace(TWO_LEVELS, factors=TWO_LEVELS.scientific)
"""The same without a learning rate, whose tuning would add to the effects."""
MOST_SEEDS = 20
GROUPS = ((0.8, -3.0, 1.0), (0.2, 1.0, 1.5))
"""Of the images' difficulty, a mixture of easy and hard ones: share, mean and standard deviation of
each group."""


@dataclass(frozen=True)
class Images:
    """Test images, drawn anew for every study; a trial is right where its arm's skill exceeds an
    image's difficulty.

    Attributes:
        number: how many.
        own: standard deviation of what an arm finds of an image and others do not.
        chance: of what a trial finds of an image, by chance.
    """

    number: int = 360
    own: float = 0.3
    chance: float = 0.4


@dataclass(frozen=True)
class World:
    """What is true, and how it shows.

    Attributes:
        effects: by factor, what each level adds to the expected accuracy.
        design: of the study.
        accuracy: expected where no level adds anything.
        curvature: what a learning rate costs that is ten times the best one.
        interactions: what is added where two factors of two levels are both at their first or both
            at their second level, and taken off where they are not.
        spread: standard deviations of an arm's trials, dealt out to the arms at random; of
            accuracies, or with images of skills.
        shared: standard deviation of what all trials of a seed share, likewise.
        images: the test images, one by one; without them nothing is known but accuracies.
    """

    effects: Mapping[str, Mapping[Any, float]]
    design: Design = DESIGN
    accuracy: float = 0.8
    curvature: float = 0.02
    interactions: Mapping[tuple[str, str], float] = field(default_factory=dict)
    spread: Sequence[float] = (SPREAD,)
    shared: float = SEED_SPREAD
    images: Images | None = None

    def expected(self, config: Mapping[str, Any]) -> float:
        """The accuracy that a config has on average, over all seeds and images."""
        value = self.accuracy - self.curvature * np.log10(config["learning_rate"] / 0.03) ** 2
        value += sum(levels.get(config[name], 0.0) for name, levels in self.effects.items())
        for (one, other), size in self.interactions.items():
            alike = (config[one] == LEVELS[one][0]) == (config[other] == LEVELS[other][0])
            value += size if alike else -size
        return float(value)


def truth(config: Mapping[str, Any], effects: Mapping[str, Mapping[Any, float]]) -> float:
    """The score that a config has on average: the levels' effects add up, the best learning rate is
    0.03."""
    return World(effects).expected(config)


def simulate(effects: Mapping[str, Mapping[Any, float]], random: np.random.Generator) -> StudyState:
    """A study of 20 search trials, of which the first are the baselines, its tune and its confirm
    stage."""
    simulation = Simulation(World(effects), random)
    simulation.confirm(SEEDS)
    return simulation.state


class Simulation:
    """A study of a world, as its driver would record it: searched and tuned at once, confirmed as
    far as asked for."""

    def __init__(self, world: World, random: np.random.Generator) -> None:
        self.world, self.state = world, StudyState()
        self._random = random
        self._begin()
        self._search()
        self.plan = confirm_plan(world.design, self.state)
        self.state.apply({"event": "confirm_planned", "time": "t", **self.plan.to_dict()})
        self.arms = [arm.config for arm in self.plan.arms]
        self._deal()

    def confirmed_anew(self, random: np.random.Generator) -> "Simulation":
        """Another study that begins as this one did and was not confirmed yet: other seeds, other
        images."""
        other = copy(self)
        mutable = {
            name: copy(getattr(self.state, name)) for name in ("header", "trials", "reported")
        }
        other.state = replace(self.state, **mutable)
        other._random = random
        other._deal()
        return other

    def confirm(self, seeds: int) -> Study:
        """Train the arms with so many seeds, or with those that are missing; the tables of the
        study so far."""
        trained = len(self.state.in_stage("confirm"))
        for config in self.plan.trials(0, seeds)[trained:]:
            place = self.arms.index(replace(config, seed=0))
            deviation = self._shared[config.seed] + self._random.normal(0, self.spread[place])
            if self.world.images is None:
                self._run("confirm", config, self.expected[place] + deviation)
            else:
                chance = self._random.normal(0, self.world.images.chance, self.world.images.number)
                correct = self._difficulties[place] + chance < self._skills[place] + deviation
                self._run("confirm", config, float(correct.mean()), correct)
        self.state.apply({"event": "driver_ended", "time": "t", "seconds": 1.0})
        return tables(self.state)

    def _deal(self) -> None:
        """Draw what the confirmed arms, seeds and images are like."""
        images, random = self.world.images, self._random
        # Dealt to the arms that are compared; a baseline has the last one.
        compared = sum(arm.role != "baseline" for arm in self.plan.arms)
        self.spread = np.full(len(self.arms), self.world.spread[-1])
        self.spread[:compared] = random.permutation(np.resize(self.world.spread, compared))
        self.expected = np.array([self.world.expected(arm.to_dict()) for arm in self.arms])
        self.expected_on_images = self.expected
        self._shared = random.normal(0, self.world.shared, MOST_SEEDS + 1)
        if images is not None:
            shares, means, spreads = np.array(GROUPS).T
            group = random.choice(len(shares), images.number, p=shares)
            own = random.normal(0, images.own, (len(self.arms), images.number))
            self._difficulties = random.normal(means[group], spreads[group]) + own
            variances = self.world.shared**2 + self.spread**2 + images.chance**2
            self._skills = _skills(self.expected, variances + images.own**2)
            beyond = (self._skills[:, None] - self._difficulties) / np.sqrt(variances)[:, None]
            self.expected_on_images = ndtr(beyond).mean(axis=1)

    def effects(self, on_these_images: bool = False) -> dict[str, float]:
        """Each factor's true effect between the arms that are confirmed, for all seeds: on all
        images, or on those of this study."""
        expected = self.expected_on_images if on_these_images else self.expected
        crossed = [
            place for place, arm in enumerate(self.plan.arms) if arm.role in ("winner", "fraction")
        ]
        effects = {}
        for change in self.plan.changes:
            levels = np.array([self.arms[place].to_dict()[change.factor] for place in crossed])
            values = expected[crossed]
            effects[change.factor] = float(
                values[levels == change.to].mean() - values[levels == change.start].mean()
            )
        return effects

    def _begin(self) -> None:
        settings = {
            **{
                "epochs": 1,
                "seed": 0,
                "precision": "float32",
                "cpus_per_trial": 1,
                "gpus_per_trial": 0,
            },
            **{"confirm_seeds": SEEDS},
        }
        images = self.world.images.number if self.world.images else 1000
        counts = {"train": 900, "validation": 100, "test": images}
        dataset = {"name": "simulated", "counts": counts, "classes": ["a", "b"]}
        design = {"name": "search", **self.world.design.to_dict()}
        header = {"name": "s", "design": design, "dataset": dataset, "settings": settings}
        self.state.apply({"event": "study", "version": VERSION, "time": "t", **header})

    def _search(self) -> None:
        """The search and tune stages: 20 trials, of which the first are baselines, then each arm's
        learning rates."""
        design = self.world.design
        for name in design.baselines:
            self._try("search", design.baseline(name, 1, 0), f"baseline:{name}")
        for _ in range(20 - len(design.baselines)):
            drawn = {each.name: each.at(self._random.random()) for each in design.factors}
            self._try("search", design.config(drawn, 1, 0), "search")
        for config in missing_tune_trials(design, self.state):
            self._try("tune", config, "tune")

    def _try(self, stage: str, config: TrialConfig, origin: str) -> None:
        noise = self._random.normal(0, np.hypot(SPREAD, IMAGES_SPREAD))
        self._run(stage, config, self.world.expected(config.to_dict()) + noise, origin=origin)

    def _run(
        self,
        stage: str,
        config: TrialConfig,
        score: float,
        correct: np.ndarray | None = None,
        origin: str = "confirm",
    ) -> None:
        """Record a trial that is complete after its only epoch."""
        number, part = len(self.state.trials), "test" if stage == "confirm" else "validation"
        header = {
            "stage": stage,
            "origin": origin,
            "arm": config.arm,
            "config": config.to_dict(),
            "parameters": 1,
        }
        readings = dict.fromkeys((item.name for item in fields(EpochMetrics)), None)
        readings |= {"epoch": 1, "train_seconds": 1.0, "eval_seconds": 0.1, "train_loss": 0.5}
        readings |= {f"{part}_accuracy": score, f"{part}_loss": 1 - score}
        bits = (
            {}
            if correct is None
            else {"correct": base64.b64encode(np.packbits(correct).tobytes()).decode()}
        )
        self.state.apply(
            {"event": "trial_started", "time": "t", "trial": number, "forward_flops": 1, **header}
        )
        self.state.apply(
            {"event": "epoch", "time": "t", "trial": number, "node": "n", **readings, **bits}
        )
        self.state.apply(
            {"event": "trial_ended", "time": "t", "trial": number, "state": "complete", "error": ""}
        )


def _skills(accuracies: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """The skills with these expected accuracies, over all seeds and images: within each group of
    images everything is normal, so that an accuracy is a mean of normal probabilities."""
    grid = np.linspace(-6, 12, 2000)
    skills = []
    for accuracy, variance in zip(accuracies, variances, strict=True):
        values = sum(
            share * ndtr((grid - mean) / np.hypot(spread, variance**0.5))
            for share, mean, spread in GROUPS
        )
        skills.append(np.interp(accuracy, values, grid))
    return np.array(skills)


def tables(state: StudyState) -> Study:
    """What `load_study` would read from the study's directory."""
    trials = _table(TRIAL_COLUMNS, state.trial_rows())
    epochs = _table(EPOCH_COLUMNS, state.epoch_rows())
    correct = {
        row["trial"]: np.frombuffer(row["correct"].encode(), np.uint8) == ord("1")
        for row in state.image_rows()
    }
    bits = (
        pd.DataFrame(np.array(list(correct.values())), pd.Index(correct))
        if correct
        else pd.DataFrame()
    )
    return Study(Path("s"), state.manifest(), trials, epochs, bits)


def _table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    kept = list(rows)
    values: dict[str, Any] = {name: [row[name] for row in kept] for name in columns}
    for name in columns:
        if name.endswith(("_loss", "_accuracy")):
            values[name] = np.array(values[name], dtype=float)  # None becomes NaN
    return pd.DataFrame(values)
