"""What is asked of a source: a rectangle of some CRS, maybe turned, as so many pixels."""

from dataclasses import dataclass, replace
from math import cos, isfinite, radians, sin
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tiles.bounds import Bounds
from tiles.errors import TilesError
from tiles.geo import crs_named, transform_bounds

Resampling = Literal["auto", "nearest", "bilinear", "cubic", "average"]


@dataclass(frozen=True)
class Window:
    """A rectangle as pixels.

    bounds, crs: the rectangle. shape: (height, width) in pixels. bearing_deg: the rectangle is turned clockwise
    about its middle by so much, so that the top of the picture looks that way (0: the CRS's north is up).
    resampling: "auto" averages areas when shrinking and interpolates linearly when enlarging (see `tiles.warp`); the
    others do what they are called on the coarsest pixels that lose no detail.
    Raises TilesError for a window that is none: an unknown CRS or resampling, no area, no pixels.
    """

    bounds: Bounds
    crs: str
    shape: tuple[int, int]
    bearing_deg: float = 0.0
    resampling: Resampling = "auto"

    def __post_init__(self) -> None:
        crs_named(self.crs)
        bounds = Bounds(*map(float, self.bounds))
        object.__setattr__(self, "bounds", bounds)  # whatever was given, windows can be compared and hashed
        object.__setattr__(self, "shape", tuple(map(int, self.shape)))
        if not (
            all(map(isfinite, (*bounds, self.bearing_deg)))
            and bounds.east > bounds.west
            and bounds.north > bounds.south
            and min(self.shape) > 0
        ):
            raise TilesError(
                f"empty window: bounds {tuple(bounds)} of {self.crs}, {self.shape[0]} x {self.shape[1]} px; "
                "give west < east, south < north and a shape of at least 1 x 1"
            )
        if self.resampling not in get_args(Resampling):
            raise TilesError(
                f"unknown resampling {self.resampling!r}; use one of {', '.join(get_args(Resampling))}"
            )

    def at(
        self, across: NDArray[np.float64], down: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points (x, y) of the CRS at fractions of the window's width and height, counted from its top left."""
        bounds = self.bounds
        if self.bearing_deg == 0:
            return bounds.west + bounds.width * across, bounds.north - bounds.height * down
        east, north = bounds.width * (across - 0.5), bounds.height * (0.5 - down)
        sine, cosine = sin(radians(self.bearing_deg)), cos(radians(self.bearing_deg))
        x, y = self._middle
        return x + east * cosine + north * sine, y - east * sine + north * cosine

    def around(self) -> Bounds:
        """The rectangle, north up, around the window; its own bounds where it is not turned."""
        if self.bearing_deg == 0:
            return self.bounds
        x, y = self.at(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]))
        return Bounds(float(x.min()), float(y.min()), float(x.max()), float(y.max()))

    def part(self, rows: slice, cols: slice) -> "Window":
        """The window that shows these pixels of this one."""
        height, width = self.shape
        if (rows.start, rows.stop, cols.start, cols.stop) == (0, height, 0, width):
            return self
        x, y = self.at(
            np.array([(cols.start + cols.stop) / 2 / width]),
            np.array([(rows.start + rows.stop) / 2 / height]),
        )
        shape = rows.stop - rows.start, cols.stop - cols.start
        if self.bearing_deg == 0:  # exact where the rectangle's edges are
            bounds = self.bounds
            part = Bounds(
                west=bounds.west + bounds.width * cols.start / width,
                south=bounds.north - bounds.height * rows.stop / height,
                east=bounds.west + bounds.width * cols.stop / width,
                north=bounds.north - bounds.height * rows.start / height,
            )
        else:
            half = self.bounds.width * shape[1] / width / 2, self.bounds.height * shape[0] / height / 2
            west, south, east, north = x[0] - half[0], y[0] - half[1], x[0] + half[0], y[0] + half[1]
            part = Bounds(float(west), float(south), float(east), float(north))
        return replace(self, bounds=part, shape=shape)

    def where(self, covered: Bounds, crs: str) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Where a rectangle of any CRS may show: from, to as fractions of the width, then of the height.

        Not cut to 0..1. None where the rectangle has no place in the window's CRS.
        """
        box = transform_bounds(covered, crs, self.crs)
        if box is None:
            return None
        x = np.array([box.west, box.east, box.west, box.east])
        y = np.array([box.south, box.south, box.north, box.north])
        middle = self._middle
        sine, cosine = sin(radians(self.bearing_deg)), cos(radians(self.bearing_deg))
        right = (x - middle[0]) * cosine - (y - middle[1]) * sine
        up = (x - middle[0]) * sine + (y - middle[1]) * cosine
        across, down = right / self.bounds.width + 0.5, 0.5 - up / self.bounds.height
        return (float(across.min()), float(across.max())), (float(down.min()), float(down.max()))

    @property
    def _middle(self) -> tuple[float, float]:
        bounds = self.bounds
        return (bounds.west + bounds.east) / 2, (bounds.south + bounds.north) / 2
