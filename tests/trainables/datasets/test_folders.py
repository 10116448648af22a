"""Folders of images: what is read is what was written, and every refusal is one clear line."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import COLOURS, colour_folder, pixels_of, write_image
from PIL import Image

from trainables.datasets import NAMES, load_images
from trainables.parts import split_images


def test_folder_of_classes(tmp_path, load):
    data = load(colour_folder(tmp_path / "colours", each=10))
    assert data.name == "colours"
    assert data.classes == ("blue", "green", "red")
    assert data.flip
    assert data.skipped == 0
    assert (len(data.train), len(data.test)) == (24, 6)
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert data.image_shape == (3, 32, 32)
    for name, colour in COLOURS.items():
        assert (pixels_of(data, name) == np.array(colour)[:, None, None]).all()
    for part in (data.train, data.test):
        assert part.images.flags.c_contiguous
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int64


def test_folder_with_train_and_test(tmp_path, load):
    colour_folder(tmp_path / "set" / "train", each=4)
    colour_folder(tmp_path / "set" / "test", each=2)
    write_image(tmp_path / "set" / "test" / "red" / "0.png", (200, 0, 0))
    data = load(tmp_path / "set")
    assert np.bincount(data.train.labels).tolist() == [4, 4, 4]
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert sorted(data.test.images[data.test.labels == 2][:, 0, 0, 0]) == [200, 255]
    assert (data.train.images[data.train.labels == 2] == np.array([255, 0, 0])[:, None, None]).all()


def test_sizes_and_formats_are_mixed(tmp_path, load):
    """Shorter side resized, then the centre: a tall image of three bands keeps the middle one, and
    so does a wide."""
    root = colour_folder(tmp_path / "set", each=4)
    bands = np.zeros((300, 100, 3), dtype=np.uint8)
    for channel in range(3):
        bands[100 * channel : 100 * channel + 100, :, channel] = 255
    Image.fromarray(bands).save(root / "green" / "tall.bmp")
    wide = Image.fromarray(bands.transpose(1, 0, 2).copy())
    wide.save(root / "green" / "wide.webp", lossless=True)
    write_image(root / "green" / "small.gif", (0, 255, 0), size=(3, 5))
    write_image(root / "green" / "large.jpg", (0, 255, 0), size=(640, 480), quality=95)
    data = load(root, image_size=20)
    assert data.image_shape == (3, 20, 20)
    green = pixels_of(data, "green").astype(int)
    assert len(green) == 8
    inner = green[:, :, 2:-2, 2:-2]  # at the bands' edges neighbours may shine through
    assert np.abs(inner - np.array([0, 255, 0])[:, None, None]).max() <= 3


def test_orientation_of_cameras_is_honoured(tmp_path, load):
    root = colour_folder(tmp_path / "set", each=4)
    halves = np.zeros((32, 32, 3), dtype=np.uint8)
    halves[:, 16:] = 255  # the right half is white; turned clockwise (orientation 6), the lower one
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "turned").mkdir()
    for number in range(4):
        Image.fromarray(halves).save(root / "turned" / f"{number}.png", exif=exif)
    turned = pixels_of(load(root), "turned")
    assert (turned[:, :, :16] == 0).all()
    assert (turned[:, :, 16:] == 255).all()


def test_one_grey_image_among_colour(colours, load):
    write_image(colours / "grey" / "0.png", 100, mode="L")
    for number in (1, 2, 3):
        write_image(colours / "grey" / f"{number}.png", 200, mode="L")
    data = load(colours)
    assert data.image_shape == (3, 32, 32)
    corners = pixels_of(data, "grey")[:, :, 5, 5].tolist()
    assert sorted(corners) == [[100] * 3, [200] * 3, [200] * 3, [200] * 3]


def test_grey_images_have_one_channel(tmp_path, load):
    """Of every grey kind of 8 bits or less that Pillow knows; transparency is on white."""
    root = tmp_path / "set"
    for number in range(3):
        write_image(root / "dark" / f"{number}.png", 10, mode="L")
        write_image(root / "light" / f"{number}.png", 250, mode="L")
    write_image(root / "dark" / "bit.png", 0, mode="1")
    write_image(root / "light" / "bit.png", 1, mode="1")
    write_image(root / "light" / "clear.png", (0, 0), mode="LA")
    data = load(root)
    assert data.image_shape == (1, 32, 32)
    assert sorted(pixels_of(data, "dark")[:, 0, 3, 3].tolist()) == [0, 10, 10, 10]
    assert sorted(pixels_of(data, "light")[:, 0, 3, 3].tolist()) == [250, 250, 250, 255, 255]
    assert data.train.images.flags.c_contiguous


@pytest.mark.parametrize(
    ("mode", "colour", "highest"), [("P", 7, None), ("RGBA", (9, 8, 7, 0), 255), ("CMYK", 0, 255)]
)
def test_other_modes_count_as_colour(
    tmp_path: Path, load: Any, mode: str, colour: Any, highest: int | None
) -> None:
    for name in ("a", "b"):
        for number in range(4):
            write_image(tmp_path / "set" / name / f"{number}.tif", 99, mode="L")
    write_image(tmp_path / "set" / "b" / "x.tif", colour, mode=mode)
    data = load(tmp_path / "set")
    assert data.image_shape == (3, 32, 32)
    if highest is not None:
        assert pixels_of(data, "b")[:, 0, 0, 0].max() == highest


def test_hidden_files_and_folders_are_ignored(colours, load):
    plain = load(colours)
    (colours / "red" / ".DS_Store").write_text("hidden")
    (colours / "red" / ".thumbnails").mkdir()
    write_image(colours / ".git" / "0.png", (1, 2, 3))
    for name in ("Thumbs.db", "desktop.ini"):
        (colours / "red" / name).write_text("of Windows")
    (colours / "__MACOSX" / "red").mkdir(parents=True)
    (colours / "__MACOSX" / "red" / "._0.png").write_text("of an archive made on macOS")
    (colours / "README.txt").write_text("beside the classes")
    data = load(colours)
    assert data.classes == plain.classes
    assert data.fingerprint == plain.fingerprint


def test_links_are_followed(tmp_path, load, refusal):
    real = colour_folder(tmp_path / "real")
    root = tmp_path / "set"
    (root / "red").mkdir(parents=True)
    for name in ("blue", "green"):
        (root / name).symlink_to(real / name)
    for number in range(5):
        (root / "red" / f"{number}.png").symlink_to(real / "red" / f"{number}.png")
    assert load(root).fingerprint == load(real).fingerprint
    (root / "red" / "lost.png").symlink_to(real / "nowhere.png")
    assert "red/lost.png" in refusal(root)


def test_a_pipe_is_not_waited_for(colours, refusal):
    os.mkfifo(colours / "red" / "pipe.png")
    assert "red/pipe.png" in refusal(colours)


def test_the_data_directory_may_be_the_folder(colours):
    first, second = (load_images(str(colours), colours) for _ in range(2))
    assert first.classes == second.classes == ("blue", "green", "red")


def one_pixel(root: Path) -> None:
    with Image.open(root / "red" / "0.png") as image:
        image.putpixel((31, 31), (254, 0, 0))
        image.save(root / "red" / "0.png")


def other_label(root: Path) -> None:
    (root / "red" / "0.png").rename(root / "green" / "x.png")


def other_name(root: Path) -> None:
    (root / "red").rename(root / "rot")


@pytest.mark.parametrize("change", [one_pixel, other_label, other_name])
def test_fingerprint_knows_pixels_labels_and_names(tmp_path, load, change):
    plain = load(colour_folder(tmp_path / "plain")).fingerprint
    assert len(plain) == 64
    assert load(colour_folder(tmp_path / "elsewhere")).fingerprint == plain
    changed = colour_folder(tmp_path / "changed")
    change(changed)
    assert load(changed).fingerprint != plain


def test_a_class_whose_name_is_not_utf8_can_be_written_down(tmp_path, load):
    """Such as a folder of an archive in Latin-1; the table of the winner's classes could not be
    written."""
    root = os.path.join(tmp_path, "photos")
    for name in (b"Bl\xfcte", b"leaf"):
        folder = Path(root, os.fsdecode(name))
        for number in range(5):
            write_image(folder / f"{number}.png", (20 * number,) * 3)
    assert load(root).classes == ("Bl\\xfcte", "leaf")


def test_a_class_may_hold_many_files(tmp_path, load):
    """More than a thread takes at once: every image stays with its own class, in the order of
    names."""
    root = tmp_path / "set"
    for number in range(300):
        path = root / ("odd" if number % 2 else "even") / f"{number:03}.png"
        write_image(path, number % 256, mode="L", size=(8, 8))
    data = load(root, image_size=8)
    for name, first in (("even", 0), ("odd", 1)):
        values = sorted(pixels_of(data, name)[:, 0, 0, 0])
        assert values == sorted(number % 256 for number in range(first, 300, 2))
        for part in (data.train, data.test):
            ordered = part.images[part.labels == data.classes.index(name)][:, 0, 0, 0]
            assert (np.diff(ordered.astype(int)) < 0).sum() <= 1  # after 255 comes 0 once


@pytest.mark.parametrize(
    "name",
    ["cifar-10", "", "no/such/folder", "x" * 5000, "nul\0", "two\nlines"],
    ids=["misspelt", "empty", "missing", "too long", "NUL", "two lines"],
)
def test_unknown_data_set(refusal, name):
    message = refusal(name)
    assert message.startswith("--dataset: invalid value")
    assert all(known in message for known in NAMES)


UNUSABLE = {
    "nothing": ([], "no images were found"),
    "hollow": (["cat/"], "no images were found"),
    "flat": (["0.png"], "no images were found"),
    "single": (["cat/0.png"], "it has only the class cat: expected two classes or more"),
    "half": (
        ["train/blue/0.png", "train/red/0.png"],
        "it has a folder train and no folder test: expected a folder train/CLASS/* with test",
    ),
    "test alone": (["test/a/0.png", "test/b/0.png"], "it has a folder test and no folder train: "),
    "train and val": (
        ["train/a/0.png", "train/b/0.png", "val/a/0.png", "val/b/0.png"],
        "it has a folder train and no folder test: expected ",
    ),
    "unlabelled": (
        [f"train/{name}/{n}.png" for name in "ab" for n in range(3)] + ["test/0.png", "test/1.png"],
        "test has 2 files and no folders of classes: expected test/CLASS/*, or --dataset ",
    ),
    "two validation parts": (
        [f"{part}/{name}/0.png" for part in ("train", "val", "valid", "test") for name in "ab"],
        "several validation parts: val, valid: expected one at most",
    ),
    "small validation part": (
        [f"{part}/{name}/{n}.png" for part in ("train", "test") for name in "ab" for n in range(2)]
        + ["val/b/0.png"],
        "too few readable images in val: a (0): expected 1 or more per class",
    ),
    "deep": (
        ["red/more/0.png", "blue/1/0.png", "blue/2/0.png"],
        "folders in the place of images: blue/1, blue/2, red/more:",
    ),
    "unlike": (
        [f"{part}/{name}/{n}.png" for part in ("train", "test") for name in "ab" for n in range(3)]
        + ["test/pink/0.png"],
        "too few readable images in train: pink (0): expected 3 or more per class",
    ),
    "lacking": (
        [f"train/{name}/{n}.png" for name in "abc" for n in range(3)] + ["test/a/0.png"],
        "too few readable images in test: b (0), c (0): expected 1 or more per class",
    ),
    "no training image": (
        ["train/a/", "train/b/", "test/a/0.png", "test/b/0.png"],
        "too few readable images in train: a (0), b (0): expected 3",
    ),
    "no test image": (
        [f"train/{name}/{n}.png" for name in "ab" for n in range(3)] + ["test/a/", "test/b/"],
        "too few readable images in test: a (0), b (0): expected 1",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_folders_that_cannot_be_used(tmp_path, refusal, name):
    paths, problem = UNUSABLE[name]
    (tmp_path / name).mkdir()
    for path in paths:
        if path.endswith("/"):
            (tmp_path / name / path).mkdir(parents=True)
        else:
            write_image(tmp_path / name / path, (1, 2, 3))
    message = refusal(tmp_path / name)
    assert message.startswith(f"--dataset: invalid value '{tmp_path / name}': {problem}")
    assert ": expected " in message


def test_classes_with_too_few_images(tmp_path, load, refusal):
    root = colour_folder(tmp_path / "set", each=4)
    split = split_images(load(root))
    for part, number in ((split.train, 2), (split.validation, 1), (split.test, 1)):
        assert np.bincount(part.labels).tolist() == [number] * 3
    (root / "red" / "3.png").unlink()
    assert "too few readable images: red (3): expected 4 or more per class" in refusal(root)


def test_skipped_files_can_make_a_class_too_small(tmp_path, load, refusal):
    colour_folder(tmp_path / "set" / "train", each=3)
    colour_folder(tmp_path / "set" / "test", each=1)
    assert len(load(tmp_path / "set").train) == 9
    (tmp_path / "set" / "test" / "blue" / "0.png").write_text("broken")
    message = refusal(tmp_path / "set", skip_bad_images=True)
    assert "in test: blue (0): expected 1 or more per class" in message


def test_folder_that_may_not_be_read(colours, refusal, monkeypatch):
    def refuse(_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    assert "Permission denied" in refusal(colours)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_data_directory_that_cannot_be_used(tmp_path, colours, place):
    (tmp_path / "file").touch()
    data_dir = tmp_path / place
    with pytest.raises(ValueError, match=f"^--data-dir: invalid value '{data_dir}': .*: expected "):
        load_images(str(colours), data_dir)


@pytest.mark.slow
def test_real_images(load):
    folder = os.environ.get("RESNET_STUDY_IMAGES")
    if not folder:
        pytest.skip("RESNET_STUDY_IMAGES does not name the unpacked CIFAR-10 images")
    data = load(folder)
    assert data.image_shape == (3, 32, 32)
    assert data.skipped == 0
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.classes == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
    )  # fmt: skip
    mean = data.train.images.mean((0, 2, 3)) / 255
    # As published for the original pixels.
    assert np.abs(mean - [0.4914, 0.4822, 0.4465]).max() < 0.002
    split = split_images(data, 4000)
    assert np.bincount(split.train.labels).tolist() == [360] * 10
    assert np.bincount(split.validation.labels).tolist() == [40] * 10
    assert load(folder).fingerprint == data.fingerprint
