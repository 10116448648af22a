"""Runs a planned study on Ray Tune and keeps its record; the effects between the plan and the report."""

import csv
import logging
import os
import platform
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from study.monitor import DriverCallback, Monitor, duration
from study.plan import Plan, make_plan, resolve_images
from study.record import Record, StudyState, state_at_end
from study.scheduler import build_scheduler, rungs
from study.searcher import StudySearcher
from study.settings import StudySettings
from trainables.config import EpochMetrics, TrialConfig, UsageError
from trainables.datasets import search_data
from trainables.resnet import network_cost, save_resnet
from trainables.trainable import ResNetTrainable

log = logging.getLogger("study")


class Interrupted:
    """Whether a person or the system asked the study to end."""

    asked = False


class RecordCallback(DriverCallback):
    """Writes what Tune says of the trials into the record, and keeps the winner's weights in `best/`."""

    def __init__(self, record: Record, plan: Plan) -> None:
        self._record = record
        self._plan = plan

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        data = self._plan.images.data
        config = TrialConfig.from_dict(trial.config["config"])
        cost = network_cost(config, data.image_shape, len(data.classes))
        self._record.append(
            "trial_started",
            trial=trial.config["trial"],
            stage=trial.config["stage"],
            origin=trial.config["origin"],
            arm=config.arm,
            config=config.to_dict(),
            parameters=cost.parameters,
            forward_flops=cost.forward_flops,
        )

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        metrics = EpochMetrics(**{name: result[name] for name in EpochMetrics.__dataclass_fields__})
        self._record.append("epoch", trial=trial.config["trial"], node=result["hostname"], **metrics.to_dict())
        # Taken out, for Tune keeps a trial's last result in its own snapshots.
        export = result.pop("export", None)
        if export is not None and self._would_win(trial.config["trial"]):
            self._save_best(trial.config["trial"], ray.get(export))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        result = trial.last_result
        state = state_at_end(result["epoch"], result["diverged"], self._plan.epochs)
        self._record.append("trial_ended", trial=trial.config["trial"], state=state, error="")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        if trial.config["trial"] not in self._record.state.trials:
            # Its process died before it began: Tune tells of the error, but never of the start.
            self.on_trial_start(iteration, trials, trial)
        # Not `trial.get_error()`: that reads the copy in Tune's storage, which is not there yet.
        file = Path(trial.error_file) if trial.error_file else None
        lines = file.read_text(encoding="utf-8").strip().splitlines() if file and file.exists() else []
        error = lines[-1].strip() if lines else "the trial's process ended"
        self._record.append("trial_ended", trial=trial.config["trial"], state="failed", error=error)

    def _would_win(self, number: int) -> bool:
        winner = self._record.state.winner()
        return winner is None or self._record.state.trials[number].rank > winner.rank

    def _save_best(self, number: int, export: dict[str, Any]) -> None:
        folder = self._record.folder / "best"
        data = self._plan.images.data
        trial = self._record.state.trials[number]
        save_resnet(
            folder,
            TrialConfig.from_dict(trial.config),
            image_shape=data.image_shape,
            classes=data.classes,
            pixel_mean=export["pixel_mean"],
            pixel_std=export["pixel_std"],
            weights=export["weights"],
        )
        confusion = export["confusion"]
        with (folder / "confusion_matrix.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["true class", *data.classes])
            writer.writerows([name, *counts] for name, counts in zip(data.classes, confusion, strict=True))
        with (folder / "accuracy_by_class.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["class", "images", "validation_accuracy"])
            for index, (name, counts) in enumerate(zip(data.classes, confusion, strict=True)):
                writer.writerow([name, sum(counts), counts[index] / sum(counts)])


def run_study(settings: StudySettings, console: Console) -> tuple[Path, StudyState, bool]:
    """Run the search stage of a study, from its images to its record.

    Returns the study's directory, what its record says, and whether it was interrupted.

    Raises:
        UsageError: something asked for cannot be; nothing was started.
        DataUnavailable: the images cannot be had; nothing was started.
    """
    images = resolve_images(settings)
    with ray_running(settings) as dashboard:
        plan = make_plan(settings, images)
        record = Record.create(plan.folder, plan.header())
        with study_log(record.folder):
            _announce(plan, dashboard)
            started = time.monotonic()
            record.append("driver_started", pid=os.getpid(), host=platform.node())
            try:
                with interruptible() as interrupted:
                    _search(plan, record, console)
            finally:
                record.append("driver_ended", seconds=time.monotonic() - started)
                record.close()
    return record.folder, record.state, interrupted.asked


@contextmanager
def ray_running(settings: StudySettings) -> Iterator[str]:
    """Ray, started here or joined, quiet unless asked; gives the dashboard's address, or an empty text."""
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
    except (OSError, ValueError) as error:
        if settings.address is None:
            raise
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"--address: received {settings.address!r}, allowed: a running cluster ({reason})") from error
    try:
        yield context.dashboard_url or ""
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raise `OSError` or `ValueError` where nothing listens at HOST:PORT, for which Ray would wait for minutes."""
    if address not in (None, "auto", "local"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def study_log(folder: Path) -> Iterator[None]:
    """While it lasts, what is said on the terminal also goes to `study.log`, with the time."""
    handler = logging.FileHandler(folder / "study.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


@contextmanager
def interruptible() -> Iterator[Interrupted]:
    """While it lasts, SIGINT and SIGTERM end the search in good order; a second one ends it at once."""
    interrupted = Interrupted()

    def ask(number: int, _: Any) -> None:
        interrupted.asked = True
        for each, handler in before.items():
            signal.signal(each, handler)
        log.warning("asked to end; a second signal ends at once")
        # Tune ends its experiment in good order on this signal.
        signal.raise_signal(signal.SIGUSR1)

    before = {each: signal.signal(each, ask) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _announce(plan: Plan, dashboard: str) -> None:
    """Say what will run, where, for about how long, and how to watch it."""
    data, split, settings = plan.images.data, plan.images.split, plan.settings
    shape = "×".join(str(size) for size in data.image_shape)
    counts = f"{len(split.train.labels)} training, {len(split.validation.labels)} validation images"
    log.info("study: %s: design %s, %s of %s pixels", plan.folder.name, plan.design.name, counts, shape)
    for note in plan.notes:
        log.info("%s", note)
    stops = f", stopping at epochs {rungs(plan.epochs)}" if settings.scheduler == "asha" else ""
    log.info(
        "will run: %d trials of at most %d epochs (%s, %s%s), %d at once, %d thread%s and %g GPUs each",
        *(settings.samples, plan.epochs, settings.sampler, settings.scheduler, stops, plan.concurrent),
        *(settings.cpus_per_trial, "s" if settings.cpus_per_trial > 1 else "", plan.gpus_per_trial),
    )
    log.info("estimate: about %s", duration(plan.estimate_seconds))
    if dashboard:
        log.info("dashboard: http://%s (the token to sign in with: ray get-auth-token)", dashboard)
    log.info("results: %s", plan.folder)


def _search(plan: Plan, record: Record, console: Console) -> None:
    """The search stage: all trials of the study, by Tune."""
    settings, state = plan.settings, record.state
    # Tune's own state is of no use to us: what continues a study is its record.
    with tempfile.TemporaryDirectory(prefix="resnet-study-") as scratch:
        tuner = tune.Tuner(
            ResNetTrainable,
            param_space={
                "study": record.folder.name,
                "cpus": settings.cpus_per_trial,
                "gpus": plan.gpus_per_trial,
                "precision": plan.precision,
                "data": ray.put(search_data(plan.images.data, plan.images.split)),
            },
            tune_config=tune.TuneConfig(
                num_samples=settings.samples,
                max_concurrent_trials=plan.concurrent,
                search_alg=StudySearcher(plan.design, settings.sampler, settings.samples, plan.epochs, settings.seed),
                scheduler=build_scheduler(settings.scheduler, plan.epochs),
                reuse_actors=True,
                trial_dirname_creator=lambda trial: f"trial-{trial.config['trial']}",
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=scratch,
                verbose=2 if settings.verbose else 0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[
                    RecordCallback(record, plan),
                    Monitor(state, settings.samples, plan.epochs, console),
                ],
            ),
        )
        tuner.fit()
