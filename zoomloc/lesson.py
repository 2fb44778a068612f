"""What one training step looks at: the views of its photos' cells, each once, and what is right there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoomloc.labels import Labels
from zoomloc.placement import Placement
from zoomloc.views import ViewBank


@dataclass(frozen=True)
class Lesson:
    """Of B photos over L levels, whose cells have N views, level after level.

    labels: of the photos, in their order. views: (N, px, px, 3) uint8. view_index: (B, L) which of them shows a photo's
    cell. side_m: (N,) of the cells. n_views: of each level. sides_m: (B, L) of the photos' cells. child_of: for every
    level below the first, which child of the cells before each of its cells is: cell · children + child, (n_views,).
    distance_m: (B, n_views · children) from photos to the middles of the last level's children; inf to other cities.
    heading_deg: (B,) of the cameras, clockwise from where the grid's columns lead up; nan where unknown, or the photo
    lies outside.
    """

    labels: Labels
    views: Tensor
    view_index: Tensor
    side_m: Tensor
    n_views: list[int]
    sides_m: Tensor
    child_of: list[Tensor]
    distance_m: Tensor
    heading_deg: Tensor


def make_lesson(
    labels: Labels,
    xy: Tensor,
    heading_deg: Tensor,
    city: Tensor,
    banks: Sequence[ViewBank],
    placements: Sequence[Placement],
) -> Lesson:
    """xy: (B, 2) where photos were taken, in the CRS of their city, and heading_deg (B,) which way, clockwise from the
    placement's columns. city: (B,) which of the banks, each with its grid
    on a placement, a photo's cells are of."""
    depth = labels.cells.shape[1]
    views, view_index = [], []
    side_m: list[float] = []
    n_views: list[int] = []
    child_of: list[Tensor] = []
    before: dict[tuple[int, int, int], int] = {}
    for level in range(depth):
        keys, inverse = torch.cat([city[:, None], labels.cells[:, level]], dim=1).unique(
            dim=0, return_inverse=True
        )
        if level:
            child_of.append(torch.tensor([_child_of(key, before, banks) for key in keys.tolist()]))
        before = {tuple(key): i for i, key in enumerate(keys.tolist())}
        view_index.append(inverse + sum(n_views))
        n_views.append(len(keys))
        for number in keys[:, 0].unique().tolist():  # in order, as the keys are
            cells = [(row, col) for which, row, col in keys.tolist() if which == number]
            views.append(banks[number].cut(placements[number], level, cells))
            side_m += [placements[number].side_m / banks[number].grid.branch ** level] * len(cells)
    index = torch.stack(view_index, dim=1)
    sides = torch.tensor(side_m)
    distance_m = _distances_m(xy, city, keys, banks, placements)
    heading_deg = torch.where(labels.inside, heading_deg, torch.nan)
    return Lesson(
        labels, torch.cat(views), index, sides, n_views, sides[index], child_of, distance_m, heading_deg
    )


def _distances_m(
    xy: Tensor, city: Tensor, keys: Tensor, banks: Sequence[ViewBank], placements: Sequence[Placement]
) -> Tensor:
    """From photos to the leaves that the cells of the last level, (city, row, col), consist of."""
    grid = banks[0].grid  # all are divided alike
    n, middles = grid.branch, torch.arange(grid.branch) + 0.5
    down, right = (middles.repeat_interleave(n), middles.repeat(n))
    distance_m = torch.full((len(xy), len(keys) * n * n), torch.inf)
    for number in keys[:, 0].unique().tolist():
        own, cells = city == number, keys[keys[:, 0] == number]
        leaf_m = placements[number].side_m / n**grid.depth
        at = torch.stack([cells[:, 1:2] * n + down, cells[:, 2:3] * n + right], dim=-1).flatten(0, 1) * leaf_m
        columns = (keys[:, 0] == number).repeat_interleave(n * n)
        apart = torch.cdist(placements[number].offsets(xy[own]), at.to(xy))
        distance_m[own.nonzero(), columns.nonzero()[:, 0]] = apart.float()
    return distance_m


def _child_of(key: list[int], before: dict[tuple[int, int, int], int], banks: Sequence[ViewBank]) -> int:
    city, row, col = key
    branch = banks[city].grid.branch
    return before[city, row // branch, col // branch] * branch**2 + row % branch * branch + col % branch


def merged(parts: Sequence[Labels], city: Tensor) -> Labels:
    """The labels of every city's photos, put back into the order of `city` (B,)."""
    order = torch.cat([(city == number).nonzero()[:, 0] for number in city.unique()]).argsort()
    return Labels(
        *(torch.cat([getattr(p, name) for p in parts])[order] for name in Labels.__dataclass_fields__)
    )
