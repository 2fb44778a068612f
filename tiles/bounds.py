"""Rectangles in a projected CRS, and the cells of an exactly nested quad grid."""

from math import gcd
from typing import NamedTuple


class Bounds(NamedTuple):
    """A rectangle in the units of the CRS it goes with."""

    west: float
    south: float
    east: float
    north: float

    @property
    def width(self) -> float:
        return self.east - self.west

    @property
    def height(self) -> float:
        return self.north - self.south

    def intersects(self, other: "Bounds") -> bool:
        """True where the two share area, not merely an edge."""
        return (
            self.west < other.east
            and other.west < self.east
            and self.south < other.north
            and other.south < self.north
        )


def offset_m(size_m: float, index: int, count: int) -> float:
    """How far the line `index` of `count` equal parts of `size_m` lies from the first.

    The fraction is reduced first, so a line has the same floating-point value at every level it is a line of:
    cells of different levels share their edges exactly.
    """
    common = gcd(index, count)
    return size_m * (index // common) / (count // common)


def cell_bounds(
    *, north_west: tuple[float, float], size_m: float, branch: int, level: int, row: int, col: int
) -> Bounds:
    """The bounds of one cell of the grid that splits a square into `branch` x `branch` at every level."""
    west, north = north_west
    n = branch**level
    return Bounds(
        west=west + offset_m(size_m, col, n),
        south=north - offset_m(size_m, row + 1, n),
        east=west + offset_m(size_m, col + 1, n),
        north=north - offset_m(size_m, row, n),
    )
