"""GPS tracks: where somebody was at a moment."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoomloc.errors import SourceError

CLOCK = re.compile(r"([+-]?)(\d{1,2}):(\d{2})")


@dataclass(frozen=True)
class Track:
    """The points of a GPX file. seconds: (n,) since 1970 UTC, increasing. lats, lons: (n,) degrees; the longitudes
    run on beyond 180 where the track crosses that meridian."""

    name: str
    seconds: NDArray[np.float64] = field(repr=False)
    lats: NDArray[np.float64] = field(repr=False)
    lons: NDArray[np.float64] = field(repr=False)

    def position(self, moment: datetime, *, max_gap_s: float) -> tuple[float, float] | None:
        """(lat, lon) at a moment with a time zone, on the line between the points before and after it.

        None before the first point, after the last, and between points more than `max_gap_s` apart.
        """
        at = moment.timestamp()
        after = int(np.searchsorted(self.seconds, at))
        if after == len(self.seconds) or (after == 0 and at < self.seconds[0]):
            return None
        if self.seconds[after] == at:
            return self._place(float(self.lats[after]), float(self.lons[after]))
        before = after - 1
        gap_s = self.seconds[after] - self.seconds[before]
        if gap_s > max_gap_s:
            return None
        part = (at - self.seconds[before]) / gap_s
        lat = self.lats[before] + part * (self.lats[after] - self.lats[before])
        lon = self.lons[before] + part * (self.lons[after] - self.lons[before])
        return self._place(float(lat), float(lon))

    @staticmethod
    def _place(lat: float, lon: float) -> tuple[float, float]:
        return lat, (lon + 180) % 360 - 180


def points_of(path: Path) -> gpd.GeoDataFrame:
    """The track points of a GPX file, in WGS 84, and the `time` of each. Raises SourceError where it is no GPX."""
    if not path.is_file():
        raise SourceError(f"{path}: no such file; check the path")
    try:
        return gpd.read_file(path, layer="track_points", columns=["time"])
    except Exception as error:  # GDAL's reader fails in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{path}: not a GPX track that can be read ({reason}); export it again") from None


def load(path: Path) -> Track:
    """The points of a GPX file that have a time. Raises SourceError where there are none, or it is no GPX."""
    points = points_of(path)
    points = points[points["time"].notna() & ~points.geometry.is_empty & points.geometry.notna()]
    if points.empty:
        raise SourceError(f"{path}: no track point has a time; export the track as recorded, not as a route")
    times = pd.to_datetime(points["time"], utc=True)  # GPX times are UTC where they do not say otherwise
    seconds = times.astype("datetime64[ns, UTC]").astype("int64").to_numpy() / 1e9
    seconds, order = np.unique(seconds, return_index=True)
    lons = np.unwrap(points.geometry.x.to_numpy()[order], period=360)
    return Track(path.stem, seconds, points.geometry.y.to_numpy()[order], lons)


@dataclass(frozen=True)
class Clock:
    """Where and when photos were taken that do not say so themselves.

    offset: how far a camera's clock without a zone is ahead of UTC. max_gap_s: between points of a track.
    """

    tracks: tuple[Track, ...] = ()
    offset: timedelta | None = None
    max_gap_s: float = 30.0

    def moment(self, taken: datetime | None) -> datetime | None:
        """When a photo was taken, with a zone; None where that is not known."""
        if taken is None or taken.tzinfo:
            return taken
        return None if self.offset is None else (taken - self.offset).replace(tzinfo=UTC)

    def place(self, taken: datetime | None) -> tuple[Track, tuple[float, float]] | None:
        """The first track that knows where it was when a photo was taken, and the (lat, lon)."""
        moment = self.moment(taken)
        if moment is None:
            return None
        for track in self.tracks:
            if place := track.position(moment, max_gap_s=self.max_gap_s):
                return track, place
        return None


def clock(files: Sequence[Path | str], offset: str | None) -> Clock:
    """Of GPX files, and an offset in a user's words (see `parse_offset`). Raises SourceError."""
    return Clock(tuple(load(Path(file)) for file in files), parse_offset(offset) if offset else None)


def parse_offset(text: str) -> timedelta:
    """How far a clock is ahead of UTC: "+02:00", "-5:30", or seconds. Raises SourceError."""
    if match := CLOCK.fullmatch(text.strip()):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return -offset if match[1] == "-" else offset
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise SourceError(
            f"time offset {text!r} is not understood; write +02:00 for a clock two hours ahead of UTC, or seconds"
        ) from None
