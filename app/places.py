"""Regions of the user's own: a square of any imagery, and the index that makes searching it quick."""

import re
import subprocess
import sys
from math import log
from pathlib import Path

import numpy as np

import tiles
from tiles.geo import transform
from tiles.inspect import Info, info
from zoomloc.errors import RegionError
from zoomloc.index import KNOWN, place_on_disk
from zoomloc.model import AnyModel
from zoomloc.region import Region

BRANCH = 4
LEAF_M = 40.0  # a leaf is about so wide, unless asked otherwise
MAX_SIDE_M = 100_000.0


def look(imagery: str) -> Info:
    """What imagery is. Raises RegionError, one line."""
    try:
        return info(tiles.open(imagery))
    except tiles.TilesError as error:
        raise RegionError(str(error)) from None


def proposed(facts: Info) -> tuple[float, float, float]:
    """(lat, lon) of the middle of imagery, and the side in metres of the largest square in it."""
    if facts.lon_lat is None:
        raise RegionError("the imagery has no place on the globe; give one that is georeferenced")
    west, south, east, north = facts.lon_lat
    lat, lon = (south + north) / 2, (west + east) / 2
    crs = utm(lat, lon)
    x, y = transform(np.array([west, east, lon, lon]), np.array([lat, lat, south, north]), "EPSG:4326", crs)
    return lat, lon, min(float(x[1] - x[0]), float(y[3] - y[2]), MAX_SIDE_M)


def utm(lat: float, lon: float) -> str:
    """The CRS in metres that is made for a place."""
    zone = int((lon + 180) // 6) % 60 + 1
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def add(
    home: Path, *, name: str, imagery: str, lat: float, lon: float, side_m: float, attribution: str
) -> Path:
    """Write the region file of a square around a point. Raises RegionError, also for imagery that shows none of it."""
    plain = re.sub(r"[^\w-]+", "-", name).strip("-")
    path = home / "regions" / plain / "region.json"
    if not plain or path.exists():
        raise RegionError(
            f"{name!r}: {'there is a region of this name' if plain else 'no name'}; give another"
        )
    crs = utm(lat, lon)
    x, y = transform(np.array([lon]), np.array([lat]), "EPSG:4326", crs)
    region = Region(
        name=plain,
        crs=crs,
        north_west=(round(float(x[0]) - side_m / 2), round(float(y[0]) + side_m / 2)),
        size_m=side_m,
        branch=BRANCH,
        depth=max(1, round(log(side_m / LEAF_M, BRANCH))),
        imagery=(imagery if "://" in imagery else str(Path(imagery).expanduser().resolve()),),
        attribution=attribution,
        folder=path.parent,
    )
    region.open()
    path.parent.mkdir(parents=True, exist_ok=True)
    region.save(path)
    return path


def indexed(model: AnyModel, region: Region) -> float:
    """The part of a region's cells that is encoded on disk, 0..1."""
    known = place_on_disk(model, region) / KNOWN
    return float(np.load(known, mmap_mode="r").mean()) if known.is_file() else 0.0


def index(checkpoint: Path, file: Path) -> "subprocess.Popen[bytes]":
    """Encode a region's cells in a process of its own; its standard error is a pipe. `indexed` says how far it is."""
    of = ["--region", str(file), "--checkpoint", str(checkpoint)]
    return subprocess.Popen(
        [sys.executable, "-m", "zoomloc", "index", *of],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
