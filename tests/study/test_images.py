"""Which images a study is about, why them, and what is refused."""

import numpy as np
import pytest
from image_files import colour_folder
from PIL import Image

from study.images import resolve_images
from study.settings import StudySettings
from trainables.config import UsageError
from trainables.parts import search_data


def test_the_default_data_set_is_digits_without_a_gpu_and_says_why(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    caplog.set_level("INFO", "study")
    images = resolve_images(StudySettings(results_dir=str(tmp_path), data_dir=str(tmp_path)))
    assert images.data.name == "digits"
    assert "no GPU" in images.chosen
    assert caplog.messages[0] == f"data set: digits ({images.chosen})"
    # 1,797 digits: a fifth for testing, a tenth of the rest for validation.
    assert [
        len(part.labels)
        for part in (images.split.train, images.split.validation, images.split.test)
    ] == [*(1294, 144, 359)]


def test_the_largest_class_of_each_part_is_recorded(resolve, tmp_path):
    counts = {"cat": 30, "dog": 90, "owl": 10}
    for name, count in counts.items():
        for part, images in (("train", count), ("test", 10 if name == "owl" else 2)):
            folder = tmp_path / "uneven" / part / name
            folder.mkdir(parents=True)
            for number in range(images):
                pixels = np.random.default_rng([count, images, number]).integers(0, 256, (8, 8))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    largest = resolve(str(tmp_path / "uneven")).to_dict()["largest_class"]
    assert largest["test"] == ("owl", 10 / 14)
    assert largest["validation"] == ("dog", 9 / 13)
    assert largest["train"] == ("dog", 81 / 117)


def test_a_directory_that_holds_something_else_is_refused_before_images_are_read(tmp_path):
    (tmp_path / "search-cifar10").mkdir()
    (tmp_path / "search-cifar10" / "mine.txt").write_text("")
    with pytest.raises(UsageError, match="--name: invalid value 'search-cifar10'"):
        resolve_images(
            StudySettings(dataset="cifar10", results_dir=str(tmp_path), data_dir=str(tmp_path))
        )


@pytest.fixture
def arrows(tmp_path):
    """A folder of arrows `left` and `right`, and of crosses, each of its own brightness."""
    arrow = np.zeros((32, 32), np.uint8)
    for column in range(4, 16):
        arrow[20 - column : 12 + column, column] = 1
    arrow[13:19, 16:28] = 1
    cross = np.zeros((32, 32), np.uint8)
    cross[13:19, 4:28] = cross[4:28, 13:19] = 1
    for name, shape in (("left", arrow), ("right", arrow[:, ::-1]), ("cross", cross)):
        folder = tmp_path / "arrows" / name
        folder.mkdir(parents=True)
        for number in range(20):
            moved = np.roll(shape, (number % 3 - 1, number % 5 - 2), (0, 1))
            Image.fromarray(moved * (100 + 5 * number)).save(folder / f"{number}.png")
    return tmp_path / "arrows"


@pytest.fixture
def resolve(tmp_path):
    """Resolves the images of settings, with directories of the test's own."""

    def resolve_with(dataset, recorded=None, **options):
        places = {"results_dir": str(tmp_path / "results"), "data_dir": str(tmp_path / "data")}
        (tmp_path / "results").mkdir(exist_ok=True)
        return resolve_images(StudySettings(dataset=str(dataset), **places, **options), recorded)

    return resolve_with


def test_classes_that_mirroring_mixes_up_are_warned_about(arrows, resolve, caplog):
    images = resolve(arrows)
    assert images.data.flip
    assert images.mirrored == images.to_dict()["mirrored"] == [("left", "right")]
    (warning,) = [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]
    assert "left and right" in warning
    assert "--no-flip" in warning
    assert "cross" not in warning


def test_without_mirroring_there_is_no_warning(arrows, resolve, caplog):
    images = resolve(arrows, flip=False)
    assert not images.data.flip
    assert images.mirrored == []
    assert not [line for line in caplog.records if line.levelname == "WARNING"]


def test_the_scale_of_deep_images_is_recorded_and_noted(tmp_path, resolve):
    for number in range(20):
        path = tmp_path / "deep" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.arange(64).reshape(8, 8) * 65).astype(np.uint16)).save(path)
    images = resolve(tmp_path / "deep")
    assert images.to_dict()["value_range"] == (0, 4095)
    assert "data set: values 0 to 4095 of deep images become 0 to 255" in images.notes


@pytest.mark.parametrize(
    ("flip", "digits", "folder"), [(None, False, True), (True, True, True), (False, False, False)]
)
def test_what_is_asked_for_is_what_training_does_and_is_noted(
    tmp_path, resolve, flip, digits, folder
):
    for dataset, flipped in (("digits", digits), (colour_folder(tmp_path / "colours"), folder)):
        images = resolve(dataset, flip=flip)
        assert search_data(images.data, images.split).flip == flipped
        (note,) = [note for note in images.notes if note.startswith("augmentation: ")]
        padding = "2" if dataset == "digits" else "4"
        assert f"padded by {padding} pixels and cropped at random" in note
        assert note.endswith("mirrored at random (--no-flip: not)" if flipped else "not mirrored")
