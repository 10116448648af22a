"""From what a person asked to what will run: everything that was left open is decided here, and said.

`Plan` is complete: no later step chooses anything. What was chosen or fell back stands in `notes`.
"""

import importlib.metadata
import json
import logging
import os
import pickle
import platform
import shlex
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
import torch

from study.confirm import most_arms, most_tune_trials
from study.design_files import design_from, read_design
from study.designs import Design
from study.record import StudyState, has_study
from study.settings import ALLOWED, DecidedSettings, StudySettings, continued, decided
from trainables.config import TrialConfig, UsageError
from trainables.datasets import (
    DataUnavailable,
    ImageData,
    Part,
    Split,
    TrialData,
    duplicates,
    load_images,
    split_images,
)
from trainables.resnet import network_cost
from trainables.training import PRECISIONS, time_training

log = logging.getLogger("study")

MOST_CONCURRENT = 8
"""Trials at once unless the person says more: a searcher with many trials in flight learns little."""
GPU_SHARE = 0.25
PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy", "pandas", "scikit-learn", "pillow")


class CannotStart(Exception):  # noqa: N818
    """What trials run on cannot be started: one line that says why."""


def error_line(text: str) -> str:
    """The line of a traceback that says what went wrong; running out of memory is named as that."""
    lines = [line.strip() for line in text.splitlines()]
    memory = [line for line in lines if "OutOfMemoryError" in line or "low on memory" in line]
    return textwrap.shorten(f"out of memory: {memory[0]}" if memory else lines[-1], 300, placeholder=" …")


TIMING = """
import json, pickle, sys
from trainables.training import time_training
json.dump(time_training(*pickle.load(sys.stdin.buffer)), sys.stdout)
"""


@dataclass(frozen=True)
class Images:
    """The images of a study: where they came from, why them, and their parts."""

    data: ImageData
    split: Split
    chosen: str | None

    @cached_property
    def duplicates(self) -> dict[str, int]:
        """See `trainables.datasets.duplicates`."""
        return duplicates(self.split)


def resolve_images(settings: StudySettings, recorded: str | None = None) -> Images:
    """The asked data set, or the default one with the reason for it.

    Raises:
        UsageError: there is no such data set, too little in it, something else is where the study would be,
            or the images have not the fingerprint that is recorded.
        DataUnavailable: it cannot be had.
    """
    if settings.dataset is not None:
        images = _images(settings, settings.dataset, None)
        if recorded not in (None, images.data.fingerprint):
            found = f"received {settings.dataset!r} with fingerprint {images.data.fingerprint}"
            raise UsageError(f"--dataset: {found}, the study has {recorded}; {ALLOWED}")
        return images
    if not torch.cuda.is_available():
        return _images(settings, "digits", "no --dataset given, and no GPU on this machine for cifar10")
    try:
        return _images(settings, "cifar10", "no --dataset given, and this machine has a GPU")
    except DataUnavailable as error:
        return _images(settings, "digits", f"no --dataset given, and cifar10 cannot be had: {error}")


def _images(settings: StudySettings, dataset: str, chosen: str | None) -> Images:
    log.info("data set: %s", f"{dataset} ({chosen})" if chosen else dataset)
    folder = settings.folder(dataset)
    try:
        with tempfile.TemporaryFile(dir=next(parent for parent in folder.parents if parent.exists())):
            pass
    except OSError as error:
        allowed = f"allowed: a folder that can be written to ({error.strerror})"
        raise UsageError(f"--results-dir: received {settings.results_dir!r}, {allowed}") from error
    # A driver that was killed before its first line leaves an empty record.
    empty = not folder.exists() or (folder.is_dir() and {path.name for path in folder.iterdir()} <= {"record.jsonl"})
    if not empty and not has_study(folder):
        raise UsageError(f"--name: received {folder.name!r}, but {folder} is no study, allowed: a name not taken")
    data = load_images(dataset, Path(settings.data_dir), settings.image_size, settings.skip_bad_images)
    return Images(data, split_images(data, settings.train_images), chosen)


