"""From the name of a data set, or a folder of images, to arrays of bytes.

The driver calls `load_images` and `split_images` once, before any trial; trials get the arrays and read no
file. The first call downloads or decodes and leaves a parsed copy in `DATA_DIR/parsed/`; later ones read that.
"""

import contextlib
import hashlib
import io
import logging
import os
import shutil
import socket
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image, ImageOps

from trainables.config import UsageError

log = logging.getLogger(__name__)

TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
"""The classes of `torchvision.datasets` by the names used here."""

NAMES = (*TORCHVISION, "digits")
"""The data sets that have a name; anything else is a folder."""

LAYOUTS = "a folder train/CLASS/* with test/CLASS/*, or a folder CLASS/*"
SPLIT_SEED = 20240229
"""A constant, so that every study of a data set has the same parts, whatever its own seed."""

CACHE_VERSION = "1"
"""To be raised with every change to what is parsed or how it is split into training and test part."""

DOWNLOAD_TIMEOUT = 20.0
"""Seconds without a byte from the server after which a download has failed."""

LEAST_TRAIN, LEAST_TEST = 3, 1
"""Images that each class needs: two to train on and one to validate; one to test."""


class DataUnavailable(Exception):  # noqa: N818
    """The images cannot be had: one line that says which file is missing, its md5 and where to put it."""


@dataclass(frozen=True, eq=False)
class Part:
    """Images (uint8, N×C×H×W, contiguous) and the indices of their classes (int64, N)."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class ImageData:
    """A data set: `train` is all that may be trained or chosen on, `test` is kept from the search.

    `flip` says whether a mirrored image is still one of its class, `skipped` counts the unreadable files
    passed over, and `fingerprint` is a SHA-256 of both parts and the class names.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    test: Part
    flip: bool
    skipped: int
    fingerprint: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


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


def load_images(dataset: str, data_dir: Path, image_size: int = 32, skip_bad_images: bool = False) -> ImageData:
    """The images of a named data set or of a folder; `image_size` and `skip_bad_images` concern folders only.

    Raises:
        UsageError: the data set, the folder or the data directory cannot be used.
        DataUnavailable: the images are not there and cannot be downloaded.
    """
    if isinstance(image_size, bool) or not isinstance(image_size, int) or not 8 <= image_size <= 1024:
        raise UsageError(f"--image-size: received {image_size!r}, allowed: an integer from 8 to 1024")
    if dataset == "digits":
        return _digits()
    folder = os.path.expanduser(dataset)
    if dataset not in TORCHVISION and not os.path.isdir(folder):
        raise UsageError(f"--dataset: received {dataset!r}, allowed: {', '.join(NAMES)}, {LAYOUTS}")
    data_dir = Path(os.path.expanduser(data_dir)).resolve()
    with _locked(data_dir):
        if dataset in TORCHVISION:
            path, key = data_dir / "parsed" / f"{dataset}.npz", f"{dataset} {CACHE_VERSION}"
            return _cached(path, key, lambda: _named(dataset, data_dir))
        return _load_folder(Path(folder).resolve(), data_dir, image_size, skip_bad_images)


def split_images(data: ImageData, train_images: int | None = None) -> Split:
    """The parts of a study: of `train_images` images (all, if None) a tenth is for validation; all stratified.

    Raises:
        UsageError: there are not as many, or too few of them for each class to be in every part.
    """
    train, least = data.train, LEAST_TRAIN * len(data.classes)
    if train_images is not None and not least <= train_images <= len(train.labels):
        allowed = f"an integer from {least} to {len(train.labels)}"
        raise UsageError(f"--train-images: received {train_images}, allowed with {data.name}: {allowed}")
    if train_images is not None and train_images < len(train.labels):
        train, _ = _divide(train, train_images, LEAST_TRAIN)
    count = max(round(len(train.labels) / 10), len(data.classes))
    validation, train = _divide(train, count, 1)
    return Split(train=train, validation=validation, test=data.test)


def search_data(data: ImageData, split: Split) -> TrialData:
    """What a trial of the search stage may see: no test images."""
    return TrialData(split.train, split.validation, None, len(data.classes), data.flip)


# ---------------------------------------------------------------------------------------------- parts


