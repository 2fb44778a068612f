"""The contract of everything that holds encoded tiles: a folder, an MBTiles or PMTiles file, a server."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor
from pathlib import Path
from typing import Protocol

from tiles.bounds import Bounds


@dataclass(frozen=True)
class Level:
    """One level of a tile pyramid: square tiles, counted east (col) and south (row) from a corner.

    key: what the store calls the level, a zoom in most. north_west: (x, y) of the corner of tile (0, 0) in the
    store's CRS. side: of a tile, in units of the CRS. px: of a tile, in pixels. cols, rows: those that may hold
    tiles; a store may lack some of them. complete: coarser levels have nothing to add, not even in holes.
    """

    key: int
    north_west: tuple[float, float]
    side: float
    px: int
    cols: range
    rows: range
    complete: bool = False

    @property
    def bounds(self) -> Bounds:
        """Around all tiles, in the store's CRS."""
        return self.around(self.cols, self.rows)

    def around(self, cols: range, rows: range) -> Bounds:
        """Around the tiles of some columns and rows."""
        west, north = self.north_west
        return Bounds(
            west=west + cols.start * self.side,
            south=north - rows.stop * self.side,
            east=west + cols.stop * self.side,
            north=north - rows.start * self.side,
        )

    def touching(self, bounds: Bounds) -> tuple[range, range]:
        """The columns and rows that a rectangle of the store's CRS touches, of those that may hold tiles."""
        west, north = self.north_west
        cols = range(floor((bounds.west - west) / self.side), ceil((bounds.east - west) / self.side))
        rows = range(floor((north - bounds.north) / self.side), ceil((north - bounds.south) / self.side))
        return _common(cols, self.cols), _common(rows, self.rows)


class TileStore(Protocol):
    """Encoded tiles by level, column and row. Pickles; may be asked from several threads and processes at once.

    crs: of the grids of tiles. levels: finest first, at least one. bounds: of what is shown, in that CRS, which
    may be less than the tiles reach over. attribution: whom to name, "" where unknown. padded: tiles may be
    painted white or black where there is no imagery, as JPEG tiles at the edge of imagery are.
    """

    crs: str
    levels: tuple[Level, ...]
    bounds: Bounds
    attribution: str
    padded: bool

    def get(self, level: Level, col: int, row: int) -> bytes | None:
        """A tile as it is stored (JPEG, PNG, WebP), or None where there is none.

        Raises TilesError, naming the tile, where it cannot be read or fetched.
        """

    def describe(self, level: Level, col: int, row: int) -> str:
        """What to call a tile in messages: its path or URL."""

    def close(self) -> None:
        """Release files and connections; a later `get` opens them again."""


def contents(path: str | Path) -> bytes:
    """Of a file, in four system calls where Python's own files make nine: threads queue for Python at each."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # the latter on Windows only
    try:
        size = os.fstat(descriptor).st_size
        content = os.read(descriptor, size)
        while len(content) < size and (more := os.read(descriptor, size - len(content))):
            content += more  # file systems behind a network may give less at a time
        return content
    finally:
        os.close(descriptor)


WORLD_M = 20037508.342789244  # from the middle of the Web Mercator square to its edges


def mercator_level(zoom: int, *, px: int, cols: range, rows: range) -> Level:
    """The level of a web map (EPSG:3857, rows counted from the north) at a zoom."""
    return Level(zoom, (-WORLD_M, WORLD_M), 2 * WORLD_M / 2**zoom, px, cols, rows)


def bounds_of_leaves(levels: Sequence[Level], places: Mapping[int, Collection[tuple[int, int]]]) -> Bounds:
    """Around the tiles without finer ones below them: coarse tiles reach far beyond what they show.

    levels: zooms, finest first. places: the (column, row) of the tiles there are, by level's key.
    """
    boxes = [levels[0].bounds]
    for finer, level in pairwise(levels):
        steps = finer.key - level.key
        leaves = set(places[level.key]) - {(col >> steps, row >> steps) for col, row in places[finer.key]}
        boxes += [level.around(range(col, col + 1), range(row, row + 1)) for col, row in leaves]
    west, south, east, north = zip(*boxes, strict=True)
    return Bounds(min(west), min(south), max(east), max(north))


def _common(one: range, other: range) -> range:
    return range(max(one.start, other.start), min(one.stop, other.stop))
