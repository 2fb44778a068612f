"""The benchmark refuses data by which a query could be answered from memory."""

import shutil

import pytest

from benchmarks.accuracy.cities import Cities
from benchmarks.accuracy.leaks import LeakError, check

TOWN = [("train", 100, 100), ("train", 200, 100), ("test", 140, 135), ("test", 400, 400)]
QUERIES = [("test", 100, 100), ("test", 300, 300)]


@pytest.fixture
def town(make_dataset):
    return make_dataset("town", TOWN, ground=10)


@pytest.fixture
def unseen(make_dataset):
    """Other ground at the same place on Earth, as simulated cities are."""
    return make_dataset("unseen", QUERIES, ground=20)


def test_clean_data_pass(town, unseen):
    check(Cities((town,), (unseen,)))


@pytest.mark.parametrize(("distance_m", "leaks"), [(20, True), (29.9, True), (30.1, False)])
def test_a_query_near_a_training_photo_is_found(make_dataset, unseen, distance_m, leaks):
    town = make_dataset("town", [*TOWN, ("test", 200 + distance_m, 100)], ground=10)
    cities = Cities((town,), (unseen,))
    if not leaks:
        check(cities)
        return
    with pytest.raises(LeakError, match=rf"town/4\.png is {distance_m:.1f} m from .*town/1\.png"):
        check(cities)


def test_a_query_near_a_training_photo_of_another_city_on_the_same_ground_is_found(make_dataset, town):
    other = make_dataset("other", [("train", 620, 620), ("test", 100, 115)], ground=10)
    with pytest.raises(LeakError, match=r"other/1\.png is 15.0 m from .*town/0\.png"):
        check(Cities((town, other), ()))


def test_a_photo_that_is_trained_on_under_another_name_is_found(town, unseen):
    shutil.copy(town / "1.png", unseen / "0.png")
    with pytest.raises(LeakError, match=r"query .*unseen/0\.png is trained on as .*town/1\.png"):
        check(Cities((town,), (unseen,)))


def test_an_unseen_city_among_those_trained_on_is_found(make_dataset, town):
    with pytest.raises(LeakError, match="not unseen"):
        check(Cities((town,), (town,)))
    copy = make_dataset("copy", QUERIES, ground=10)
    with pytest.raises(LeakError, match=r"copy: not unseen, .*town is trained on"):
        check(Cities((town,), (), (copy,)))


def test_an_unseen_city_with_photos_to_train_on_is_found(make_dataset, town):
    city = make_dataset("city", [*QUERIES, ("val", 500, 500)], ground=30)
    with pytest.raises(LeakError, match="city: 1 photos to train on"):
        check(Cities((town,), (city,)))
