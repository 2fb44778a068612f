"""Are the photos where they can be: in the region, over imagery, with latitude and longitude the right way round?"""

from collections import defaultdict
from collections.abc import Callable

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from data_prep.finding import Finding, unchecked
from data_prep.maps import project
from data_prep.positions import ELLIPSOID
from tiles import Pyramid
from zoomloc.grid import Cell
from zoomloc.progress import progress
from zoomloc.region import Region

Points = NDArray[np.float64]  # (n, 2) as (lon, lat)
Test = Callable[[Points], NDArray[np.bool_]]

MISTAKES: dict[str, Callable[[Points], Points]] = {
    "latitude and longitude swapped": lambda points: points[:, ::-1],
    "the sign of the longitude lost": lambda points: points * (-1, 1),
    "the sign of the latitude lost": lambda points: points * (1, -1),
}
FAR = 5.0  # times the distance from the middle that 90 % of the photos keep
NEAR_M = 1000.0  # the least such distance
MASK_PX = 128  # of the view that says whether a photo's place has imagery


def check_region(frame: gpd.GeoDataFrame, region: Region) -> Finding:
    """Photos outside the region's square."""
    names = list(frame["photo"][~_in_region(region)(_points(frame))])
    if not names:
        return Finding("region", f"all in the square of {region.size_m:g} m of {region.name!r}")
    return Finding("region", f"outside the square of {region.size_m:g} m of {region.name!r}", names,
                   "drop them, or use a region that holds them")  # fmt: skip


def check_imagery(frame: gpd.GeoDataFrame, region: Region, pyramid: Pyramid) -> Finding:
    """Photos in the region at whose place the imagery has no data."""
    xy = project(frame, region.crs)
    inside = np.flatnonzero(_in_region(region)(_points(frame)))
    if not len(inside):
        return unchecked("imagery", "no photo lies in the region")
    cells: dict[Cell, list[int]] = defaultdict(list)
    for row in inside:
        x, y = xy[row]
        cells[region.grid.cell_at(x, y, region.depth - 1)].append(int(row))
    bare: list[int] = []
    for cell, rows in progress(cells.items(), "imagery under photos", len(cells)):
        mask = pyramid.real.view(*cell, MASK_PX).real
        bounds = region.grid.bounds(cell)
        across = ((xy[rows] - (bounds.west, bounds.south)) / bounds.width * MASK_PX).astype(int)
        col, row_from_south = across.clip(0, MASK_PX - 1).T
        bare += list(np.array(rows)[~mask[MASK_PX - 1 - row_from_south, col]])
    names = list(frame["photo"].iloc[sorted(bare)])
    if not names:
        return Finding("imagery", f"under all {len(inside):,} photos in the region")
    return Finding("imagery", "the imagery has no data at their place", names, "drop them, or add imagery")


def check_swapped(frame: gpd.GeoDataFrame, region: Region | None) -> Finding:
    """Photos far from the others that a common mistake would explain: swapped or negated coordinates.

    "The others" are those in the region; without one, those around the middle of all. Where all photos are
    wrong in the same way and there is no region, nothing can be seen.
    """
    points = _points(frame)
    at_home = _in_region(region) if region else _around(points)
    away = ~at_home(points)
    for mistake, undo in MISTAKES.items():
        explained = away & at_home(undo(points))
        if explained.any():
            names = list(frame["photo"][explained])
            return Finding(
                "swapped", f"{mistake}: mended, they lie with the others", names, "mend the source"
            )
    place = "the region" if region else "the middle of all photos"
    return Finding("swapped", f"no photo lies far from {place} for a swapped or negated coordinate")


def _points(frame: gpd.GeoDataFrame) -> Points:
    return np.column_stack([frame.geometry.x, frame.geometry.y])


def _in_region(region: Region) -> Test:
    west, south, east, north = region.grid.bounds(region.grid.root)

    def test(points: Points) -> NDArray[np.bool_]:
        frame = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*points.T), crs=4326)
        x, y = project(frame, region.crs).T  # inf off the CRS's domain
        return (west <= x) & (x <= east) & (south <= y) & (y <= north)

    return test


def _around(points: Points) -> Test:
    middle = np.median(points, axis=0)

    def distance_m(others: Points) -> NDArray[np.float64]:
        lon, lat = np.broadcast_to(middle, others.shape).T
        valid = np.abs(others[:, 1]) <= 90
        distances = np.full(len(others), np.inf)
        distances[valid] = ELLIPSOID.inv(lon[valid], lat[valid], *others[valid].T)[2]
        return distances

    reach = FAR * max(float(np.quantile(distance_m(points), 0.9)), NEAR_M)
    return lambda others: distance_m(others) <= reach
