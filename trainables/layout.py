"""How a folder of images is laid out: its parts, classes and files, before any file is read."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from trainables.config import UsageError, invalid
from trainables.parts import LEAST_TRAIN

LAYOUTS = "a folder train/CLASS/* with test/CLASS/*, or a folder CLASS/*"
VALIDATION = ("val", "valid", "validation")
"""Names of a folder beside `train` and `test` that is the validation part."""
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")
"""What Windows leaves in folders of pictures, and macOS in archives."""
MOST_NAMED = 5
"""Files or classes that a line names."""


class ImageFile(NamedTuple):
    """A file by its place: PART/FOLDER/NAME, or FOLDER/NAME where `part` is ""."""

    part: str
    folder: str
    name: str

    @property
    def path(self) -> str:
        """Relative to the folder of the data set."""
        return os.path.join(*self)

    @property
    def label(self) -> str:
        """The class."""
        return class_name(self.folder)


def class_name(folder: str) -> str:
    """The class of a folder; names that differ only in how Unicode composes letters are one."""
    return unicodedata.normalize("NFC", folder)


@dataclass(frozen=True)
class Layout:
    """What is in a folder of images.

    Attributes:
        parts: the folders that divide it, `train`, perhaps `val`, and `test`; or only "".
        files: every file of every class, sorted; what is hidden does not count.
        remarks: what a person should know of them.
    """

    parts: tuple[str, ...]
    files: tuple[ImageFile, ...]
    remarks: tuple[str, ...]

    @property
    def validation(self) -> str | None:
        """The folder of the validation part, where there is one."""
        return next((part for part in self.parts if part in VALIDATION), None)

    def least(self, part: str) -> int:
        """The number of images that each class needs in a part."""
        if part == "train":
            # One image is for validation where no other part is.
            return LEAST_TRAIN - (self.validation is not None)
        return 1 if part else LEAST_TRAIN + 1


def read_layout(root: Path) -> Layout:
    """List a folder of images.

    Raises:
        UsageError: it cannot be read, or it is laid out in another way.
    """
    try:
        parts = _parts(root)
        folders = [(part, name) for part in parts for name in _folders(root / part)]
        files = sorted(
            ImageFile(part, folder, name)
            for part, folder in folders
            for name in _visible(root / part / folder)
        )
        _refuse_other_layouts(root, parts, files)
    except OSError as error:
        raise unusable(root, f"it cannot be read ({error})", LAYOUTS) from error
    remarks = [f"{part}/ is the validation part" for part in parts if part in VALIDATION]
    others = [name for name in sorted(_folders(root)) if name not in parts]
    if others and len(parts) > 1:
        remarks.append(f"folders beside {', '.join(parts)} are not used: {named(others)}")
    classes = {file.label for file in files}
    if empty := {class_name(folder) for _, folder in folders} - classes:
        remarks.append(f"classes without any file are not used: {named(sorted(empty))}")
    return Layout(parts, tuple(files), tuple(remarks))


def _parts(root: Path) -> tuple[str, ...]:
    if not ((root / "train").is_dir() and (root / "test").is_dir()):
        return ("",)
    validation = [part for part in VALIDATION if (root / part).is_dir()]
    if len(validation) > 1:
        raise unusable(root, f"several validation parts: {named(validation)}", "one at most")
    return ("train", *validation, "test")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that a system keeps for itself."""
    return name.startswith(".") or name.casefold() in SYSTEM_FILES


def _visible(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if not is_hidden(name)]


def _folders(folder: Path) -> list[str]:
    return [name for name in _visible(folder) if (folder / name).is_dir()]


def _refuse_other_layouts(root: Path, parts: Sequence[str], files: Sequence[ImageFile]) -> None:
    if inner := [file.path for file in files if (root / file.path).is_dir()]:
        problem = f"folders in the place of images: {named(inner)}"
        for half, other in (("train", "test"), ("test", "train")):
            if (root / half).is_dir() and not (root / other).is_dir():
                problem = f"it has a folder {half} and no folder {other}"
        raise unusable(root, problem, LAYOUTS)
    for part in filter(None, parts):
        loose = set(_visible(root / part)) - set(_folders(root / part))
        if loose and not any(file.part == part for file in files):
            raise unusable(
                root,
                f"{part} has {len(loose)} files and no folders of classes",
                f"{part}/CLASS/*, or --dataset {root / 'train'} (a fifth becomes the test part)",
            )
    classes = sorted({file.label for file in files})
    if not classes:
        raise unusable(root, "no images were found", LAYOUTS)
    if len(classes) == 1:
        raise unusable(root, f"it has only the class {named(classes)}", "two classes or more")


def named(names: Sequence[str], reasons: Sequence[str] = ()) -> str:
    """The first names, without what could break a line or steer a terminal, and how many more there
    are; where there are reasons, one for each name, each stands once, behind its names."""
    shown: dict[str, list[str]] = {}
    for name, reason in zip_longest(names[:MOST_NAMED], reasons[:MOST_NAMED], fillvalue=""):
        shown.setdefault(reason, []).append(name if name.isprintable() else repr(name)[1:-1])
    groups = [
        ", ".join(group) + (f" ({reason})" if reason else "") for reason, group in shown.items()
    ]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(groups) + more


def unusable(root: Path, problem: str, expected: str) -> UsageError:
    """The error for a folder that cannot be used: cause first."""
    return invalid("--dataset", str(root), expected, problem)
