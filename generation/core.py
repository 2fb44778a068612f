"""The transformer of the scale-wise models: pre-norm blocks of attention and a gated feed-forward net.

Attribute names follow the published zoom decoder, so that its checkpoints load without renaming.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.cache import Cache
from generation.position import rotate


class RMSNorm(nn.Module):
    """Root-mean-square norm (arXiv 1910.07467) over the last axis, computed in float32."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
        return (x.float() * scale).to(x.dtype) * self.weight


class _Attention(nn.Module):
    """The projections of multi-head attention, without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, head_dim)

    def _project(self, x: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x, keys and values of others: (B, heads, T or S, head_dim)."""
        return self._split(self.q_proj(x)), self._split(self.k_proj(others)), self._split(self.v_proj(others))

    def _joined(self, heads: Tensor) -> Tensor:
        return self.out_proj(heads.transpose(1, 2).flatten(2))


class SelfAttention(_Attention):
    """Attention with rotary positions; causal within the tokens it is given."""

    def forward(self, x: Tensor, frequencies: Tensor, cache: Cache | None, layer: int) -> Tensor:
        """x: (B, T, width), the newest T tokens; those in `cache` come before them."""
        start = 0 if cache is None else cache.length(layer)
        positions = torch.arange(start, start + x.shape[1], device=x.device)
        query, key, value = self._project(x, x)
        query, key = rotate(query, positions, frequencies), rotate(key, positions, frequencies)
        if cache is not None:
            key, value = cache.put(layer, key, value)
        return self._joined(F.scaled_dot_product_attention(query, key, value, attn_mask=_causal(query, key)))


class CrossAttention(_Attention):
    """Attention from tokens to others, without positions."""

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        """x: (B, T, width), others: (B, S, width); all of them are seen."""
        return self._joined(F.scaled_dot_product_attention(*self._project(x, others)))


def _causal(query: Tensor, key: Tensor) -> Tensor | None:
    """True where a query may look: at itself and what came before. (T, S), the queries being the last T of S."""
    new, total = query.shape[2], key.shape[2]
    if new == 1:
        return None
    return torch.ones(new, total, dtype=torch.bool, device=query.device).tril(total - new)


class SwiGLU(nn.Module):
    """Gated feed-forward net (arXiv 2002.05202); the hidden width is 2/3 of `width`, rounded up to 256."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = -(-2 * width // (3 * 256)) * 256
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """Pre-norm residual block: attention, then the feed-forward net."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.ffn = SwiGLU(width)
        self.norm1 = RMSNorm(width)
        self.norm2 = RMSNorm(width)

    def forward(self, x: Tensor, frequencies: Tensor, cache: Cache | None = None, layer: int = 0) -> Tensor:
        x = x + self.self_attn(self.norm1(x), frequencies, cache, layer)
        return x + self.ffn(self.norm2(x))


class CrossBlock(nn.Module):
    """Pre-norm residual block of tokens that read others: attention, then the feed-forward net."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cross_attn = CrossAttention(width, heads)
        self.ffn = SwiGLU(width)
        self.norm1 = RMSNorm(width)
        self.norm2 = RMSNorm(width)

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        x = x + self.cross_attn(self.norm1(x), others)
        return x + self.ffn(self.norm2(x))
