"""Classes that are each other's mirror image are found; others are not."""

import os
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from trainables.datasets import load_images
from trainables.mirror import mirrored_classes
from trainables.parts import Part

ARROW = ((6, 16), (16, 8), (16, 13), (26, 13), (26, 19), (16, 19), (16, 24))


def arrows(each: int, shift: int, seed: int = 0) -> Part:
    """Arrows left (0) and right (1) on grey, of their own brightness and place, with some noise."""
    draw = np.random.RandomState(seed)
    images = []
    for number in range(2 * each):
        image = Image.new("L", (32, 32), int(draw.randint(0, 100)))
        across, down = draw.randint(-shift, shift + 1, 2)
        points = [(x + across, y + down) for x, y in ARROW]
        ImageDraw.Draw(image).polygon(points, fill=int(draw.randint(150, 255)))
        pixels = np.asarray(image) + draw.normal(0, 10, (32, 32))
        images.append(pixels[:, :: 1 if number < each else -1].clip(0, 255).astype(np.uint8))
    return Part(np.stack(images)[:, None], np.repeat([0, 1], each))


def letters(characters: str, each: int, seed: int = 0) -> Part:
    """Letters in several fonts and sizes, a little turned and moved."""
    draw = np.random.RandomState(seed)
    fonts = sorted(Path(matplotlib.get_data_path(), "fonts/ttf").glob("DejaVu*Sans*.ttf"))
    images = []
    for character in np.repeat(list(characters), each):
        font = ImageFont.truetype(str(fonts[draw.randint(len(fonts))]), int(draw.randint(18, 26)))
        image = Image.new("L", (28, 28), 0)
        place = tuple(14 + draw.randint(-2, 3, 2))
        ImageDraw.Draw(image).text(place, str(character), fill=255, font=font, anchor="mm")
        images.append(np.asarray(image.rotate(draw.uniform(-8, 8))))
    return Part(np.stack(images)[:, None], np.repeat(np.arange(len(characters)), each))


def few(part: Part, classes: tuple[int, ...], each: int) -> Part:
    """The first images of some classes, relabelled from 0."""
    chosen = [np.flatnonzero(part.labels == label)[:each] for label in classes]
    labels = np.repeat(np.arange(len(classes)), [len(rows) for rows in chosen])
    return Part(part.images[np.concatenate(chosen)], labels)


@pytest.mark.parametrize(
    ("each", "shift"), [(20, 0), (50, 2), (100, 5)], ids=["few", "moved", "moved far"]
)
def test_arrows_left_and_right_are_found(each, shift):
    assert mirrored_classes(arrows(each, shift), 2) == [(0, 1)]


def test_colour_does_not_hide_them():
    part = arrows(50, 2)
    coloured = Part(part.images * np.array([1, 0, 0], np.uint8)[:, None, None], part.labels)
    assert mirrored_classes(coloured, 2) == [(0, 1)]


def test_letters_are_found_among_others():
    """b and d, p and q; not o, x and v, each its own mirror image."""
    assert mirrored_classes(letters("bdpqoxv", 100), 7) == [(0, 1), (2, 3)]


def test_classes_that_cannot_be_distinguished_are_not_mirror_images():
    """Of two classes of noise half the neighbours are the other's, mirrored or not."""
    for seed in range(20):
        images = np.random.RandomState(seed).randint(0, 256, (200, 1, 8, 8), dtype=np.uint8)
        assert mirrored_classes(Part(images, np.arange(200) % 2), 2) == []


def test_classes_of_constant_images_are_not_mirror_images():
    images = np.repeat(np.arange(40, dtype=np.uint8), 64).reshape(40, 1, 8, 8)
    assert mirrored_classes(Part(images, np.arange(40) % 2), 2) == []


def test_digits_are_not_warned_about(tmp_path):
    part = load_images("digits", tmp_path).train
    assert mirrored_classes(part, 10) == []
    for pair in combinations(range(10), 2):
        assert mirrored_classes(few(part, pair, 80), 2) == [], pair


@pytest.mark.slow
def test_handwritten_digits_are_not_warned_about():
    folder = os.environ.get("RESNET_STUDY_MNIST")
    if not folder:
        pytest.skip("RESNET_STUDY_MNIST does not name the folder of the MNIST files")
    part = load_images("mnist", Path(folder)).train
    for pair in combinations(range(10), 2):
        assert mirrored_classes(few(part, pair, 100), 2) == [], pair
    for each in (20, 60, 6000):
        assert mirrored_classes(few(part, tuple(range(10)), each), 10) == [], each


@pytest.mark.slow
def test_natural_images_are_not_warned_about(tmp_path):
    folder = os.environ.get("RESNET_STUDY_IMAGES")
    if not folder:
        pytest.skip("RESNET_STUDY_IMAGES does not name the unpacked CIFAR-10 images")
    part = load_images(folder, tmp_path).train
    assert mirrored_classes(part, 10) == []
    for pair in ((3, 5), (1, 9), (0, 8), (4, 7)):  # those that resemble each other most
        assert mirrored_classes(few(part, pair, 300), 2) == [], pair
