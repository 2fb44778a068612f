"""What the decoder should answer: the path to a photo's position, hard or blurred, on a grid that may be moved."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoomloc.config import LabelMode
from zoomloc.grid import Grid, published_paths
from zoomloc.placement import Placement


@dataclass(frozen=True)
class Labels:
    """Teacher-forcing labels of B photos over L levels.

    cells: (B, L, 2) row and column of the cell looked at, at each level. actions: (B, L) the child that holds the
    position. targets: (B, L, branch²) the same as a distribution. inside: (B,) whether the grid holds the position.
    """

    cells: Tensor
    actions: Tensor
    targets: Tensor
    inside: Tensor


def make_labels(placement: Placement, xy: Tensor, *, branch: int, depth: int, sigma_m: float = 0.0) -> Labels:
    """Labels for positions xy (B, 2), float64, in the CRS of the square that the grid lies on.

    sigma_m > 0 blurs a position by a Gaussian of this standard deviation: a child's target is the share of it that
    falls on the child, among the children of the cell that holds the position.
    """
    offset = placement.offsets(xy)
    side = branch**depth
    leaves = (offset / (placement.side_m / side)).floor().long()  # row, column
    inside = ((leaves >= 0) & (leaves < side)).all(dim=1)
    leaves = leaves.clamp(0, side - 1)
    offset = offset.clamp(0, placement.side_m)  # far outside no child would have any share
    cells, actions, targets = [], [], []
    for level in range(depth):
        cell = leaves // branch ** (depth - level)
        child = leaves // branch ** (depth - level - 1) % branch
        cells.append(cell)
        actions.append(child[:, 0] * branch + child[:, 1])
        cell_m = placement.side_m / branch**level
        corner = offset - cell * cell_m  # of the position within its cell
        targets.append(_soft_target(corner, child, cell_m / branch, branch, sigma_m))
    return Labels(torch.stack(cells, 1), torch.stack(actions, 1), torch.stack(targets, 1), inside)


def _soft_target(corner: Tensor, child: Tensor, child_m: float, branch: int, sigma_m: float) -> Tensor:
    """(B, branch²) shares of the children; corner (B, 2) in metres, child (B, 2) the true row and column."""
    if sigma_m == 0:
        hit = torch.nn.functional.one_hot(child, branch).float()  # (B, 2, branch)
    else:
        edges = torch.arange(branch + 1, dtype=corner.dtype) * child_m
        reached = torch.erf((edges - corner[:, :, None]) / (sigma_m * math.sqrt(2)))  # (B, 2, branch + 1)
        hit = reached.diff(dim=-1).float()
    target = (hit[:, 0, :, None] * hit[:, 1, None, :]).flatten(1)
    return target / target.sum(dim=1, keepdim=True)


def published_labels(grid: Grid, xy: Tensor) -> Labels:
    """The published benchmark's labels for positions xy (B, 2), float64, in the grid's CRS.

    Its cells are no exact grid (see `grid.published_paths`); the cells looked at are those of the exact grid with the
    same paths.
    """
    paths, inside = _published(grid, xy.numpy())
    actions = torch.from_numpy(paths)  # (B, L)
    child = torch.stack([actions // grid.branch, actions % grid.branch], dim=-1)  # (B, L, 2)
    cells = [torch.zeros_like(child[:, 0])]
    for level in range(grid.depth - 1):
        cells.append(cells[-1] * grid.branch + child[:, level])
    targets = torch.nn.functional.one_hot(actions, grid.branch**2).float()
    return Labels(torch.stack(cells, 1), actions, targets, torch.from_numpy(inside))


def label_paths(grid: Grid, xy: NDArray[np.float64], mode: LabelMode) -> NDArray[np.int64]:
    """The path (N, depth) that is right for each position xy (N, 2) in the grid's CRS, which must lie in the grid."""
    if mode == "published":
        return _published(grid, xy)[0]
    return np.array([grid.path(grid.cell_at(x, y)) for x, y in xy])


def _published(grid: Grid, xy: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    lats, lons = np.array([grid.unproject(x, y) for x, y in xy]).reshape(-1, 2).T.copy()
    centre = grid.unproject(*grid.centre(grid.root))
    return published_paths(
        lats, lons, centre=centre, size_m=grid.size_m, branch=grid.branch, depth=grid.depth
    )
