"""Runs a planned study on Ray Tune and keeps its record; the effects between the plan and the report."""

import base64
import logging
import os
import platform
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.air.execution._internal import actor_manager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import class_cache, tune_controller
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from rich.console import Console

from study.checkpoints import finish_ended, keep_best, load_checkpoint, remove_checkpoints, save_checkpoint
from study.confirm import (
    confirm_plan,
    missing_confirm_trials,
    missing_tune_trials,
    most_arms,
    most_tune_trials,
)
from study.designs import Design, arm_label
from study.monitor import DriverCallback, Monitor, duration
from study.plan import (
    MOST_CONCURRENT,
    CannotStart,
    Plan,
    begin_study,
    command,
    continue_study,
    error_line,
    find_study,
    git_commit,
    make_plan,
    resolve_images,
    timing_here,
)
from study.record import CannotWrite, Record, StudyState, state_at_end, write_views
from study.scheduler import build_scheduler, replay, rungs
from study.searcher import ListSearcher, StageSearcher, StudySearcher
from study.settings import MOST_SEEDS, DecidedSettings, StudySettings
from trainables.config import EpochMetrics, TrialConfig, UsageError
from trainables.datasets import TrialData, confirm_data, search_data
from trainables.resnet import NetworkCost, network_cost
from trainables.trainable import ResNetTrainable

log = logging.getLogger("study")

TRIES = 3
"""A trial that failed so often is not tried again unless it is asked for."""
Advice = Callable[[Path, float], int | None]
"""Of a study directory, the confirm seeds at which every effect is known within ± a fraction; None where no number is
enough."""


@dataclass
class Interrupted:
    """Whether a person or the system asked the study to end, and whether it ends when it can (or at once)."""

    asked: bool = False
    when_it_can: bool = False

    def listen(self) -> None:
        """Be told of SIGINT and SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _: Any) -> None:
        if self.asked:
            # Nothing is lost: the record is synced. Ray's processes follow: trials in seconds, its agents in a minute.
            os._exit(130)
        self.asked = True
        log.warning("asked to end; a second signal ends at once")
        if not self.when_it_can:
            raise KeyboardInterrupt


class RecordCallback(DriverCallback):
    """Writes what Tune says of the trials into the record, and their checkpoints beside it."""

    def __init__(self, record: Record, interrupted: Interrupted) -> None:
        self._record = record
        self._interrupted = interrupted

    def begin(self, number: int, stage: str, origin: str, config: TrialConfig) -> None:
        """Record a new trial."""
        arm = arm_label(config, self._record.state.header["design"])
        about = {"stage": stage, "origin": origin, "arm": arm, "config": config.to_dict()}
        self._record.append("trial_started", trial=number, **about, **asdict(self.cost(config)))

    def cost(self, config: TrialConfig) -> NetworkCost:
        """What a trial's network costs."""
        data = self._record.state.header["dataset"]
        return network_cost(config, tuple(data["image_shape"]), len(data["classes"]))

    def resume(self, number: int) -> Any:
        """The newest checkpoint that a trial can go on from; record which it is."""
        epoch, content, note = load_checkpoint(self._record.folder, self._record.state.trials[number])
        self._record.append("trial_continued", trial=number, from_epoch=epoch, note=note)
        return None if content is None else ray.put(content)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        metrics = EpochMetrics(**{name: result[name] for name in EpochMetrics.__dataclass_fields__})
        known = self._record.state.trials[trial.config["trial"]]
        # Taken out, for Tune keeps a trial's last result in its own snapshots.
        checkpoint = result.pop("checkpoint", None)
        if checkpoint is not None:
            save_checkpoint(self._record.folder, known.trial, metrics.epoch, memoryview(checkpoint))
        correct = result.pop("correct", None)
        if metrics.epoch <= len(known.epochs):
            return  # trained again after a checkpoint: the first reading stands
        about: dict[str, Any] = {"diverged": metrics.diverged, "checkpoint": checkpoint is not None}
        if correct is not None:
            about["correct"] = base64.b64encode(correct.tobytes()).decode()
        self._record.append("epoch", trial=known.trial, node=result["hostname"], **metrics.to_dict(), **about)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        result = trial.last_result
        state = state_at_end(result["epoch"], result["diverged"], trial.config["config"]["max_epochs"])
        end_trial(self._record, trial.config["trial"], state)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = trial.config["trial"]
        # Not `trial.get_error()`: that reads the copy in Tune's storage, which is not there yet.
        file = Path(trial.error_file) if trial.error_file else None
        text = file.read_text(encoding="utf-8").strip() if file and file.exists() else ""
        text = text or "the trial's process ended"
        log.debug("trial %d failed:\n%s", number, text)
        error = f"{error_line(text)} (all of it: study.log)"
        self._record.append("trial_failed", trial=number, error=error)
        if self._record.state.trials[number].failures >= TRIES:
            end_trial(self._record, number, "failed", error)

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        if self._interrupted.asked:
            # No Exception, so Tune does not wait for epochs to end; what counts is in the record.
            raise KeyboardInterrupt


