"""From probabilities of leaves to an answer: the best point, other places, and the ground that holds so much.

Points are metres (east, south) of the map's north-west corner. A leaf's probability is spread evenly over it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, hypot, inf, isfinite, nan
from typing import NamedTuple

import numpy as np
import shapely
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from zoomloc.grid import Grid
from zoomloc.posterior import Leaves, rows_cols

# Points per leaf side among which the best point is looked for.
FINE = 4
# The middle of what lies within the radius is the better answer, unless it holds less than this share of the most.
ENOUGH = 0.95
# Blocks along the map's side, at most, that are ranked before any point is looked at; and leaves looked at together.
MAX_BLOCKS = 256
WINDOW_VALUES = 2_000_000
# Blocks looked into at first, then four times as many; so many cost little more than one.
FIRST_BLOCKS = 128
# Leaves in a radius, at most: finer ones are taken together, as they would cost much and tell little.
MAX_REACH = 16
# Leaves whose centres are nearer than so many sides count in parts.
NEAR_LEAVES = 4
# Sums of probabilities are right to this.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Mass:
    """Probabilities of leaves of a square map, most probable first; leaves that are not listed have none.

    rows, cols: (n,) counted from the north-west. probabilities: (n,) float64. side: leaves along the map. closed:
    (side, side) leaves in which no answer may lie; None: it may lie anywhere.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    side: int
    leaf_m: float
    closed: NDArray[np.bool_] | None = None


def as_mass(leaves: Leaves, grid: Grid) -> Mass:
    rows, cols = rows_cols(leaves.paths, grid.branch)
    return Mass(rows, cols, leaves.probabilities, grid.n_cells(grid.depth), grid.leaf_m, leaves.closed)


class Spot(NamedTuple):
    """A point, and the probability that it speaks for."""

    east_m: float
    south_m: float
    probability: float


def distinct_spots(mass: Mass, *, radius_m: float, top_k: int) -> list[Spot]:
    """The point with the most probability within the radius; then the one with the most of what lies beyond the radius
    of earlier ones; and so on, up to top_k. Fewer where the probability ends, none where there is none.

    A point is looked for among FINE x FINE points of every leaf, and then moved to the centre of mass of what lies
    within the radius, which is the middle among equals, if that keeps 95 % of the probability.

    A spot's probability is what lies within the radius of it and of none before it. Spots are at least the radius
    apart. For a radius of more than 16 leaves, some of these are taken together.
    """
    radius_m = min(radius_m, 1.5 * mass.side * mass.leaf_m)  # from corner to corner
    field, spots = _Field(_coarse_enough(mass, radius_m), radius_m), list[Spot]()
    while len(spots) < top_k and (spot := field.best(spots)):
        field.remove(spot)
        spots.append(spot)
    return spots


def radii_holding(mass: Mass, point: tuple[float, float], held: Sequence[float]) -> list[float]:
    """Radii in metres around a point that hold these probabilities; nan where the leaves hold less than that.

    Leaves count by their centres, those near the point by FINE x FINE of their parts.
    """
    east_m, south_m = (mass.cols + 0.5) * mass.leaf_m - point[0], (mass.rows + 0.5) * mass.leaf_m - point[1]
    near = np.maximum(abs(east_m), abs(south_m)) < NEAR_LEAVES * mass.leaf_m
    parts_m = ((np.arange(FINE) + 0.5) / FINE - 0.5) * mass.leaf_m
    near_m = np.hypot(
        east_m[near, None, None] + parts_m, south_m[near, None, None] + parts_m[:, None]
    )  # (near, FINE, FINE)
    distance = np.concatenate([near_m.ravel(), np.hypot(east_m[~near], south_m[~near])])
    probabilities = np.concatenate(
        [np.repeat(mass.probabilities[near] / FINE**2, FINE**2), mass.probabilities[~near]]
    )
    order = distance.argsort(kind="stable")
    return [
        float(distance[order[i]]) if i is not None else nan for i in _reaching(probabilities[order], held)
    ]


def areas_holding(mass: Mass, held: Sequence[float]) -> list[float]:
    """The ground of the fewest leaves that hold these probabilities, in m²; nan where the leaves hold less."""
    last = _reaching(mass.probabilities, held)
    return [(i + 1) * mass.leaf_m**2 if i is not None else nan for i in last]


def outline(posterior: NDArray[np.float32], area_m2: float, grid: Grid) -> shapely.MultiPolygon:
    """The ground of the most probable leaves, of this area together, in WGS 84; coordinates in (lon, lat) order.

    posterior: (side, side), row 0 in the north. Empty for an area of nan.
    """
    from rasterio.features import shapes
    from rasterio.transform import from_origin

    chosen = np.zeros(posterior.size, np.uint8)
    n_leaves = round(area_m2 / grid.leaf_m**2) if isfinite(area_m2) else 0
    chosen[np.argsort(-posterior, axis=None, kind="stable")[:n_leaves]] = 1
    picture = chosen.reshape(posterior.shape)
    place = from_origin(*grid.north_west, grid.leaf_m, grid.leaf_m)
    parts = [shapely.geometry.shape(part) for part, _ in shapes(picture, mask=picture == 1, transform=place)]
    return grid.multipolygon(parts)


