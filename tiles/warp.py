"""From a block of pixels somewhere to a window anywhere, with a mask.

Every source works the same way: `locate.footprint` says which of its pixels a window shows and how much it
shrinks them, the source assembles these into a `Canvas`, `render` samples the canvas.

Pixels stand for areas. A linear sample of them is the average of an area as large as a pixel; a linear sample of
the averages of 2 x 2 pixels is that of an area twice as wide. Between the two scales `render` blends both, which is
the area's average to about half a grey value in pictures, for a fraction of what the average costs; a canvas that is
finer than twice is shrunk by a whole number first. Resamplings that are asked for by name are what they are called.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import cv2
import numpy as np
from affine import Affine
from numpy.typing import NDArray

from tiles.locate import TOLERANCE_PX, Footprint, Mapping, mapping
from tiles.scratch import scratch
from tiles.view import View, empty_view
from tiles.window import Window

MARGIN_PX = 3  # of canvas around a window: kernels reach over its edges by 2
BLOCK_PX = 1024  # a side of what is rendered at once; OpenCV takes pictures of up to 32,767
STRIP_SAMPLES = 2**17  # sampled at once, so that it stays in the processor's cache
STRIP_ROWS = 128  # averaged at once, likewise
ONE_SAMPLE = 1.1  # up to this scale the samples of pixels alone are as near to the average
MOST_SAMPLES = 16  # a pixel along one axis; only windows squeezed along it would want more


@dataclass(frozen=True)
class Canvas:
    """Pixels of a source with their place.

    pixels: (h, w, 3) uint8 RGB, or (h, w, 4) RGBA, black where transparent, which is faster. alpha: (h, w) uint8,
    0 where there is no imagery, or None where all is. transform: from (column, row) to (x, y) of `crs`.
    """

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    transform: Affine
    crs: str


def render(canvas: Canvas, window: Window) -> View:
    """The view of a window, from a canvas. A pixel is imagery where at least half of it is.

    "average" is the exact average of a rectangle with the canvas's axes. "nearest", "bilinear" and "cubic"
    (Catmull and Rom's) look at the middle of every window pixel. "auto": see the head of this module.
    """
    view = empty_view(window.shape)
    for rows, cols in _blocks(window.shape):
        place = mapping(window.part(rows, cols), canvas.crs).on(canvas.transform)
        _render_block(canvas, place, view.pixels[rows, cols], view.mask[rows, cols])
    return view


def _blocks(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], BLOCK_PX):
        for left in range(0, shape[1], BLOCK_PX):
            yield slice(top, min(top + BLOCK_PX, shape[0])), slice(left, min(left + BLOCK_PX, shape[1]))


def _render_block(canvas: Canvas, place: Mapping, pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Fill pixels and mask of a window from a canvas."""
    span = _span(place.footprint, canvas.pixels.shape)
    if span is None:
        return
    values, opaque = _premultiplied(canvas, *span)
    if values.shape[:2] != canvas.pixels.shape[:2]:
        place = place.on(Affine.translation(span[1].start, span[0].start))
    opaque = opaque and _room(place, values.shape) >= -TOLERANCE_PX
    border = cv2.BORDER_REPLICATE if opaque else cv2.BORDER_CONSTANT
    sample = _weighted if place.window.resampling in ("cubic", "average") else _sampled
    sampled = sample(values, place, border)
    cv2.cvtColor(sampled, cv2.COLOR_RGBA2RGB, dst=pixels)
    if opaque:
        mask[:] = True
        return
    alpha: Any = cv2.extractChannel(sampled, 3)
    mask[:] = alpha >= 128
    partly = alpha < 255
    pixels[partly] = _divided(sampled[partly])


def _span(place: Footprint | None, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """Rows and columns of a canvas that a window shows; None where it shows none."""
    if place is None:
        return None
    left, top = max(0, floor(place.left) - MARGIN_PX), max(0, floor(place.top) - MARGIN_PX)
    right, bottom = (
        min(shape[1], ceil(place.right) + MARGIN_PX),
        min(shape[0], ceil(place.bottom) + MARGIN_PX),
    )
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _room(place: Mapping, shape: tuple[int, ...]) -> float:
    """Pixels between a window and the edges of a canvas; negative where it shows more than the canvas."""
    low, high = place.points.min(axis=1), place.points.max(axis=1)
    return float(min(low.min(), (shape[1::-1] - high).min()))


def _premultiplied(canvas: Canvas, rows: slice, cols: slice) -> tuple[NDArray[np.uint8], bool]:
    """Part of a canvas as RGBA (h, w, 4), and whether all is opaque.

    OpenCV samples four channels three times as fast as three. Colours weigh by opacity, so that masked ones do not
    bleed into their neighbours.
    """
    pixels: Any = canvas.pixels[rows, cols]
    alpha: Any = None if canvas.alpha is None else np.ascontiguousarray(canvas.alpha[rows, cols])
    opaque = alpha is None or alpha.min() == 255
    if pixels.shape[2] == 3:
        pixels = pixels if opaque else cv2.bitwise_and(pixels, pixels, mask=alpha)
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)
        if not opaque:
            cv2.insertChannel(alpha, pixels, 3)
    if not opaque and (partly := cv2.inRange(alpha, 1, 254) > 0).any():
        pixels = pixels.copy()
        pixels[partly, :3] = _to_uint8(pixels[partly, :3] * (alpha[partly, None] / 255))
    return pixels, opaque


def _divided(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Premultiplied (n, 4) to colours (n, 3), black where less than half is imagery."""
    alpha = values[:, 3:].astype(np.float32)
    return np.where(alpha >= 128, _to_uint8(values[:, :3] * (255 / np.maximum(alpha, 1))), np.uint8(0))


def _to_uint8(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)


def _sampled(values: NDArray[np.uint8], place: Mapping, border: int) -> NDArray[np.uint8]:
    """(h, w, 4), until the next call: what lies in the middle of every pixel; with "auto" all that lies in it."""
    (height, width), resampling = place.window.shape, place.window.resampling
    how = cv2.INTER_NEAREST if resampling == "nearest" else cv2.INTER_LINEAR
    n_across = n_down = 1
    share = 0.0
    if resampling == "auto":
        values, place = _shrunk(values, place, border)
        scales = np.hypot(*place.pixel)
        n_across, n_down = np.clip(np.rint(scales / scales.min()), 1, MOST_SAMPLES).astype(int).tolist()
        share = _share(float(scales.min()))
    averages, move = _averages(values, place, border) if share else (values, 0.0)
    across, down = ((np.arange(n) + 0.5) / n for n in (width * n_across, height * n_down))
    result = scratch("window", (height, width, 4), np.uint8)
    step = max(1, STRIP_SAMPLES // (len(across) * n_down))
    for top in range(0, height, step):
        strip = result[top : top + step]
        cols, rows = place.positions(across, down[top * n_down : (top + step) * n_down])
        one_each = n_across == n_down == 1
        samples = strip if one_each else scratch("samples", (*cols.shape, 4), np.uint8)
        cv2.remap(values, cols, rows, how, dst=samples, borderMode=border)
        if share:
            cols += np.float32(move)
            rows += np.float32(move)
            wider = scratch("wider", samples.shape, np.uint8)
            cv2.remap(averages, cols, rows, how, dst=wider, borderMode=border)
            cv2.addWeighted(samples, 1 - share, wider, share, 0, dst=samples)
        if not one_each:
            cv2.resize(samples, (width, len(strip)), dst=strip, interpolation=cv2.INTER_AREA)
    return result


def _shrunk(values: NDArray[np.uint8], place: Mapping, border: int) -> tuple[NDArray[np.uint8], Mapping]:
    """A canvas that is less than twice as fine as the window, its pixels averages of whole squares."""
    by = int(np.hypot(*place.pixel).min() + 1e-6)
    if by < 2:
        return values, place
    height, width = (-(-side // by) * by for side in values.shape[:2])
    filled = cv2.copyMakeBorder(values, 0, height - values.shape[0], 0, width - values.shape[1], border)
    shrunk: Any = cv2.resize(filled, (width // by, height // by), interpolation=cv2.INTER_AREA)
    return shrunk, place.on(Affine.scale(by))


def _share(scale: float) -> float:
    """How much the averages of 2 x 2 pixels count: what is seen is spread as far as the area, a square of `scale`."""
    return (scale**2 - 1) / 3 if scale > ONE_SAMPLE else 0.0


def _averages(values: NDArray[np.uint8], place: Mapping, border: int) -> tuple[NDArray[np.uint8], float]:
    """The averages of all 2 x 2 pixels, and how much further on in them a position on the canvas is.

    OpenCV has a call for it that rounds every quarter up, which makes pictures brighter.
    """
    move = -0.5
    if _room(place, values.shape) < 1:  # those of the edges and what lies beyond are needed
        filled: Any = cv2.copyMakeBorder(values, 1, 1, 1, 1, border)
        values, move = filled, 0.5
    averages = scratch("averages", (values.shape[0] - 1, values.shape[1] - 1, 4), np.uint8)
    for top in range(0, len(averages), STRIP_ROWS):
        rows = values[top : top + STRIP_ROWS + 1]
        pairs = _mean(rows[:-1], rows[1:], scratch("pairs", rows[1:].shape, np.uint8), up=False)
        _mean(pairs[:, :-1], pairs[:, 1:], averages[top : top + STRIP_ROWS], up=True)
    return averages, move


def _mean(
    one: NDArray[np.uint8], other: NDArray[np.uint8], out: NDArray[np.uint8], *, up: bool
) -> NDArray[np.uint8]:
    """The mean of two: what both have and half of what one has, or what any has less that; as it is to be rounded."""
    half = np.bitwise_xor(one, other, out=scratch("half", out.shape, np.uint8))
    half >>= 1
    if up:
        return np.subtract(np.bitwise_or(one, other, out=out), half, out=out)
    return np.add(np.bitwise_and(one, other, out=out), half, out=out)


def _weighted(values: NDArray[np.uint8], place: Mapping, border: int) -> NDArray[np.uint8]:
    """(h, w, 4): a weighted sum of the raster pixels around the middle of every window pixel."""
    height, width = place.window.shape
    wide, high = np.hypot(*place.pixel.T)  # of a rectangle on the canvas that is as large as a pixel
    result = np.empty((height, width, 4), np.uint8)
    weights = _cubic_weights if place.window.resampling == "cubic" else _area_weights
    step = max(1, STRIP_SAMPLES // width)
    across, down = ((np.arange(count) + 0.5) / count for count in (width, height))
    for top in range(0, height, step):
        cols, rows = place.positions(across, down[top : top + step])
        total = np.zeros((*cols.shape, 4), np.float32)
        for row, by_row in weights(rows, high):
            for col, by_col in weights(cols, wide):
                seen = cv2.remap(values, col, row, cv2.INTER_NEAREST, borderMode=border)
                total += seen * (by_row * by_col)[..., None]
        total /= np.maximum(total[..., 3:] / 255, 1)  # a cubic may make more than opaque of an edge
        result[top : top + step] = _to_uint8(total)
    return result


Weights = Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]  # pixels of an axis, with their weights


def _area_weights(position: NDArray[np.float32], scale: float) -> Weights:
    """How much of every pixel goes into the average of `scale` pixels around a position."""
    low, high = position - np.float32(scale / 2), position + np.float32(scale / 2)
    first = np.floor(low + np.float32(0.5))
    for i in range(ceil(scale) + 1):
        pixel = first + i
        within = np.minimum(pixel + 0.5, high) - np.maximum(pixel - 0.5, low)
        yield pixel, np.maximum(within, 0) / np.float32(scale)


def _cubic_weights(position: NDArray[np.float32], _: float) -> Weights:
    """Catmull and Rom's cubic; OpenCV's own moves edges by 0.04 px."""
    first = np.floor(position) - 1
    for i in range(4):
        distance = np.abs(position - (first + i))
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        yield first + i, np.where(distance < 1, near, far)
