"""Which way a camera looked: densities over the circle, as exponentials of a few waves.

A density is exp(Σₖ aₖ cos k·heading + bₖ sin k·heading), divided by its integral: a von Mises density for one wave,
and with more of them one that can also say "along the street, this way or that" (the generalized von Mises family of
Gatto and Jammalamadaka, 2007). Headings are degrees clockwise from a north that the caller knows.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS = 72  # on which densities are integrated and written down: every 5 degrees, the first at north
BIN_DEG = 360 / BINS
ARC_DEG = 15.0  # to each side of the heading that is the answer
FINE = 5  # parts of a bin


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


def likeliest(probabilities: NDArray[np.floating]) -> float:
    """The heading around which the most of the probabilities (BINS,) lies, in degrees: what lies up to 15 degrees away
    counts, the less the farther."""
    reach = round(ARC_DEG / BIN_DEG)
    shifts = range(-reach, reach + 1)
    near = [(1 - abs(shift) / (reach + 1)) * np.roll(probabilities, shift) for shift in shifts]
    return float(np.sum(near, axis=0).argmax()) * BIN_DEG


def arcs_holding(
    probabilities: NDArray[np.floating], heading_deg: float, held: Sequence[float]
) -> list[float]:
    """How far to each side of a heading these shares of the probabilities (BINS,) lie, in degrees, a bin's being spread
    evenly over it."""
    fine = np.repeat(probabilities, FINE) / FINE
    centres = (np.arange(len(fine)) + 0.5) * BIN_DEG / FINE - BIN_DEG / 2
    off = abs((centres - heading_deg + 180) % 360 - 180)
    order = off.argsort(kind="stable")
    reached = fine[order].cumsum()
    last = [min(int(np.searchsorted(reached, share - 1e-6)), len(off) - 1) for share in held]
    return [float(off[order[i]]) for i in last]


def turned(probabilities: NDArray[np.floating], by_deg: float) -> NDArray[np.float64]:
    """Probabilities (BINS,) of headings told from another north, `by_deg` counter-clockwise of theirs."""
    whole, part = divmod(by_deg / BIN_DEG, 1)
    lower = np.roll(probabilities, int(whole))
    return np.asarray((1 - part) * lower + part * np.roll(lower, 1))


def _basis(heading_deg: Tensor, n_waves: int) -> Tensor:
    """(N,) -> (N, 2 K) cosines and sines."""
    angle = heading_deg.float().deg2rad()[:, None] * torch.arange(1, n_waves + 1, device=heading_deg.device)
    return torch.cat([angle.cos(), angle.sin()], dim=1)
