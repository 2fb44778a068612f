"""Where the pixels of a window lie: in the plane of another CRS, on a raster of it.

Transforming every pixel takes a hundred times as long as looking at it. So a few points are transformed, and a
polynomial goes through them; other points say whether it is exact. Where it is not, every pixel is transformed.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from tiles.geo import same_crs, transform
from tiles.scratch import scratch
from tiles.window import Window

TOLERANCE_PX = 0.005  # between the polynomial and what it stands for
OUTLINE = 256  # steps along an axis of a window that no polynomial fits
BLAS_ALONE = 2**17  # multiplications: for many more it starts threads, which wait for each other
NOWHERE = -1e6  # a position no raster has

# Of -1..1 across and down a window: Chebyshev's nodes, and points between them.
NODES = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 7))
CHECKS = np.array([-0.96, -0.4, 0.25, 0.8])
PROBES = tuple(
    (1 + np.concatenate([np.meshgrid(steps, steps)[axis].ravel() for steps in (NODES, CHECKS)])) / 2
    for axis in (0, 1)
)
# From values at the nodes, row by row, to a polynomial's coefficients and to its values at the checks.
_inverse, _powers = np.linalg.inv(np.vander(NODES)), np.vander(CHECKS, len(NODES))
TO_COEFFICIENTS = np.kron(_inverse, _inverse)
TO_CHECKS = np.kron(_powers, _powers) @ TO_COEFFICIENTS

Positions = tuple[NDArray[np.float32], NDArray[np.float32]]  # columns, rows


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


@dataclass(frozen=True)
class Mapping:
    """A window on a raster of some CRS.

    raster: (3, 3), from (column, row, 1) to (x, y, 1) of `crs`; the identity for the plane itself. points: (2, n)
    columns and rows of points all over the window, edges included; not finite where the CRS is not defined. pixel:
    (2, 2), the step in columns and in rows, across and down, of the pixel in the window's middle. coefficients:
    (2, n, n) of columns and of rows, of the powers n-1..0 down, then across, each from -1 to 1; None where no
    polynomial fits.
    """

    window: Window
    crs: str
    raster: NDArray[np.float64]
    points: NDArray[np.float64]
    pixel: NDArray[np.float64]
    coefficients: NDArray[np.float64] | None

    def on(self, raster: Affine) -> "Mapping":
        """The same window on another raster, given from its columns and rows to those of this one."""
        size = raster.a * raster.e - raster.b * raster.d
        turn = np.array([[raster.e, -raster.b], [-raster.d, raster.a]]) / size
        move = turn @ (-raster.c, -raster.f)
        coefficients = None
        if self.coefficients is not None:
            coefficients = (turn @ self.coefficients.reshape(2, -1)).reshape(self.coefficients.shape)
            coefficients[:, -1, -1] += move
        with np.errstate(invalid="ignore"):
            points = turn @ self.points + move[:, None]
        whole = self.raster @ np.array(tuple(raster)).reshape(3, 3)
        return Mapping(self.window, self.crs, whole, points, turn @ self.pixel, coefficients)

    @cached_property
    def footprint(self) -> Footprint | None:
        """None where the CRS is not defined in the window."""
        scale = float(np.hypot(*self.pixel).min())
        points = self.points[:, np.isfinite(self.points).all(axis=0)]
        if not (points.size and np.isfinite(scale)):
            return None
        (left, top), (right, bottom) = points.min(axis=1).tolist(), points.max(axis=1).tolist()
        return Footprint(left, top, right, bottom, scale)

    def positions(self, across: NDArray[np.float64], down: NDArray[np.float64]) -> Positions:
        """Where fractions of the window, across (n) and down (m), lie on the raster: (m, n); until the next call.

        As OpenCV counts: the middle of the first pixel is 0, while it is 0.5 everywhere else.
        """
        if self.coefficients is None:
            return self._exact_positions(across, down)
        n = self.coefficients.shape[1]
        by_row = np.vander(2 * down - 1, n) @ self.coefficients
        by_row[..., -1] -= 0.5
        cols, rows = by_row.astype(np.float32)
        powers = np.vander(2 * across - 1, n).T.astype(np.float32)
        shape = len(down), len(across)
        found = scratch("columns", shape, np.float32), scratch("rows", shape, np.float32)
        step = max(1, BLAS_ALONE // (n * len(across)))
        for top in range(0, len(down), step):
            np.matmul(cols[top : top + step], powers, out=found[0][top : top + step])
            np.matmul(rows[top : top + step], powers, out=found[1][top : top + step])
        return found

    def affine(self, shape: tuple[int, int]) -> NDArray[np.float64] | None:
        """(2, 3), from column and row of shape = (rows, columns) points all over the window to the raster's.

        Both as OpenCV counts. None where no such matrix is exact to `TOLERANCE_PX`.
        """
        if self.coefficients is None:
            return None
        (_, down), (across, middle) = self.coefficients[:, -2:, -2:].transpose(1, 2, 0)
        curved = np.abs(self.coefficients).sum(axis=(1, 2)) - np.abs(down) - np.abs(across) - np.abs(middle)
        if curved.max() > TOLERANCE_PX:
            return None
        height, width = shape
        across, down = across / width, down / height
        first = middle - across * (width - 1) - down * (height - 1) - 0.5
        return np.array([2 * across, 2 * down, first]).T

    def _exact_positions(self, across: NDArray[np.float64], down: NDArray[np.float64]) -> Positions:
        inverse = np.linalg.inv(self.raster)
        with np.errstate(invalid="ignore"):
            found = inverse[:2, :2] @ _transformed(self.window, self.crs, across, down)
            found += inverse[:2, 2:] - 0.5
        found = np.where(np.isfinite(found).all(axis=0), found, NOWHERE).clip(NOWHERE, -NOWHERE)
        cols, rows = found.reshape(2, len(down), len(across)).astype(np.float32)
        return cols, rows


def footprint(window: Window, crs: str, raster: Affine) -> Footprint | None:
    """Where a window lies in a raster; None where the raster's CRS is not defined in the window."""
    return mapping(window, crs).on(raster).footprint


