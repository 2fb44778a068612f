"""NAR (arXiv 2503.10696): LlamaGen outwards from a corner, all tokens as far from it at once: 31 steps for 256 tokens.

A token is foretold twice, by its neighbours to the left and above; what the two say is averaged.
"""

import torch
from torch import Tensor, nn

from generation.core import Context, RMSNorm
from generation.models.llamagen import EPS, LlamaGen, LlamaGenConfig
from generation.schedule import Schedule, diagonals

CLASS, NOBODY = -1, -2  # places that are none of the map


class NAR(LlamaGen):
    """The transformer. What the left neighbour says is read off the last block but one, what the one above says off the
    last, which a LlamaGen of the same depth does not have."""

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__(config)
        self.norm_below = RMSNorm(config.width, EPS)
        self.head_below = nn.Linear(config.width, config.n_codes, bias=False)

    def order(self) -> Schedule:
        return diagonals(self.config.side)

    @property
    def n_layers(self) -> int:
        return self.config.depth + 1

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, t, 2, width): for the neighbour to the right, and for the one below."""
        right = self.blocks[:-1](x, context)
        below = self.blocks[-1](right, context._replace(layer=self.n_layers - 1))
        return torch.stack([right, below], dim=2)

    def logits(self, hidden: Tensor, given: Tensor, wanted: Tensor) -> Tensor:
        side = self.config.side
        left = torch.where(wanted % side > 0, wanted - 1, NOBODY)
        above = torch.where(wanted >= side, wanted - side, NOBODY)
        left[wanted == 0] = above[wanted == 0] = CLASS
        right, below = hidden.unbind(2)
        said = [
            (left, self.head(self.norm(right))),
            (above, self.head_below(self.norm_below(below))),
        ]
        total = sum(_said_by(neighbour, given, logits) for neighbour, logits in said)
        return total / ((left != NOBODY).int() + (above != NOBODY).int())[:, None]


def _said_by(neighbour: Tensor, given: Tensor, logits: Tensor) -> Tensor:
    """Of the places (t,) of neighbours, NOBODY among them, what those given say, (B, given, codes); else zero."""
    index = (given == neighbour[:, None]).int().argmax(1)
    return logits[:, index] * (neighbour != NOBODY)[:, None]
