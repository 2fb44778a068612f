"""Where a zoom grid lies: on a region's square, or, in training, moved, turned and resized at random."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from zoomloc.grid import Grid


@dataclass(frozen=True)
class Placement:
    """A square of a projected CRS that a grid divides.

    north_west: (x, y) of the corner that is north-west before turning. side_m: its side. bearing_deg: which way its
    columns run, clockwise from north; the square is turned around the corner.
    """

    north_west: tuple[float, float]
    side_m: float
    bearing_deg: float = 0.0

    @classmethod
    def of(cls, grid: Grid) -> Self:
        """The region's own square."""
        return cls(grid.north_west, grid.size_m)

    @classmethod
    def draw(
        cls, grid: Grid, generator: torch.Generator, *, shift_m: float, scale: float, turned: bool
    ) -> Self:
        """A square like the region's, its middle moved by up to shift_m east and north, its side multiplied or divided
        by up to `scale`, and, if `turned`, turned by any angle."""
        east, north, grow, turn = (torch.rand(4, generator=generator, dtype=torch.float64) * 2 - 1).tolist()
        side_m = grid.size_m * scale**grow
        bearing_deg = 180.0 * turn if turned else 0.0
        cos, sin = _turn(bearing_deg)
        x, y = grid.centre(grid.root)
        half = side_m / 2  # from the middle to the corner: to the left, and up
        corner = (x + shift_m * east - half * cos + half * sin, y + shift_m * north + half * sin + half * cos)
        return cls(corner, side_m, bearing_deg)

    def offsets(self, xy: Tensor) -> Tensor:
        """Positions xy (B, 2) in the CRS -> (B, 2) metres down and to the right of the corner."""
        cos, sin = _turn(self.bearing_deg)
        right, down = xy[:, 0] - self.north_west[0], self.north_west[1] - xy[:, 1]
        return torch.stack([down * cos - right * sin, right * cos + down * sin], dim=1)

    def point(self, down_m: float, right_m: float) -> tuple[float, float]:
        """(x, y) in the CRS; the inverse of `offsets`."""
        cos, sin = _turn(self.bearing_deg)
        x, y = self.north_west
        return x + right_m * cos - down_m * sin, y - right_m * sin - down_m * cos


def _turn(bearing_deg: float) -> tuple[float, float]:
    """Cosine and sine; where nothing is turned exactly 1 and 0, so that cells keep their exact edges."""
    angle = math.radians(bearing_deg)
    return math.cos(angle), math.sin(angle)
