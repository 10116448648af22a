"""The confirm stage as arrays: which arms it has, and what each of their trials read.

Arms are paired by seed: the same seed gives the same initialisation, order and augmentation
(Bouthillier et al. 2021, Accounting for variance in machine learning benchmarks).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from analysis.load import EARLIER, Study
from analysis.statistics import curves
from analysis.statistics.search import scientific
from trainables.config import TrialConfig
from trainables.vocabulary import ArmRole, Outcome, SearchMode, Stage, TrialStatus

FIELDS = [field.name for field in fields(TrialConfig) if field.name != "seed"]
DEFAULTS: Mapping[str, Any] = {name: getattr(TrialConfig(), name) for name in FIELDS}
READINGS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
BALANCED = "test_balanced_accuracy"
FAMILY = (ArmRole.WINNER, ArmRole.FRACTION, ArmRole.ARM)
"""The roles of the arms whose levels are crossed."""


@dataclass(frozen=True)
class Arm:
    """An arm of the confirm stage.

    Attributes:
        role: in the stage.
        values: of `FIELDS`.
        factor: the one that is changed, in an arm with this role.
        baseline: name of the baseline that it is, if it is one.
        rate_at_end: low or high where its best learning rate was at that end of those tried.
        distinct: fields by which it differs from other crossed arms with its label.
    """

    role: ArmRole
    values: tuple[Any, ...]
    factor: str = ""
    baseline: str = ""
    rate_at_end: str = ""
    distinct: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.values[FIELDS.index(name)]

    @property
    def label(self) -> str:
        """That of its trials."""
        return _label(self.values)


@lru_cache(maxsize=1024)
def _label(values: tuple[Any, ...]) -> str:
    return TrialConfig.from_dict(dict(zip(FIELDS, values, strict=True))).arm


@dataclass(frozen=True, eq=False)
class ConfirmStage:
    """The confirm stage of a study.

    Attributes:
        arms: the winner first, baselines last.
        factors: of the arms of `FAMILY`, the levels that are compared, by factor.
        seeds: of the trials.
        states: arms × seeds, the state of the trial, empty where there is none.
        readings: arms × seeds × epochs by name, NaN where not read.
        correct: arms × seeds × test images, as 0 and 1; no images where nothing is known of them.
        known: arms × seeds, whether `correct` is known.
        outcome: the reading that decides.
        margin: as a fraction, what is too little to matter.
    """

    arms: tuple[Arm, ...]
    factors: Mapping[str, Sequence[Any]]
    seeds: tuple[int, ...]
    states: np.ndarray
    readings: Mapping[str, np.ndarray]
    correct: np.ndarray
    known: np.ndarray
    outcome: Outcome
    margin: float

    def numbers(self, *roles: ArmRole) -> list[int]:
        """The places of the arms with these roles."""
        return [number for number, arm in enumerate(self.arms) if arm.role in roles]

    @property
    def compared(self) -> list[int]:
        """The places of the arms of the effects: crossed or with one factor changed, or else the
        baselines."""
        return self.numbers(*FAMILY, ArmRole.ALONE) or self.numbers(ArmRole.BASELINE)

    @property
    def images(self) -> int:
        """How many test images are known one by one."""
        return int(self.correct.shape[2])

    def has_level(self, arms: Sequence[int], factor: str, level: Any) -> np.ndarray:
        """1 for each of the arms with this level of a factor, else 0."""
        return np.array([float(self.arms[number][factor] == level) for number in arms])

    def bits(self, reading: str, arms: Sequence[int], seeds: Sequence[int]) -> np.ndarray | None:
        """What these trials are right about, where the reading is their share and it is known of
        all of them."""
        cells = np.ix_(arms, seeds)
        known = (
            reading == Outcome.TEST_ACCURACY and self.images > 1 and bool(self.known[cells].all())
        )
        return self.correct[cells] if known else None

    def values(self, reading: str) -> np.ndarray:
        """Arms × seeds: the reading at each trial's last epoch, of complete trials only."""
        table = self.readings[reading]
        there = np.isfinite(self.readings["train_loss"]) | np.isfinite(table)
        last = table.shape[2] - 1 - there[:, :, ::-1].argmax(2)
        values = np.take_along_axis(table, last[:, :, None], 2)[:, :, 0]
        return np.where(self.states == TrialStatus.COMPLETE, values, np.nan)

    def paired(self, arms: Sequence[int]) -> tuple[list[int], list[int]]:
        """Those of the arms that are not lost and the places of the seeds that all of them have
        completed.

        An arm is lost where no trial is complete, or where trials have ended otherwise and fewer
        than half as many are complete as of another arm: it would take seeds from the others.
        """
        complete: np.ndarray = np.isfinite(self.values(self.outcome))
        counts = {arm: int(complete[arm].sum()) for arm in arms}
        most = max(counts.values(), default=0)
        ended = np.any(np.isin(self.states, (TrialStatus.DIVERGED, TrialStatus.FAILED)), axis=1)
        kept = [arm for arm in arms if counts[arm] and not (ended[arm] and 2 * counts[arm] < most)]
        seeds = np.flatnonzero(complete[kept].all(0)).tolist() if kept else []
        return (kept, seeds) if seeds else ([], [])


