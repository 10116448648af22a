"""What a person may ask for: one dataclass, whose fields are the options of the command."""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from cyclopts import Group, Parameter, Token

from study.design_files import KNOWN, check_samples
from study.designs import DESIGNS, Design
from trainables.config import UsageError, invalid
from trainables.vocabulary import SearchMode


@dataclass(frozen=True)
class Expected:
    """What the value of an option must be: in words, and by a check."""

    words: str
    accepts: Callable[[Any], bool]


def _integer(least: int, most: float = math.inf) -> Expected:
    words = f"an integer from {least}" + (f" to {most}" if most < math.inf else "")
    return Expected(words, lambda value: least <= value <= most)


def _group(name: str, place: int) -> Parameter:
    return Parameter(group=Group(name, sort_key=place))


STUDY = _group("What to study", 1)
DATA = _group("Data", 2)
BUDGET = _group("Budget", 3)
SEARCH = _group("Search", 4)
CONFIRM = _group("Confirm", 5)
RESOURCES = _group("Resources", 6)
OUTPUT = _group("Output", 7)


def _whole(kind: Any, tokens: Sequence[Token]) -> int:
    """cyclopts itself would round 2.5."""
    return int(tokens[0].value)


COUNT = Parameter(metavar="N", converter=_whole)
N = Parameter(metavar="N")
NAME = Parameter(metavar="NAME")
DIR = Parameter(metavar="DIR")
FLAG = Parameter(show_default=lambda is_on: "on" if is_on else "off")
ONCE = Parameter(show_default=False, negative="")
SECONDS = Parameter(metavar="SECONDS")


