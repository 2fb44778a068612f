"""Heads: from what the core hands on to the logits of codes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.core import AdaLN


class ModulatedHead(nn.Module):
    """A linear layer over LayerNormed tokens that the condition scales and shifts, as in VAR."""

    def __init__(self, width: int, n_codes: int) -> None:
        super().__init__()
        self.modulation = AdaLN(width, 2)
        self.linear = nn.Linear(width, n_codes)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x: (B, T, width); modulation: of the condition, (B, 1, 2, width). Returns (B, T, codes)."""
        scale, shift = modulation.unbind(2)
        return self.linear(torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), scale + 1))
