"""Runs a planned study on Ray Tune and keeps its record; the effects between the plan and the
report."""

import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from study.checkpoints import finish_ended
from study.cluster.start import ray_running
from study.confirm import missing_confirm_trials, missing_tune_trials, most_arms, most_tune_trials
from study.designs import Design
from study.images import resolve_images
from study.monitor import duration
from study.plan import Plan, begin_study, continue_study, find_study, make_plan
from study.provenance import command, git_commit
from study.record import CannotWrite, Record, StudyState, state_at_end, write_views
from study.resources import concurrent_trials, gpus_per_trial, ray_resources
from study.scheduler import build_scheduler, replay, rungs
from study.settings import MOST_SEEDS, DecidedSettings
from study.signals import Interrupted, interruptible
from study.stages import Stages, end_trial
from study.timing import timing_here, timing_job, timing_on_ray

log = logging.getLogger("study")

Advice = Callable[[Path, float], int | None]
"""Of a study directory, the confirm seeds at which every effect is known within ± a fraction; None
where no number is enough."""


def take_up(record: Record, scheduler: TrialScheduler, retry_failed: bool) -> None:
    """Bring record, directory and a new scheduler to where they were when the last driver ended.

    A trial may have had its last epoch, or the one at which the scheduler stops it, just then: it
    ends now.
    """
    for trial in record.state.in_state("failed") if retry_failed else []:
        record.append("trial_reopened", trial=trial.trial)
    stopped = replay(scheduler, record.state, "search")
    for trial in record.state.in_state("running"):
        last = trial.diverged or len(trial.epochs) >= trial.config["max_epochs"]
        if trial.epochs and (last or trial.trial in stopped):
            end_trial(
                record,
                trial.trial,
                state_at_end(len(trial.epochs), trial.diverged, trial.config["max_epochs"]),
            )
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
    """Begin or continue a study with the settings given, from its images to the end of its record.

    `advice` is the analysis's, for `--confirm-until-width`.

    Raises:
        UsageError, DataUnavailable, CannotStart: something asked for cannot be; nothing was
        started.
        RecordError: the study's record is damaged; nothing was started.
        CannotWrite: the study directory could not be written to; the study can go on later.
        KeyboardInterrupt: it was interrupted before anything was recorded.
    """
    record, fingerprint = None, None
    settings, design = begin_study(given)
    with interruptible() as interrupted, ExitStack() as ending:
        if folder := find_study(settings):
            record = Record(folder)
            ending.callback(record.close)
            state, fingerprint = record.state, record.state.header["dataset"]["fingerprint"]
            settings, design = continue_study(given, state, folder)
            unfinished = state.in_state("running", *(["failed"] if settings.retry_failed else []))
            lacking = missing(design, settings.samples, settings.confirm_seeds, state)
            if not (unfinished or lacking or more_seeds(settings, record, advice)):
                finish_ended(folder, state)
                if state.ended is None:  # the driver was killed after its last trial
                    record.append("driver_started", pid=os.getpid(), host=platform.node())
                    record.append("driver_ended", seconds=0.0, missing=0)
                log.info("nothing to run: all %d trials have ended", len(state.trials))
                return Outcome(folder, state, len(state.trials), interrupted=False)
        images = resolve_images(settings, fingerprint)
        timed = ending.enter_context(timing_here(settings, design, images.data))
        with ray_running(settings) as dashboard:
            interrupted.listen()  # Ray takes SIGTERM for itself when it starts
            resources = ray_resources(settings)
            gpus = gpus_per_trial(settings, resources)
            concurrent_trials(
                settings, resources, gpus
            )  # refuses what no machine has, for which Ray would wait
            timings = timed() or timing_on_ray(
                timing_job(settings, design, images.data, gpus > 0), gpus
            )
            plan = make_plan(settings, design, images, resources, timings)
            interrupted.when_it_can = True
            if record is None:
                record = Record(plan.folder, plan.header())
                ending.callback(record.close)
            with study_log(record.folder):
                _drive(
                    plan,
                    record,
                    dashboard,
                    Stages(plan, record, console, interrupted),
                    interrupted,
                    advice,
                )
    state = record.state
    wanted = len(state.trials) + missing(design, settings.samples, _confirm_seeds(state), state)
    return Outcome(record.folder, record.state, wanted, interrupted.asked)


