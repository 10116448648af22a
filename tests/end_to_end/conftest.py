"""Folders of images, as a person may have them, and a Ray for many drivers."""

from pathlib import Path

import numpy as np
import pytest
from drivers import ray_head
from PIL import Image


@pytest.fixture(scope="session")
def squares(tmp_path_factory) -> Path:
    """Images of three classes that differ in where they are bright; small, so that every arm is
    quick."""
    root = tmp_path_factory.mktemp("images") / "squares"
    draw = np.random.default_rng(0)
    for label, name in enumerate(("left", "middle", "right")):
        (root / name).mkdir(parents=True)
        for index in range(24):
            pixels = draw.integers(0, 100, (16, 16), dtype=np.uint8)
            pixels[:, 5 * label : 5 * label + 5] += 150
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """No split, two classes of 30 images, mixed sizes and formats, one grey, and one file that is
    cut in half."""
    root = tmp_path / "pets"
    draw = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for index in range(30):
            height, width = draw.integers(16, 40, 2)
            pixels = draw.integers(
                100 * label, 100 * label + 100, (height, width, 3), dtype=np.uint8
            )
            Image.fromarray(pixels).save(
                root / name / f"{index}.{('png', 'jpg', 'bmp')[index % 3]}"
            )
    Image.fromarray(np.full((20, 30), 50, dtype=np.uint8)).save(root / "cat" / "grey.png")
    (root / "dog" / "broken.png").write_bytes((root / "dog" / "0.png").read_bytes()[:200])
    return root


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def head(home):
    """The address of a Ray with two cores, and its process."""
    with ray_head(home) as head:
        yield head
