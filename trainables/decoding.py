"""One image file to a square of bytes."""

import logging
import os

import numpy as np
from PIL import Image, ImageOps

log = logging.getLogger(__name__)


def decode(path: str, pixels: np.ndarray) -> int:
    """Fill `pixels` (3×S×S) with one image, upright, its shorter side made S and the longer one
    cropped to that.

    Returns how many channels the file has: 1 where it is grey, else 3, or 0 where it cannot be
    read.
    """
    try:
        if not os.path.isfile(path):
            raise OSError("not a regular file")  # opening a pipe would wait for ever
        with Image.open(path) as source:
            image = ImageOps.exif_transpose(source)
            mode = "L" if Image.getmodebase(image.mode) == "L" else "RGB"
            if image.mode.startswith("I"):  # 16 bits per pixel, which convert() would clip at 255
                image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
            elif image.has_transparency_data:
                # What lies under transparent pixels is arbitrary; browsers show white.
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image.convert("RGBA"))
            size = pixels.shape[1:]
            square = ImageOps.fit(image.convert(mode), size, Image.Resampling.BILINEAR)
        pixels[...] = np.atleast_3d(np.asarray(square)).transpose(2, 0, 1)
        return len(mode)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        log.debug("cannot read %s: %s", path, error)
        return 0
