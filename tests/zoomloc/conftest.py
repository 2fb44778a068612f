"""A made-up world for what draws: a region whose imagery tells by its colour where it shows, and answers in it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import tiles
from zoomloc.photo import Photo
from zoomloc.prediction import Place, Prediction
from zoomloc.region import Region

NORTH_WEST, SIZE_M = (500_000.0, 5_000_000.0), 2560.0


class ColourField:
    """A source: red grows to the east, green to the south; the westernmost eighth has no imagery."""

    crs, gsd_m, attribution, synthetic = "EPSG:32632", 0.5, "simulated", False
    bounds = tiles.Bounds(NORTH_WEST[0], NORTH_WEST[1] - SIZE_M, NORTH_WEST[0] + SIZE_M, NORTH_WEST[1])

    def read(self, bounds, crs, shape):
        assert crs == self.crs
        h, w = shape
        x = np.linspace(bounds.west, bounds.east, 2 * w + 1)[1::2] - NORTH_WEST[0]
        y = NORTH_WEST[1] - np.linspace(bounds.north, bounds.south, 2 * h + 1)[1::2]
        pixels = np.full((h, w, 3), 40, np.uint8)
        pixels[..., 0] = (x / SIZE_M * 255).clip(0, 255)
        pixels[..., 1] = (y / SIZE_M * 255).clip(0, 255)[:, None]
        mask = np.broadcast_to((x > SIZE_M / 8) & (x < SIZE_M), (h, w)) & ((y > 0) & (y < SIZE_M))[:, None]
        return tiles.View(pixels, mask)

    def close(self):
        pass


@dataclass
class World:
    """A region, its imagery, and what a search of it might say."""

    region: Region
    pyramid: tiles.Pyramid

    def photo(self, name="photo.jpg", *, x_m=None, y_m=None, size=(160, 90)) -> Photo:
        """A violet photo; with a position if given metres east and south of the north-west corner."""
        pixels = np.full((size[1], size[0], 3), (120, 60, 200), np.uint8)
        lat, lon = (None, None) if x_m is None else self.at(x_m, y_m)
        return Photo(Path(name), pixels, lat, lon)

    def prediction(
        self, name="photo.jpg", *, x_m, y_m, probability=0.6, posterior=True, **changes
    ) -> Prediction:
        """An answer at a point, the rest of the probability on one leaf in the south-east corner."""
        grid = self.region.grid
        x, y = NORTH_WEST[0] + x_m, NORTH_WEST[1] - y_m
        best, n = grid.cell_at(x, y), grid.n_cells(grid.depth)
        leaves = np.zeros((n, n), np.float32)
        leaves[-1, -1] = 1 - probability
        leaves[best.row, best.col] = probability
        places = tuple(
            Place(*grid.unproject(*grid.centre(cell)), float(leaves[cell.row, cell.col]), grid.path(cell))
            for cell in (best, best._replace(row=n - 1, col=n - 1))
        )
        made = Prediction(
            photo=name,
            region=self.region.name,
            lat=self.at(x_m, y_m)[0],
            lon=self.at(x_m, y_m)[1],
            probability=probability,
            radius_50_m=12.0,
            radius_90_m=2000.0,
            area_50_m2=grid.leaf_m**2,
            area_90_m2=2 * grid.leaf_m**2,
            path=grid.path(best),
            places=places,
            radius_m=40.0,
            search="posterior" if posterior else "greedy",
            posterior=leaves if posterior else None,
        )
        return replace(made, **changes)

    def at(self, x_m, y_m) -> tuple[float, float]:
        """(lat, lon) of a point so many metres east and south of the north-west corner."""
        return self.region.grid.unproject(NORTH_WEST[0] + x_m, NORTH_WEST[1] - y_m)


@pytest.fixture
def make_world():
    """Makes a world of 2,560 m a side and a given depth."""

    def make(depth=3) -> World:
        place = {"crs": "EPSG:32632", "north_west": NORTH_WEST, "size_m": SIZE_M, "branch": 4, "depth": depth}
        region = Region(name="toy", imagery=(), attribution="simulated <i>", folder=Path(), **place)
        return World(region, tiles.Pyramid(ColourField(), **place))

    return make
