"""A square of the world joined with its imagery: cell in, view out."""

from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tiles.bounds import Bounds, cell_bounds
from tiles.errors import TilesError
from tiles.geo import same_crs, transform_bounds
from tiles.source import Source
from tiles.stack import Stack
from tiles.store import Level
from tiles.view import View

if TYPE_CHECKING:
    from tiles.tiled import TiledSource

CHECK_PX = 256  # imagery too small to fill half a pixel of a view this large is of no use
ALIGNED_PX = 1e-6  # how far a tile may lie from a cell whose view it is


class Aligned(NamedTuple):
    """A level of tiles that are the cells of one level of a pyramid, the first of which is (col, row)."""

    source: "TiledSource"
    level: Level
    col: int
    row: int


class Pyramid:
    """A source seen through a nested quad grid.

    crs: projected, in metres. north_west: (x, y) of the square's corner. size_m: its side. branch: children
    along a side of a cell. depth: levels below the root. Raises TilesError where the imagery shows nothing
    of the square.
    """

    def __init__(
        self,
        source: Source,
        *,
        crs: str,
        north_west: tuple[float, float],
        size_m: float,
        branch: int,
        depth: int,
    ) -> None:
        self.source = source
        self.crs = crs
        self.north_west = north_west
        self.size_m = size_m
        self.branch = branch
        self.depth = depth
        self._aligned: dict[tuple[int, int], Aligned | None] = {}
        self._check_overlap()

    def bounds(self, level: int, row: int, col: int) -> Bounds:
        """The bounds of a cell in the pyramid's CRS."""
        return cell_bounds(
            north_west=self.north_west,
            size_m=self.size_m,
            branch=self.branch,
            level=level,
            row=row,
            col=col,
        )

    def view(self, level: int, row: int, col: int, px: int) -> View:
        """The square view of a cell, px by px pixels, north up.

        Where the imagery is cut that way it is the tile itself, which others see too: such a view is read-only.
        """
        view = self._tile(level, row, col, px)
        return view or self.source.read(self.bounds(level, row, col), self.crs, (px, px))

    @property
    def real(self) -> "Pyramid":
        """The same square without what its source makes up; there may be nothing left to see in it."""
        if not self.source.synthetic:
            return self
        other = copy(self)
        other.source, other._aligned = self.source.real, {}
        return other

    def close(self) -> None:
        self.source.close()

    def _tile(self, level: int, row: int, col: int, px: int) -> View | None:
        """The view of a cell that is one tile, as `Source.read` would give it; None where it is not."""
        key = level, px
        if key not in self._aligned:
            self._aligned[key] = self._find_aligned(level, px)
        aligned = self._aligned[key]
        if aligned is None:
            return None
        pixels = aligned.source.pixels(aligned.level, aligned.col + col, aligned.row + row, px)
        if pixels is None:
            return None
        if pixels.shape[2] == 3:
            pixels.flags.writeable = False
            return View(pixels, _whole(px))
        if aligned.source is not self.source or not aligned.level.complete:
            return None  # something coarser may show in the holes
        mask = pixels[..., 3] >= 128
        return View(np.where(mask[..., None], pixels[..., :3], np.uint8(0)), mask)

    def _find_aligned(self, level: int, px: int) -> Aligned | None:
        """The finest source's tiles, where they are the cells of a level at px by px."""
        from tiles.tiled import TiledSource  # what decodes tiles takes 0.3 s to import

        source = self.source.sources[0] if isinstance(self.source, Stack) else self.source
        if not isinstance(source, TiledSource) or not same_crs(source.crs, self.crs):
            return None
        n = self.branch**level
        for tiles in source.store.levels:
            west, north = tiles.north_west
            col = (self.north_west[0] - west) / tiles.side
            row = (north - self.north_west[1]) / tiles.side
            off = max(abs(self.size_m / tiles.side - n), abs(col - round(col)), abs(row - round(row)))
            if tiles.px == px and off * px <= ALIGNED_PX:
                return Aligned(source, tiles, round(col), round(row))
        return None

    def _check_overlap(self) -> None:
        square = self.bounds(0, 0, 0)
        there = transform_bounds(square, self.crs, self.source.crs)
        if there is None or not there.intersects(self.source.bounds):
            raise TilesError(
                f"shows nothing of the square {_text(square)} ({self.crs}): it covers "
                f"{_text(self.source.bounds)} ({self.source.crs}); correct the square or the imagery"
            )
        if not self.view(0, 0, 0, CHECK_PX).mask.any():
            raise TilesError(
                f"has no data in the square {_text(square)} ({self.crs}), only no-data or holes; "
                "correct the square or the imagery"
            )


@lru_cache(maxsize=16)
def _whole(px: int) -> NDArray[np.bool_]:
    """The mask of every view that is imagery throughout, read-only; made anew it would take as long as the rest."""
    mask = np.ones((px, px), np.bool_)
    mask.flags.writeable = False
    return mask


def _text(bounds: Bounds) -> str:
    return f"x {bounds.west:.6g}..{bounds.east:.6g}, y {bounds.south:.6g}..{bounds.north:.6g}"