def end_trial(record: Record, number: int, state: str, error: str = "") -> None:
    """Record the end of a trial; its checkpoints go, but the winner's last one becomes `best/` first."""
    record.append("trial_ended", trial=number, state=state, error=error)
    keep_best(record.folder, record.state)
    remove_checkpoints(record.folder, number)


def take_up(record: Record, scheduler: TrialScheduler, retry_failed: bool) -> None:
    """Bring record, directory and a new scheduler to where they were when the last driver ended.

    A trial may have had its last epoch, or the one at which the scheduler stops it, just then: it ends now.
    """
    for trial in record.state.in_state("failed") if retry_failed else []:
        record.append("trial_reopened", trial=trial.trial)
    stopped = replay(scheduler, record.state, "search")
    for trial in record.state.in_state("running"):
        last = trial.diverged or len(trial.epochs) >= trial.config["max_epochs"]
        if trial.epochs and (last or trial.trial in stopped):
            end_trial(record, trial.trial, state_at_end(len(trial.epochs), trial.diverged, trial.config["max_epochs"]))
    finish_ended(record.folder, record.state)


@dataclass(frozen=True)
class Outcome:
    """What became of a study: its directory, what its record says, how many trials it shall have, and whether it
    was interrupted."""

    folder: Path
    state: StudyState
    wanted: int
    interrupted: bool


def run_study(given: Mapping[str, Any], console: Console, advice: Advice) -> Outcome:
    """Begin or continue a study with the settings given, from its images to the end of its record.

    `advice` is the analysis's, for `--confirm-until-width`.

    Raises:
        UsageError, DataUnavailable, CannotStart: something asked for cannot be; nothing was started.
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
        timings = ending.enter_context(timing_here(settings, design, images))
        with ray_running(settings) as dashboard:
            interrupted.listen()  # Ray takes SIGTERM for itself when it starts
            plan = make_plan(settings, design, images, timings())
            interrupted.when_it_can = True
            if record is None:
                record = Record(plan.folder, plan.header())
                ending.callback(record.close)
            with study_log(record.folder):
                _drive(plan, record, dashboard, Stages(plan, record, console, interrupted), interrupted, advice)
    state = record.state
    wanted = len(state.trials) + missing(design, settings.samples, _confirm_seeds(state), state)
    return Outcome(record.folder, record.state, wanted, interrupted.asked)


def missing(design: Design, samples: int, seeds: int, state: StudyState) -> int:
    """Of a study with so many search trials and confirm seeds, the trials that have not begun of the first stage that
    lacks any."""
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
        log.warning("no seeds are added: with these test images no number of them makes every interval that narrow")
        return 0
    seeds = min(advised, MOST_SEEDS)
    return seeds if seeds > _confirm_seeds(record.state) else 0


def _confirm_seeds(state: StudyState) -> int:
    seeds: int = state.header["settings"]["confirm_seeds"]
    return seeds


def _drive(
    plan: Plan, record: Record, dashboard: str, stages: "Stages", interrupted: Interrupted, advice: Advice
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
def ray_running(settings: StudySettings) -> Iterator[str]:
    """Ray, started here or joined, quiet unless asked; gives the dashboard's address, or an empty text."""
    if (os.cpu_count() or 1) <= (settings.max_concurrent or MOST_CONCURRENT) * settings.cpus_per_trial:
        # Ray starts a process a core at once; the first trials then find there what takes seconds to import.
        os.environ.setdefault("RAY_preload_python_modules", "trainables.trainable,torch._dynamo")
    try:
        _check_reachable(settings.address)
        context = ray.init(
            address=settings.address or "local",
            # Of a cluster that is joined, the dashboard is up or not as its head was started.
            include_dashboard=settings.dashboard if settings.address is None else None,
            log_to_driver=settings.verbose,
            # Tune logs the traceback of a failed trial as an error; the record keeps what matters of it.
            logging_level=logging.INFO if settings.verbose else logging.CRITICAL,
        )
    except Exception as error:  # which is all that Ray says of a machine that is too busy for its processes to come up
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if settings.address is None:
            raise CannotStart(f"Ray cannot be started: {reason}") from error
        raise UsageError(f"--address: received {settings.address!r}, allowed: a running cluster ({reason})") from error
    try:
        yield context.dashboard_url or ""
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raise `OSError` or `ValueError` where nothing listens at HOST:PORT, for which Ray would wait for minutes."""
    if address not in (None, "auto", "local"):
        if "://" in address:  # through Ray's client Tune would run, and the record be written, on another machine
            raise ValueError("HOST:PORT of its head, from a machine of the cluster")
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()


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


@contextmanager
def interruptible() -> Iterator[Interrupted]:
    """While it lasts, SIGINT and SIGTERM end the study in good order; a second one ends it at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupted = Interrupted()
    interrupted.listen()
    try:
        yield interrupted
    finally:
        # Once asked, the process is ending: a second signal may still come, and must not end it in another way.
        for number, handler in before.items() if not interrupted.asked else ():
            signal.signal(number, handler)


