"""The parsed copy of a folder: used while nothing changes, made again when something does."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import colour_folder, same, write_image

from trainables.datasets import load_images


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Where the copies are kept."""
    return tmp_path / "data" / ".parsed"


def test_second_load_decodes_nothing(colours, load, refusal):
    first = load(colours)
    for path in colours.glob("*/*.png"):
        # None of them is an image any more, but name, size and time are the same.
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert same(first, load(colours))
    os.utime(colours / "red" / "0.png")
    assert "15 of 15" in refusal(colours)


def test_changes_make_the_copy_anew(colours, load, copies):
    first = load(colours)
    write_image(colours / "red" / "0.png", (250, 0, 0))
    second = load(colours)
    write_image(colours / "red" / "new.png", (250, 0, 0))
    third = load(colours)
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3
    assert len(third.train) + len(third.test) == 16
    assert [path.suffix for path in copies.iterdir()] == [".npz"], "copies of earlier states remain"
    assert load(colours, image_size=16).image_shape == (3, 16, 16)
    assert load(colours).image_shape == (3, 32, 32)


def one_bit(content: bytes) -> bytes:
    """In the midst of the pixels."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "one bit": one_bit,
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "text": lambda content: b"not an archive",
    "end missing": lambda content: content[:-30],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_copy_is_made_again(colours, load, copies, damage, caplog):
    first = load(colours)
    (copy,) = copies.iterdir()
    copy.write_bytes(damage(copy.read_bytes()))
    assert same(first, load(colours))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "damaged" in caplog.text
    caplog.clear()
    assert same(first, load(colours))
    assert not caplog.records


def test_a_file_in_the_place_of_the_copies(colours, load, copies, caplog):
    copies.parent.mkdir()
    copies.touch()
    assert len(load(colours).classes) == 3
    assert "cannot keep the parsed images" in caplog.text


def test_no_room_for_the_copy(colours, load, copies, monkeypatch, caplog):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert len(load(colours).classes) == 3
    assert "No space left" in caplog.text
    assert not list(copies.iterdir())


def put_fingerprint(folder: str, data_dir: str, answers: Any) -> None:
    answers.put(load_images(folder, Path(data_dir)).fingerprint)


def test_two_processes_at_once(tmp_path, load, copies):
    root = colour_folder(tmp_path / "set", each=100)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    arguments = (str(root), str(tmp_path / "data"), answers)
    processes = [context.Process(target=put_fingerprint, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    fingerprints = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert fingerprints == {load(root).fingerprint}
    assert len(list(copies.iterdir())) == 1
