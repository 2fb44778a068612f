"""From probabilities of leaves to an answer: known posteriors, and brute force over every point."""

import math

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from zoomloc.answer import (
    ENOUGH,
    FINE,
    Mass,
    areas_holding,
    as_mass,
    distinct_spots,
    outline,
    radii_holding,
)
from zoomloc.grid import Cell, Grid
from zoomloc.posterior import Leaves, leaf_map

LEAF_M = 40.0
GRID = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 640.0, 4, 2)


def mass_of(posterior, leaf_m=LEAF_M):
    where = np.flatnonzero(posterior)
    where = where[np.argsort(-posterior.ravel()[where])]
    rows, cols = np.divmod(where, len(posterior))
    return Mass(rows, cols, posterior.ravel()[where].astype(float), len(posterior), leaf_m)


def spikes(*where, side=16):
    posterior = np.zeros((side, side))
    for row, col, probability in where:
        posterior[row, col] = probability
    return posterior


@st.composite
def posteriors(draw):
    """Flat ones, spiky ones, and ones with empty ground, of sides that blocks do and do not divide."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    side = draw(st.sampled_from([1, 2, 5, 9, 16, 25]))
    posterior = rng.dirichlet(np.full(side**2, draw(st.sampled_from([0.02, 0.3, 10.0])))).reshape(side, side)
    return np.where(rng.random((side, side)) < draw(st.sampled_from([0.0, 0.7])), 0, posterior)


radii = st.sampled_from([3.0, 10.0, 40.0, 55.5, 90.0, 170.0])


def fine_map(posterior):
    return np.kron(posterior, np.full((FINE, FINE), 1 / FINE**2))


def held_everywhere(posterior, radius_m, leaf_m=LEAF_M):
    """What lies within the radius of each fine point, one after the other: (FINE side, FINE side)."""
    step_m = leaf_m / FINE
    reach = int(radius_m / step_m) + 1
    south, east = np.mgrid[-reach : reach + 1, -reach : reach + 1] * step_m
    disc = (np.hypot(south, east) <= radius_m).astype(float)
    return fftconvolve(fine_map(posterior), disc, mode="same")


def within(posterior, spot, radius_m, leaf_m=LEAF_M):
    """Which fine points lie within the radius of a spot."""
    lines = (np.arange(len(posterior) * FINE) + 0.5) * leaf_m / FINE
    return np.hypot(lines[None] - spot[0], lines[:, None] - spot[1]) <= radius_m * (1 + 1e-6)


def best_point(posterior, radius_m):
    (spot,) = distinct_spots(mass_of(posterior), radius_m=radius_m, top_k=1)
    return spot[:2]


@given(row=st.integers(0, 15), col=st.integers(0, 15))
def test_a_single_leaf_is_answered_with_its_centre(row, col):
    point = best_point(spikes((row, col, 1.0)), radius_m=40)
    assert point == pytest.approx(((col + 0.5) * LEAF_M, (row + 0.5) * LEAF_M), abs=1e-6)


def test_two_halves_beat_a_larger_whole_when_one_point_serves_both():
    posterior = spikes((2, 2, 0.4), (9, 9, 0.3), (9, 10, 0.3))
    point = best_point(posterior, radius_m=40)
    assert point == pytest.approx((10 * LEAF_M, 9.5 * LEAF_M), abs=LEAF_M / 4)  # the edge between the two


def test_without_any_probability_there_is_no_place():
    assert distinct_spots(mass_of(spikes()), radius_m=40, top_k=3) == []


@given(posteriors(), radii)
def test_the_best_point_is_that_of_brute_force(posterior, radius_m):
    assume(posterior.sum() > 1e-6)
    held = held_everywhere(posterior, radius_m)
    (spot,) = distinct_spots(mass_of(posterior), radius_m=radius_m, top_k=1)
    assert spot.probability >= ENOUGH * held.max() - 1e-9
    assert spot.probability == pytest.approx(fine_map(posterior)[within(posterior, spot, radius_m)].sum())
    # The middle of what one of the best points holds, or that point itself.
    lines = (np.arange(len(held)) + 0.5) * LEAF_M / FINE
    allowed = []
    for row, col in np.argwhere(held >= held.max() - 1e-12):
        point = lines[col], lines[row]
        near = fine_map(posterior) * within(posterior, point, radius_m)
        middle = (near.sum(axis=0) @ lines / near.sum(), near.sum(axis=1) @ lines / near.sum())
        allowed += [point, middle]
    assert min(math.dist(spot[:2], point) for point in allowed) < 1e-6


def test_a_middle_that_holds_little_is_no_answer():
    ring = [(8 + round(4 * math.sin(a)), 8 + round(4 * math.cos(a))) for a in np.linspace(0, 2 * np.pi, 24)]
    posterior = spikes(*((row, col, 1.0) for row, col in ring))
    posterior[8, 12] = 3.0
    (spot,) = distinct_spots(mass_of(posterior / posterior.sum()), radius_m=60, top_k=1)
    assert spot.probability >= ENOUGH * held_everywhere(posterior / posterior.sum(), 60).max()


@given(posteriors(), radii, st.integers(1, 6))
def test_places_are_apart_and_share_no_probability(posterior, radius_m, top_k):
    spots = distinct_spots(mass_of(posterior), radius_m=radius_m, top_k=top_k)
    assert len(spots) <= top_k
    for i, spot in enumerate(spots):
        assert all(math.dist(spot[:2], other[:2]) >= radius_m - 1e-6 for other in spots[:i])
        assert spot.probability > 0
        # Best first, but for what moving to the middle costs one and brings the other.
        assert all(spot.probability <= other.probability / 0.8 for other in spots[:i])
    assert sum(spot.probability for spot in spots) <= posterior.sum() + 1e-9


def test_distinct_places_are_the_peaks_in_order_not_the_shoulders_of_the_first():
    posterior = spikes((2, 2, 0.3), (2, 3, 0.28), (3, 2, 0.02), (12, 4, 0.25), (7, 13, 0.15))
    spots = distinct_spots(mass_of(posterior), radius_m=60, top_k=3)
    assert [(int(s.south_m // LEAF_M), int(s.east_m // LEAF_M)) for s in spots[1:]] == [(12, 4), (7, 13)]
    assert [s.probability for s in spots] == pytest.approx([0.6, 0.25, 0.15], abs=0.01)


def test_places_end_where_the_probability_does():
    assert len(distinct_spots(mass_of(spikes((5, 5, 0.7), (10, 10, 0.3))), radius_m=60, top_k=5)) == 2


def test_a_large_radius_sees_the_same_in_coarser_leaves():
    posterior = np.random.default_rng(0).dirichlet(np.full(64**2, 0.01)).reshape(64, 64)
    radius_m = 20 * LEAF_M
    (spot,) = distinct_spots(mass_of(posterior), radius_m=radius_m, top_k=1)
    assert spot.probability == pytest.approx(held_everywhere(posterior, radius_m).max(), rel=0.05)
    assert fine_map(posterior)[within(posterior, spot, radius_m)].sum() == pytest.approx(
        spot.probability, rel=0.05
    )


@pytest.mark.parametrize("radius_m", [1e4, 1e7])
def test_a_radius_beyond_the_map_holds_everything(radius_m):
    posterior = np.random.default_rng(0).dirichlet(np.full(256, 0.1)).reshape(16, 16)
    (spot,) = distinct_spots(mass_of(posterior), radius_m=radius_m, top_k=3)
    assert spot.probability == pytest.approx(1)
    assert 0 <= spot.east_m <= 16 * LEAF_M and 0 <= spot.south_m <= 16 * LEAF_M


def test_radii_holding():
    posterior = spikes((5, 5, 0.6), (5, 8, 0.3), (15, 15, 0.1))
    point = (5.3 * LEAF_M, 5.8 * LEAF_M)
    half_m, most_m, all_m = radii_holding(mass_of(posterior), point, [0.5, 0.8, 1.0])
    rng = np.random.default_rng(0)  # points of the photo, were it taken where the leaves say
    corners = np.array([[5, 5], [8, 5], [15, 15]])[rng.choice(3, 20_000, p=[0.6, 0.3, 0.1])]
    away_m = np.hypot(*((corners + rng.random((20_000, 2))) * LEAF_M - point).T)
    assert (away_m <= half_m).mean() == pytest.approx(0.5, abs=0.04)
    assert (away_m <= most_m).mean() == pytest.approx(0.8, abs=0.02)
    assert all_m == pytest.approx(LEAF_M * math.hypot(15.5 - 5.3, 15.5 - 5.8)), (
        "far leaves count by their centres"
    )
    assert math.isnan(radii_holding(mass_of(posterior * 0.5), point, [0.9])[0])


def test_areas_holding():
    mass = mass_of(spikes((5, 5, 0.6), (5, 8, 0.3), (1, 1, 0.05)))
    half, most, too_much = areas_holding(mass, [0.5, 0.9, 0.96])
    assert (half, most) == (LEAF_M**2, 2 * LEAF_M**2) and math.isnan(too_much)


@given(posteriors(), st.floats(0.01, 1))
def test_no_fewer_leaves_hold_as_much(posterior, share):
    ranked = np.sort(posterior.ravel())[::-1].cumsum()
    (area_m2,) = areas_holding(mass_of(posterior), [share * posterior.sum()])
    if posterior.sum() > 0:
        n = round(area_m2 / LEAF_M**2)
        assert ranked[n - 1] >= share * posterior.sum() - 2e-6
        assert n == 1 or ranked[n - 2] < share * posterior.sum()


def test_an_outline_is_the_ground_of_the_likeliest_leaves():
    posterior = np.random.default_rng(1).dirichlet(np.full(256, 0.1)).reshape(16, 16).astype(np.float32)
    area_m2 = 20 * GRID.leaf_m**2
    ground = outline(posterior, area_m2, GRID)
    assert ground.is_valid and all(part.exterior.is_ccw for part in ground.geoms)
    likeliest = {tuple(where) for where in np.argwhere(posterior >= np.sort(posterior, axis=None)[-20])}
    for row, col in np.ndindex(16, 16):
        lat, lon = GRID.unproject(*GRID.centre(Cell(2, row, col)))
        assert ground.contains(shapely.Point(lon, lat)) == ((row, col) in likeliest)
    assert outline(posterior, math.nan, GRID).is_empty


def test_leaves_of_a_search_become_mass_where_the_map_has_them():
    leaves = Leaves(np.array([[0, 5], [15, 15]]), np.array([0.7, 0.3]))
    mass, posterior = as_mass(leaves, GRID), leaf_map(leaves, GRID)
    assert (mass.side, mass.leaf_m) == (16, 40.0)
    assert posterior[mass.rows, mass.cols] == pytest.approx(mass.probabilities)
