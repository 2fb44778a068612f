"""Overlapping windows: they cover the plane, none goes on from a later one, and none knows more than its neighbours."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.mosaic import SLOTS, Mosaic, Place, batches, in_turns, needed

MOSAIC = Mosaic(px=16, overlap=4)


@given(top=st.integers(0, 200), left=st.integers(0, 200), height=st.integers(1, 60), width=st.integers(1, 60))
def test_those_that_touch_are_exactly_those_that_share_pixels(top, left, height, width):
    rows, cols = range(top, top + height), range(left, left + width)
    found = set(MOSAIC.touching(0, rows, cols))
    every = {Place(0, row, col) for row, col in product(range(30), repeat=2)}
    shares = {
        p for p in every if all(set(a) & set(b) for a, b in zip(MOSAIC.pixels(p), (rows, cols), strict=True))
    }
    assert found == shares
    assert MOSAIC.touching(0, range(0), cols) == []


def test_every_pixel_is_in_a_window_and_strips_are_in_several():
    count = np.zeros((96, 96), int)
    for place in MOSAIC.touching(0, range(96), range(96)):
        rows, cols = MOSAIC.pixels(place)
        count[rows.start : rows.stop, cols.start : cols.stop] += 1
    assert count.min() == 1 and count.max() == 4


@pytest.mark.parametrize("row,col", list(product(range(4), repeat=2)))
def test_what_is_before_is_a_neighbour_of_an_earlier_turn(row, col):
    place = Place(2, row, col)
    assert all(p.turn < place.turn and p.level == 2 for p in place.before)
    assert all(max(abs(p.row - row), abs(p.col - col)) == 1 for p in place.before)
    if row and col:
        assert len(place.before) == [0, 2, 6, 8][place.turn]


def test_needed_is_closed_small_and_stops_at_what_is_done():
    place = Place(0, 5, 5)
    found = needed([place])
    assert len(found) == 17 and all(other in found for each in found for other in each.before)
    done = found - {place}
    assert needed([place], done) == {place} and needed([place], found) == set()


def test_turns_are_in_order_and_batches_keep_slots():
    places = needed(MOSAIC.touching(0, range(100), range(130)))
    seen = set()
    for turn, of_turn in enumerate(in_turns(places)):
        for batch in batches(of_turn):
            assert len(batch) == SLOTS
            assert all(
                place is None or (place.slot == i and place.turn == turn) for i, place in enumerate(batch)
            )
            assert all(other in seen for place in batch if place for other in place.before)
        seen |= set(of_turn)
    assert seen == places