def _announce(plan: Plan, state: StudyState, dashboard: str) -> None:
    """Say what will run, where, for about how long, and how to watch it."""
    data, split, settings = plan.images.data, plan.images.split, plan.settings
    shape = "×".join(str(size) for size in data.image_shape)
    counts = f"{len(split.train.labels)} training, {len(split.validation.labels)} validation images"
    log.info("study: %s: design %s, %s of %s pixels", plan.folder.name, plan.design.name, counts, shape)
    for note in plan.notes:
        log.info("%s", note)
    if state.trials:
        log.info("goes on: %d trials ended, %d begun", len(state.ended_trials()), len(state.in_state("running")))
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
        log.info("will confirm: at most %d arms with %s, on training and validation images", arms, each)
    if settings.confirm_until_width:
        width = f"{settings.confirm_until_width:g} points"
        log.info("will add seeds, at most %d in all, until every effect is known within ±%s", MOST_SEEDS, width)
    log.info("estimate: about %s for the whole study", duration(plan.estimate_seconds))
    if dashboard:
        log.info("dashboard: http://%s (the token to sign in with: ray get-auth-token)", dashboard)
    log.info("results: %s", plan.folder)


class Stages:
    """The stages of a study, each run by Tune to its end; what is in the record is not run again."""

    def __init__(self, plan: Plan, record: Record, console: Console, interrupted: Interrupted) -> None:
        self._plan = plan
        self._record = record
        self._console = console
        self._keeper = RecordCallback(record, interrupted)
        # Tune asks for processes with a variable that only another library reads: none that is there would do.
        class_cache.DEFAULT_ENV_VARS.clear()
        # Tune 2.60 knows two ways for a trial to fail, and that Ray ended its process for want of memory is neither:
        # it would end the whole experiment.
        for module in (actor_manager, tune_controller):
            module.RayActorError = (RayActorError, OutOfMemoryError)  # type: ignore[attr-defined]

    def search(self, scheduler: TrialScheduler) -> None:
        """All search trials that have not ended."""
        plan, settings, state = self._plan, self._plan.settings, self._record.state
        about = (plan.settings.samples, settings.sampler, plan.epochs, settings.seed)
        searcher = StudySearcher(plan.design, *about, state, self._keeper.begin, self._keeper.resume)
        self._run(searcher, scheduler, search_data(plan.images.data, plan.images.split), plan.settings.samples)

    def tune(self) -> None:
        """All tune trials that have not ended: the arms to confirm at several learning rates, on validation images."""
        images, state = self._plan.images, self._record.state
        missing = missing_tune_trials(self._plan.design, state) if self._plan.settings.confirm_seeds else []
        self._run_listed("tune", missing, search_data(images.data, images.split))

    def confirm(self, seeds: int) -> None:
        """All confirm trials that have not ended, of the arms around the winner at their tuned learning rates."""
        images, state = self._plan.images, self._record.state
        arms = confirm_plan(self._plan.design, state).to_dict()
        if seeds and arms != state.confirm:
            self._record.append("confirm_planned", **arms)
        missing = missing_confirm_trials(self._plan.design, state, seeds)
        self._run_listed("confirm", missing, confirm_data(images.data, images.split))

    def _run_listed(self, stage: str, missing: list[TrialConfig], data: TrialData) -> None:
        # Seed by seed, so that a stage cut short is even; the most expensive ones first, so that no core waits long at
        # its end.
        missing.sort(key=lambda config: (config.seed, -self._keeper.cost(config).forward_flops))
        state = self._record.state
        searcher = ListSearcher(stage, missing, state, self._keeper.begin, self._keeper.resume)
        self._run(searcher, FIFOScheduler(), data, len(state.in_stage(stage)) + len(missing))

    def _run(self, searcher: StageSearcher, scheduler: TrialScheduler, data: TrialData, trials: int) -> None:
        plan, settings, state = self._plan, self._plan.settings, self._record.state
        if sum(trial.state != "running" for trial in state.in_stage(searcher.stage)) >= trials:
            return
        monitor = Monitor(state, searcher.stage, trials, self._console)
        # Tune's own state is of no use to us: what continues a study is its record.
        with tempfile.TemporaryDirectory(prefix="resnet-study-") as scratch, closing(monitor):
            tune.Tuner(
                ResNetTrainable,
                param_space={
                    "study": self._record.folder.name,
                    "cpus": settings.cpus_per_trial,
                    "gpus": plan.gpus_per_trial,
                    "precision": plan.precision,
                    "checkpoint_seconds": settings.checkpoint_seconds,
                    "data": ray.put(data),
                },
                tune_config=tune.TuneConfig(
                    num_samples=-1,  # the searcher knows when it is done
                    max_concurrent_trials=plan.concurrent,
                    search_alg=searcher,
                    scheduler=scheduler,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: f"trial-{trial.config['trial']}-{trial.trial_id}",
                ),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=scratch,
                    verbose=2 if settings.verbose else 0,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    callbacks=[self._keeper, monitor],
                ),
            ).fit()
