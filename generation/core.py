"""The transformer of all models here: pre-norm residual blocks.

A block is a row of named parts (attention, cross-attention, a recurrent layer, a feed-forward net), each of which reads
the normed tokens and adds to them. A model chooses the parts, the norm, and whether a condition (the class of an image)
modulates them. The names of parts are the published ones, so that checkpoints of the zoom models load without renaming.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.cache import Cache
from generation.position import Rotary, rotate_halves


class Context(NamedTuple):
    """What the parts of a block are told besides the tokens.

    mask: (T, S) bool, True where a token may look among the S it can see, or None: at all of them. rotary: of the T
    tokens. others: (B, S, width), read by cross-attention. cache: what came before, of `layer` and the following ones.
    control: by layer, what is added to the tokens before it, (B, T, width).
    """

    mask: Tensor | None = None
    rotary: Rotary | None = None
    others: Tensor | None = None
    cache: Cache | None = None
    layer: int = 0
    control: Mapping[int, Tensor] | None = None


NOTHING = Context()
Rotate = Callable[[Tensor, Rotary], Tensor]


class RMSNorm(nn.Module):
    """Root-mean-square norm (arXiv 1910.07467) over the last axis, computed in float32."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
        return (x.float() * scale).to(x.dtype) * self.weight


class Linear(nn.Linear):
    """A linear layer that may be told its bias, where that is put together of others."""

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, self.weight, self.bias if bias is None else bias)


class _Attention(nn.Module):
    """Multi-head attention; a subclass makes queries, keys and values.

    rotate: how rotary positions, where the context has them, turn queries and keys. scale: of their products, by
    default 1 / √head_dim. remembers: whether the tokens before, in the context's cache, are seen.
    """

    rotate: Rotate = staticmethod(rotate_halves)
    scale: float | None = None
    remembers = True

    def __init__(self, width: int, heads: int, *, bias: bool = False) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.out_proj = nn.Linear(width, width, bias=bias)

    def _project(self, x: Tensor, context: Context) -> tuple[Tensor, ...]:
        """Queries, keys and values: (B, heads, T or S, head_dim)."""
        raise NotImplementedError

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, n width) -> (B, n heads, T, head_dim)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """x: (B, T, width), the newest T tokens; those in the cache come before them."""
        query, key, value = self._project(x, context)
        if context.rotary is not None:
            query, key = self.rotate(query, context.rotary), self.rotate(key, context.rotary)
        if context.cache is not None and self.remembers:
            key, value = context.cache.put(context.layer, key, value)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=context.mask, scale=self.scale)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class SelfAttention(_Attention):
    """Attention among the tokens, its three projections apart as in the published zoom decoder."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)

    def _project(self, x: Tensor, context: Context) -> tuple[Tensor, ...]:
        others = x if context.others is None else context.others
        return self._split(self.q_proj(x)), self._split(self.k_proj(others)), self._split(self.v_proj(others))


class CrossAttention(SelfAttention):
    """Attention from the tokens to the context's others, all of which are seen, without positions."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return super().forward(x, Context(others=context.others))


class FusedAttention(_Attention):
    """Attention among the tokens, with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int, *, bias: bool = False, rotate: Rotate = rotate_halves) -> None:
        super().__init__(width, heads, bias=bias)
        self.qkv = Linear(width, 3 * width, bias=False)
        self.rotate = rotate

    def _project(self, x: Tensor, context: Context) -> tuple[Tensor, ...]:
        return self._split(self.qkv(x)).chunk(3, dim=1)


class CosineAttention(FusedAttention):
    """The attention of VAR (arXiv 2404.02905): keys have no bias, and by default queries and keys are of unit length,
    their products scaled by a learned temperature of each head, 100 at most."""

    def __init__(self, width: int, heads: int, *, cosine: bool = True, remembers: bool = True) -> None:
        super().__init__(width, heads, bias=True)
        self.remembers = remembers
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.log_scale = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4.0))) if cosine else None
        self.scale = 1.0 if cosine else 0.25 / math.sqrt(self.head_dim)

    def _project(self, x: Tensor, context: Context) -> tuple[Tensor, ...]:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        query, key, value = self._split(self.qkv(x, bias)).chunk(3, dim=1)
        if self.log_scale is not None:
            query = F.normalize(query, dim=-1) * self.log_scale.clamp(max=math.log(100)).exp()
            key = F.normalize(key, dim=-1)
        return query, key, value


class SwiGLU(nn.Module):
    """Gated feed-forward net (arXiv 2002.05202); the hidden width is 2/3 of `expansion` widths, rounded up to 256."""

    def __init__(self, width: int, expansion: int = 1) -> None:
        super().__init__()
        hidden = -(-2 * expansion * width // (3 * 256)) * 256
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class MLP(nn.Module):
    """Feed-forward net of four widths with the tanh form of GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class AdaLN(nn.Module):
    """Modulation from a condition (DiT, arXiv 2212.09748): n vectors for every row or every token."""

    def __init__(self, width: int, n: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, n * width)
        self.n = n

    def forward(self, condition: Tensor) -> Tensor:
        """(B, 1, width), or (B, T, width) of every token -> (B, 1 or T, n, width)."""
        return self.linear(F.silu(condition)).unflatten(-1, (self.n, -1))


