"""`make bench`: what the README's tables of speed quote. `make bench ARGS="epoch study"` runs some parts of it.

Parts: epoch (a CPU's epoch beside the plain recipe and the machine), profile (by operator), study (a default
study's times), driver (the driver's own work), plain (a study beside a plain one; half an hour), memory (of a
study on RESNET_STUDY_IMAGES), precision (bf16 against float32), choices (readings, samplers and schedulers by
replay). On a machine with a GPU: `python -m tests.benchmarks.gpu`.
"""

import os
import platform
import sys
from collections.abc import Callable

import torch

from study.plan import machine
from tests.benchmarks import choices, driver, epoch, precision, study


def profiles() -> None:
    """Where an epoch goes, by operator."""
    for arm in epoch.ARMS:
        print(f"{arm}:\n{epoch.profile(arm, 'float32')}")


PARTS: dict[str, Callable[[], None]] = {
    "epoch": lambda: epoch.main("float32"),
    "profile": profiles,
    "study": study.default_study,
    "driver": driver.main,
    "plain": study.against_plain,
    "memory": lambda: study.memory(os.environ["RESNET_STUDY_IMAGES"]),
    "precision": precision.main,
    "choices": choices.main,
}


def main(names: list[str]) -> int:
    """Run the named parts, or all."""
    for name in names or list(PARTS):
        if name not in PARTS:
            print(f"received {name!r}, allowed: {', '.join(PARTS)}", file=sys.stderr)
            return 2
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores, {platform.system()}, torch {torch.__version__}")
    for name in names or list(PARTS):
        print(f"\n── {name}", flush=True)
        PARTS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
