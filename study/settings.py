"""What a person may ask for: one dataclass, which is also the command line."""

import argparse
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn, get_args

from study.design_files import KNOWN, check_samples
from study.designs import DESIGNS, Design
from trainables.config import UsageError


def _option(default: Any, text: str, expected: str = "", check: Any = None) -> Any:
    """A field that is an option: its help, and what it may be in words and by a check."""
    return field(default=default, metadata={"help": text, "expected": expected, "check": check})


def _at_least(least: float) -> Any:
    return lambda value: value >= least


def _one_of(*choices: str) -> tuple[str, Any]:
    return ", ".join(choices), choices.__contains__


MOST_SEEDS = 20
"""Up to so many confirm seeds `--confirm-until-width` adds."""


@dataclass(frozen=True)
class StudySettings:
    """The options of the command. None means that the study decides, as the option's help says."""

    samples: int | None = _option(
        None,
        "search trials in all, baselines included (default: the design's, 20)",
        "an integer from 1",
        _at_least(1),
    )
    design: str = _option(
        "search",
        f"which factors are varied: {KNOWN}",
        KNOWN,
        lambda design: design in DESIGNS or design.endswith(".toml"),
    )
    confirm_seeds: int = _option(
        5,
        "seeds that the confirmed arms are trained with on all training images",
        "an integer from 0",
        _at_least(0),
    )
    confirm_until_width: float | None = _option(
        None,
        f"add seeds until every effect is known within ± so many points, at most {MOST_SEEDS} seeds",
        "a number above 0 (percentage points)",
        lambda width: 0 < width < math.inf,
    )
    dataset: str | None = _option(
        None,
        "cifar10, cifar100, mnist, fashion-mnist, digits or a folder of images "
        "(default: cifar10 where there is a GPU and the images are available, else digits)",
    )
    data_dir: str = _option("data", "where data sets are kept")
    train_images: int | None = _option(
        None,
        "train and validate on this many images (default: all)",
        "an integer from 1",
        _at_least(1),
    )
    image_size: int = _option(
        32,
        "pixels a side, for a folder of images",
        "an integer from 8 to 1024",
        lambda n: 8 <= n <= 1024,
    )
    skip_bad_images: bool = _option(False, "skip files of a folder that cannot be read")
    epochs: int | None = _option(
        None,
        "epochs of a trial that is not stopped (default: 4 for digits, else 20)",
        "an integer from 1 to 1048576",
        lambda n: 1 <= n <= 1 << 20,
    )
    seed: int = _option(
        0,
        "of initialisation, order of images and search",
        "an integer from 0 to 2147483647",
        lambda n: 0 <= n < 2**31,
    )
    name: str | None = _option(
        None,
        "of the study's directory (default: DESIGN-DATASET)",
        "up to 200 letters, digits, '.', '_' and '-', not '.' or '-' first",
        re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}").fullmatch,
    )
    results_dir: str = _option("results", "where studies are kept")
    max_concurrent: int | None = _option(
        None,
        "trials at once (default: as many as fit, at most 8)",
        "an integer from 1",
        _at_least(1),
    )
    cpus_per_trial: int = _option(1, "threads of a trial", "an integer from 1", _at_least(1))
    gpus_per_trial: float | None = _option(
        None,
        "GPUs of a trial, may be a fraction (default: a quarter where there is a GPU)",
        "a number from 0, whole above 1",
        lambda n: 0 <= n <= 1 or (n > 1 and float(n).is_integer()),
    )
    address: str | None = _option(
        None, "a Ray cluster to join, 'auto' or HOST:PORT (default: start Ray here)"
    )
    scheduler: str | None = _option(
        None,
        "what stops weak trials early: asha or fifo (default: asha; fifo in a factorial design)",
        *_one_of("asha", "fifo"),
    )
    sampler: str | None = _option(
        None,
        "what picks the next trial: tpe, gp, random or qmc (default: tpe; qmc in a factorial design)",
        *_one_of("tpe", "gp", "random", "qmc"),
    )
    precision: str = _option(
        "auto",
        "of the network's arithmetic; auto takes the faster",
        *_one_of("auto", "float32", "bf16"),
    )
    checkpoint_seconds: float = _option(
        60.0,
        "seconds of training between the checkpoints of a trial",
        "a finite number from 0",
        lambda n: 0 <= n < math.inf,
    )
    retry_failed: bool = _option(False, "try the study's failed trials again")
    show_design: bool = _option(False, "print the design as a file for --design, and end")
    dashboard: bool = _option(True, "serve Ray's dashboard on this machine's loopback address")
    verbose: bool = _option(False, "show what Ray prints")

    def __post_init__(self) -> None:
        for item in fields(self):
            value, check = getattr(self, item.name), item.metadata["check"]
            # `not (... <= ...)` catches NaN too; None is expected where it is the default.
            if value is None and item.default is None:
                continue
            if check is not None and not check(value):
                raise UsageError(
                    f"{_flag(item.name)}: invalid value {value!r}: expected {item.metadata['expected']}"
                )

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, ready for JSON."""
        return asdict(self)

    def folder(self, dataset: str) -> Path:
        """The study's directory: `name`, or DESIGN-DATASET with a dash for what a name may not
        hold."""
        kind = Path(os.path.expanduser(dataset)).resolve().name
        return Path(os.path.expanduser(self.results_dir)).resolve() / (
            self.name
            or re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(self.design).stem}-{kind}").lstrip(".-")[
                :200
            ]
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


class _Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line, as every other wrong use is told."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(re.sub(r"^argument (--[\w-]+)(?:/--[\w-]+)?: ", r"\1: ", message))


QUESTION = (
    *(
        "dataset",
        "epochs",
        "seed",
        "train_images",
        "image_size",
        "precision",
        "scheduler",
        "sampler",
    ),
    *("cpus_per_trial", "gpus_per_trial"),
)
"""What may not change once a study was begun."""
EXPECTED = "expected the same, or another --name"


def continued(given: Mapping[str, Any], recorded: Mapping[str, Any], name: str) -> StudySettings:
    """The settings that continue the study `name`: as given, else as recorded.

    Raises:
        UsageError: what is given would change the question.
    """
    # Precision is decided once, and a folder of images may have been moved: they are compared
    # themselves.
    given = {item: value for item, value in given.items() if (item, value) != ("precision", "auto")}
    changed = [
        f"{_flag(item)}: invalid value {given[item]!r}, the study has {recorded[item]!r}"
        for item in QUESTION
        if item in given
        and given[item] != recorded.get(item, given[item])
        and not (
            item == "dataset" and Path(given[item]).resolve().name == Path(recorded[item]).name
        )
    ]
    if changed:
        raise UsageError(f"{'; '.join(changed)}: {EXPECTED}")
    # The directory may have been moved; what is asked for once is not a property of the study.
    once = {"results_dir", "retry_failed", "show_design", "confirm_until_width"}
    kept = {item.name for item in fields(StudySettings)} - once
    old = {item: recorded[item] for item in recorded if item in kept}
    old["samples"] = (
        old["samples"] or None
    )  # 0 where there is no search stage: what its design decides
    return StudySettings(**old | given | {"name": name})


@dataclass(frozen=True)
class DecidedSettings(StudySettings):
    """Settings in which the design has decided what was left to it."""

    samples: int = 0
    scheduler: str = ""
    sampler: str = ""

    def __post_init__(self) -> None:
        """What was given has been checked."""


def decided(settings: StudySettings, design: Design) -> DecidedSettings:
    """The settings with the samples, scheduler and sampler that the design decides where none are
    given.

    Raises:
        UsageError: the design cannot have those that are given.
    """
    factorial = design.search == "factorial"
    samples = design.samples if settings.samples is None else settings.samples
    try:
        check_samples(design, samples)
    except UsageError as error:
        raise UsageError(f"--{error}") from error
    if factorial and settings.scheduler == "asha":
        raise UsageError(f"--scheduler: invalid value 'asha': expected fifo (design {design.name})")
    if design.search == "none" and not settings.confirm_seeds:
        raise UsageError(
            f"--confirm-seeds: invalid value 0: expected an integer from 1 (design {design.name})"
        )
    usual = (
        {"scheduler": "fifo", "sampler": "qmc"}
        if factorial
        else {"scheduler": "asha", "sampler": "tpe"}
    )
    chosen = {name: getattr(settings, name) or value for name, value in usual.items()}
    return DecidedSettings(**settings.to_dict() | chosen | {"samples": samples})


def parse_settings(arguments: Sequence[str]) -> dict[str, Any]:
    """The settings that a command line, without the program's name, gives; those left out are left
    out.

    Raises:
        UsageError: an option is unknown, or its value is not allowed.
    """
    parser = _Parser(
        prog="resnet-study",
        description="Run a study: which parts of a ResNet matter on these images?",
        allow_abbrev=False,
    )
    for item in fields(StudySettings):
        text = item.metadata["help"]
        if isinstance(item.default, bool):
            parser.add_argument(_flag(item.name), action=argparse.BooleanOptionalAction, help=text)
            continue
        if item.default is not None:
            text += f" (default: {item.default})"
        parser.add_argument(
            _flag(item.name),
            type=_reader(item),
            metavar=item.name.split("_")[-1].upper(),
            help=text,
        )
    given = {
        name: value
        for name, value in vars(parser.parse_args(arguments)).items()
        if value is not None
    }
    StudySettings(**given)
    return given


def _reader(item: Field[Any]) -> Callable[[str], Any]:
    """What turns an option's text into its value; the type is the field's, without its None."""
    kind = next(iter(get_args(item.type)), item.type)

    def read(text: str) -> Any:
        try:
            return kind(text)  # type: ignore[operator]
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"invalid value {text!r}: expected {item.metadata['expected']}"
            ) from None

    return read
