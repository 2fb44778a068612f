"""Metrics against answers whose error is known."""

import numpy as np
import pytest

from zoomloc.evaluate import chance, measure
from zoomloc.grid import Grid
from zoomloc.prediction import Prediction

GRID = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 640.0, 4, 2)


def answer(x, y):
    lat, lon = GRID.unproject(x, y)
    return Prediction("p", "r", lat, lon, 1.0, 0.0, 0.0, GRID.path(GRID.cell_at(x, y)), (), "greedy")


def test_errors_recalls_and_paths():
    truth = np.array([[500_020.0, 4_999_980.0]] * 4)
    offsets = [0.0, 8.0, 45.0, 300.0]  # the third ends in the next leaf, the fourth in another quarter
    metrics = measure(
        GRID, truth, [answer(x + offset, y) for (x, y), offset in zip(truth, offsets, strict=True)]
    )
    assert metrics.recall == {5: 0.25, 10: 0.5, 25: 0.5, 40: 0.5, 50: 0.75, 100: 0.75}
    assert metrics.median_m == pytest.approx((8 + 45) / 2, abs=0.01)
    assert metrics.mean_m == pytest.approx(np.mean(offsets), abs=0.01)
    assert metrics.level_accuracy == (0.75, 0.5)
    assert metrics.path_accuracy == 0.5


def test_chance_is_what_guessing_reaches():
    rng = np.random.default_rng(0)
    xy = np.array([500_000, 5_000_000]) + rng.uniform(0, 640, (50, 2)) * [1, -1]
    guesses = [answer(500_020 + 40 * c, 4_999_980 - 40 * r) for r, c in rng.integers(0, 16, (20_000, 2))]
    guessed = measure(GRID, xy[rng.integers(0, 50, 20_000)], guesses)
    exact = chance(GRID, xy)
    for radius, recall in exact.recall.items():
        assert guessed.recall[radius] == pytest.approx(recall, abs=0.01)
    assert guessed.median_m == pytest.approx(exact.median_m, rel=0.02)
    assert guessed.path_accuracy == pytest.approx(exact.path_accuracy, abs=0.003)
    assert exact.level_accuracy == (1 / 16, 1 / 256)
