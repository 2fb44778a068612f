"""MVAR (arXiv 2505.12742): VAR without memory. A map depends on what it starts from alone, and its finest tokens on
their neighbours, so that nothing is cached and every map trains on its own."""

import torch
from torch import Tensor

from generation.control import for_layers
from generation.core import Context
from generation.mask import neighbourhood
from generation.models.var import VAR
from generation.schedule import Schedule, Step

WINDOW, FINE = 7, 8  # tokens across a neighbourhood, from which step on


class Markov(VAR):
    """VAR whose maps see themselves alone."""

    remembers = False

    def map_logits(
        self, step: Step, labels: Tensor, given: Tensor | None, control: Tensor | None = None
    ) -> Tensor:
        """One map, (B, t, codes), from what it starts from: maps need not train at once."""
        condition = self.class_embedding(labels)
        of_blocks, of_head = self.modulations(condition)
        x = self.embed(step, condition, given)
        context = Context(mask=self.mask(step), control=for_layers(control, [step], self.config.depth))
        return self.head(self.blocks(x, context, of_blocks), of_head)

    def forward(
        self,
        labels: Tensor,
        inputs: list[Tensor],
        schedule: Schedule | None = None,
        control: Tensor | None = None,
    ) -> Tensor:
        starts = zip(schedule or self.schedule, [None, *inputs], strict=True)
        return torch.cat([self.map_logits(step, labels, given, control) for step, given in starts], dim=1)


class MVAR(Markov):
    """The parameters, and so the checkpoints, are those of VAR."""

    def mask(self, step: Step) -> Tensor | None:
        if step.index < FINE:
            return None
        return neighbourhood(step.shape[0], WINDOW).to(self.table.device)