class SharedAdaLN(nn.Module):
    """What a block adds of its own to a modulation that all blocks share."""

    def __init__(self, width: int, n: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.randn(1, 1, n, width) / math.sqrt(width))

    def forward(self, shared: Tensor) -> Tensor:
        """(B, 1 or T, n, width), which the model's one AdaLN made of the condition."""
        return shared + self.offset


class Block(nn.Module):
    """Parts in turn, each of which adds to the tokens what it reads off the normed ones."""

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        norm: Callable[[], nn.Module],
        modulation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.part_names = tuple(parts)
        for i, (name, part) in enumerate(parts.items(), start=1):
            self.add_module(name, part)
            self.add_module(f"norm{i}", norm())
        self.modulation = modulation

    def modulate(self, condition: Tensor) -> Tensor:
        """(B, 1 or T, 3 parts, width) for `forward`: the gates of all parts, then their scales, then their shifts."""
        assert self.modulation is not None
        return cast(Tensor, self.modulation(condition))

    def _parts(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        for i, name in enumerate(self.part_names, start=1):
            yield getattr(self, f"norm{i}"), getattr(self, name)

    def forward(self, x: Tensor, context: Context = NOTHING, modulation: Tensor | None = None) -> Tensor:
        """x: (B, T, width). modulation: what `modulate` made of the condition."""
        if modulation is None:
            for norm, part in self._parts():
                x = x + part(norm(x), context)
            return x
        gates, scales, shifts = modulation.unflatten(2, (3, -1)).unbind(2)
        for i, (norm, part) in enumerate(self._parts()):
            y = torch.addcmul(shifts[:, :, i], norm(x), scales[:, :, i] + 1)
            x = torch.addcmul(x, part(y, context), gates[:, :, i])
        return x


class Blocks(nn.ModuleList):
    """A stack of blocks."""

    def __iter__(self) -> Iterator[Block]:
        return cast(Iterator[Block], super().__iter__())

    def modulations(self, condition: Tensor) -> Tensor:
        """(B, layers, 1 or T, 3 parts, width): computed once, used in every step of a sampling."""
        return torch.stack([block.modulate(condition) for block in self], dim=1)

    def forward(self, x: Tensor, context: Context = NOTHING, modulations: Tensor | None = None) -> Tensor:
        for i, block in enumerate(self):
            one = None if modulations is None else modulations[:, i]
            layer = context.layer + i
            if context.control is not None and layer in context.control:
                x = x + context.control[layer]
            x = block(x, context._replace(layer=layer), one)
        return x


def plain_block(width: int, heads: int) -> Block:
    """Causal attention and a gated net, normed by their root mean square: the block of the published zoom decoder."""
    return Block({"self_attn": SelfAttention(width, heads), "ffn": SwiGLU(width)}, lambda: RMSNorm(width))


class CrossBlock(Block):
    """A block of tokens that read others."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(
            {"cross_attn": CrossAttention(width, heads), "ffn": SwiGLU(width)}, lambda: RMSNorm(width)
        )

    def forward(self, x: Tensor, others: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, Context(others=others))
