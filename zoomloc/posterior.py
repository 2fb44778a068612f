"""From a photo's feature to probabilities over the leaves of the map."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation.cache import Cache
from generation.search import Found, Step, tree_search
from zoomloc.calibration import Calibration, tempered
from zoomloc.grid import Grid
from zoomloc.index import Index
from zoomloc.model import ZoomModel
from zoomloc.priors import Evidence


@dataclass(frozen=True)
class Leaves:
    """Leaves a search found for one photo, most probable first.

    paths: (n, depth). probabilities: (n,) float64, over the whole region. not_here: the probability that the photo
    was not taken on this map at all. unexpanded: at most so much is on leaves that the search did not look at.
    The three sum to 1, and to less where a beam dropped branches. headings: (m, BINS) probabilities of the camera's
    heading, clockwise from the grid's north, were the photo taken at each of the first m leaves; None where the model
    says nothing of it. closed: (side, side) of the map, leaves on which no answer may be put (`Index.closed`); where
    all are, nothing was looked for, and not_here is 1.
    """

    paths: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    not_here: float = 0.0
    unexpanded: float = 0.0
    headings: NDArray[np.float32] | None = None
    closed: NDArray[np.bool_] | None = None

    @property
    def no_imagery(self) -> bool:
        """Whether the map shows nothing but what was made up."""
        return self.closed is not None and bool(self.closed.all())

    @property
    def here(self) -> float:
        """The probability that the photo was taken on this map."""
        return 1 - self.not_here


@torch.inference_mode()
def search(
    model: ZoomModel,
    index: Index,
    photos: Tensor,
    *,
    width: int | None,
    calibration: Calibration | None = None,
) -> list[Leaves]:
    """Zoom in on each photo: features (B, C) -> B results. width: 1 greedy, k a beam, None the full posterior."""
    step, cache = stepper(model, index, photos, calibration)
    paths, log_probability = tree_search(
        step, cache.take, batch=len(photos), depth=index.grid.depth, width=width
    )
    p = log_probability.double().exp()
    if calibration is None:
        return [Leaves(*each) for each in zip(paths.numpy(), p.numpy(), strict=True)]
    log_odds = calibration.log_odds(photos).double().cpu()
    p = p * (-log_odds).sigmoid()[:, None]
    return [Leaves(*each) for each in zip(paths.numpy(), p.numpy(), log_odds.sigmoid().tolist(), strict=True)]


def stepper(
    model: ZoomModel, index: Index, photos: Tensor, calibration: Calibration | None = None
) -> tuple[Step, Cache]:
    """How a search asks about photos, features (B, C): paths (B, n, l) -> log-probabilities (B, n, children) of the
    next child; and the cache, whose rows are the paths."""
    decoder, cache = model.decoder, model.decoder.start()
    temperature = calibration.temperatures(index.grid).to(photos) if calibration else None

    def step(paths: Tensor) -> Tensor:
        batch, n, level = paths.shape
        context = decoder.action_embed(paths[:, :, -1].flatten().to(photos.device)) if level else photos
        numbers = index.numbers(paths.flatten(0, 1))
        views = index.at(numbers)
        logits = decoder.step(context, views, cache)
        log_p = logits.float().log_softmax(-1)
        if temperature is not None:
            log_p = tempered(log_p, temperature[level])
        return index.open_only(log_p, numbers).unflatten(0, (batch, n))

    return step, cache


def as_leaves(found: Found, grid: Grid, evidence: Evidence | None = None) -> Leaves:
    """What a best-first search of the grid's tree found, as probabilities given that its wrong branches are wrong.

    "Not here" said of the whole map is the probability of being elsewhere, and stays. Said of a cell further down it
    means that the search took a wrong branch: its probability goes back to the leaves and the unexpanded nodes, to
    each in proportion. How much of the unexpanded would end at leaves is unknown; counting all of it makes
    `unexpanded` an upper bound, and every leaf's probability a lower bound of what opening everything would give it.
    Where no leaf is possible, every branch being wrong, the photo is not here.

    evidence: that the search was made with.
    """
    n, depth = grid.branch**2, grid.depth
    paths = found.leaves[:, None] // n ** np.arange(depth - 1, -1, -1) % n
    not_here, reached = float(found.not_here[0]), float(found.probabilities.sum()) + found.unexpanded
    if reached == 0:
        return Leaves(paths, found.probabilities, not_here=1.0)
    scale = (1 - not_here) / reached
    leaves = Leaves(paths, found.probabilities * scale, not_here, found.unexpanded * scale)
    return leaves if evidence is None else weighed(leaves, evidence, worth_left=found.worth_left * scale)


def weighed(leaves: Leaves, evidence: Evidence, *, worth_left: float = 0.0) -> Leaves:
    """Probabilities under a photo alone, and under the evidence too: each times its factor, then made to sum to 1.

    worth_left: at most so much, factors included, is on leaves that were not found. As all of it is counted, the
    probability of a leaf stays a lower bound, and `unexpanded` an upper one; so is then `not_here`, since some of the
    cells left closed, all counted as leading to leaves, may have been wrong branches. Where the evidence leaves no
    place, the photo is not here.
    """
    factors = evidence.of(leaves.paths)
    return reweighed(leaves, factors, not_here=evidence.not_here, worth_left=worth_left)


def reweighed(leaves: Leaves, factors: NDArray[np.float64], *, not_here: float, worth_left: float) -> Leaves:
    """Probabilities times factors, those of the leaves (n,) and that of "not here", made to sum to 1; see `weighed`."""
    worth = leaves.probabilities * factors
    not_here = leaves.not_here * not_here
    total = float(worth.sum()) + not_here + worth_left
    if total == 0:
        return Leaves(leaves.paths[:0], worth[:0], not_here=1.0)
    order = np.argsort(-worth, kind="stable")
    order = order[worth[order] > 0]
    return Leaves(leaves.paths[order], worth[order] / total, not_here / total, worth_left / total)


def rows_cols(paths: NDArray[np.int64], branch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column, (n,) each, of the cells that paths (n, level) lead to; `Grid.cell` for many."""
    weights = branch ** np.arange(paths.shape[1] - 1, -1, -1)
    return paths // branch @ weights, paths % branch @ weights


def open_part(leaves: Leaves, grid: Grid) -> Leaves:
    """Without those that are closed; their probability goes to the others, in proportion."""
    if leaves.closed is None:
        return leaves
    kept = ~leaves.closed[rows_cols(leaves.paths, grid.branch)]
    if kept.all():
        return leaves
    left = leaves.probabilities[kept]
    scale = leaves.probabilities.sum() / left.sum() if left.sum() > 0 else 0.0
    headings = leaves.headings if leaves.headings is None else leaves.headings[kept[: len(leaves.headings)]]
    return replace(leaves, paths=leaves.paths[kept], probabilities=left * scale, headings=headings)


def leaf_map(leaves: Leaves, grid: Grid) -> NDArray[np.float32]:
    """(side, side) probabilities of all leaves, row 0 in the north; zero where the search did not go."""
    out = np.zeros((grid.branch**grid.depth,) * 2, dtype=np.float32)
    out[rows_cols(leaves.paths, grid.branch)] = leaves.probabilities
    return out