@lru_cache(maxsize=4)
def confirm_stage(study: Study) -> ConfirmStage | None:
    """The confirm stage of a study; None before it has a trial."""
    design, plan = study.manifest["design"], study.manifest.get("confirm")
    confirmed = (study.trials["stage"] == Stage.CONFIRM).to_numpy()
    # Column by column: a part of a table takes pandas longer than all the rest here.
    columns = [
        study.trials[name].to_numpy()[confirmed].tolist()
        for name in (*FIELDS, "seed", "trial", "state")
    ]
    rows = sorted(
        zip(*columns, strict=True), key=lambda row: (row[-1] == TrialStatus.COMPLETE, row[-2])
    )
    configs = dict.fromkeys(row[:-3] for row in sorted(rows, key=lambda row: row[-2]))
    arms = list(_planned(plan) if plan else _derived(study, design, configs))
    arms.sort(key=lambda arm: list(ArmRole).index(arm.role))
    arms = [replace(arm, distinct=_distinct(arm, arms)) for arm in arms]
    places = {arm.values: number for number, arm in enumerate(arms)}
    kept = [row for row in rows if row[:-3] in places]
    if not kept:
        return None
    seeds = sorted({row[-3] for row in kept})
    states = np.full((len(arms), len(seeds)), "", dtype="<U8")
    trial = np.full(states.shape, -1)
    # Of a seed that was trained twice the last complete trial stays.
    for *config, seed, number, state in kept:
        cell = places[tuple(config)], seeds.index(seed)
        states[cell] = state
        trial[cell] = number
    correct, known = _correct(study.correct, trial)
    return ConfirmStage(
        arms=tuple(arms),
        factors=_crossed(design, plan, arms),
        seeds=tuple(seeds),
        states=states,
        readings=_readings(study.epochs, trial),
        correct=correct,
        known=known,
        outcome=Outcome(design.get("outcome", Outcome.TEST_ACCURACY)),
        margin=design.get("margin", 0.01),
    )


def _distinct(arm: Arm, arms: Sequence[Arm]) -> tuple[str, ...]:
    """The fields by which an arm differs from the crossed ones with its label."""
    same = [other for other in arms if other.role in FAMILY and other.label == arm.label]
    return tuple(name for name in FIELDS if any(other[name] != arm[name] for other in same))


def _readings(epochs: pd.DataFrame, trial: np.ndarray) -> dict[str, np.ndarray]:
    """The readings by arm, seed and epoch, where `trial` has the numbers of the trials."""
    rows = epochs[epochs["trial"].isin(trial.ravel())]
    order = np.argsort(trial, axis=None)
    places = order[np.searchsorted(trial.ravel()[order], rows["trial"].to_numpy())]
    shape = (trial.size, int(rows["epoch"].max()) if len(rows) else 1)
    tables = {}
    for name in (*READINGS, BALANCED):
        table = np.full(shape, np.nan)
        table[places, rows["epoch"].to_numpy() - 1] = rows[name].to_numpy()
        tables[name] = table.reshape(*trial.shape, -1)
    return tables


