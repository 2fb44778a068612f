"""The optimizer for matrices: what its update is, and that it learns where AdamW's own scale is kept."""

import pytest
import torch

from zoomloc.muon import Muon


@pytest.mark.parametrize("shape", [(24, 24), (16, 48), (48, 16)])
def test_an_update_has_singular_values_alike_and_the_gradients_directions(shape):
    torch.manual_seed(0)
    matrix = torch.zeros(shape, requires_grad=True)
    gradient = torch.randn(shape) @ torch.diag(torch.logspace(0, -2, shape[1]))
    matrix.grad = gradient.clone()
    Muon([matrix], lr=1.0, weight_decay=0.0).step()
    moved = -matrix.detach() / (0.2 * max(shape) ** 0.5)
    values = torch.linalg.svdvals(moved)
    assert values[0] < 1.3
    assert values[len(values) // 2] > 0.6  # the gradient's own fall off to a tenth by there
    assert (moved * gradient).sum() > 0.8 * torch.linalg.svdvals(gradient).sum()


def test_weights_decay_without_a_gradient():
    matrix = torch.ones(4, 4, requires_grad=True)
    matrix.grad = torch.zeros(4, 4)
    Muon([matrix], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(matrix.detach(), torch.full((4, 4), 0.95))


def test_it_solves_an_ill_conditioned_problem():
    torch.manual_seed(0)
    inputs = torch.randn(256, 16) @ torch.diag(torch.logspace(0, -1.5, 16))
    truth = torch.randn(16, 16)
    matrix = torch.zeros(16, 16, requires_grad=True)
    optimizer = Muon([matrix], lr=0.05, weight_decay=0.0)
    first = last = None
    for _ in range(200):
        loss = (inputs @ (matrix - truth)).square().mean()
        matrix.grad = torch.autograd.grad(loss, matrix)[0]
        optimizer.step()
        first, last = first or float(loss.detach()), float(loss.detach())
    assert last < first / 100
