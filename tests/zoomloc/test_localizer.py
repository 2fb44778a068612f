"""From the leaves of a search to a prediction."""

import math

import numpy as np
import pytest

from zoomloc.localizer import predict
from zoomloc.posterior import Leaves, leaf_map

NORTH_WEST_LEAF, BESIDE_IT, FAR = (0, 0, 0), (0, 0, 1), (15, 15, 15)  # of a world of 64 x 64 leaves of 40 m


def found(*leaves, **rest):
    paths, probabilities = zip(*leaves, strict=True)
    return Leaves(np.array(paths), np.array(probabilities), **rest)


@pytest.fixture
def region(make_world):
    return make_world(depth=3).region


def position(region, prediction):
    """Metres east and south of the north-west corner."""
    x, y = region.grid.project(prediction.lat, prediction.lon)
    return x - region.north_west[0], region.north_west[1] - y


def test_the_posterior_answers_with_the_point_that_serves_most(region):
    leaves = found((FAR, 0.4), (NORTH_WEST_LEAF, 0.3), (BESIDE_IT, 0.2), not_here=0.1)
    prediction = predict(leaves, region, "a.jpg", "posterior", top_k=5, radius_m=60)
    assert position(region, prediction) == pytest.approx((36, 20), abs=1)
    assert prediction.path == NORTH_WEST_LEAF and prediction.probability == pytest.approx(0.3)
    assert [place.probability for place in prediction.places] == pytest.approx([0.5, 0.4], abs=0.01)
    assert (prediction.places[0].lat, prediction.places[0].lon) == (prediction.lat, prediction.lon)
    assert [place.path for place in prediction.places] == [NORTH_WEST_LEAF, FAR]
    assert prediction.radius_m == 60 and prediction.not_here == 0.1
    assert (prediction.posterior == leaf_map(leaves, region.grid)).all()


def test_shares_are_of_the_probability_that_the_photo_is_here(region):
    leaves = found((NORTH_WEST_LEAF, 0.3), (BESIDE_IT, 0.19), (FAR, 0.01), not_here=0.4, unexpanded=0.1)
    prediction = predict(leaves, region, "a.jpg", "posterior", top_k=1)
    assert prediction.area_50_m2 == 1600  # 0.3 is half of 0.6
    assert math.isnan(prediction.area_90_m2) and math.isnan(prediction.radius_90_m)
    assert prediction.unexpanded == 0.1
    sure = predict(found((NORTH_WEST_LEAF, 0.3), (BESIDE_IT, 0.3), not_here=0.4), region, "a", "posterior", 1)
    assert sure.area_90_m2 == 3200 and sure.radius_90_m < 40


@pytest.mark.parametrize("how", ["greedy", "beam"])
def test_greedy_and_beam_answer_with_the_centre_of_the_best_leaf(region, how):
    prediction = predict(found((NORTH_WEST_LEAF, 0.4), (BESIDE_IT, 0.3)), region, "a.jpg", how, top_k=1)
    assert position(region, prediction) == pytest.approx((20, 20), abs=0.01)
    assert prediction.posterior is None and math.isnan(prediction.radius_90_m)


def test_a_radius_below_a_leaf_is_that_of_a_leaf(region):
    prediction = predict(found((FAR, 1.0)), region, "a.jpg", "posterior", top_k=1, radius_m=5)
    assert prediction.radius_m == 40
    assert position(region, prediction) == pytest.approx((2540, 2540), abs=0.01)


def test_where_no_leaf_is_possible_the_answer_is_the_middle_and_certain_of_nothing(region):
    leaves = Leaves(np.empty((0, 3), np.int64), np.empty(0), not_here=1.0)
    prediction = predict(leaves, region, "a.jpg", "posterior", top_k=3)
    assert position(region, prediction) == pytest.approx((1280, 1280), abs=0.01)
    assert prediction.probability == 0 and prediction.places == () and prediction.not_here == 1
    assert math.isnan(prediction.radius_50_m) and math.isnan(prediction.area_50_m2)
