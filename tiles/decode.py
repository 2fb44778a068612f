"""Encoded tiles to pixels."""

import io
import re
from collections.abc import Callable

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from tiles.errors import TilesError

MAX_TILE_PX = 4096  # a side; beyond it a "tile" is a mistake or an attack
FORMATS = ("JPEG", "PNG", "WEBP")  # Pillow reads many more, some of them by running other programs
PPM = re.compile(rb"P6\n([1-9]\d{0,4}) ([1-9]\d{0,4})\n255\n")  # as `encode` writes them
WHITE, BLACK = bytes([255] * 3), bytes(3)
FRAY = 16  # how far JPEG drives pure white or black padding off its value, near the imagery


def decode(data: bytes, px: int, *, padded: bool, name: Callable[[], str]) -> NDArray[np.uint8]:
    """A JPEG, PNG, PPM or WebP as px x px pixels, areas averaged: (px, px, 3), or (px, px, 4) where not all is opaque.

    What is transparent is black. padded: pure white or pure black along a whole edge is no imagery, as far as it
    reaches from there. name: asked for where a message needs it. Raises TilesError for data that is no picture, is
    damaged or is larger than any tile.
    """
    try:
        plain = PPM.match(data)
        if plain:
            pixels = _plain(data, plain.end(), int(plain[2]), int(plain[1]))
        else:
            pixels = _jpeg(data) if data[:2] == b"\xff\xd8" else _other(data)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or "no picture"
        raise TilesError(f"{name()}: not a readable tile ({reason}); fetch it again or delete it") from None
    if padded:
        pixels = _without_padding(pixels)
    return pixels if pixels.shape[:2] == (px, px) else _resize(pixels, px)


def _jpeg(data: bytes) -> NDArray[np.uint8]:
    """simplejpeg brings libjpeg-turbo's SIMD: several times as fast as what Pillow and GDAL come with."""
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height)
    if colours in ("CMYK", "YCCK"):
        return _other(data)
    return simplejpeg.decode_jpeg(data, "RGB")


def _plain(data: bytes, start: int, height: int, width: int) -> NDArray[np.uint8]:
    _check_size(width, height)
    return np.frombuffer(data, np.uint8, offset=start).reshape(height, width, 3)


def _other(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check_size(*image.size)
        opaque = not image.has_transparency_data
        pixels = np.array(image.convert("RGB" if opaque else "RGBA"))
    if opaque or pixels[..., 3].min() == 255:
        return np.ascontiguousarray(pixels[..., :3])
    pixels[pixels[..., 3] == 0] = 0
    return pixels


def _check_size(width: int, height: int) -> None:
    if max(width, height) > MAX_TILE_PX:
        raise ValueError(f"{width} x {height} px, more than {MAX_TILE_PX} a side")


def _resize(pixels: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((px, px), Image.Resampling.BOX))


def _without_padding(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    corners = {pixels[i, j, :3].tobytes() for i in (0, -1) for j in (0, -1)}
    if corners.isdisjoint((WHITE, BLACK)):
        return pixels  # no whole edge is of one of them: most tiles end here
    padding = _padding(pixels[..., :3])
    if not padding.any():
        return pixels
    opaque = np.full((*padding.shape, 1), 255, np.uint8) if pixels.shape[2] == 3 else pixels[..., 3:]
    pixels = np.concatenate([pixels[..., :3], opaque], axis=2)
    pixels[padding] = 0
    return pixels


def _padding(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(h, w): what was never imagery. JPEG has no transparency, so tiles are filled up in white or black."""
    padding = np.zeros(rgb.shape[:2], bool)
    for pure in (255, 0):
        near = (np.abs(rgb.astype(np.int16) - pure) <= FRAY).all(axis=-1)
        for turns in range(4):
            if (np.rot90(rgb, turns)[0] == pure).all():
                np.rot90(padding, turns)[:] |= np.logical_and.accumulate(np.rot90(near, turns), axis=0)
    return padding