@dataclass(frozen=True)
class StudySettings:
    """The options of the command; None means that the study decides, as an option's help says."""

    design: Annotated[
        str,
        STUDY,
        NAME,
        Expected(KNOWN, lambda name: name in DESIGNS or name.endswith(".toml")),
    ] = "search"
    """Design, which says what factors are varied: search, course, stem, degradation, recipe, or a
    file that ends in .toml."""

    show_design: Annotated[bool, STUDY, ONCE] = False
    """Print the design as a file for --design, and exit."""

    name: Annotated[
        str | None,
        STUDY,
        NAME,
        Expected(
            "up to 200 letters, digits, '.', '_' and '-', not '.' or '-' first",
            re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}").fullmatch,
        ),
    ] = None
    """Name of the study's directory (default: DESIGN-DATASET). A study of this name is resumed."""

    seed: Annotated[int, STUDY, COUNT, _integer(0, 2**31 - 1)] = 0
    """Seed of initialisation, order of images and search."""

    dataset: Annotated[str | None, DATA, NAME] = None
    """Data set: cifar10, cifar100, mnist, fashion-mnist, digits or a folder of images (default:
    cifar10 where there is a GPU and the images are available, else digits)."""

    data_dir: Annotated[str, DATA, DIR] = "data"
    """Directory where data sets are kept."""

    train_images: Annotated[int | None, DATA, COUNT, _integer(1)] = None
    """Number of images to train and validate on (default: all)."""

    image_size: Annotated[int, DATA, COUNT, _integer(8, 1024)] = 32
    """Width and height in pixels to which the images of a folder are scaled."""

    skip_bad_images: Annotated[bool, DATA, FLAG] = False
    """Skip files of a folder that are unreadable."""

    flip: Annotated[bool | None, DATA, Parameter(show_default=False)] = None
    """Mirror training images at random (default: on, but off for digits, mnist and
    fashion-mnist)."""

    samples: Annotated[int | None, BUDGET, COUNT, _integer(1)] = None
    """Number of search trials in all, baselines included (default: the design's, 20)."""

    epochs: Annotated[int | None, BUDGET, COUNT, _integer(1, 1 << 20)] = None
    """Epochs of a trial that is not stopped (default: 4 for digits, else 20)."""

    sampler: Annotated[Literal["tpe", "gp", "random", "qmc"] | None, SEARCH, NAME] = None
    """Sampler, which picks the next trial (default: tpe; qmc in a factorial design)."""

    scheduler: Annotated[Literal["asha", "fifo"] | None, SEARCH, NAME] = None
    """Scheduler, which stops weak trials early (default: asha; fifo in a factorial design)."""

    retry_failed: Annotated[bool, SEARCH, ONCE] = False
    """Try the study's failed trials again."""

    confirm_seeds: Annotated[int | None, CONFIRM, COUNT, _integer(0)] = None
    """Number of seeds with which every confirmed arm is trained, on all training images (default:
    10 for digits, else 5)."""

    confirm_until_width: Annotated[
        float | None,
        CONFIRM,
        N,
        Expected("a number above 0 (percentage points)", lambda width: 0 < width < math.inf),
    ] = None
    """Add seeds, up to 20, until every effect is known within ± this many percentage points."""

    max_concurrent: Annotated[int | None, RESOURCES, COUNT, _integer(1)] = None
    """Number of trials at once (default: as many as fit, at most 8)."""

    cpus_per_trial: Annotated[int, RESOURCES, COUNT, _integer(1)] = 1
    """Number of threads per trial."""

    gpus_per_trial: Annotated[
        float | None,
        RESOURCES,
        N,
        Expected(
            "0 to 1 or an integer",
            lambda gpus: 0 <= gpus <= 1 or (gpus > 1 and float(gpus).is_integer()),
        ),
    ] = None
    """GPUs per trial, may be a fraction (default: a quarter where there is a GPU)."""

    precision: Annotated[Literal["auto", "float32", "bf16"], RESOURCES, NAME] = "auto"
    """Precision of the network's arithmetic; auto takes the faster one."""

    address: Annotated[str | None, RESOURCES, NAME] = None
    """Address of the Ray cluster to join: HOST:PORT, 'auto' (RAY_ADDRESS, or the cluster of the
    last `ray start` on this machine), or 'local' to start Ray here (default: RAY_ADDRESS, else
    local)."""

    results_dir: Annotated[str, OUTPUT, DIR] = "results"
    """Directory where studies are kept."""

    storage: Annotated[str | None, OUTPUT, Parameter(metavar="URI")] = None
    """Storage to copy the study to while it runs, and to fetch it from: a shared path, file://,
    s3:// or gs://. With it and --name a study continues on another machine."""

    checkpoint_seconds: Annotated[
        float,
        OUTPUT,
        SECONDS,
        Expected("a finite number from 0", lambda seconds: 0 <= seconds < math.inf),
    ] = 60.0
    """Seconds of training between the checkpoints of a trial."""

    dashboard: Annotated[bool, OUTPUT, FLAG] = True
    """Serve Ray's dashboard on this machine's loopback address."""

    quiet: Annotated[bool, OUTPUT, ONCE] = False
    """Show only what goes wrong; study.log has the rest."""

    verbose: Annotated[bool, OUTPUT, FLAG] = False
    """Show what Ray prints."""

    notify: Annotated[str | None, OUTPUT, Parameter(metavar="COMMAND")] = None
    """Shell command to run when the study is over, with STUDY_NAME, STUDY_STATUS and STUDY_HEADLINE
    in its environment."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None and item.default is None:
                continue
            expected = expected_of(item.name)
            # `not accepts` catches NaN too.
            if expected is not None and not expected.accepts(value):
                raise invalid_option(item.name, value)

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, ready for JSON; without the command of `notify`, which may hold an
        address that is not for everybody who reads the record, and without the credentials of
        `storage`."""
        settings = {name: value for name, value in asdict(self).items() if name != "notify"}
        storage = self.storage and without_credentials(self.storage)
        return settings | {"storage": storage}

    def folder(self, dataset: str) -> Path:
        """The study's directory: `name`, or DESIGN-DATASET with a dash for what a name may not
        hold."""
        kind = Path(os.path.expanduser(dataset)).resolve().name
        default = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(self.design).stem}-{kind}")
        name = self.name or default.lstrip(".-")[:200]
        return Path(os.path.expanduser(self.results_dir)).resolve() / name


