"""The pixels of imagery on all levels, finer and coarser than its own, by whole numbers.

This module is on the map's side: it knows the package `tiles`.
"""

from math import ceil, log2

import numpy as np

from tiles import Bounds, Source
from tiles.geo import ground_m


class PixelGrid:
    """Where the pixels of all levels lie: from the imagery's north-west corner, its finest pixels being level 0.

    unit: a side of these, in units of the CRS. coarsest: the level that fits into one window.
    """

    def __init__(self, source: Source, px: int) -> None:
        bounds = source.bounds
        n = max(1, round(bounds.width / _unit(source)))
        self.around, self.unit = bounds, bounds.width / n
        self.size = max(1, round(bounds.height / self.unit)), n
        self.coarsest = -max(0, ceil(log2(max(self.size) / px)))

    def shape(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level."""
        rows, cols = (max(1, ceil(n * 2.0**level)) for n in self.size)
        return rows, cols

    def side(self, level: int) -> float:
        return self.unit / 2.0**level

    def bounds(self, level: int, rows: range, cols: range) -> Bounds:
        side, west, north = self.side(level), self.around.west, self.around.north
        return Bounds(
            west + cols.start * side,
            north - rows.stop * side,
            west + cols.stop * side,
            north - rows.start * side,
        )


def _unit(source: Source) -> float:
    """The side of the finest pixel in units of the source's CRS."""
    west, south, east, north = source.bounds
    x, y, half = (west + east) / 2, (south + north) / 2, (east - west) / 1000
    across, along = ground_m(Bounds(x - half, y - half, x + half, y + half), source.crs)
    return source.gsd_m * 2 * half / float(np.sqrt(across * along))
