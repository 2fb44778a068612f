"""Do the times of photos fit their places? Cameras forget time zones, and clocks are set on the way.

Seen without any reference: photos under a bright sky in what their time and place make a night; and a jump of whole
or half hours within a sequence that goes on where it was. A clock that is wrong throughout by less than the time to
the next twilight cannot be seen, nor one of photos taken at night.
"""

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.finding import Finding, unchecked
from data_prep.looks import Look
from data_prep.positions import ELLIPSOID

BRIGHT = 120.0  # mean of the upper third, 0..255: where lamps light a street, the sky stays dark
NIGHT_DEG = -8.0  # the sun so far below the horizon leaves no light to take bright photos by
SOME = 5  # photos: fewer may be flash, or a shop window
ZONE_S = 1800  # time zones differ by half hours
ON_THE_DOT_S = 60.0
WITHIN_M = 200.0
STEADY_S = 120.0  # a sequence whose usual step takes longer has pauses that mean nothing


def check_times(frame: gpd.GeoDataFrame, looks: Sequence[Look]) -> Finding:
    if frame["captured_at"].isna().all():
        return unchecked("time", "no photo has one")
    return _check_jumps(frame) or _check_nights(frame, looks)


def sun_elevation_deg(
    times: pd.Series, lat: NDArray[np.float64], lon: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How high the sun stands at UTC times and places, in degrees; good to half a degree, nan for no time."""
    days = (times - pd.Timestamp("2000-01-01T12:00Z")).dt.total_seconds().to_numpy(np.float64) / 86400
    anomaly = np.radians(357.529 + 0.98560028 * days)
    longitude = np.radians(280.459 + 0.98564736 * days) + np.radians(1.915) * np.sin(anomaly)
    tilt = np.radians(23.439)
    declination = np.arcsin(np.sin(tilt) * np.sin(longitude))
    ascension = np.arctan2(np.cos(tilt) * np.sin(longitude), np.cos(longitude))
    hour_angle = np.radians(280.46062 + 360.98564737 * days + lon) - ascension
    phi = np.radians(lat)
    sine = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour_angle)
    return np.degrees(np.arcsin(sine))


def _check_nights(frame: gpd.GeoDataFrame, looks: Sequence[Look]) -> Finding:
    lat, lon = frame.geometry.y.to_numpy(), frame.geometry.x.to_numpy()
    bright = np.array([look.sky for look in looks]) > BRIGHT
    night = sun_elevation_deg(frame["captured_at"], lat, lon) < NIGHT_DEG
    odd = bright & night
    timed = int(frame["captured_at"].notna().sum())
    if odd.sum() < SOME:
        return Finding(
            "time", f"no more than {odd.sum()} of {timed:,} photos with a time show a bright sky at night"
        )
    return Finding("time", f"under a bright sky, but at night by their time and place{_daylight_shift(frame[odd])}",
                   list(frame["photo"][odd]), "read their times in the right time zone, import again")  # fmt: skip


def _daylight_shift(odd: gpd.GeoDataFrame) -> str:
    """The least shift of whole hours that brings the photos to daylight, in words."""
    lat, lon = odd.geometry.y.to_numpy(), odd.geometry.x.to_numpy()
    for hours in sorted(range(-12, 15), key=abs):
        if (sun_elevation_deg(odd["captured_at"] + pd.Timedelta(hours=hours), lat, lon) > 0).all():
            return f"; {hours:+d} h or more would bring them all to daylight"
    return ""


def _check_jumps(frame: gpd.GeoDataFrame) -> Finding | None:
    """Sequences, steady otherwise, whose clock jumps by half hours while the camera hardly moves."""
    timed = frame[frame["captured_at"].notna() & frame["sequence"].notna()]
    found: dict[str, float] = {}
    for _, rows in timed.sort_values("captured_at", kind="stable").groupby("sequence"):
        seconds = rows["captured_at"].diff().dt.total_seconds().to_numpy()[1:]
        if len(rows) < SOME or np.median(seconds) > STEADY_S:
            continue
        lon, lat = rows.geometry.x.to_numpy(), rows.geometry.y.to_numpy()
        moved_m = np.asarray(ELLIPSOID.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])[2])
        zones = np.round(seconds / ZONE_S)
        jumps = (
            (zones >= 1)
            & (zones <= 28)
            & (np.abs(seconds - zones * ZONE_S) < ON_THE_DOT_S)
            & (moved_m < WITHIN_M)
        )
        found |= {rows["photo"].iloc[at + 1]: zones[at] / 2 for at in np.flatnonzero(jumps)}
    if not found:
        return None
    hours = max(set(found.values()), key=list(found.values()).count)
    return Finding("time", f"the clock jumps, most often by {hours:g} h, while the sequence goes on where it was",
                   list(found), "correct the camera's clock or time zone, import again")  # fmt: skip