def find_study(settings: StudySettings) -> Path | None:
    """The directory of the study that these settings continue; None where they begin one."""
    default = ["cifar10", "digits"] if torch.cuda.is_available() else ["digits"]
    names = [settings.dataset] if settings.dataset is not None else default
    return next((folder for folder in map(settings.folder, names) if has_study(folder)), None)


def begin_study(given: Mapping[str, Any]) -> tuple[DecidedSettings, Design]:
    """The settings and the design of a new study.

    Raises:
        UsageError: there is no such design, or it does not go with the settings.
    """
    settings = StudySettings(**given)
    design = read_design(settings.design)
    # A baseline's own budget of epochs gives way to one that is asked for.
    return decided(settings, design), design.one_budget() if settings.epochs else design


def continue_study(given: Mapping[str, Any], state: StudyState, folder: Path) -> tuple[DecidedSettings, Design]:
    """The settings that continue a study: what is given, else what is recorded; and its design, as recorded.

    Raises:
        UsageError: they ask another question.
    """
    settings = continued(given, state.header["settings"], folder.name)
    recorded = {key: value for key, value in state.header["design"].items() if key != "name"}
    design = design_from(state.header["design"]["name"], recorded)
    if state.version == 1:
        design = design.with_running_statistics()
    if "design" in given:
        asked = read_design(given["design"])
        if state.version == 1:
            asked = asked.with_running_statistics()
        if design == design.one_budget():  # by --epochs, perhaps
            asked = asked.one_budget()
        if json.loads(json.dumps(asked.to_dict())) != json.loads(json.dumps(design.to_dict())):
            raise UsageError(f"--design: received {given['design']!r}, which is not the design of the study; {ALLOWED}")
    settings = decided(settings, design)
    # Trials that have begun are not taken back.
    return replace(settings, samples=max(settings.samples, len(state.in_stage("search")))), design


@dataclass(frozen=True)
class Plan:
    """All that decides what a study computes and where."""

    settings: DecidedSettings
    design: Design
    images: Images
    epochs: int
    precision: str
    concurrent: int
    gpus_per_trial: float
    estimate_seconds: float
    notes: tuple[str, ...]

    @property
    def dataset(self) -> str:
        """The data set as it was asked for, or the name of the default one."""
        return self.settings.dataset or self.images.data.name

    @property
    def folder(self) -> Path:
        """The study's directory."""
        return self.settings.folder(self.dataset)

    def resolved_settings(self) -> dict[str, Any]:
        """The settings, with what was decided in place of what was left open."""
        resolved = {
            "name": self.folder.name,
            "dataset": self.dataset,
            "epochs": self.epochs,
            "precision": self.precision,
            "max_concurrent": self.concurrent,
            "gpus_per_trial": self.gpus_per_trial,
        }
        return self.settings.to_dict() | resolved

    def header(self) -> dict[str, Any]:
        """The record's first event: the study and how it is made."""
        data, split = self.images.data, self.images.split
        counts = {name: len(getattr(split, name).labels) for name in ("train", "validation", "test")}
        return {
            "name": self.folder.name,
            "design": {"name": self.design.name, **self.design.to_dict()},
            "dataset": {
                "name": data.name,
                "chosen": self.images.chosen,
                "fingerprint": data.fingerprint,
                "counts": counts,
                "available": len(data.train.labels),
                "image_shape": list(data.image_shape),
                "classes": list(data.classes),
                "skipped": data.skipped,
                "duplicates": self.images.duplicates,
            },
            "settings": self.resolved_settings(),
            "notes": list(self.notes),
            "command": command(),
            "git": git_commit(),
            "packages": {package: importlib.metadata.version(package) for package in PACKAGES},
            "machine": machine(),
        }


