"""From the name of a data set, or a folder of images, to arrays of bytes.

The driver calls `load_images` once, before any trial; trials get the arrays and read no file. What
was downloaded stays unpacked in `DATA_DIR`, what was decoded is in a parsed copy in
`DATA_DIR/.parsed/`.
"""

import os
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from trainables.config import UsageError, invalid
from trainables.folders import load_folder
from trainables.layout import LAYOUTS
from trainables.named import TORCHVISION, DataUnavailable, digits, load_torchvision
from trainables.parts import ImageData

NAMES = (*TORCHVISION, "digits")
"""The data sets that have a name; anything else is a folder."""


class UnusableDataDir(UsageError):  # noqa: N818
    """The data directory cannot be written to."""


def load_images(
    dataset: str, data_dir: Path, image_size: int = 32, skip_bad_images: bool = False
) -> ImageData:
    """The images of a named data set or of a folder; `image_size` and `skip_bad_images` concern
    folders only.

    Raises:
        UsageError: the data set, the folder or the data directory cannot be used.
        DataUnavailable: the images are not there and cannot be downloaded.
    """
    remarks = []
    if dataset in NAMES and os.path.isdir(dataset):
        remarks.append(f"{dataset} is the data set of that name; the folder is ./{dataset}")
    try:
        data = _load(dataset, data_dir, image_size, skip_bad_images)
    except DataUnavailable as error:
        raise DataUnavailable("; ".join([str(error), *remarks])) from error
    return replace(data, remarks=(*remarks, *data.remarks))


def _load(dataset: str, data_dir: Path, image_size: int, skip_bad_images: bool) -> ImageData:
    if dataset == "digits":
        return digits()
    folder = os.path.expanduser(dataset)
    if dataset not in TORCHVISION and not os.path.isdir(folder):
        raise invalid("--dataset", dataset, f"{', '.join(NAMES)}, {LAYOUTS}")
    data_dir = Path(os.path.expanduser(data_dir)).resolve()
    # Two processes that download or decode at once would do it twice, or worse.
    with _lock(data_dir):
        if dataset in TORCHVISION:
            return load_torchvision(dataset, data_dir)
        return load_folder(Path(folder).resolve(), data_dir, image_size, skip_bad_images)


def _lock(data_dir: Path) -> FileLock:
    """The lock of the data directory, which is made where it is missing; not yet held."""
    lock = FileLock(data_dir / ".lock")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with lock:
            return lock
    except OSError as error:
        raise UnusableDataDir(
            f"--data-dir: invalid value {str(data_dir)!r}: {error.strerror}: "
            "expected a folder that can be written to"
        ) from error
