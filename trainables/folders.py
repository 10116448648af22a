"""A folder of images, of any formats and sizes, to arrays of bytes."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np

from trainables.config import invalid
from trainables.decoding import Decoded, decode, fill_deep, refuse_clipped
from trainables.layout import Layout, named, read_layout, unusable
from trainables.parsed_copies import ParsedCopy
from trainables.parts import ImageData, Part, stratified_draw

LEAST_GREYS = 16
"""Of deep images that use fewer of the 256 grey values, but for outliers, a remark is made."""


def load_folder(root: Path, data_dir: Path, image_size: int, skip_bad_images: bool) -> ImageData:
    """The images of a folder, from the parsed copy as long as no file's name, size or time changes.

    Raises:
        UsageError: the folder cannot be used.
    """
    layout = read_layout(root)
    copy = ParsedCopy.of(data_dir, (root, image_size, skip_bad_images), _state(root, layout))
    data = copy.load(root.name)
    if data is None:
        data = _read(root, layout, image_size, skip_bad_images)
        copy.save(data)
    return replace(data, remarks=layout.remarks + data.remarks)


def _state(root: Path, layout: Layout) -> object:
    """What changes when the folder does: names, sizes and times."""
    paths = [root / file.path for file in layout.files]
    stats = [path.stat() for path in paths if path.exists()]  # not of a dangling link
    times = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
    return layout.parts, [tuple(file) for file in layout.files], times


def _read(root: Path, layout: Layout, image_size: int, skip_bad_images: bool) -> ImageData:
    """Decode the files and divide them into parts."""
    files = layout.files
    try:
        images = np.empty((len(files), 3, image_size, image_size), dtype=np.uint8)
    except MemoryError as error:
        expected = "a size with which all images fit into memory"
        raise invalid("--image-size", image_size, expected, str(error)) from None
    decoded = decode_files([str(root / file.path) for file in files], images)
    paths = [file.path for file, result in zip(files, decoded, strict=True) if result.reason]
    unreadable = named(paths, [result.reason for result in decoded if result.reason])
    if paths and not skip_bad_images:
        verb = "is" if len(paths) == 1 else "are"
        problem = f"{len(paths)} of {len(files)} files {verb} unreadable: {unreadable}"
        raise unusable(root, problem, "images only, or --skip-bad-images")
    value_range = fill_deep(images, decoded)
    channels = np.array([result.channels for result in decoded])
    # Of an image without colour all three channels are the same.
    data = _divide(root, layout, channels > 0, images[:, : channels.max()])
    remarks = [f"{len(paths)} unreadable files skipped: {unreadable}"] if paths else []
    deep = images[[place for place, result in enumerate(decoded) if result.deep], 0]
    if deep.size and np.ptp(np.percentile(deep, [0.5, 99.5])) < LEAST_GREYS:
        remarks.append(
            f"99% of the pixels of deep images share {LEAST_GREYS} of 256 grey values, "
            "for outliers set the scale"
        )
    return replace(data, skipped=len(paths), value_range=value_range, remarks=tuple(remarks))


def decode_files(paths: Sequence[str], images: np.ndarray) -> list[Decoded]:
    """Fill `images` (uint8 N×3×S×S) with the files but deep ones; see `decode`."""
    # Pillow decodes and resizes without the interpreter's lock.
    with _silent_libraries(), ThreadPool() as pool:
        return refuse_clipped(pool.starmap(decode, zip(paths, images, strict=True), chunksize=64))


@contextmanager
def _silent_libraries() -> Iterator[None]:
    """While it lasts, no warning about a file reaches the terminal: neither Pillow's, nor what
    libtiff writes to the standard error of the process, past Python. What matters is a reason or a
    remark of ours."""
    with warnings.catch_warnings(action="ignore"):
        try:
            terminal = os.dup(2)
        except OSError:  # whoever started this process closed it
            yield
            return
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _divide(root: Path, layout: Layout, readable: np.ndarray, images: np.ndarray) -> ImageData:
    """The readable images by part and class; where there is no test part, a fifth becomes it."""
    classes, labels = np.unique([file.label for file in layout.files], return_inverse=True)
    parts = np.array([file.part for file in layout.files])
    for part in layout.parts:
        sizes = np.bincount(labels[readable & (parts == part)], minlength=len(classes))
        size_of = dict(zip(classes.tolist(), sizes, strict=True))
        _check_sizes(root, part, size_of, layout.least(part))
    test = readable & (parts == "test")
    if "" in layout.parts:
        test[readable] = stratified_draw(labels[readable], round(readable.sum() / 5), 1)
    validation = readable & (parts == layout.validation)
    every = Part(images, labels)
    return ImageData(
        writable(root.name),
        tuple(map(writable, classes.tolist())),
        train=every[readable & ~test & ~validation],
        test=every[test],
        validation=every[validation] if layout.validation else None,
        flip=True,
    )


def _check_sizes(root: Path, part: str, sizes: dict[str, int], least: int) -> None:
    """Refuse a folder of which a part has too few images of a class."""
    if few := [f"{name} ({size})" for name, size in sizes.items() if size < least]:
        place = f" in {part}" if part else ""
        problem = f"too few readable images{place}: {named(few)}"
        raise unusable(root, problem, f"{least} or more per class")


def writable(name: str) -> str:
    """The name with what is not UTF-8, as old archives have it, escaped: it could not be written
    down."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
