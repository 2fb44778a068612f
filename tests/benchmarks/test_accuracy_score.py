"""Scores of made-up answers, whose figures follow by hand."""

import math

import numpy as np
import pytest

from benchmarks.accuracy.report import columns
from benchmarks.accuracy.score import Gallery, guess, score, without_posterior
from zoomloc.evaluate import joined
from zoomloc.grid import Grid
from zoomloc.posterior import Leaves

WEST, NORTH = 500_000.0, 5_000_000.0
GRID = Grid("EPSG:32632", (WEST, NORTH), 640.0, 4, 2)  # 16 x 16 leaves of 40 m
LEAF_M2 = 1600.0
EVERYWHERE = Gallery.all_leaves(GRID)


def at(east_m, south_m):
    return np.array([[WEST + east_m, NORTH - south_m]])


def leaves(*masses, not_here=0.0):
    """Leaves (row, col, probability), most probable first."""
    paths = [GRID.path(GRID.cell_at(WEST + 40 * col + 20, NORTH - 40 * row - 20)) for row, col, _ in masses]
    return Leaves(np.array(paths).reshape(-1, 2), np.array([p for *_, p in masses], float), not_here)


def one(found, xy, gallery=EVERYWHERE, answer="leaf centre"):
    """Error, right, nll, leaves needed of one photo."""
    outcomes = score([found], GRID, xy, gallery, answer)
    values = (outcomes.errors_m, outcomes.right[:, 0], outcomes.nll, outcomes.areas_m2 / LEAF_M2)
    return tuple(float(value[0]) for value in values)


def test_all_leaves_by_the_centre_of_the_best():
    found = leaves((3, 5, 0.5), (3, 6, 0.3), (0, 0, 0.2))
    error_m, right, nll, needed = one(
        found, at(6 * 40 + 20, 3 * 40 + 50)
    )  # 30 m south of the centre of (3, 6)
    assert (error_m, right) == (pytest.approx(math.hypot(40, 30)), 0)
    error_m, right, nll, needed = one(found, at(6 * 40 + 20, 3 * 40 + 25))
    assert (error_m, right, needed) == (pytest.approx(math.hypot(40, 5)), 0, 2)
    assert nll == pytest.approx(-math.log(0.3))
    assert one(found, at(5 * 40 + 10, 3 * 40 + 20)) == pytest.approx((10, 1, -math.log(0.5), 1))


def test_the_best_point_lies_between_two_likely_leaves():
    error_m, right, *_ = one(leaves((3, 5, 0.5), (3, 6, 0.5)), at(6 * 40, 3 * 40 + 20), answer="best point")
    assert error_m < 6
    assert right in (0, 1)


def test_probabilities_are_those_given_that_the_photo_is_here():
    found = leaves((3, 5, 0.2), (9, 9, 0.05), not_here=0.75)
    assert one(found, at(5 * 40 + 20, 3 * 40 + 20))[2] == pytest.approx(-math.log(0.8))


def test_a_leaf_that_was_not_found_comes_after_those_that_were():
    *_, nll, needed = one(leaves((3, 5, 0.6), (3, 6, 0.4)), at(620, 620))
    assert nll == pytest.approx(-math.log(1e-12))
    assert needed == (2 + 1 + 256) / 2


def test_among_leaves_that_are_equal_the_middle_counts():
    found = leaves((0, 0, 0.4), (0, 1, 0.2), (0, 2, 0.2), (0, 3, 0.2))
    assert one(found, at(100, 20))[3] == 3


def test_among_leaves_that_hold_a_query_the_others_do_not_count():
    queries = np.concatenate([at(20, 20), at(25, 30), at(620, 620)])
    gallery = Gallery.of_queries(GRID, queries)
    assert gallery.numbers.tolist() == [0, 255]
    found = leaves((3, 5, 0.7), (15, 15, 0.2), (0, 0, 0.1))
    assert one(found, at(620, 630), gallery) == pytest.approx((10, 1, -math.log(2 / 3), 1))
    error_m, right, nll, needed = one(found, at(20, 20), gallery, "best point")
    assert (error_m, right, needed) == (
        pytest.approx(600 * math.sqrt(2)),
        0,
        2,
    )  # a leaf's centre all the same
    assert nll == pytest.approx(-math.log(1 / 3))
    assert one(found, at(620, 630))[:2] == (
        pytest.approx(math.hypot(400, 500), rel=0.05),
        0,
    )  # the galleries differ


def test_where_nothing_of_the_gallery_was_found_the_photo_is_lost():
    gallery = Gallery.of_queries(GRID, at(20, 20))
    error_m, right, nll, needed = one(leaves((3, 5, 1.0)), at(20, 20), gallery)
    assert (error_m, right, needed) == (math.inf, 0, 1)
    assert nll == pytest.approx(-math.log(1e-12))


def test_columns_are_shares_of_photos():
    near, far = (
        score([leaves((0, 0, 1.0))], GRID, xy, EVERYWHERE, "leaf centre") for xy in (at(28, 20), at(65, 20))
    )
    told = columns(joined([near, far, far]))
    assert told["recall"] == pytest.approx({5: 0, 10: 1 / 3, 25: 1 / 3, 40: 1 / 3, 50: 1, 100: 1})
    assert told["median_m"] == pytest.approx(45)
    assert told["strict"] == pytest.approx(1 / 3)
    assert told["nll"] == pytest.approx(-2 / 3 * math.log(1e-12))
    assert told["area_recall"][0.0016] == pytest.approx(1 / 3)
    hidden = columns(without_posterior(near))
    assert hidden["nll"] is hidden["area_recall"] is None


def test_guesses_are_as_good_as_the_gallery_is_large():
    xy = np.concatenate([at(20 + 40 * i, 20 + 40 * i) for i in range(16)])
    everywhere = columns(guess(GRID, np.repeat(xy, 20, axis=0), EVERYWHERE, seed=0))
    queries = columns(guess(GRID, np.repeat(xy, 20, axis=0), Gallery.of_queries(GRID, xy), seed=0))
    assert everywhere["strict"] == pytest.approx(1 / 256, rel=0.3)
    assert queries["strict"] == pytest.approx(1 / 16, rel=0.1)
    assert (everywhere["nll"], queries["nll"]) == pytest.approx((math.log(256), math.log(16)))
    assert everywhere["area_recall"][0.1] == pytest.approx(62 / 256, rel=0.1)


def test_a_photo_held_to_be_elsewhere_is_answered_by_the_first_leaf():
    found = leaves((3, 5, 0.0), (3, 6, 0.0), not_here=1.0)
    error_m, right, nll, _ = one(found, at(5 * 40 + 20, 3 * 40 + 20), answer="best point")
    assert (error_m, right, nll) == pytest.approx((0, 1, -math.log(1e-12)))
