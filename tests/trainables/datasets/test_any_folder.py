"""Whatever a folder holds, it is read right or refused by name."""

import io
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import Phase, event, given, settings, strategies
from image_files import same
from PIL import Image

from trainables.config import UsageError
from trainables.datasets import load_images
from trainables.parts import ImageData


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


@strategies.composite
def folders(draw: Any) -> "Drawn":
    """A folder of one part or two, sound or not."""
    parts = draw(strategies.sampled_from([("",), ("train", "test")]), label="parts")
    sound = draw(strategies.booleans(), label="sound")
    whole = strategies.sampled_from(WHOLE)
    content = whole if sound else strategies.one_of(whole, whole, whole, spoilt_bytes())
    least = 5 if sound else draw(strategies.sampled_from([0, 6]))
    names = draw(
        strategies.lists(strategies.sampled_from(ODD_NAMES), min_size=2, max_size=3, unique=True)
    )
    classes = {name: class_of_files(content, least) for name in names}
    folder = strategies.fixed_dictionaries(classes)
    return Drawn(sound, {part: draw(folder, label=part) for part in parts})


class Drawn(NamedTuple):
    """A folder that is not written yet: by part and class the contents of its files."""

    sound: bool
    parts: dict[str, dict[str, dict[str, bytes]]]

    def write(self, root: Path) -> None:
        for part, classes in self.parts.items():
            for name, files in classes.items():
                (root / part / name).mkdir(parents=True)
                for file, content in files.items():
                    (root / part / name / file).write_bytes(content)

    def counts(self) -> dict[str, Counter[str]]:
        """By part and class the files that are not hidden."""
        counts = {part: Counter() for part in self.parts}
        for part, classes in self.parts.items():
            for name, files in classes.items():
                if not name.startswith("."):
                    visible = [file for file in files if not file.startswith(".")]
                    counts[part][class_name(name)] += len(visible)
        return {part: +sizes for part, sizes in counts.items()}

    def names(self) -> set[str]:
        """Of all classes and files, as a line shows them."""
        classes = [(name, files) for part in self.parts.values() for name, files in part.items()]
        names = {name for name, _ in classes} | {file for _, files in classes for file in files}
        names |= {class_name(name) for name in names}
        return {name if name.isprintable() else repr(name)[1:-1] for name in names}

    def must_be_read(self) -> bool:
        """Whether nothing is wrong with it."""
        counts = self.counts()
        classes = {frozenset(sizes) for sizes in counts.values()}
        if len(classes) != 1 or len(next(iter(classes))) < 2:
            return False
        if {"train", "test"} <= self.parts.get("", {}).keys():
            return False  # they are taken for parts
        return self.sound and all(min(sizes.values()) >= 4 for sizes in counts.values())


def class_name(folder: str) -> str:
    return unicodedata.normalize("NFC", folder)


def check_refusal(message: str, drawn: Drawn) -> None:
    """One line that names a file, a class or a part."""
    assert message.startswith("--dataset: invalid value")
    assert message.isprintable()
    named = any(name in message for name in drawn.names())
    assert named or "no images were found" in message or " in test" in message
    assert not drawn.must_be_read()


def check_data(data: ImageData, drawn: Drawn, skip: bool) -> None:
    """Every file is read or counted."""
    counts = drawn.counts()
    every = sorted({name for sizes in counts.values() for name in sizes})
    assert data.classes == tuple(name.replace("\udcff", "\\xff") for name in every)
    files = sum(sizes.total() for sizes in counts.values())
    assert len(data.train) + len(data.test) + data.skipped == files
    assert not data.skipped or (skip and not drawn.sound)
    assert data.image_shape in ((1, 8, 8), (3, 8, 8))
    for part in (data.train, data.test):
        assert part.images.dtype == np.uint8
        assert part.images.shape == (len(part), *data.image_shape)
        assert np.bincount(part.labels, minlength=len(data.classes)).min() >= 1
    if "test" in counts and not data.skipped:
        expected = [counts["test"][name] for name in every]
        assert np.bincount(data.test.labels).tolist() == expected


@settings(max_examples=80, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(folders(), strategies.booleans())
def test_any_folder_is_read_right_or_refused_by_name(drawn: Drawn, skip: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        drawn.write(root := Path(place, "images"))
        try:
            data, again = (load_images(str(root), Path(place, "data"), 8, skip) for _ in range(2))
        except UsageError as error:
            event("refused")
            check_refusal(str(error), drawn)
            return
    event("skipped some" if data.skipped else "read")
    assert same(data, again)
    check_data(data, drawn, skip)
