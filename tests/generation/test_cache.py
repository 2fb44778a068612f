"""The cache: growing it token by token is the same as seeing all tokens at once."""

import pytest
import torch

from generation.cache import Cache
from generation.core import Block
from generation.position import rope_frequencies, rotate


@pytest.fixture
def net():
    torch.manual_seed(0)
    blocks = [Block(32, 4) for _ in range(2)]
    frequencies = rope_frequencies(8)

    def run(tokens, cache=None):
        for layer, block in enumerate(blocks):
            tokens = block(tokens, frequencies, cache, layer)
        return tokens

    return run


@pytest.mark.parametrize("cuts", [[1, 1, 1, 1, 1, 1], [2, 3, 1], [6]])
def test_pieces_equal_the_whole(net, cuts):
    tokens = torch.randn(3, 6, 32)
    cache = Cache(2)
    pieces = [net(piece, cache) for piece in tokens.split(cuts, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), net(tokens))
    assert cache.length() == 6


def test_later_tokens_do_not_change_earlier_ones(net):
    tokens = torch.randn(1, 5, 32)
    changed = tokens.clone()
    changed[:, 4] += 1
    before, after = net(tokens), net(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4], after[:, 4])


def test_take_copies_and_drops_rows(net):
    tokens, more = torch.randn(3, 2, 32), torch.randn(3, 1, 32)
    cache = Cache(2)
    net(tokens, cache)
    rows = torch.tensor([2, 0, 2])
    cache.take(rows)
    expected = net(torch.cat([tokens[rows], more], dim=1))[:, 2:]
    torch.testing.assert_close(net(more, cache), expected)


def test_undo_forgets_what_was_tried(net):
    tokens, tried, meant = torch.randn(1, 2, 32), torch.randn(1, 3, 32), torch.randn(1, 1, 32)
    cache = Cache(2)
    start = cache.mark()
    net(tokens, cache)
    mark = cache.mark()
    net(tried, cache)
    cache.undo(mark)
    assert cache.length() == 2
    torch.testing.assert_close(net(meant, cache), net(torch.cat([tokens, meant], dim=1))[:, 2:])
    cache.undo(start)
    torch.testing.assert_close(net(tokens, cache), net(tokens))


def test_rotation_depends_on_the_distance_alone():
    frequencies = rope_frequencies(16)
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def product(i, j):
        return (rotate(q, torch.tensor([i]), frequencies) * rotate(k, torch.tensor([j]), frequencies)).sum()

    torch.testing.assert_close(product(3, 1), product(9, 7), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(product(0, 0), (q * k).sum())
