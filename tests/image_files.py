"""Makes small image files and folders of them with known pixels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainables.parts import ImageData, Part

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def write_image(
    path: Path, colour: Any, mode: str = "RGB", size: tuple[int, int] = (32, 32), **options: Any
) -> None:
    """One image of a single colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


def colour_folder(root: Path, each: int = 5) -> Path:
    """One folder per colour, `each` images in it."""
    for name, colour in COLOURS.items():
        for number in range(each):
            write_image(root / name / f"{number}.png", colour)
    return root


def pixels_of(data: ImageData, name: str) -> np.ndarray:
    """All images of a class, of both parts."""
    label = data.classes.index(name)
    return np.concatenate([part.images[part.labels == label] for part in (data.train, data.test)])


def numbered(classes: int, each: int | list[int]) -> ImageData:
    """A data set whose 2×2 images carry their own number, so that every row can be identified."""
    sizes = [each] * classes if isinstance(each, int) else each
    labels = np.repeat(np.arange(classes), sizes)
    labels = labels[np.random.RandomState(1).permutation(len(labels))]
    images = np.arange(len(labels), dtype="<u4").view(np.uint8).reshape(-1, 1, 2, 2)
    train, test = Part(images, labels), Part(images[:classes], labels[:classes])
    names = tuple(f"c{number}" for number in range(classes))
    return ImageData("numbered", names, train, test, flip=True)


def numbers_of(part: Part) -> list[int]:
    """The numbers that the images of `numbered` carry."""
    return np.ascontiguousarray(part.images).reshape(-1, 4).view("<u4").ravel().tolist()


def same(one: ImageData, other: ImageData) -> bool:
    """Whether two data sets are equal in every pixel and fact."""
    arrays = all(
        (getattr(getattr(one, part), field) == getattr(getattr(other, part), field)).all()
        for part in ("train", "test")
        for field in ("images", "labels")
    )
    facts = replace(one, train=other.train, test=other.test, validation=other.validation) == other
    return arrays and facts and one.fingerprint == other.fingerprint
