"""The images: what is read is what was written, parts are disjoint and fixed, and every refusal is
one clear line."""

import contextlib
import functools
import gzip
import hashlib
import io
import multiprocessing
import os
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings, strategies
from PIL import Image

from trainables import datasets
from trainables.config import EpochMetrics, TrialConfig, UsageError
from trainables.datasets import (
    NAMES,
    DataUnavailable,
    ImageData,
    Part,
    Split,
    confirm_data,
    duplicates,
    load_images,
    search_data,
    split_images,
)
from trainables.training import Trainer

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def write_image(
    path: Path, colour: Any, mode: str = "RGB", size: tuple[int, int] = (32, 32), **options: Any
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


def colour_folder(root: Path, each: int = 5) -> Path:
    """One folder a colour, `each` images in it."""
    for name, colour in COLOURS.items():
        for i in range(each):
            write_image(root / name / f"{i}.png", colour)
    return root


def pixels(data: ImageData, name: str) -> np.ndarray:
    """All images of a class, of both parts."""
    label = data.classes.index(name)
    return np.concatenate([part.images[part.labels == label] for part in (data.train, data.test)])


def numbered(classes: int, each: int | list[int]) -> ImageData:
    """A data set whose 2×2 images carry their own number, so that a part's rows can be told."""
    sizes = [each] * classes if isinstance(each, int) else each
    labels = np.repeat(np.arange(classes), sizes)
    labels = labels[np.random.RandomState(1).permutation(len(labels))]
    part = Part(np.arange(len(labels), dtype="<u4").view(np.uint8).reshape(-1, 1, 2, 2), labels)
    names = tuple(f"c{i}" for i in range(classes))
    return ImageData(
        "numbered", names, part, Part(part.images[:classes], labels[:classes]), flip=True
    )


def rows(part: Part) -> list[int]:
    return np.ascontiguousarray(part.images).reshape(-1, 4).view("<u4").ravel().tolist()


def refusal(call: Callable[[], Any], kind: type[Exception] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


# ----------------------------------------------------------------------------------------------
# digits


def test_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    data = load_images("digits", tmp_path / "unused")
    assert not (tmp_path / "unused").exists()
    assert (
        data.name == "digits"
        and data.classes == tuple("0123456789")
        and not data.flip
        and data.skipped == 0
    )
    assert data.image_shape == (1, 16, 16)
    assert (len(data.train.labels), len(data.test.labels)) == (1438, 359)
    for part in (data.train, data.test):
        assert part.images.dtype == np.uint8 and part.labels.dtype == np.int64
        assert part.images.flags.c_contiguous
        assert (
            np.abs(
                np.bincount(part.labels) / len(part.labels)
                - np.bincount(load_digits().target) / 1797
            ).max()
            < 0.003
        )

    def doubled(x: np.ndarray, axis: int) -> np.ndarray:
        """Bilinear: a new pixel lies a quarter pixel from the old one, towards its neighbour."""
        padded = np.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode="edge")
        before, after = (np.take(padded, range(start, start + 8), axis) for start in (0, 2))
        return np.stack([(before + 3 * x) / 4, (3 * x + after) / 4], axis + 1).reshape(
            [16 if i == axis else n for i, n in enumerate(x.shape)]
        )

    original = load_digits()
    expected = doubled(doubled(original.images * (255 / 16), 1), 2)
    left = set(range(1797))
    for part in (data.train, data.test):
        for image, label in zip(part.images[:, 0].astype(float), part.labels, strict=True):
            match = next(
                i
                for i in left
                if original.target[i] == label and np.abs(expected[i] - image).max() < 2.5
            )
            left.remove(match)
    assert not left


# ----------------------------------------------------------------------------------------------
# folders


def test_folder_of_classes(tmp_path: Path) -> None:
    data = load_images(str(colour_folder(tmp_path / "colours", each=10)), tmp_path / "data")
    assert (
        data.name == "colours"
        and data.classes == ("blue", "green", "red")
        and data.flip
        and data.skipped == 0
    )
    assert (len(data.train.labels), len(data.test.labels)) == (24, 6)
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert data.image_shape == (3, 32, 32)
    for name, colour in COLOURS.items():
        assert (pixels(data, name) == np.array(colour)[:, None, None]).all()
    for part in (data.train, data.test):
        assert (
            part.images.flags.c_contiguous
            and part.images.dtype == np.uint8
            and part.labels.dtype == np.int64
        )


def test_folder_with_train_and_test(tmp_path: Path) -> None:
    colour_folder(tmp_path / "set" / "train", each=4)
    colour_folder(tmp_path / "set" / "test", each=2)
    write_image(tmp_path / "set" / "test" / "red" / "0.png", (200, 0, 0))
    data = load_images(str(tmp_path / "set"), tmp_path / "data")
    assert np.bincount(data.train.labels).tolist() == [4, 4, 4]
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert sorted(data.test.images[data.test.labels == 2][:, 0, 0, 0]) == [200, 255]
    assert (data.train.images[data.train.labels == 2] == np.array([255, 0, 0])[:, None, None]).all()


def test_sizes_and_formats_are_mixed(tmp_path: Path) -> None:
    """Shorter side resized, then the centre: a tall image of three bands keeps the middle one, and
    so does a wide."""
    root = colour_folder(tmp_path / "set", each=4)
    bands = np.zeros((300, 100, 3), dtype=np.uint8)
    bands[:100, :, 0], bands[100:200, :, 1], bands[200:, :, 2] = 255, 255, 255
    Image.fromarray(bands).save(root / "green" / "tall.bmp")
    Image.fromarray(bands.transpose(1, 0, 2).copy()).save(
        root / "green" / "wide.webp", lossless=True
    )
    write_image(root / "green" / "small.gif", (0, 255, 0), size=(3, 5))
    write_image(root / "green" / "large.jpg", (0, 255, 0), size=(640, 480), quality=95)
    data = load_images(str(root), tmp_path / "data", image_size=20)
    assert data.image_shape == (3, 20, 20)
    found = pixels(data, "green").astype(int)
    assert len(found) == 8
    inner = found[:, :, 2:-2, 2:-2]  # at the bands' edges neighbours may shine through
    assert np.abs(inner - np.array([0, 255, 0])[:, None, None]).max() <= 3


def test_orientation_of_cameras_is_honoured(tmp_path: Path) -> None:
    root = colour_folder(tmp_path / "set", each=4)
    halves = np.zeros((32, 32, 3), dtype=np.uint8)
    halves[:, 16:] = (
        255  # the right half is white; turned clockwise, as orientation 6 asks, the lower one
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(4):
        image = root / "turned" / f"{i}.png"
        image.parent.mkdir(exist_ok=True)
        Image.fromarray(halves).save(image, exif=exif)
    found = pixels(load_images(str(root), tmp_path / "data"), "turned")
    assert (found[:, :, :16] == 0).all() and (found[:, :, 16:] == 255).all()


def test_one_grey_image_among_colour(tmp_path: Path) -> None:
    root = colour_folder(tmp_path / "set")
    write_image(root / "grey" / "0.png", 100, mode="L")
    for i in (1, 2, 3):
        write_image(root / "grey" / f"{i}.png", 200, mode="L")
    data = load_images(str(root), tmp_path / "data")
    assert data.image_shape == (3, 32, 32)
    assert sorted(pixels(data, "grey")[:, :, 5, 5].tolist()) == [
        [100] * 3,
        [200] * 3,
        [200] * 3,
        [200] * 3,
    ]


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    """Of every grey kind that Pillow knows; 16 bits become 8 by their upper half, and transparency
    is on white."""
    root = tmp_path / "set"
    for i in range(3):
        write_image(root / "dark" / f"{i}.png", 10, mode="L")
        write_image(root / "light" / f"{i}.png", 250, mode="L")
    write_image(root / "dark" / "deep.png", 50 * 256 + 7, mode="I;16")
    write_image(root / "dark" / "bit.png", 0, mode="1")
    write_image(root / "light" / "bit.png", 1, mode="1")
    write_image(root / "light" / "clear.png", (0, 0), mode="LA")
    data = load_images(str(root), tmp_path / "data")
    assert data.image_shape == (1, 32, 32)
    assert sorted(pixels(data, "dark")[:, 0, 3, 3].tolist()) == [0, 10, 10, 10, 50]
    assert sorted(pixels(data, "light")[:, 0, 3, 3].tolist()) == [250, 250, 250, 255, 255]
    assert data.train.images.flags.c_contiguous


@pytest.mark.parametrize(
    ("mode", "colour", "expected"), [("P", 7, None), ("RGBA", (9, 8, 7, 0), 255), ("CMYK", 0, 255)]
)
def test_other_modes_count_as_colour(
    tmp_path: Path, mode: str, colour: Any, expected: int | None
) -> None:
    for name in ("a", "b"):
        for i in range(4):
            write_image(tmp_path / "set" / name / f"{i}.tif", 99, mode="L")
    write_image(tmp_path / "set" / "b" / "x.tif", colour, mode=mode)
    data = load_images(str(tmp_path / "set"), tmp_path / "data")
    assert data.image_shape == (3, 32, 32)
    if expected is not None:
        assert sorted(pixels(data, "b")[:, 0, 0, 0])[-1] == expected


def spoilt_folder(root: Path) -> Path:
    """Mixed sizes, one grey image, a file cut in half, one that is no image, one that is empty."""
    colour_folder(root, each=6)
    write_image(root / "red" / "grey.png", 77, mode="L", size=(50, 70))
    noise = np.random.RandomState(0).randint(0, 256, (64, 48, 3), dtype=np.uint8)
    for name in ("cut.jpg", "cut.png"):
        Image.fromarray(noise).save(root / "red" / name)
        os.truncate(root / "red" / name, (root / "red" / name).stat().st_size // 2)
    (root / "blue" / "notes.txt").write_text("not an image")
    (root / "blue" / "empty.png").touch()
    return root


def test_broken_files_are_refused_by_name(tmp_path: Path) -> None:
    root = spoilt_folder(tmp_path / "set")
    message = refusal(lambda: load_images(str(root), tmp_path / "data"))
    for part in (
        "--dataset",
        "--skip-bad-images",
        "4 of 23",
        "red/cut.jpg",
        "red/cut.png",
        "blue/notes.txt",
        "blue/empty.png",
    ):
        assert part in message
    for i in range(4):
        (root / "green" / f"x{i}.png").touch()
    message = refusal(lambda: load_images(str(root), tmp_path / "data"))
    assert (
        "8 of 27" in message
        and message.count(".png") + message.count(".txt") == 5
        and "and 3 more" in message
    )


def test_broken_files_are_skipped_with_a_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = spoilt_folder(tmp_path / "set")
    for again in (False, True):
        data = load_images(str(root), tmp_path / "data", skip_bad_images=True)
        assert data.skipped == 4
        assert len(data.train.labels) + len(data.test.labels) == 19
        assert [len(pixels(data, name)) for name in data.classes] == [6, 6, 7]
        assert (pixels(data, "blue") == np.array(COLOURS["blue"])[:, None, None]).all()
        assert again or "red/cut.jpg" in caplog.text
    refusal(
        lambda: load_images(str(root), tmp_path / "data")
    )  # the copy without them is not taken for the other


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    root = colour_folder(tmp_path / "set")
    plain = load_images(str(root), tmp_path / "data")
    (root / "red" / ".DS_Store").write_text("hidden")
    (root / "red" / ".thumbnails").mkdir()
    (root / ".git").mkdir()
    write_image(root / ".git" / "0.png", (1, 2, 3))
    (root / "README.txt").write_text("beside the classes")
    data = load_images(str(root), tmp_path / "data")
    assert data.classes == plain.classes and data.fingerprint == plain.fingerprint


def test_links_are_followed(tmp_path: Path) -> None:
    real = colour_folder(tmp_path / "real")
    root = tmp_path / "set"
    root.mkdir()
    for name in ("blue", "green"):
        (root / name).symlink_to(real / name)
    (root / "red").mkdir()
    for i in range(5):
        (root / "red" / f"{i}.png").symlink_to(real / "red" / f"{i}.png")
    linked = load_images(str(root), tmp_path / "data")
    assert linked.fingerprint == load_images(str(real), tmp_path / "data").fingerprint
    (root / "red" / "lost.png").symlink_to(real / "nowhere.png")
    assert "red/lost.png" in refusal(lambda: load_images(str(root), tmp_path / "data"))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    root = colour_folder(tmp_path / "set")
    os.mkfifo(root / "red" / "pipe.png")
    assert "red/pipe.png" in refusal(lambda: load_images(str(root), tmp_path / "data"))


def test_the_data_directory_may_be_the_folder(tmp_path: Path) -> None:
    root = colour_folder(tmp_path / "set")
    first, second = (load_images(str(root), root) for _ in range(2))
    assert first.classes == second.classes == ("blue", "green", "red")


def test_fingerprint_knows_pixels_labels_and_names(tmp_path: Path) -> None:
    def fingerprint(name: str, change: Callable[[Path], Any]) -> str:
        root = colour_folder(tmp_path / name)
        change(root)
        return load_images(str(root), tmp_path / "data").fingerprint

    def one_pixel(root: Path) -> None:
        with Image.open(root / "red" / "0.png") as image:
            image.putpixel((31, 31), (254, 0, 0))
            image.save(root / "red" / "0.png")

    seen = [
        fingerprint("plain", lambda root: None),
        fingerprint("pixel", one_pixel),
        fingerprint(
            "label", lambda root: (root / "red" / "0.png").rename(root / "green" / "x.png")
        ),
        fingerprint("name", lambda root: (root / "red").rename(root / "rot")),
    ]
    assert len(set(seen)) == 4 and all(len(one) == 64 for one in seen)
    assert seen[0] == fingerprint("elsewhere", lambda root: None)


# ---------------------------------------------------------------------------------------------- any
# folder


def encoded(kind: str, mode: str, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 1).save(file, kind)
    return file.getvalue()


WHOLE = [
    encoded(kind, mode, size)
    for kind, mode in (
        ("png", "RGBA"),
        ("png", "I;16"),
        ("png", "1"),
        ("jpeg", "CMYK"),
        ("jpeg", "L"),
        ("gif", "P"),
    )
    for size in ((1, 1), (9, 5), (2, 300))
]
ODD_NAMES = [
    "train",
    "test",
    "NA",
    " ",
    "a\nb",
    "\x1b[31m",
    "-r",
    "ä",
    "a\u0308",
    "🙂",
    "\u202ex",
    "\udcff",
    "%s{}",
    ".x",
]


def test_a_class_whose_name_is_not_utf8_can_be_written_down(tmp_path):
    """Such as a folder of an archive in Latin-1; the table of the winner's classes could not be
    written."""
    root = os.fsencode(tmp_path) + b"/photos"
    for name in (b"Bl\xfcte", b"leaf"):
        os.makedirs(os.path.join(root, name))
        for number in range(5):
            pixels = np.full((8, 8, 3), 20 * number, np.uint8)
            Image.fromarray(pixels).save(
                os.path.join(os.fsdecode(root), os.fsdecode(name), f"{number}.png")
            )
    images = load_images(os.fsdecode(root), tmp_path / "data", image_size=8)
    assert images.classes == ("Bl\\xfcte", "leaf")
    assert "".join(images.classes).encode("utf-8")


@strategies.composite
def spoilt_bytes(draw: Any) -> bytes:
    """Anything, or an image cut off or with one byte changed."""
    content = draw(strategies.sampled_from(WHOLE))
    at = draw(strategies.integers(0, len(content) - 1))
    other = (
        content[:at] + bytes([content[at] ^ draw(strategies.integers(1, 255))]) + content[at + 1 :]
    )
    return draw(strategies.sampled_from([content[:at], other]) | strategies.binary(max_size=60))


def class_of_files(content: Any, least: int) -> Any:
    characters = strategies.characters(exclude_categories=["Cs"], exclude_characters="/\0")
    name = strategies.text(characters, min_size=1, max_size=9).filter(
        lambda text: text not in (".", "..")
    )
    ending = strategies.sampled_from([".png", ".jpg", ".gif", ".txt", "", "\n.png"])
    stem = name | strategies.sampled_from(ODD_NAMES)
    files = strategies.tuples(stem, ending).map("".join)
    return strategies.dictionaries(files, content, min_size=least, max_size=8)


@settings(max_examples=80, deadline=None)
@given(strategies.data())
def test_any_folder_is_read_right_or_refused_by_name(data: strategies.DataObject) -> None:
    """Whatever lies there: one line that names a file, a class or a part, or every file is read or
    counted."""
    two_parts, sound, skip = (
        data.draw(strategies.booleans(), label=name) for name in ("two parts", "sound", "skip")
    )
    whole = strategies.sampled_from(WHOLE)
    content = whole if sound else strategies.one_of(whole, whole, whole, spoilt_bytes())
    least = 5 if sound else data.draw(strategies.sampled_from([0, 6]))
    names = data.draw(
        strategies.lists(strategies.sampled_from(ODD_NAMES), min_size=2, max_size=3, unique=True)
    )
    folder = strategies.fixed_dictionaries({name: class_of_files(content, least) for name in names})
    drawn = {
        part: data.draw(folder, label=part) for part in (("train", "test") if two_parts else ("",))
    }
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "images")
        there: dict[str, dict[str, int]] = {}
        for part, classes in drawn.items():
            for name, files in classes.items():
                (root / part / name).mkdir(parents=True)
                for file, bytes_ in files.items():
                    (root / part / name / file).write_bytes(bytes_)
                if seen := sum(not file.startswith(".") for file in files) * (
                    not name.startswith(".")
                ):
                    there.setdefault(part, {})[name] = seen
        try:
            found, again = (load_images(str(root), Path(place, "data"), 8, skip) for _ in range(2))
        except UsageError as error:
            event("refused")
            message = str(error)
            assert message.startswith("--dataset: invalid value") and message.isprintable()
            files = {
                file for classes in drawn.values() for files in classes.values() for file in files
            }
            shown = [name if name.isprintable() else repr(name)[1:-1] for name in {*names, *files}]
            assert (
                any(name in message for name in shown)
                or "no images were found" in message
                or " in test" in message
            )
            enough = [min(classes.values()) >= 4 for classes in there.values()]
            alike = {tuple(sorted(classes)) for classes in there.values()}
            unlike = (
                len(alike) != 1
                or len(next(iter(alike))) < 2
                or {"train", "test"} <= drawn.get("", {}).keys()
            )
            assert not sound or unlike or not all(enough)
            return
        event("skipped some" if found.skipped else "read")
        assert same(found, again)
        every = sorted({name for classes in there.values() for name in classes})
        assert found.classes == tuple(name.replace("\udcff", "\\xff") for name in every)
        files_there = sum(sum(classes.values()) for classes in there.values())
        assert len(found.train.labels) + len(found.test.labels) + found.skipped == files_there
        assert not found.skipped or (skip and not sound)
        for part in (found.train, found.test):
            assert part.images.dtype == np.uint8 and part.images.shape == (
                len(part.labels),
                *found.image_shape,
            )
            assert found.image_shape in ((1, 8, 8), (3, 8, 8))
            assert np.bincount(part.labels, minlength=len(found.classes)).min() >= 1
        if two_parts and not found.skipped:
            expected = [there["test"][name] for name in every]
            assert np.bincount(found.test.labels).tolist() == expected


# ---------------------------------------------------------------------------------------------- the
# parsed copy


def same(one: ImageData, other: ImageData) -> bool:
    arrays = all(
        (getattr(getattr(one, part), field) == getattr(getattr(other, part), field)).all()
        for part in ("train", "test")
        for field in ("images", "labels")
    )
    facts = replace(one, train=other.train, test=other.test) == other
    return arrays and facts and one.fingerprint == other.fingerprint


def parsed(data_dir: Path) -> Path:
    (path,) = (data_dir / ".parsed").iterdir()
    return path


def test_second_load_decodes_nothing(tmp_path: Path) -> None:
    root = colour_folder(tmp_path / "set")
    first = load_images(str(root), tmp_path / "data")
    for path in root.glob(
        "*/*.png"
    ):  # no file is an image any more, but name, size and time are the same
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert same(first, load_images(str(root), tmp_path / "data"))
    os.utime(root / "red" / "0.png")
    assert "15 of 15" in refusal(lambda: load_images(str(root), tmp_path / "data"))


def test_changes_make_the_copy_anew(tmp_path: Path) -> None:
    root = colour_folder(tmp_path / "set")
    first = load_images(str(root), tmp_path / "data")
    write_image(root / "red" / "0.png", (250, 0, 0))
    second = load_images(str(root), tmp_path / "data")
    write_image(root / "red" / "new.png", (250, 0, 0))
    third = load_images(str(root), tmp_path / "data")
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3
    assert len(third.train.labels) + len(third.test.labels) == 16
    assert parsed(tmp_path / "data").suffix == ".npz"  # the copies of earlier states are gone
    assert load_images(str(root), tmp_path / "data", image_size=16).image_shape == (3, 16, 16)
    assert load_images(str(root), tmp_path / "data").image_shape == (3, 32, 32)


@pytest.mark.parametrize("damage", ["byte", "half", "empty", "text", "zip"])
def test_damaged_copy_is_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = colour_folder(tmp_path / "set")
    first = load_images(str(root), tmp_path / "data")
    path = parsed(tmp_path / "data")
    content = bytearray(path.read_bytes())
    whole = bytes(content)
    content[len(content) // 2] ^= 1  # in the midst of the pixels
    spoilt = {
        "byte": bytes(content),
        "half": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"not an archive",
    }
    path.write_bytes(spoilt.get(damage, whole[:-30]))
    again = load_images(str(root), tmp_path / "data")
    assert same(first, again) and "damaged" in caplog.text and len(caplog.records) == 1
    caplog.clear()
    assert same(first, load_images(str(root), tmp_path / "data")) and not caplog.records


def test_a_file_in_the_place_of_the_copies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".parsed").touch()
    assert len(load_images(str(colour_folder(tmp_path / "set")), tmp_path / "data").classes) == 3
    assert "cannot keep the parsed images" in caplog.text


def test_a_class_may_hold_many_files(tmp_path: Path) -> None:
    """More than a thread takes at once: every image stays with its own class, in the order of
    names."""
    root = tmp_path / "set"
    for i in range(300):
        write_image(
            root / ("odd" if i % 2 else "even") / f"{i:03}.png", i % 256, mode="L", size=(8, 8)
        )
    data = load_images(str(root), tmp_path / "data", image_size=8)
    for name, first in (("even", 0), ("odd", 1)):
        assert sorted(pixels(data, name)[:, 0, 0, 0]) == sorted(
            i % 256 for i in range(first, 300, 2)
        )
        ordered = [
            part.images[part.labels == data.classes.index(name)][:, 0, 0, 0]
            for part in (data.train, data.test)
        ]
        falls = [int((np.diff(values.astype(int)) < 0).sum()) for values in ordered]
        assert max(falls) <= 1  # after 255 comes 0 once


def test_no_room_for_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert len(load_images(str(colour_folder(tmp_path / "set")), tmp_path / "data").classes) == 3
    assert "No space left" in caplog.text and not list((tmp_path / "data" / ".parsed").iterdir())


def load_and_tell(folder: str, data_dir: str, answers: Any) -> None:
    answers.put(load_images(folder, Path(data_dir)).fingerprint)


def test_two_processes_at_once(tmp_path: Path) -> None:
    root = colour_folder(tmp_path / "set", each=100)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=load_and_tell, args=(str(root), str(tmp_path / "data"), answers))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    told = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert told == {load_images(str(root), tmp_path / "data").fingerprint}
    parsed(tmp_path / "data")


# ----------------------------------------------------------------------------------------------
# wrong use


@pytest.mark.parametrize(
    "name", ["cifar-10", "", "no/such/folder", "x" * 5000, "nul\0", "two\nlines"]
)
def test_unknown_data_set(tmp_path: Path, name: str) -> None:
    message = refusal(lambda: load_images(name, tmp_path))
    assert message.startswith("--dataset: invalid value") and all(
        known in message for known in NAMES
    )


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    def said(name: str) -> str:
        message = refusal(lambda: load_images(str(tmp_path / name), tmp_path / "data"))
        assert (
            message.startswith("--dataset: invalid value")
            and name in message
            and ": expected " in message
        )
        return message

    (tmp_path / "nothing").mkdir()
    assert "no images" in said("nothing")
    (tmp_path / "hollow" / "cat").mkdir(parents=True)
    assert "no images" in said("hollow")
    write_image(tmp_path / "flat" / "0.png", (1, 2, 3))
    assert "no images" in said("flat")
    write_image(tmp_path / "single" / "cat" / "0.png", (1, 2, 3))
    assert "only the class cat" in said("single")
    colour_folder(tmp_path / "half" / "train")
    assert "folders in the place of images: train/blue, train/green, train/red" in said("half")
    colour_folder(tmp_path / "deep" / "red" / "more")
    colour_folder(tmp_path / "deep" / "blue")
    assert "folders in the place of images: blue/blue, blue/green, blue/red, red/more:" in said(
        "deep"
    )
    colour_folder(tmp_path / "unlike" / "train")
    colour_folder(tmp_path / "unlike" / "test")
    write_image(tmp_path / "unlike" / "test" / "pink" / "0.png", (255, 200, 200))
    assert "too few readable images in train: pink (0): expected 3 or more" in said("unlike")
    colour_folder(tmp_path / "lacking" / "train")
    write_image(tmp_path / "lacking" / "test" / "red" / "0.png", (255, 0, 0))
    assert "in test: blue (0), green (0): expected 1 or more" in said("lacking")


def test_classes_with_too_few_images(tmp_path: Path) -> None:
    root = colour_folder(tmp_path / "set", each=4)
    least = load_images(str(root), tmp_path / "data")
    split = split_images(least)
    for part, number in ((split.train, 2), (split.validation, 1), (split.test, 1)):
        assert np.bincount(part.labels).tolist() == [number] * 3
    (root / "red" / "3.png").unlink()
    message = refusal(lambda: load_images(str(root), tmp_path / "data"))
    assert "red (3)" in message and "4 or more" in message and "green" not in message
    colour_folder(tmp_path / "two" / "train", each=3)
    colour_folder(tmp_path / "two" / "test", each=1)
    assert len(load_images(str(tmp_path / "two"), tmp_path / "data").train.labels) == 9
    (tmp_path / "two" / "test" / "blue" / "0.png").write_text("broken")
    message = refusal(
        lambda: load_images(str(tmp_path / "two"), tmp_path / "data", skip_bad_images=True)
    )
    assert "in test: blue (0)" in message and "1 or more" in message


def test_names_cannot_break_the_line(tmp_path: Path) -> None:
    root = colour_folder(tmp_path / "set")
    (root / "red" / "two\nlines\x1b[31m.png").write_text("broken")
    assert "two\\nlines\\x1b" in refusal(lambda: load_images(str(root), tmp_path / "data"))


def test_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    root = colour_folder(tmp_path / "set")
    monkeypatch.setattr(os, "listdir", refuse)
    assert "Permission denied" in refusal(lambda: load_images(str(root), tmp_path / "data"))


def test_data_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        message = refusal(
            lambda place=place: load_images(str(colour_folder(tmp_path / "set")), place)
        )  # type: ignore[misc]
        assert message.startswith("--data-dir: invalid value") and str(place) in message


# ----------------------------------------------------------------------------------------------
# parts


@pytest.mark.parametrize(
    ("wanted", "train", "validation"),
    [
        (None, 45_000, 5_000),
        (50_000, 45_000, 5_000),
        (4_000, 3_600, 400),
        (1_005, 905, 100),
        (30, 20, 10),
    ],
)
def test_counts_are_exact_and_stratified(wanted: int | None, train: int, validation: int) -> None:
    split = split_images(numbered(10, 5_000), wanted)
    assert (len(split.train.labels), len(split.validation.labels)) == (train, validation)
    for part in (split.train, split.validation):
        sizes = np.bincount(part.labels, minlength=10)
        assert sizes.max() - sizes.min() <= 1
        assert part.images.flags.c_contiguous and part.labels.dtype == np.int64


def test_parts_are_disjoint_fixed_and_whole() -> None:
    data = numbered(7, [40, 100, 3, 5, 60, 1000, 4])
    label_of = dict(zip(rows(data.train), data.train.labels, strict=True))
    for wanted in (None, 21, 22, 35, 400, 1211):
        split, again = split_images(data, wanted), split_images(data, wanted)
        train, validation = rows(split.train), rows(split.validation)
        assert len(set(train) | set(validation)) == len(train) + len(validation) == (wanted or 1212)
        for part in (split.train, split.validation):
            assert [label_of[row] for row in rows(part)] == part.labels.tolist()
        assert train == rows(again.train) and validation == rows(again.validation)
        assert np.bincount(split.train.labels, minlength=7).min() >= 2
        assert np.bincount(split.validation.labels, minlength=7).min() >= 1
        assert split.test is data.test
    assert len(split_images(data).validation.labels) == 121


def test_parts_follow_the_classes_shares() -> None:
    """Where classes are large enough, each gives its share to within one image."""
    data = numbered(4, [40, 200, 1000, 333])
    split = split_images(data, 800)
    together = np.bincount(split.train.labels) + np.bincount(split.validation.labels)
    assert np.abs(together - 800 * np.array([40, 200, 1000, 333]) / 1573).max() < 1
    assert np.abs(np.bincount(split.validation.labels) - together / 10).max() < 1


def test_parts_are_the_same_for_ever() -> None:
    """Held by value: another split under the same fingerprint would make old studies incomparable."""
    split = split_images(numbered(3, 20), 30)
    assert rows(split.validation) == [11, 14, 53]


@pytest.mark.parametrize("wanted", [0, -1, 29, 101])
def test_wrong_number_of_training_images(wanted: int) -> None:
    message = refusal(lambda: split_images(numbered(10, 10), wanted))
    assert (
        message.startswith(f"--train-images: invalid value {wanted}:")
        and "from 30 to 100" in message
    )


def test_search_sees_no_test_images() -> None:
    data = numbered(3, 20)
    split = split_images(data)
    trial = search_data(data, split)
    assert (
        trial.test is None and trial.train is split.train and trial.validation is split.validation
    )
    assert trial.classes == 3 and trial.flip is True


def test_confirm_trains_on_what_the_search_trained_and_chose_on_and_reads_the_test_images() -> None:
    data = numbered(3, 20)
    for wanted in (None, 30):
        split = split_images(data, wanted)
        trial = confirm_data(data, split)
        assert rows(trial.train) == rows(split.train) + rows(split.validation)
        label_of = dict(zip(rows(data.train), data.train.labels.tolist(), strict=True))
        assert [label_of[row] for row in rows(trial.train)] == trial.train.labels.tolist()
        assert len(trial.train.labels) == (wanted or 60)
        assert trial.validation is None and trial.test is data.test
        assert trial.train.images.dtype == np.uint8
        assert (trial.classes, trial.flip) == (3, True)


def test_a_search_trial_reads_the_same_whatever_the_test_images_are() -> None:
    """And a trial of the confirm stage reads them after every epoch."""
    config = TrialConfig(
        width=2, depth=10, stem_kernel=3, batch_size=16, max_epochs=2, normalize="data"
    )
    drawn = np.random.RandomState(3).randint(0, 256, (2, 40, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 2
    train = Part(drawn[0], labels)
    readings: dict[str, list[list[EpochMetrics]]] = {"search": [], "confirm": []}
    for images in (drawn[1], 255 - drawn[1] // 2):
        data = ImageData("made", ("a", "b"), train, Part(images, labels), False)
        split = split_images(data)
        for stage, handed in (
            ("search", search_data(data, split)),
            ("confirm", confirm_data(data, split)),
        ):
            trainer = Trainer(config, handed)
            said = [
                replace(trainer.run_epoch(), train_seconds=0.0, eval_seconds=0.0) for _ in range(2)
            ]
            readings[stage].append(said)
    once, twice = readings["search"]
    assert once == twice
    assert all(each.test_loss is None and each.test_accuracy is None for each in once)
    assert all(each.validation_loss is not None for each in once)
    once, twice = readings["confirm"]
    assert [each.train_loss for each in once] == [each.train_loss for each in twice], (
        "nothing is learnt from them"
    )
    assert all(a.test_loss != b.test_loss for a, b in zip(once, twice, strict=True))
    assert all(each.validation_loss is None and each.validation_accuracy is None for each in once)


def test_duplicates_are_counted_by_part() -> None:
    """One pixel is enough to tell two images apart; every image that is a copy counts, however
    often it is there."""
    images = np.random.RandomState(2).randint(0, 256, (9, 3, 4, 4), dtype=np.uint8)
    images[4] = images[5] = images[0]
    images[6] = images[1]
    images[6, 2, 3, 3] ^= 1
    images[8] = images[7]  # both in the test part, which is no copy of a training image
    parts = [Part(images[a:b], np.arange(a, b)) for a, b in ((0, 4), (4, 5), (5, 9))]
    assert duplicates(Split(*parts)) == {"validation": 1, "test": 1}


# ----------------------------------------------------------------------------------------------
# torchvision's data sets


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def dead_server() -> str:
    """An address where nobody answers: the port was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a web server of that folder."""
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def small_cifar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead_server: str
) -> tuple[Path, np.ndarray]:
    """An archive like CIFAR-10's with 40 training images and 10 to test; torchvision is told its
    md5s, no more."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "made" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    images = np.random.RandomState(3).randint(0, 256, (50, 3072), dtype=np.uint8)

    def keep(name: str, content: dict[str, Any]) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return md5((folder / name).read_bytes())

    training = [
        [
            f"data_batch_{i + 1}",
            keep(
                f"data_batch_{i + 1}",
                {"data": images[20 * i : 20 * i + 20], "labels": [*range(10)] * 2},
            ),
        ]
        for i in range(2)
    ]
    test = [["test_batch", keep("test_batch", {"data": images[40:], "labels": [*range(10)]})]]
    names = keep("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    archive = tmp_path / "made" / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "train_list", training)
    monkeypatch.setattr(CIFAR10, "test_list", test)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": names})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive.read_bytes()))
    monkeypatch.setattr(CIFAR10, "url", dead_server + CIFAR10.filename)
    return archive, images.reshape(50, 3, 32, 32)


def check_small_cifar(data: ImageData, images: np.ndarray) -> None:
    assert (data.train.images == images[:40]).all() and (data.test.images == images[40:]).all()
    assert data.train.labels.tolist() == [*range(10)] * 4 and data.train.labels.dtype == np.int64
    assert (
        data.classes == tuple(f"class {i}" for i in range(10))
        and data.name == "cifar10"
        and data.flip
    )
    assert data.train.images.flags.c_contiguous


def test_archive_put_by_hand(
    tmp_path: Path, small_cifar: tuple[Path, np.ndarray], capfd: pytest.CaptureFixture[str]
) -> None:
    archive, images = small_cifar
    data_dir = tmp_path / "data"
    message = refusal(lambda: load_images("cifar10", data_dir), DataUnavailable)
    assert f"put {archive.name} (md5 {md5(archive.read_bytes())}) into {data_dir}" in message
    archive.rename(data_dir / archive.name)
    check_small_cifar(load_images("cifar10", data_dir), images)
    assert {path.name for path in data_dir.iterdir()} == {
        ".lock",
        archive.name,
        "cifar-10-batches-py",
    }
    (data_dir / archive.name).unlink()
    check_small_cifar(load_images("cifar10", data_dir), images)  # as it lies unpacked
    assert capfd.readouterr() == ("", "")


def test_wrong_archive_is_refused_and_left(
    tmp_path: Path, small_cifar: tuple[Path, np.ndarray]
) -> None:
    archive, _ = small_cifar
    (tmp_path / "data").mkdir()
    placed = tmp_path / "data" / archive.name
    placed.write_bytes(archive.read_bytes()[:-100])
    message = refusal(lambda: load_images("cifar10", tmp_path / "data"), DataUnavailable)
    assert (
        str(placed) in message
        and md5(placed.read_bytes()) in message
        and md5(archive.read_bytes()) in message
    )
    assert placed.read_bytes() == archive.read_bytes()[:-100]


def test_unpacked_folder_is_used(tmp_path: Path, small_cifar: tuple[Path, np.ndarray]) -> None:
    archive, images = small_cifar
    unpacked = archive.parent / "cifar-10-batches-py"
    (tmp_path / "data").mkdir()
    unpacked.rename(tmp_path / "data" / unpacked.name)
    check_small_cifar(load_images("cifar10", tmp_path / "data"), images)
    (tmp_path / "data" / unpacked.name / "test_batch").write_bytes(b"damaged")
    refusal(lambda: load_images("cifar10", tmp_path / "data"), DataUnavailable)


def test_download(
    tmp_path: Path, small_cifar: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a server on this machine: the archive arrives under its name, whole; a cut one does not."""
    from torchvision.datasets import CIFAR10

    archive, images = small_cifar
    with serving(archive.parent) as address:
        monkeypatch.setattr(CIFAR10, "url", address + archive.name)
        check_small_cifar(load_images("cifar10", tmp_path / "data"), images)
        assert (tmp_path / "data" / archive.name).read_bytes() == archive.read_bytes()
        archive.write_bytes(archive.read_bytes()[:-1])
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / f"{archive.name}.part").write_bytes(
            b"half"
        )  # left by a killed process
        message = refusal(lambda: load_images("cifar10", tmp_path / "other"), DataUnavailable)
    assert f"into {tmp_path / 'other'}" in message
    assert {path.name for path in (tmp_path / "other").iterdir()} == {".lock"}


def test_silent_server_is_given_up(
    tmp_path: Path, small_cifar: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(datasets, "DOWNLOAD_TIMEOUT", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setattr(
            CIFAR10, "url", f"http://127.0.0.1:{listener.getsockname()[1]}/{CIFAR10.filename}"
        )
        start = time.monotonic()
        assert "timed out" in refusal(
            lambda: load_images("cifar10", tmp_path / "data"), DataUnavailable
        )
        assert time.monotonic() - start < 5
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead_server: str, name: str, kind: str
) -> None:
    """Four archives; those that are there are not asked for again, in the message either."""
    import torchvision

    images = np.random.RandomState(4).randint(0, 256, (30, 28, 28), dtype=np.uint8)
    labels = np.tile(np.arange(10, dtype=np.uint8), 3)
    contents = {
        "train-images-idx3-ubyte.gz": struct.pack(">IIII", 2051, 20, 28, 28)
        + images[:20].tobytes(),
        "train-labels-idx1-ubyte.gz": struct.pack(">II", 2049, 20) + labels[:20].tobytes(),
        "t10k-images-idx3-ubyte.gz": struct.pack(">IIII", 2051, 10, 28, 28) + images[20:].tobytes(),
        "t10k-labels-idx1-ubyte.gz": struct.pack(">II", 2049, 10) + labels[20:].tobytes(),
    }
    archives = {file: gzip.compress(content) for file, content in contents.items()}
    torchvision_class = getattr(torchvision.datasets, kind)
    monkeypatch.setattr(
        torchvision_class, "resources", [(file, md5(content)) for file, content in archives.items()]
    )
    raw = tmp_path / "data" / kind / "raw"
    raw.mkdir(parents=True)
    *first, last = archives
    for file in first[1:]:
        (raw / file).write_bytes(archives[file])
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / first[0]).write_bytes(archives[first[0]])
    (tmp_path / "web" / last).write_bytes(b"a page that asks for a password")
    with serving(
        tmp_path / "web"
    ) as address:  # one archive arrives, the other is not what it should be
        monkeypatch.setattr(torchvision_class, "mirrors", [dead_server, address])
        refusal(lambda: load_images(name, tmp_path / "data"), DataUnavailable)
    assert (raw / first[0]).read_bytes() == archives[first[0]]
    monkeypatch.setattr(torchvision_class, "mirrors", [dead_server])
    message = refusal(lambda: load_images(name, tmp_path / "data"), DataUnavailable)
    assert (
        f"put {last} (md5 {md5(archives[last])}) into {raw}" in message
        and first[0] not in message.split("put ")[1]
    )
    (raw / last).write_bytes(archives[last])
    data = load_images(name, tmp_path / "data")
    assert data.image_shape == (1, 28, 28) and not data.flip and len(data.classes) == 10
    assert (data.train.images[:, 0] == images[:20]).all() and (
        data.test.images[:, 0] == images[20:]
    ).all()
    assert (data.train.labels == labels[:20]).all() and data.test.labels.dtype == np.int64


def test_importing_is_cheap() -> None:
    """The large libraries come only with the data that need them."""
    code = "import sys, trainables.datasets; print({'torch', 'torchvision', 'sklearn', 'ray'} & set(sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )


# ----------------------------------------------------------------------------------------------
# real images


@pytest.mark.slow
def test_real_images(tmp_path: Path) -> None:
    folder = os.environ.get("RESNET_STUDY_IMAGES")
    if not folder:
        pytest.skip("RESNET_STUDY_IMAGES does not name the unpacked CIFAR-10 images")
    data = load_images(folder, tmp_path)
    assert data.image_shape == (3, 32, 32) and data.skipped == 0
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.classes == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
    )  # fmt: skip
    mean = data.train.images.mean((0, 2, 3)) / 255
    assert (
        np.abs(mean - [0.4914, 0.4822, 0.4465]).max() < 0.002
    )  # as published for the original pixels
    split = split_images(data, 4000)
    assert np.bincount(split.train.labels).tolist() == [360] * 10
    assert np.bincount(split.validation.labels).tolist() == [40] * 10
    assert load_images(folder, tmp_path).fingerprint == data.fingerprint


@pytest.mark.parametrize("empty", ["train", "test"])
def test_a_part_without_any_file_is_refused(tmp_path: Path, empty: str) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for number in range(6 if part != empty else 0):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(
                    tmp_path / "images" / part / name / f"{number}.png"
                )
    with pytest.raises(UsageError, match=rf"too few readable images in {empty}: a \(0\), b \(0\)"):
        load_images(str(tmp_path / "images"), tmp_path / "data", 8)
