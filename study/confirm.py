"""The confirm stage: which arms are trained again, with several seeds, to the last epoch.

The best of a search is the maximum of many noisy scores of one seed, read on the images that it was chosen
by: it is too good to be true, and it does not tell which part mattered (Bouthillier et al. 2021, Accounting
for variance in machine learning benchmarks). So chosen arms are trained again on training and validation
images together, and read on test images that nothing was chosen by.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from study.designs import Design, Factor
from study.record import StudyState, TrialState
from trainables.config import TrialConfig


def confirm_trials(design: Design, state: StudyState, seeds: int) -> list[TrialConfig]:
    """The trials that the confirm stage shall have, once the search stage has ended: every arm with the first
    seed, then every arm with the next, so that the arms are paired by seed, and a stage cut short is even.

    The seeds follow the study's own, which the search stage used.
    """
    settings = state.header["settings"]
    arms = list(dict.fromkeys(replace(arm, seed=0) for arm in _arms(design, state, settings["epochs"])))
    return [replace(arm, seed=settings["seed"] + 1 + number) for number in range(seeds) for arm in arms]


def missing_trials(design: Design, state: StudyState, seeds: int) -> list[TrialConfig]:
    """Those of `confirm_trials` that the record does not have."""
    known = [trial.config for trial in state.in_stage("confirm")]
    return [config for config in confirm_trials(design, state, seeds) if config.to_dict() not in known]


def most_arms(design: Design) -> int:
    """How many arms are confirmed, at most."""
    if design.search == "sampled":
        return 1 + len(design.scientific) + min(1, len(design.baselines))
    return len(design.arms()) if design.search == "factorial" else len(design.baselines)


def _arms(design: Design, state: StudyState, epochs: int) -> Iterator[TrialConfig]:
    """In a searched design the winner, for each scientific factor the winner with that factor alone at its best
    other level, and the first baseline as it stands; in a factorial one every arm at its own best nuisance; where
    there is no search stage the baselines."""
    complete = [trial for trial in state.in_stage("search") if trial.state == "complete"]
    if design.search == "none":
        yield from (design.baseline(name, epochs, 0) for name in design.baselines)
    elif design.search == "factorial":
        for arm in design.arms():
            if mine := [trial for trial in complete if arm.items() <= trial.config.items()]:
                yield TrialConfig.from_dict(max(mine, key=lambda trial: trial.rank).config)
    elif winner := state.winner():
        yield TrialConfig.from_dict(winner.config)
        for factor in design.scientific:
            if factor.name in design.existing(winner.config):
                yield _changed(design, winner, factor, _best_other(design, state, winner, factor))
        yield from (design.baseline(name, epochs, 0) for name in list(design.baselines)[:1])


def _best_other(design: Design, state: StudyState, winner: TrialState, factor: Factor) -> Any:
    """The level of a factor, not the winner's, that did best in the search; a complete trial goes before a
    stopped one, and baselines do not count, for they differ in more. The first level where none says anything."""
    mine = winner.config[factor.name]
    best = max(
        (
            (trial.state == "complete", trial.rank, trial.config[factor.name])
            for trial in state.in_stage("search")
            if design.existing(trial.config).get(factor.name, mine) != mine
            and trial.state in ("complete", "stopped")
            and not trial.origin.startswith("baseline:")
        ),
        key=lambda each: each[:2],
        default=None,
    )
    return best[2] if best else next(level for level in factor.levels if level != mine)


def _changed(design: Design, winner: TrialState, factor: Factor, level: Any) -> TrialConfig:
    """The winner with one factor at another level; what only exists with its own level falls back."""
    values = {**winner.config, factor.name: level}
    kept = design.existing(values)
    usual = TrialConfig().to_dict() | dict(design.fixed)
    gone = {each.name: usual[each.name] for each in design.factors if each.name not in kept}
    return TrialConfig.from_dict(values | gone)
