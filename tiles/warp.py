"""From a block of pixels somewhere to a window anywhere, with a mask.

Every source works the same way: `footprint` says which of its pixels a window shows and how much it shrinks
them, the source assembles these into a `Canvas`, `render` samples the canvas.

Positions are exact: where a window's pixels lie in another CRS is a polynomial through points that were
transformed, checked at others. Pixels stand for areas. Between them `render` interpolates linearly, and where it
shrinks it averages k x k samples a pixel, spread so that together they reach as far as the area does: exact at a
scale of 1, 2, 3 and half a grey value off between, for a fraction of what the exact average costs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, sqrt
from typing import Any

import cv2
import numpy as np
from affine import Affine
from numpy.typing import NDArray

from tiles.geo import transform
from tiles.view import View, empty_view
from tiles.window import Window

REACH_PX = 2  # how far beyond a window's edges kernels reach
MARGIN_PX = 4  # what a source should put around a window: the reach, and room for bent edges
BLOCK_PX = 1024  # a side of what is rendered at once; OpenCV takes pictures of up to 32,767
STRIP_SAMPLES = 2**17  # sampled at once, so that it stays in the processor's cache
ONE_SAMPLE = 1.1  # up to this scale one sample a pixel is as near to the average of its area as four
MOST_SAMPLES = 16  # along an axis; only windows squeezed along one axis would want more
TOLERANCE_PX = 0.005  # between a polynomial and what it stands for
NODES = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 7))  # Chebyshev's, of -1..1 across a window
CHECKS = np.array([-0.96, -0.4, 0.25, 0.8])  # between the nodes
TO_COEFFICIENTS = np.linalg.inv(np.vander(NODES))
NOWHERE = -1e6  # a position no canvas has

Positions = tuple[
    NDArray[np.float32], NDArray[np.float32]
]  # columns and rows, a pixel's middle a whole number


@dataclass(frozen=True)
class Canvas:
    """Pixels of a source with their place.

    pixels: (h, w, 3) uint8 RGB, or (h, w, 4) whose fourth channel is not looked at (sampled faster). alpha: (h, w)
    uint8, 0 where there is no imagery, or None where all is. transform: from (column, row) to (x, y) of `crs`.
    """

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    transform: Affine
    crs: str


@dataclass(frozen=True)
class Footprint:
    """Which pixels of a raster a window shows: fractional columns and rows, maybe beyond the raster.

    scale: raster pixels per window pixel, above 1 where the window shrinks the raster.
    """

    left: float
    top: float
    right: float
    bottom: float
    scale: float


def footprint(window: Window, raster_crs: str, raster_transform: Affine) -> Footprint | None:
    """Where a window lies in a raster; None where the raster's CRS is not defined in the window."""
    nodes = _on_raster(window, raster_crs, raster_transform)[:, : len(NODES) ** 2]
    scale = float(np.hypot(*_pixel(nodes, window.shape)).min())
    kept = nodes[:, np.isfinite(nodes).all(axis=0)]
    if not (kept.size and np.isfinite(scale)):
        return None
    (left, top), (right, bottom) = kept.min(axis=1).tolist(), kept.max(axis=1).tolist()
    return Footprint(left, top, right, bottom, scale)


def render(canvas: Canvas, window: Window) -> View:
    """The view of a window, from a canvas. A pixel is imagery where at least half of it is.

    "average" is the exact average of a rectangle with the canvas's axes. "nearest", "bilinear" and "cubic"
    (Catmull and Rom's) look at the middle of every window pixel. "auto": see the head of this module.
    """
    view = empty_view(window.shape)
    for rows, cols in _blocks(window.shape):
        part = window.part(rows, cols)
        place = footprint(part, canvas.crs, canvas.transform)
        cut = _cut(canvas, place) if place else None
        if cut:
            _render_block(cut, part, view.pixels[rows, cols], view.mask[rows, cols])
    return view


def _blocks(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], BLOCK_PX):
        for left in range(0, shape[1], BLOCK_PX):
            yield (
                slice(top, min(top + BLOCK_PX, shape[0])),
                slice(left, min(left + BLOCK_PX, shape[1])),
            )


def _cut(canvas: Canvas, place: Footprint) -> Canvas | None:
    """The part of a canvas around a footprint; None where they have nothing in common."""
    height, width = canvas.pixels.shape[:2]
    left, top = max(0, floor(place.left) - REACH_PX), max(0, floor(place.top) - REACH_PX)
    right, bottom = min(width, ceil(place.right) + REACH_PX), min(height, ceil(place.bottom) + REACH_PX)
    if left >= right or top >= bottom:
        return None
    return Canvas(
        canvas.pixels[top:bottom, left:right],
        None if canvas.alpha is None else canvas.alpha[top:bottom, left:right],
        canvas.transform * Affine.translation(left, top),
        canvas.crs,
    )


