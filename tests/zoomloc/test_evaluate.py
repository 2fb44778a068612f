"""Metrics against answers whose error is known."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from zoomloc.evaluate import AREAS_KM2, Report, chance, compare, markdown, measure, summary, table
from zoomloc.grid import Grid
from zoomloc.prediction import Prediction

GRID = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 640.0, 4, 2)


def answer(x, y):
    lat, lon = GRID.unproject(x, y)
    path = GRID.path(GRID.cell_at(x, y))
    return Prediction("p", "r", lat, lon, 1.0, 0.0, 0.0, 1600.0, 1600.0, path, (), 40.0, "greedy")


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


TRUTH = np.array([[500_020.0, 4_999_980.0], [500_620.0, 4_999_980.0], [500_300.0, 4_999_700.0]])


def posterior_answer(xy, probability, *, not_here=0.0, above=0):
    """An answer whose posterior gives the true leaf this much, and `above` other leaves more than that."""
    found, cell = answer(*xy), GRID.cell_at(*xy)
    truth = cell.row * 16 + cell.col
    posterior = np.zeros(256, np.float32)
    posterior[[i for i in range(256) if i != truth][:above]] = probability * 1.5 or 0.1
    posterior[truth] = probability
    return replace(found, search="posterior", not_here=not_here, posterior=posterior.reshape(16, 16))


def test_a_posterior_is_measured_by_what_it_gives_the_true_leaf():
    predictions = [
        posterior_answer(TRUTH[0], 0.25),
        posterior_answer(TRUTH[1], 0.1, not_here=0.5, above=5),
        posterior_answer(TRUTH[2], 0.0),
    ]
    outcomes = compare(GRID, TRUTH, predictions)
    assert outcomes.nll == pytest.approx([-math.log(0.25), -math.log(0.1 / 0.5), -math.log(1e-12)])
    assert outcomes.areas_m2[:2] == pytest.approx([1600, 6 * 1600])
    assert outcomes.areas_m2[2] == pytest.approx(257 / 2 * 1600), "all leaves alike: the middle of them"
    metrics = summary(outcomes)
    assert metrics.nll == pytest.approx(outcomes.nll.mean())
    assert metrics.area_recall == {0.0016: 1 / 3, 0.01: 2 / 3, 0.1: 2 / 3, 1.0: 1.0, 10.0: 1.0}


def test_what_a_search_left_out_is_spread_over_the_leaves_it_did_not_find():
    left_out = replace(posterior_answer(TRUTH[0], 0.0, above=5), unexpanded=0.01, not_here=0.2)
    assert compare(GRID, TRUTH[:1], [left_out]).nll == pytest.approx([-math.log(0.01 / 251 / 0.8)])


def test_without_posteriors_nothing_is_said_of_them():
    metrics = measure(GRID, TRUTH, [answer(*xy) for xy in TRUTH])
    assert metrics.nll is None and metrics.area_recall is None


def test_chance_is_an_even_posterior():
    rng = np.random.default_rng(0)
    exact = chance(GRID, TRUTH)
    even = np.full((16, 16), 1 / 256, np.float32) * rng.uniform(1 - 1e-4, 1 + 1e-4, (2000, 16, 16)).astype(
        np.float32
    )
    xy = np.array([500_000, 5_000_000]) + rng.uniform(0, 640, (2000, 2)) * [1, -1]
    found = [replace(answer(*p), posterior=posterior) for p, posterior in zip(xy, even, strict=True)]
    metrics = measure(GRID, xy, found)
    assert metrics.nll == pytest.approx(exact.nll, abs=1e-3) == math.log(256)
    assert [metrics.area_recall[km2] for km2 in AREAS_KM2] == pytest.approx(
        [exact.area_recall[km2] for km2 in AREAS_KM2], abs=0.03
    )


def test_a_report_shows_posteriors_where_there_are_any():
    metrics = {
        "chance": chance(GRID, TRUTH),
        "greedy": measure(GRID, TRUTH, [answer(*xy) for xy in TRUTH]),
        "posterior": measure(GRID, TRUTH, [posterior_answer(xy, 0.25) for xy in TRUTH]),
    }

    def printed(names):
        out = io.StringIO()
        report = Report("d", "test", "r", 3, 0, {name: metrics[name] for name in names})
        Console(file=out, width=140).print(table(report))
        return out.getvalue(), markdown(json.loads(json.dumps(report.as_dict())))

    text, lines = printed(["chance", "greedy", "posterior"])
    assert "NLL" in text and "1.39" in text
    assert [line.split(" | ")[-1].rstrip(" |") for line in lines.splitlines()] == [
        "NLL",
        "---",
        "5.55",
        "–",
        "1.39",
    ]
    text, lines = printed(["chance", "greedy"])
    assert "NLL" not in text
