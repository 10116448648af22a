"""Runs a planned study on Ray Tune and keeps its record; the effects between the plan and the
report."""

import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from study.announcement import announce
from study.checkpoints import finish_ended
from study.cluster.start import ray_running
from study.confirm import missing_confirm_trials, missing_tune_trials
from study.designs import Design
from study.images import Images, compare_images, resolve_images
from study.plan import Plan, begin_study, continue_study, find_study, make_plan
from study.provenance import command, git_commit
from study.record import CannotWrite, Record, write_views
from study.resources import concurrent_trials, gpus_per_trial, ray_resources
from study.scheduler import build_scheduler, replay
from study.settings import MOST_SEEDS, DecidedSettings
from study.signals import Interrupted, interruptible
from study.stages import Stages, end_trial
from study.state import StudyState, state_at_end
from study.timing import timing_here, timing_job, timing_on_ray
from trainables.vocabulary import Stage, TrialStatus

log = logging.getLogger("study")

Advice = Callable[[Path, float], int | None]
"""Of a study directory, the confirm seeds at which every effect is known within ± a fraction; None
where no number is enough."""


def take_up(record: Record, scheduler: TrialScheduler, retry_failed: bool) -> None:
    """Bring record, directory and a new scheduler to where they were when the last driver ended.

    A trial may have had its last epoch, or the one at which the scheduler stops it, just then: it
    ends now.
    """
    for trial in record.state.in_state(TrialStatus.FAILED) if retry_failed else []:
        record.append("trial_reopened", trial=trial.trial)
    stopped = replay(scheduler, record.state, Stage.SEARCH)
    for trial in record.state.in_state(TrialStatus.RUNNING):
        epoch, budget = len(trial.epochs), trial.config["max_epochs"]
        if epoch and (trial.diverged or epoch >= budget or trial.trial in stopped):
            end_trial(record, trial.trial, state_at_end(epoch, trial.diverged, budget))
    finish_ended(record.folder, record.state)


@dataclass(frozen=True)
class Outcome:
    """What became of a study: its directory, what its record says, how many trials it shall have,
    and whether it was interrupted."""

    folder: Path
    state: StudyState
    wanted: int
    interrupted: bool


def run_study(given: Mapping[str, Any], console: Console, advice: Advice) -> Outcome:
    """Start or resume a study with the settings given, from its images to the end of its record.

    `advice` is the analysis's, for `--confirm-until-width`.

    Raises:
        UsageError, DataUnavailable, CannotStart: something asked for is impossible; nothing was
            started.
        RecordError: the study's record is damaged; nothing was started.
        CannotWrite: the study directory could not be written to; the study can be resumed later.
        KeyboardInterrupt: it was interrupted before anything was recorded.
    """
    with interruptible() as interrupted, ExitStack() as ending:
        settings, design, record = _open(given, ending)
        if record and not _anything_to_run(settings, design, record, advice):
            compare_images(settings, record.state.header)
            return _already_complete(record)
        images = resolve_images(settings, record.state.header if record else None)
        plan, dashboard = ending.enter_context(_planned(settings, design, images, interrupted))
        if record is None:
            record = ending.enter_context(closing(Record(plan.folder, plan.header())))
        with study_log(record.folder):
            stages = Stages(plan, record, console, interrupted)
            _execute(plan, record, stages, dashboard, interrupted, advice)
    lacking = missing(design, settings.samples, _confirm_seeds(record.state), record.state)
    wanted = len(record.state.trials) + lacking
    return Outcome(record.folder, record.state, wanted, interrupted.asked)


def _open(
    given: Mapping[str, Any], ending: ExitStack
) -> tuple[DecidedSettings, Design, Record | None]:
    """The settings and the design, with the record of the study that they continue; None where they
    start one."""
    settings, design = begin_study(given)
    folder = find_study(settings)
    if folder is None:
        return settings, design, None
    record = ending.enter_context(closing(Record(folder)))
    return *continue_study(given, record.state, folder), record


