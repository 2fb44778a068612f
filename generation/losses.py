"""What training makes small, whichever model makes the tokens."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from generation.schedule import Schedule, step_numbers

# Tokens (B, T), as if they had been chosen before -> logits (B, T, V), each made from the tokens of earlier steps.
Predict = Callable[[Tensor], Tensor]
# Own tokens (B, T) -> what should have been said after them: tokens (B, T), or probabilities (B, T, V).
Wanted = Callable[[Tensor], Tensor]


def cross_entropy(
    logits: Tensor, targets: Tensor, schedule: Schedule, weights: Sequence[float] | None = None
) -> Tensor:
    """Logits (B, T, V) against tokens (B, T) or probabilities (B, T, V): the weighted mean of the means of each step.

    weights: of the steps, by default of their numbers of tokens, which weighs all tokens alike (VAR).
    """
    each = _each(logits, targets).mean(0)
    numbers = step_numbers(schedule).to(each.device)
    of_step = torch.tensor([len(step) for step in schedule] if weights is None else weights).to(each)
    share = of_step / torch.tensor([len(step) for step in schedule]).to(each)
    return (each * share[numbers]).sum() / of_step.sum()


def self_rollout(
    predict: Predict,
    teacher: Tensor,
    schedule: Schedule,
    *,
    wanted: Wanted | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """What a model says after its own choices instead of the true ones (SAR, arXiv 2512.06421): add it, weighed, to the
    loss under true choices.

    teacher: logits (B, T, V) under true choices, from which every step's own choice is made, all at once (the paper's
    stagger-scale rollout): the likeliest, or one drawn by `generator`. The second pass sees those as context. The
    first step, which has no context, does not count.
    wanted: by default, what the first pass found likeliest, so that mistakes before do not change what is said (the
    student-forcing loss of the paper).
    """
    likeliest = teacher.detach().argmax(-1)
    own = likeliest if generator is None else _drawn(teacher.detach(), generator)
    later = step_numbers(schedule).to(teacher.device) > 0
    targets = likeliest if wanted is None else wanted(own)
    return _each(predict(own)[:, later], targets[:, later]).mean()


def _each(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of every token, (B, T), in float32."""
    labels = targets.flatten(0, 1)
    return F.cross_entropy(logits.float().flatten(0, 1), labels, reduction="none").view(logits.shape[:2])


def _drawn(logits: Tensor, generator: torch.Generator) -> Tensor:
    """(B, T) tokens drawn from logits (B, T, V), on the CPU."""
    probabilities = logits.softmax(-1).flatten(0, 1).cpu()
    return probabilities.multinomial(1, generator=generator).view(logits.shape[:2]).to(logits.device)
