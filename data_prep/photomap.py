"""A map of a dataset to look around in: one HTML file that holds its imagery and works without network.

The photos themselves are not in it: it shows them from the disk, so it must stay where it was written.
"""

import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import geopandas as gpd
import numpy as np
import pandas as pd

from data_prep.maps import COLOURS, Ground, credit, looking, project
from zoomloc import webmap
from zoomloc.figure import checkered
from zoomloc.files import atomic


def write(frame: gpd.GeoDataFrame, ground: Ground, folder: Path, path: Path) -> None:
    """Write the map of the photos of a folder, whole or not at all. Raises OutputError."""
    points = project(frame, ground.crs) - (ground.bounds.west, ground.bounds.south)
    ahead = looking(frame, ground.crs)
    data = {
        "name": folder.resolve().name,
        "attribution": f"Imagery: {ground.attribution}" if ground.attribution else "",
        "size": [ground.bounds.height, ground.bounds.width],
        "in_degrees": ground.in_degrees,
        "imagery": None if ground.view is None else webmap.jpeg(checkered(ground.view)),
        "colours": COLOURS,
        "photos": [
            _photo(row, points[i], ahead[i], folder, path.parent)
            for i, row in enumerate(frame.to_dict("records"))
            if np.isfinite(points[i]).all()
        ],
    }
    template = (files("data_prep") / "assets" / "dataset.html").read_text(encoding="utf-8")
    text = webmap.page(template, f"ZoomLoc · {data['name']}", data)
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _photo(row: dict[str, Any], point: Any, ahead: Any, folder: Path, beside: Path) -> dict[str, Any]:
    """What the page knows of a photo. at: [north, east]; ahead: [east, north], of length 1."""
    link = os.path.relpath((folder / row["photo"]).absolute(), beside.absolute())
    return {
        "name": row["photo"],
        "link": quote(Path(link).as_posix()),
        "split": row["split"],
        "at": [round(float(point[1]), 7), round(float(point[0]), 7)],
        "ahead": [round(float(part), 3) for part in ahead] if np.isfinite(ahead).all() else None,
        "facts": list(_facts(row)),
    }


def _facts(row: dict[str, Any]) -> Iterator[str]:
    yield f"{row['split']} · {row['geometry'].y:.6f}, {row['geometry'].x:.6f}"
    if pd.notna(row["captured_at"]):
        yield f"taken {row['captured_at']:%Y-%m-%d %H:%M:%S} UTC"
    angles = [f"{name} {row[name]:.0f}°" for name in ("heading", "fov") if pd.notna(row[name])]
    yield " · ".join([*angles, row["projection"]])
    if pd.notna(row["sequence"]):
        yield f"sequence {row['sequence']}"
    if credit(row):
        yield credit(row)
