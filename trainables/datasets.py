"""From the name of a data set, or a folder of images, to arrays of bytes.

The driver calls `load_images` and `split_images` once, before any trial; trials get the arrays and
read no file. What was downloaded stays unpacked in `DATA_DIR`, what was decoded is in a parsed copy
in `DATA_DIR/.parsed/`.
"""

import functools
import hashlib
import logging
import os
import shutil
import urllib.request
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image, ImageOps

from trainables.config import UsageError

log = logging.getLogger(__name__)

TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
}
"""The classes of `torchvision.datasets` by the names used here."""
NAMES = (*TORCHVISION, "digits")
"""The data sets that have a name; anything else is a folder."""
LAYOUTS = "a folder train/CLASS/* with test/CLASS/*, or a folder CLASS/*"
SPLIT_SEED = 20240229
"""A constant, so that every study of a data set has the same parts, whatever its own seed."""
CACHE_VERSION = "3"
"""To be raised with every change to what is parsed, how it is split into training and test part, or
how it is kept."""
DOWNLOAD_TIMEOUT = 20.0
"""Seconds without a byte from the server after which a download has failed."""
LEAST = {"train": 3, "test": 1, "": 4}
"""Images that each class needs in a part: two to train on and one to validate; one to test; all
where one is given."""


class DataUnavailable(Exception):  # noqa: N818
    """The images are unavailable: one line that says which file is missing, its md5 and where to
    put it."""


@dataclass(frozen=True, eq=False)
class Part:
    """Images (uint8, N×C×H×W, contiguous) and the indices of their classes (int64, N)."""

    images: np.ndarray
    labels: np.ndarray

    def __getitem__(self, which: np.ndarray) -> "Part":
        return Part(self.images[which], self.labels[which])


