"""From a search to probabilities over leaves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.search import Found, best_first
from zoomloc.grid import Grid
from zoomloc.posterior import Leaves, as_leaves, leaf_map, rows_cols

GRID = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 640.0, 4, 2)


def test_leaf_map_puts_every_path_where_the_grid_has_it():
    posterior = leaf_map(Leaves(np.array([[0, 5], [15, 15], [3, 12]]), np.array([0.5, 0.3, 0.2])), GRID)
    assert posterior.shape == (16, 16)
    assert posterior[1, 1] == pytest.approx(0.5)
    assert posterior[15, 15] == pytest.approx(0.3)
    assert posterior[3, 12] == pytest.approx(0.2)
    assert posterior.sum() == pytest.approx(1)


@given(branch=st.integers(2, 5), depth=st.integers(1, 5), data=st.data())
def test_rows_and_columns_are_those_of_the_grid(branch, depth, data):
    grid = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 640.0, branch, depth)
    path = st.lists(st.integers(0, branch**2 - 1), min_size=depth, max_size=depth)
    paths = data.draw(st.lists(path, min_size=1, max_size=5))
    rows, cols = rows_cols(np.array(paths), branch)
    assert list(zip(rows, cols, strict=True)) == [grid.cell(tuple(path))[1:] for path in paths]


def tree(seed, *, here=1.0, n=16):
    """A random Markov tree of two levels in which the root says with this probability that the photo is here."""
    logits = np.random.default_rng(seed).normal(scale=2, size=(1 + n, n + 1))
    table = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    table[0, :-1] *= here / table[0, :-1].sum()
    table[0, -1] = 1 - here
    return lambda nodes: np.log(np.maximum(table[nodes], 1e-300))


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1), st.sampled_from([0.0, 0.01, 0.3, 1.0]))
def test_what_is_given_out_sums_to_one_and_bounds_the_whole_posterior(seed, here, epsilon):
    expand = tree(seed, here=here)
    whole = as_leaves(best_first(expand, n_choices=16, depth=2), GRID)
    part = as_leaves(best_first(expand, n_choices=16, depth=2, epsilon=epsilon, at_once=1), GRID)
    for leaves in (whole, part):
        assert leaves.probabilities.sum() + leaves.not_here + leaves.unexpanded == pytest.approx(1, abs=1e-9)
        assert leaves.not_here == pytest.approx(1 - here, abs=1e-9), "the root alone says what is not here"
    assert whole.unexpanded == 0
    exact, bounded = leaf_map(whole, GRID), leaf_map(part, GRID)
    assert (bounded <= exact + 1e-6).all(), "every leaf has at least what it is given"
    assert exact[bounded == 0].sum() <= part.unexpanded + 1e-5, "leaves not found have at most the unexpanded"


def test_a_wrong_branch_gives_its_probability_back_to_the_others():
    found = Found(np.array([5, 16]), np.array([0.3, 0.1]), np.array([0.2, 0.3]), unexpanded=0.1)
    leaves = as_leaves(found, GRID)
    assert leaves.paths.tolist() == [[0, 5], [1, 0]]
    assert leaves.probabilities == pytest.approx([0.3 * 0.8 / 0.5, 0.1 * 0.8 / 0.5])
    assert leaves.unexpanded == pytest.approx(0.1 * 0.8 / 0.5)
    assert leaves.not_here == 0.2 and leaves.here == 0.8


def test_a_photo_that_every_branch_refuses_is_not_here():
    found = Found(np.empty(0, np.int64), np.empty(0), np.array([0.2, 0.8]), unexpanded=0.0)
    leaves = as_leaves(found, GRID)
    assert leaves.paths.shape == (0, 2) and leaves.not_here == 1 and leaves.here == 0
