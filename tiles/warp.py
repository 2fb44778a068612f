"""From a block of pixels somewhere to a window anywhere, with a mask.

Every source works the same way: `locate.footprint` says which of its pixels a window shows and how much it
shrinks them, the source assembles these into a `Canvas`, `render` samples the canvas.

Pixels stand for areas. A linear sample of them is the average of an area as large as a pixel; of a larger area, up to
twice as wide, `render` averages two such samples beside its middle, for a fraction of what the exact average of the
pixels costs and nearer to what is on the ground, for pixels and linear samples are blurred already. A canvas that is
finer than twice is shrunk by a whole number first. Of a smaller area, the average is a linear sample a little beside
its middle; it is taken where rows and columns are the canvas's own, for there it costs next to nothing. Resamplings
that are asked for by name are what they are called.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import Any

import cv2
import numpy as np
from affine import Affine
from numpy.typing import NDArray

from tiles.locate import TOLERANCE_PX, Mapping, mapping
from tiles.scratch import scratch
from tiles.view import View, empty_view
from tiles.window import Window

OPAQUE = 0xFF000000  # the least of such a pixel
MARGIN_PX = 3  # of canvas around a window: kernels reach over its edges by 2
BLOCK_PX = 1024  # a side of what is rendered at once; OpenCV takes pictures of up to 32,767
STRIP_SAMPLES = 2**18  # sampled at once: threads wait for each other between calls, so few are better
LEAST_AREA = 0.8  # of a pixel along an axis, to be averaged when enlarging: of less, pixels show as squares
ONE_SAMPLE = 1.4  # up to this scale one sample shows the ground as well as two
SPREAD = 0.2  # of two samples, where pictures shrunk 1.5 to 2 times are nearest to the ground
ONE: Sequence[tuple[float, float]] = ((0.0, 0.0),)
MOST_SAMPLES = 16  # a pixel along one axis; only windows squeezed along it would want more


@dataclass(frozen=True)
class Canvas:
    """Pixels of a source with their place.

    pixels: (h, w, 3) uint8 RGB, or (h, w, 4) RGBA, black where transparent, which is faster. alpha: (h, w) uint8,
    0 where there is no imagery, or None where all is. transform: from (column, row) to (x, y) of `crs`. synthetic:
    (h, w) uint8, not 0 where a pixel was made up, or None where none was.
    """

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    transform: Affine
    crs: str
    synthetic: NDArray[np.uint8] | None = None


def render(canvas: Canvas, window: Window) -> View:
    """The view of a window, from a canvas. A pixel is imagery where at least half of it is, and synthetic where
    anything synthetic went into it.

    "average" is the exact average of a rectangle with the canvas's axes. "nearest", "bilinear" and "cubic"
    (Catmull and Rom's) look at the middle of every window pixel. "auto": see the head of this module.
    """
    view = empty_view(window.shape)
    if canvas.synthetic is not None:
        view = view.flagged()
    for rows, cols in _blocks(window.shape):
        place = mapping(window.part(rows, cols), canvas.crs).on(canvas.transform)
        _render_block(canvas, place, view.pixels[rows, cols], view.mask[rows, cols])
        if canvas.synthetic is not None and view.synthetic is not None:
            view.synthetic[rows, cols] = _reached(canvas.synthetic, place) & view.mask[rows, cols]
    return view


def _reached(flags: NDArray[np.uint8], place: Mapping) -> NDArray[np.bool_]:
    """(h, w): the pixels of a window that flagged pixels of a canvas may have gone into, whatever the sampling."""
    scale, resampling = float(np.hypot(*place.pixel).max()), place.window.resampling
    reach = (
        1 if scale <= ONE_SAMPLE else ceil(2 * scale)
    )  # of what `_sampled` and `_weighted` read around a middle
    reach = 0 if resampling == "nearest" else 2 if resampling == "cubic" else reach
    wide = cv2.dilate(np.minimum(flags, 1), np.ones((2 * reach + 1,) * 2, np.uint8))
    look = _looker(np.asarray(wide), place, place.window.shape, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
    found = np.empty(place.window.shape, np.uint8)
    look(0, ONE[0], found)
    return found > 0


def _blocks(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], BLOCK_PX):
        for left in range(0, shape[1], BLOCK_PX):
            yield slice(top, min(top + BLOCK_PX, shape[0])), slice(left, min(left + BLOCK_PX, shape[1]))


def _render_block(canvas: Canvas, place: Mapping, pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Fill pixels and mask of a window from a canvas."""
    shape = canvas.pixels.shape[:2]
    span = _span(place, shape)
    if span is None:
        return
    values, opaque = _premultiplied(canvas, *span)
    opaque = opaque and _room(place, shape) >= -TOLERANCE_PX
    if values.shape[:2] != shape:
        place = place.on(Affine.translation(span[1].start, span[0].start))
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


def _span(place: Mapping, shape: tuple[int, int]) -> tuple[slice, slice] | None:
    """Rows and columns of a canvas that go into a window; None where none do."""
    seen = place.footprint
    if seen is None:
        return None
    reach = _reach(place)
    left, top = max(0, floor(seen.left - reach)), max(0, floor(seen.top - reach))
    right, bottom = min(shape[1], ceil(seen.right + reach)), min(shape[0], ceil(seen.bottom + reach))
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _reach(place: Mapping) -> float:
    """How far beyond a window's edges pixels are looked at; negative where those at its edges are not.

    Exact where that is easy: without masked pixels sampling takes half the time.
    """
    scales, resampling = np.hypot(*place.pixel), place.window.resampling
    scale = float(scales.min())
    if resampling in ("cubic", "average") or scale >= 2 or scales.max() >= 1.5 * scale:
        return MARGIN_PX
    offsets = _offsets(scale) if resampling == "auto" else ONE
    return 0.5 + float(np.abs(offsets).max()) - scale / 2


def _room(place: Mapping, shape: tuple[int, int]) -> float:
    """Pixels between a window and the edges of a canvas; negative where it shows more than the canvas."""
    low, high = place.points.min(axis=1), place.points.max(axis=1)
    return float(min(low.min(), (shape[::-1] - high).min()))


def _premultiplied(canvas: Canvas, rows: slice, cols: slice) -> tuple[NDArray[np.uint8], bool]:
    """Part of a canvas as RGBA (h, w, 4), and whether all is opaque.

    OpenCV samples four channels three times as fast as three. Colours weigh by opacity, so that masked ones do not
    bleed into their neighbours.
    """
    pixels: Any = canvas.pixels[rows, cols]
    alpha: Any = None if canvas.alpha is None else canvas.alpha[rows, cols]
    opaque = alpha is None or _is_opaque(pixels, alpha)
    alpha = None if opaque else np.ascontiguousarray(alpha)
    if pixels.shape[2] == 3:
        pixels = pixels if opaque else cv2.bitwise_and(pixels, pixels, mask=alpha)
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)
        if not opaque:
            cv2.insertChannel(alpha, pixels, 3)
    partly: Any = None if opaque else cv2.inRange(alpha, 1, 254, dst=scratch("partly", alpha.shape, np.uint8))
    if partly is not None and cv2.hasNonZero(partly):
        pixels, partly = pixels.copy(), partly > 0
        pixels[partly, :3] = _to_uint8(pixels[partly, :3] * (alpha[partly, None] / 255))
    return pixels, opaque


