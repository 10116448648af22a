"""Runs what a study lacks on Ray Tune and keeps its record."""

import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from study.announcement import announce
from study.checkpoints import finish_ended
from study.cluster.start import check_kept, cluster_address, ray_running
from study.designs import Design
from study.images import Images, resolve_images
from study.opening import Advice, missing, more_seeds, recorded_seeds
from study.plan import Plan, make_plan
from study.predictions import lacks_predictions, write_predictions
from study.provenance import command, git_commit
from study.record import CannotWrite, Record
from study.resources import concurrent_trials, gpus_per_trial, ray_resources
from study.scheduler import build_scheduler, replay
from study.settings import DecidedSettings
from study.signals import Interrupted
from study.stages import Stages, end_trial
from study.state import state_at_end
from study.timing import largest_trial, timing_here, timing_job, timing_on_ray
from trainables.vocabulary import Stage, TrialStatus

log = logging.getLogger("study")


def run_missing(
    settings: DecidedSettings,
    design: Design,
    record: Record | None,
    console: Console,
    interrupted: Interrupted,
    advice: Advice,
) -> Record:
    """Run all trials that `record` lacks, or those of a new study; gives its record.

    Raises as `study.opening.run_study` does.
    """
    check_kept(settings.results_dir)
    settings = replace(settings, address=cluster_address(settings.address))
    images = resolve_images(settings, record.state.header if record else None)
    with ExitStack() as ending:
        plan, dashboard = ending.enter_context(_planned(settings, design, images, interrupted))
        if record is None:
            record = ending.enter_context(closing(Record(plan.folder, plan.header())))
        with study_log(record.folder):
            stages = Stages(plan, record, console, interrupted)
            _execute(plan, record, stages, dashboard, interrupted, advice)
            if not interrupted.asked and lacks_predictions(record.folder, record.state):
                write_predictions(record.folder, record.state, images.data)
    return record


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


@contextmanager
def _planned(
    settings: DecidedSettings, design: Design, images: Images, interrupted: Interrupted
) -> Iterator[tuple[Plan, str]]:
    """Ray, started or joined, with the plan for its machines and the address of its dashboard."""
    log.info("preparing: Ray starts and training is timed, about 10 s")
    with (
        timing_here(settings, design, images.data) as timed_here,
        ray_running(settings) as dashboard,
    ):
        interrupted.listen()  # Ray takes SIGTERM for itself when it starts
        resources = ray_resources(settings)
        gpus = gpus_per_trial(settings, resources)
        # Refuses what no machine has, for which Ray would wait.
        concurrent_trials(settings, resources, gpus, largest_trial(design, images.data))
        timings = timed_here()
        if timings is None:
            timings = timing_on_ray(timing_job(settings, design, images.data, gpus > 0), gpus)
        plan = make_plan(settings, design, images, resources, timings)
        interrupted.when_it_can = True
        yield plan, dashboard


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
        stages.confirm(plan.confirm_seeds)
        while seeds := more_seeds(settings, record, advice):
            record.append("confirm_extended", seeds=seeds)
            stages.confirm(seeds)
    except KeyboardInterrupt:
        if not interrupted.asked:
            raise
    finally:
        with suppress(CannotWrite):
            left = len(state.in_state(TrialStatus.RUNNING))
            left += missing(plan.design, settings.samples, recorded_seeds(state), state)
            record.append("driver_ended", seconds=time.monotonic() - started, missing=left)


@contextmanager
def study_log(folder: Path) -> Iterator[None]:
    """While it lasts, what the terminal shows also goes to `study.log`, with the time."""
    handler = logging.FileHandler(folder / "study.log", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # A full disk is reported once, by what must be written.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
