"""Tree search against trees small enough to enumerate by hand."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from generation.search import best_first, tree_search

DEPTH, CHOICES, BATCH = 3, 4, 2


def logits_of(batch, path):
    """Any function of the path will do; a seeded draw is one."""
    generator = torch.Generator().manual_seed(hash((batch, *path)) % 2**31)
    return torch.randn(CHOICES, generator=generator) * 2


class Tree:
    """Answers a search, and holds a "cache" whose rows are the paths themselves, to prove that rows stay aligned."""

    def __init__(self):
        self.rows = [() for _ in range(BATCH)]

    def step(self, paths):
        batch, n, _ = paths.shape
        flat = [tuple(p) for p in paths.flatten(0, 1).tolist()]
        assert [p[:-1] for p in flat] == self.rows or paths.shape[2] == 0
        self.rows = flat
        each = torch.stack([logits_of(i // n, p).log_softmax(0) for i, p in enumerate(flat)])
        return each.unflatten(0, (batch, n))

    def take(self, rows):
        self.rows = [self.rows[r] for r in rows]


def search(width):
    tree = Tree()
    return tree_search(tree.step, tree.take, batch=BATCH, depth=DEPTH, width=width)


def probability(batch, path):
    parts = [logits_of(batch, path[:i]).softmax(0)[choice] for i, choice in enumerate(path)]
    return float(torch.stack(parts).prod())


def test_the_whole_tree_is_the_exact_distribution():
    paths, log_probability = search(None)
    assert paths.shape == (BATCH, CHOICES**DEPTH, DEPTH)
    torch.testing.assert_close(log_probability.exp().sum(1), torch.ones(BATCH))
    for b in range(BATCH):
        assert {tuple(p) for p in paths[b].tolist()} == set(itertools.product(range(CHOICES), repeat=DEPTH))
        for path, log_p in zip(paths[b].tolist(), log_probability[b].tolist(), strict=True):
            assert torch.tensor(log_p).exp() == pytest.approx(probability(b, tuple(path)), rel=1e-5)
    assert (log_probability.diff(dim=1) <= 0).all()


def test_greedy_takes_the_best_choice_each_time():
    paths, log_probability = search(1)
    for b in range(BATCH):
        path = ()
        for _ in range(DEPTH):
            path += (int(logits_of(b, path).argmax()),)
        assert tuple(paths[b, 0].tolist()) == path
        assert float(log_probability[b, 0].exp()) == pytest.approx(probability(b, path), rel=1e-5)


def test_a_wide_beam_is_the_whole_tree_and_a_narrow_one_is_not_worse_than_greedy():
    full, full_p = search(None)
    wide, wide_p = search(CHOICES**DEPTH)
    assert (wide == full).all()
    torch.testing.assert_close(wide_p, full_p)
    assert (search(3)[1][:, 0] >= search(1)[1][:, 0] - 1e-6).all()


class MarkovTree:
    """A random Markov tree for `best_first`: some choices impossible, every node opened is noted."""

    def __init__(self, seed, n, depth):
        rng = np.random.default_rng(seed)
        logits = rng.normal(scale=3, size=((n**depth - 1) // (n - 1), n + 1))
        logits[rng.random(logits.shape) < 0.2] = -np.inf
        logits[np.arange(len(logits)), rng.integers(0, n + 1, len(logits))] = (
            1.0  # something is always possible
        )
        self.table = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
        self.n, self.depth, self.batches = n, depth, []

    def expand(self, nodes):
        assert nodes.dtype == np.int64
        self.batches.append(nodes)
        return self.table[nodes]

    @property
    def opened(self):
        return np.concatenate(self.batches)

    def brute_force(self):
        """Mass of all leaves (n^depth,), of "not here" by level (depth,), of all inner nodes (n_inner,)."""
        mass, not_here, nodes, inner = np.ones(1), [], np.zeros(1, int), []
        for _ in range(self.depth):
            inner.append(mass)
            rows = mass[:, None] * np.exp(self.table[nodes].astype(float))
            not_here.append(rows[:, -1].sum())
            mass = rows[:, :-1].ravel()
            nodes = (self.n * nodes[:, None] + 1 + np.arange(self.n)).ravel()
        return mass, np.array(not_here), np.concatenate(inner)


markov_trees = st.builds(
    MarkovTree, seed=st.integers(0, 2**32 - 1), n=st.integers(2, 5), depth=st.integers(1, 4)
)
batch_sizes = st.integers(1, 40)


@given(markov_trees, st.sampled_from([0.0, 1e-3, 0.1, 0.5, 2.0]), batch_sizes)
def test_what_best_first_found_and_what_it_left_out_sum_to_one(tree, epsilon, at_once):
    found = best_first(tree.expand, n_choices=tree.n, depth=tree.depth, epsilon=epsilon, at_once=at_once)
    total = found.probabilities.sum() + found.not_here.sum() + found.unexpanded
    assert total == pytest.approx(1, abs=1e-5)
    assert (np.diff(found.probabilities) <= 0).all() and (found.probabilities > 0).all()
    everything = len(tree.opened) == (tree.brute_force()[2] > 0).sum()
    assert found.unexpanded < epsilon * found.probabilities.sum() or (everything and found.unexpanded == 0)


@given(markov_trees, batch_sizes)
def test_best_first_without_epsilon_is_brute_force(tree, at_once):
    found = best_first(tree.expand, n_choices=tree.n, depth=tree.depth, at_once=at_once)
    leaves, not_here, inner = tree.brute_force()
    everywhere = np.zeros(tree.n**tree.depth)
    everywhere[found.leaves] = found.probabilities
    np.testing.assert_allclose(everywhere, leaves, atol=1e-5)
    np.testing.assert_allclose(found.not_here, not_here, atol=1e-5)
    assert found.unexpanded == 0
    assert sorted(tree.opened) == np.flatnonzero(inner > 0).tolist(), "every possible node once, no other"


@given(markov_trees, st.sampled_from([1e-3, 0.1, 0.5]), batch_sizes)
def test_leaves_found_early_have_their_true_probability(tree, epsilon, at_once):
    found = best_first(tree.expand, n_choices=tree.n, depth=tree.depth, epsilon=epsilon, at_once=at_once)
    np.testing.assert_allclose(found.probabilities, tree.brute_force()[0][found.leaves], atol=1e-6)


@given(markov_trees, st.integers(1, 3))
def test_each_batch_is_the_most_probable_of_what_is_known(tree, at_once):
    best_first(tree.expand, n_choices=tree.n, depth=tree.depth, at_once=at_once)
    mass, n_inner = tree.brute_force()[2], len(tree.table)
    known = {0}
    for batch in tree.batches:
        likeliest = sorted((mass[list(known)]), reverse=True)[:at_once]
        np.testing.assert_allclose(sorted(mass[batch], reverse=True), likeliest, rtol=1e-4)
        known -= set(batch.tolist())
        children = (tree.n * batch[:, None] + 1 + np.arange(tree.n)).ravel()
        known |= {i for i in children.tolist() if i < n_inner and mass[i] > 0}


def test_a_leaf_number_in_base_n_is_its_path():
    n, depth, path = 16, 4, (3, 0, 15, 7)

    def follow_path(nodes):
        level = int(np.searchsorted([1, 17, 273], nodes[0], side="right"))
        rows = np.full((len(nodes), n + 1), -np.inf)
        rows[:, path[level]] = 0
        return rows

    found = best_first(follow_path, n_choices=n, depth=depth)
    assert [found.leaves[0] // n**i % n for i in reversed(range(depth))] == list(path)
    assert found.probabilities.tolist() == [1]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_what_is_no_distribution_is_refused(value):
    with pytest.raises(ValueError, match="log_softmax"):
        best_first(lambda nodes: np.full((len(nodes), 5), value), n_choices=4, depth=2)
