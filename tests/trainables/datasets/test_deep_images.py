"""Images of more than 8 bits: one scale for the data set, by the values that its files use."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies
from image_files import same, write_image
from PIL import Image

from trainables.datasets import load_images

RAMP = np.arange(64, dtype=np.int64).reshape(8, 8)


def write_deep(folder: Path, images: list[np.ndarray], ending: str) -> None:
    """The images by turns in two classes, so that none is resized at 8 pixels."""
    for number, image in enumerate(images):
        path = folder / "train" / "ab"[number % 2] / f"{number:02}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    for name in "ab":  # a test part, so that all of these stay in one part, in the order of names
        path = folder / "test" / name / f"0{ending}"
        path.parent.mkdir(parents=True)
        Image.fromarray(images[0]).save(path)


def in_order(images: list[np.ndarray]) -> np.ndarray:
    """As `load_images` orders them: by class, then by name."""
    return np.stack(images[::2] + images[1::2])


def write_png16(path: Path, pixels: np.ndarray) -> None:
    """A colour PNG of 16 bits per channel (uint16 H×W×3), which Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


DEPTHS = {
    "8 bits in a PNG of 16": ((RAMP * 4).astype(np.uint16), ".png"),
    "12 bits in a PNG of 16": ((RAMP * 65).astype(np.uint16), ".png"),
    "16 bits": ((RAMP * 1040).astype(np.uint16), ".png"),
    "a thermal camera": ((21000 + RAMP * 60).astype(np.uint16), ".png"),
    "16 bits in TIFF": ((RAMP * 1040).astype(np.uint16), ".tif"),
    "int32": ((RAMP * 10**6).astype(np.int32), ".tif"),
    "int32 below 0": ((RAMP * 50 - 1024).astype(np.int32), ".tif"),
    "int32 far from 0": ((2 * 10**9 + RAMP).astype(np.int32), ".tif"),
    "floats to 1": ((RAMP / 63).astype(np.float32), ".tif"),
    "small floats": ((RAMP * 1e-6).astype(np.float32), ".tif"),
    "floats below 0": ((RAMP * 0.1 - 3).astype(np.float32), ".tif"),
}


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_ramp_stays_a_ramp(tmp_path, load, depth):
    """All 64 values stay apart, from black to white, whatever range the file uses."""
    ramp, ending = DEPTHS[depth]
    write_deep(tmp_path / "set", [ramp] * 8, ending)
    data = load(tmp_path / "set", image_size=8)
    assert data.image_shape == (1, 8, 8)
    expected = np.rint(RAMP * 255 / 63)
    assert np.abs(data.train.images[:, 0].astype(int) - expected).max() <= 1
    assert data.value_range == pytest.approx((float(ramp.min()), float(ramp.max())))
    assert same(data, load(tmp_path / "set", image_size=8))


def test_signed_integers_of_8_bits(tmp_path, load):
    """Which Pillow reads as unsigned: -1 became white, 127 grey."""
    values = (RAMP * 4 - 128).astype(np.int8)
    for name in "ab":
        for number in range(4):
            path = tmp_path / "set" / name / f"{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.view(np.uint8)).save(path, tiffinfo={339: 2})
    with Image.open(path) as image:
        assert image.mode == "L"
        assert image.tag_v2[339] == (2,)
    data = load(tmp_path / "set", image_size=8)
    assert data.value_range == (-128, 124)
    assert np.abs(data.train.images[:, 0] - RAMP * (255 / 63)).max() <= 0.51


def test_an_outlier_that_leaves_few_grey_values_is_remarked(tmp_path, load):
    """Such as a hot pixel of a camera."""
    ramp = RAMP.astype(np.uint16)
    write_deep(tmp_path / "plain", [ramp] * 8, ".png")
    assert load(tmp_path / "plain", image_size=8).remarks == ()
    hot = ramp.copy()
    hot[0, 0] = 65535
    write_deep(tmp_path / "hot", [ramp] * 7 + [hot], ".png")
    (remark,) = load(tmp_path / "hot", image_size=8).remarks
    assert "outliers set the scale" in remark


