"""Squares that a grid lies on: turning them and turning back, and what is drawn at random."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoomloc.grid import Grid
from zoomloc.placement import Placement

GRID = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 640.0, 4, 2)
metres = st.floats(-1000, 1000)


@given(down=metres, right=metres, bearing_deg=st.floats(-180, 180))
def test_a_point_comes_back(down, right, bearing_deg):
    placement = Placement(GRID.north_west, 640.0, bearing_deg)
    xy = torch.tensor([placement.point(down, right)], dtype=torch.float64)
    assert placement.offsets(xy)[0].tolist() == pytest.approx([down, right], abs=1e-6)


def test_columns_run_along_the_bearing():
    x, y = Placement((0.0, 0.0), 640.0, 30.0).point(-100.0, 0.0)  # up from the corner
    assert math.degrees(math.atan2(x, y)) == pytest.approx(30.0)
    x, y = Placement((0.0, 0.0), 640.0, 30.0).point(0.0, 100.0)  # to the right
    assert math.degrees(math.atan2(x, y)) == pytest.approx(120.0)


@given(seed=st.integers(0, 2**31))
def test_what_is_drawn_stays_within_what_was_asked(seed):
    draw = {"shift_m": 50.0, "scale": 1.5}
    placement = Placement.draw(GRID, torch.Generator().manual_seed(seed), **draw, turned=True)
    assert 640 / 1.5 <= placement.side_m <= 640 * 1.5
    middle = placement.point(placement.side_m / 2, placement.side_m / 2)
    x, y = GRID.centre(GRID.root)
    assert abs(middle[0] - x) <= 50 + 1e-6 and abs(middle[1] - y) <= 50 + 1e-6
    again = Placement.draw(GRID, torch.Generator().manual_seed(seed), **draw, turned=True)
    assert again == placement


def test_nothing_random_is_the_regions_own_square():
    drawn = Placement.draw(GRID, torch.Generator(), shift_m=0.0, scale=1.0, turned=False)
    assert drawn.side_m == GRID.size_m and drawn.bearing_deg == 0
    assert drawn.north_west == pytest.approx(GRID.north_west, abs=1e-6)
