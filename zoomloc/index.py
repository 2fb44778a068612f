"""The index of a region under a model: the features of its inner cells, encoded when first asked for."""

import numpy as np
import torch
from torch import Tensor

from tiles import Pyramid
from zoomloc.grid import Grid
from zoomloc.model import ZoomModel
from zoomloc.progress import progress
from zoomloc.views import seen

BATCH = 64


class Index:
    """Features of a region's inner cells, kept once encoded, so that later photos find them ready.

    A cell's row in the table is its path read as a number in base branch², after all coarser cells.
    """

    def __init__(self, model: ZoomModel, pyramid: Pyramid, grid: Grid) -> None:
        self.grid = grid
        self.pyramid, self._model = pyramid, model
        self._n_children = grid.branch**2
        self._first = [sum(self._n_children**i for i in range(level)) for level in range(grid.depth + 1)]
        device = next(model.parameters()).device
        self._table = torch.zeros(self._first[-1], model.config.width, device=device)
        self._known = torch.zeros(self._first[-1], dtype=torch.bool)

    def features(self, paths: Tensor) -> Tensor:
        """Features (N, C) of the cells that paths (N, level) lead to. Raises tiles.TilesError."""
        level = paths.shape[1]
        rows = torch.full((len(paths),), self._first[level])
        for i in range(level):
            rows += paths[:, i] * self._n_children ** (level - 1 - i)
        self._encode(rows[~self._known[rows]].unique())
        return self._table[rows.to(self._table.device)]

    def build(self) -> None:
        """Encode every inner cell now, with a progress bar. Raises tiles.TilesError."""
        parts = (~self._known).nonzero()[:, 0].split(BATCH)
        for part in progress(parts, "encoding cells of the map", len(parts)):
            self._encode(part)

    @torch.inference_mode()
    def _encode(self, rows: Tensor) -> None:
        for part in rows.split(BATCH) if len(rows) else ():
            views = np.stack([self._view(int(row)) for row in part])
            device = self._table.device
            self._table[part.to(device)] = self._model.encode_views(torch.from_numpy(views).to(device))
            self._known[part] = True

    def _view(self, row: int) -> np.ndarray:
        level = sum(row >= first for first in self._first[1:])
        number, path = row - self._first[level], []
        for _ in range(level):
            number, child = divmod(number, self._n_children)
            path.append(child)
        return seen(self.pyramid.view(*self.grid.cell(tuple(reversed(path))), self._model.config.view_px))
