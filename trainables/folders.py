"""A folder of images, of any formats and sizes, to arrays of bytes."""

import os
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainables.config import UsageError
from trainables.decoding import decode, fill_deep, refuse_clipped
from trainables.parsed_copies import ParsedCopy
from trainables.parts import LEAST_TRAIN, ImageData, Part, stratified_draw

LAYOUTS = "a folder train/CLASS/* with test/CLASS/*, or a folder CLASS/*"
LEAST = {"train": LEAST_TRAIN, "test": 1, "": LEAST_TRAIN + 1}
"""Images that each class needs in a part; "" is the only part of a folder CLASS/*."""
LEAST_GREYS = 16
"""Of deep images that use fewer of the 256 grey values, but for outliers, a remark is made."""
MOST_NAMED = 5
"""Files or classes that an error names."""


class ImageFile(NamedTuple):
    """A file by its place in the folder: PART/CLASS/NAME, or CLASS/NAME where `part` is ""."""

    part: str
    label: str
    name: str

    @property
    def path(self) -> str:
        """Relative to the folder."""
        return os.path.join(*self)


def load_folder(root: Path, data_dir: Path, image_size: int, skip_bad_images: bool) -> ImageData:
    """The images of a folder, from the parsed copy as long as no file's name, size or time changes.

    Raises:
        UsageError: the folder cannot be used.
    """
    files = _list_files(root)
    copy = ParsedCopy.of(data_dir, (root, image_size, skip_bad_images), _state(root, files))
    if (data := copy.load(root.name)) is not None:
        return data
    data = _read_files(root, files, image_size, skip_bad_images)
    copy.save(data)
    return data


def _list_files(root: Path) -> list[ImageFile]:
    """Every file of every class, sorted; what is hidden does not count."""
    parts = ("train", "test") if (root / "train").is_dir() and (root / "test").is_dir() else ("",)
    try:
        files = sorted(
            ImageFile(part, label, name)
            for part in parts
            for label in _visible(root / part)
            if (root / part / label).is_dir()
            for name in _visible(root / part / label)
        )
    except OSError as error:
        raise unusable(root, f"it cannot be read ({error})", LAYOUTS) from error
    if folders := [file.path for file in files if (root / file.path).is_dir()]:
        # Such as train/CLASS/* without a test/: its one class would be `train`.
        raise unusable(root, f"folders in the place of images: {named(folders)}", LAYOUTS)
    classes = sorted({file.label for file in files})
    if not classes:
        raise unusable(root, "no images were found", LAYOUTS)
    if len(classes) == 1:
        raise unusable(root, f"it has only the class {named(classes)}", "two classes or more")
    return files


def _visible(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if not name.startswith(".")]


def _state(root: Path, files: Sequence[ImageFile]) -> object:
    """What changes when the folder does: names, sizes and times."""
    existing = filter(os.path.exists, (root / file.path for file in files))  # dangling links do not
    stats = [(path.stat().st_size, path.stat().st_mtime_ns) for path in existing]
    return [tuple(file) for file in files], stats


def _read_files(
    root: Path, files: Sequence[ImageFile], image_size: int, skip_bad_images: bool
) -> ImageData:
    """Decode the files and divide them into parts."""
    try:
        images = np.empty((len(files), 3, image_size, image_size), dtype=np.uint8)
    except MemoryError as error:
        raise UsageError(
            f"--image-size: invalid value {image_size}: {error}: "
            "expected a size with which all images fit into memory"
        ) from None
    paths = [str(root / file.path) for file in files]
    with ThreadPool() as pool:  # Pillow decodes and resizes without the interpreter's lock
        decoded = pool.starmap(decode, zip(paths, images, strict=True), chunksize=64)
    decoded = refuse_clipped(decoded)
    unreadable = [
        f"{file.path} ({result.reason})"
        for file, result in zip(files, decoded, strict=True)
        if not result.channels
    ]
    if unreadable and not skip_bad_images:
        problem = f"{len(unreadable)} of {len(files)} files are unreadable: {named(unreadable)}"
        raise unusable(root, problem, "images only, or --skip-bad-images")
    value_range = fill_deep(images, decoded)
    channels = np.array([result.channels for result in decoded])
    data = _divide(root, files, channels > 0, images[:, : channels.max()])
    remarks = [f"unreadable files skipped: {named(unreadable)}"] if unreadable else []
    deep = images[[place for place, result in enumerate(decoded) if result.deep], 0]
    if deep.size and np.ptp(np.percentile(deep, [0.5, 99.5])) < LEAST_GREYS:
        remarks.append(
            f"99% of the pixels of deep images share {LEAST_GREYS} of 256 grey values, "
            "for outliers set the scale"
        )
    return replace(data, skipped=len(unreadable), value_range=value_range, remarks=tuple(remarks))


def _divide(
    root: Path, files: Sequence[ImageFile], readable: np.ndarray, images: np.ndarray
) -> ImageData:
    """The readable images by part and class; where there is no test part, a fifth becomes it."""
    classes, labels = np.unique([file.label for file in files], return_inverse=True)
    parts = np.array([file.part for file in files])
    _check_sizes(root, classes.tolist(), labels[readable], parts[readable])
    test = readable & (parts == "test")
    if not test.any():
        drawn = stratified_draw(labels[readable], round(readable.sum() / 5), LEAST["test"])
        test[readable] = drawn
    every = Part(images, labels)
    names = tuple(map(writable, classes.tolist()))
    return ImageData(writable(root.name), names, every[readable & ~test], every[test], flip=True)


def _check_sizes(root: Path, classes: Sequence[str], labels: np.ndarray, parts: np.ndarray) -> None:
    """Refuse a folder in which a part has too few images of a class."""
    # A part that has no image at all must be checked, too.
    for part in [""] if "" in parts else ["train", "test"]:
        sizes = np.bincount(labels[parts == part], minlength=len(classes))
        few = [
            f"{name} ({size})"
            for name, size in zip(classes, sizes, strict=True)
            if size < LEAST[part]
        ]
        if few:
            place = f" in {part}" if part else ""
            raise unusable(
                root,
                f"too few readable images{place}: {named(few)}",
                f"{LEAST[part]} or more per class",
            )


def writable(name: str) -> str:
    """The name with what is not UTF-8, as old archives have it, escaped: it could not be written
    down."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def named(names: Sequence[str]) -> str:
    """The first names, without what could break a line or steer a terminal, and how many more there
    are."""
    shown = [name if name.isprintable() else repr(name)[1:-1] for name in names[:MOST_NAMED]]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(shown) + more


def unusable(root: Path, problem: str, expected: str) -> UsageError:
    """The error for a folder that cannot be used: cause first."""
    return UsageError(f"--dataset: invalid value {str(root)!r}: {problem}: expected {expected}")
