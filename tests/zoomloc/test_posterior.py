"""From leaves to an answer, on posteriors whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomloc.grid import Grid
from zoomloc.posterior import Leaves, best_point, leaf_map, radius_holding

LEAF_M = 40.0


def spikes(*where):
    posterior = np.zeros((16, 16), np.float32)
    for row, col, probability in where:
        posterior[row, col] = probability
    return posterior


def test_leaf_map_puts_every_path_where_the_grid_has_it():
    grid = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 640.0, 4, 2)
    posterior = leaf_map(Leaves(np.array([[0, 5], [15, 15], [3, 12]]), np.array([0.5, 0.3, 0.2])), grid)
    assert posterior.shape == (16, 16)
    assert posterior[1, 1] == pytest.approx(0.5)
    assert posterior[15, 15] == pytest.approx(0.3)
    assert posterior[3, 12] == pytest.approx(0.2)
    assert posterior.sum() == pytest.approx(1)


@given(row=st.integers(0, 15), col=st.integers(0, 15))
def test_a_single_leaf_is_answered_with_its_centre(row, col):
    east, south = best_point(spikes((row, col, 1.0)), leaf_m=LEAF_M, radius_m=40)
    assert (east, south) == pytest.approx(((col + 0.5) * LEAF_M, (row + 0.5) * LEAF_M), abs=LEAF_M / 8)


def test_two_halves_beat_a_larger_whole_when_one_point_serves_both():
    posterior = spikes((2, 2, 0.4), (9, 9, 0.3), (9, 10, 0.3))
    east, south = best_point(posterior, leaf_m=LEAF_M, radius_m=40)
    assert east == pytest.approx(10 * LEAF_M, abs=LEAF_M / 4)  # the edge between the two
    assert south == pytest.approx(9.5 * LEAF_M, abs=LEAF_M / 4)


@given(st.integers(0, 2**32 - 1))
def test_the_best_point_holds_no_less_than_the_best_leaf_centre(seed):
    posterior = np.random.default_rng(seed).dirichlet(np.full(256, 0.05)).reshape(16, 16).astype(np.float32)

    def held(east, south):
        fine = (np.arange(64) + 0.5) * LEAF_M / 4
        near = np.hypot(fine[None] - east, fine[:, None] - south) <= 40
        return (np.kron(posterior, np.ones((4, 4))) / 16)[near].sum()

    row, col = np.unravel_index(posterior.argmax(), posterior.shape)
    point = best_point(posterior, leaf_m=LEAF_M, radius_m=40)
    assert all(0 <= value <= 16 * LEAF_M for value in point)
    # Taking the middle of equals may cost a little of what the best cell of the search raster holds.
    assert held(*point) >= 0.8 * held((col + 0.5) * LEAF_M, (row + 0.5) * LEAF_M)


def test_radius_holding():
    posterior = spikes((5, 5, 0.6), (5, 8, 0.4))
    point = (5.5 * LEAF_M, 5.5 * LEAF_M)
    assert radius_holding(posterior, point, 0.5, leaf_m=LEAF_M) == LEAF_M / 2
    assert radius_holding(posterior, point, 0.9, leaf_m=LEAF_M) == pytest.approx(3 * LEAF_M)
    assert math.isnan(radius_holding(posterior * 0.5, point, 0.9, leaf_m=LEAF_M))
