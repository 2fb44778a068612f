"""Views as the model sees them: pixels with a neutral colour where there is no imagery."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tiles import Bounds, Pyramid, View
from zoomloc.encoder import MEAN
from zoomloc.grid import Grid

# The mean colour of the encoder's training images, which normalises to zero: no imagery says nothing.
NEUTRAL = np.array([round(255 * channel) for channel in MEAN], dtype=np.uint8)


def seen(view: View) -> NDArray[np.uint8]:
    """(px, px, 3) uint8 pixels of a view, neutral where the mask says there is no imagery."""
    return np.where(view.mask[:, :, None], view.pixels, NEUTRAL)


class ViewBank:
    """Every view of a region in memory, on its grid and on grids moved from it, for training.

    One mosaic a level, at the resolution at which a cell is `px` wide, with a margin for moved grids. Memory is
    about 3 bytes · px² · (number of leaves / branch²) · (1 + 1/branch²): 8 MB for a demo city at 96 px, 0.7 GB for
    10 km at depth 4 and 224 px.
    """

    def __init__(self, pyramid: Pyramid, grid: Grid, *, px: int, margin_m: float) -> None:
        self.grid, self.px = grid, px
        self._gsd_m = [grid.side_m(level) / px for level in range(grid.depth)]
        self._margin_px = [int(np.ceil(margin_m / gsd_m)) for gsd_m in self._gsd_m]
        self._mosaics = [self._read(pyramid, level) for level in range(grid.depth)]

    def cut(self, level: int, cells: Iterable[tuple[int, int]], shift_m: tuple[float, float]) -> Tensor:
        """Views of cells (row, col) at a level of the grid moved by shift_m (east, north): (N, px, px, 3) uint8.

        The move is rounded to the level's own pixels. Raises IndexError if it is larger than the margin.
        """
        east, south = round(shift_m[0] / self._gsd_m[level]), round(-shift_m[1] / self._gsd_m[level])
        margin = self._margin_px[level]
        if max(abs(east), abs(south)) > margin:
            raise IndexError(f"a shift of {shift_m} m is larger than the margin")
        mosaic = self._mosaics[level]
        views = [
            mosaic[top : top + self.px, left : left + self.px]
            for row, col in cells
            for top, left in [(row * self.px + margin + south, col * self.px + margin + east)]
        ]
        return torch.from_numpy(np.stack(views))

    def _read(self, pyramid: Pyramid, level: int) -> NDArray[np.uint8]:
        """The level's mosaic, read in strips of one row of cells to bound the memory of each read."""
        gsd_m, margin = self._gsd_m[level], self._margin_px[level]
        side_px = self.grid.branch**level * self.px + 2 * margin
        west = self.grid.north_west[0] - margin * gsd_m
        north = self.grid.north_west[1] + margin * gsd_m
        strips = []
        for top in range(0, side_px, self.px):
            height = min(self.px, side_px - top)
            bounds = Bounds(west, north - (top + height) * gsd_m, west + side_px * gsd_m, north - top * gsd_m)
            strips.append(seen(pyramid.source.read(bounds, self.grid.crs, (height, side_px))))
        return np.concatenate(strips)
