"""Constant differences to another manifest of the same photos: a datum, a clock, a compass.

A shift of all positions cannot be seen in a dataset alone. Against a reference that names the same photos it can; and
where another datum in use at that place explains it, the datum is named.
"""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_crs_info
from pyproj.enums import PJType

from data_prep.finding import Finding
from data_prep.headings import circular_mean
from data_prep.positions import ELLIPSOID
from zoomloc.errors import ManifestError

ENOUGH = 5  # photos in common
LEAST_M, LEAST_S, LEAST_DEG = 1.0, 2.0, 2.0  # differences below these are nothing
CONSTANT = 0.25  # the scatter of a constant shift, to its length
ALIKE = 0.95  # mean resultant length of headings that differ by a constant
EXPLAINED = 0.2  # how far, to its length, a shift may be from the datum's that explains it
DATUM_M = 10.0  # how well old datums are known without their national grids
MODERN = ("WGS 84", "GRS 1980")  # ellipsoids of datums within two metres of WGS 84
ZONE_S = 900


def check_shifts(frame: gpd.GeoDataFrame, reference: gpd.GeoDataFrame) -> list[Finding]:
    """Compares photos of the same file name. Raises ManifestError where too few are in both."""
    ours, theirs = _common(frame, reference)
    return [_check_position(ours, theirs), _check_time(ours, theirs), _check_heading(ours, theirs)]


def _common(
    frame: gpd.GeoDataFrame, reference: gpd.GeoDataFrame
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """The rows of both with the same file name, in the same order; names that are not unique are left out."""
    ours, theirs = (
        each.assign(name=each["photo"].map(lambda photo: Path(photo).name))
        .drop_duplicates("name", keep=False)
        .set_index("name")
        for each in (frame, reference)
    )
    names = ours.index.intersection(theirs.index)
    if len(names) < ENOUGH:
        raise ManifestError(
            f"the reference has {len(names)} photos by the same file names; give one with {ENOUGH} or more"
        )
    return ours.loc[names], theirs.loc[names]


def _check_position(ours: gpd.GeoDataFrame, theirs: gpd.GeoDataFrame) -> Finding:
    azimuth, _, distance_m = ELLIPSOID.inv(
        theirs.geometry.x, theirs.geometry.y, ours.geometry.x, ours.geometry.y
    )
    moves = np.column_stack([np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))]) * distance_m[:, None]
    shift = np.median(moves, axis=0)  # (east, north)
    scatter_m = float(np.median(np.linalg.norm(moves - shift, axis=1)))
    length_m = float(np.linalg.norm(shift))
    east, north = shift
    across, along = ("west" if east < 0 else "east"), ("south" if north < 0 else "north")
    words = f"{abs(east):.1f} m {across}, {abs(north):.1f} m {along}"
    if length_m < LEAST_M or scatter_m > CONSTANT * length_m:
        return Finding(
            "shift",
            f"none constant: {words} in the median of {len(ours):,} photos, scatter {scatter_m:.1f} m",
        )
    datum = datum_of(shift, float(theirs.geometry.y.median()), float(theirs.geometry.x.median()))
    like = f", as {datum} coordinates taken for WGS 84 would be" if datum else ""
    way_out = (
        f"transform the source from {datum} to WGS 84" if datum else "correct the source, or the reference"
    )
    return Finding(
        "shift", f"{words} of the reference, scatter {scatter_m:.1f} m{like}", list(ours["photo"]), way_out
    )


def datum_of(shift: NDArray[np.float64], lat: float, lon: float) -> str:
    """The old national datum of a place whose coordinates, taken for WGS 84, lie off by a shift (east, north), metres.

    "" where there is none. Of several that explain it equally well the one that EPSG numbered first.
    """
    here = AreaOfInterest(lon, lat, lon, lat)
    found: list[tuple[int, int, str]] = []
    for info in query_crs_info("EPSG", PJType.GEOGRAPHIC_2D_CRS, here, contains=True):
        if info.area_of_use is None or info.area_of_use.name == "World.":
            continue
        crs = CRS.from_epsg(info.code)
        if crs.ellipsoid is None or crs.ellipsoid.name in MODERN:
            continue
        true_lon, true_lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(lon, lat)
        azimuth, _, distance_m = ELLIPSOID.inv(true_lon, true_lat, lon, lat)
        move = distance_m * np.array([np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))])
        off_m = float(np.linalg.norm(move - shift))
        if off_m < EXPLAINED * float(np.linalg.norm(shift)):
            found.append((round(off_m / DATUM_M), int(info.code), info.name))
    return min(found)[2] if found else ""


def _check_time(ours: gpd.GeoDataFrame, theirs: gpd.GeoDataFrame) -> Finding:
    one, other = (pd.to_datetime(each["captured_at"], utc=True) for each in (ours, theirs))
    seconds = (one - other).dt.total_seconds().dropna()
    if len(seconds) < ENOUGH:
        return Finding("clock", f"only {len(seconds)} photos have a time in both", checked=False)
    shift = float(seconds.median())
    constant = float((seconds - shift).abs().quantile(0.9)) < LEAST_S
    if abs(shift) < LEAST_S or not constant:
        return Finding("clock", f"no constant shift of the reference's times in {len(seconds):,} photos")
    zones = round(shift / ZONE_S)
    zone = ": a time zone" if zones and abs(shift - zones * ZONE_S) < LEAST_S else ""
    sign, whole = "+" if shift >= 0 else "-", round(abs(shift))
    text = f"{sign}{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h of the reference{zone}"
    return Finding("clock", text, list(ours["photo"]), "read the times in the right time zone, import again")


def _check_heading(ours: gpd.GeoDataFrame, theirs: gpd.GeoDataFrame) -> Finding:
    turns = (ours["heading"] - theirs["heading"]).dropna().to_numpy(np.float64)
    if len(turns) < ENOUGH:
        return Finding("compass", f"only {len(turns)} photos have a heading in both", checked=False)
    mean, agreement = circular_mean(turns)
    turn = (mean + 180) % 360 - 180
    if abs(turn) < LEAST_DEG or agreement < ALIKE:
        return Finding("compass", f"no constant turn of the reference's headings in {len(turns):,} photos")
    return Finding("compass", f"{turn:+.1f} degrees of the reference", list(ours["photo"]),
                   "subtract it; a few degrees are magnetic declination")  # fmt: skip
