"""Why a place was chosen: what the decisions of its zoom path lose when a part of the photo or of a view is covered.

Occlusion (arXiv 1311.2901), which needs nothing of a model's inside: one square after the other is painted in the
neutral colour that stands for "no imagery", the model decides anew, and what the odds of the child fall by is what
the square spoke for it. It says what a square is worth beside all others: where two show the same, neither is missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoomloc.encoder import shrink
from zoomloc.grid import Cell, Grid
from zoomloc.index import BATCH
from zoomloc.model import AnyModel
from zoomloc.pointer import PointerModel, at_own
from zoomloc.progress import progress
from zoomloc.views import NEUTRAL, seen

if TYPE_CHECKING:
    from zoomloc.localizer import Localizer
    from zoomloc.region import Region

PHOTO_ROWS = 8  # squares from a photo's top to its bottom; twice as many lie side by side
PER_CHILD = 2  # squares along a side of a child in a view


@dataclass(frozen=True)
class Decision:
    """Why a search would go from a cell to one of its children.

    probability: of the child, given that the photo was taken in the cell. photo (PHOTO_ROWS, 2 PHOTO_ROWS) and view
    (n, n), of what `Index.view` shows of the cell: how far every square's cover lowers the log-odds of the child
    against its siblings, in bits: with the square the odds are 2 to this power times what they are without. Above 0 it
    spoke for the child, below against.
    """

    cell: Cell
    child: int
    probability: float
    photo: NDArray[np.float32]
    view: NDArray[np.float32]


@torch.inference_mode()
def explain(
    localizer: "Localizer",
    photo: NDArray[np.uint8],
    region: "Region",
    paths: Sequence[tuple[int, ...]],
    *,
    fov_deg: float | None = None,
) -> list[list[Decision]]:
    """The decisions along each of some paths to leaves, root first, for a photo (h, w, 3) uint8 sRGB.

    They are of the photo and the views alone: what else may be known of the photo's place has no part in them. Takes
    128 encodings of the photo, and for each cell on the way 64 of its view, 144 if that has a rim: for both paths of a
    small model a second or two, for one of DINOv2's base size minutes without a GPU.

    Raises CheckpointError where the model does not fit the region, tiles.TilesError for imagery that fails.
    """
    index, grid, config = localizer.index(region), region.grid, localizer.model.config
    across = round(PER_CHILD * config.branch * localizer.model.reach)
    pictures = torch.from_numpy(covered(shrink(photo, config.photo_px), PHOTO_ROWS, 2 * PHOTO_ROWS))
    fov = torch.tensor([np.nan if fov_deg is None else fov_deg])
    parts = pictures.split(BATCH)
    photos = torch.cat(
        [
            localizer.encode(part, fov.expand(len(part)))
            for part in progress(parts, "covering parts of the photo", len(parts))
        ]
    )
    cells = {grid.cell(path[:level]) for path in paths for level in range(grid.depth)}
    views = {
        cell: _encoded(localizer, covered(seen(index.view(cell, config.view_px)), across, across), grid, cell)
        for cell in progress(sorted(cells), "covering parts of the views", len(cells))
    }
    return [_along(localizer, photos, views, grid, path) for path in paths]


def covered(pixels: NDArray[np.uint8], rows: int, cols: int) -> NDArray[np.uint8]:
    """An image (h, w, 3) as it is, then with each square of a grid covered, row-major: (1 + rows · cols, h, w, 3)."""
    height, width = pixels.shape[:2]
    down, right = (np.arange(n + 1) * side // n for n, side in ((rows, height), (cols, width)))
    out = np.repeat(pixels[None], 1 + rows * cols, axis=0)
    for i in range(rows * cols):
        row, col = divmod(i, cols)
        out[1 + i, down[row] : down[row + 1], right[col] : right[col + 1]] = NEUTRAL
    return out


def _encoded(localizer: "Localizer", views: NDArray[np.uint8], grid: Grid, cell: Cell) -> Tensor:
    """Features (N, …) of views (N, px, px, 3) of a cell."""
    device = localizer.device
    return torch.cat(
        [
            localizer.model.encode_views(
                part.to(device), torch.full((len(part),), grid.side_m(cell.level), device=device)
            )
            for part in torch.from_numpy(views).split(BATCH)
        ]
    )


def _along(
    localizer: "Localizer", photos: Tensor, views: dict[Cell, Tensor], grid: Grid, path: tuple[int, ...]
) -> list[Decision]:
    """photos and views: features of what is whole, then of what is covered."""
    cells = [grid.cell(path[:level]) for level in range(grid.depth)]
    whole = torch.stack([views[cell][:1] for cell in cells], dim=1)  # (1, L, …)
    by_photo = _log_odds(localizer, photos, whole, grid, path)  # (1 + squares, L)
    decisions = []
    for level, cell in enumerate(cells):
        shown = whole.repeat_interleave(len(views[cell]), dim=0)
        shown[:, level] = views[cell]
        by_view = _log_odds(localizer, photos[:1], shown, grid, path)[:, level]
        decisions.append(
            Decision(
                cell,
                path[level],
                float(by_photo[0, level].sigmoid()),
                photo=_spoke(by_photo[:, level], PHOTO_ROWS),
                view=_spoke(by_view, round(len(by_view[1:]) ** 0.5)),
            )
        )
    return decisions


def _spoke(log_odds: Tensor, rows: int) -> NDArray[np.float32]:
    """Log-odds with all, then without each square, (1 + squares,) -> bits (rows, squares / rows)."""
    lost = (log_odds[0] - log_odds[1:]) / np.log(2)
    return lost.unflatten(0, (rows, -1)).float().cpu().numpy()


def _log_odds(
    localizer: "Localizer", photos: Tensor, views: Tensor, grid: Grid, path: tuple[int, ...]
) -> Tensor:
    """Of each child of a path against its siblings, as calibrated: (B, L), for photos (B, …) and the views (B, L, …)
    of the path's cells, where either may be one for all."""
    chosen = torch.tensor(path, device=photos.device)
    scores = _scores(localizer.model, photos, views, grid, chosen)
    if localizer.calibration is not None:
        scores = scores / localizer.calibration.temperatures(grid).to(scores)[:, None]
    its_own = torch.nn.functional.one_hot(chosen, scores.shape[-1]).bool()  # (L, children)
    siblings = scores.masked_fill(its_own, -torch.inf).logsumexp(-1)
    return scores.masked_fill(~its_own, 0).sum(-1) - siblings


def _scores(model: AnyModel, photos: Tensor, views: Tensor, grid: Grid, chosen: Tensor) -> Tensor:
    """Log-probabilities (B, L, children), but for a constant, of the children of a path's cells."""
    if isinstance(model, PointerModel):
        side_m = torch.tensor([grid.side_m(level) for level in range(grid.depth)], device=photos.device)
        asked = model.ask(photos, side_m.expand(len(photos), -1))
        each = [at_own(asked.at(level), views[:, level])[:, :-1] for level in range(grid.depth)]
        return torch.stack(each, dim=1)
    n = max(len(photos), len(views))
    context, cache, each = photos.expand(n, -1), model.decoder.start(), []
    for level in range(grid.depth):
        each.append(model.decoder.step(context, views[:, level].expand(n, -1), cache))
        context = model.decoder.action_embed(chosen[level]).expand(n, -1)
    return torch.stack(each, dim=1)
