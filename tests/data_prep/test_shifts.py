import numpy as np
import pandas as pd
import pyproj
import pytest

from data_prep.shifts import check_shifts, datum_of
from zoomloc.errors import ManifestError

DATUMS = {  # name: (place, the datum by its published parameters to WGS 84)
    "ED50": ((45.15, 9.0), "+proj=longlat +ellps=intl +towgs84=-87,-98,-121"),
    "Tokyo": ((35.68, 139.77), "+proj=longlat +ellps=bessel +towgs84=-146.414,507.337,680.507"),
    "OSGB36": (
        (51.5, -0.1),
        "+proj=longlat +ellps=airy +towgs84=446.448,-125.157,542.06,0.15,0.247,0.842,-20.489",
    ),
}


def taken_for_wgs84(frame, datum):
    """The frame with the coordinates its photos have in another datum."""
    turn = pyproj.Transformer.from_crs("EPSG:4326", datum, always_xy=True)
    lons, lats = turn.transform(frame.geometry.x, frame.geometry.y)
    return frame.set_geometry(
        [type(p)(*at) for p, *at in zip(frame.geometry, lons, lats, strict=True)], crs=4326
    )


@pytest.mark.parametrize("name", DATUMS)
def test_a_datum_taken_for_wgs84_is_named(drives, name):
    (lat, lon), datum = DATUMS[name]
    frame = drives.frame()
    there = frame.set_geometry(frame.geometry.translate(lon - 9.0, lat - 45.15))
    found, *_ = check_shifts(taken_for_wgs84(there, datum), there)
    assert len(found.photos) == 72 and f"as {name}" in found.text, found.text


def test_a_shift_that_is_no_datum_is_not_called_one(drives):
    frame = drives.frame()
    moved = frame.set_geometry(frame.geometry.translate(10 / 78_800, 0))
    found, *_ = check_shifts(moved, frame)
    assert found.text.startswith("10.0 m east, 0.0 m") and "WGS 84" not in found.text
    assert datum_of(np.array([3.0, 0.0]), 45.15, 9.0) == ""


def test_positions_that_differ_at_random_are_no_shift(drives):
    frame = drives.frame()
    noise = np.random.default_rng(0).normal(0, 5e-5, (72, 2))
    moved = frame.set_geometry(
        [type(p)(p.x + dx, p.y + dy) for p, (dx, dy) in zip(frame.geometry, noise, strict=True)], crs=4326
    )
    assert not any(found.photos for found in check_shifts(moved, frame))
    assert not any(found.photos for found in check_shifts(frame, frame))


def test_a_clock_off_by_some_seconds_is_no_time_zone(drives):
    frame = drives.frame()
    late = frame.assign(captured_at=frame["captured_at"] - pd.Timedelta(seconds=37))
    found = check_shifts(late, frame)[1]
    assert "-0:00:37 h" in found.text and "time zone" not in found.text and len(found.photos) == 72
    assert not check_shifts(frame.assign(captured_at=pd.NaT), frame)[1].checked


def test_photos_are_matched_by_file_name_wherever_they_lie(drives):
    frame = drives.frame()
    elsewhere = frame.assign(photo="raw/" + frame["photo"].str[7:])
    turned = elsewhere.assign(heading=(frame["heading"] - 90) % 360).sample(frac=1, random_state=0)
    found = check_shifts(turned, frame)[2]
    assert "-90.0 degrees" in found.text and len(found.photos) == 72
    with pytest.raises(ManifestError, match="4 photos by the same file names"):
        check_shifts(frame.head(4), frame)
