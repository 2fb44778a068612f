"""From a block of pixels somewhere to a window anywhere, with a mask.

Every source works the same way: `footprint` says which of its pixels a window shows and how much it shrinks
them, the source assembles these into a `Canvas`, `render` resamples the canvas. A window of the canvas's own
CRS is resampled once, axis by axis; others are first brought to twice the window's pixels, then warped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import csr_array

from tiles.geo import same_crs, transform
from tiles.view import View, empty_view
from tiles.window import GRID_POINTS, Window

MARGIN_PX = (
    8  # canvas beyond the window: two window pixels for a cubic kernel, at a scale of up to 2, doubled
)
OVERSAMPLING = 2
MESH = 16  # patches along a side of a warped window: within one, the warp is bilinear to 0.001 px


@dataclass(frozen=True)
class Canvas:
    """Pixels of a source with their place.

    pixels: (h, w, 3) uint8. alpha: (h, w) uint8, 0 where there is no imagery. transform: from (column, row)
    to (x, y) of `crs`.
    """

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
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
    points = np.stack(~raster_transform * window.in_crs(raster_crs))
    kept = np.isfinite(points).all(axis=0)
    scale = _scale(points, window.shape)
    if not (kept.any() and np.isfinite(scale)):
        return None
    cols, rows = points[:, kept]
    return Footprint(float(cols.min()), float(rows.min()), float(cols.max()), float(rows.max()), scale)


def render(canvas: Canvas, window: Window) -> View:
    """The view of a window, from a canvas.

    Areas are averaged where the window shrinks the canvas; a cubic interpolates where it enlarges it. A pixel
    is imagery where at least half of it is.
    """
    place = footprint(window, canvas.crs, canvas.transform)
    if place is None:
        return empty_view(window.shape)
    if window.bearing_deg == 0 and same_crs(window.crs, canvas.crs) and _is_north_up(canvas.transform):
        pixels, alpha = resample(
            canvas.pixels,
            canvas.alpha,
            cols=(place.left, place.right),
            rows=(place.top, place.bottom),
            shape=window.shape,
        )
    else:
        pixels, alpha = _warp(_oversampled(canvas, place), window)
    mask = alpha >= 128
    np.copyto(pixels, 0, where=~mask[..., None])
    return View(pixels, mask)


def resample(
    pixels: NDArray[np.uint8],
    alpha: NDArray[np.uint8],
    *,
    cols: tuple[float, float],
    rows: tuple[float, float],
    shape: tuple[int, int],
    spread: float = 1,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The part between fractional columns and rows as shape = (height, width) pixels.

    pixels: (h, w, 3). alpha: (h, w). The part may reach beyond the array, where alpha is 0. spread: the side of
    the area averaged into an output pixel, in output pixels.
    """
    by_row, row_cover = _mixing(*rows, count=shape[0], size=alpha.shape[0], spread=spread)
    by_col, col_cover = _mixing(*cols, count=shape[1], size=alpha.shape[1], spread=spread)
    cover = np.outer(row_cover, col_cover)
    if alpha.min() == 255:
        return _to_uint8(_mix(pixels, by_row, by_col)), _to_uint8(cover * 255)
    # Colours weigh by opacity, so that masked ones do not bleed into their neighbours.
    opacity = alpha[..., None].astype(np.float32)
    colour = _mix(pixels * opacity, by_row, by_col)
    opacity = _mix(opacity, by_row, by_col)
    return _to_uint8(colour / np.maximum(opacity, 1)), _to_uint8(opacity[..., 0] * cover)


def _mixing(
    start: float, stop: float, *, count: int, size: int, spread: float
) -> tuple[csr_array, NDArray[np.float32]]:
    """(count, size): how much of every pixel of an axis goes into every output pixel of start..stop.

    The exact area average or, enlarging, a Catmull-Rom cubic. Pixels beyond the axis are left out; the second
    answer, (count,), says which part of an output pixel is within.
    """
    scale = (stop - start) / count
    centre = start + scale * (np.arange(count)[:, None] + 0.5)
    reach = scale * spread
    low, high = centre - reach / 2, centre + reach / 2
    if reach > 1:
        pixel = np.floor(low) + np.arange(ceil(reach) + 1)
        weight = np.clip(np.minimum(pixel + 1, high) - np.maximum(pixel, low), 0, None) / reach
    else:
        pixel = np.floor(centre - 0.5) + np.arange(-1, 3)
        weight = _cubic(np.abs(centre - 0.5 - pixel))
    kept = (pixel >= 0) & (pixel < size) & (weight != 0)
    weight /= np.maximum(np.where(kept, weight, 0).sum(axis=1, keepdims=True), 1e-3)
    cover = np.clip(np.minimum(high, size) - np.maximum(low, 0), 0, None)[:, 0] / reach
    row_ends = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    values, columns = weight[kept].astype(np.float32), pixel[kept].astype(np.int32)
    return csr_array((values, columns, row_ends), (count, size)), cover.astype(np.float32)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


