from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomloc import gpx
from zoomloc.errors import SourceError

START = datetime(2024, 5, 1, 10, tzinfo=UTC)


def write(path, points):
    """A GPX file of (seconds after START, or None, or a text, lat, lon)."""
    lines = []
    for second, lat, lon in points:
        at = (
            second
            if second is None or isinstance(second, str)
            else f"{START + timedelta(seconds=second):%FT%TZ}"
        )
        lines.append(f'<trkpt lat="{lat}" lon="{lon}">{f"<time>{at}</time>" if at else ""}</trkpt>')
    path.write_text(
        '<?xml version="1.0"?><gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">'
        f"<trk><trkseg>{''.join(lines)}</trkseg></trk></gpx>"
    )
    return path


@pytest.fixture
def track(tmp_path):
    return gpx.load(
        write(tmp_path / "walk.gpx", [(0, 46.0, 8.0), (10, 46.1, 8.2), (100, 46.2, 8.4), (None, 0, 0)])
    )


def test_between_points_it_is_on_their_line(track):
    assert track.name == "walk"
    at = track.position(START + timedelta(seconds=2.5), max_gap_s=30)
    assert at == (pytest.approx(46.025), pytest.approx(8.05))
    assert track.position(START + timedelta(seconds=10), max_gap_s=0) == (
        pytest.approx(46.1),
        pytest.approx(8.2),
    )


def test_not_across_long_gaps_nor_beyond_its_ends(track):
    assert track.position(START + timedelta(seconds=50), max_gap_s=89.9) is None
    assert track.position(START + timedelta(seconds=55), max_gap_s=90) == (
        pytest.approx(46.15),
        pytest.approx(8.3),
    )
    assert track.position(START - timedelta(seconds=1), max_gap_s=30) is None
    assert track.position(START + timedelta(seconds=101), max_gap_s=30) is None


def test_any_zone_any_order_and_points_twice(tmp_path):
    points = [("2024-05-01T12:00:20+02:00", 46.2, 8.2), (0, 46.0, 8.0), (20, 46.2, 8.2)]
    track = gpx.load(write(tmp_path / "a.gpx", points))
    assert len(track.seconds) == 2 and track.seconds[0] == START.timestamp()
    assert track.position(START + timedelta(seconds=10), max_gap_s=30) == (
        pytest.approx(46.1),
        pytest.approx(8.1),
    )


def test_across_the_antimeridian(tmp_path):
    track = gpx.load(write(tmp_path / "a.gpx", [(0, -17, 179.9), (10, -17, -179.9)]))
    east = track.position(START + timedelta(seconds=7.5), max_gap_s=30)
    assert east == (pytest.approx(-17), pytest.approx(-179.95))


@given(
    st.lists(
        st.tuples(st.integers(0, 500), st.floats(-60, 60), st.floats(-170, 170)), min_size=2, max_size=20
    )
)
def test_it_never_leaves_the_rectangle_of_its_points(points):
    seconds, lats, lons = np.array(sorted({point[0]: point for point in points}.values())).T
    track = gpx.Track("t", seconds, lats, lons)
    for second in np.linspace(-10, 510, 53):
        place = track.position(datetime.fromtimestamp(second, UTC), max_gap_s=1000)
        assert (place is None) == (not seconds[0] <= second <= seconds[-1])
        if place:
            assert lats.min() - 1e-9 <= place[0] <= lats.max() + 1e-9
            assert lons.min() - 1e-9 <= place[1] <= lons.max() + 1e-9


def test_files_that_are_no_track_are_refused_in_one_line(tmp_path):
    (tmp_path / "text.gpx").write_text("hello")
    write(tmp_path / "timeless.gpx", [(None, 46, 8)])
    for name, problem in (
        ("none", "no such file"),
        ("text", "not a GPX track"),
        ("timeless", "no track point has"),
    ):
        with pytest.raises(SourceError, match=problem) as raised:
            gpx.load(tmp_path / f"{name}.gpx")
        assert str(tmp_path / f"{name}.gpx") in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("+02:00", 7200), ("-5:30", -19800), ("0", 0), ("-90.5", -90.5), (" 01:00 ", 3600)]
)
def test_offsets(text, seconds):
    assert gpx.parse_offset(text).total_seconds() == seconds


@given(st.text())
def test_any_other_offset_is_refused_in_one_line(text):
    try:
        offset = gpx.parse_offset(text)
    except SourceError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(offset, timedelta)
