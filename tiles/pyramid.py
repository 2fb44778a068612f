"""A square of the world joined with its imagery: cell in, view out."""

from tiles.bounds import Bounds, cell_bounds
from tiles.errors import TilesError
from tiles.geo import transform_bounds
from tiles.source import Source
from tiles.view import View

CHECK_PX = 256  # imagery too small to fill half a pixel of a view this large is of no use


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
        """The square view of a cell, px by px pixels, north up."""
        return self.source.read(self.bounds(level, row, col), self.crs, (px, px))

    def close(self) -> None:
        self.source.close()

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


def _text(bounds: Bounds) -> str:
    return f"x {bounds.west:.6g}..{bounds.east:.6g}, y {bounds.south:.6g}..{bounds.north:.6g}"
