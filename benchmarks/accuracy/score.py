"""How far from the truth the answers are, in two galleries that are never mixed."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.rows import Answer
from zoomloc.answer import as_mass, distinct_spots
from zoomloc.baselines import leaves_at
from zoomloc.evaluate import LEAST_PROBABILITY, Outcomes
from zoomloc.grid import Grid
from zoomloc.localizer import ANSWER_RADIUS_M
from zoomloc.posterior import Leaves, rows_cols

ALL_LEAVES = "all leaves"  # the protocol of Just Zoom In
QUERY_LEAVES = "only leaves that hold a query"  # that of retrieval over a gallery of tiles
GALLERIES = (ALL_LEAVES, QUERY_LEAVES)
GUESSES = 64


class Gallery(NamedTuple):
    """Where answers are looked for.

    numbers: of its leaves, row by row; sorted. queries_only: whether these are only those that hold a query, from
    which follows how a method answers: by the centre of the best of them.
    """

    numbers: NDArray[np.int64]
    queries_only: bool

    @classmethod
    def all_leaves(cls, grid: Grid) -> "Gallery":
        return cls(np.arange(grid.n_cells(grid.depth) ** 2), False)

    @classmethod
    def of_queries(cls, grid: Grid, xy: NDArray[np.float64]) -> "Gallery":
        """Of the queries of a split in one city, at xy (N, 2) in the grid's CRS."""
        return cls(np.unique(leaves_at(grid, xy)), True)


def score(
    found: Sequence[Leaves], grid: Grid, xy: NDArray[np.float64], gallery: Gallery, answer: Answer
) -> Outcomes:
    """How each photo came out whose leaves were found; xy (N, 2): where they were taken.

    Of each the probabilities are divided by what the gallery holds. A leaf that was not found has no probability, and
    comes after all that were; among equals the middle counts.
    """
    parts = [
        _score(*each, grid, gallery, answer) for each in zip(found, xy, leaves_at(grid, xy), strict=True)
    ]
    errors_m, right, nll, areas_m2 = (np.array(column) for column in zip(*parts, strict=True))
    return Outcomes(errors_m, right[:, None], nll, areas_m2)


def _score(
    leaves: Leaves, xy: NDArray[np.float64], true: int, grid: Grid, gallery: Gallery, answer: Answer
) -> tuple[float, bool, float, float]:
    side = grid.n_cells(grid.depth)
    rows, cols = rows_cols(leaves.paths, grid.branch)
    numbers, probabilities = rows * side + cols, leaves.probabilities / max(leaves.here, LEAST_PROBABILITY)
    if gallery.queries_only:
        kept = np.isin(numbers, gallery.numbers)
        numbers, probabilities = numbers[kept], probabilities[kept]
        probabilities = probabilities / max(probabilities.sum(), LEAST_PROBABILITY)
    at_true = probabilities[numbers == true]
    value = float(at_true.sum())
    area_m2 = _rank(probabilities, value if len(at_true) else None, len(gallery.numbers)) * grid.leaf_m**2
    nll = -math.log(max(value, LEAST_PROBABILITY))
    if not len(numbers):
        return math.inf, False, nll, area_m2
    row, col = divmod(int(numbers[0]), side)
    east_m, south_m = (col + 0.5) * grid.leaf_m, (row + 0.5) * grid.leaf_m
    if answer == "best point" and not gallery.queries_only:
        radius_m = max(ANSWER_RADIUS_M, grid.leaf_m)
        for spot in distinct_spots(
            as_mass(leaves, grid), radius_m=radius_m, top_k=1
        ):  # none if all are impossible
            east_m, south_m = spot.east_m, spot.south_m
    x, y = grid.north_west[0] + east_m, grid.north_west[1] - south_m
    right = bool(leaves_at(grid, np.array([[x, y]]))[0] == true)
    return math.hypot(x - xy[0], y - xy[1]), right, nll, area_m2


def _rank(probabilities: NDArray[np.float64], value: float | None, n_leaves: int) -> float:
    """How many leaves come up to the one of this probability, itself included; None: to one that was not found."""
    if value is None:
        return (len(probabilities) + 1 + n_leaves) / 2
    return float((probabilities > value).sum() + ((probabilities == value).sum() + 1) / 2)


def guess(grid: Grid, xy: NDArray[np.float64], gallery: Gallery, *, seed: int) -> Outcomes:
    """What guessing blindly reaches: every photo with so many guesses, one after the other."""
    n, side, random = len(gallery.numbers), grid.n_cells(grid.depth), np.random.default_rng(seed)
    xy = np.repeat(xy, GUESSES, axis=0)
    guesses = gallery.numbers[random.integers(n, size=len(xy))]
    x = grid.north_west[0] + (guesses % side + 0.5) * grid.leaf_m
    y = grid.north_west[1] - (guesses // side + 0.5) * grid.leaf_m
    areas_m2 = random.integers(1, n + 1, size=len(xy)) * grid.leaf_m**2
    right = guesses == leaves_at(grid, xy)
    errors_m = np.hypot(x - xy[:, 0], y - xy[:, 1])
    return Outcomes(errors_m, right[:, None], np.full(len(xy), math.log(n)), areas_m2)


def without_posterior(outcomes: Outcomes) -> Outcomes:
    """Of a search that does not look at all leaves: where its answers are, and nothing of probabilities."""
    return Outcomes(outcomes.errors_m, outcomes.right)
