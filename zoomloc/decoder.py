"""The zoom decoder: from a photo and the views seen so far, which child to enter next."""

import torch
from torch import Tensor, nn

from generation.cache import Cache
from generation.core import Blocks, Context, RMSNorm, plain_block
from generation.mask import causal
from generation.position import rope, rope_frequencies


class ZoomDecoder(nn.Module):
    """Causal transformer over [photo, view 0, action 0, view 1, action 1, …] of arXiv 2603.25686.

    An action is the index of a child, 0..branch²-1. Its logits are read at the view it was decided from.
    """

    frequencies: Tensor

    def __init__(self, *, width: int, heads: int, layers: int, n_children: int) -> None:
        super().__init__()
        self.action_embed = nn.Embedding(n_children, width)
        self.blocks = Blocks(plain_block(width, heads) for _ in range(layers))
        self.final_norm = RMSNorm(width)
        self.output_head = nn.Linear(width, n_children, bias=False)
        self.register_buffer("frequencies", rope_frequencies(width // heads), persistent=False)

    def forward(self, photo: Tensor, views: Tensor, actions: Tensor) -> Tensor:
        """Teacher forcing. photo (B, C), views (B, L, C), actions (B, L) -> logits (B, L, children)."""
        pairs = torch.stack([views, self.action_embed(actions)], dim=2).flatten(
            1, 2
        )  # view 0, action 0, view 1, …
        tokens = torch.cat([photo[:, None], pairs], dim=1)  # (B, 1 + 2 L, C)
        return self._logits(tokens[:, :-1], None)[:, 1::2]  # the last action is never looked at

    def start(self) -> Cache:
        """An empty cache for `step`."""
        return Cache(len(self.blocks))

    def step(self, context: Tensor, view: Tensor, cache: Cache) -> Tensor:
        """One decision. context (N, C): the photo at level 0, later `action_embed` of the choice made; view (N, C).

        Returns logits (N, children) and grows the cache by these two tokens.
        """
        return self._logits(torch.stack([context, view], dim=1), cache)[:, -1]

    def _logits(self, tokens: Tensor, cache: Cache | None) -> Tensor:
        start, new = 0 if cache is None else cache.length(), tokens.shape[1]
        positions = torch.arange(start, start + new, device=tokens.device)
        context = Context(
            mask=causal(new, start + new, tokens.device),
            rotary=rope(positions, self.frequencies),
            cache=cache,
        )
        return self.output_head(self.final_norm(self.blocks(tokens, context)))
