"""Reading OpenStreetMap files: points, lines and polygons with their tags."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from shapely import LineString, MultiPolygon, Polygon

from zoomloc.errors import SourceError

Window = tuple[float, float, float, float]  # west, south, east, north in degrees

ENDINGS = (".osm.pbf", ".osm", ".osm.gz", ".geojson", ".json")
LAYERS = ("points", "lines", "multilinestrings", "multipolygons")  # those of GDAL's driver for OSM files
NOT_TAGS = ("geometry", "osm_id", "osm_way_id", "id", "z_order", "other_tags", "tags")
# GDAL makes polygons of closed ways by keys that leave these out.
SOLID = {"building": None, "building:part": None, "man_made": {"pier", "breakwater", "groyne"},
         "waterway": {"riverbank", "dock"}}  # fmt: skip


@dataclass(frozen=True)
class Feature:
    """One point, line or polygon, and what the map says of it."""

    geometry: shapely.Geometry
    tags: Mapping[str, str]

    def has(self, key: str, *values: str) -> bool:
        """Whether the tag has one of these values; any but "no" where none are given."""
        value = self.tags.get(key, "no")
        return value in values if values else value != "no"


def read(path: Path, window: Window | None = None) -> list[Feature]:
    """What the file has in a window, or everywhere; in degrees of WGS 84.

    Takes `.osm.pbf`, `.osm`, `.osm.gz` and GeoJSON whose properties are the tags. Raises SourceError.
    """
    if not path.is_file():
        raise SourceError(
            f"{path}: no such file; download an extract, for instance from download.geofabrik.de"
        )
    if not path.name.lower().endswith(ENDINGS):
        raise SourceError(f"{path}: not one of {', '.join(ENDINGS)}; convert it, for instance with osmium")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GDAL tells of every unusual feature
        try:
            return [feature for frame in _frames(path, window) for feature in _features(frame)]
        except Exception as error:  # whatever of GDAL or its parsers
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SourceError(f"{path}: cannot be read ({reason}); download it again") from None


def _frames(path: Path, window: Window | None) -> Iterator[gpd.GeoDataFrame]:
    if path.suffix in (".geojson", ".json"):
        yield gpd.read_file(path, bbox=window, engine="pyogrio").to_crs(4326)
        return
    source = f"/vsigzip/{path.absolute()}" if path.suffix == ".gz" else path
    for layer in LAYERS:
        yield gpd.read_file(source, layer=layer, bbox=window, engine="pyogrio", TAGS_FORMAT="JSON")


def _features(frame: gpd.GeoDataFrame) -> Iterator[Feature]:
    columns = [name for name in frame.columns if name not in NOT_TAGS]
    more = next((frame[name] for name in ("other_tags", "tags") if name in frame), [None] * len(frame))
    rows = zip(*(frame[name] for name in columns), strict=True) if columns else [()] * len(frame)
    for geometry, row, others in zip(frame.geometry, rows, more, strict=True):
        tags = {key: _text(value) for key, value in zip(columns, row, strict=True) if _known(value)}
        tags |= {key: _text(value) for key, value in _mapping(others).items() if _known(value)}
        if geometry is None or not tags:
            continue
        for part in shapely.get_parts(geometry):
            yield Feature(_solid(part, tags), tags)


def _known(value: Any) -> bool:
    return value is not None and value == value  # not a number stands for an empty cell


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    """Tags that came as a dictionary or as JSON."""
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value)
    return value if isinstance(value, dict) else {}


def _solid(geometry: shapely.Geometry, tags: Mapping[str, str]) -> shapely.Geometry:
    """The polygon that a closed way stands for."""
    if not isinstance(geometry, LineString) or not geometry.is_closed or len(geometry.coords) < 4:
        return geometry
    solid = any(key in tags and (values is None or tags[key] in values) for key, values in SOLID.items())
    return Polygon(geometry.coords) if solid or tags.get("area") == "yes" else geometry


def polygonal(area: shapely.Geometry) -> Polygon | MultiPolygon:
    """The polygons of what an overlay leaves, without the lines along which shapes touch."""
    parts = [part for part in shapely.get_parts(area) if isinstance(part, Polygon) and part.area > 0.01]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def centre(features: list[Feature]) -> tuple[float, float]:
    """Latitude and longitude in the middle of the houses and streets. Raises SourceError where there are none."""
    built = [f.geometry for f in features if f.has("building") or f.has("highway")]
    if not built:
        raise SourceError("the map shows neither houses nor streets; choose another file")
    lon, lat = np.median(shapely.get_coordinates(shapely.centroid(built)), axis=0)
    return float(lat), float(lon)


_FEET = re.compile(r"""(\d+(?:\.\d+)?)\s*(?:'|ft|feet)\s*(?:(\d+(?:\.\d+)?)\s*(?:"|''|in))?""")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")


def metres(text: str | None) -> float | None:
    """A length as mappers write it: "12", "12.5 m", "12,5", "40'6\\"", "40 ft"; None where it is none."""
    if text is None:
        return None
    if feet := _FEET.match(text.strip()):
        return 0.3048 * (float(feet[1]) + float(feet[2] or 0) / 12)
    return number(text)


def number(text: str | None) -> float | None:
    """The number that a text begins with; None where it begins with none."""
    found = _NUMBER.match(text.strip()) if text else None
    return float(found[0].replace(",", ".")) if found else None
