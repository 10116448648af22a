"""Runs what a study lacks on Ray Tune and keeps its record."""

import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import ray
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from study.announcement import announce
from study.checkpoints import finish_ended
from study.cluster.lost import ray_watched
from study.cluster.nodes import Nodes
from study.cluster.ray_patches import raylet_socket
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
from study.watch.metrics import Metrics
from study.watch.optuna import OptunaView
from study.watch.surfaces import Surface, Surfaces
from study.watch.tensorboard import TensorBoard
from study.watch.terminal import Lines, LiveView
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
        started = ending.enter_context(_started(settings, design, images, console, interrupted))
        if record is None:
            header = started.plan.header()
            record = ending.enter_context(closing(Record(started.plan.folder, header)))
        with study_log(record.folder):
            _execute(started, record, console, interrupted, advice)
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


class Started(NamedTuple):
    """Ray, started or joined: the plan for its machines, its nodes where they are of a cluster, and
    the address of its dashboard."""

    plan: Plan
    nodes: Nodes | None
    dashboard: str


@contextmanager
def _started(
    settings: DecidedSettings,
    design: Design,
    images: Images,
    console: Console,
    interrupted: Interrupted,
) -> Iterator[Started]:
    """Start or join Ray, and plan for its machines."""
    study = settings.folder(settings.dataset or images.data.name).name
    log.info("preparing: Ray starts and training is timed, about 10 s")
    with (
        timing_here(settings, design, images.data) as timed_here,
        ray_running(settings, study) as dashboard,
        ray_watched(ray.get_runtime_context().gcs_address, raylet_socket(), console, interrupted),
    ):
        interrupted.listen()  # Ray takes SIGTERM for itself when it starts
        nodes = None if settings.address is None else Nodes()
        if nodes:
            nodes.wait(settings.cpus_per_trial)
        resources = ray_resources(settings)
        gpus = gpus_per_trial(settings, resources)
        if nodes:
            nodes.need(settings.cpus_per_trial, gpus)
        # Refuses what no machine has, for which Ray would wait.
        concurrent_trials(settings, resources, gpus, largest_trial(design, images.data))
        timings = timed_here()
        if timings is None:
            job = timing_job(settings, design, images.data, gpus > 0)
            timings = timing_on_ray(job, gpus, nodes.kinds(gpus > 0) if nodes else {})
        seen = [*timings.notes, *(nodes.notes() if nodes else [])]
        # By now nodes may have joined a cluster, on which training was timed.
        resources = ray_resources(settings)
        plan = make_plan(settings, design, images, resources, timings.seconds, seen)
        interrupted.when_it_can = True
        yield Started(plan, nodes, dashboard)


def _execute(
    started: Started,
    record: Record,
    console: Console,
    interrupted: Interrupted,
    advice: Advice,
) -> None:
    """Run what the record lacks, and record this driver's start and end."""
    start_time, plan = time.monotonic(), started.plan
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
        announce(plan, state, started.dashboard)
        with closing(Surfaces(record, _surfaces(settings, console, record.folder))) as surfaces:
            stages = Stages(plan, record, surfaces, interrupted, started.nodes)
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
        # Without it the record is that of a driver that was killed, and the views, which are
        # written next, say what is wrong.
        with suppress(CannotWrite):
            left = len(state.in_state(TrialStatus.RUNNING))
            left += missing(plan.design, settings.samples, recorded_seeds(state), state)
            record.append("driver_ended", seconds=time.monotonic() - start_time, missing=left)


def _surfaces(settings: DecidedSettings, console: Console, folder: Path) -> list[Surface]:
    """Where this study is shown while it runs."""
    is_live = console.is_terminal and not settings.quiet
    surfaces = [Lines(heartbeat=not is_live), Metrics(), TensorBoard(folder), OptunaView(folder)]
    return [*surfaces, LiveView(console)] if is_live else surfaces


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