@dataclass(frozen=True)
class ImageData:
    """A data set: `train` is all that may be trained or chosen on, `test` is kept from the search.

    `flip` says whether a mirrored image is still one of its class, `skipped` counts the unreadable
    files passed over.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    test: Part
    flip: bool
    skipped: int = 0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @functools.cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of both parts and the class names."""
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        for part in (self.train, self.test):
            digest.update(repr(part.images.shape).encode())
            digest.update(part.images.data)
            digest.update(part.labels.astype("<i8").data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Split:
    """The three disjoint parts of a study."""

    train: Part
    validation: Part
    test: Part


@dataclass(frozen=True)
class TrialData:
    """What a trial is handed; a part that its stage must not read is None."""

    train: Part
    validation: Part | None
    test: Part | None
    classes: int
    flip: bool


def load_images(
    dataset: str, data_dir: Path, image_size: int = 32, skip_bad_images: bool = False
) -> ImageData:
    """The images of a named data set or of a folder; `image_size` and `skip_bad_images` concern
    folders only.

    Raises:
        UsageError: the data set, the folder or the data directory cannot be used.
        DataUnavailable: the images are not there and cannot be downloaded.
    """
    if dataset == "digits":
        return _digits()
    folder = os.path.expanduser(dataset)
    if dataset not in TORCHVISION and not os.path.isdir(folder):
        raise UsageError(
            f"--dataset: invalid value {dataset!r}: expected {', '.join(NAMES)}, {LAYOUTS}"
        )
    data_dir = Path(os.path.expanduser(data_dir)).resolve()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(
            data_dir / ".lock"
        ).acquire()  # two that download or decode at once would do it twice, or worse
    except OSError as error:
        expected = "a folder that can be written to"
        raise UsageError(
            f"--data-dir: invalid value {str(data_dir)!r} ({error.strerror}): expected {expected}"
        ) from error
    with lock:
        if dataset in TORCHVISION:
            return _named(dataset, data_dir)
        return _load_folder(Path(folder).resolve(), data_dir, image_size, skip_bad_images)


def split_images(data: ImageData, train_images: int | None = None) -> Split:
    """The parts of a study: of `train_images` images (all, if None) a tenth is for validation; all
    stratified.

    Raises:
        UsageError: there are not as many, or too few of them for each class to be in every part.
    """
    train, least = data.train, LEAST["train"] * len(data.classes)
    if train_images is not None:
        if not least <= train_images <= len(train.labels):
            expected = f"an integer from {least} to {len(train.labels)}"
            raise UsageError(
                f"--train-images: invalid value {train_images}: expected {expected} ({data.name})"
            )
        train = train[_draw(train.labels, train_images, LEAST["train"])]
    validation = _draw(train.labels, round(len(train.labels) / 10), 1)
    return Split(train=train[~validation], validation=train[validation], test=data.test)


def search_data(data: ImageData, split: Split) -> TrialData:
    """What a trial of the search stage may see: no test images."""
    return TrialData(split.train, split.validation, None, len(data.classes), data.flip)


def confirm_data(data: ImageData, split: Split) -> TrialData:
    """What a trial of the confirm stage trains on, training and validation images; and the test
    images."""
    both = (split.train, split.validation)
    train = Part(
        *(np.concatenate([getattr(part, name) for part in both]) for name in ("images", "labels"))
    )
    return TrialData(train, None, split.test, len(data.classes), data.flip)


def duplicates(split: Split) -> dict[str, int]:
    """How many images of the `validation` part equal a training image, and of the `test` part one
    of either part, pixel by pixel."""
    train, validation, test = (
        [hashlib.sha256(image).digest() for image in part.images]
        for part in (split.train, split.validation, split.test)
    )
    known, either = set(train), {*train, *validation}
    return {
        "validation": sum(one in known for one in validation),
        "test": sum(one in either for one in test),
    }


def _draw(labels: np.ndarray, count: int, least: int) -> np.ndarray:
    """Which images (bool, N) a stratified draw of `count` takes, `least` or more of each class,
    whatever the count.

    The callers see to it that every class is large enough.
    """
    sizes = np.bincount(labels)
    count = max(count, least * len(sizes))
    quota, take = count * sizes / len(labels), np.full(len(sizes), least)
    while take.sum() < count:  # to the class that lacks most
        take[np.argmax(quota - take)] += 1
    random = np.random.RandomState(
        SPLIT_SEED
    )  # its stream is frozen for good, that of default_rng is not
    drawn = np.zeros(len(labels), dtype=bool)
    for label, number in enumerate(take):
        drawn[random.permutation(np.flatnonzero(labels == label))[:number]] = True
    return drawn


def _digits() -> ImageData:
    """The 1,797 digits of scikit-learn, 8×8 of 0 to 16, enlarged to 16×16 of 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    large = [
        np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR))
        for image in small
    ]
    whole = Part(np.stack(large)[:, None], digits.target.astype(np.int64))
    test = _draw(whole.labels, round(len(whole.labels) / 5), LEAST["test"])
    return ImageData("digits", tuple("0123456789"), whole[~test], whole[test], flip=False)


def _named(name: str, root: Path) -> ImageData:
    """A data set of torchvision: as it lies unpacked in `root`, else from its archives, downloaded
    where absent."""
    import torchvision
    from torchvision.datasets.utils import check_integrity, extract_archive

    kind = getattr(torchvision.datasets, TORCHVISION[name])
    try:
        return _read_torchvision(name, kind, root)
    except (
        Exception
    ) as error:  # absent, incomplete or damaged, which each class says in its own way
        log.info("no usable unpacked copy of %s in %s: %s", name, root, error)
    if hasattr(kind, "tgz_md5"):
        folder, archives = root, {kind.filename: (kind.tgz_md5, [kind.url])}
    else:
        folder = root / kind.__name__ / "raw"
        archives = {
            file: (md5, [mirror + file for mirror in kind.mirrors]) for file, md5 in kind.resources
        }
    try:
        for file, (md5, urls) in archives.items():
            _obtain(folder / file, md5, urls)
            extract_archive(folder / file, folder)
        return _read_torchvision(name, kind, root)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        wanted = {
            file: md5
            for file, (md5, _) in archives.items()
            if not check_integrity(folder / file, md5)
        }
        files = ", ".join(f"{file} (md5 {md5})" for file, md5 in wanted.items())
        advice = (
            f"; put {files} into {folder}" if files else ""
        )  # all are there where, say, the disk is full
        raise DataUnavailable(f"{name} cannot be had ({reason}){advice}") from error


def _obtain(path: Path, md5: str, urls: list[str]) -> None:
    """See to it that the archive `path` is there, whole or not at all, from the first of `urls`
    that sends it."""
    from torchvision.datasets.utils import calculate_md5

    if path.exists():
        if (found := calculate_md5(path)) != md5:  # whose file it is we cannot know, so it stays
            raise OSError(f"{path} is damaged: its md5 is {found}; remove it to download it again")
        return
    temporary, errors = path.with_name(f"{path.name}.part"), []
    path.parent.mkdir(parents=True, exist_ok=True)
    for url in urls:
        try:
            request = urllib.request.Request(
                url, headers={"User-Agent": "resnet-study"}
            )  # its own is often refused
            with (
                urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT) as response,
                temporary.open("wb") as file,
            ):
                shutil.copyfileobj(response, file)
            if (found := calculate_md5(temporary)) != md5:
                raise OSError(f"sent a file whose md5 is {found}")
            os.replace(temporary, path)
            return
        except (OSError, HTTPException) as error:
            errors.append(f"{url}: {error}")
        finally:
            temporary.unlink(missing_ok=True)
    raise OSError("; ".join(errors))


def _read_torchvision(name: str, kind: Any, root: Path) -> ImageData:
    """Both parts as they lie unpacked in `root`."""
    parts = []
    for train in (True, False):
        with warnings.catch_warnings(
            action="ignore"
        ):  # NumPy 2.4.0 to 2.4.4 about the old pickles of CIFAR
            source = kind(root, train=train)
        images = np.asarray(source.data)  # N×H×W, or N×H×W×C
        images = np.ascontiguousarray(images.reshape(*images.shape[:3], -1).transpose(0, 3, 1, 2))
        parts.append(Part(images, np.asarray(source.targets, dtype=np.int64)))
    return ImageData(name, tuple(source.classes), parts[0], parts[1], flip=name.startswith("cifar"))


def _load_folder(root: Path, data_dir: Path, image_size: int, skip_bad_images: bool) -> ImageData:
    """The images of a folder, from the parsed copy as long as no file's name, size or time changes."""
    files = _list_folder(root)
    there = filter(
        os.path.exists, (root.joinpath(*file) for file in files)
    )  # reading a dangling link will say so
    stats = [(path.stat().st_size, path.stat().st_mtime_ns) for path in there]
    state, place = (CACHE_VERSION, files, stats), (root, image_size, skip_bad_images)
    key, name = (hashlib.sha256(repr(each).encode()).hexdigest() for each in (state, place))
    copy = (
        data_dir / ".parsed" / f"{name}.npz"
    )  # of a folder that changes only the newest copy is kept
    try:
        with copy.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["key"]) == key:
                # Reading a member to its end checks its CRC-32.
                train, test = (
                    Part(stored[f"{part}_images"], stored[f"{part}_labels"])
                    for part in ("train", "test")
                )
                classes, skipped = tuple(stored["classes"].tolist()), int(stored["skipped"])
                return ImageData(root.name, classes, train, test, flip=True, skipped=skipped)
    except (
        Exception
    ) as error:  # damage can show as nearly any error: whatever it is, the file is made again
        if copy.exists():
            log.warning("the parsed images in %s are damaged (%s) and are made again", copy, error)
    data = _read_folder(root, files, image_size, skip_bad_images)
    arrays = {
        f"{part}_{name}": x
        for part in ("train", "test")
        for name, x in vars(getattr(data, part)).items()
    }
    temporary = data_dir / ".parsing.npz"  # one name is enough: the lock is held
    try:
        copy.parent.mkdir(exist_ok=True)
        np.savez(temporary, key=key, classes=data.classes, skipped=data.skipped, **arrays)
        os.replace(temporary, copy)
    except OSError as error:  # a full disk: the images are here all the same
        log.warning("cannot keep the parsed images in %s: %s", copy, error)
        temporary.unlink(missing_ok=True)
    return data