def missing(design: Design, samples: int, seeds: int, state: StudyState) -> int:
    """Of a study with so many search trials and confirm seeds, the trials that have not begun of
    the first stage that lacks any."""
    if samples > len(state.in_stage("search")):
        return samples - len(state.in_stage("search"))
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
        log.warning(
            "no seeds are added: with these test images no number of them makes every interval that narrow"
        )
        return 0
    seeds = min(advised, MOST_SEEDS)
    return seeds if seeds > _confirm_seeds(record.state) else 0


def _confirm_seeds(state: StudyState) -> int:
    seeds: int = state.header["settings"]["confirm_seeds"]
    return seeds


def _drive(
    plan: Plan,
    record: Record,
    dashboard: str,
    stages: Stages,
    interrupted: Interrupted,
    advice: Advice,
) -> None:
    """Run what the record misses, and record this driver's start and end."""
    started = time.monotonic()
    about = {"settings": plan.resolved_settings(), "command": command(), "git": git_commit()}
    record.append("driver_started", pid=os.getpid(), host=platform.node(), **about)
    settings, state = plan.settings, record.state
    try:
        scheduler = build_scheduler(settings.scheduler, plan.epochs)
        take_up(record, scheduler, settings.retry_failed)
        _announce(plan, state, dashboard)
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
            left = len(state.in_state("running"))
            left += missing(plan.design, settings.samples, _confirm_seeds(state), state)
            record.append("driver_ended", seconds=time.monotonic() - started, missing=left)


@contextmanager
def study_log(folder: Path) -> Iterator[None]:
    """While it lasts, what is said on the terminal also goes to `study.log`, with the time."""
    handler = logging.FileHandler(folder / "study.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # A full disk is told once, by what must be written.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def _announce(plan: Plan, state: StudyState, dashboard: str) -> None:
    """Say what will run, where, for about how long, and how to watch it."""
    data, split, settings = plan.images.data, plan.images.split, plan.settings
    shape = "×".join(str(size) for size in data.image_shape)
    counts = f"{len(split.train.labels)} training, {len(split.validation.labels)} validation images"
    log.info(
        "study: %s: design %s, %s of %s pixels", plan.folder.name, plan.design.name, counts, shape
    )
    for note in plan.notes:
        log.info("%s", note)
    if state.trials:
        log.info(
            "resumes: %d trials ended, %d started",
            len(state.ended_trials()),
            len(state.in_state("running")),
        )
    tune, seeds = most_tune_trials(plan.design), settings.confirm_seeds
    left = settings.samples - sum(trial.state != "running" for trial in state.in_stage("search"))
    stops = f", stopping at epochs {rungs(plan.epochs)}" if settings.scheduler == "asha" else ""
    how = f"{plan.concurrent} at once, {settings.cpus_per_trial} cores and {plan.gpus_per_trial:g} GPUs each"
    if left:
        search = f"{left} trials of at most {plan.epochs} epochs ({settings.sampler}, {settings.scheduler}{stops})"
        log.info("will search: %s, %s", search, how)
    if seeds and tune:
        log.info("will tune: at most %d trials, the learning rate of every arm to confirm", tune)
    if seeds:
        arms, each = most_arms(plan.design), f"{seeds} seed{'s' * (seeds > 1)} each"
        log.info(
            "will confirm: at most %d arms with %s, on training and validation images", arms, each
        )
    if settings.confirm_until_width:
        width = f"{settings.confirm_until_width:g} points"
        log.info(
            "will add seeds, at most %d in all, until every effect is known within ±%s",
            MOST_SEEDS,
            width,
        )
    log.info("estimate: about %s for the complete study", duration(plan.estimate_seconds))
    if dashboard:
        log.info("dashboard: http://%s (the token to sign in with: ray get-auth-token)", dashboard)
    log.info("results: %s", plan.folder)
