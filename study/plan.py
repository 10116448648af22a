"""From what a person asked to what will run: everything left open is decided here.

`Plan` is complete: no later step chooses anything. What was chosen or fell back is in `notes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.arms import most_arms
from study.confirm import most_tune_trials
from study.designs import Design
from study.images import Images, absolute, dataset_for_record
from study.provenance import command, git_commit, machine, package_versions
from study.resources import Resources, concurrent_trials, gpus_per_trial
from study.settings import DecidedSettings
from study.timing import forward_flops, largest_trial
from trainables.vocabulary import SearchMode


@dataclass(frozen=True)
class Plan:
    """All that decides what a study computes and where."""

    settings: DecidedSettings
    design: Design
    images: Images
    epochs: int
    confirm_seeds: int
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
            "dataset": dataset_for_record(self.dataset),
            "data_dir": absolute(self.settings.data_dir),
            "flip": self.images.data.flip,
            "epochs": self.epochs,
            "confirm_seeds": self.confirm_seeds,
            "precision": self.precision,
            "max_concurrent": self.concurrent,
            "gpus_per_trial": self.gpus_per_trial,
        }
        return self.settings.to_dict() | resolved

    def header(self) -> dict[str, Any]:
        """The record's first event: the study and how it is made."""
        return {
            "name": self.folder.name,
            "design": {"name": self.design.name, **self.design.to_dict()},
            "dataset": self.images.to_dict(),
            "settings": self.resolved_settings(),
            "notes": list(self.notes),
            "command": command(),
            "git": git_commit(),
            "packages": package_versions(),
            "machine": machine(),
        }


def make_plan(
    settings: DecidedSettings,
    design: Design,
    images: Images,
    resources: Resources,
    timings: Mapping[str, float],
    seen: Sequence[str] = (),
) -> Plan:
    """Decide what is left open, with the seconds that training takes per image by precision, and
    notes on what was seen of the machines.

    Raises:
        UsageError: a trial needs more than any machine has.
    """
    own = [values["max_epochs"] for values in design.baselines.values() if "max_epochs" in values]
    # Four epochs of the digits choose as well as six (tests/benchmarks/README.md), in two thirds of
    # the time.
    digits = images.data.name == "digits"
    epochs = settings.epochs or max(own, default=4 if digits else 20)
    # With five seeds of the digits two of four factors were decided in the median of five studies,
    # with ten all four (tests/benchmarks/README.md).
    usual_seeds = 10 if digits else 5
    seeds = usual_seeds if settings.confirm_seeds is None else settings.confirm_seeds
    gpus = gpus_per_trial(settings, resources)
    largest = largest_trial(design, images.data)
    concurrent, notes = concurrent_trials(settings, resources, gpus, largest)
    notes += [*images.notes, *seen, *_search_notes(settings, design)]
    precision = min(timings, key=lambda name: timings[name])
    if settings.precision == "auto":
        notes.append(_why_precision(precision, timings))
    plan = Plan(
        settings, design, images, epochs, seeds, precision, concurrent, gpus, 0.0, tuple(notes)
    )
    seconds = _image_epochs(plan) * _relative_cost(plan) * timings[precision]
    return replace(plan, estimate_seconds=seconds / concurrent)


def _search_notes(settings: DecidedSettings, design: Design) -> list[str]:
    """What is to be said of the search stage."""
    notes = []
    left_out = list(design.baselines)[settings.samples :]
    if left_out and design.search != SearchMode.NONE:
        notes.append(f"baselines: skipped, too few samples: {', '.join(left_out)}")
    if settings.sampler == "gp" and settings.scheduler == "asha":
        notes.append("sampler: gp learns from complete trials only, and asha lets few complete")
    return notes


def _why_precision(precision: str, timings: Mapping[str, float]) -> str:
    speeds = ", ".join(f"{name} {1 / seconds:.0f} images/s" for name, seconds in timings.items())
    why = "the faster" if len(timings) > 1 else "no bf16 instructions"
    return f"precision: {precision}, {why} (the most expensive arm: {speeds})"


def _image_epochs(plan: Plan) -> float:
    """The images of all trials of the study, in times that an epoch of training reads one.

    Evaluation is taken to cost a third of training, and ASHA to save half of the epochs.
    """
    settings, split = plan.settings, plan.images.split
    train, validation, test = (
        len(part.labels) for part in (split.train, split.validation, split.test)
    )
    share = 0.5 if settings.scheduler == "asha" else 1.0
    search = settings.samples * (train + validation / 3) * share
    tune = most_tune_trials(plan.design) * (train + validation / 3) if plan.confirm_seeds else 0
    confirm = plan.confirm_seeds * most_arms(plan.design) * (train + validation + test / 3)
    return search + tune + confirm


def _relative_cost(plan: Plan) -> float:
    """Epochs times seconds of the design's mean network, those of the most expensive one being 1.

    On a CPU time is taken to go by FLOPs. A GPU spends it on starting its kernels, of which a
    cheap network has as many as an expensive one of its depth.
    """
    flops = forward_flops(plan.design, plan.images.data, plan.epochs)
    most = max(flops.values())
    costs = [
        network.max_epochs * (1.0 if plan.gpus_per_trial else cost / most)
        for network, cost in flops.items()
    ]
    return sum(costs) / len(costs)
