"""Search over the choices of an autoregressive model: greedy, beam, or the whole tree, by one function."""

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor], Tensor]
Take = Callable[[Tensor], None]


def tree_search(
    step: Step, take: Take, *, batch: int, depth: int, width: int | None
) -> tuple[Tensor, Tensor]:
    """Grow the most probable paths of each tree in a batch, level by level.

    step: paths (batch, n, l) -> logits (batch, n, choices) of the next choice; it may keep a cache whose row
    `b * n + i` belongs to paths[b, i]. take: tells that cache which of its rows go on, (batch * n',) indices.
    width: paths kept at each level; 1 is greedy, None keeps all, which makes the result the exact distribution.

    Returns paths (batch, n, depth), most probable first, and their log-probabilities (batch, n).
    """
    paths = torch.empty(batch, 1, 0, dtype=torch.long)
    log_probability = torch.zeros(batch, 1)
    for level in range(depth):
        logits = step(paths)
        n, n_choices = paths.shape[1], logits.shape[2]
        scores = (log_probability[:, :, None].to(logits.device) + logits.float().log_softmax(-1)).flatten(1)
        kept = scores.topk(min(width or scores.shape[1], scores.shape[1]), dim=1)
        parent, choice = kept.indices // n_choices, kept.indices % n_choices
        if level + 1 < depth:
            take((torch.arange(batch, device=parent.device)[:, None] * n + parent).flatten())
        parent, choice, log_probability = parent.cpu(), choice.cpu(), kept.values.cpu()
        paths = torch.cat(
            [paths.gather(1, parent[:, :, None].expand(-1, -1, level)), choice[:, :, None]], dim=2
        )
    return paths, log_probability