def _correct(correct: pd.DataFrame, trial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each trial is right about, and of which trials that is known."""
    if correct.empty:
        return np.zeros((*trial.shape, 0)), np.zeros(trial.shape, bool)
    places = correct.index.get_indexer(pd.Index(trial.ravel()))
    known = places >= 0
    bits = np.zeros((trial.size, correct.shape[1]), dtype=np.float32)
    bits[known] = correct.to_numpy()[places[known]]
    return bits.reshape(*trial.shape, -1), known.reshape(trial.shape)


def _crossed(
    design: Mapping[str, Any], plan: Mapping[str, Any] | None, arms: Sequence[Arm]
) -> dict[str, list[Any]]:
    """The levels of the factors that the arms of `FAMILY` cross."""
    if design.get("search") == SearchMode.FACTORIAL:
        return {factor["name"]: factor["levels"] for factor in scientific(design["factors"])}
    alone = {arm.factor for arm in arms}
    pairs = plan["factors"] if plan else []
    return {
        pair["factor"]: [pair["from"], pair["to"]] for pair in pairs if pair["factor"] not in alone
    }


def _planned(plan: Mapping[str, Any]) -> Iterator[Arm]:
    """The arms that study.json names."""
    for arm in plan["arms"]:
        config = {**DEFAULTS, **arm["config"]}
        texts: dict[str, Any] = {
            name: str(arm.get(name) or "") for name in ("factor", "baseline", "rate_at_end")
        }
        values = tuple(config[name] for name in FIELDS)
        yield Arm(ArmRole(arm["role"]), values, **texts)


def _derived(
    study: Study, design: Mapping[str, Any], configs: Iterable[tuple[Any, ...]]
) -> Iterator[Arm]:
    """The arms of version 1: the winner with one factor changed, every arm of a factorial design at
    the nuisances that it was confirmed with last, and baselines. What belongs to none of them, an
    earlier winner left."""
    names = _baselines(design, configs)
    if design.get("search") == SearchMode.FACTORIAL:
        levels = [FIELDS.index(factor["name"]) for factor in scientific(design["factors"])]
        last = {tuple(config[place] for place in levels): config for config in names}
        yield from (Arm(ArmRole.ARM, config, baseline=names[config]) for config in last.values())
        return
    table = study.trials[
        study.trials["trial"] == curves.winner(curves.results(study.trials, study.epochs))
    ]
    winner = next(zip(*(table[name].tolist() for name in FIELDS), strict=True), None)
    for config, baseline in names.items():
        factor = _changed(design, winner, config) if winner else None
        if config == winner:
            yield Arm(ArmRole.WINNER, config, baseline=baseline)
        elif factor:
            yield Arm(ArmRole.ALONE, config, factor, baseline)
        elif baseline:
            yield Arm(ArmRole.BASELINE, config, baseline=baseline)


def _baselines(
    design: Mapping[str, Any], configs: Iterable[tuple[Any, ...]]
) -> dict[tuple[Any, ...], str]:
    """For each config the name of the baseline that it is, else nothing."""
    names = {}
    for config in configs:
        budget = {"max_epochs": config[FIELDS.index("max_epochs")]}
        same = [
            name
            for name, values in design["baselines"].items()
            if config == tuple({**EARLIER, **budget, **values}[field] for field in FIELDS)
        ]
        names[config] = same[0] if same else ""
    return names


def _changed(
    design: Mapping[str, Any], winner: tuple[Any, ...], config: tuple[Any, ...]
) -> str | None:
    """The one scientific factor in which a config differs from the winner's, if that is all it
    differs in."""
    pairs = zip(FIELDS, winner, config, strict=True)
    different = {name for name, mine, other in pairs if mine != other}
    # A factor that is there at a level of a changed one only follows it.
    followers = {
        factor["name"] for factor in design["factors"] if different & set(factor.get("when", ()))
    }
    changed = {factor["name"] for factor in scientific(design["factors"])} & different - followers
    return changed.pop() if len(changed) == 1 and different <= changed | followers else None