def test_unsigned_integers_of_32_bits(tmp_path, load):
    """Pillow writes none: the tag of the signed is changed."""
    write_deep(tmp_path / "set", [(RAMP * 2**26 - 2**31).astype(np.int32)] * 8, ".tif")
    signed, unsigned = (struct.pack("<HHII", 339, 3, 1, kind) for kind in (2, 1))
    for path in (tmp_path / "set").rglob("*.tif"):
        content = path.read_bytes()
        assert signed in content
        path.write_bytes(content.replace(signed, unsigned))
    data = load(tmp_path / "set", image_size=8)
    values = (RAMP * 2**26 - 2**31) % 2**32
    assert data.value_range == (values.min(), values.max())
    expected = (values - values.min()) * (255 / (values.max() - values.min()))
    assert np.abs(data.train.images[:, 0] - expected).max() <= 0.51


@settings(max_examples=25, deadline=None)
@given(strategies.data())
def test_one_scale_for_all_images(tmp_path_factory, data):
    """Against NumPy: whatever the kind and the values, black is the lowest of all files and white
    the highest."""
    kind = data.draw(strategies.sampled_from([np.uint16, np.int32, np.float32]))
    limits = (0, 2**16 - 1) if kind is np.uint16 else (-(2**31), 2**31 - 1)
    bounds = data.draw(
        strategies.lists(strategies.integers(*limits), min_size=2, max_size=2, unique=True)
    )
    random = np.random.RandomState(data.draw(strategies.integers(0, 99)))
    images = [random.uniform(min(bounds), max(bounds), (8, 8)).astype(kind) for _ in range(8)]
    root = tmp_path_factory.mktemp("deep")
    write_deep(root / "set", images, ".tif")
    loaded = load_images(str(root / "set"), root / "data", image_size=8)
    values = in_order(images).astype(np.float64)
    low, high = values.min(), values.max()
    scale = 255 / (high - low) if high > low else 0
    assert np.abs(loaded.train.images[:, 0] - (values - low) * scale).max() <= 0.51
    assert loaded.value_range == (low, high)


@pytest.mark.parametrize(("highest", "white"), [(200, 255), (4000, 4095), (65535, 65535)])
def test_among_images_of_8_bits_black_stays_0_and_white_is_that_of_the_bits_used(
    tmp_path, load, highest, white
):
    for name, grey in (("dark", 10), ("light", 250)):
        for number in range(4):
            write_image(tmp_path / "set" / name / f"{number}.png", grey, mode="L")
    write_image(tmp_path / "set" / "dark" / "deep.png", highest // 2, mode="I;16")
    write_image(tmp_path / "set" / "light" / "deep.png", highest, mode="I;16")
    data = load(tmp_path / "set")
    assert data.value_range == (0, white)
    values = np.concatenate([data.train.images, data.test.images])[:, 0, 0, 0]
    expected = [10] * 4 + [250] * 4 + [highest // 2 * 255 / white, highest * 255 / white]
    np.testing.assert_allclose(np.sort(values), np.sort(np.rint(expected)), atol=1)


def test_colour_of_16_bits_is_read_where_all_bits_are_used(tmp_path, load):
    colour = np.stack([RAMP * 1040, RAMP * 500, RAMP * 0], axis=2).astype(np.uint16)
    for name in "ab":
        for number in range(4):
            write_png16(tmp_path / "set" / name / f"{number}.png", colour)
    data = load(tmp_path / "set", image_size=8)
    assert data.image_shape == (3, 8, 8)
    expected = colour.transpose(2, 0, 1) * (255 / 65535)
    assert np.abs(data.train.images[0] - expected).max() <= 1


@pytest.mark.parametrize("bits", [8, 12])
def test_colour_of_16_bits_that_would_be_clipped_is_refused_by_name(tmp_path, refusal, load, bits):
    colour = np.stack([RAMP, RAMP, RAMP], axis=2) * (2**bits // 64)
    for name in "ab":
        for number in range(4):
            write_image(tmp_path / "set" / name / f"{number}.png", (1, 2, 3))
    write_png16(tmp_path / "set" / "a" / "deep.png", colour.astype(np.uint16))
    message = refusal(tmp_path / "set")
    reason = f"16 bits per channel of colour, of which {bits} are used: convert it to 8 bits"
    assert f"1 of 9 files is unreadable: a/deep.png ({reason})" in message
    assert load(tmp_path / "set", skip_bad_images=True).skipped == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_no_numbers_are_refused_by_name(tmp_path, refusal, value):
    spoilt = RAMP.astype(np.float32)
    spoilt[3, 3] = value
    write_deep(tmp_path / "set", [RAMP.astype(np.float32)] * 8 + [spoilt], ".tif")
    assert "train/a/08.tif (has values that are not finite numbers)" in refusal(tmp_path / "set")
