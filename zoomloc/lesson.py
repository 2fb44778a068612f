"""What one training step looks at: the views of its photos' cells, each once, and what is right there."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

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
    shown = show(labels.cells, city, banks, placements)
    branch = banks[0].grid.branch  # all are divided alike
    sides = torch.tensor(
        [
            placements[number].side_m / branch**level
            for level, keys in enumerate(shown.keys)
            for number in keys[:, 0].tolist()
        ]
    )
    child_of = [_children_of(keys, above, branch) for above, keys in pairwise(shown.keys)]
    n_views, index = [len(keys) for keys in shown.keys], shown.view_index
    distance_m = _distances_m(xy, city, shown.keys[-1], banks, placements)
    heading_deg = torch.where(labels.inside, heading_deg, torch.nan)
    return Lesson(labels, shown.views, index, sides, n_views, sides[index], child_of, distance_m, heading_deg)


class Shown(NamedTuple):
    """Cells (B, L, 2) looked at, each distinct one once, level after level: views (N, px, px, 3) uint8; view_index
    (B, L), which of them shows a cell; keys, of every level (n_views, 3): city, row, column."""

    views: Tensor
    view_index: Tensor
    keys: list[Tensor]


def show(cells: Tensor, city: Tensor, banks: Sequence[ViewBank], placements: Sequence[Placement]) -> Shown:
    """Views of cells (B, L, 2), row and column at every level, of the grids of cities (B,)."""
    views, view_index, all_keys, before = [], [], list[Tensor](), 0
    for level in range(cells.shape[1]):
        keys, inverse = torch.cat([city[:, None], cells[:, level]], dim=1).unique(dim=0, return_inverse=True)
        view_index.append(inverse + before)
        all_keys.append(keys)
        before += len(keys)
        for number in keys[:, 0].unique().tolist():  # in order, as the keys are
            of_city = [(row, col) for which, row, col in keys.tolist() if which == number]
            views.append(banks[number].cut(placements[number], level, of_city))
    return Shown(torch.cat(views), torch.stack(view_index, dim=1), all_keys)


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


def _children_of(keys: Tensor, above: Tensor, branch: int) -> Tensor:
    """Which child of the cells of the level above each cell is; see `Lesson.child_of`."""
    number = {tuple(key): i for i, key in enumerate(above.tolist())}
    return torch.tensor(
        [
            number[city, row // branch, col // branch] * branch**2 + row % branch * branch + col % branch
            for city, row, col in keys.tolist()
        ]
    )


def merged(parts: Sequence[Labels], city: Tensor) -> Labels:
    """The labels of every city's photos, put back into the order of `city` (B,)."""
    order = torch.cat([(city == number).nonzero()[:, 0] for number in city.unique()]).argsort()
    return Labels(
        *(torch.cat([getattr(p, name) for p in parts])[order] for name in Labels.__dataclass_fields__)
    )