def _list_folder(root: Path) -> list[tuple[str, str, str]]:
    """Part (`train` and `test`, or "" where there is but one), class and name of every file,
    sorted."""
    parts = ("train", "test") if (root / "train").is_dir() and (root / "test").is_dir() else ("",)
    try:
        files = sorted(
            (part, label, name)
            for part in parts
            for label in os.listdir(root / part)
            if not label.startswith(".") and (root / part / label).is_dir()
            for name in os.listdir(root / part / label)
            if not name.startswith(".")
        )
    except OSError as error:
        raise _unusable(root, f"which cannot be read ({error})") from error
    if inner := [os.path.join(*file) for file in files if root.joinpath(*file).is_dir()]:
        # Such as train/CLASS/* without a test/: its one class would be `train`.
        raise _unusable(root, f"which has folders in the place of images: {_some(inner)}")
    classes = sorted({label for _, label, _ in files})
    if len(classes) < 2:
        problem = (
            f"which has only the class {_some(classes)}"
            if classes
            else "where no images were found"
        )
        raise _unusable(root, problem, f"two classes or more, in {LAYOUTS}")
    return files


def _read_folder(
    root: Path, files: list[tuple[str, str, str]], image_size: int, skip_bad_images: bool
) -> ImageData:
    """Decode what `_list_folder` found."""
    try:
        images = np.empty((len(files), 3, image_size, image_size), dtype=np.uint8)
    except MemoryError as error:
        expected = "a size with which all images fit into memory"
        raise UsageError(
            f"--image-size: invalid value {image_size}: expected {expected} ({error})"
        ) from None
    with ThreadPool() as pool:  # Pillow decodes and resizes without the interpreter's lock
        tasks = zip((os.path.join(root, *file) for file in files), images, strict=True)
        channels = np.array(pool.starmap(_decode, tasks, chunksize=64))
    good = channels > 0
    if bad := [os.path.join(*files[index]) for index in np.flatnonzero(~good)]:
        problem = f"{len(bad)} of {len(files)} files cannot be read as images: {_some(bad)}"
        if not skip_bad_images:
            raise _unusable(
                root,
                f"where {problem}",
                "images only, or --skip-bad-images to pass over the others",
            )
        log.warning("%r: %s are passed over", str(root), problem)
    parts = np.array([part for part, _, _ in files])
    classes, labels = np.unique([name for _, name, _ in files], return_inverse=True)
    for part in ("",) if "" in parts else ("train", "test"):  # one of these may have no file at all
        sizes = np.bincount(labels[good & (parts == part)], minlength=len(classes))
        if few := [
            f"{name} ({size})"
            for name, size in zip(classes, sizes, strict=True)
            if size < LEAST[part]
        ]:
            where, expected = f" in {part}" if part else "", f"{LEAST[part]} or more a class"
            raise _unusable(
                root, f"which has too few readable images{where}: {_some(few)}", expected
            )
    test = good & (parts == "test")
    if not test.any():
        test[good] = _draw(labels[good], round(good.sum() / 5), LEAST["test"])
    whole = Part(
        images[:, : channels.max()], labels
    )  # of an image without colour all three channels are the same
    # Names in another encoding than UTF-8, as old archives have them, could not be written down.
    name, *names = (
        os.fsencode(each).decode("utf-8", "backslashreplace")
        for each in (root.name, *classes.tolist())
    )
    return ImageData(
        name, tuple(names), whole[good & ~test], whole[test], flip=True, skipped=len(bad)
    )


