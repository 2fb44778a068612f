"""Coordinate reference systems: names, transforms, and what a pixel measures on the ground."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError

from tiles.bounds import Bounds
from tiles.errors import TilesError

GRID_POINTS = 21  # along each axis of a rectangle, whose image in another CRS is curved


@lru_cache(maxsize=256)
def crs_named(name: str) -> CRS:
    """Raises TilesError for a name no CRS has."""
    try:
        return CRS.from_user_input(name)
    except CRSError:
        raise TilesError(f"unknown CRS {name!r}; give a code such as 'EPSG:32632'") from None


@lru_cache(maxsize=256)
def same_crs(one: str, other: str) -> bool:
    """True for two names of one CRS, whatever its axis order."""
    return one == other or crs_named(one).equals(crs_named(other), ignore_axis_order=True)


@lru_cache(maxsize=256)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(crs_named(source), crs_named(target), always_xy=True)


def transform(
    x: NDArray[np.float64], y: NDArray[np.float64], source: str, target: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points from one CRS to another, x east and y north; inf where the target is undefined."""
    if same_crs(source, target):
        return x, y
    return _transformer(source, target).transform(x, y)


def transform_bounds(bounds: Bounds, source: str, target: str) -> Bounds | None:
    """The rectangle around a rectangle's image in another CRS; None where the target is undefined."""
    if same_crs(source, target):
        return bounds
    x, y = transform(*grid_over(bounds), source, target)
    kept = np.isfinite(x) & np.isfinite(y)
    if not kept.any():
        return None
    x, y = x[kept], y[kept]
    return Bounds(float(x.min()), float(y.min()), float(x.max()), float(y.max()))


def grid_over(bounds: Bounds) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points spread over a rectangle, its edges included: x and y, flat."""
    x, y = np.meshgrid(
        np.linspace(bounds.west, bounds.east, GRID_POINTS),
        np.linspace(bounds.south, bounds.north, GRID_POINTS),
    )
    return x.ravel(), y.ravel()


def ground_m(bounds: Bounds, crs: str) -> tuple[float, float]:
    """The size (east-west, north-south) in metres on the ground of a small rectangle of any CRS."""
    x, y = (bounds.west + bounds.east) / 2, (bounds.south + bounds.north) / 2
    lon, lat = transform(
        np.array([bounds.west, bounds.east, x, x]),
        np.array([y, y, bounds.south, bounds.north]),
        crs,
        "EPSG:4326",
    )
    geod = Geod(ellps="WGS84")
    _, _, (across, along) = geod.inv(lon[[0, 2]], lat[[0, 2]], lon[[1, 3]], lat[[1, 3]])
    return float(across), float(along)
