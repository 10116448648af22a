"""What the terminal shows before a study runs: what, where, for how long, how to watch it."""

import logging
from collections.abc import Iterator

from study.arms import most_arms
from study.confirm import most_tune_trials
from study.phrases import counted, duration
from study.plan import Plan
from study.scheduler import rungs
from study.state import StudyState
from trainables.vocabulary import MOST_SEEDS_BY_WIDTH, Stage, TrialStatus

log = logging.getLogger("study")


def announce(plan: Plan, state: StudyState, dashboard: str) -> None:
    """Log what will run, where, for about how long, and how to watch it."""
    for line in (_what(plan), *plan.notes, *_resumed(state), *_stages(plan, state)):
        log.info("%s", line)
    log.info("estimate: about %s for the complete study", duration(plan.estimate_seconds))
    if dashboard:
        log.info("dashboard: http://%s (the token to sign in with: ray get-auth-token)", dashboard)
    log.info("results: %s", plan.folder)


def _what(plan: Plan) -> str:
    shape = "×".join(str(size) for size in plan.images.data.image_shape)
    train = counted(len(plan.images.split.train.labels), "training image")
    validation = counted(len(plan.images.split.validation.labels), "validation image")
    design = plan.design.name
    return f"study: {plan.folder.name}: design {design}, {train}, {validation} of {shape} pixels"


def _resumed(state: StudyState) -> Iterator[str]:
    if state.trials:
        running = len(state.in_state(TrialStatus.RUNNING))
        yield f"resumes: {counted(len(state.ended_trials()), 'trial')} ended, {running} started"


def _stages(plan: Plan, state: StudyState) -> Iterator[str]:
    settings = plan.settings
    if left := settings.samples - len(state.ended_trials(Stage.SEARCH)):
        trials = f"{counted(left, 'trial')} of at most {counted(plan.epochs, 'epoch')}"
        yield f"will search: {trials} ({_how_searched(plan)}), {_where(plan)}"
    seeds = plan.confirm_seeds
    tune = most_tune_trials(plan.design)
    if seeds and tune:
        trials = counted(tune, "trial")
        yield f"will tune: at most {trials}, the learning rate of every arm to confirm"
    if seeds:
        arms = f"{counted(most_arms(plan.design), 'arm')} with {counted(seeds, 'seed')} each"
        yield f"will confirm: at most {arms}, on training and validation images"
    if width := settings.confirm_until_width:
        until = f"until every effect is known within ±{width:g} points"
        yield f"will add seeds, at most {MOST_SEEDS_BY_WIDTH} in all, {until}"


def _how_searched(plan: Plan) -> str:
    settings = plan.settings
    if settings.scheduler != "asha":
        return f"{settings.sampler}, {settings.scheduler}"
    epochs = " or ".join(map(str, rungs(plan.epochs)))
    return f"{settings.sampler}, {settings.scheduler}, which may stop them after epoch {epochs}"


def _where(plan: Plan) -> str:
    cores = counted(plan.settings.cpus_per_trial, "core")
    gpus = f" and {plan.gpus_per_trial:g} of a GPU" if plan.gpus_per_trial else ""
    return f"{plan.concurrent} at once, {cores}{gpus} each"
