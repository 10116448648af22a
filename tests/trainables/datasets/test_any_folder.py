"""Whatever a folder holds, it is read right or refused by name."""

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import event, given, settings, strategies
from image_files import same
from PIL import Image

from trainables.config import UsageError
from trainables.datasets import load_images


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
