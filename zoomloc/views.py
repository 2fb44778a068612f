"""Views as the model sees them: pixels with a neutral colour where there is no imagery."""

import math
from collections.abc import Iterable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tiles import Bounds, Pyramid, View
from zoomloc.encoder import MEAN
from zoomloc.grid import Grid
from zoomloc.placement import Placement

# The mean colour of the encoder's training images, which normalises to zero: no imagery says nothing.
NEUTRAL = np.array([round(255 * channel) for channel in MEAN], dtype=np.uint8)

STRIP_PX = 512


def seen(view: View) -> NDArray[np.uint8]:
    """(px, px, 3) uint8 pixels of a view, neutral where there is no imagery, or only what was made up."""
    return np.where(view.real[:, :, None], view.pixels, NEUTRAL)


class ViewBank:
    """The imagery of a region in memory, and any view of it on grids that lie anywhere, for training.

    Kept at the resolution at which the smallest cell's view is `px` wide, and at halves of it until all of it is one
    view. reach: the side of what a view shows, in sides of its cell. margin_m: of imagery kept around the region.
    Memory is about 4 bytes · (px / reach)² · (number of leaves / branch²): 8 MB for a demo city at 96 px, 0.9 GB for
    10 km at depth 4 and 224 px.
    """

    def __init__(
        self, pyramid: Pyramid, grid: Grid, *, px: int, reach: float = 1.0, margin_m: float = 0.0
    ) -> None:
        self.grid, self.px, self.reach = grid, px, reach
        self._gsd_m = grid.side_m(grid.depth - 1) * reach / px
        halvings = max(0, math.ceil(math.log2(grid.size_m * reach / px / self._gsd_m)))
        margin_px = math.ceil(margin_m / self._gsd_m / 2**halvings) * 2**halvings
        self._margin_m = margin_px * self._gsd_m
        self._mosaics = [self._read(pyramid, margin_px)]
        for _ in range(halvings):
            self._mosaics.append(_halved(self._mosaics[-1]))

    def cut(self, placement: Placement, level: int, cells: Iterable[tuple[int, int]]) -> Tensor:
        """Views of cells (row, col) of a level of the grid that lies on a square: (N, px, px, 3) uint8."""
        return torch.from_numpy(np.stack([self._view(placement, level, *cell) for cell in cells]))

    def _view(self, placement: Placement, level: int, row: int, col: int) -> NDArray[np.uint8]:
        cell_m = placement.side_m / self.grid.branch**level
        gsd_m = cell_m * self.reach / self.px
        rim_m = cell_m * (self.reach - 1) / 2
        x, y = placement.point(row * cell_m - rim_m, col * cell_m - rim_m)
        halvings = math.floor(math.log2(gsd_m / self._gsd_m) + 1e-6)
        mosaic = self._mosaics[min(max(halvings, 0), len(self._mosaics) - 1)]
        mosaic_m = self._gsd_m * 2 ** min(max(halvings, 0), len(self._mosaics) - 1)
        east = x - self.grid.north_west[0] + self._margin_m  # of the mosaic's corner
        south = self.grid.north_west[1] + self._margin_m - y
        angle = math.radians(placement.bearing_deg)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = turn * (gsd_m / mosaic_m)
        # Pixels count from their middles: the first of the view lies half a pixel in from its corner.
        first = matrix @ (0.5, 0.5) + (east / mosaic_m - 0.5, south / mosaic_m - 0.5)
        view = cv2.warpAffine(
            mosaic,
            np.column_stack([matrix, first]),
            (self.px, self.px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=NEUTRAL.tolist(),
        )
        return np.asarray(view)

    def _read(self, pyramid: Pyramid, margin_px: int) -> NDArray[np.uint8]:
        """All of the region, read in strips to bound the memory of each read."""
        side_px = round(self.grid.size_m / self._gsd_m) + 2 * margin_px
        west, north = self.grid.north_west[0] - self._margin_m, self.grid.north_west[1] + self._margin_m
        mosaic, source = np.empty((side_px, side_px, 3), np.uint8), pyramid.real.source
        for top in range(0, side_px, STRIP_PX):
            strip = mosaic[top : top + STRIP_PX]
            bounds = Bounds(
                west,
                north - (top + len(strip)) * self._gsd_m,
                west + side_px * self._gsd_m,
                north - top * self._gsd_m,
            )
            strip[:] = seen(source.read(bounds, self.grid.crs, strip.shape[:2]))
        return mosaic


def _halved(mosaic: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Averages of 2 x 2 pixels; beyond an odd edge lies nothing."""
    odd = [side % 2 for side in mosaic.shape[:2]]
    even = cv2.copyMakeBorder(mosaic, 0, odd[0], 0, odd[1], cv2.BORDER_CONSTANT, value=NEUTRAL.tolist())
    return np.asarray(cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
