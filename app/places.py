"""Regions of the user's own: a square of any imagery, and the index that makes searching it quick."""

import re
import subprocess
import sys
from dataclasses import replace
from math import log
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

import tiles
from tiles.geo import transform
from tiles.inspect import Info, info
from zoomloc.errors import RegionError
from zoomloc.index import KNOWN, place_on_disk
from zoomloc.model import AnyModel
from zoomloc.region import Region

BRANCH = 4
SEEN_PX = 256  # a side of the first look at a square
USUAL_SIDE_M = 2560.0  # proposed where imagery goes on and on
LEAF_M = 40.0  # a leaf is about so wide, unless asked otherwise
MAX_SIDE_M = 100_000.0
ENDLESS_DEG = 20.0


def look(imagery: str) -> Info:
    """What imagery is. Raises RegionError, one line."""
    try:
        return info(tiles.open(imagery))
    except tiles.TilesError as error:
        raise RegionError(str(error)) from None


class Seen(NamedTuple):
    """A first look at a square. pixels: (SEEN_PX, SEEN_PX, 3). covered: the part of it with imagery; middle_covered:
    of the smallest view in its middle."""

    pixels: NDArray[np.uint8]
    covered: float
    middle_covered: float


def see(imagery: str, *, lat: float, lon: float, side_m: float) -> Seen:
    """Look at a square around a point, from afar and from near. Raises RegionError for imagery that shows none of it,
    tiles.TilesError for imagery that fails."""
    region = _square(imagery, lat, lon, side_m)
    pyramid = region.open()
    whole = pyramid.view(*region.grid.root, SEEN_PX)
    level = region.depth - 1
    middle = region.grid.n_cells(level) // 2
    return Seen(whole.pixels, whole.coverage, pyramid.view(level, middle, middle, SEEN_PX).coverage)


def named(imagery: str) -> str:
    """A name for a region, by its imagery."""
    return (urlsplit(imagery).hostname or "") if "://" in imagery else Path(imagery).stem


def endless(facts: Info) -> bool:
    """Whether imagery is of no place in particular, as that of most servers."""
    return facts.lon_lat is not None and facts.lon_lat.width > ENDLESS_DEG


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
    region = replace(
        _square(imagery, lat, lon, side_m), name=plain, attribution=attribution, folder=path.parent
    )
    region.open()
    path.parent.mkdir(parents=True, exist_ok=True)
    region.save(path)
    return path


def _square(imagery: str, lat: float, lon: float, side_m: float) -> Region:
    """A region around a point that has no name or place of its own yet."""
    crs = utm(lat, lon)
    x, y = transform(np.array([lon]), np.array([lat]), "EPSG:4326", crs)
    return Region(
        name="new",
        crs=crs,
        north_west=(round(float(x[0]) - side_m / 2), round(float(y[0]) + side_m / 2)),
        size_m=side_m,
        branch=BRANCH,
        depth=max(1, round(log(side_m / LEAF_M, BRANCH))),
        imagery=(imagery if "://" in imagery else str(Path(imagery).expanduser().resolve()),),
        attribution="",
        folder=Path.cwd(),
    )


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
