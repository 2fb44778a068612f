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


class SelfAttention(nn.Module):
    """Multi-head attention with rotary positions and no biases; causal within the tokens it is given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, frequencies: Tensor, cache: Cache | None, layer: int) -> Tensor:
        """x: (B, T, width), the newest T tokens; those in `cache` come before them."""
        start = 0 if cache is None else cache.length(layer)
        positions = torch.arange(start, start + x.shape[1], device=x.device)
        query, key, value = (self._split(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        query, key = rotate(query, positions, frequencies), rotate(key, positions, frequencies)
        if cache is not None:
            key, value = cache.put(layer, key, value)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=_causal(query, key))
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, head_dim)


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


class CrossAttention(nn.Module):
    """Multi-head attention from tokens to others, without biases and positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        """x: (B, T, width), others: (B, S, width); all of them are seen."""
        query, key, value = (
            p(t).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for p, t in ((self.q_proj, x), (self.k_proj, others), (self.v_proj, others))
        )
        return self.out_proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


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