def _is_opaque(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> bool:
    """Of RGBA seen as numbers, alpha comes first: six times as fast as picking it out."""
    return bool(pixels.view("<u4").min() >= OPAQUE if pixels.shape[2] == 4 else alpha.min() == 255)


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
    offsets = ONE
    if resampling == "auto":
        values, place = _shrunk(values, place, border)
        scales = np.hypot(*place.pixel)
        n_across, n_down = np.clip(np.rint(scales / scales.min()), 1, MOST_SAMPLES).astype(int).tolist()
        offsets = _offsets(float(scales.min()))
    look = _looker(values, place, (height * n_down, width * n_across), how, border)
    result = scratch("window", (height, width, 4), np.uint8)
    step = max(1, STRIP_SAMPLES // (width * n_across * n_down))
    for top in range(0, height, step):
        strip = result[top : top + step]
        shape = len(strip) * n_down, width * n_across, 4
        samples = strip if n_across == n_down == 1 else scratch("samples", shape, np.uint8)
        look(top * n_down, offsets[0], samples)
        if len(offsets) == 2:
            other = scratch("other", shape, np.uint8)
            look(top * n_down, offsets[1], other)
            cv2.addWeighted(samples, 0.5, other, 0.5, 0, dst=samples)
        if samples is not strip:
            cv2.resize(samples, (width, len(strip)), dst=strip, interpolation=cv2.INTER_AREA)
    return result


Look = Callable[[int, tuple[float, float], NDArray[np.uint8]], object]


def _looker(values: NDArray[np.uint8], place: Mapping, shape: tuple[int, int], how: int, border: int) -> Look:
    """look(top, offset, out): fills `out` with a window's samples from row `top` on, `offset` (column, row) beside.

    shape: rows and columns of samples all over the window.
    """
    # Which pixel is the nearest must not hang on the last digit of a matrix.
    affine = None if how == cv2.INTER_NEAREST else place.affine(shape)

    def warp(top: int, offset: tuple[float, float], out: NDArray[np.uint8]) -> None:
        matrix = np.array(affine)
        matrix[:, 2] += matrix[:, 1] * top + offset
        flags = how | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(values, matrix, out.shape[1::-1], dst=out, flags=flags, borderMode=border)

    def remap(top: int, offset: tuple[float, float], out: NDArray[np.uint8]) -> None:
        across, down = np.arange(shape[1]) + 0.5, np.arange(top, top + len(out)) + 0.5
        cols, rows = place.positions(across / shape[1], down / shape[0])
        cols += np.float32(offset[0])
        rows += np.float32(offset[1])
        cv2.remap(values, cols, rows, how, dst=out, borderMode=border)

    def enlarge(top: int, offset: tuple[float, float], out: NDArray[np.uint8]) -> None:
        (across, _, left), (_, down, first) = np.array(affine)
        cols, rows = (scratch(role, out.shape[:2], np.float32) for role in ("columns", "rows"))
        cols[:] = _areas(left + offset[0], across, out.shape[1])
        rows[:] = _areas(first + offset[1] + down * top, down, len(out))[:, None]
        cv2.remap(values, cols, rows, how, dst=out, borderMode=border)

    if affine is None:
        return remap
    return enlarge if place.window.resampling == "auto" and _enlarges(affine) else warp


def _enlarges(affine: NDArray[np.float64]) -> bool:
    """Whether samples are nearer than pixels, their rows and columns the canvas's own, neither turned nor mirrored."""
    (across, turned), (turned_too, down) = affine[:, :2]
    return max(abs(turned), abs(turned_too)) * BLOCK_PX < TOLERANCE_PX and 0 < across < 1 and 0 < down < 1


def _areas(start: float, step: float, count: int) -> NDArray[np.float32]:
    """Where to take linear samples along an axis, so that each is the average of `step` pixels, less than 1, around
    start, start + step, ...: on the way between the same two neighbours, nearer to one of them."""
    position = start + step * np.arange(count)
    first, width = np.floor(position), max(step, LEAST_AREA)
    return (first + np.clip((position - first - 0.5) / width + 0.5, 0, 1)).astype(np.float32)


def _shrunk(values: NDArray[np.uint8], place: Mapping, border: int) -> tuple[NDArray[np.uint8], Mapping]:
    """A canvas that is less than twice as fine as the window, its pixels averages of whole squares."""
    by = int(np.hypot(*place.pixel).min() + 1e-6)
    if by < 2:
        return values, place
    height, width = (-(-side // by) * by for side in values.shape[:2])
    filled = cv2.copyMakeBorder(values, 0, height - values.shape[0], 0, width - values.shape[1], border)
    shrunk: Any = cv2.resize(filled, (width // by, height // by), interpolation=cv2.INTER_AREA)
    return shrunk, place.on(Affine.scale(by))


def _offsets(scale: float) -> Sequence[tuple[float, float]]:
    """Where to sample an area as wide as `scale` pixels, less than 2: columns and rows from its middle."""
    if scale <= ONE_SAMPLE:
        return ONE
    off = SPREAD * sqrt(scale**2 - 1)
    return ((-off, off), (off, -off))


def _weighted(values: NDArray[np.uint8], place: Mapping, border: int) -> NDArray[np.uint8]:
    """(h, w, 4): a weighted sum of the raster pixels around the middle of every window pixel."""
    height, width = place.window.shape
    wide, high = np.hypot(*place.pixel.T)  # of a rectangle on the canvas that is as large as a pixel
    result = np.empty((height, width, 4), np.uint8)
    weights = _cubic_weights if place.window.resampling == "cubic" else _area_weights
    step = max(1, STRIP_SAMPLES // 4 // width)  # of floats, which take four times the room
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
