"""Which way a camera looked: densities over the circle, as exponentials of a few waves.

A density is exp(Σₖ aₖ cos k·heading + bₖ sin k·heading), divided by its integral: a von Mises density for one wave,
and with more of them one that can also say "along the street, this way or that" (the generalized von Mises family of
Gatto and Jammalamadaka, 2007). Headings are degrees clockwise from a north that the caller knows.
"""

import math

import torch
from torch import Tensor

BINS = 72  # on which densities are integrated and written down: every 5 degrees, the first at north
BIN_DEG = 360 / BINS


def log_densities(waves: Tensor) -> Tensor:
    """waves: (…, 2 K), cosines before sines -> (…, BINS) logarithms of probabilities that sum to 1."""
    centres = torch.arange(BINS, device=waves.device) * BIN_DEG
    return (waves.float() @ _basis(centres, waves.shape[-1] // 2).T).log_softmax(-1)


def heading_loss(waves: Tensor, heading_deg: Tensor) -> Tensor:
    """-log of the density, relative to a uniform one, at headings (B,), nan where unknown; waves (B, 2 K). The mean
    over known ones."""
    known = ~heading_deg.isnan()
    basis = _basis(heading_deg.nan_to_num(), waves.shape[-1] // 2)
    height = (waves.float() * basis).sum(-1)
    centres = torch.arange(BINS, device=waves.device) * BIN_DEG
    grid = waves.float() @ _basis(centres, waves.shape[-1] // 2).T  # (B, BINS)
    loss = grid.logsumexp(-1) - math.log(BINS) - height
    return (loss * known).sum() / known.sum().clamp(min=1)


def _basis(heading_deg: Tensor, n_waves: int) -> Tensor:
    """(N,) -> (N, 2 K) cosines and sines."""
    angle = heading_deg.float().deg2rad()[:, None] * torch.arange(1, n_waves + 1, device=heading_deg.device)
    return torch.cat([angle.cos(), angle.sin()], dim=1)
