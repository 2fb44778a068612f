"""The geometry of windows: turned, cut into parts, looked for; in floating point, held against plain formulas."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tiles import Bounds, TilesError, Window

CRS = "EPSG:32632"
metres = st.floats(-1e6, 1e6)
sizes = st.floats(0.1, 1e5)
bearings = st.floats(-720, 720)


@st.composite
def windows(draw):
    west, south = draw(metres), draw(metres)
    bounds = Bounds(west, south, west + draw(sizes), south + draw(sizes))
    shape = draw(st.integers(1, 500)), draw(st.integers(1, 500))
    return Window(bounds, CRS, shape, draw(bearings))


def points(window, across, down):
    x, y = window.at(np.atleast_1d(np.asarray(across, float)), np.atleast_1d(np.asarray(down, float)))
    return x, y


def near(window):
    """What floating point may add up to, in metres."""
    return 1e-9 * max(map(abs, window.bounds)) + 1e-9


@given(windows())
def test_the_top_of_the_picture_looks_to_the_bearing(window):
    (x0, x1), (y0, y1) = points(window, [0.5, 0.5], [1, 0])
    away = math.hypot(x1 - x0, y1 - y0)
    assert away == pytest.approx(window.bounds.height, abs=near(window))
    assume(window.bounds.height > 1)
    looks = math.degrees(math.atan2(x1 - x0, y1 - y0))
    assert (looks - window.bearing_deg + 180) % 360 - 180 == pytest.approx(0, abs=1e-4)


@given(windows())
def test_east_is_to_the_right_of_north(window):
    (x0, x1, x2), (y0, y1, y2) = points(window, [0, 0, 1], [1, 0, 1])
    up, right = (x1 - x0, y1 - y0), (x2 - x0, y2 - y0)
    area = right[0] * up[1] - right[1] * up[0]
    assert area == pytest.approx(window.bounds.width * window.bounds.height, rel=1e-3)


@given(windows())
def test_the_middle_stays_where_it_is_and_around_holds_every_corner(window):
    (x,), (y,) = points(window, 0.5, 0.5)
    bounds, around = window.bounds, window.around()
    assert x == pytest.approx((bounds.west + bounds.east) / 2, abs=near(window))
    assert y == pytest.approx((bounds.south + bounds.north) / 2, abs=near(window))
    xs, ys = points(window, [0, 0.3, 1, 1, 0], [0, 0.9, 0, 1, 1])
    assert around.west - near(window) <= xs.min() and xs.max() <= around.east + near(window)
    assert around.south - near(window) <= ys.min() and ys.max() <= around.north + near(window)


@given(windows(), st.data())
def test_a_part_shows_the_pixels_it_is_named_by(window, data):
    height, width = window.shape
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    part = window.part(slice(top, bottom), slice(left, right))
    assert part.shape == (bottom - top, right - left)
    across, down = np.array([0, 0.25, 1]), np.array([1, 0.5, 0])
    seen = part.at(across, down)
    meant = window.at(
        (left + across * (right - left)) / width,
        (top + down * (bottom - top)) / height,
    )
    assert np.allclose(seen, meant, rtol=0, atol=1e-6)


@given(windows())
def test_where_a_window_lies_in_itself(window):
    (left, right), (top, bottom) = window.where(window.around(), CRS)
    assert left <= 1e-6 and right >= 1 - 1e-6 and top <= 1e-6 and bottom >= 1 - 1e-6


@given(windows(), st.floats(0, 1), st.floats(0, 1), sizes)
def test_where_holds_whatever_a_rectangle_shows(window, across, down, side):
    """A rectangle around a point of the window: the point lies in the stretch that is said to show it."""
    (x,), (y,) = points(window, across, down)
    found = window.where(Bounds(x - side, y - side, x + side, y + side), CRS)
    for (start, stop), at in zip(found, (across, down), strict=True):
        assert start <= at + 1e-6 and at - 1e-6 <= stop


def test_windows_of_the_same_rectangle_are_equal_however_it_was_given():
    one = Window(Bounds(1, 2, 3, 4), CRS, (5, 6))
    other = Window(tuple(np.float64([1, 2, 3, 4])), CRS, [np.int64(5), 6])
    assert one == other and hash(one) == hash(other) and pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"bounds": Bounds(0, 0, math.inf, 1)}, "empty window"),
        ({"bounds": Bounds(0, 1, 1, 1)}, "empty window"),
        ({"shape": (1, -1)}, "empty window"),
        ({"bearing_deg": math.nan}, "empty window"),
        ({"resampling": "lanczos"}, "use one of auto, nearest, bilinear, cubic, average"),
        ({"crs": "EPSG:0"}, "unknown CRS"),
    ],
)
def test_what_is_no_window_is_refused_in_one_line(changed, says):
    with pytest.raises(TilesError, match=says) as caught:
        Window(**{"bounds": Bounds(0, 0, 1, 1), "crs": CRS, "shape": (2, 2)} | changed)
    assert "\n" not in str(caught.value)