def _mix(array: NDArray[Any], by_row: csr_array, by_col: csr_array) -> NDArray[np.float32]:
    """(h, w, c) mixed along rows, then along columns; sparse products, for a pixel is mixed from few."""
    height, width, channels = array.shape
    mixed = by_row @ array.reshape(height, width * channels).astype(np.float32)
    mixed = mixed.reshape(-1, width, channels).transpose(1, 0, 2).reshape(width, -1)
    return (by_col @ mixed).reshape(by_col.shape[0], -1, channels).transpose(1, 0, 2)


def _to_uint8(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)


def _oversampled(canvas: Canvas, place: Footprint) -> Canvas:
    """The part of a canvas around a footprint, at `OVERSAMPLING` pixels per window pixel."""
    step = place.scale / OVERSAMPLING
    left, top = place.left - 2 * step, place.top - 2 * step  # bilinear needs one more on every side
    width, height = (ceil(side / step) + 4 for side in (place.right - place.left, place.bottom - place.top))
    pixels, alpha = resample(
        canvas.pixels,
        canvas.alpha,
        cols=(left, left + width * step),
        rows=(top, top + height * step),
        shape=(height, width),
        spread=OVERSAMPLING,
    )
    transform = canvas.transform * Affine.translation(left, top) * Affine.scale(step)
    return Canvas(pixels, alpha, transform, canvas.crs)


def _warp(canvas: Canvas, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The window from an oversampled canvas, bilinear over a mesh of small quadrilaterals.

    Pillow's own bicubic would shift edges by up to 0.1 px; on twice the pixels bilinear is both sharp and exact.
    """
    image = Image.fromarray(np.dstack([canvas.pixels, canvas.alpha]))
    height, width = window.shape
    warped = image.transform(
        (width, height),
        Image.Transform.MESH,
        list(_mesh(canvas, window)),
        Image.Resampling.BILINEAR,
    )
    rgba = np.array(warped)
    return rgba[..., :3].copy(), rgba[..., 3]


def _mesh(canvas: Canvas, window: Window) -> Iterator[tuple[Any, Any]]:
    """Pillow's mesh: rectangles of the window, each with its corners' canvas positions: NW, SW, SE, NE."""
    rows, cols = (np.unique(np.linspace(0, side, MESH + 1).astype(int)) for side in window.shape)
    across, down = np.meshgrid(cols / window.shape[1], rows / window.shape[0])
    x, y = window.at(across.ravel(), down.ravel())
    points = np.stack(~canvas.transform * transform(x, y, window.crs, canvas.crs))
    nodes = np.moveaxis(points.reshape(2, len(rows), len(cols)), 0, -1)
    for i, (top, bottom) in enumerate(pairwise(rows.tolist())):
        for j, (left, right) in enumerate(pairwise(cols.tolist())):
            quad = nodes[[i, i + 1, i + 1, i], [j, j, j + 1, j + 1]].ravel()
            if np.isfinite(quad).all():
                yield (left, top, right, bottom), tuple(quad.tolist())


def _is_north_up(affine: Affine) -> bool:
    return affine.b == 0 == affine.d and affine.a > 0 > affine.e


def _scale(points: NDArray[np.float64], shape: tuple[int, int]) -> float:
    """Raster pixels per window pixel at the window's middle, along the axis that shrinks less.

    points: (2, n²) columns and rows of a grid over the window. Not finite where undefined.
    """
    points = points.reshape(2, GRID_POINTS, GRID_POINTS)
    middle = GRID_POINTS // 2
    across = points[:, middle, middle + 1] - points[:, middle, middle - 1]
    along = points[:, middle + 1, middle] - points[:, middle - 1, middle]
    step = 2 / (GRID_POINTS - 1)  # of the window, between the points compared
    height, width = shape
    return float(min(np.linalg.norm(across) / (step * width), np.linalg.norm(along) / (step * height)))
