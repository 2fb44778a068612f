"""Rows of results as files that other programs open: tables, maps, tracks. The columns are those of `zoomloc.rows`.

.csv, .jsonl, .geojson, .parquet (GeoParquet), .fgb (FlatGeobuf) and .gpkg (GeoPackage) hold every row, those without a
position as features without geometry, and can be read back; so can a folder `results.parquet` of shards, which are one
table. .kml holds the rows that have a position; .gpx the located ones, a track for each folder or video in the order of
time, and the uncertain ones as waypoints.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from zoomloc import outputs
from zoomloc.errors import OutputError
from zoomloc.files import atomic
from zoomloc.rows import COLUMNS, TEXTS, Row, from_dict

if TYPE_CHECKING:
    import geopandas as gpd

KML = "http://www.opengis.net/kml/2.2"
GPX = "http://www.topografix.com/GPX/1/1"
COLOURS = {"located": "ff739e00", "uncertain": "ff009fe6"}  # KML counts alpha, blue, green, red
NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # what a file's name may hold, and XML may not
PLACEMARK = "http://maps.google.com/mapfiles/kml/shapes/placemark_circle.png"


def write(rows: Sequence[Row], path: str | Path) -> None:
    """Write rows in the format of the path's suffix, whole or not at all. Raises OutputError."""
    path = Path(path)
    check_suffix(path)
    with atomic(path) as draft:
        WRITERS[path.suffix.lower()](rows, draft)


def read(path: str | Path) -> list[Row]:
    """The rows of a file that `write` made. Raises OutputError, one line, where it is none."""
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise OutputError(f"{path}: rows cannot be read from this; give one of {', '.join(READERS)}")
    if not path.is_file() and not shards(path):
        raise OutputError(f"{path}: no such file; `zoomloc batch --out` writes one")
    try:
        return [from_dict(values) for values in READERS[path.suffix.lower()](path)]
    except KeyError as error:
        raise OutputError(f"{path}: no column {error}; give a file that `zoomloc batch` wrote") from None
    except Exception as error:  # every library has its own for a file that is not what its suffix says
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise OutputError(f"{path}: cannot be read ({reason}); write it again with `zoomloc batch`") from None


def shards(path: Path) -> list[Path]:
    """The files of a table that is a folder, in the order of their rows."""
    return sorted(path.glob("part-*.parquet"))


def check_suffix(path: str | Path) -> None:
    """Raises OutputError if no table goes by the path's suffix: to be asked before the work, not after."""
    if Path(path).suffix.lower() not in WRITERS:
        raise OutputError(f"{path}: unknown kind of result; let its name end in {' or '.join(WRITERS)}")


def json_line(row: Row) -> str:
    """A row as one line of JSON, without its end."""
    return json.dumps(row.as_nested(), ensure_ascii=False, allow_nan=False)


# --- text


