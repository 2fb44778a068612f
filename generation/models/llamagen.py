"""LlamaGen (arXiv 2406.06525): an image as a sentence, one token after the other, row by row.

Beside `var`: the class is the first token instead of a modulation, positions turn queries and keys, norms have weights
of their own, and a step decides one token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from generation.cache import Cache
from generation.core import Block, Blocks, Context, FusedAttention, RMSNorm, SwiGLU
from generation.position import Rotary, rope_2d, rotate_neighbours
from generation.sample import Codes, Hook, Sampling, drawn, guided, nucleus, run
from generation.schedule import Schedule, Step, raster, step_numbers

EPS = 1e-5


@dataclass(frozen=True)
class LlamaGenConfig:
    """The published LlamaGen-B by default. side: tokens along an image."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    side: int = 16
    n_codes: int = 16384
    n_classes: int = 1000


class LlamaGen(nn.Module):
    """The transformer. Classes are 0..n_classes-1; n_classes itself means none."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.schedule = self.order()
        self.class_embedding = nn.Embedding(config.n_classes + 1, width)
        self.code = nn.Embedding(config.n_codes, width)
        self.blocks = Blocks(self.block() for _ in range(self.n_layers))
        self.norm, self.head = RMSNorm(width, EPS), nn.Linear(width, config.n_codes, bias=False)
        for name, table in zip(("cos", "sin"), rope_2d(config.side, width // config.heads), strict=True):
            # The class has no place, and is given an angle that no place has: its queries and keys become zero.
            self.register_buffer(name, torch.cat([torch.zeros_like(table[:1]), table]), persistent=False)

    # What NAR changes.

    def order(self) -> Schedule:
        """Which tokens are decided together."""
        return raster(self.config.side)

    @property
    def n_layers(self) -> int:
        """Blocks, each of which keeps keys and values."""
        return self.config.depth

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """Inputs (B, t, width) -> (B, …) of which `logits` makes the next ones."""
        return self.blocks(x, context)

    def logits(self, hidden: Tensor, given: Tensor, wanted: Tensor) -> Tensor:
        """Of the tokens at the places `wanted`, (B, t, codes), after those at `given`; -1 is the class."""
        return self.head(self.norm(hidden))

    # All else is common.

    def block(self) -> Block:
        width = self.config.width
        parts = {
            "attention": FusedAttention(width, self.config.heads, rotate=rotate_neighbours),
            "feed_forward": SwiGLU(width, expansion=4),
        }
        return Block(parts, lambda: RMSNorm(width, EPS))

    def rotary(self, places: Tensor) -> Rotary:
        """Of tokens at places of the map; -1 is the class."""
        return self.cos[places + 1], self.sin[places + 1]

    def forward(self, labels: Tensor, codes: Tensor) -> Tensor:
        """Teacher forcing. labels (B,), codes (B, tokens), row by row -> logits (B, tokens, codes)."""
        places = torch.arange(-1, codes.shape[1], device=codes.device)
        x = torch.cat([self.class_embedding(labels)[:, None], self.code(codes[:, :-1])], dim=1)
        decided = torch.cat([torch.tensor([-1]), step_numbers(self.schedule)[:-1]]).to(codes.device)
        context = Context(mask=decided[:, None] >= decided, rotary=self.rotary(places[:-1]))
        return self.logits(self.hidden(x, context), places[:-1], places[1:])

    def begin(self, labels: Tensor) -> Sampling:
        """A sampling of images of these classes (B,), each with a conditional and an unconditional row."""
        cache = Cache(self.n_layers, capacity=len(self.cos) - 1, copies=2)
        pairs = torch.stack([labels, torch.full_like(labels, self.config.n_classes)], dim=1).flatten()
        cache.kept = {"class": self.class_embedding(pairs)}

        def feed(step: Step, codes: Codes) -> Tensor:
            if not codes:
                return cache.kept["class"][:, None]
            return self.code(codes[-1]).repeat_interleave(2, dim=0)

        def core(x: Tensor, step: Step) -> Tensor:
            return self.hidden(x, Context(rotary=self.rotary(self.given(step)), cache=cache))

        def head(hidden: Tensor, step: Step) -> Tensor:
            wanted = torch.tensor(step.positions, device=hidden.device)
            return self.logits(hidden, self.given(step), wanted)

        return Sampling(feed, core, head, cache)

    def given(self, step: Step) -> Tensor:
        """The places of the tokens that a step starts from: those of the step before."""
        places = self.schedule[step.index - 1].positions if step.index else [-1]
        return torch.tensor(places, device=self.cos.device)

    def token_map(self, codes: Codes) -> Tensor:
        """The codes of every step, in their places: (B, side, side)."""
        joined = torch.cat(codes, dim=1)
        order = [place for step in self.schedule for place in step.positions]
        places = torch.tensor(order, device=joined.device)
        return torch.empty_like(joined).index_copy(1, places, joined).unflatten(1, (self.config.side, -1))

    @torch.no_grad()
    def sample(
        self,
        labels: Tensor,
        *,
        guidance: float = 1.0,
        k: int = 2000,
        p: float = 1.0,
        generator: torch.Generator | None = None,
        hook: Hook | None = None,
    ) -> Codes:
        """Codes of every step (B, t), for images of these classes (B,).

        guidance: 0 for none, one less than the published scale. k, p: see `sample.nucleus`. hook: see
        `sample.run`.
        """
        under_way = self.begin(labels)
        return run(
            self.schedule,
            under_way,
            processors=[guided(lambda step: guidance), nucleus(k, p)],
            pick=drawn(generator),
            hook=hook,
        )
