"""A data set in memory and its disjoint parts: which images a trial trains on, is chosen by and is
tested on."""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from trainables.config import invalid

SPLIT_SEED = 20240229
"""A constant, so that every study of a data set has the same parts, whatever its own seed."""
LEAST_TRAIN = 3
"""Training images that each class needs: two to train on and one to validate."""


@dataclass(frozen=True, eq=False)
class Part:
    """Images (uint8, N×C×H×W, contiguous) and the indices of their classes (int64, N)."""

    images: np.ndarray
    labels: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "Part":
        return Part(self.images[chosen], self.labels[chosen])

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: "Part") -> "Part":
        return Part(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.labels, other.labels]),
        )


@dataclass(frozen=True)
class ImageData:
    """A data set in memory.

    Attributes:
        name: of the data set, or of its folder.
        classes: their names, in the order of the labels.
        train: all that may be trained or chosen on.
        test: kept from the search.
        validation: the part that trials are chosen by, where the data set has one of its own.
        flip: whether a mirrored image is still one of its class.
        skipped: the number of unreadable files that were skipped.
        value_range: the values of deep images that became 0 and 255; None without deep images.
        remarks: what a person should know of how the files were read.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    test: Part
    flip: bool
    validation: Part | None = None
    skipped: int = 0
    value_range: tuple[float, float] | None = None
    remarks: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @functools.cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of all parts and the class names."""
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        for part in filter(None, (self.train, self.test, self.validation)):
            digest.update(repr(part.images.shape).encode())
            digest.update(part.images.data)
            digest.update(part.labels.astype("<i8").data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Split:
    """The three disjoint parts of a study."""

    train: Part
    validation: Part
    test: Part


@dataclass(frozen=True)
class TrialData:
    """What a trial reads; a part that its stage must not read is None."""

    train: Part
    validation: Part | None
    test: Part | None
    classes: int
    flip: bool


def split_images(data: ImageData, train_images: int | None = None) -> Split:
    """The parts of a study: of `train_images` images (all, if None) a tenth is for validation,
    unless the data set has a validation part; all stratified.

    Raises:
        UsageError: there are not as many, or too few of them for each class to be in every part.
    """
    train = data.train
    least_of_class = LEAST_TRAIN - (data.validation is not None)
    if train_images is not None:
        least = least_of_class * len(data.classes)
        if not least <= train_images <= len(train):
            expected = f"an integer from {least} to {len(train)} ({data.name})"
            raise invalid("--train-images", train_images, expected)
        train = train[stratified_draw(train.labels, train_images, least_of_class)]
    if data.validation is not None:
        return Split(train, data.validation, data.test)
    validation = stratified_draw(train.labels, round(len(train) / 10), 1)
    return Split(train=train[~validation], validation=train[validation], test=data.test)


def search_data(data: ImageData, split: Split) -> TrialData:
    """What a trial of the search stage may see: no test images."""
    return TrialData(split.train, split.validation, None, len(data.classes), data.flip)


def confirm_data(data: ImageData, split: Split) -> TrialData:
    """What a trial of the confirm stage trains on, training and validation images; and the test
    images."""
    train = split.train + split.validation
    return TrialData(train, None, split.test, len(data.classes), data.flip)


def duplicates(split: Split) -> dict[str, int]:
    """How many images of the `validation` part equal a training image, and of the `test` part one
    of either part, pixel by pixel."""
    train, validation, test = (
        [hashlib.sha256(image).digest() for image in part.images]
        for part in (split.train, split.validation, split.test)
    )
    trained_on, read_in_search = set(train), {*train, *validation}
    return {
        "validation": sum(digest in trained_on for digest in validation),
        "test": sum(digest in read_in_search for digest in test),
    }


def stratified_draw(labels: np.ndarray, count: int, least: int) -> np.ndarray:
    """Which images (bool, N) a stratified draw of `count` takes, `least` or more of each class,
    whatever the count.

    The callers see to it that every class is large enough.
    """
    sizes = np.bincount(labels)
    count = max(count, least * len(sizes))
    quotas = count * sizes / len(labels)
    drawn_sizes = np.full(len(sizes), least)
    while drawn_sizes.sum() < count:  # to the class that is furthest below its quota
        drawn_sizes[np.argmax(quotas - drawn_sizes)] += 1
    # The stream of RandomState never changes, that of default_rng may.
    random = np.random.RandomState(SPLIT_SEED)
    drawn = np.zeros(len(labels), dtype=bool)
    for label, size in enumerate(drawn_sizes):
        drawn[random.permutation(np.flatnonzero(labels == label))[:size]] = True
    return drawn