def _reaching(probabilities: NDArray[np.float64], held: Sequence[float]) -> list[int | None]:
    """Where the running sum of probabilities (n,) first reaches each value; None where it never does."""
    reached = np.searchsorted(probabilities.cumsum(), np.array(held) - ROUNDING)
    return [int(i) if i < len(probabilities) else None for i in reached]


def _coarse_enough(mass: Mass, radius_m: float) -> Mass:
    """The same probabilities, on leaves of which no more than MAX_REACH fit into the radius."""
    wanted = min(ceil(radius_m / mass.leaf_m / MAX_REACH), mass.side)
    if wanted <= 1:
        return mass
    joined = next(n for n in range(wanted, mass.side + 1) if mass.side % n == 0)
    side = mass.side // joined
    leaves, which = np.unique(mass.rows // joined * side + mass.cols // joined, return_inverse=True)
    probabilities = np.bincount(which, mass.probabilities).astype(np.float64)
    order = np.argsort(-probabilities)
    rows, cols = np.divmod(leaves[order], side)
    closed = mass.closed
    if closed is not None:
        closed = np.asarray(closed.reshape(side, joined, side, joined).any(axis=(1, 3)))
    return Mass(rows, cols, probabilities[order], side, mass.leaf_m * joined, closed)


class _Field:
    """The probability around points, of which spots already found can be taken away.

    The map is cut into blocks as wide as the radius reaches, so that a point in a block sees nothing beyond the eight
    around it. What these hold together bounds what the point can hold, and most blocks need not be looked into.
    """

    def __init__(self, mass: Mass, radius_m: float) -> None:
        self._mass, self._radius_m = mass, radius_m
        self._step_m = mass.leaf_m / FINE
        self._reach = -(-int(radius_m / self._step_m) // FINE)  # leaves away that a point's radius may touch
        self._margin = 2 * self._reach + 1  # twice the radius, so that a moved point sees all around it too
        self._map = np.zeros((mass.side + 2 * self._margin,) * 2)
        self._leaves = (mass.rows + self._margin) * len(self._map) + mass.cols + self._margin
        self._map.ravel()[self._leaves] = mass.probabilities
        self._block = max(self._reach, ceil(mass.side / MAX_BLOCKS), 1)
        self._n_blocks = ceil(mass.side / self._block)
        self._block_of = mass.rows // self._block * self._n_blocks + mass.cols // self._block

    def best(self, earlier: list[Spot]) -> Spot | None:
        """The point that holds the most, at least the radius away from earlier ones; None where nothing is left."""
        bounds = self._bounds()
        best_held, best = self._best_in(np.array([bounds.argmax()]), earlier)
        blocks = np.flatnonzero(bounds > best_held)
        blocks = blocks[np.argsort(-bounds[blocks])]
        at_once = max(1, WINDOW_VALUES // (self._block * (2 * self._reach + 1)) ** 2)
        start, n = 0, min(FIRST_BLOCKS, at_once)
        while start < len(blocks) and bounds[blocks[start]] > best_held:
            best_held, best = max((best_held, best), self._best_in(blocks[start : start + n], earlier))
            start, n = start + n, min(4 * n, at_once)
        return self._settled(best, best_held, earlier) if best_held > 0 else None

    def _bounds(self) -> NDArray[np.float64]:
        """The most that a point in each block can hold: (blocks,)."""
        left = self._map.ravel()[self._leaves]
        n = self._n_blocks
        sums = np.pad(np.bincount(self._block_of, left, n * n).reshape(n, n), 1)
        sums = sums[:-2] + sums[1:-1] + sums[2:]
        return (sums[:, :-2] + sums[:, 1:-1] + sums[:, 2:]).ravel().astype(np.float64) * (1 + ROUNDING)

    def _best_in(self, blocks: NDArray[np.intp], earlier: list[Spot]) -> tuple[float, tuple[int, int]]:
        """The most that a point of these blocks holds, and which (row, col) of all fine points that is."""
        rows, cols = self._leaves_of(blocks)
        w, first = 2 * self._reach + 1, self._margin - self._reach
        around = sliding_window_view(self._map, (w, w))[rows + first, cols + first]
        held = around.reshape(len(rows), -1) @ _kernel(
            self._radius_m, self._step_m, self._reach
        )  # (n, FINE²)
        if self._mass.closed is not None:
            held[self._mass.closed[rows, cols]] = 0
        for spot in earlier:
            self._forbid(held, rows, cols, spot)
        leaf, point = divmod(int(held.argmax()), FINE**2)
        row, col = int(rows[leaf]) * FINE + point // FINE, int(cols[leaf]) * FINE + point % FINE
        return float(held[leaf, point]), (row, col)

    def _leaves_of(self, blocks: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns, (n,) each, of the leaves of blocks."""
        block = self._block
        i, j = np.divmod(np.arange(block**2), block)
        rows = (blocks[:, None] // self._n_blocks * block + i).ravel()
        cols = (blocks[:, None] % self._n_blocks * block + j).ravel()
        inside = (rows < self._mass.side) & (cols < self._mass.side)
        return rows[inside], cols[inside]

    def _forbid(
        self, held: NDArray[np.float64], rows: NDArray[np.intp], cols: NDArray[np.intp], spot: Spot
    ) -> None:
        """Nothing counts as held by the points of leaves (n,), held (n, FINE²), that are too near to a spot."""
        row, col = int(spot.south_m / self._mass.leaf_m), int(spot.east_m / self._mass.leaf_m)
        near = np.flatnonzero((abs(rows - row) <= self._reach + 1) & (abs(cols - col) <= self._reach + 1))
        if not len(near):
            return
        i, j = np.divmod(np.arange(FINE**2), FINE)
        south = (rows[near, None] * FINE + i + 0.5) * self._step_m - spot.south_m
        east = (cols[near, None] * FINE + j + 0.5) * self._step_m - spot.east_m
        held[near] *= np.hypot(east, south) >= self._radius_m

    def remove(self, spot: Spot) -> None:
        """Take away what lies within the radius of a spot; what is left of a leaf is spread evenly over it again."""
        around, fine = self._around(spot.east_m, spot.south_m)
        within = self._within(fine, spot.east_m, spot.south_m)
        around *= 1 - _leafwise(within) / FINE**2

    def _settled(self, best: tuple[int, int], best_held: float, earlier: list[Spot]) -> Spot:
        """The best of the points, moved to the middle of what it holds where that costs little."""
        south_m, east_m = ((i + 0.5) * self._step_m for i in best)
        around, fine = self._around(east_m, south_m)
        spread = np.kron(around, np.full((FINE, FINE), 1 / FINE**2))
        near = spread * self._within(fine, east_m, south_m)
        middle_east = float((near.sum(axis=0) * fine[1]).sum() / near.sum())
        middle_south = float((near.sum(axis=1) * fine[0]).sum() / near.sum())
        held = float((spread * self._within(fine, middle_east, middle_south)).sum())
        apart = min((hypot(middle_east - s.east_m, middle_south - s.south_m) for s in earlier), default=inf)
        allowed = apart >= self._radius_m and not self._is_closed(middle_east, middle_south)
        if held >= ENOUGH * best_held and allowed:
            return Spot(middle_east, middle_south, held)
        return Spot(east_m, south_m, best_held)

    def _is_closed(self, east_m: float, south_m: float) -> bool:
        closed, leaf_m = self._mass.closed, self._mass.leaf_m
        return closed is not None and bool(closed[int(south_m / leaf_m), int(east_m / leaf_m)])

    def _around(
        self, east_m: float, south_m: float
    ) -> tuple[NDArray[np.float64], tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """The leaves within twice the radius of a point, a view (w, w); metres (south, east) of their fine lines."""
        leaf_m, side = self._mass.leaf_m, self._mass.side
        row, col = (min(int(metres / leaf_m), side - 1) for metres in (south_m, east_m))
        w = 2 * self._margin + 1
        steps = (np.arange(w * FINE) + 0.5) * self._step_m - self._margin * leaf_m
        around: NDArray[np.float64] = self._map[row : row + w, col : col + w]
        return around, ((steps + row * leaf_m).astype(float), (steps + col * leaf_m).astype(float))

    def _within(
        self, fine: tuple[NDArray[np.float64], NDArray[np.float64]], east_m: float, south_m: float
    ) -> NDArray[np.bool_]:
        return np.hypot(fine[1][None] - east_m, fine[0][:, None] - south_m) <= self._radius_m * (1 + ROUNDING)


@lru_cache(maxsize=8)
def _kernel(radius_m: float, step_m: float, reach: int) -> NDArray[np.float64]:
    """How much of each leaf around lies within the radius of each point of a leaf: ((2 reach + 1)², FINE²)."""
    lines = np.arange(-reach * FINE, (reach + 1) * FINE)
    columns = []
    for i, j in np.ndindex(FINE, FINE):
        within = np.hypot((lines[:, None] - i) * step_m, (lines[None] - j) * step_m) <= radius_m * (
            1 + ROUNDING
        )
        columns.append(_leafwise(within).ravel() / FINE**2)
    return np.stack(columns, axis=1)


def _leafwise(fine: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many of the points of every leaf: (FINE h, FINE w) -> (h, w)."""
    h, w = fine.shape
    return fine.reshape(h // FINE, FINE, w // FINE, FINE).sum(axis=(1, 3))
