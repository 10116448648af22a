"""The tune and confirm stages: which trials they need, and which learning rate each arm gets.

The best of a search is the maximum of many noisy scores of one seed, read on the images that it was
chosen by: it is optimistic, and it does not say which part mattered (Bouthillier et al. 2021,
Accounting for variance in machine learning benchmarks). So the arms of `study.arms` are trained
again on training and validation images together, and read on test images that nothing was chosen
by. Before, each of those around the winner gets its own learning rate, on validation images: at one
shared rate the effects depend on the rate.
"""

import math
from dataclasses import replace

import numpy as np

from study.arms import (
    RATE,
    Arm,
    ConfirmPlan,
    end_of_rates,
    most_tuned_arms,
    plan_at_winners_rate,
    seedless,
)
from study.designs import Design
from study.state import StudyState, TrialRecord
from trainables.config import TrialConfig
from trainables.vocabulary import TUNED, ArmRole, SearchMode, Stage, TrialStatus

RATE_STEP = 3.0
"""An arm's learning rate is tuned among the winner's, and it divided and multiplied by this."""


def confirm_plan(design: Design, state: StudyState) -> ConfirmPlan:
    """The arms to confirm, each at its tuned learning rate, after the search and tune stages."""
    plan = plan_at_winners_rate(design, state)
    arms = [arm for arm in plan.arms if arm.role in TUNED]
    if state.version > 1 and arms and _rates_to_try(design, arms[0].config):
        arms = _at_best_rates(design, replace(plan, arms=tuple(arms)), state)
    others = [arm for arm in plan.arms if arm.role not in TUNED]
    for baseline in [arm for arm in others if arm.role == ArmRole.BASELINE]:
        for place, arm in enumerate(arms):
            if arm.config == baseline.config:  # it is one of the arms around the winner
                arms[place] = replace(arm, baseline=baseline.baseline)
                others.remove(baseline)
    return replace(plan, arms=(*arms, *others))


def missing_tune_trials(design: Design, state: StudyState) -> list[TrialConfig]:
    """The trials that the tune stage needs and the record lacks, after the search stage."""
    if state.version == 1 or design.search != SearchMode.SAMPLED:
        # Studies of version 1 took the winner's rate; a factorial search tunes within every arm.
        return []
    seed = state.header["settings"]["seed"]
    wanted = [
        replace(arm.config, learning_rate=rate, seed=seed)
        for arm in plan_at_winners_rate(design, state).arms
        if arm.role in TUNED
        for rate in _rates_to_try(design, arm.config)
    ]
    searched = _informative(state, Stage.SEARCH)
    known = [trial.config for trial in (*searched, *state.in_stage(Stage.TUNE))]
    return [config for config in wanted if config.to_dict() not in known]


def missing_confirm_trials(design: Design, state: StudyState, seeds: int) -> list[TrialConfig]:
    """The trials that the confirm stage needs and the record does not have."""
    known = [trial.config for trial in state.in_stage(Stage.CONFIRM)]
    wanted = confirm_plan(design, state).trials(state.header["settings"]["seed"], seeds)
    return [config for config in wanted if config.to_dict() not in known]


def most_tune_trials(design: Design) -> int:
    """How many trials the tune stage has, at most."""
    is_varied = any(factor.name == RATE for factor in design.factors)
    if design.search != SearchMode.SAMPLED or not is_varied:
        return 0
    return 3 * most_tuned_arms(design) - 1  # the winner has its own rate from the search


def _rates_to_try(design: Design, config: TrialConfig) -> list[float]:
    """The learning rates that an arm is tuned over, around the one that it has; none where the
    design fixes it."""
    rate = config.learning_rate
    factor = next((factor for factor in design.factors if factor.name == RATE), None)
    if factor is None or not factor.exists(config.to_dict()):
        return []
    if factor.levels:
        levels = sorted({*factor.levels, rate})
        place = levels.index(rate)
        return levels[max(0, place - 1) : place + 2]
    # A winner that is a baseline may lie outside the range.
    low, high = min(factor.low, rate), max(factor.high, rate)
    return sorted({min(max(rate * step, low), high) for step in (1 / RATE_STEP, 1.0, RATE_STEP)})


def _at_best_rates(design: Design, plan: ConfirmPlan, state: StudyState) -> list[Arm]:
    """The arms of a plan, each at the one of its learning rates tried where the fitted validation
    loss is least.

    An arm of which no trial is complete keeps the winner's rate: the confirm stage shows whether it
    diverges, too.
    """
    tried = [_tried(design, arm, state) for arm in plan.arms]
    complete = [
        (place, trial)
        for place, trials in enumerate(tried)
        for trial in trials
        if trial.state == TrialStatus.COMPLETE
    ]
    places_P = np.array([place for place, _ in complete], dtype=int)
    steps_P = np.array(
        [
            math.log(trial.config[RATE] / plan.arms[place].config.learning_rate)
            for place, trial in complete
        ]
    )
    losses_P = np.array([trial.epochs[-1]["validation_loss"] for _, trial in complete])
    starts = [
        [getattr(arm.config, each.factor) == each.start for each in plan.changes]
        for arm in plan.arms
    ]
    fitted_P = response_surface(places_P, steps_P, losses_P, np.where(starts, 1.0, -1.0))
    worst_first = sorted(
        zip(fitted_P, complete, strict=True), key=lambda row: (-row[0], -row[1][1].trial)
    )
    best = {place: trial for _, (place, trial) in worst_first}
    arms = list(plan.arms)
    for place, trial in best.items():
        end = end_of_rates(trial, tried[place])
        arms[place] = replace(arms[place], config=seedless(trial), rate_at_end=end)
    return arms


def response_surface(
    places_P: np.ndarray, steps_P: np.ndarray, losses_P: np.ndarray, signs_AxF: np.ndarray
) -> np.ndarray:
    """The validation losses of P trials, smoothed over the learning rate.

    Least squares on the logarithm of the loss: each arm has a level of its own, all share the
    curvature in the logarithm of the rate, and the optimum is additive in the factors (Box & Wilson
    1951, On the experimental attainment of optimum conditions). One arm's losses alone are too
    noisy: of few images, with one seed.

    Args:
        places_P: the arm of each trial, a row of `signs_AxF`.
        steps_P: the logarithm of its learning rate, from that of the winner.
        losses_P: its validation loss, in nats.
        signs_AxF: by arm and factor, 1 at the winner's level and -1 at the other one.
    """
    levels = np.eye(len(signs_AxF))[places_P]
    slopes = signs_AxF[places_P] * steps_P[:, None]
    terms = np.column_stack([levels, steps_P, steps_P**2, slopes])
    logarithms = np.log(np.maximum(losses_P, 1e-12))
    return np.asarray(terms @ np.linalg.lstsq(terms, logarithms, rcond=None)[0])


def _tried(design: Design, arm: Arm, state: StudyState) -> list[TrialRecord]:
    """The search and tune trials of an arm about the learning rate that it has; those that failed
    are none."""
    rates = _rates_to_try(design, arm.config)
    return [
        trial
        for trial in (*_informative(state, Stage.SEARCH), *_informative(state, Stage.TUNE))
        if rates[0] <= trial.config[RATE] <= rates[-1]
        and seedless(trial, learning_rate=arm.config.learning_rate) == arm.config
    ]


def _informative(state: StudyState, stage: Stage) -> list[TrialRecord]:
    """The trials of a stage that say how good their setting is."""
    ends = (TrialStatus.COMPLETE, TrialStatus.DIVERGED)
    return [trial for trial in state.in_stage(stage) if trial.state in ends]
