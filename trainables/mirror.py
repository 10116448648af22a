"""Finds classes that are each other's mirror image, which mirroring in training would mix up."""

import math
from itertools import combinations

import numpy as np
from PIL import Image

from trainables.parts import Part

SIDE = 16
"""Images are compared at so many pixels a side."""
MOST_IMAGES = 2000
"""Drawn from all classes alike: their comparison takes a fifth of a second."""
LEAST_SHARE = 0.1
"""A class's images of which at least so many are as far from their own class as mirrored images of
the other class are.

Measured: arrows left and right 0.2 to 0.5, letters b and d, p and q in several fonts 0.17 to 0.37;
digits 3 and 5 up to 0.07 (100 images of MNIST each), any other two 0.02 or less.
"""
SEED = 20240229
"""A constant, so that a data set always gets the same answer."""


def mirrored_classes(part: Part, classes: int) -> list[tuple[int, int]]:
    """The pairs of classes of which the images of each, mirrored, look like the other's.

    By nearest neighbours among the other images, for mean images are blind where the objects are
    not all in one place. In both classes of a pair most mirrored images must have their neighbour
    in the other class and few in their own, images as they are the other way round; and mirrored
    images must be about as close to the other class as its own images are.

    Measured: of the mirrored images 0.9 to 1.0 (arrows) and 0.5 to 0.75 (letters) have their
    neighbour in the other class; 0.2 or less in all pairs of CIFAR-10, 0.4 or less of MNIST.
    """
    random = np.random.RandomState(SEED)
    each = max(2, MOST_IMAGES // classes)
    chosen = np.concatenate(
        [random.permutation(np.flatnonzero(part.labels == c))[:each] for c in range(classes)]
    )
    labels = part.labels[chosen]
    thumbnails = np.stack([_thumbnail(part.images[index]) for index in chosen])
    plain = _similarity(thumbnails, thumbnails)
    mirrored = _similarity(thumbnails[:, :, ::-1], thumbnails)
    plain_votes = _votes(plain, labels, classes)
    mirrored_votes = _votes(mirrored, labels, classes)

    def looks_like(one: int, other: int) -> bool:
        votes = mirrored_votes[one]
        most = votes[other] > votes.sum() / 2 and _more(votes[other], votes[one])
        if not most or not _more(plain_votes[one, one], plain_votes[one, other]):
            return False
        members = labels == other
        closest = mirrored[np.ix_(labels == one, members)].max(1)
        usual = plain[np.ix_(members, members)].max(1)
        return float((usual <= np.median(closest)).mean()) >= LEAST_SHARE

    pairs = combinations(range(classes), 2)
    return [(a, b) for a, b in pairs if looks_like(a, b) and looks_like(b, a)]


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """In grey, small, with mean 0 and length 1: brightness and contrast do not count."""
    grey = Image.fromarray(image.mean(0, dtype=np.float32))
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    centred: np.ndarray = small - small.mean()
    centred /= max(float(np.linalg.norm(centred)), 1e-9)
    return centred


def _similarity(queries: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Of each query (rows) with each thumbnail (columns); with the same image -1, the least."""
    count = len(thumbnails)
    similarity: np.ndarray = queries.reshape(count, -1) @ thumbnails.reshape(count, -1).T
    np.fill_diagonal(similarity, -1)
    return similarity


def _votes(similarity: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """How many images of each class (rows) have their nearest neighbour in each class (columns)."""
    votes = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(votes, (labels, labels[similarity.argmax(1)]), 1)
    return votes


def _more(votes: int, others: int) -> bool:
    """Whether that is no accident, by two standard deviations of a fair coin."""
    return votes - others > 2 * math.sqrt(votes + others)
