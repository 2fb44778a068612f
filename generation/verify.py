"""Verifiers: what a search holds of unfinished sequences, beside how likely the model finds them."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from generation.walk import Walk

W = TypeVar("W", bound=Walk)

# Scores (rows,) of the rows of a walk, higher is better. Only scores of one prompt's rows are compared.
Verifier = Callable[[W], Tensor]


def likelihood(walk: Walk) -> Tensor:
    """The model's own: the log-probability of what was drawn."""
    return walk.log_p


def lookahead(verifier: Verifier[W]) -> Verifier[W]:
    """Judges sequences by what they would become: finished greedily, scored, and taken back."""

    def score(walk: W) -> Tensor:
        mark = walk.mark()
        while walk.at < walk.n_steps:
            walk.step(greedy=True)
        scores = verifier(walk)
        walk.undo(mark)
        return scores

    return score


def ensemble(*verifiers: Verifier[W]) -> Verifier[W]:
    """Several at once, whose scores need no common unit: the mean of the ranks they give among a prompt's rows."""

    def score(walk: W) -> Tensor:
        return torch.stack([_ranks(verifier(walk), walk.batch) for verifier in verifiers]).mean(0)

    return score


def _ranks(scores: Tensor, batch: int) -> Tensor:
    """(rows,) 0 for the worst of a prompt; equals share the mean of their ranks."""
    own = scores.view(batch, -1)
    below, equal = own[:, :, None] > own[:, None], own[:, :, None] == own[:, None]
    return (below.sum(-1) + (equal.sum(-1) - 1) / 2).flatten()
