"""Where a study comes from: the command, the code, the packages and the machine."""

import importlib.metadata
import itertools
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from study.resources import usable_cores
from study.settings import without_credentials
from trainables.equipment import cpu_model

PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy", "pandas", "scikit-learn", "pillow")


def command() -> str:
    """The command line of this process, without what is asked for once, and without the command of
    `--notify` and the credentials of `--storage`, which are not recorded either."""
    program = ["python", sys.argv[0]] if sys.argv[0].endswith(".py") else [Path(sys.argv[0]).name]
    kept = [
        without_credentials(word) if "--storage" in (before, word.partition("=")[0]) else word
        for before, word in itertools.pairwise(["", *sys.argv[1:]])
        if before != "--notify"
        and word not in ("--retry-failed", "--notify")
        and not word.startswith("--notify=")
    ]
    return shlex.join([*program, *kept])


def git_commit() -> str | None:
    """The commit of the code that runs, `+changes` behind it where files differ; None outside a
    checkout."""
    command = ["git", "-C", str(Path(__file__).resolve().parent.parent), "describe"]
    command += ["--always", "--exclude=*", "--abbrev=40", "--dirty=+changes"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def machine() -> dict[str, Any]:
    """The machine that the driver runs on."""
    import torch  # not with the module: that takes seconds, and `command` needs none of it

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "gpus": gpus,
    }


def package_versions() -> dict[str, str]:
    """The versions of the packages that a result may depend on."""
    return {package: importlib.metadata.version(package) for package in PACKAGES}