def make_plan(settings: DecidedSettings, design: Design, images: Images, timings: Mapping[str, float] | None) -> Plan:
    """Decide what is left open; Ray must be up, for it tells what the machine or cluster has.

    `timings` are those of `timing_here`; where it gave none they are taken now.

    Raises:
        UsageError: a trial needs more than any machine has.
        CannotStart: training could not be timed.
    """
    own = [values["max_epochs"] for values in design.baselines.values() if "max_epochs" in values]
    epochs = settings.epochs or max(own, default=6 if images.data.name == "digits" else 20)
    gpus = _gpus_per_trial(settings)
    concurrent, notes = _concurrent(settings, gpus)
    if images.data.skipped:
        notes.append(f"data set: {images.data.skipped} files that could not be read were passed over")
    if any(images.duplicates.values()):
        copies = " and ".join(f"{count} {part}" for part, count in images.duplicates.items())
        notes.append(f"data set: {copies} images equal one that is trained on, pixel by pixel")
    left_out = list(design.baselines)[settings.samples :] if design.search != "none" else []
    if left_out:
        notes.append(f"baselines: left out for want of samples: {', '.join(left_out)}")
    if settings.sampler == "gp" and settings.scheduler == "asha":
        notes.append("sampler: gp learns from complete trials only, and asha lets few complete")
    if timings is None:
        # In a process that ends with it, for it would keep a GPU's memory; `options` does not take that.
        remote = ray.remote(num_cpus=settings.cpus_per_trial, num_gpus=gpus, max_calls=1)(time_training)
        try:
            timings = ray.get(remote.remote(*_timing(settings, design, images, gpus)))
        except ray.exceptions.RayError as error:
            hint = "; --gpus-per-trial 0 trains on the CPU" if gpus else ""
            reason = error_line(str(error) or type(error).__name__)
            raise CannotStart(f"training cannot be timed: {reason}{hint}") from error
    precision = min(timings, key=lambda name: timings[name])
    if settings.precision == "auto":
        speeds = ", ".join(f"{name} {1 / seconds:.0f} images/s" for name, seconds in timings.items())
        why = "the faster" if len(timings) > 1 else "this processor has no bf16 instructions"
        notes.append(f"precision: {precision}, {why} (the dearest arm: {speeds})")
    estimate = _trial_seconds(settings, design, images, epochs, timings[precision]) / concurrent
    return Plan(settings, design, images, epochs, precision, concurrent, gpus, estimate, tuple(notes))


def _gpus_per_trial(settings: StudySettings) -> float:
    if settings.address is None and not torch.cuda.is_available():
        # Ray counts a GPU that torch cannot use, too.
        if settings.gpus_per_trial:
            allowed = "0 where torch finds no GPU that it can use"
            raise UsageError(f"--gpus-per-trial: received {settings.gpus_per_trial:g}, allowed: {allowed}")
        return 0.0
    if settings.gpus_per_trial is not None:
        return settings.gpus_per_trial
    return GPU_SHARE if ray.cluster_resources().get("GPU", 0) else 0.0


def _concurrent(settings: StudySettings, gpus: float) -> tuple[int, list[str]]:
    """How many trials run at once, and what is to be said of it."""
    needs = {"CPU": float(settings.cpus_per_trial), "GPU": gpus}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for resource, option in (("CPU", "--cpus-per-trial"), ("GPU", "--gpus-per-trial")):
        most = max(node.get(resource, 0) for node in nodes)
        if needs[resource] > most:
            raise UsageError(f"{option}: received {needs[resource]:g}, allowed: at most {most:g}, what a machine has")
    fit = sum(min(_fit(node.get(name, 0), need) for name, need in needs.items() if need) for node in nodes)
    fit = max(fit, 1)
    if settings.max_concurrent is None:
        if fit <= MOST_CONCURRENT:
            return fit, []
        said = f"max_concurrent: {MOST_CONCURRENT} of the {fit} that fit: with many trials in flight a searcher"
        return MOST_CONCURRENT, [f"{said} learns little; --max-concurrent takes more"]
    if settings.max_concurrent > fit:
        return fit, [f"max_concurrent: asked {settings.max_concurrent}, only {fit} fit"]
    return settings.max_concurrent, []


