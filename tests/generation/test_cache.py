"""The cache: growing it token by token is the same as seeing all tokens at once."""

import pytest
import torch

from generation.cache import Cache
from generation.core import Blocks, Context, plain_block
from generation.mask import causal
from generation.position import rope, rope_frequencies, rotate_halves, rotate_neighbours


@pytest.fixture
def net():
    torch.manual_seed(0)
    blocks = Blocks(plain_block(32, 4) for _ in range(2))

    @torch.no_grad()
    def run(tokens, cache=None):
        start = cache.length() if cache else 0
        end = start + tokens.shape[1]
        rotary = rope(torch.arange(start, end), rope_frequencies(8))
        return blocks(tokens, Context(mask=causal(end - start, end), rotary=rotary, cache=cache))

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


@pytest.mark.parametrize("rotate", [rotate_halves, rotate_neighbours])
def test_rotation_depends_on_the_distance_alone(rotate):
    frequencies = rope_frequencies(16)
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def product(i, j):
        turned = [rotate(x, rope(torch.tensor([at]), frequencies)) for x, at in [(q, i), (k, j)]]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(product(3, 1), product(9, 7), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(product(0, 0), (q * k).sum())
