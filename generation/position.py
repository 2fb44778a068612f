"""Positions for attention: rotary embedding (RoFormer, arXiv 2104.09864).

Cosines and sines are (T, head_dim / 2) each: an angle for every pair of numbers of a query or key. The two layouts
differ in which numbers make a pair.
"""

import torch
from torch import Tensor

Rotary = tuple[Tensor, Tensor]


def rope_frequencies(head_dim: int, theta: float = 10_000.0) -> Tensor:
    """Angular frequencies: (head_dim / 2,)."""
    return theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)


def rope(positions: Tensor, frequencies: Tensor) -> Rotary:
    """positions: (T,), of a line. Returns cosines and sines."""
    angles = positions[:, None].float() * frequencies.float()
    return angles.cos(), angles.sin()


def rope_2d(side: int, head_dim: int, theta: float = 10_000.0) -> Rotary:
    """Cosines and sines of a square map row by row: the first half of the pairs turns with the row, the second with
    the column."""
    frequencies = rope_frequencies(head_dim // 2, theta)
    line = torch.arange(side, dtype=torch.float32)[:, None] * frequencies  # (side, head_dim / 4)
    rows, columns = line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)
    angles = torch.cat([rows, columns], dim=-1).flatten(0, 1)
    return angles.cos(), angles.sin()


def rotate_halves(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate queries or keys (B, heads, T, head_dim); number i makes a pair with number i + head_dim / 2."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat(_turned(first, second, rotary), dim=-1).to(x.dtype)


def rotate_neighbours(x: Tensor, rotary: Rotary) -> Tensor:
    """Likewise; number 2 i makes a pair with number 2 i + 1."""
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack(_turned(first, second, rotary), dim=-1).flatten(-2).to(x.dtype)


def _turned(first: Tensor, second: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    cos, sin = rotary
    return first * cos - second * sin, second * cos + first * sin
