"""Pixels to encoded tiles."""

import io

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from tiles.errors import TilesError
from tiles.view import View

# Of orthophotos, against 4:4:4: decoded in 60 % of the time, 15 % smaller, 1.3 dB less (36.2 for 37.5 dB).
JPEG = {"quality": 90, "colorspace": "RGB", "colorsubsampling": "420", "fastdct": False}


def encode(view: View, *, plain: bool = False) -> bytes | None:
    """A JPEG where all of a view is imagery, a lossless WebP with alpha where a part is, None where nothing is.

    plain: a PPM, pixel by pixel, in place of the JPEG: five to twelve times its size, read in a tenth of its time.
    """
    if view.mask.all() and plain:
        height, width = view.mask.shape
        return b"P6\n%d %d\n255\n" % (width, height) + view.pixels.tobytes()
    if view.mask.all():
        return simplejpeg.encode_jpeg(np.ascontiguousarray(view.pixels), **JPEG)
    if not view.mask.any():
        return None
    rgba = np.dstack([view.pixels, view.mask.astype(np.uint8) * 255])
    file = io.BytesIO()
    # The least effort: 50 times as fast as Pillow's default, for 10 % more bytes of the few tiles at an edge.
    Image.fromarray(rgba).save(file, "WEBP", lossless=True, quality=0, method=0)
    return file.getvalue()


def suffix(data: bytes) -> str:
    """Of an encoded tile: ".jpg", ".png", ".ppm" or ".webp", by its first bytes; "" for anything else."""
    if data[:3] == b"\xff\xd8\xff":
        return ".jpg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return ".png"
    if data[:3] == b"P6\n":
        return ".ppm"
    return ".webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def side_px(data: bytes, *, name: str) -> int:
    """The side of an encoded tile. Raises TilesError, beginning with `name`, for what is no square picture."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        raise TilesError(f"{name}: not a picture; only JPEG, PNG and WebP tiles can be read") from None
    if width != height:
        raise TilesError(f"{name}: {width} x {height} px; tiles must be square")
    return width
