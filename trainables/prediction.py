"""Images that a person hands to a trained network, and what it predicts of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trainables.config import UsageError, invalid
from trainables.decoding import scale_deep
from trainables.folders import decode_files, writable
from trainables.layout import is_hidden, named

EXPECTED = "an image, a folder of images, or a uint8 array N×H×W×C (C 1 or 3) or N×H×W"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network predicts of some images; printed, a line per image.

    Attributes:
        names: of the images: paths, or places in the array.
        classes: their names, in the order of the columns.
        probabilities: float64, N×K; each row sums to 1.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: np.ndarray

    @property
    def labels(self) -> list[str]:
        """The most probable class of each image."""
        return [self.classes[place] for place in self.probabilities.argmax(1)]

    def __str__(self) -> str:
        rows = zip(self.names, self.labels, self.probabilities.max(1, initial=0), strict=True)
        return "\n".join(
            f"{named([name])}: {named([label])} {probability:.1%}"
            for name, label, probability in rows
        )


def read_images(
    images: str | Path | np.ndarray,
    image_shape: Sequence[int],
    value_range: Sequence[float] | None,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and pixels (uint8 N×C×H×W) of images, made as training makes them: cropped to the shape
    (C, H, W), grey or coloured, deep ones scaled from `value_range` to 0 to 255.

    Raises:
        UsageError: there are none, or one cannot be read.
    """
    channels, *size = image_shape
    if isinstance(images, str | Path):
        paths = _files(Path(images))
        names = tuple(map(writable, paths))
        pixels = np.empty((len(paths), 3, *size), dtype=np.uint8)
        _read_files(paths, pixels, value_range)
    else:
        pixels = _fitted(np.asarray(images), size)
        names = tuple(map(str, range(len(pixels))))
    if channels == 1:
        return names, np.stack([_grey(image) for image in pixels])[:, None]
    return names, pixels


def _files(path: Path) -> list[str]:
    """The image itself, or every file of a folder and its folders, sorted; what is hidden does not
    count."""
    if path.is_file():
        return [str(path)]
    inside = sorted(path.rglob("*"))
    hidden = [any(map(is_hidden, each.relative_to(path).parts)) for each in inside]
    files = [
        str(each)
        for each, skipped in zip(inside, hidden, strict=True)
        if not (skipped or each.is_dir())
    ]
    if not files:
        raise invalid("images", str(path), EXPECTED)
    return files


def _read_files(
    paths: Sequence[str], pixels: np.ndarray, value_range: Sequence[float] | None
) -> None:
    """Fill `pixels` (N×3×H×W) with the files."""
    decoded = decode_files(paths, pixels)
    reasons = [result.reason for result in decoded]
    if value_range is None:
        deep = "more than 8 bits per pixel, which no image had in training"
        reasons = [deep if result.deep else result.reason for result in decoded]
    unread = [path for path, reason in zip(paths, reasons, strict=True) if reason]
    if unread:
        problem = named(unread, [reason for reason in reasons if reason])
        raise UsageError(f"images: unreadable files: {problem}: expected images as in training")
    for place, result in enumerate(decoded):
        if result.deep and value_range:
            pixels[place] = scale_deep(result.deep, *value_range)


def _fitted(images: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The images of an array, uint8 N×3×H×W, cropped to `size` as files are."""
    # One image H×W×C looks like N×H×W of images that are 1 or 3 pixels wide.
    one = images.ndim == 3 and images.shape[2] in (1, 3)
    coloured = images.ndim == 4 and images.shape[3] in (1, 3)
    if images.dtype != np.uint8 or one or not (images.ndim == 3 or coloured) or not images.size:
        raise invalid("images", f"{images.dtype} {'×'.join(map(str, images.shape))}", EXPECTED)
    height, width = size
    fitted = [
        np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR))
        for image in map(Image.fromarray, images.squeeze(3) if images.shape[3:] == (1,) else images)
    ]
    stacked = np.stack(fitted)
    if stacked.ndim == 3:
        return np.repeat(stacked[:, None], 3, axis=1)
    return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def _grey(image: np.ndarray) -> np.ndarray:
    """H×W of 3×H×W."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).convert("L"))
