"""The parts of a data set: disjoint, fixed, stratified, and read only by whom they are for."""

from dataclasses import replace

import numpy as np
import pytest
from image_files import numbered, numbers_of

from trainables.config import EpochMetrics, TrialConfig, UsageError
from trainables.parts import (
    ImageData,
    Part,
    Split,
    confirm_data,
    duplicates,
    search_data,
    split_images,
)
from trainables.training import Trainer


@pytest.mark.parametrize(
    ("wanted", "train", "validation"),
    [
        (None, 45_000, 5_000),
        (50_000, 45_000, 5_000),
        (4_000, 3_600, 400),
        (1_005, 905, 100),
        (30, 20, 10),
    ],
)
def test_counts_are_exact_and_stratified(wanted: int | None, train: int, validation: int) -> None:
    split = split_images(numbered(10, 5_000), wanted)
    assert (len(split.train.labels), len(split.validation.labels)) == (train, validation)
    for part in (split.train, split.validation):
        sizes = np.bincount(part.labels, minlength=10)
        assert sizes.max() - sizes.min() <= 1
        assert part.images.flags.c_contiguous and part.labels.dtype == np.int64


def test_parts_are_disjoint_fixed_and_whole() -> None:
    data = numbered(7, [40, 100, 3, 5, 60, 1000, 4])
    label_of = dict(zip(numbers_of(data.train), data.train.labels, strict=True))
    for wanted in (None, 21, 22, 35, 400, 1211):
        split, again = split_images(data, wanted), split_images(data, wanted)
        train, validation = numbers_of(split.train), numbers_of(split.validation)
        assert len(set(train) | set(validation)) == len(train) + len(validation) == (wanted or 1212)
        for part in (split.train, split.validation):
            assert [label_of[row] for row in numbers_of(part)] == part.labels.tolist()
        assert train == numbers_of(again.train) and validation == numbers_of(again.validation)
        assert np.bincount(split.train.labels, minlength=7).min() >= 2
        assert np.bincount(split.validation.labels, minlength=7).min() >= 1
        assert split.test is data.test
    assert len(split_images(data).validation.labels) == 121


def test_parts_follow_the_classes_shares() -> None:
    """Where classes are large enough, each gives its share to within one image."""
    data = numbered(4, [40, 200, 1000, 333])
    split = split_images(data, 800)
    together = np.bincount(split.train.labels) + np.bincount(split.validation.labels)
    assert np.abs(together - 800 * np.array([40, 200, 1000, 333]) / 1573).max() < 1
    assert np.abs(np.bincount(split.validation.labels) - together / 10).max() < 1


def test_parts_are_the_same_for_ever() -> None:
    """Held by value: another split under the same fingerprint would make studies incomparable."""
    split = split_images(numbered(3, 20), 30)
    assert numbers_of(split.validation) == [11, 14, 53]


@pytest.mark.parametrize("wanted", [0, -1, 29, 101])
def test_wrong_number_of_training_images(wanted: int) -> None:
    problem = f"^--train-images: invalid value {wanted}: expected an integer from 30 to 100"
    with pytest.raises(UsageError, match=problem):
        split_images(numbered(10, 10), wanted)


def test_search_sees_no_test_images() -> None:
    data = numbered(3, 20)
    split = split_images(data)
    trial = search_data(data, split)
    assert trial.test is None
    assert trial.train is split.train
    assert trial.validation is split.validation
    assert trial.classes == 3
    assert trial.flip is True


def test_confirm_trains_on_what_the_search_trained_and_chose_on_and_reads_the_test_images() -> None:
    data = numbered(3, 20)
    for wanted in (None, 30):
        split = split_images(data, wanted)
        trial = confirm_data(data, split)
        assert numbers_of(trial.train) == numbers_of(split.train) + numbers_of(split.validation)
        label_of = dict(zip(numbers_of(data.train), data.train.labels.tolist(), strict=True))
        assert [label_of[row] for row in numbers_of(trial.train)] == trial.train.labels.tolist()
        assert len(trial.train.labels) == (wanted or 60)
        assert trial.validation is None and trial.test is data.test
        assert trial.train.images.dtype == np.uint8
        assert (trial.classes, trial.flip) == (3, True)


def test_a_search_trial_reads_the_same_whatever_the_test_images_are() -> None:
    """And a trial of the confirm stage reads them after every epoch."""
    config = TrialConfig(
        width=2, depth=10, stem_kernel=3, batch_size=16, max_epochs=2, normalize="data"
    )
    drawn = np.random.RandomState(3).randint(0, 256, (2, 40, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 2
    train = Part(drawn[0], labels)
    readings: dict[str, list[list[EpochMetrics]]] = {"search": [], "confirm": []}
    for images in (drawn[1], 255 - drawn[1] // 2):
        data = ImageData("made", ("a", "b"), train, Part(images, labels), False)
        split = split_images(data)
        for stage, handed in (
            ("search", search_data(data, split)),
            ("confirm", confirm_data(data, split)),
        ):
            trainer = Trainer(config, handed)
            metrics = [
                replace(trainer.run_epoch(), train_seconds=0.0, eval_seconds=0.0) for _ in range(2)
            ]
            readings[stage].append(metrics)
    once, twice = readings["search"]
    assert once == twice
    assert all(each.test_loss is None and each.test_accuracy is None for each in once)
    assert all(each.validation_loss is not None for each in once)
    once, twice = readings["confirm"]
    assert [each.train_loss for each in once] == [each.train_loss for each in twice], (
        "nothing is learnt from them"
    )
    assert all(a.test_loss != b.test_loss for a, b in zip(once, twice, strict=True))
    assert all(each.validation_loss is None and each.validation_accuracy is None for each in once)


def test_duplicates_are_counted_by_part() -> None:
    """One pixel is enough to tell two images apart; every image that is a copy counts, however
    often it is there."""
    images = np.random.RandomState(2).randint(0, 256, (9, 3, 4, 4), dtype=np.uint8)
    images[4] = images[5] = images[0]
    images[6] = images[1]
    images[6, 2, 3, 3] ^= 1
    images[8] = images[7]  # both in the test part, which is no copy of a training image
    parts = [Part(images[a:b], np.arange(a, b)) for a, b in ((0, 4), (4, 5), (5, 9))]
    assert duplicates(Split(*parts)) == {"validation": 1, "test": 1}
