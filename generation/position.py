"""Positions for attention: rotary embedding."""

import torch
from torch import Tensor


def rope_frequencies(head_dim: int, theta: float = 10_000.0) -> Tensor:
    """Angular frequencies of rotary position embedding (RoFormer, arXiv 2104.09864): (head_dim / 2,)."""
    return theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)


def rotate(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """Rotate queries or keys by their position, in the "rotate-half" layout.

    x: (B, heads, T, head_dim). positions: (T,). frequencies: (head_dim / 2,). Returns x's shape and dtype.
    """
    angles = positions[:, None].float() * frequencies.float()  # (T, head_dim / 2)
    cos, sin = angles.cos(), angles.sin()
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)