def _anything_to_run(
    settings: DecidedSettings, design: Design, record: Record, advice: Advice
) -> bool:
    retried = [TrialStatus.FAILED] if settings.retry_failed else []
    if record.state.in_state(TrialStatus.RUNNING, *retried):
        return True
    lacking = missing(design, settings.samples, settings.confirm_seeds, record.state)
    return bool(lacking or more_seeds(settings, record, advice))


def _already_complete(record: Record) -> Outcome:
    state = record.state
    finish_ended(record.folder, state)
    if state.ended is None:  # the driver was killed after its last trial
        record.append("driver_started", pid=os.getpid(), host=platform.node())
        record.append("driver_ended", seconds=0.0, missing=0)
    log.info("nothing to run: all %d trials have ended", len(state.trials))
    return Outcome(record.folder, state, len(state.trials), interrupted=False)


@contextmanager
def _planned(
    settings: DecidedSettings, design: Design, images: Images, interrupted: Interrupted
) -> Iterator[tuple[Plan, str]]:
    """Ray, started or joined, with the plan for its machines and the address of its dashboard."""
    with (
        timing_here(settings, design, images.data) as timed_here,
        ray_running(settings) as dashboard,
    ):
        interrupted.listen()  # Ray takes SIGTERM for itself when it starts
        resources = ray_resources(settings)
        gpus = gpus_per_trial(settings, resources)
        # Refuses what no machine has, for which Ray would wait.
        concurrent_trials(settings, resources, gpus)
        timings = timed_here()
        if timings is None:
            timings = timing_on_ray(timing_job(settings, design, images.data, gpus > 0), gpus)
        plan = make_plan(settings, design, images, resources, timings)
        interrupted.when_it_can = True
        yield plan, dashboard


def missing(design: Design, samples: int, seeds: int, state: StudyState) -> int:
    """How many trials have not started of the first stage that lacks any, in a study with so many
    search trials and confirm seeds."""
    if samples > len(state.in_stage(Stage.SEARCH)):
        return samples - len(state.in_stage(Stage.SEARCH))
    if seeds and (tune := missing_tune_trials(design, state)):
        return len(tune)
    return len(missing_confirm_trials(design, state, seeds))


def more_seeds(settings: DecidedSettings, record: Record, advice: Advice) -> int:
    """How many confirm seeds `--confirm-until-width` asks for where there are too few; else 0."""
    if settings.confirm_until_width is None:
        return 0
    write_views(record.folder, record.state)
    advised = advice(record.folder, settings.confirm_until_width / 100)
    if advised is None:
        log.warning("no seeds are added: with these test images no number of them is enough")
        return 0
    seeds = min(advised, MOST_SEEDS)
    return seeds if seeds > _confirm_seeds(record.state) else 0


def _confirm_seeds(state: StudyState) -> int:
    seeds: int = state.header["settings"]["confirm_seeds"]
    return seeds


def _execute(
    plan: Plan,
    record: Record,
    stages: Stages,
    dashboard: str,
    interrupted: Interrupted,
    advice: Advice,
) -> None:
    """Run what the record lacks, and record this driver's start and end."""
    started = time.monotonic()
    record.append(
        "driver_started",
        pid=os.getpid(),
        host=platform.node(),
        settings=plan.resolved_settings(),
        command=command(),
        git=git_commit(),
    )
    settings, state = plan.settings, record.state
    try:
        scheduler = build_scheduler(settings.scheduler, plan.epochs)
        take_up(record, scheduler, settings.retry_failed)
        announce(plan, state, dashboard)
        stages.search(scheduler)
        stages.tune()
        stages.confirm(settings.confirm_seeds)
        while seeds := more_seeds(settings, record, advice):
            record.append("confirm_extended", seeds=seeds)
            stages.confirm(seeds)
    except KeyboardInterrupt:
        if not interrupted.asked:
            raise
    finally:
        with suppress(CannotWrite):
            left = len(state.in_state(TrialStatus.RUNNING))
            left += missing(plan.design, settings.samples, _confirm_seeds(state), state)
            record.append("driver_ended", seconds=time.monotonic() - started, missing=left)


@contextmanager
def study_log(folder: Path) -> Iterator[None]:
    """While it lasts, what the terminal shows also goes to `study.log`, with the time."""
    handler = logging.FileHandler(folder / "study.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # A full disk is reported once, by what must be written.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
