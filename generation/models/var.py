"""VAR (arXiv 2404.02905): an image as ten token maps, coarse to fine, each made at once from all coarser ones.

Training sees all maps at once, each token those of its own map and of the coarser ones; sampling makes map after map
and keeps keys and values. A tokenizer's quantiser says what a map starts from, given the codes of the coarser ones.
"""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from generation.cache import Cache
from generation.control import for_layers
from generation.core import MLP, AdaLN, Block, Blocks, Context, CosineAttention, Linear, SharedAdaLN
from generation.head import ModulatedHead
from generation.mask import block_causal
from generation.sample import Codes, Hook, Pick, Sampling, drawn, guided, nucleus, run
from generation.schedule import VAR_SIDES, Schedule, Step, n_tokens, scales


@dataclass(frozen=True)
class VARConfig:
    """The published sizes have 64 channels and one head for each block: `VARConfig(depth=16)` is VAR-d16.

    shared: one modulation for all blocks (VAR-d36). cosine: queries and keys of unit length.
    """

    depth: int
    sides: tuple[int, ...] = VAR_SIDES
    n_codes: int = 4096
    code_width: int = 32
    n_classes: int = 1000
    shared: bool = False
    cosine: bool = True

    @property
    def width(self) -> int:
        return 64 * self.depth


class Quantizer(Protocol):
    """What a model asks of its tokenizer's quantiser."""

    def following(self, codes: Codes, schedule: Schedule) -> Tensor:
        """What the step after these codes starts from: (B, t, code_width)."""
        ...


