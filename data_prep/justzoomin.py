"""The published Washington benchmark, Just Zoom In (arXiv 2603.25686), as a dataset: `zoomloc prep justzoomin ROOT`.

ROOT is the dataset as it is published, unpacked; nothing in it is moved:

    metadata/large_area_train_map.csv, large_area_val_map.csv   image_id,latitude,longitude,sequence
    streetview/images/{image_id}_undistorted.jpg
    satellite/layout.yaml, 0/, -1/, …                           tiles, see `tiles.tiledwebmaps`

region.json, manifest.parquet and map.png are written beside them. `sequence` is not a drive but the label: the path of
the zoom. It is made anew from the position by `grid.published_paths`, and what comes out is compared with it.
"""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import product
from math import ceil, floor
from pathlib import Path
from typing import Annotated, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from data_prep import command
from data_prep.report import Rejected, finish
from tiles import Bounds, TilesError
from tiles.geo import transform_bounds
from tiles.store import Level
from tiles.tiled import TiledSource
from zoomloc import manifest
from zoomloc.errors import ManifestError
from zoomloc.files import atomic
from zoomloc.grid import move_on_sphere, published_paths
from zoomloc.progress import progress
from zoomloc.region import Region

CENTRE = move_on_sphere((38.8936, -77.0116), east_m=2000)  # lat, lon
SIZE_M, BRANCH, DEPTH = 10_000.0, 4, 4
# Degrees as metres on the sphere that the labels were made on. Here, and in no usual CRS (18 m in EPSG:26985), cells
# lie within 1.2 m of the published ones; a metre is one on the ground to 0.3 %.
CRS = (
    f"+proj=eqc +R=6378137 +lat_ts={CENTRE[0]!r} +lat_0={CENTRE[0]!r} +lon_0={CENTRE[1]!r} +units=m +type=crs"
)

SPLITS = ("train", "val")
COLUMNS = ["image_id", "latitude", "longitude", "sequence"]
LICENCE, PHOTOS_BY = "CC BY-SA 4.0", "Mapillary contributors"
IMAGERY_BY = "Open Data DC, CC BY 4.0"
MOST_WRONG = (
    0.01  # a share of labels otherwise than published that rounding explains; more is another benchmark
)


def prepare(root: Path) -> None:
    """Check the benchmark and write its region and manifest.

    Raises ManifestError for tables that are missing or of something else, TilesError for tiles that are.
    """
    table = pd.concat([_read_table(root, split) for split in SPLITS], ignore_index=True)
    table["reason"] = _reasons(table, root / "streetview" / "images")
    good = table[table.reason == ""].reset_index(drop=True)
    if good.empty:
        raise ManifestError(f"{root}: none of its {len(table):,} photos can be used ({table.reason[0]})")
    typer.echo(_compare_labels(good, root))
    north_west = -SIZE_M / 2, SIZE_M / 2  # the CRS counts from the centre
    region = Region("washington", CRS, north_west, SIZE_M, BRANCH, DEPTH, ("satellite",), IMAGERY_BY, root)
    typer.echo(_count_tiles(region))
    with atomic(root / "region.json") as draft:
        region.save(draft)
    manifest.write(_frame(good), root / "manifest.parquet")
    rejected = table[table.reason != ""]
    finish(root, [Rejected(*row) for row in zip(rejected.image_id, rejected.reason, strict=True)])


def _read_table(root: Path, split: str) -> pd.DataFrame:
    """The rows of a split as texts."""
    path = root / "metadata" / f"large_area_{split}_map.csv"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise ManifestError(
            f"{path}: no such file; name the folder with metadata/, streetview/ and satellite/ in it"
        ) from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ManifestError(f"{path}: cannot be read ({reason}); download it again") from None
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise ManifestError(f"{path}: no column {', '.join(missing)}; download it again")
    return table[COLUMNS].assign(split=split)


def _reasons(table: pd.DataFrame, folder: Path) -> pd.Series:
    """Why each row cannot be used, "" where it can; turns latitude and longitude into numbers."""
    for column in ("latitude", "longitude"):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    square = np.isfinite(table.latitude) & np.isfinite(table.longitude)
    square[square] = _published(table[square])[1]
    reason = pd.Series("", index=table.index)
    reason[table.image_id.duplicated()] = "listed before, in this split or the other"
    reason[~table.image_id.map(_file).isin(there)] = "no such photo in streetview/images"
    reason[~square] = "no position in the square of the benchmark"
    return reason


def _file(image_id: str) -> str:
    return f"{image_id}_undistorted.jpg"


def _published(table: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    lats, lons = table.latitude.to_numpy(np.float64), table.longitude.to_numpy(np.float64)
    return published_paths(lats, lons, centre=CENTRE, size_m=SIZE_M, branch=BRANCH, depth=DEPTH)


def _compare_labels(table: pd.DataFrame, root: Path) -> str:
    """How many published labels are those of their positions, in words. Raises ManifestError where too few are."""
    ours = _published(table)[0].tolist()
    wrong = [i for i, text in enumerate(table.sequence) if _label(text) != ours[i]]
    said = f"labels: {len(table) - len(wrong):,} of {len(table):,} are reproduced from the positions"
    if not wrong:
        return said
    first = table.iloc[wrong[0]]
    said += f"; {first.image_id} is the first that is not: {first.sequence}, and ours is {ours[wrong[0]]}"
    if len(wrong) > MOST_WRONG * len(table):
        raise ManifestError(f"{root}: {said}; this is not the benchmark of 10 km around 38.8936 N, 76.9885 W")
    return said


def _label(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _count_tiles(region: Region) -> str:
    """How many of the tiles that the square touches are missing, in words."""
    source = region.open().source
    if not isinstance(source, TiledSource):
        raise TilesError(f"{region.folder / 'satellite'}: no layout.yaml in it; download it again")
    square = transform_bounds(region.grid.bounds(region.grid.root), region.crs, source.crs)
    assert square is not None  # the imagery shows some of it
    levels = {
        level.key: [source.store.describe(level, *at) for at in _touching(level, square)]
        for level in source.store.levels
    }
    total = sum(map(len, levels.values()))
    paths = ((key, path) for key, paths in levels.items() for path in paths)
    missing = Counter(
        key for key, path in progress(paths, "looking for tiles", total) if not Path(path).exists()
    )
    said = f"tiles: {missing.total():,} of the {total:,} that the square touches are missing"
    where = ", ".join(f"{count:,} of level {key}" for key, count in missing.items())
    return f"{said} ({where})" if missing else said


def _touching(level: Level, square: Bounds) -> Iterator[tuple[int, int]]:
    """(col, row) of all tiles of a level that a rectangle touches, there or not."""
    west, north = level.north_west
    cols = range(floor((square.west - west) / level.side), ceil((square.east - west) / level.side))
    rows = range(floor((north - square.north) / level.side), ceil((north - square.south) / level.side))
    return product(cols, rows)


def _frame(table: pd.DataFrame) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {
            "photo": "streetview/images/" + table.image_id.map(_file),
            "heading": None,
            "captured_at": None,
            "sequence": None,  # of the drive, which is not published
            "split": table.split,
            "fov": None,
            "projection": "perspective",
            "licence": LICENCE,
            "attribution": PHOTOS_BY,
        },
        geometry=gpd.points_from_xy(table.longitude, table.latitude),
        crs="EPSG:4326",
    )


def main(
    root: Annotated[Path, typer.Argument(help="Folder with metadata/, streetview/ and satellite/.")],
) -> None:
    """Make a dataset of the published Washington benchmark."""
    prepare(root)


if __name__ == "__main__":
    command.run(main)
