"""What a machine has for trials: asked of every node of a cluster before one goes there.

Imports nothing that may be missing there.
"""

import importlib
import importlib.metadata
import platform
from pathlib import Path
from typing import NamedTuple

COMPARED = ("numpy", "ray", "torch")
"""The packages whose versions decide what a trial computes."""


class Equipment(NamedTuple):
    """What a machine has.

    Attributes:
        host: its name.
        cpu: the model of its processor.
        versions: of the packages in `COMPARED`, without what says for which GPU they were built.
        error: why trials cannot be imported there, or an empty text.
    """

    host: str
    cpu: str
    versions: dict[str, str]
    error: str


def equipment() -> Equipment:
    """What this machine has. The process in which it is asked has imported all that a trial needs
    from then on."""
    error = ""
    try:
        importlib.import_module("trainables.trainable")
    except ModuleNotFoundError as missing:
        error = f"{missing.name} is not installed"
    except (ImportError, OSError) as broken:  # a library of the system, for one, is missing
        error = str(broken).splitlines()[0]
    return Equipment(platform.node(), cpu_model(), versions(), error)


def versions() -> dict[str, str]:
    """Of those packages in `COMPARED` that are installed here."""
    installed = {}
    for package in COMPARED:
        try:
            installed[package] = importlib.metadata.version(package).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def cpu_model() -> str:
    """The model of this machine's processor, as its system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
