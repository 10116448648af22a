"""Files that cannot be read: named and refused, or skipped and counted."""

import os
from pathlib import Path

import numpy as np
import pytest
from image_files import COLOURS, colour_folder, pixels_of, write_image
from PIL import Image


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
        assert remark.startswith("unreadable files skipped: blue/empty.png")
        assert "red/cut.jpg (" in remark
    # The copy without them is not taken for the other.
    assert "4 of 23" in refusal(spoilt)


def test_names_cannot_break_the_line(colours, refusal):
    (colours / "red" / "two\nlines\x1b[31m.png").write_text("broken")
    assert "two\\nlines\\x1b" in refusal(colours)
