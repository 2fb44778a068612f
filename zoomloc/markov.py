"""Searching the tree of cells with the pointer model, whose decisions depend on the cell and the photo alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation.search import Step, best_first, tree_search
from zoomloc.calibration import Calibration, Correction
from zoomloc.heading import log_densities
from zoomloc.index import Index
from zoomloc.pointer import PointerModel, Questions, at_own, heading_waves
from zoomloc.posterior import Leaves, as_leaves, reweighed
from zoomloc.priors import Evidence

# Leaves of a photo, the most probable, for which headings are kept.
HEADED = 1024
# The model's word on "not here" counts as no more certain than this.
MIN_ODDS = 1e-6


@torch.inference_mode()
def posterior(
    model: PointerModel,
    index: Index,
    photos: Tensor,
    *,
    epsilon: float,
    evidence: Sequence[Evidence | None] | None = None,
    calibration: Calibration | None = None,
) -> list[Leaves]:
    """The certified posterior of each photo: tokens (B, patches, C) -> B results.

    Cells are opened in the order of their probability until those left hold less than `epsilon` of what the leaves
    found hold; 0 opens all. evidence: what else is known of each photo, which counts in all of that.
    """
    decisions = _Decisions.of(model, index, photos, calibration)
    found = []
    for i, known in enumerate(evidence or [None] * len(photos)):

        def expand(numbers: NDArray[np.int64], i: int = i) -> NDArray[np.float32]:
            level = torch.from_numpy(index.levels(numbers)).to(photos.device)
            return decisions.at((level, i), numbers).cpu().numpy()

        tree = best_first(
            expand,
            n_choices=index.grid.branch**2,
            depth=index.grid.depth,
            epsilon=epsilon,
            evidence=known,
        )
        own = decisions.asked.at((slice(None), i))
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
def beam(
    model: PointerModel,
    index: Index,
    photos: Tensor,
    *,
    width: int,
    calibration: Calibration | None = None,
) -> list[Leaves]:
    """The `width` best paths of each photo, cut to so many at every level; 1 is greedy."""
    decisions = _Decisions.of(model, index, photos, calibration)
    paths, log_probability = tree_search(
        decisions.step,
        lambda _: None,
        batch=len(photos),
        depth=index.grid.depth,
        width=width,
    )
    not_here = decisions.not_here_log_odds().double().sigmoid().tolist()
    columns = paths.numpy(), log_probability.double().exp().numpy(), not_here
    return [Leaves(*each) for each in zip(*columns, strict=True)]


def stepper(
    model: PointerModel, index: Index, photos: Tensor, calibration: Calibration | None = None
) -> Step:
    """How a search asks about photos, tokens (B, patches, C): paths (B, n, l) -> log-probabilities (B, n, children) of
    the next child; they sum to that of the photo being in the path's cell."""
    return _Decisions.of(model, index, photos, calibration).step


@torch.inference_mode()
def not_here_log_odds(model: PointerModel, index: Index, photos: Tensor) -> Tensor:
    """What the model says, uncalibrated, of photos (B, patches, C) not being on a map: (B,) log-odds."""
    return _Decisions.of(model, index, photos, None).not_here_log_odds()


def ask(model: PointerModel, index: Index, photos: Tensor) -> Questions:
    """What photos look for at every level of a region: (L, B, …) each."""
    grid = index.grid
    side_m = torch.tensor([grid.side_m(level) for level in range(grid.depth)], device=photos.device)
    return model.ask(photos, side_m.expand(len(photos), -1))


@dataclass(frozen=True)
class _Decisions:
    """What a model decides for B photos at cells of an index, asked at L levels, and how that is corrected."""

    index: Index
    asked: Questions
    correction: Correction | None

    @classmethod
    def of(
        cls, model: PointerModel, index: Index, photos: Tensor, calibration: Calibration | None
    ) -> "_Decisions":
        plain = cls(index, ask(model, index, photos), None)
        if calibration is None:
            return plain
        return replace(
            plain, correction=calibration.correction(photos, index.grid, plain.not_here_log_odds())
        )

    def at(self, which: tuple[int | Tensor, int | Tensor], numbers: NDArray[np.int64]) -> Tensor:
        """At cells with these numbers, for the photos and at the levels that an index of (L, B) selects:
        log-probabilities (m, children + 1)."""
        log_p = at_own(self.asked.at(which), self.index.at(numbers))
        log_p = log_p if self.correction is None else self.correction.at(which).of(log_p)
        return self.index.open_only(log_p, numbers)

    def step(self, paths: Tensor) -> Tensor:
        """At the ends of paths (B, n, l): log-probabilities (B, n, children) of the next child."""
        batch, n, level = paths.shape
        photo = torch.arange(batch).repeat_interleave(n)
        numbers = self.index.numbers(paths.flatten(0, 1))
        return self.at((level, photo), numbers)[:, :-1].unflatten(0, (batch, n))

    def not_here_log_odds(self) -> Tensor:
        """That photos are not on the map: (B,)."""
        each = torch.arange(self.asked.query.shape[1])
        return self.at((0, each), np.zeros(len(each), np.int64))[:, -1].exp().logit(MIN_ODDS)
