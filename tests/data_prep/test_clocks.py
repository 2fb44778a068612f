import numpy as np
import pandas as pd
import pytest

from data_prep.clocks import check_times, sun_elevation_deg
from data_prep.looks import Look

BRIGHT, DARK = Look("00" * 32, sky=190.0), Look("00" * 32, sky=40.0)


@pytest.mark.parametrize(
    ("time", "lat", "lon", "elevation_deg"),
    [  # from the geometry of solstice and equinox, at the sun's culmination by the equation of time
        ("2024-06-20T12:02Z", 23.44, 0.0, 90.0),
        ("2024-12-21T11:58Z", 51.48, 0.0, 90 - 51.48 - 23.44),
        ("2024-03-20T12:07Z", 0.0, 0.0, 90.0),
        ("2024-03-20T00:07Z", 0.0, 0.0, -90.0),
        ("2024-06-20T00:02Z", 80.0, 0.0, 80 + 23.44 - 90),
        ("2024-03-20T02:07Z", -33.9, 148.2, 90 - 33.9),
    ],
)
def test_the_sun_stands_where_it_must(time, lat, lon, elevation_deg):
    times = pd.Series(pd.to_datetime([time, None]))
    found = sun_elevation_deg(times, np.array([lat, lat]), np.array([lon, lon]))
    assert found[0] == pytest.approx(elevation_deg, abs=0.6) and np.isnan(found[1])


def test_daylight_at_night_is_a_clock_in_the_wrong_zone(drives):
    frame = drives.frame()
    assert not check_times(frame, [BRIGHT] * 72).photos
    late = frame.assign(captured_at=frame["captured_at"] + pd.Timedelta(hours=12))
    found = check_times(late, [BRIGHT] * 72)
    assert len(found.photos) > 50 and "h or more would bring them all to daylight" in found.text
    assert not check_times(late, [DARK] * 72).photos, "photos of the night"
    assert not check_times(late.assign(captured_at=pd.NaT), [BRIGHT] * 72).checked


def test_a_clock_set_on_the_way_is_found_where_it_was_set(drives):
    frame = drives.frame()
    later = (frame["sequence"] == "drive-1") & (frame.index % 12 >= 7)
    frame.loc[later, "captured_at"] += pd.Timedelta(hours=2, seconds=8)
    found = check_times(frame, [BRIGHT] * 72)
    assert list(found.photos) == ["photos/1-07.jpg"] and "by 2 h" in found.text


def test_a_pause_is_no_jump(drives):
    frame = drives.frame()
    later = (frame["sequence"] == "drive-1") & (frame.index % 12 >= 7)
    frame.loc[later, "captured_at"] += pd.Timedelta(minutes=52)
    assert not check_times(frame, [BRIGHT] * 72).photos
    slow = drives.frame()
    slow["captured_at"] = slow["captured_at"].min() + pd.to_timedelta(np.arange(72) * 1800, unit="s")
    assert not check_times(slow, [DARK] * 72).photos, "a photo every half hour"
