"""Tree search against trees small enough to enumerate by hand."""

import itertools

import pytest
import torch

from generation.search import tree_search

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
        return torch.stack([logits_of(i // n, p) for i, p in enumerate(flat)]).unflatten(0, (batch, n))

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
