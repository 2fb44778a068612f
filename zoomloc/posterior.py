"""From a photo's feature to probabilities over leaves, and from those to an answer."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from generation.search import tree_search
from zoomloc.grid import Grid
from zoomloc.index import Index
from zoomloc.model import ZoomModel

# Points per leaf side among which the best point is looked for.
FINE = 4


@dataclass(frozen=True)
class Leaves:
    """Leaves a search found for one photo, most probable first.

    paths: (n, depth). probabilities: (n,) float64, true probabilities over the whole region: they sum to 1 when
    the search kept everything and to less when it dropped some.
    """

    paths: NDArray[np.int64]
    probabilities: NDArray[np.float64]


@torch.inference_mode()
def search(model: ZoomModel, index: Index, photos: Tensor, *, width: int | None) -> list[Leaves]:
    """Zoom in on each photo: features (B, C) -> B results. width: 1 greedy, k a beam, None the full posterior."""
    decoder, cache = model.decoder, model.decoder.start()

    def step(paths: Tensor) -> Tensor:
        batch, n, level = paths.shape
        context = decoder.action_embed(paths[:, :, -1].flatten().to(photos.device)) if level else photos
        views = index.features(paths.flatten(0, 1))
        return decoder.step(context, views, cache).unflatten(0, (batch, n))

    paths, log_probability = tree_search(
        step, cache.take, batch=len(photos), depth=index.grid.depth, width=width
    )
    return [Leaves(p, q) for p, q in zip(paths.numpy(), log_probability.double().exp().numpy(), strict=True)]


def leaf_map(leaves: Leaves, grid: Grid) -> NDArray[np.float32]:
    """(side, side) probabilities of all leaves, row 0 in the north; zero where the search did not go."""
    rows_cols = np.array([grid.cell(tuple(path))[1:] for path in leaves.paths.tolist()])
    out = np.zeros((grid.branch**grid.depth,) * 2, dtype=np.float32)
    out[rows_cols[:, 0], rows_cols[:, 1]] = leaves.probabilities
    return out


def best_point(posterior: NDArray[np.float32], *, leaf_m: float, radius_m: float) -> tuple[float, float]:
    """The point with the most probability within radius_m, as metres (east, south) of the north-west corner.

    A leaf's probability counts as spread evenly over it. Among equal points the middle is taken: the centre of
    mass of what lies within the radius.
    """
    step_m = leaf_m / FINE
    fine = np.kron(posterior, np.ones((FINE, FINE))) / FINE**2
    reach = int(radius_m / step_m) + 1
    south, east = np.mgrid[-reach : reach + 1, -reach : reach + 1] * step_m
    disc = (np.hypot(south, east) <= radius_m).astype(float)
    held = ndimage.convolve(fine, disc, mode="constant")
    row, col = np.unravel_index(held.argmax(), held.shape)
    rows, cols = np.mgrid[: fine.shape[0], : fine.shape[1]]
    near = fine * (np.hypot(rows - row, cols - col) * step_m <= radius_m)
    centre = (np.array([(near * cols).sum(), (near * rows).sum()]) / near.sum() + 0.5) * step_m
    return float(centre[0]), float(centre[1])


def radius_holding(
    posterior: NDArray[np.float32], point: tuple[float, float], share: float, *, leaf_m: float
) -> float:
    """Radius in metres around a point (east, south of the north-west corner) that holds this share of the
    probability, leaves counting by their centres; nan if the posterior holds less than the share."""
    rows, cols = np.mgrid[: posterior.shape[0], : posterior.shape[1]]
    distance = np.hypot((cols + 0.5) * leaf_m - point[0], (rows + 0.5) * leaf_m - point[1]).ravel()
    order = distance.argsort()
    held = posterior.ravel()[order].cumsum(dtype=np.float64)
    # The leaf of the point itself counts as reached at half its width.
    reached = int(np.searchsorted(held, share - 1e-6))
    return float(max(distance[order[reached]], leaf_m / 2)) if reached < len(held) else float("nan")
