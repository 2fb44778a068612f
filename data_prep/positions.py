"""Distances between photos, anywhere on the globe: no CRS to choose, no edge of a zone to fall over."""

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from scipy.spatial import KDTree

SPHERE_M = 6_371_009.0  # mean radius of the Earth
ELLIPSOID = Geod(ellps="WGS84")


def geocentric(frame: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Earth-centred metres on the ellipsoid, (n, 3). Straight lines between photos 10 km apart are 1 mm short."""
    transformer = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    return np.column_stack(transformer.transform(frame.geometry.x, frame.geometry.y, np.zeros(len(frame))))


def nearest(
    frame: gpd.GeoDataFrame, others: gpd.GeoDataFrame
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """For each photo, how far in metres the nearest of the others lies (inf where there are none), and its row."""
    if others.empty:
        return np.full(len(frame), np.inf), np.zeros(len(frame), np.intp)
    return KDTree(geocentric(others)).query(geocentric(frame))


def blocks(frame: gpd.GeoDataFrame, side_m: float) -> NDArray[np.intp]:
    """The block each photo lies in, as a number; (n,).

    Blocks are laid out from the equator and Greenwich, so a photo's block does not depend on the other photos:
    rows of `side_m` along the meridian, cut every `side_m` along the row's middle parallel (on a sphere: sides
    are true to 0.5 %; blocks shrink a little where the antimeridian cuts them).
    """
    degree_m = SPHERE_M * np.pi / 180
    rows = np.floor(frame.geometry.y.to_numpy() * degree_m / side_m)
    middle = np.radians((rows + 0.5) * side_m / degree_m)
    cols = np.floor(frame.geometry.x.to_numpy() * degree_m * np.cos(middle) / side_m)
    _, numbers = np.unique(np.column_stack([rows, cols]), axis=0, return_inverse=True)
    return numbers
