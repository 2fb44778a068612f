"""The ground: which street a spot belongs to, and what lies between the streets.

Streets are kept as straight pieces with exact edges; a raster only tells which piece is nearest, so that
kerbs and lane marks stay sharp at any distance.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import rasterio.features
import rasterio.transform
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from data_prep.cities.mesh import Ground
from data_prep.cities.noise import pick
from data_prep.cities.plan import MARGIN_M, Plan

CELL_M = 0.5
REACH_M = 9.0  # how far beyond the carriageway a street still owns the ground

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GroundMap:
    kind: NDArray[np.uint8]  # (h, w) Ground values, row 0 in the north
    piece: NDArray[np.signedinteger]  # (h, w) nearest street piece, -1 for none
    openness: Floats  # (h, w) at 2 m: 1 in the open, lower beside buildings
    pieces: Floats  # (12, n): ax, ay, ux, uy, half width, walk, start, clear x 2, total, tone, length
    south_west_m: float
    north_m: float

    def cell(self, x: Floats, y: Floats) -> NDArray[np.int32]:
        """Flat index into the rasters; points outside go to the nearest edge."""
        n = self.kind.shape[0]
        col = np.clip((x - self.south_west_m) / CELL_M, 0, n - 1).astype(np.int32)
        row = np.clip((self.north_m - y) / CELL_M, 0, n - 1).astype(np.int32)
        return row * n + col

    def open_at(self, x: Floats, y: Floats) -> Floats:
        n = self.openness.shape[0]
        col = np.clip((x - self.south_west_m) / 2, 0, n - 1).astype(np.int32)
        row = np.clip((self.north_m - y) / 2, 0, n - 1).astype(np.int32)
        return pick(self.openness.ravel(), row * n + col)


def make_ground(
    plan: Plan, areas: list[tuple[shapely.Geometry, Ground]], buildings: list[tuple[shapely.Polygon, float]]
) -> GroundMap:
    """Rasterize `areas` (later ones on top) and the streets; `buildings` with their heights darken."""
    side = plan.size_m + 2 * MARGIN_M
    n = round(side / CELL_M)
    north = plan.size_m + MARGIN_M
    transform = rasterio.transform.from_origin(-MARGIN_M, north, CELL_M, CELL_M)
    shapes = [(shape, int(kind)) for shape, kind in areas if not shape.is_empty]
    kind = rasterio.features.rasterize(shapes, (n, n), transform=transform, dtype="uint8")
    pieces = _pieces(plan)
    coarse = rasterio.transform.from_origin(-MARGIN_M, north, 2.0, 2.0)
    roofs = [(shape, height) for shape, height in buildings]
    tall = (
        rasterio.features.rasterize(roofs, (n // 4, n // 4), transform=coarse, dtype="float32")
        if roofs
        else np.zeros((n // 4, n // 4))
    )
    shade = ndimage.gaussian_filter(np.minimum(tall, 25), 2.5) + ndimage.gaussian_filter(
        np.minimum(tall, 40), 7
    )
    openness = (1 / (1 + shade / 22)).astype(np.float32)
    return GroundMap(kind, _nearest(pieces, n, north), openness, pieces, -MARGIN_M, north)


def _pieces(plan: Plan) -> Floats:
    rows = []
    for street in plan.streets:
        xy = shapely.get_coordinates(street.line)
        start, total = 0.0, float(street.line.length)
        for a, b in pairwise(xy):
            long = float(np.hypot(*(b - a)))
            if long < 0.05:
                continue
            u = (b - a) / long
            tone = (street.district * 0.37) % 1.0
            rows.append(
                (*a, *u, street.width_m / 2, street.walk_m, start, *street.clear_m, total, tone, long)
            )
            start += long
    return np.array(rows, np.float32).T.copy()


def _nearest(pieces: Floats, n: int, north: float) -> NDArray[np.signedinteger]:
    best = np.full((n, n), REACH_M, np.float32)
    small = len(pieces.T) < np.iinfo(np.int16).max  # the map of a big town is the most of its memory
    piece = np.full((n, n), -1, np.int16 if small else np.int32)
    for k, (ax, ay, ux, uy, half, _, _, _, _, _, _, long) in enumerate(pieces.T.astype(float)):
        reach = half + REACH_M
        x0, x1 = sorted((ax, ax + ux * long))
        y0, y1 = sorted((ay, ay + uy * long))
        c0, c1 = (
            int(max((x0 - reach + MARGIN_M) / CELL_M, 0)),
            int(min((x1 + reach + MARGIN_M) / CELL_M + 1, n)),
        )
        r0, r1 = int(max((north - y1 - reach) / CELL_M, 0)), int(min((north - y0 + reach) / CELL_M + 1, n))
        if c0 >= c1 or r0 >= r1:
            continue
        x = (np.arange(c0, c1, dtype=np.float32) + 0.5) * CELL_M - MARGIN_M - ax
        y = north - (np.arange(r0, r1, dtype=np.float32)[:, None] + 0.5) * CELL_M - ay
        beyond = np.maximum(np.abs(x * ux + y * uy - long / 2) - long / 2, 0)
        distance = np.hypot(x * uy - y * ux, beyond) - half
        window = (slice(r0, r1), slice(c0, c1))
        closer = distance < best[window]
        best[window][closer] = distance[closer]
        piece[window][closer] = k
    return piece