@lru_cache(maxsize=256)  # a window is looked for in several levels, then rendered
def mapping(window: Window, crs: str) -> Mapping:
    """A window in the plane of a CRS."""
    if same_crs(window.crs, crs):
        return _affine(window, crs)
    found = np.array(transform(*window.at(*PROBES), window.crs, crs))
    nodes, checks = found[:, : len(NODES) ** 2], found[:, len(NODES) ** 2 :]
    pixel = _pixel(nodes, window.shape)
    with np.errstate(invalid="ignore"):
        error = np.abs(nodes @ TO_CHECKS.T - checks).max()
        least = np.hypot(*pixel).min() * TOLERANCE_PX
    if error < least:
        coefficients = (nodes @ TO_COEFFICIENTS.T).reshape(2, len(NODES), len(NODES))
        return Mapping(window, crs, np.eye(3), nodes, pixel, _trimmed(coefficients, least / 100))
    down, across = (np.linspace(0, 1, min(side, OUTLINE) + 1) for side in window.shape)
    return Mapping(window, crs, np.eye(3), _transformed(window, crs, across, down), pixel, None)


def _affine(window: Window, crs: str) -> Mapping:
    """A window in the plane of its own CRS."""
    corners = np.array(window.at(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])))
    north_west, north_east, south_west, south_east = corners.T
    across, down, middle = north_east - north_west, south_west - north_west, (north_west + south_east) / 2
    height, width = window.shape
    pixel = np.stack([across / width, down / height], axis=1)
    coefficients = np.array([[np.zeros(2), down / 2], [across / 2, middle]]).transpose(2, 0, 1)
    return Mapping(window, crs, np.eye(3), corners, pixel, coefficients)


def _trimmed(coefficients: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Without the highest powers, as far as none of them matters."""
    sizes = np.abs(coefficients).max(axis=0)
    matters = np.maximum(sizes.max(axis=0), sizes.max(axis=1)) > least
    first = min(int(matters.argmax()), len(NODES) - 2)
    return coefficients[:, first:, first:]


def _transformed(
    window: Window, crs: str, across: NDArray[np.float64], down: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(2, m * n) x and y in a CRS of fractions of a window, row by row; inf where not defined."""
    u, v = np.meshgrid(across, down)
    return np.array(transform(*window.at(u.ravel(), v.ravel()), window.crs, crs))


def _pixel(nodes: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """See `Mapping.pixel`; nodes: (2, n²), of a window at `NODES`. Not finite where undefined."""
    nodes = nodes.reshape(2, len(NODES), len(NODES))
    middle = len(NODES) // 2
    height, width = shape
    between = NODES[middle + 1]  # from one neighbour of the middle to the other, of the window
    with np.errstate(invalid="ignore"):
        across = (nodes[:, middle, middle + 1] - nodes[:, middle, middle - 1]) / (between * width)
        down = (nodes[:, middle + 1, middle] - nodes[:, middle - 1, middle]) / (between * height)
    return np.stack([across, down], axis=1)