def _divide(part: Part, count: int, least: int) -> tuple[Part, Part]:
    """Two stratified parts, `count` images with `least` or more of each class, and the rest; order is kept.

    The callers see to it that `count` and every class are large enough.
    """
    sizes = np.bincount(part.labels)
    quota = count * sizes / len(part.labels)
    take = np.maximum(quota.astype(np.int64), least)
    while take.sum() < count:  # largest remainder first
        take[np.argmax(quota - take)] += 1
    while take.sum() > count:  # the minimum made small classes larger than their quota: large ones give way
        take[np.argmax(np.where(take > least, take - quota, -np.inf))] -= 1
    random = np.random.RandomState(SPLIT_SEED)  # its stream is frozen for good, that of default_rng is not
    chosen = np.zeros(len(part.labels), dtype=bool)
    for label, number in enumerate(take):
        chosen[random.permutation(np.flatnonzero(part.labels == label))[:number]] = True
    first, second = (Part(part.images[which], part.labels[which]) for which in (chosen, ~chosen))
    return first, second


def _assemble(name: str, classes: Sequence[str], train: Part, test: Part | None, flip: bool, skipped: int) -> ImageData:
    """A data set with its fingerprint, and with a fifth of the images as test part where none is given."""
    if test is None:
        test, train = _divide(train, max(round(len(train.labels) / 5), len(classes)), LEAST_TEST)
    digest = hashlib.sha256("\0".join(classes).encode("utf-8", "surrogateescape"))
    for part in (train, test):
        digest.update(repr(part.images.shape).encode())
        digest.update(part.images.data)
        digest.update(part.labels.astype("<i8").data)
    return ImageData(name, tuple(classes), train, test, flip, skipped, digest.hexdigest())


# ---------------------------------------------------------------------------------------------- lock and parsed copy


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the one lock of the data directory: two that download or decode at once would do it twice, or worse."""
    lock = FileLock(str(data_dir / ".lock"))
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        allowed = "a folder that can be written to"
        raise UsageError(f"--data-dir: received {str(data_dir)!r} ({error.strerror}), allowed: {allowed}") from error
    try:
        yield
    finally:
        lock.release()


def _cached(path: Path, key: str, make: Callable[[], ImageData]) -> ImageData:
    """What the file `path` holds under `key`, or else what `make` returns, which is then kept there."""
    data = _read_cache(path, key)
    if data is None:
        data = make()
        try:
            _write_cache(path, key, data)
        except OSError as error:  # a full disk: the images are here all the same
            log.warning("cannot keep the parsed images in %s: %s", path, error)
    return data


def _read_cache(path: Path, key: str) -> ImageData | None:
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            held = dict(stored)  # reading a member to its end checks its CRC-32
        return ImageData(
            name=str(held["name"]),
            classes=tuple(held["classes"].tolist()),
            train=Part(held["train_images"], held["train_labels"]),
            test=Part(held["test_images"], held["test_labels"]),
            flip=bool(held["flip"]),
            skipped=int(held["skipped"]),
            fingerprint=str(held["fingerprint"]),
        )
    except Exception as error:  # damage can show as nearly any error: whatever it is, the file is made again
        log.warning("the parsed images in %s are damaged (%s) and are made again", path, error)
        return None


def _write_cache(path: Path, key: str, data: ImageData) -> None:
    values: dict[str, Any] = {name: getattr(data, name) for name in ("name", "flip", "skipped", "fingerprint")}
    values |= {"key": key, "classes": np.array(data.classes)}
    for name, part in (("train", data.train), ("test", data.test)):
        values |= {f"{name}_images": part.images, f"{name}_labels": part.labels}
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")  # one name is enough: the lock is held
    try:
        with temporary.open("wb") as file:
            np.savez(file, **values)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------- named data sets


def _digits() -> ImageData:
    """The 1,797 digits of scikit-learn, 8×8 of 0 to 16, enlarged to 16×16 of 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    large = [Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR) for image in small]
    part = Part(np.stack([np.asarray(image) for image in large])[:, None], digits.target.astype(np.int64))
    return _assemble("digits", [str(name) for name in digits.target_names], part, None, flip=False, skipped=0)


