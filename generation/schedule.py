"""Schedules: in which order the tokens of an image, or the decisions of a zoom, are made.

A step names the tokens that are decided together. A scale-wise model decides a whole token map in a step, coarse
before fine; a raster model decides one token, a diagonal model all tokens as far from the corner.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

VAR_SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)  # of the token maps of a 256-pixel image


@dataclass(frozen=True)
class Step:
    """Tokens decided together.

    index: its place in the schedule. shape: rows and columns of the token map it belongs to. positions: numbers of its
    tokens, within the tokens of all maps one after the other.
    """

    index: int
    shape: tuple[int, int]
    positions: Sequence[int]

    def __len__(self) -> int:
        return len(self.positions)


Schedule = tuple[Step, ...]


def scales(sides: Iterable[int]) -> Schedule:
    """A square map in each step (VAR, arXiv 2404.02905)."""
    steps: list[Step] = []
    start = 0
    for index, side in enumerate(sides):
        steps.append(Step(index, (side, side), range(start, start + side**2)))
        start += side**2
    return tuple(steps)


def raster(side: int) -> Schedule:
    """One token of a map in each step, row by row."""
    return tuple(Step(i, (side, side), range(i, i + 1)) for i in range(side**2))


def diagonals(side: int) -> Schedule:
    """All tokens at an equal Manhattan distance from the first in each step, 2 side - 1 steps (NAR, arXiv 2503.10696).

    Those of a step are in the order of their rows.
    """
    return tuple(
        Step(d, (side, side), tuple(r * side + d - r for r in range(side) if 0 <= d - r < side))
        for d in range(2 * side - 1)
    )


def n_tokens(schedule: Schedule) -> int:
    """Tokens of all steps."""
    return sum(map(len, schedule))


def step_numbers(schedule: Schedule) -> Tensor:
    """(tokens,): the step in which each is decided."""
    numbers = torch.empty(n_tokens(schedule), dtype=torch.long)
    for step in schedule:
        numbers[list(step.positions)] = step.index
    return numbers
