"""HMAR (arXiv 2506.04421): maps without memory as in MVAR, each refined in a few goes.

A map is drawn at once; then the codes that were most probable stay, the others are masked and drawn again by blocks of
their own, until all stay. How many stay in which go can be changed after training. Written from the paper's method:
there were no numbers of the published code to compare with.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from generation.core import NOTHING, Blocks
from generation.head import ModulatedHead
from generation.models.mvar import Markov
from generation.models.var import VARConfig
from generation.quantize import MultiScaleResidual
from generation.sample import Codes, Hook, guided, nucleus, run
from generation.schedule import Schedule, Step

# By side: how many codes stay in each go. Maps of other sides are drawn at once.
GOES: Mapping[int, tuple[int, ...]] = {2: (1, 3), 3: (1, 1, 2, 5)}


class HMAR(Markov):
    """467,691,904 parameters at depth 16. The first half of the blocks serves both the next map and masked codes."""

    def __init__(self, config: VARConfig) -> None:
        super().__init__(config)
        self.n_shared = config.depth // 2
        self.mask_blocks = Blocks(self.block() for _ in range(config.depth - self.n_shared))
        self.mask_head = ModulatedHead(config.width, config.n_codes)
        self.masked = nn.Parameter(torch.randn(config.width) * config.width**-0.5)

    def refill(self, step: Step, condition: Tensor, given: Tensor, shown: Tensor, stays: Tensor) -> Tensor:
        """Logits (B, t, codes) of a map's codes, of which those where stays (B, t) are known.

        given (B, t, code_width): what the map starts from; shown, likewise: what its known codes add to that.
        """
        known = self.code(shown, torch.zeros_like(self.code.bias))
        x = self.code(given) + torch.where(stays[..., None], known, self.masked) + self.place(step)
        for_blocks = self.for_blocks(condition)
        for blocks in (cast(Blocks, self.blocks[: self.n_shared]), self.mask_blocks):
            x = blocks(x, NOTHING, blocks.modulations(for_blocks))
        return self.mask_head(x, self.mask_head.modulation(condition[:, None]))

    @torch.no_grad()
    def sample(  # type: ignore[override]
        self,
        labels: Tensor,
        quantizer: MultiScaleResidual,
        *,
        guidance: float = 1.7,
        k: int = 1000,
        p: float = 0.99,
        generator: torch.Generator | None = None,
        schedule: Schedule | None = None,
        hook: Hook | None = None,
        goes: Mapping[int, tuple[int, ...]] = GOES,
    ) -> Codes:
        """As that of VAR. goes: how many codes of a map stay in each go, by the map's side; they sum to all of them."""
        schedule = schedule or self.schedule
        under_way = self.begin(labels, quantizer, schedule)
        processors = [guided(lambda step: guidance * self.strength(step, schedule)), nucleus(k, p)]
        draw = self.pick(generator)
        coarser: Codes = []

        def feed(step: Step, codes: Codes) -> Tensor:
            coarser[:] = codes
            return under_way.feed(step, codes)

        def pick(logits: Tensor, step: Step) -> Tensor:
            codes = draw(logits, step)
            stays = torch.zeros_like(codes, dtype=torch.bool)
            for n in goes.get(step.shape[0], (len(step),))[:-1]:
                stays = _more(stays, n, logits.softmax(-1).gather(-1, codes[..., None])[..., 0])
                logits = again(step, codes, stays)
                for process in processors:
                    logits = process(logits, step)
                codes = torch.where(stays, codes, draw(logits, step))
            return codes

        def again(step: Step, codes: Tensor, stays: Tensor) -> Tensor:
            given = quantizer.following(coarser, schedule)
            shown = quantizer.shown(codes, stays, step, schedule)
            pairs = (x.repeat_interleave(2, dim=0) for x in (given, shown, stays))
            return self.refill(step, under_way.cache.kept["condition"], *pairs)

        return run(
            schedule,
            under_way._replace(feed=feed),
            processors=processors,
            pick=pick,
            hook=hook,
        )


def _more(stays: Tensor, n: int, probability: Tensor) -> Tensor:
    """Beside those that stay already, the n most probable of the others: (B, t) each."""
    best = probability.masked_fill(stays, -1).topk(n, dim=1).indices
    return stays.scatter(1, best, True)
