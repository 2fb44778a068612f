"""The region of a dataset: one that exists, taken over, or a proposal around its photos."""

import glob
import json
import os
from dataclasses import replace
from math import ceil, log
from pathlib import Path

import geopandas as gpd

from tiles.uri import is_remote
from zoomloc import manifest
from zoomloc.files import atomic
from zoomloc.region import Region

BRANCH, LEAF_M = 4, 40.0
MARGIN = 1.2  # the square proposed, to the photos' extent
LARGEST_M = 100_000.0  # photos farther apart need several regions


def adopt(region: Region, folder: Path) -> None:
    """Write a region into a dataset's folder as `region.json`, its imagery named as seen from there.

    Raises OutputError.
    """
    target = folder / "region.json"
    imagery = tuple(_seen_from(folder, region.folder, entry) for entry in region.imagery)
    with atomic(target) as draft:
        replace(region, imagery=imagery, folder=folder).save(draft)


def _seen_from(folder: Path, old: Path, entry: str) -> str:
    if is_remote(entry) or Path(entry).is_absolute():
        return entry
    name = glob.escape(entry) if (old / entry).exists() else entry
    there = glob.escape(os.path.relpath(old.absolute(), folder.absolute()))  # brackets in it are no pattern
    return Path(os.path.normpath(f"{there}/{name}")).as_posix()


def advice(folder: Path) -> list[str]:
    """What a new dataset still lacks before a model can be trained on it, and how to get it, in lines."""
    frame = manifest.read(folder / "manifest.parquet")
    lines = []
    if not (folder / "region.json").exists():
        proposal = _proposal(frame, folder.resolve().name)
        lines.append(
            f"no region.json: this square holds the photos; save it as {folder / 'region.json'} and name your "
            f"imagery in it:\n{proposal}"
            if proposal
            else "no region.json: no UTM zone holds all these photos; make a dataset for each place"
        )
    if (frame["split"] == "train").all():
        lines.append(
            f"every photo is for training: hold some out with `zoomloc prep split {folder} --out ...`"
        )
    return lines


def _proposal(frame: gpd.GeoDataFrame, name: str) -> str:
    """A region file around the photos, in their UTM zone; empty where none holds them."""
    try:
        zone = frame.estimate_utm_crs()
    except RuntimeError:  # near a pole
        return ""
    west, south, east, north = frame.to_crs(zone).total_bounds
    extent_m = max(east - west, north - south)
    if not extent_m <= LARGEST_M:
        return ""
    size_m = max(ceil(extent_m * MARGIN / 10) * 10.0, BRANCH * LEAF_M)
    fields = {
        "name": name,
        "crs": f"EPSG:{zone.to_epsg()}",
        "north_west": [round((west + east - size_m) / 2), round((south + north + size_m) / 2)],
        "size_m": size_m,
        "branch": BRANCH,
        "depth": max(1, round(log(size_m / LEAF_M, BRANCH))),
        "imagery": ["your-imagery.tif"],
        "attribution": "whom to name for it",
    }
    return json.dumps(fields, indent=1)
