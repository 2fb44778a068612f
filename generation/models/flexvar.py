"""FlexVAR (arXiv 2502.20313): each map shows the image itself, at its side, not what the coarser maps left over.

So any list of sides will do, in training and after: positions are one table, resized, and there are no levels. The
image is that of the last map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.models.var import VAR, VARConfig
from generation.sample import Pick, drawn, likeliest
from generation.schedule import Schedule, Step

TABLE = 32  # side of the table of positions
USUAL = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 23, 24, 32)  # sides whose codes are drawn
LARGEST = 16  # of training: beyond it, guidance is full and codes are the likeliest
FULL = 9  # the step at which guidance reaches what was asked for; it grows on after


def flexvar_config(depth: int) -> VARConfig:
    """The published sizes: codes of LlamaGen's tokenizer."""
    return VARConfig(depth, n_codes=8912)


class FlexVAR(VAR):
    """315,561,936 parameters at depth 16."""

    def add_places(self, width: int) -> None:
        self.table = nn.Parameter(torch.randn(1, width, TABLE, TABLE) * width**-0.5)

    def place(self, step: Step) -> Tensor:
        return F.interpolate(self.table, size=step.shape, mode="area").flatten(2).transpose(1, 2)

    def strength(self, step: Step, schedule: Schedule) -> float:
        return 1.0 if step.shape[0] > LARGEST else step.index / min(len(schedule) - 1, FULL)

    def pick(self, generator: torch.Generator | None) -> Pick:
        draw = drawn(generator)

        def pick(logits: Tensor, step: Step) -> Tensor:
            drawn_codes = draw(logits, step)  # even where it is not used, for the numbers drawn later
            is_usual = step.shape[0] in USUAL and step.shape[0] <= LARGEST
            return drawn_codes if is_usual else likeliest(logits, step)

        return pick
