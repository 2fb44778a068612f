"""Masks of attention: which tokens a token may look at, True where it may."""

import torch
from torch import Tensor

from generation.schedule import Schedule, step_numbers


def causal(n_new: int, n_all: int, device: torch.device | None = None) -> Tensor | None:
    """(n_new, n_all): the newest tokens see themselves and what came before. None where all of that is everything."""
    if n_new == 1:
        return None
    return torch.ones(n_new, n_all, dtype=torch.bool, device=device).tril(n_all - n_new)


def block_causal(schedule: Schedule) -> Tensor:
    """(tokens, tokens): a token sees those of its own step and of earlier ones (VAR)."""
    step = step_numbers(schedule)
    return step[:, None] >= step


def block_diagonal(schedule: Schedule) -> Tensor:
    """(tokens, tokens): a token sees those of its own step alone (MVAR, HMAR)."""
    step = step_numbers(schedule)
    return step[:, None] == step


def neighbourhood(side: int, window: int) -> Tensor:
    """(side², side²): a token of a square map sees the window × window tokens around it.

    At the borders the window is moved inwards, so that every token sees as many. side must not be below window.
    """
    start = (torch.arange(side) - window // 2).clamp(0, side - window)
    other = torch.arange(side)
    near = (other >= start[:, None]) & (other < start[:, None] + window)  # (side, side), along one axis
    return (near[:, None, :, None] & near[None, :, None, :]).reshape(side**2, side**2)
