"""Data sets that have a name: the digits of scikit-learn, and those of torchvision, which are
downloaded where they are missing."""

import logging
import os
import shutil
import urllib.request
import warnings
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from trainables.parts import ImageData, Part, stratified_draw

log = logging.getLogger(__name__)

TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
}
"""The classes of `torchvision.datasets` by the names used here."""
DOWNLOAD_TIMEOUT = 20.0
"""Seconds without a byte from the server after which a download has failed."""


class DataUnavailable(Exception):  # noqa: N818
    """The images are unavailable: one line that says which file is missing, its md5 and where to
    put it."""


class Archive(NamedTuple):
    """A file to download: where it is kept, what it must hold, and where to get it."""

    path: Path
    md5: str
    urls: Sequence[str]


def digits() -> ImageData:
    """The 1,797 digits of scikit-learn, 8×8 of 0 to 16, enlarged to 16×16 of 0 to 255."""
    from sklearn.datasets import load_digits

    original = load_digits()
    small = np.rint(original.images * (255 / 16)).astype(np.uint8)
    large = [
        np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR))
        for image in small
    ]
    every = Part(np.stack(large)[:, None], original.target.astype(np.int64))
    test = stratified_draw(every.labels, round(len(every) / 5), 1)
    return ImageData("digits", tuple("0123456789"), every[~test], every[test], flip=False)


def load_torchvision(name: str, root: Path) -> ImageData:
    """A data set of torchvision: as it lies unpacked in `root`, else from its archives, downloaded
    where they are missing.

    Raises:
        DataUnavailable: it is neither there nor can it be downloaded or unpacked.
    """
    import torchvision
    from torchvision.datasets.utils import check_integrity, extract_archive

    kind = getattr(torchvision.datasets, TORCHVISION[name])
    try:
        return _read_torchvision(name, kind, root)
    except Exception as error:  # missing or damaged, which each class reports in its own way
        log.info("no usable unpacked copy of %s in %s: %s", name, root, error)
    archives = _archives(kind, root)
    folder = archives[0].path.parent
    try:
        for archive in archives:
            _download(archive)
            extract_archive(archive.path, folder)
        return _read_torchvision(name, kind, root)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        missing = [
            f"{archive.path.name} (md5 {archive.md5})"
            for archive in archives
            if not check_integrity(archive.path, archive.md5)
        ]
        # None is missing where, for example, the disk is full.
        advice = f"; put {', '.join(missing)} into {folder}" if missing else ""
        raise DataUnavailable(f"{name} is unavailable: {reason}{advice}") from error


def _archives(kind: Any, root: Path) -> list[Archive]:
    """What a class of torchvision downloads: one archive for CIFAR, four for MNIST."""
    if hasattr(kind, "tgz_md5"):
        return [Archive(root / kind.filename, kind.tgz_md5, [kind.url])]
    folder = root / kind.__name__ / "raw"
    return [
        Archive(folder / file, md5, [mirror + file for mirror in kind.mirrors])
        for file, md5 in kind.resources
    ]


def _download(archive: Archive) -> None:
    """Make sure that the archive is there, complete or not at all, from the first of its addresses
    that sends it."""
    from torchvision.datasets.utils import calculate_md5

    if archive.path.exists():
        if (md5 := calculate_md5(archive.path)) != archive.md5:
            # Whose file it is we cannot know, so it stays.
            raise OSError(
                f"{archive.path} is damaged: its md5 is {md5}; remove it to download it again"
            )
        return
    archive.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = archive.path.with_name(f"{archive.path.name}.part")
    errors = []
    for url in archive.urls:
        try:
            _fetch(url, temporary)
            if (md5 := calculate_md5(temporary)) != archive.md5:
                raise OSError(f"sent a file whose md5 is {md5}")
            os.replace(temporary, archive.path)
            return
        except (OSError, HTTPException) as error:
            errors.append(f"{url}: {error}")
        finally:
            temporary.unlink(missing_ok=True)
    raise OSError("; ".join(errors))


def _fetch(url: str, path: Path) -> None:
    """Write what the server sends to `path`."""
    # urllib's own User-Agent is often refused.
    request = urllib.request.Request(url, headers={"User-Agent": "resnet-study"})
    with (
        urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT) as response,
        path.open("wb") as file,
    ):
        shutil.copyfileobj(response, file)


def _read_torchvision(name: str, kind: Any, root: Path) -> ImageData:
    """Both parts as they lie unpacked in `root`."""
    parts = []
    for train in (True, False):
        # NumPy 2.4.0 to 2.4.4 warns about the old pickles of CIFAR.
        with warnings.catch_warnings(action="ignore"):
            source = kind(root, train=train)
        images = np.asarray(source.data)  # N×H×W, or N×H×W×C
        images = np.ascontiguousarray(images.reshape(*images.shape[:3], -1).transpose(0, 3, 1, 2))
        parts.append(Part(images, np.asarray(source.targets, dtype=np.int64)))
    return ImageData(name, tuple(source.classes), parts[0], parts[1], flip=name.startswith("cifar"))
