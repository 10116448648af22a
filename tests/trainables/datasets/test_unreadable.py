"""Files that cannot be read: named and refused, or skipped and counted."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import COLOURS, colour_folder, pixels_of, write_image
from PIL import Image, ImageOps, PngImagePlugin


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """Mixed sizes, one grey image, two files cut in half, one that is no image, one empty file."""
    root = colour_folder(tmp_path / "set", each=6)
    write_image(root / "red" / "grey.png", 77, mode="L", size=(50, 70))
    noise = np.random.RandomState(0).randint(0, 256, (64, 48, 3), dtype=np.uint8)
    for name in ("cut.jpg", "cut.png"):
        path = root / "red" / name
        Image.fromarray(noise).save(path)
        os.truncate(path, path.stat().st_size // 2)
    (root / "blue" / "notes.txt").write_text("not an image")
    (root / "blue" / "empty.png").touch()
    return root


def test_broken_files_are_refused_by_name(spoilt, refusal):
    message = refusal(spoilt)
    assert "4 of 23" in message
    assert "--skip-bad-images" in message
    for name in ("red/cut.jpg", "red/cut.png", "blue/notes.txt", "blue/empty.png"):
        assert name in message


def test_at_most_five_files_are_named(spoilt, refusal):
    for number in range(4):
        (spoilt / "green" / f"x{number}.png").touch()
    message = refusal(spoilt)
    assert "8 of 27" in message
    assert message.count(".png") + message.count(".txt") == 5
    assert "and 3 more" in message


def test_broken_files_are_skipped_with_a_count(spoilt, load, refusal):
    for _ in range(2):  # decoded, and from the parsed copy
        data = load(spoilt, skip_bad_images=True)
        assert data.skipped == 4
        assert len(data.train) + len(data.test) == 19
        assert [len(pixels_of(data, name)) for name in data.classes] == [6, 6, 7]
        assert (pixels_of(data, "blue") == np.array(COLOURS["blue"])[:, None, None]).all()
        (remark,) = data.remarks
        assert remark.startswith("4 unreadable files skipped: blue/empty.png (an empty file)")
        assert "red/cut.jpg (" in remark
    # The copy without them is not taken for the other.
    assert "4 of 23" in refusal(spoilt)


def test_names_cannot_break_the_line(colours, refusal):
    (colours / "red" / "two\nlines\x1b[31m.png").write_text("broken")
    assert "two\\nlines\\x1b" in refusal(colours)


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


REASONS = {
    "HEIC": (
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50),
        "HEIC, which needs a plug-in of Pillow: convert it to JPEG or PNG",
    ),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "a Git LFS pointer: git lfs pull gets the image",
    ),
    "HTML": (b"\n<!DOCTYPE html>\n<html><head><title>404</title>", "a web page"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a drawing in SVG or other XML"),
    "empty": (b"", "an empty file"),
    "text": (b"a note", "no image format that Pillow knows"),
    "too large": (png_of(20_000, 20_000), "more than 178,956,970 pixels"),
}


@pytest.mark.parametrize("kind", REASONS)
def test_an_unreadable_file_is_named_with_the_reason(colours, refusal, kind):
    content, reason = REASONS[kind]
    (colours / "red" / "spoilt.jpg").write_bytes(content)
    message = refusal(colours)
    assert f": 1 of 16 files is unreadable: red/spoilt.jpg ({reason}): expected " in message


def test_a_reason_that_many_files_share_is_said_once(colours, refusal):
    content, reason = REASONS["Git LFS"]
    for path in colours.rglob("*.png"):
        path.write_bytes(content)
    names = ", ".join(f"blue/{number}.png" for number in range(5))
    assert f": 15 of 15 files are unreadable: {names} ({reason}) and 10 more:" in refusal(colours)


def test_a_link_to_nothing_and_a_pipe_have_their_reasons(colours, refusal):
    (colours / "red" / "link.png").symlink_to(colours / "nowhere.png")
    os.mkfifo(colours / "red" / "pipe.png")
    message = refusal(colours)
    assert "red/link.png (a link to nothing), red/pipe.png (not a regular file)" in message


def with_exif(jpeg: bytes, exif: bytes) -> bytes:
    segment = b"Exif\0\0" + exif
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


ORIENTATION_6 = struct.pack("<HHII", 0x112, 3, 1, 6)
BROKEN_EXIF = {
    "garbage": b"\xff" * 40,
    "cut off": b"II*\0\x08\0\0\0\x05\0\x12\x01\x03\0",
    "beyond the end": b"II*\0\xff\xff\xff\x0f",
    "orientation as text": b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI4s", 0x112, 2, 2, b"6\0"),
    "orientation 99": b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x112, 3, 1, 99) + bytes(4),
}


@pytest.mark.parametrize("kind", BROKEN_EXIF)
def test_broken_exif_does_not_make_an_image_unreadable(colours, load, capfd, kind):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 10, 10)).save(file, "jpeg")
    (colours / "red" / "x.jpg").write_bytes(with_exif(file.getvalue(), BROKEN_EXIF[kind]))
    assert len(pixels_of(load(colours), "red")) == 6
    assert capfd.readouterr() == ("", "")


def test_a_broken_profile_of_a_png_does_not_make_it_unreadable(colours, load):
    information = PngImagePlugin.PngInfo()
    information.add_text("Raw profile type exif", "\nexif\n  10\nzzzz")
    Image.new("RGB", (32, 32)).save(colours / "red" / "x.png", pnginfo=information)
    assert len(pixels_of(load(colours), "red")) == 6


def test_orientation_is_honoured_among_broken_tags(colours, load):
    halves = np.zeros((32, 32, 3), dtype=np.uint8)
    halves[:, 16:] = 255  # turned clockwise, the lower half
    file = io.BytesIO()
    Image.fromarray(halves).save(file, "jpeg", quality=95)
    beyond_the_end = struct.pack("<HHII", 0x10F, 2, 200, 2**31 - 1)
    exif = b"II*\0\x08\0\0\0\x02\0" + beyond_the_end + ORIENTATION_6 + bytes(4)
    for number in range(4):
        path = colours / "turned" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(with_exif(file.getvalue(), exif))
    turned = pixels_of(load(colours), "turned")
    assert turned[:, :, 18:].min() > 240
    assert turned[:, :, :14].max() < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_that_of_pillow(tmp_path, load, orientation):
    noise = np.random.RandomState(0).randint(0, 256, (8, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x112] = orientation
    for name in "ab":
        for number in range(4):
            path = tmp_path / "set" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).transpose(2, 0, 1)
    assert (load(tmp_path / "set", image_size=8).train.images == expected).all()


def test_a_damaged_tiff_is_unreadable_and_nothing_reaches_the_terminal(colours, refusal, capfd):
    """libtiff writes past Python, and Pillow reads the same file without an error a second time."""
    file = io.BytesIO()
    noise = np.random.RandomState(0).randint(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(noise).save(file, "tiff", compression="tiff_lzw")
    content = file.getvalue()
    (colours / "red" / "cut.tif").write_bytes(content[:-60])
    (colours / "red" / "spoilt.tif").write_bytes(content[:20] + b"\xff\xff\xff" + content[23:])
    assert "2 of 17 files are unreadable: red/cut.tif" in refusal(colours)
    assert capfd.readouterr() == ("", "")


def test_a_large_image_is_read_without_a_warning(colours, load, capfd, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # each has 1,024
    assert len(load(colours).train) == 12
    assert capfd.readouterr() == ("", "")


def test_images_are_read_where_standard_error_is_closed(tmp_path, colours):
    """As by a program that starts this one without a terminal."""
    code = (
        "import os, sys, pathlib; os.close(2);"
        "from trainables.datasets import load_images;"
        "print(len(load_images(sys.argv[1], pathlib.Path(sys.argv[2])).train))"
    )
    command = [sys.executable, "-c", code, str(colours), str(tmp_path / "data")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "12\n"