class VAR(nn.Module):
    """The transformer. Classes are 0..n_classes-1; n_classes itself means none."""

    remembers = True  # whether attention sees the coarser maps

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.schedule = scales(config.sides)
        self.class_embedding = nn.Embedding(config.n_classes + 1, width)
        self.start = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.code = Linear(config.code_width, width)
        self.add_places(width)
        self.blocks = Blocks(self.block() for _ in range(config.depth))
        n_vectors = 3 * len(next(iter(self.blocks)).part_names)
        self.shared_modulation = AdaLN(width, n_vectors) if config.shared else None
        self.head = ModulatedHead(width, config.n_codes)

    # What other models of the family change.

    def add_places(self, width: int) -> None:
        """Makes the parameters that `place` reads."""
        self.table = nn.Parameter(torch.randn(1, n_tokens(self.schedule), width) * width**-0.5)
        self.level = nn.Embedding(len(self.schedule), width)

    def place(self, step: Step) -> Tensor:
        """What tokens of a step are told of where they are: (1, t, width)."""
        return self.table[:, step.positions[0] : step.positions[-1] + 1] + self.level.weight[step.index]

    def parts(self) -> dict[str, nn.Module]:
        """What a block is made of."""
        config = self.config
        return {
            "attn": CosineAttention(
                config.width, config.depth, cosine=config.cosine, remembers=self.remembers
            ),
            "ffn": MLP(config.width),
        }

    def seen(self, schedule: Schedule) -> Tensor:
        """What every token sees in training: (tokens, tokens)."""
        return block_causal(schedule)

    def mask(self, step: Step) -> Tensor | None:
        """What tokens of a step see when it is made; None: all that the cache holds, and themselves."""
        return None

    def strength(self, step: Step, schedule: Schedule) -> float:
        """How strongly a step is guided, as a share of the guidance asked for."""
        return step.index / (len(schedule) - 1)

    def pick(self, generator: torch.Generator | None) -> Pick:
        """How codes come from logits."""
        return drawn(generator)

    # All else is common.

    def block(self) -> Block:
        width, parts = self.config.width, self.parts()
        modulation = SharedAdaLN if self.config.shared else AdaLN
        norm = partial(nn.LayerNorm, width, eps=1e-6, elementwise_affine=False)
        return Block(parts, norm, modulation(width, 3 * len(parts)))

    def modulations(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width) -> of the blocks (B, layers, 1, n, width), and of the head (B, 1, 2, width)."""
        return self.blocks.modulations(self.for_blocks(condition)), self.head.modulation(condition[:, None])

    def for_blocks(self, condition: Tensor) -> Tensor:
        """(B, width) -> what blocks make their modulation of: the condition (B, 1, width), or what they share."""
        condition = condition[:, None]
        return condition if self.shared_modulation is None else self.shared_modulation(condition)

    def embed(self, step: Step, condition: Tensor, following: Tensor | None) -> Tensor:
        """The inputs of a step, (B, t, width): from the class for the first, and what the coarser maps give after."""
        x = condition[:, None] + self.start if following is None else self.code(following)
        return x + self.place(step)

    def forward(
        self,
        labels: Tensor,
        inputs: list[Tensor],
        schedule: Schedule | None = None,
        control: Tensor | None = None,
    ) -> Tensor:
        """Teacher forcing. labels (B,); inputs of every step but the first, (B, t, code_width), from the quantiser.

        control: the maps of `control.Control`. Returns logits (B, tokens, codes).
        """
        schedule = schedule or self.schedule
        condition = self.class_embedding(labels)
        of_blocks, of_head = self.modulations(condition)
        starts = zip(schedule, [None, *inputs], strict=True)
        x = torch.cat([self.embed(step, condition, given) for step, given in starts], dim=1)
        added = for_layers(control, schedule, self.config.depth)
        context = Context(mask=self.seen(schedule).to(x.device), control=added)
        return self.head(self.blocks(x, context, of_blocks), of_head)

    def begin(
        self,
        labels: Tensor,
        quantizer: Quantizer,
        schedule: Schedule | None = None,
        *,
        control: Tensor | None = None,
        is_guided: bool = True,
    ) -> Sampling:
        """A sampling of images of these classes (B,), each with a conditional and an unconditional row.

        control: the maps of `control.Control`, of which unconditional rows know nothing. Without guidance there are
        conditional rows only.
        """
        schedule = schedule or self.schedule
        copies = 2 if is_guided else 1
        cache = Cache(len(self.blocks), capacity=n_tokens(schedule), copies=copies)
        rows = torch.stack([labels, torch.full_like(labels, self.config.n_classes)][:copies], dim=1).flatten()
        condition = self.class_embedding(rows)
        of_blocks, of_head = self.modulations(condition)
        cache.kept = {"condition": condition, "blocks": of_blocks, "head": of_head}
        if control is not None:
            both = torch.stack([control, torch.zeros_like(control)][:copies], dim=1)
            cache.kept["control"] = both.flatten(0, 1)

        def feed(step: Step, codes: Codes) -> Tensor:
            given = quantizer.following(codes, schedule).repeat_interleave(copies, dim=0) if codes else None
            return self.embed(step, cache.kept["condition"], given)

        def core(x: Tensor, step: Step) -> Tensor:
            added = for_layers(cache.kept.get("control"), [step], self.config.depth)
            context = Context(mask=self.mask(step), cache=cache, control=added)
            return self.blocks(x, context, cache.kept["blocks"])

        def head(x: Tensor, step: Step) -> Tensor:
            return self.head(x, cache.kept["head"])

        return Sampling(feed, core, head, cache)

    @torch.no_grad()
    def sample(
        self,
        labels: Tensor,
        quantizer: Quantizer,
        *,
        guidance: float = 1.5,
        k: int = 900,
        p: float = 0.96,
        generator: torch.Generator | None = None,
        schedule: Schedule | None = None,
        hook: Hook | None = None,
    ) -> Codes:
        """Codes of every step (B, t), for images of these classes (B,).

        k, p: see `sample.nucleus`. hook: see `sample.run`.
        """
        schedule = schedule or self.schedule
        under_way = self.begin(labels, quantizer, schedule)
        return run(
            schedule,
            under_way,
            processors=[guided(lambda step: guidance * self.strength(step, schedule)), nucleus(k, p)],
            pick=self.pick(generator),
            hook=hook,
        )