def _decode(path: str, pixels: np.ndarray) -> int:
    """Fill `pixels` (3×S×S) with one image, upright, its shorter side made S and the longer one cut
    to that.

    Returns how many channels the file has: 1 where it is grey, else 3, or 0 where it cannot be
    read.
    """
    try:
        if not os.path.isfile(path):
            raise OSError("not a regular file")  # opening a pipe would wait for ever
        with Image.open(path) as source:
            image = ImageOps.exif_transpose(source)
            mode = "L" if Image.getmodebase(image.mode) == "L" else "RGB"
            if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip at 255
                image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
            elif (
                image.has_transparency_data
            ):  # what lies under transparent pixels is arbitrary; browsers show white
                image = Image.alpha_composite(
                    Image.new("RGBA", image.size, "white"), image.convert("RGBA")
                )
            square = np.asarray(
                ImageOps.fit(image.convert(mode), pixels.shape[1:], Image.Resampling.BILINEAR)
            )
        pixels[...] = np.atleast_3d(square).transpose(2, 0, 1)
        return len(mode)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        log.debug("cannot read %s: %s", path, error)
        return 0


def _some(names: Sequence[str]) -> str:
    """The first five names, without what could break a line or steer a terminal, and how many more
    there are."""
    shown = [name if name.isprintable() else repr(name)[1:-1] for name in names[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _unusable(root: Path, problem: str, expected: str = LAYOUTS) -> UsageError:
    return UsageError(f"--dataset: invalid value {str(root)!r}, {problem}: expected {expected}")