@cache
def expected_of(option: str) -> Expected | None:
    """What the value of an option must be; None where its type is all there is to say."""
    hint = get_type_hints(StudySettings, include_extras=True)[option]
    for extra in hint.__metadata__:
        if isinstance(extra, Expected):
            return extra
    for kind in (hint.__origin__, *get_args(hint.__origin__)):
        if choices := [choice for choice in get_args(kind) if isinstance(choice, str)]:
            return Expected(", ".join(choices), choices.__contains__)
    return None


def without_credentials(uri: str) -> str:
    """A URI as it may be shown and recorded: without user and password, and of its query only what
    says where it is."""
    place, mark, query = re.sub(r"://([^@]*:.*|[^/?@]*)@", "://", uri).partition("?")
    kept = [word for word in query.split("&") if word.partition("=")[0] in URI_PLACE]
    return place + (mark + "&".join(kept) if kept else "")


def flag(option: str) -> str:
    """The option as it is written on the command line."""
    return "--" + option.replace("_", "-")


def invalid_option(option: str, value: Any) -> UsageError:
    """The error for a value that an option cannot have."""
    expected = expected_of(option)
    words = expected.words if expected else "a flag without a value"
    return invalid(flag(option), value, words)


URI_PLACE = ("scheme", "region", "endpoint_override")

QUESTION = (
    "epochs",
    "seed",
    "train_images",
    "image_size",
    "flip",
    "precision",
    "scheduler",
    "sampler",
    "cpus_per_trial",
    "gpus_per_trial",
)
"""What may not change once a study has started."""
SAME = "expected the same, or another --name"


def continued(given: Mapping[str, Any], recorded: Mapping[str, Any], name: str) -> StudySettings:
    """The settings that continue the study `name`: as given, else as recorded.

    Raises:
        UsageError: what is given would change the question.
    """
    # Precision is decided once. Images are compared themselves, see `study.images`.
    given = {item: value for item, value in given.items() if (item, value) != ("precision", "auto")}
    changed = [
        f"{flag(item)}: invalid value {given[item]!r}, the study has {recorded[item]!r}"
        for item in QUESTION
        if item in given and given[item] != recorded.get(item, given[item])
    ]
    if changed:
        raise UsageError(f"{'; '.join(changed)}: {SAME}")
    # The directory may have been moved, and another cluster be there; what is asked for once is not
    # a property of the study.
    once = {"results_dir", "address", "storage", "retry_failed", "show_design", "quiet"}
    once.add("confirm_until_width")
    kept = {item.name for item in fields(StudySettings)} - once
    old = {item: recorded[item] for item in recorded if item in kept}
    # 0 where there is no search stage: what its design decides.
    old["samples"] = old["samples"] or None
    return StudySettings(**old | given | {"name": name})


@dataclass(frozen=True)
class DecidedSettings(StudySettings):
    """Settings in which the design has decided what was left to it."""

    samples: int = 0
    scheduler: Literal["asha", "fifo"] = "asha"
    sampler: Literal["tpe", "gp", "random", "qmc"] = "tpe"

    def __post_init__(self) -> None:
        """What was given has been checked."""


def decided(settings: StudySettings, design: Design) -> DecidedSettings:
    """The settings with the samples, scheduler and sampler that the design decides where none are
    given.

    Raises:
        UsageError: the design cannot have those that are given.
    """
    factorial = design.search == SearchMode.FACTORIAL
    samples = design.samples if settings.samples is None else settings.samples
    try:
        check_samples(design, samples)
    except UsageError as error:
        raise UsageError(f"--{error}") from error
    if factorial and settings.scheduler == "asha":
        raise invalid("--scheduler", "asha", f"fifo (design {design.name})")
    if design.search == SearchMode.NONE and settings.confirm_seeds == 0:
        raise invalid("--confirm-seeds", 0, f"an integer from 1 (design {design.name})")
    scheduler, sampler = ("fifo", "qmc") if factorial else ("asha", "tpe")
    chosen = {
        "samples": samples,
        "scheduler": settings.scheduler or scheduler,
        "sampler": settings.sampler or sampler,
    }
    return DecidedSettings(**settings.to_dict() | chosen)
