"""Mamba-2 (arXiv 2405.21060): a layer whose memory of the past is a state of fixed size.

Tokens are taken in chunks; within one, all pairs are weighed at once, and between them the state is carried. So a
sampling goes on from the state instead of reading the past again, with the same numbers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.cache import Cache
from generation.core import Context, RMSNorm

CHUNK = 256  # tokens; pairs of a chunk are weighed at once


class Mamba2(nn.Module):
    """One group, heads of 64 channels, a state of 64 numbers a channel, as in M-VAR (arXiv 2411.10433)."""

    def __init__(
        self, width: int, *, expand: int = 2, head_dim: int = 64, state: int = 64, reach: int = 4
    ) -> None:
        super().__init__()
        inner = expand * width
        self.inner, self.state, self.heads = inner, state, inner // head_dim
        mixed = inner + 2 * state
        self.in_proj = nn.Linear(width, inner + mixed + self.heads, bias=False)
        self.conv1d = nn.Conv1d(mixed, mixed, reach, groups=mixed)
        self.dt_bias = nn.Parameter(torch.linspace(-5, -2, self.heads))
        self.A_log = nn.Parameter(torch.linspace(1, 16, self.heads).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = RMSNorm(inner, eps=1e-5)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """x: (B, T, width), the newest T tokens; the cache keeps the state that those before them left."""
        gate, mixed, dt = self.in_proj(x).split([self.inner, self.conv1d.in_channels, self.heads], dim=-1)
        past, state = self._before(mixed, context.cache, context.layer)
        extended = torch.cat([past, mixed.transpose(1, 2)], dim=2)
        mixed = F.silu(self.conv1d(extended)).transpose(1, 2)
        value, write, read = mixed.split([self.inner, self.state, self.state], dim=-1)
        value = value.unflatten(-1, (self.heads, -1))  # (B, T, heads, head_dim)
        dt = F.softplus(dt + self.dt_bias)  # (B, T, heads)
        y, state = scan(value * dt[..., None], -dt * self.A_log.exp(), write, read, state)
        if context.cache is not None:
            context.cache.kept[f"past {context.layer}"] = extended[:, :, -past.shape[2] :]
            context.cache.kept[f"state {context.layer}"] = state
        y = (y + value * self.D[:, None]).flatten(2)
        return self.out_proj(self.norm(y * F.silu(gate)))

    def _before(self, mixed: Tensor, cache: Cache | None, layer: int) -> tuple[Tensor, Tensor]:
        """The last inputs of the convolution (B, channels, reach - 1), and the state (B, heads, head_dim, state)."""
        if cache is not None and f"state {layer}" in cache.kept:
            return cache.kept[f"past {layer}"], cache.kept[f"state {layer}"]
        past = mixed.new_zeros(len(mixed), mixed.shape[2], self.conv1d.kernel_size[0] - 1)
        return past, mixed.new_zeros(len(mixed), self.heads, self.inner // self.heads, self.state)


def scan(value: Tensor, decay: Tensor, write: Tensor, read: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The linear recurrence state ← exp(decay) state + value ⊗ write, read after every token.

    value (B, T, heads, head_dim), decay (B, T, heads), write and read (B, T, n), state (B, heads, head_dim, n).
    Returns what is read, shaped as value, and the last state.
    """
    out = []
    for start in range(0, value.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        y, state = _chunk(value[:, part], decay[:, part], write[:, part], read[:, part], state)
        out.append(y)
    return torch.cat(out, dim=1), state


def _chunk(value: Tensor, decay: Tensor, write: Tensor, read: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    since = decay.transpose(1, 2).cumsum(
        -1
    )  # (B, heads, T): the log of what is left of the state before the chunk
    between = since[..., :, None] - since[..., None, :]  # of what token j wrote when token i reads
    length = value.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool, device=value.device).tril()
    weight = between.masked_fill(~seen, -torch.inf).exp() * (read @ write.transpose(1, 2))[:, None]
    own = torch.einsum("bhij,bjhd->bihd", weight, value)
    before = torch.einsum("bin,bhdn,bhi->bihd", read, state, since.exp())
    left = (since[..., -1:] - since).exp().transpose(1, 2)
    written = torch.einsum("bjhd,bjn->bhdn", value * left[..., None], write)
    return own + before, since[..., -1, None, None].exp() * state + written
