"""Data sets with a name: the digits of scikit-learn, and torchvision's from small archives."""

import contextlib
import functools
import gzip
import hashlib
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables import named
from trainables.datasets import load_images
from trainables.named import DataUnavailable
from trainables.parts import ImageData


def test_digits_are_those_of_scikit_learn(tmp_path):
    from sklearn.datasets import load_digits

    data = load_images("digits", tmp_path / "unused")
    assert not (tmp_path / "unused").exists()
    assert data.name == "digits"
    assert data.classes == tuple("0123456789")
    assert not data.flip
    assert data.skipped == 0
    assert data.image_shape == (1, 16, 16)
    assert (len(data.train.labels), len(data.test.labels)) == (1438, 359)
    for part in (data.train, data.test):
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int64
        assert part.images.flags.c_contiguous
        shares = np.bincount(part.labels) / len(part)
        np.testing.assert_allclose(shares, np.bincount(load_digits().target) / 1797, atol=0.003)

    def doubled(x: np.ndarray, axis: int) -> np.ndarray:
        """Bilinear: a new pixel lies a quarter pixel from the old one, towards its neighbour."""
        padded = np.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode="edge")
        before, after = (np.take(padded, range(start, start + 8), axis) for start in (0, 2))
        return np.stack([(before + 3 * x) / 4, (3 * x + after) / 4], axis + 1).reshape(
            [16 if i == axis else n for i, n in enumerate(x.shape)]
        )

    original = load_digits()
    expected = doubled(doubled(original.images * (255 / 16), 1), 2)
    left = set(range(1797))
    for part in (data.train, data.test):
        for image, label in zip(part.images[:, 0].astype(float), part.labels, strict=True):
            match = next(
                i
                for i in left
                if original.target[i] == label and np.abs(expected[i] - image).max() < 2.5
            )
            left.remove(match)
    assert not left


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def dead_server() -> str:
    """An address where nobody answers: the port was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a web server of that folder."""
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def small_cifar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead_server: str
) -> tuple[Path, np.ndarray]:
    """An archive like CIFAR-10's with 40 training images and 10 to test; torchvision is told its
    md5s, no more."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "made" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    images = np.random.RandomState(3).randint(0, 256, (50, 3072), dtype=np.uint8)

    def keep(name: str, content: dict[str, Any]) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return md5((folder / name).read_bytes())

    training = [
        [
            f"data_batch_{i + 1}",
            keep(
                f"data_batch_{i + 1}",
                {"data": images[20 * i : 20 * i + 20], "labels": [*range(10)] * 2},
            ),
        ]
        for i in range(2)
    ]
    test = [["test_batch", keep("test_batch", {"data": images[40:], "labels": [*range(10)]})]]
    names = keep("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    archive = tmp_path / "made" / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "train_list", training)
    monkeypatch.setattr(CIFAR10, "test_list", test)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": names})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive.read_bytes()))
    monkeypatch.setattr(CIFAR10, "url", dead_server + CIFAR10.filename)
    return archive, images.reshape(50, 3, 32, 32)


def check_small_cifar(data: ImageData, images: np.ndarray) -> None:
    assert (data.train.images == images[:40]).all()
    assert (data.test.images == images[40:]).all()
    assert data.train.labels.tolist() == [*range(10)] * 4
    assert data.train.labels.dtype == np.int64
    assert data.classes == tuple(f"class {i}" for i in range(10))
    assert data.name == "cifar10"
    assert data.flip
    assert data.train.images.flags.c_contiguous


def test_archive_put_by_hand(tmp_path, small_cifar, capfd, load, refusal):
    archive, images = small_cifar
    data_dir = tmp_path / "data"
    message = refusal("cifar10", DataUnavailable)
    assert f"put {archive.name} (md5 {md5(archive.read_bytes())}) into {data_dir}" in message
    archive.rename(data_dir / archive.name)
    check_small_cifar(load("cifar10"), images)
    assert {path.name for path in data_dir.iterdir()} == {
        ".lock",
        archive.name,
        "cifar-10-batches-py",
    }
    (data_dir / archive.name).unlink()
    check_small_cifar(load("cifar10"), images)  # as it lies unpacked
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("small_cifar")
def test_a_folder_of_that_name_is_said_where_the_data_set_is_unavailable(
    tmp_path, monkeypatch, refusal
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()
    message = refusal("cifar10", DataUnavailable)
    assert message.endswith("; cifar10 is the data set of that name; the folder is ./cifar10")


def test_wrong_archive_is_refused_and_left(tmp_path, small_cifar, refusal):
    archive, _ = small_cifar
    (tmp_path / "data").mkdir()
    placed = tmp_path / "data" / archive.name
    placed.write_bytes(archive.read_bytes()[:-100])
    message = refusal("cifar10", DataUnavailable)
    assert str(placed) in message
    assert md5(placed.read_bytes()) in message
    assert md5(archive.read_bytes()) in message
    assert placed.read_bytes() == archive.read_bytes()[:-100]


def test_unpacked_folder_is_used(tmp_path, small_cifar, load, refusal):
    archive, images = small_cifar
    unpacked = archive.parent / "cifar-10-batches-py"
    (tmp_path / "data").mkdir()
    unpacked.rename(tmp_path / "data" / unpacked.name)
    check_small_cifar(load("cifar10"), images)
    (tmp_path / "data" / unpacked.name / "test_batch").write_bytes(b"damaged")
    refusal("cifar10", DataUnavailable)


def test_download(tmp_path, small_cifar, monkeypatch, load):
    """From a server on this machine: the archive arrives under its name, complete; a cut one does
    not."""
    from torchvision.datasets import CIFAR10

    archive, images = small_cifar
    with serving(archive.parent) as address:
        monkeypatch.setattr(CIFAR10, "url", address + archive.name)
        check_small_cifar(load("cifar10"), images)
        assert (tmp_path / "data" / archive.name).read_bytes() == archive.read_bytes()
        archive.write_bytes(archive.read_bytes()[:-1])
        (tmp_path / "other").mkdir()
        # Left by a killed process.
        (tmp_path / "other" / f"{archive.name}.part").write_bytes(b"half")
        with pytest.raises(DataUnavailable, match=f"into {tmp_path / 'other'}"):
            load_images("cifar10", tmp_path / "other")
    assert {path.name for path in (tmp_path / "other").iterdir()} == {".lock"}


def test_silent_server_is_given_up(small_cifar, monkeypatch, refusal):
    from torchvision.datasets import CIFAR10

    usual = named.DOWNLOAD_TIMEOUT
    monkeypatch.setattr(named, "DOWNLOAD_TIMEOUT", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setattr(
            CIFAR10, "url", f"http://127.0.0.1:{listener.getsockname()[1]}/{CIFAR10.filename}"
        )
        start = time.monotonic()
        assert "timed out" in refusal("cifar10", DataUnavailable)
        assert time.monotonic() - start < usual
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist(tmp_path, monkeypatch, dead_server, name, kind, load, refusal):
    """Four archives; those that are there are not asked for again, in the message either."""
    import torchvision

    images = np.random.RandomState(4).randint(0, 256, (30, 28, 28), dtype=np.uint8)
    labels = np.tile(np.arange(10, dtype=np.uint8), 3)
    contents = {
        "train-images-idx3-ubyte.gz": struct.pack(">IIII", 2051, 20, 28, 28)
        + images[:20].tobytes(),
        "train-labels-idx1-ubyte.gz": struct.pack(">II", 2049, 20) + labels[:20].tobytes(),
        "t10k-images-idx3-ubyte.gz": struct.pack(">IIII", 2051, 10, 28, 28) + images[20:].tobytes(),
        "t10k-labels-idx1-ubyte.gz": struct.pack(">II", 2049, 10) + labels[20:].tobytes(),
    }
    archives = {file: gzip.compress(content) for file, content in contents.items()}
    torchvision_class = getattr(torchvision.datasets, kind)
    monkeypatch.setattr(
        torchvision_class, "resources", [(file, md5(content)) for file, content in archives.items()]
    )
    raw = tmp_path / "data" / kind / "raw"
    raw.mkdir(parents=True)
    *first, last = archives
    for file in first[1:]:
        (raw / file).write_bytes(archives[file])
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / first[0]).write_bytes(archives[first[0]])
    (tmp_path / "web" / last).write_bytes(b"a page that asks for a password")
    # One archive arrives, the other is not what it should be.
    with serving(tmp_path / "web") as address:
        monkeypatch.setattr(torchvision_class, "mirrors", [dead_server, address])
        refusal(name, DataUnavailable)
    assert (raw / first[0]).read_bytes() == archives[first[0]]
    monkeypatch.setattr(torchvision_class, "mirrors", [dead_server])
    message = refusal(name, DataUnavailable)
    assert f"put {last} (md5 {md5(archives[last])}) into {raw}" in message
    assert first[0] not in message.split("put ")[1]
    (raw / last).write_bytes(archives[last])
    data = load(name)
    assert data.image_shape == (1, 28, 28)
    assert not data.flip
    assert len(data.classes) == 10
    assert (data.train.images[:, 0] == images[:20]).all()
    assert (data.test.images[:, 0] == images[20:]).all()
    assert (data.train.labels == labels[:20]).all()
    assert data.test.labels.dtype == np.int64


def test_importing_is_cheap():
    """The large libraries come only with the data that need them."""
    large = "{'torch', 'torchvision', 'sklearn', 'ray'}"
    code = f"import sys, trainables.datasets; print({large} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
