"""What imagery is there: the facts of a source, and the cells of a square that it leaves blank."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tiles.bounds import Bounds
from tiles.geo import transform_bounds
from tiles.pyramid import Pyramid
from tiles.source import Source
from tiles.window import Window

LOOK_PX = 512  # a side of the view by which coverage is measured
CELL_PX = 16  # a side of the view of the smallest cells by which they are judged


@dataclass(frozen=True)
class Info:
    """The facts of a source.

    bounds: in its CRS; lon_lat: the rectangle around it as west, south, east, north in degrees, None where the
    CRS has no place on the globe. levels_m: metres on the ground of a pixel at each level, finest first.
    coverage: the part of the bounds that has imagery, 0..1, measured on a small view, without what is made up.
    synthetic: whether pixels may be made up.
    """

    kind: str
    crs: str
    bounds: Bounds
    lon_lat: Bounds | None
    levels_m: tuple[float, ...]
    coverage: float
    attribution: str
    synthetic: bool


def info(source: Source) -> Info:
    """Look a source over. Raises TilesError where it cannot be read."""
    bounds = source.bounds
    shrink = LOOK_PX / max(bounds.width, bounds.height)
    shape = ceil(bounds.height * shrink), ceil(bounds.width * shrink)
    return Info(
        kind=type(source).__name__,
        crs=source.crs,
        bounds=bounds,
        lon_lat=transform_bounds(bounds, source.crs, "EPSG:4326"),
        levels_m=source.levels_m,
        coverage=float(source.real.read(bounds, source.crs, shape).real.mean()),
        attribution=source.attribution,
        synthetic=source.synthetic,
    )


@dataclass(frozen=True)
class Coverage:
    """How much of every cell of a pyramid has imagery that nobody made up.

    levels: for each level from the root to the smallest cells that are looked at (the leaves' parents), an array
    (rows, cols) of parts, 0..1.
    """

    levels: tuple[NDArray[np.float64], ...]

    @property
    def empty(self) -> list[tuple[int, int, int]]:
        """(level, row, col) of the cells without any imagery, except those in a larger one that has none."""
        found = []
        for level, part in enumerate(self.levels):
            n = len(self.levels[level - 1]) if level else 1
            parents = (self.levels[level - 1] if level else np.ones((1, 1))).repeat(len(part) // n, 0)
            blank = (part == 0) & (parents.repeat(len(part) // n, 1) > 0)
            found += [(level, row, col) for row, col in np.argwhere(blank).tolist()]
        return found

    @property
    def partial(self) -> int:
        """How many of the smallest cells have imagery in a part only."""
        finest = self.levels[-1]
        return int(((finest > 0) & (finest < 1)).sum())


def check(pyramid: Pyramid, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Coverage:
    """Measure how much of every cell has imagery; progress is told (rows of cells done, of how many).

    Every cell of the finest level that has views is judged by `CELL_PX` pixels a side; coarser ones are their
    children's mean. Raises TilesError for imagery that is damaged or cannot be reached.
    """
    depth, source = pyramid.depth - 1, pyramid.source.real
    side = pyramid.branch**depth
    rows = []
    for row in range(side):
        strip = Bounds(
            west=pyramid.bounds(depth, row, 0).west,
            south=pyramid.bounds(depth, row, 0).south,
            east=pyramid.bounds(depth, row, side - 1).east,
            north=pyramid.bounds(depth, row, 0).north,
        )
        mask = source.render(Window(strip, pyramid.crs, (CELL_PX, CELL_PX * side))).real
        rows.append(mask.reshape(CELL_PX, side, CELL_PX).mean(axis=(0, 2)))
        progress(row + 1, side)
    levels = [np.array(rows)]
    for _ in range(depth):
        n = len(levels[0]) // pyramid.branch
        levels.insert(0, levels[0].reshape(n, pyramid.branch, n, pyramid.branch).mean(axis=(1, 3)))
    return Coverage(tuple(levels))