def _named(name: str, data_dir: Path) -> ImageData:
    """A data set of torchvision: as it lies unpacked in `data_dir`, else from its archives, else downloaded."""
    import torchvision

    kind = getattr(torchvision.datasets, TORCHVISION[name])
    try:
        return _read_torchvision(name, kind, data_dir, download=False)
    except Exception as error:  # absent, incomplete or damaged, which each class says in its own way
        log.info("no usable unpacked copy of %s in %s: %s", name, data_dir, error)
    archives = _archives(kind, data_dir)
    temporary = data_dir / ".download"  # one name is enough: the lock is held
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process
    try:
        return _fetch(name, kind, archives, data_dir, temporary)
    except (OSError, RuntimeError, EOFError, ValueError, HTTPException) as error:
        raise DataUnavailable(_what_to_put(name, kind, archives, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fetch(name: str, kind: Any, archives: dict[Path, str], data_dir: Path, temporary: Path) -> ImageData:
    """Unpack in `temporary` the archives that are there, and download the others, which are then kept."""
    arriving = {temporary / path.relative_to(data_dir): path for path in archives}
    for place, path in arriving.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check_md5(path, archives[path])
            place.symlink_to(path)
    try:
        return _read_torchvision(name, kind, temporary, download=True)
    finally:  # also where another archive did not come
        for place, path in arriving.items():
            if place.is_file() and not place.is_symlink() and _md5(place) == archives[path]:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.replace(place, path)


def _read_torchvision(name: str, kind: Any, root: Path, download: bool) -> ImageData:
    """Both parts from `root`; torchvision checks the md5 of what it downloads, and unpacks it there."""
    parts = []
    for train in (True, False):
        with _quiet():
            source = kind(str(root), train=train, download=download)
        images = np.asarray(source.data)
        images = images.transpose(0, 3, 1, 2) if images.ndim == 4 else images[:, None]
        parts.append(Part(np.ascontiguousarray(images), np.asarray(source.targets, dtype=np.int64)))
    return _assemble(name, source.classes, parts[0], parts[1], flip=name.startswith("cifar"), skipped=0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and prints of torchvision, and no waiting for a dead server: it sets no timeout itself."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(action="ignore"),  # NumPy 2.4.0 to 2.4.4 about the old pickles of CIFAR
        ):
            yield
    finally:
        socket.setdefaulttimeout(timeout)


def _archives(kind: Any, data_dir: Path) -> dict[Path, str]:
    """Where torchvision looks for the archives of a data set, and their md5."""
    if hasattr(kind, "tgz_md5"):
        return {data_dir / kind.filename: kind.tgz_md5}
    return {data_dir / kind.__name__ / "raw" / name: md5 for name, md5 in kind.resources}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _check_md5(path: Path, md5: str) -> None:
    found = _md5(path)
    if found != md5:  # torchvision would overwrite it; whose file it is we cannot know
        raise DataUnavailable(f"{path} is damaged: its md5 is {found}, not {md5}; replace it, or remove it to download")


def _what_to_put(name: str, kind: Any, archives: dict[Path, str], error: Exception) -> str:
    """The one line for the user, who may fetch the files in another way, or on another machine."""
    reason = " ".join(str(error).split()) or type(error).__name__
    files = ", ".join(f"{path.name} (md5 {md5})" for path, md5 in archives.items() if not path.exists())
    folder = next(iter(archives)).parent
    if not files:  # a full disk, most likely
        return f"{name} cannot be unpacked from {folder} ({reason})"
    source = getattr(kind, "url", None) or " or ".join(kind.mirrors)
    return f"{name} cannot be downloaded from {source} ({reason}); put {files} into {folder}"


# ---------------------------------------------------------------------------------------------- folders


def _load_folder(root: Path, data_dir: Path, image_size: int, skip_bad_images: bool) -> ImageData:
    """The images of a folder; the parsed copy holds as long as no file's name, size or time changes."""
    files = _list_folder(root, data_dir / "parsed")
    digest = hashlib.sha256(CACHE_VERSION.encode())
    for _, _, entry in files:
        digest.update(os.fsencode(f"{entry.path}\0"))
        with contextlib.suppress(OSError):  # a dangling link; reading it will say so
            status = entry.stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
    place = hashlib.sha256(os.fsencode(f"{root}\0{image_size}\0{skip_bad_images}")).hexdigest()[:16]
    path = data_dir / "parsed" / f"folder-{place}.npz"  # of a folder that changes only the newest copy is kept
    return _cached(path, digest.hexdigest(), lambda: _read_folder(root, files, image_size, skip_bad_images))


def _list_folder(root: Path, unwanted: Path) -> list[tuple[str, str, os.DirEntry[str]]]:
    """Part (`train` and `test`, or "" where there is but one), class and entry of every file, sorted."""
    split = {"train", "test"} <= {entry.name for entry in _visible(root) if entry.is_dir()}
    files = []
    for part in ("train", "test") if split else ("",):
        for folder in _visible(root / part):
            if folder.is_dir() and Path(folder.path) != unwanted:  # the data directory may be this very folder
                entries = _visible(folder.path)
                inner = [entry.name for entry in entries if entry.is_dir()]
                if inner:  # such as train/CLASS/* without a test/: its one class would be `train`
                    raise _unusable(
                        root, f"whose {_some([os.path.join(part, folder.name)])} holds folders: {_some(inner)}"
                    )
                files += [(part, folder.name, entry) for entry in entries]
    if not files:
        raise _unusable(root, "where no images were found")
    classes = {name for _, name, _ in files}
    for part in ("train", "test") if split else ():
        lacking = classes - {name for of, name, _ in files if of == part}
        if lacking:
            raise _unusable(root, f"whose {part} lacks these classes: {_some(sorted(lacking))}")
    if len(classes) < 2:
        raise _unusable(root, f"which has only the class {_some(list(classes))}", f"two classes or more, in {LAYOUTS}")
    return files


def _read_folder(
    root: Path, files: list[tuple[str, str, os.DirEntry[str]]], image_size: int, skip_bad_images: bool
) -> ImageData:
    """Decode what `_list_folder` found."""
    images, channels = _decode_all([Path(entry.path) for _, _, entry in files], image_size)
    good = channels > 0
    bad = [os.path.relpath(files[i][2].path, root) for i in np.flatnonzero(~good)]
    if bad:
        problem = f"{len(bad)} of {len(files)} files cannot be read as images: {_some(bad)}"
        if not skip_bad_images:
            raise _unusable(root, f"where {problem}", "images only, or --skip-bad-images to pass over the others")
        log.warning("%r: %s are passed over", str(root), problem)
    images = images[:, : channels.max()]  # all are grey: the three channels are the same
    classes, labels = np.unique([name for _, name, _ in files], return_inverse=True)
    of_part = np.array([part for part, _, _ in files])
    parts = {}
    for part in dict.fromkeys(part for part, _, _ in files):
        which = good & (of_part == part)
        least = {"train": LEAST_TRAIN, "test": LEAST_TEST, "": LEAST_TRAIN + LEAST_TEST}[part]
        sizes = np.bincount(labels[which], minlength=len(classes))
        few = [f"{name} ({size})" for name, size in zip(classes, sizes, strict=True) if size < least]
        if few:
            where = f" in {part}" if part else ""
            raise _unusable(root, f"which has too few readable images{where}: {_some(few)}", f"{least} or more a class")
        parts[part] = Part(np.ascontiguousarray(images[which]), labels[which].astype(np.int64))
    train = parts["train"] if "train" in parts else parts[""]
    return _assemble(root.name, classes.tolist(), train, parts.get("test"), flip=True, skipped=len(bad))


def _decode_all(paths: list[Path], image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """All images as if they had colour (N×3×H×W), and how many channels each has: 3, 1, or 0 if unreadable."""
    images = np.empty((len(paths), 3, image_size, image_size), dtype=np.uint8)
    channels = np.zeros(len(paths), dtype=np.int64)

    def decode_some(start: int) -> None:
        for i in range(start, min(start + 256, len(paths))):
            try:
                pixels = _decode(paths[i], image_size)
            except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
                log.debug("cannot read %s: %s", paths[i], error)
                continue
            channels[i] = 1 if pixels.ndim == 2 else 3
            images[i] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes without the interpreter's lock
        list(pool.map(decode_some, range(0, len(paths), 256)))
    return images, channels


def _decode(path: Path, image_size: int) -> np.ndarray:
    """One image, upright, its shorter side `image_size` and the longer one cut to that: H×W if grey, or H×W×3."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")  # opening a pipe would wait for ever
    with Image.open(path) as source:
        ImageOps.exif_transpose(source, in_place=True)
        mode = "L" if Image.getmodebase(source.mode) == "L" else "RGB"
        image: Image.Image = source
        if source.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip at 255
            image = Image.fromarray((np.asarray(source).clip(0, 65535) >> 8).astype(np.uint8))
        elif source.has_transparency_data:  # what lies under transparent pixels is arbitrary; browsers show white
            white = Image.new("RGBA", source.size, "white")
            image = Image.alpha_composite(white, source.convert("RGBA"))
        return np.asarray(ImageOps.fit(image.convert(mode), (image_size, image_size), Image.Resampling.BILINEAR))


def _visible(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise _unusable(Path(folder), f"which cannot be read ({error.strerror})") from error


def _some(names: Sequence[str]) -> str:
    """The first five names, without what could break a line or steer a terminal, and how many more there are."""
    shown = [name if name.isprintable() else repr(name)[1:-1] for name in names[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _unusable(root: Path, problem: str, allowed: str = LAYOUTS) -> UsageError:
    return UsageError(f"--dataset: received {str(root)!r}, {problem}, allowed: {allowed}")