def _write_csv(rows: Iterable[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(row.as_dict() for row in rows)


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write_jsonl(rows: Iterable[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json_line(row) + "\n" for row in rows)


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _write_geojson(rows: Iterable[Row], path: Path) -> None:
    features = [outputs.feature(_geometry(row), row.as_nested()) for row in rows]
    content = {"type": "FeatureCollection", "features": features}
    path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _read_geojson(path: Path) -> list[dict[str, Any]]:
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    return [feature["properties"] for feature in features if "holds" not in feature["properties"]]


def _geometry(row: Row) -> dict[str, Any] | None:
    return None if row.lat is None or row.lon is None else outputs.point(row.lat, row.lon)


# --- tables with geometry


def _frame(rows: Sequence[Row]) -> "gpd.GeoDataFrame":
    """Typed, so that a column is of its kind even where every value is null."""
    import geopandas as gpd
    import shapely

    kinds = {column: "str" if column in TEXTS else "float64" for column in COLUMNS}
    points = [None if row.lat is None else shapely.Point(row.lon, row.lat) for row in rows]
    frame = gpd.GeoDataFrame([row.as_dict() for row in rows], columns=COLUMNS, geometry=points, crs=4326)
    return frame.astype(kinds)


def _write_parquet(rows: Sequence[Row], path: Path) -> None:
    _frame(rows).to_parquet(path, index=False)


def _write_fgb(rows: Sequence[Row], path: Path) -> None:
    # Its spatial index would put rows into another order, and takes none without a geometry.
    _frame(rows).to_file(path, driver="FlatGeobuf", engine="pyogrio", SPATIAL_INDEX="NO")


def _write_gpkg(rows: Sequence[Row], path: Path) -> None:
    _frame(rows).to_file(path, driver="GPKG", engine="pyogrio", layer="photos")


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    return [row for file in shards(path) or [path] for row in _records(pd.read_parquet(file))]


def _read_ogr(path: Path) -> list[dict[str, Any]]:
    import pyogrio

    return _records(pyogrio.read_dataframe(path, read_geometry=False))


def _records(frame: Any) -> list[dict[str, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


# --- KML and GPX


def _write_kml(rows: Iterable[Row], path: Path) -> None:
    root = ElementTree.Element("kml", xmlns=KML)
    document = _child(root, "Document")
    for status, colour in COLOURS.items():
        icon = _child(_child(document, "Style", id=status), "IconStyle")
        _child(icon, "color", colour)
        _child(_child(icon, "Icon"), "href", PLACEMARK)
    for row in rows:
        if row.lat is None or row.lon is None:
            continue
        mark = _child(document, "Placemark")
        _child(mark, "name", Path(row.name).name)
        if row.captured_at:
            _child(_child(mark, "TimeStamp"), "when", row.captured_at)
        _child(mark, "styleUrl", f"#{row.status}")
        facts = _child(mark, "ExtendedData")
        for column, value in row.as_dict().items():
            if value is not None:
                _child(_child(facts, "Data", name=column), "value", str(value))
        _child(_child(mark, "Point"), "coordinates", f"{row.lon},{row.lat}")
    _write_xml(root, path)


def _write_gpx(rows: Iterable[Row], path: Path) -> None:
    placed = [row for row in rows if row.lat is not None]
    root = ElementTree.Element("gpx", xmlns=GPX, version="1.1", creator="zoomloc")
    for row in placed:
        if row.status == "uncertain":
            _gpx_point(root, "wpt", row)
    located = sorted((row for row in placed if row.status == "located"), key=_walk)
    for name, walked in groupby(located, _walk_name):
        track = _child(root, "trk")
        _child(track, "name", name)
        segment = _child(track, "trkseg")
        for row in walked:
            _gpx_point(segment, "trkpt", row)
    _write_xml(root, path)


def _gpx_point(parent: ElementTree.Element, tag: str, row: Row) -> None:
    """A point with its time where that has a zone: GPX counts in UTC, and a camera's own clock does not."""
    point = _child(parent, tag, lat=str(row.lat), lon=str(row.lon))
    moment = _moment(row)
    if moment and moment.tzinfo:
        _child(point, "time", moment.astimezone(UTC).isoformat().replace("+00:00", "Z"))
    _child(point, "name", Path(row.name).name)
    sure = "" if row.radius_50_m is None else f", half of the probability within {row.radius_50_m:.0f} m"
    _child(point, "desc", f"estimate, confidence {row.confidence:.2f}{sure}")


def _walk_name(row: Row) -> str:
    return str(Path(row.file).parent) if row.frame_s is None else row.file


def _walk(row: Row) -> tuple[str, str, float, str]:
    moment = _moment(row)
    return _walk_name(row), "" if moment is None else _sortable(moment), row.frame_s or 0.0, row.file


def _sortable(moment: datetime) -> str:
    return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None).isoformat()


def _moment(row: Row) -> datetime | None:
    return datetime.fromisoformat(row.captured_at) if row.captured_at else None


def _child(parent: ElementTree.Element, tag: str, text: str | None = None, **attributes: str) -> Any:
    child = ElementTree.SubElement(parent, tag, attributes)
    child.text = text and NOT_XML.sub("�", text)
    return child


def _write_xml(root: ElementTree.Element, path: Path) -> None:
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


WRITERS: dict[str, Callable[[Sequence[Row], Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".geojson": _write_geojson,
    ".parquet": _write_parquet,
    ".fgb": _write_fgb,
    ".gpkg": _write_gpkg,
    ".kml": _write_kml,
    ".gpx": _write_gpx,
}
READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".geojson": _read_geojson,
    ".parquet": _read_parquet,
    ".fgb": _read_ogr,
    ".gpkg": _read_ogr,
}