def _render_block(canvas: Canvas, window: Window, pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Fill pixels and mask of a window from a canvas."""
    place = _place(window, canvas)
    opaque = place.inside and (canvas.alpha is None or canvas.alpha.min() == 255)
    values = _rgba(canvas) if opaque else _premultiplied(canvas)
    border = cv2.BORDER_REPLICATE if opaque else cv2.BORDER_CONSTANT
    sample = _weighted if window.resampling in ("cubic", "average") else _sampled
    sampled = sample(values, place, window, border)
    cv2.cvtColor(sampled, cv2.COLOR_RGBA2RGB, dst=pixels)
    mask[:] = True if opaque else sampled[..., 3] >= 128
    if not opaque:
        partly = sampled[..., 3] < 255
        pixels[partly] = _divided(sampled[partly])


def _rgba(canvas: Canvas) -> NDArray[np.uint8]:
    """OpenCV samples four channels three times as fast as three."""
    pixels: Any = canvas.pixels
    return pixels if pixels.shape[2] == 4 else cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)


def _premultiplied(canvas: Canvas) -> NDArray[np.uint8]:
    """Colours weigh by opacity, so that masked ones do not bleed into their neighbours: (h, w, 4)."""
    if canvas.alpha is None:
        return _rgba(canvas)
    rgba, alpha = _rgba(canvas), np.ascontiguousarray(canvas.alpha)
    values: NDArray[np.uint8] = cv2.insertChannel(alpha, cv2.bitwise_and(rgba, rgba, mask=alpha), 3)
    partly = (alpha > 0) & (alpha < 255)
    if partly.any():
        values[partly, :3] = _to_uint8(rgba[partly, :3] * (alpha[partly, None] / 255))
    return values


def _divided(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Premultiplied (n, 4) to colours (n, 3), black where less than half is imagery."""
    alpha = values[:, 3:].astype(np.float32)
    return np.where(alpha >= 128, _to_uint8(values[:, :3] * (255 / np.maximum(alpha, 1))), np.uint8(0))


def _to_uint8(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)


# Where a window's pixels lie -----------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _points(window: Window, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (x, y) of a window in a CRS, inf where it is not defined: all `NODES`, then all `CHECKS`, row by row."""
    grids = [np.meshgrid((steps + 1) / 2, (steps + 1) / 2) for steps in (NODES, CHECKS)]
    across, down = (np.concatenate([grid[axis].ravel() for grid in grids]) for axis in (0, 1))
    points = transform(*window.at(across, down), window.crs, crs)
    for array in points:
        array.flags.writeable = False
    return points


def _on_raster(window: Window, crs: str, raster_transform: Affine) -> NDArray[np.float64]:
    """`_points` as (2, n) columns and rows of a raster, inf or nan where not defined."""
    with np.errstate(invalid="ignore"):
        return _moved(_points(window, crs), ~raster_transform)


def _moved(points: tuple[NDArray[np.float64], NDArray[np.float64]], by: Affine) -> NDArray[np.float64]:
    """(x, y) as one (2, n), by an affine transform."""
    x, y = points
    return np.array([by.a * x + by.b * y + by.c, by.d * x + by.e * y + by.f])


def _pixel(nodes: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """The window's pixel in its middle: (2, 2), the step in columns and in rows of a raster, across and down.

    nodes: (2, n²) columns and rows of the raster at `NODES` of the window. Not finite where undefined.
    """
    nodes = nodes.reshape(2, len(NODES), len(NODES))
    middle = len(NODES) // 2
    across = nodes[:, middle, middle + 1] - nodes[:, middle, middle - 1]
    down = nodes[:, middle + 1, middle] - nodes[:, middle - 1, middle]
    height, width = shape
    between = NODES[middle + 1]  # from one neighbour of the middle to the other, of the window
    return np.stack([across / (between * width), down / (between * height)], axis=1)


Locate = Callable[[NDArray[np.float64], NDArray[np.float64]], Positions]


@dataclass(frozen=True)
class _Placement:
    """A window on a canvas.

    locate: from fractions of the window, across (n) and down (m), to positions on the canvas, (m, n). inside: all
    of them are on the canvas. pixel: see `_pixel`.
    """

    locate: Locate
    inside: bool
    pixel: NDArray[np.float64]


def _place(window: Window, canvas: Canvas) -> _Placement:
    points = _on_raster(window, canvas.crs, canvas.transform) - 0.5
    nodes, checks = np.split(points, [len(NODES) ** 2], axis=1)
    pixel = _pixel(nodes, window.shape)
    with np.errstate(invalid="ignore"):
        polynomial = TO_COEFFICIENTS @ nodes.reshape(2, len(NODES), len(NODES)) @ TO_COEFFICIENTS.T
        powers = np.vander(CHECKS, len(NODES))
        error = np.abs((powers @ polynomial @ powers.T).reshape(2, -1) - checks)
    if not error.max() < TOLERANCE_PX:  # where a CRS ends, or bends more than a polynomial can
        return _Placement(_locate_exactly(window, canvas), False, pixel)
    height, width = canvas.pixels.shape[:2]
    low, high = nodes.min(axis=1) + TOLERANCE_PX, nodes.max(axis=1) - TOLERANCE_PX
    inside = bool((low >= -0.5).all() and (high <= (width - 0.5, height - 0.5)).all())

    return _Placement(_polynomial(polynomial), inside, pixel)


def _polynomial(coefficients: NDArray[np.float64]) -> Locate:
    """coefficients: (2, n, n) of the powers n-1..0 of down, then of across, each -1..1: for columns, for rows."""
    while np.abs(coefficients[:, 0]).sum() + np.abs(coefficients[:, :, 0]).sum() < TOLERANCE_PX / 10:
        coefficients = coefficients[:, 1:, 1:]  # in one CRS two powers are left
    n = coefficients.shape[1]

    def locate(across: NDArray[np.float64], down: NDArray[np.float64]) -> Positions:
        cols, rows = (np.vander(2 * down - 1, n) @ coefficients).astype(np.float32)
        powers = np.vander(2 * across - 1, n).T.astype(np.float32)
        return cols @ powers, rows @ powers

    return locate


def _locate_exactly(window: Window, canvas: Canvas) -> Locate:
    """Every single position transformed: a hundred times as slow."""

    def locate(across: NDArray[np.float64], down: NDArray[np.float64]) -> Positions:
        u, v = np.meshgrid(across, down)
        points = transform(*window.at(u.ravel(), v.ravel()), window.crs, canvas.crs)
        with np.errstate(invalid="ignore"):
            there = _moved(points, ~canvas.transform) - 0.5
        there = np.where(np.isfinite(there).all(axis=0), there, NOWHERE).clip(NOWHERE, -NOWHERE)
        cols, rows = there.reshape(2, *u.shape).astype(np.float32)
        return cols, rows

    return locate


# What is seen there --------------------------------------------------------------------------------------------


def _sampled(values: NDArray[np.uint8], place: _Placement, window: Window, border: int) -> NDArray[np.uint8]:
    """(h, w, 4): one or several samples a pixel, averaged."""
    height, width = window.shape
    scales = np.hypot(*place.pixel) if window.resampling == "auto" else (1.0, 1.0)
    across, _ = _spread(width, scales[0])
    down, n_down = _spread(height, scales[1])
    how = cv2.INTER_NEAREST if window.resampling == "nearest" else cv2.INTER_LINEAR
    result = np.empty((height, width, 4), np.uint8)
    step = max(1, STRIP_SAMPLES // (len(across) * n_down))
    for top in range(0, height, step):
        strip = result[top : top + step]
        cols, rows = place.locate(across, down[top * n_down : (top + step) * n_down])
        samples = cv2.remap(values, cols, rows, how, borderMode=border)
        cv2.resize(samples, (width, len(strip)), dst=strip, interpolation=cv2.INTER_AREA)
    return result


def _spread(count: int, scale: float) -> tuple[NDArray[np.float64], int]:
    """Where to sample along an axis of `count` pixels, as fractions of it, and how often a pixel.

    k linear samples, each over two raster pixels, have together the variance of the average over `scale` pixels
    where they lie sqrt((scale² - 1) / (k² - 1)) apart.
    """
    k = 1 if scale <= ONE_SAMPLE else min(ceil(scale - 1e-3), MOST_SAMPLES)
    apart = sqrt((scale**2 - 1) / (k**2 - 1)) / scale if k > 1 else 0.0
    offsets = (np.arange(k) - (k - 1) / 2) * apart
    return ((np.arange(count) + 0.5)[:, None] + offsets).ravel() / count, k


def _weighted(values: NDArray[np.uint8], place: _Placement, window: Window, border: int) -> NDArray[np.uint8]:
    """(h, w, 4): a weighted sum of the raster pixels around the middle of every window pixel."""
    height, width = window.shape
    wide, high = np.hypot(
        *place.pixel.T
    )  # the rectangle on the canvas that is as large and as long as a pixel
    result = np.empty((height, width, 4), np.uint8)
    weights = _cubic_weights if window.resampling == "cubic" else _area_weights
    step = max(1, STRIP_SAMPLES // width)
    across, down = ((np.arange(count) + 0.5) / count for count in (width, height))
    for top in range(0, height, step):
        cols, rows = place.locate(across, down[top : top + step])
        total = np.zeros((*cols.shape, 4), np.float32)
        for row, by_row in weights(rows, high):
            for col, by_col in weights(cols, wide):
                seen = cv2.remap(values, col, row, cv2.INTER_NEAREST, borderMode=border)
                total += seen * (by_row * by_col)[..., None]
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
