"""How folders are laid out: a validation part of their own, what is not used, composed letters."""

import unicodedata

import numpy as np
import pytest
from image_files import colour_folder, pixels_of, same, write_image

from trainables.config import UsageError
from trainables.parts import confirm_data, search_data, split_images


@pytest.fixture
def three_parts(tmp_path):
    """Train, validation and test part, told apart by the red of their images."""

    def make(validation):
        for part, each, red in (("train", 8, 1), (validation, 2, 2), ("test", 3, 3)):
            for name, blue in (("a", 10), ("b", 200)):
                for number in range(each):
                    path = tmp_path / "set" / part / name / f"{number}.png"
                    write_image(path, (red, number, blue))
        return tmp_path / "set"

    return make


def reds(part):
    return set(part.images[:, 0].ravel().tolist())


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_part_is_used_and_said(three_parts, load, name):
    root = three_parts(name)
    data = load(root)
    split = split_images(data)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [16, 4, 6]
    assert [reds(part) for part in (split.train, split.validation, split.test)] == [{1}, {2}, {3}]
    assert data.remarks == (f"{name}/ is the validation part",)
    assert same(data, load(root)), "from the parsed copy"
    assert search_data(data, split).validation is split.validation
    assert reds(confirm_data(data, split).train) == {1, 2}


def test_train_images_are_drawn_from_the_training_part_alone(three_parts, load):
    data = load(three_parts("val"))
    split = split_images(data, 6)
    assert (len(split.train), len(split.validation)) == (6, 4)
    assert reds(split.train) == {1}
    assert np.bincount(split.train.labels).tolist() == [3, 3]
    assert len(split_images(data, 4).train) == 4
    for wrong in (3, 17):
        with pytest.raises(UsageError, match=f"invalid value {wrong}: .* from 4 to 16 "):
            split_images(data, wrong)


def test_the_fingerprint_knows_the_validation_part(three_parts, load):
    root = three_parts("val")
    before = load(root).fingerprint
    write_image(root / "val" / "a" / "0.png", (99, 0, 0))
    changed = load(root).fingerprint
    assert changed != before
    (root / "val").rename(root / "other")
    assert load(root).fingerprint not in (before, changed)


def test_folders_that_are_not_used_are_said(three_parts, load):
    root = three_parts("val")
    write_image(root / "unlabelled" / "0.png", (0, 0, 0))
    (root / ".cache").mkdir()
    (root / "README.md").touch()
    assert "folders beside train, val, test are not used: unlabelled" in load(root).remarks


def test_an_empty_class_is_said(colours, load):
    (colours / "pink").mkdir()
    (colours / "grey").mkdir()
    (colours / "grey" / ".DS_Store").touch()
    data = load(colours)
    assert data.classes == ("blue", "green", "red")
    assert data.remarks == ("classes without any file are not used: grey, pink",)
    (colours / "pink").rmdir()
    assert load(colours).remarks == ("classes without any file are not used: grey",)


def test_names_that_differ_in_composition_are_one_class(tmp_path, load):
    """As where one part was made on a Mac and the other on Linux; or both in one folder."""
    composed, decomposed = (unicodedata.normalize(form, "Käfer") for form in ("NFC", "NFD"))
    assert composed != decomposed
    for part, name in (("train", composed), ("test", decomposed)):
        for number in range(4):
            write_image(tmp_path / "two" / part / name / f"{number}.png", (number, 0, 0))
            write_image(tmp_path / "two" / part / "leaf" / f"{number}.png", (0, 255, 0))
            write_image(tmp_path / "one" / name / f"{number}.png", (number, 0, 0))
            write_image(tmp_path / "one" / "leaf" / f"{number}.png", (0, 255, 0))
    two, one = load(tmp_path / "two"), load(tmp_path / "one")
    assert two.classes == one.classes == (composed, "leaf")
    assert len(two.train) == len(two.test) == 8
    assert len(pixels_of(one, composed)) == 8
    assert sorted(pixels_of(one, composed)[:, 0, 0, 0]) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_named_data_set_beside_a_folder_of_that_name_is_said(tmp_path, load, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load("digits").remarks == ()
    colour_folder(tmp_path / "digits")
    named = load("digits")
    assert len(named.classes) == 10
    assert named.remarks == ("digits is the data set of that name; the folder is ./digits",)
    assert load("./digits").remarks == ()
