"""One image file to a square of pixels.

Images of 8 bits become bytes at once. Deep images (more than 8 bits per pixel, or floats) keep
their values: only with all files of a data set at hand is it known what range of values they use.
"""

import logging
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

log = logging.getLogger(__name__)

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its orientation in EXIF."""
UNSIGNED, SIGNED = 1, 2
"""Of a TIFF's tag SampleFormat."""
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True, eq=False)
class DeepPixels:
    """A deep image, which is grey.

    Attributes:
        above_lowest: its values less `lowest`, float32, S×S.
        lowest: the least value of the file.
        highest: the greatest value of the file.
        integers: whether its values are.
    """

    above_lowest: np.ndarray
    lowest: float
    highest: float
    integers: bool


@dataclass(frozen=True, eq=False)
class Decoded:
    """What became of a file.

    Attributes:
        channels: 1 where it is grey, else 3; 0 where it is unreadable.
        deep: its pixels where it is deep.
        upper_byte: the highest value of a colour image of 16 bits per channel, of which Pillow
            reads the upper 8.
        reason: why it is unreadable.
    """

    channels: int = 0
    deep: DeepPixels | None = None
    upper_byte: int | None = None
    reason: str = ""


def decode(path: str, pixels: np.ndarray) -> Decoded:
    """Fill `pixels` (3×S×S) with one image, upright, its shorter side made S and the longer one
    cropped to that; not with a deep one."""
    try:
        if not os.path.isfile(path):
            raise OSError("not a regular file")  # opening a pipe would wait for ever
        with Image.open(path) as source:
            raw_mode = _raw_mode(source)
            source.load()  # once: a second time a damaged file may pass
            image = _upright(source)
            size = pixels.shape[1:]
            stored = _stored_type(source)
            if image.mode[0] in "IF" or stored:
                return Decoded(1, deep=_deep(image, stored, size))
            upper_byte = _highest(image) if ";16" in raw_mode else None
            mode = "L" if Image.getmodebase(image.mode) == "L" else "RGB"
            if image.has_transparency_data:
                # What lies under transparent pixels is arbitrary; browsers show white.
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image.convert("RGBA"))
            square = ImageOps.fit(image.convert(mode), size, Image.Resampling.BILINEAR)
        pixels[...] = np.atleast_3d(np.asarray(square)).transpose(2, 0, 1)
        return Decoded(len(mode), upper_byte=upper_byte)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        log.debug("cannot read %s: %s", path, error)
        return Decoded(reason=_reason(path, error))


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its camera was held; as it is where its EXIF data are broken."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # pixels are there all the same
        return image
    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _reason(path: str, error: Exception) -> str:
    """Why a file is unreadable: short, and without what could break a line."""
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    if os.path.islink(path) and not os.path.exists(path):
        return "a link to nothing"
    if isinstance(error, UnidentifiedImageError):
        with open(path, "rb") as file:
            return _what_it_is(file.read(256))
    words = " ".join(str(error).split()) or type(error).__name__
    return textwrap.shorten(repr(words)[1:-1], 80, placeholder=" …")


def _what_it_is(head: bytes) -> str:
    """What a file that is no image seems to be, by its first bytes."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "an empty file"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: git lfs pull gets the image"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if text.startswith((b"<svg", b"<?xml")):
        return "a drawing in SVG or other XML"
    if head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS:
        return "HEIC, which needs a plug-in of Pillow: convert it to JPEG or PNG"
    return "no image format that Pillow knows"


def _raw_mode(source: Image.Image) -> str:
    """How the pixels lie in the file, in Pillow's words, such as `RGB;16B`; "" where unknown.

    A file of 16 bits per channel of colour is read as if it had 8, which no other attribute shows.
    """
    tiles = getattr(source, "tile", None)
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _highest(image: Image.Image) -> int:
    """The highest value of any channel but transparency."""
    ranges = image.convert("RGB").getextrema()
    return int(max(highest for _, highest in ranges))  # type: ignore[misc]


def _stored_type(source: Image.Image) -> type[np.integer[Any]] | None:
    """The type of the integers of a TIFF that Pillow keeps, bit by bit, as another type."""
    tags = getattr(source, "tag_v2", None)
    if tags is None:
        return None
    format = tuple(tags.get(ExifTags.Base.SampleFormat, (UNSIGNED,)))
    stored: dict[Any, type[np.integer[Any]]] = {
        ("L", (SIGNED,)): np.int8,
        ("I", (UNSIGNED,)): np.uint32,
    }
    return stored.get((source.mode, format))


def _deep(
    image: Image.Image, stored: type[np.integer[Any]] | None, size: tuple[int, ...]
) -> DeepPixels:
    values = np.asarray(image)
    if stored is not None:
        values = values.view(stored)
    if not np.isfinite(values).all():
        raise ValueError("has values that are not finite numbers")
    # Offsets in float64, so that a small range far from 0 keeps its differences in float32.
    lowest, highest = float(values.min()), float(values.max())
    above_lowest = Image.fromarray((values.astype(np.float64) - lowest).astype(np.float32))
    square = ImageOps.fit(above_lowest, (size[1], size[0]), Image.Resampling.BILINEAR)
    return DeepPixels(np.asarray(square), lowest, highest, np.issubdtype(values.dtype, np.integer))


def refuse_clipped(decoded: Sequence[Decoded]) -> list[Decoded]:
    """The same, where no colour image of 16 bits lost what the lower 8 bits of its channels hold.

    Where the images use all 16 bits the upper 8 are what counts; where they use fewer, all such
    images are unreadable.
    """
    upper_bytes = [image.upper_byte for image in decoded if image.upper_byte is not None]
    highest = max(upper_bytes, default=0)
    if highest >= 128:
        return list(decoded)
    bits = 8 + highest.bit_length()
    reason = f"16 bits per channel of colour, of which {bits} are used: convert it to 8 bits"
    return [Decoded(reason=reason) if image.upper_byte is not None else image for image in decoded]


def fill_deep(images: np.ndarray, decoded: Sequence[Decoded]) -> tuple[float, float] | None:
    """Fill the places of deep images (uint8 N×3×S×S) by one scale for all of them.

    The scale goes from their lowest to their highest value; among images of 8 bits, where 0 is
    black, it is that of the bits that they use. Returns what becomes 0 and 255; None without any.
    """
    deep = [(place, image.deep) for place, image in enumerate(decoded) if image.deep]
    if not deep:
        return None
    low = min(image.lowest for _, image in deep)
    high = max(image.highest for _, image in deep)
    shallow = any(image.channels and not image.deep for image in decoded)
    if shallow and low >= 0 and all(image.integers for _, image in deep):
        low, high = 0.0, float(max(255, 2 ** int(high).bit_length() - 1))
    for place, image in deep:
        images[place] = scale_deep(image, low, high)
    return low, high


def scale_deep(image: DeepPixels, low: float, high: float) -> np.ndarray:
    """The image, S×S, with `low` and `high` at 0 and 255; what is outside is cut off."""
    scale = 255 / (high - low) if high > low else 0.0
    values = (image.above_lowest.astype(np.float64) + (image.lowest - low)) * scale
    scaled: np.ndarray = np.rint(values).clip(0, 255)
    return scaled
