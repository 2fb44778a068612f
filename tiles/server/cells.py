"""Cells of a zoom grid: their paths, and their outlines for maps."""

import re
from typing import Any

import numpy as np
from fastapi import HTTPException

from tiles.geo import transform
from tiles.pyramid import Pyramid

Cell = tuple[int, int, int]
ROOT: Cell = (0, 0, 0)
PATH = re.compile(r"root|[0-9]{1,4}(-[0-9]{1,4}){0,63}")


def cell_at(pyramid: Pyramid, path: str) -> Cell:
    """(level, row, col) of a path: child numbers from the root, row by row; 422 or 404 for one that is none."""
    if not PATH.fullmatch(path):
        raise HTTPException(422, "path: not a cell's; give child numbers, such as 5-10-3, or root")
    numbers = [] if path == "root" else [int(number) for number in path.split("-")]
    if len(numbers) > pyramid.depth or any(number >= pyramid.branch**2 for number in numbers):
        raise HTTPException(
            404, f"no such cell; paths have up to {pyramid.depth} numbers, from 0 to {pyramid.branch**2 - 1}"
        )
    cell = ROOT
    for number in numbers:
        cell = _child(pyramid, cell, number)
    return cell


def geojson(pyramid: Pyramid, path: str) -> dict[str, Any]:
    """The cell of a path and, after it, its children: a GeoJSON feature collection of their outlines."""
    cell = cell_at(pyramid, path)
    features = [_feature(pyramid, cell, path)]
    if cell[0] < pyramid.depth:
        start = "" if path == "root" else f"{path}-"
        features += [
            _feature(pyramid, _child(pyramid, cell, number), f"{start}{number}")
            for number in range(pyramid.branch**2)
        ]
    return {"type": "FeatureCollection", "features": features}


def _child(pyramid: Pyramid, cell: Cell, number: int) -> Cell:
    level, row, col = cell
    down, across = divmod(number, pyramid.branch)
    return level + 1, row * pyramid.branch + down, col * pyramid.branch + across


def _feature(pyramid: Pyramid, cell: Cell, path: str) -> dict[str, Any]:
    level, row, col = cell
    box = pyramid.bounds(*cell)
    x = np.array([box.west, box.west, box.east, box.east, box.west])
    y = np.array([box.north, box.south, box.south, box.north, box.north])
    lon, lat = transform(x, y, pyramid.crs, "EPSG:4326")
    return {
        "type": "Feature",
        "id": path,
        "bbox": [float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())],
        "geometry": {"type": "Polygon", "coordinates": [np.column_stack([lon, lat]).tolist()]},
        "properties": {
            "path": path,
            "level": level,
            "row": row,
            "col": col,
            "side_m": box.width,
            "crs": pyramid.crs,
            "bounds": list(box),
        },
    }
