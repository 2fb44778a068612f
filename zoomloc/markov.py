"""Searching the tree of cells with the pointer model, whose decisions depend on the cell and the photo alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation.search import Step, best_first, tree_search
from zoomloc.heading import log_densities
from zoomloc.index import Index
from zoomloc.pointer import PointerModel, Questions, at_own, heading_waves
from zoomloc.posterior import Leaves, as_leaves, reweighed
from zoomloc.priors import Evidence

# Leaves of a photo, the most probable, for which headings are kept.
HEADED = 1024


@torch.inference_mode()
def posterior(
    model: PointerModel,
    index: Index,
    photos: Tensor,
    *,
    epsilon: float,
    evidence: Sequence[Evidence | None] | None = None,
) -> list[Leaves]:
    """The certified posterior of each photo: tokens (B, patches, C) -> B results.

    Cells are opened in the order of their probability until those left hold less than `epsilon` of what the leaves
    found hold; 0 opens all. evidence: what else is known of each photo, which counts in all of that.
    """
    asked = ask(model, index, photos)
    found = []
    for i, known in enumerate(evidence or [None] * len(photos)):
        own = asked.at((slice(None), i))

        def expand(numbers: NDArray[np.int64], own: Questions = own) -> NDArray[np.float32]:
            return _decide(own, index, numbers).cpu().numpy()

        tree = best_first(
            expand,
            n_choices=index.grid.branch**2,
            depth=index.grid.depth,
            epsilon=epsilon,
            evidence=known,
        )
        found.append(_faced(own, index, as_leaves(tree, index.grid, known), known))
    return found


def _faced(asked: Questions, index: Index, leaves: Leaves, known: Evidence | None) -> Leaves:
    """Leaves with the headings that the photo, asked at every level (L, …), would have there, weighed by what is known
    of its heading."""
    if asked.heading is None:
        return leaves
    if known is None or known.headings is None:
        return replace(leaves, headings=_headings(asked, index, leaves.paths[:HEADED]))
    factors = np.concatenate(
        [
            _headings(asked, index, leaves.paths[i : i + HEADED]) @ known.headings
            for i in range(0, len(leaves.paths), HEADED)
        ]
        or [np.empty(0)]
    )
    worth_left = leaves.unexpanded * float(known.headings.max())
    leaves = reweighed(leaves, factors, not_here=1.0, worth_left=worth_left)
    headings = _headings(asked, index, leaves.paths[:HEADED]) * known.headings
    return replace(leaves, headings=headings / headings.sum(axis=1, keepdims=True))


def _headings(asked: Questions, index: Index, paths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Probabilities (n, BINS) of headings at the leaves that paths (n, depth) lead to."""
    assert asked.heading is not None
    numbers, which = np.unique(index.numbers(torch.from_numpy(paths[:, :-1])), return_inverse=True)
    keys = index.at(numbers)[torch.from_numpy(which), torch.from_numpy(paths[:, -1])]
    return log_densities(heading_waves(asked.heading[-1], keys)).exp().cpu().numpy()


@torch.inference_mode()
def beam(model: PointerModel, index: Index, photos: Tensor, *, width: int) -> list[Leaves]:
    """The `width` best paths of each photo, cut to so many at every level; 1 is greedy."""
    paths, log_probability = tree_search(
        stepper(model, index, photos),
        lambda _: None,
        batch=len(photos),
        depth=index.grid.depth,
        width=width,
    )
    return [Leaves(p, q) for p, q in zip(paths.numpy(), log_probability.double().exp().numpy(), strict=True)]


def stepper(model: PointerModel, index: Index, photos: Tensor) -> Step:
    """How a search asks about photos, tokens (B, patches, C): paths (B, n, l) -> log-probabilities (B, n, children) of
    the next child; they sum to that of the photo being in the path's cell."""
    asked = ask(model, index, photos)

    def step(paths: Tensor) -> Tensor:
        batch, n, level = paths.shape
        numbers = index.numbers(paths.flatten(0, 1))
        own = asked.at((level, torch.arange(batch).repeat_interleave(n)))
        return at_own(own, index.at(numbers))[:, :-1].unflatten(0, (batch, n))

    return step


def ask(model: PointerModel, index: Index, photos: Tensor) -> Questions:
    """What photos look for at every level of a region: (L, B, …) each."""
    grid = index.grid
    side_m = torch.tensor([grid.side_m(level) for level in range(grid.depth)], device=photos.device)
    return model.ask(photos, side_m.expand(len(photos), -1))


def _decide(asked: Questions, index: Index, numbers: NDArray[np.int64]) -> Tensor:
    """One photo, asked at every level (L, …), at the cells with these numbers: (m, children + 1)."""
    level = torch.from_numpy(index.levels(numbers)).to(asked.query.device)
    return at_own(asked.at(level), index.at(numbers))
