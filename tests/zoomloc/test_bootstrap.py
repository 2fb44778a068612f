"""The paired bootstrap: against drawing photos one by one, and its promise to hold the truth."""

import numpy as np
import pytest

from zoomloc.bootstrap import recall_difference


def test_the_interval_is_that_of_drawing_photos_with_replacement():
    rng = np.random.default_rng(0)
    ours, theirs = rng.exponential(30, 150), rng.exponential(50, 150)
    found = recall_difference(ours, theirs, 40)
    picks = rng.integers(0, 150, (20_000, 150))
    drawn = (ours[picks] <= 40).mean(axis=1) - (theirs[picks] <= 40).mean(axis=1)
    assert found.value == pytest.approx((ours <= 40).mean() - (theirs <= 40).mean())
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.011)


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        theirs = rng.uniform(0, 100, 400)  # 40 % within 40 m
        ours = np.where(rng.random(400) < 0.2, 0, theirs)  # a fifth mended: 12 points more
        _, low, high = recall_difference(ours, theirs, 40)
        held += low <= 0.12 <= high
    assert 0.9 < held / 300 <= 0.99


def test_pairs_that_differ_little_are_told_apart_where_photos_that_differ_much_would_hide_it():
    theirs = np.random.default_rng(2).uniform(0, 80, 1000)
    ours = np.where(np.arange(1000) % 50 == 0, 1.0, theirs)
    assert recall_difference(ours, theirs, 40).low > 0
    assert recall_difference(ours, ours, 40) == (0, 0, 0)


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(3)
    errors = rng.exponential(40, (2, 100))
    assert recall_difference(*errors, 25) == recall_difference(*errors, 25)
    assert len({recall_difference(*errors, 25, seed=seed) for seed in range(10)}) > 1


@pytest.mark.parametrize("n", [0, 3])
def test_other_photos_are_refused(n):
    with pytest.raises(ValueError, match="same photos"):
        recall_difference(np.zeros(n), np.zeros(0 if n == 0 else 4), 40)
