"""The manifest: the table of photos that every importer writes and every training or evaluation reads.

GeoParquet, one row a photo, points in WGS 84; `region.json` stands in the same folder. Columns:

photo        path of the image, relative to the manifest's folder
geometry     POINT (lon lat), where the photo was taken
heading      degrees clockwise from true north, or null
captured_at  timestamp in UTC, or null
sequence     name of the drive or walk it belongs to, or null
split        "train", "val" or "test"
fov          horizontal field of view in degrees, or null
projection   "perspective", "spherical" or "fisheye"
licence      what may be done with the photo, such as "CC BY-SA 4.0", or null
attribution  whom to name when it is shown, or null

The last two may be missing from a file; they are null then. A large manifest may be a folder `manifest.parquet` of
such files, its shards, which training reads one after the other.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyproj

from zoomloc.errors import ManifestError
from zoomloc.files import atomic

COLUMNS = ("photo", "geometry", "heading", "captured_at", "sequence", "split", "fov", "projection")
CREDITS = ("licence", "attribution")
SPLITS = ("train", "val", "test")
PROJECTIONS = ("perspective", "spherical", "fisheye")


def read(path: str | Path, split: str | None = None) -> gpd.GeoDataFrame:
    """The rows of a manifest, of one split or all, with `photo` still relative to the manifest's folder.

    Raises ManifestError, one line naming file, column and first offending row, if it breaks the schema.
    """
    path = Path(path)
    frames = [_read_file(file, path.parent) for file in _files(path)]
    if len(frames) == 1:
        [frame] = frames
    else:
        frame = gpd.GeoDataFrame(pd.concat(frames, ignore_index=True))
        _check(frame, path, path.parent)  # no photo is named in two files
    return frame if split is None else _of_split(frame, path, split)


def shards(path: str | Path, split: str) -> Iterator[gpd.GeoDataFrame]:
    """The rows of a split, file by file where the manifest is a folder, so that not all need fit into memory.

    Raises ManifestError as `read` does; that a photo is named in two files is not noticed.
    """
    path, there = Path(path), set[str]()
    for file in _files(path):
        frame = _read_file(file, path.parent)
        there |= set(frame["split"])
        if (frame["split"] == split).any():
            yield _of_split(frame, file, split)
    if split not in there:
        raise _no_such_split(path, split, there)


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ManifestError(f"{path}: no such manifest; write one with a data_prep importer")
    return files


def _read_file(file: Path, folder: Path) -> gpd.GeoDataFrame:
    """One file of a manifest, checked; its photos' paths are relative to the folder."""
    try:
        frame = _with_credits(gpd.read_parquet(file))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ManifestError(
            f"{file}: not GeoParquet ({reason}); write it with a data_prep importer"
        ) from None
    _check(frame, file, folder)
    return frame


def write(frame: gpd.GeoDataFrame, path: str | Path) -> None:
    """Checks the frame and writes it, whole or not at all. Raises ManifestError as `read` does."""
    path = Path(path)
    frame = _with_credits(frame)
    _check(frame, path, path.parent)
    typed = frame.astype({"heading": "float64", "fov": "float64"})
    typed["captured_at"] = pd.to_datetime(frame["captured_at"], utc=True)
    with atomic(path) as draft:
        typed.to_parquet(draft, index=False)


def _with_credits(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    return frame.assign(**{name: None for name in CREDITS if name not in frame.columns})


def _of_split(frame: gpd.GeoDataFrame, path: Path, split: str) -> gpd.GeoDataFrame:
    rows = frame[frame["split"] == split].reset_index(drop=True)
    if rows.empty:
        raise _no_such_split(path, split, set(frame["split"]))
    return rows


def _no_such_split(path: Path, split: str, there: set[str]) -> ManifestError:
    return ManifestError(f"{path}: no photos of split {split!r}; it has {', '.join(sorted(there))}")


def _check(frame: gpd.GeoDataFrame, path: Path, folder: Path) -> None:
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise ManifestError(
            f"{path}: no column {', '.join(missing)}; add it (values may be null where unknown)"
        )
    if frame.empty:
        raise ManifestError(f"{path}: no rows; a manifest needs at least one photo")
    if frame.geometry.name != "geometry":
        raise ManifestError(
            f"{path}: column geometry: not the active geometry; use frame.set_geometry('geometry')"
        )
    if frame.crs is None or not frame.crs.equals(pyproj.CRS(4326), ignore_axis_order=True):
        name = "missing" if frame.crs is None else frame.crs.name
        raise ManifestError(f"{path}: column geometry: CRS is {name}; turn it into WGS 84 with to_crs(4326)")
    for column, bad, problem in _rules(frame, folder):
        if bad.any():
            row = int(bad.to_numpy().argmax())
            value = frame[column].iloc[row]
            raise ManifestError(f"{path}: column {column}, row {row} ({value}): {problem}")


def _rules(frame: gpd.GeoDataFrame, folder: Path) -> Iterator[tuple[str, "pd.Series[bool]", str]]:
    """(column, which rows break the rule, what is wrong and the way out); later ones rely on earlier ones."""
    photo, points = frame["photo"], frame.geometry
    yield (
        "photo",
        ~_each(photo, lambda name: isinstance(name, str) and name != ""),
        "not a path; name the image",
    )
    yield (
        "photo",
        _each(photo, lambda name: Path(name).is_absolute()),
        "absolute; make it relative to this folder",
    )
    yield "photo", photo.duplicated(), "named twice; keep one row a photo"
    yield (
        "photo",
        ~_each(photo, lambda name: (folder / name).is_file()),
        "no such file; add it or drop the row",
    )
    yield "geometry", (points.geom_type != "Point") | points.is_empty, "not a point; give POINT (lon lat)"
    yield "geometry", ~points.y.between(-90, 90), "latitude not in -90..90; write lon first, then lat"
    yield "geometry", ~points.x.between(-180, 180), "longitude not in -180..180; write lon first, then lat"
    for column in ("heading", "fov"):
        yield column, ~_degrees_or_null(frame[column]), "not in 0..360 degrees; give that or null"
    yield "captured_at", ~_time_or_null(frame["captured_at"]), "not a time with a zone; give UTC or null"
    for column in CREDITS:
        yield column, ~_text_or_null(frame[column]), "not a text; give one or null"
    for column, known in (("split", SPLITS), ("projection", PROJECTIONS)):
        yield column, ~frame[column].isin(known), f"unknown; use one of {', '.join(known)}"


def _degrees_or_null(values: "pd.Series[float]") -> "pd.Series[bool]":
    return values.isna() | pd.to_numeric(values, errors="coerce").between(0, 360)


def _time_or_null(values: "pd.Series[pd.Timestamp]") -> "pd.Series[bool]":
    return _each(values, lambda value: pd.isna(value) or getattr(value, "tzinfo", None) is not None)


def _text_or_null(values: "pd.Series[Any]") -> "pd.Series[bool]":
    return _each(values, lambda value: isinstance(value, str) or pd.isna(value))


def _each(values: "pd.Series[Any]", test: Callable[[Any], bool]) -> "pd.Series[bool]":
    return values.map(test).astype(bool)
