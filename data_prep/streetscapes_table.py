"""The tables of Global Streetscapes: one row a photo.

Reads the columns of the published tables and of the earlier metadata.csv. Positions and headings that Mapillary
computed from the images count more than those of the phone's sensors. A heading of exactly 0 is what a camera without
a compass writes, and taken for unknown.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.report import Rejected
from zoomloc import manifest
from zoomloc.errors import SourceError

NEEDED = ("uuid", "source", "lat", "lon")
SEQUENCES = ("sequence_id", "mly_sequenceId", "kv_sequenceId")
KNOWN = (
    *NEEDED, *SEQUENCES, "heading", "datetime_local", "projection_type", "hFoV",
    "mly_computed_compass_angle", "mly_computed_geometry", "mly_camera_parameters", "mly_is_pano",
)  # fmt: skip
LIST = re.compile(r"\[([^\[\]]+)\]")


@dataclass(frozen=True)
class Record:
    """A row of the table. focal: in units of the image's longer side. Each None where unknown."""

    uuid: str
    lat: float
    lon: float
    heading_deg: float | None
    captured_at: pd.Timestamp | None
    sequence: str | None
    projection: str
    fov_deg: float | None
    focal: float | None
    source: str

    def horizontal_fov_deg(self, width: int, height: int) -> float | None:
        """As the table says, else from the focal length and the size of the image in pixels."""
        if self.fov_deg or not self.focal:
            return self.fov_deg
        part = width / max(width, height) / self.focal  # the width in focal lengths
        if self.projection == "fisheye":
            return min(math.degrees(part), 360.0)  # equidistant: a focal length a radian
        return math.degrees(2 * math.atan(part / 2))


def read(path: Path) -> tuple[list[Record], list[Rejected]]:
    """The rows of the table. Raises SourceError where it is no such table."""
    try:
        texts = dict.fromkeys(("uuid", "source", *SEQUENCES), str)
        table = pd.read_csv(path, usecols=lambda name: name in KNOWN, dtype=texts, low_memory=False)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except ValueError as error:  # what pandas raises for text that is no table
        raise SourceError(
            f"{path}: not a CSV table ({str(error).splitlines()[0]}); download it again"
        ) from None
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise SourceError(f"{path}: no column {', '.join(missing)}; give a table of Global Streetscapes")
    table = table.astype(object).where(table.notna(), None)
    records, rejected, seen = [], [], set()
    for row in table.to_dict("records"):
        found = _record(row) if row["uuid"] not in seen else Rejected(row["uuid"], "named twice in the table")
        seen.add(row["uuid"])
        if isinstance(found, Record):
            records.append(found)
        else:
            rejected.append(found)
    return records, rejected


def _record(row: dict[str, Any]) -> Record | Rejected:
    projection = row.get("projection_type") or ("perspective" if row.get("mly_is_pano") is False else None)
    if projection not in manifest.PROJECTIONS:
        return Rejected(str(row["uuid"]), f"its projection is {projection or 'not said'}")
    lon, lat, *_ = _numbers(row.get("mly_computed_geometry"), 2) or (_number(row["lon"]), _number(row["lat"]))
    if lat is None or lon is None or not (abs(lat) <= 90 and abs(lon) <= 180) or (lat, lon) == (0, 0):
        return Rejected(str(row["uuid"]), "no position")
    headings = (_number(row.get(name)) for name in ("mly_computed_compass_angle", "heading"))
    camera = _numbers(row.get("mly_camera_parameters"), 1)
    fov_deg = _number(row.get("hFoV"))
    return Record(
        uuid=str(row["uuid"]),
        lat=lat,
        lon=lon,
        heading_deg=next((heading % 360 for heading in headings if heading), None),
        captured_at=_time(row.get("datetime_local")),
        sequence=next((str(row[name]) for name in SEQUENCES if row.get(name)), None),
        projection=projection,
        fov_deg=fov_deg if fov_deg and 0 < fov_deg <= 360 else None,
        focal=camera[0] if camera and camera[0] > 0 else None,
        source=str(row["source"]),
    )


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _numbers(text: Any, at_least: int) -> list[float] | None:
    """The numbers of the one list in a text, which is JSON or Python."""
    match = LIST.search(str(text))
    try:
        numbers = [float(number) for number in match[1].split(",")] if match else []
    except ValueError:
        return None
    return numbers if len(numbers) >= at_least else None


def _time(text: Any) -> pd.Timestamp | None:
    time = pd.to_datetime(text, errors="coerce") if text else pd.NaT
    return time.tz_convert("UTC") if isinstance(time, pd.Timestamp) and time.tzinfo else None