def _fit(there: float, need: float) -> int:
    """How many trials of this need fit; none has shares of two GPUs."""
    return int(there) * int(1 / need) if need < 1 else int(there / need)


@contextmanager
def timing_here(
    settings: DecidedSettings, design: Design, images: Images
) -> Iterator[Callable[[], dict[str, float] | None]]:
    """Begin `time_training` in a process of its own, where this machine's CPU is sure to be what trials run on.

    Gives what waits for its result; that is None where it was not begun, or could not be ended. Unlike a task of
    Ray it can run while Ray starts, and leaves Ray's first processes to the first trials.
    """
    gpu = torch.cuda.is_available() and settings.gpus_per_trial != 0
    if settings.address is not None or gpu or settings.cpus_per_trial > (os.cpu_count() or 1):
        yield lambda: None
        return
    # In a session of its own, for Ctrl-C reaches every process of a terminal's, and this one is ended below.
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    process = subprocess.Popen([sys.executable, "-P", "-c", TIMING], **pipes)
    assert process.stdin and process.stdout
    with suppress(BrokenPipeError), process.stdin as sent:
        pickle.dump(_timing(settings, design, images, 0), sent)

    def result() -> dict[str, float] | None:
        assert process.stdout
        said = process.stdout.read()
        return json.loads(said) if process.wait() == 0 else None

    try:
        yield result
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _timing(
    settings: DecidedSettings, design: Design, images: Images, gpus: float
) -> tuple[TrialConfig, TrialData, Sequence[str], int, bool]:
    """What `time_training` is to time: a few images, the dearest arm, the precisions left open."""
    data, flops = images.data, _flops(design, images, 1)
    # A core may need a second for ten images of the dearest arm, a GPU is not even warm after them.
    count = 1024 if gpus else 16
    sample = Part(data.train.images[:count].copy(), data.train.labels[:count].copy())
    asked = PRECISIONS if settings.precision == "auto" else (settings.precision,)
    dearest = max(flops, key=lambda arm: flops[arm])
    few = TrialData(sample, None, None, len(data.classes), data.flip)
    return dearest, few, asked, settings.cpus_per_trial, gpus > 0


def _flops(design: Design, images: Images, epochs: int) -> dict[TrialConfig, int]:
    """FLOPs of a forward pass of an image, by network of the design; its trials have so many epochs, or their own."""
    shape, classes = images.data.image_shape, len(images.data.classes)
    return {arm: network_cost(arm, shape, classes).forward_flops for arm in design.networks(epochs)}


def _trial_seconds(
    settings: DecidedSettings, design: Design, images: Images, epochs: int, image_seconds: float
) -> float:
    """Of the whole study, roughly, where training takes the dearest arm `image_seconds` an image.

    Time is taken to go by FLOPs, evaluation to cost a third of training, and ASHA to save half of the epochs.
    """
    flops, split = _flops(design, images, epochs), images.split
    train, validation, test = (len(part.labels) for part in (split.train, split.validation, split.test))
    search = settings.samples * (train + validation / 3) * (0.5 if settings.scheduler == "asha" else 1.0)
    confirm = settings.confirm_seeds * most_arms(design) * (train + validation + test / 3)
    tune = most_tune_trials(design) * (train + validation / 3) if settings.confirm_seeds else 0
    mean = sum(cost * network.max_epochs for network, cost in flops.items()) / len(flops) / max(flops.values())
    return (search + tune + confirm) * mean * image_seconds


def command() -> str:
    """The command line of this process, without what is asked for once."""
    program = ["python", sys.argv[0]] if sys.argv[0].endswith(".py") else [Path(sys.argv[0]).name]
    return shlex.join([*program, *(each for each in sys.argv[1:] if each != "--retry-failed")])


def git_commit() -> str | None:
    """The commit of the code that runs, `+changes` behind it where files differ; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).resolve().parent.parent), "describe"]
    command += ["--always", "--exclude=*", "--abbrev=40", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def machine() -> dict[str, Any]:
    """The machine that the driver runs on."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": gpus,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
