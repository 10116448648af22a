"""`make bench`: what the README's tables of speed quote. `make bench ARGS="epoch study"` runs some
parts of it.

Parts: epoch (a CPU's epoch beside the plain recipe and the machine), profile (by operator), study
(a default study's times), driver (the driver's own work), plain (a study beside a plain one, on
digits with three seeds and on 1,000 images of RESNET_STUDY_IMAGES with one; an hour), memory (of a
study on RESNET_STUDY_IMAGES), precision (bf16 against float32), readings (which reading foretells a
trial's end), choices (samplers, schedulers and budgets by replay), tuning (an arm's learning rate
by replay), estimate (of a study's time, beside what its networks take), watching (what showing a
study costs). On a machine with a GPU: `python -m tests.benchmarks.gpu`.
"""

import itertools
import os
import platform
import sys
from collections.abc import Callable

import torch

from study.provenance import machine
from tests.benchmarks import (
    choices,
    driver,
    epoch,
    estimate,
    precision,
    readings,
    study,
    tuning,
    watching,
)
from trainables.timing import PRECISIONS, has_bf16


def precisions() -> tuple[str, ...]:
    """Those that this processor has instructions for."""
    return PRECISIONS if has_bf16() else ("float32",)


def epochs() -> None:
    """An epoch beside the plain recipe, in every precision."""
    for name in precisions():
        epoch.main(name)


def profiles() -> None:
    """Where an epoch goes, by operator."""
    for arm, name in itertools.product(epoch.ARMS, precisions()):
        print(f"{arm}, {name}:\n{epoch.profile(arm, name)}")


def plain() -> None:
    """A study beside a plain one: where starting and reporting weigh, and where training does."""
    study.against_plain("digits")
    study.against_plain(os.environ["RESNET_STUDY_IMAGES"], "1000", seeds=1)


PARTS: dict[str, Callable[[], None]] = {
    "epoch": epochs,
    "profile": profiles,
    "study": study.default_study,
    "driver": driver.main,
    "plain": plain,
    "memory": lambda: study.memory(os.environ["RESNET_STUDY_IMAGES"]),
    "precision": precision.main,
    "readings": readings.digits,
    "choices": choices.main,
    "tuning": tuning.main,
    "estimate": estimate.main,
    "watching": watching.main,
}


def main(names: list[str]) -> int:
    """Run the named parts, or all."""
    for name in names or list(PARTS):
        if name not in PARTS:
            print(f"invalid value {name!r}: expected {', '.join(PARTS)}", file=sys.stderr)
            return 2
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores, {platform.system()}, torch {torch.__version__}")
    for name in names or list(PARTS):
        print(f"\n── {name}", flush=True)
        PARTS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
