"""Views for training: cut from memory, they show the same as the pyramid does, also on a grid that lies elsewhere."""

import numpy as np
import pytest

from tiles import Bounds, View
from tiles.window import Window
from zoomloc.placement import Placement
from zoomloc.region import Region
from zoomloc.views import NEUTRAL, ViewBank, seen

PX = 32


@pytest.fixture(scope="module")
def world(tiny_data):
    region = Region.load(tiny_data / "region.json")
    pyramid = region.open()
    return region.grid, pyramid, ViewBank(pyramid, region.grid, px=PX, margin_m=30)


def one(bank, placement, cell):
    return bank.cut(placement, cell.level, [(cell.row, cell.col)])[0].numpy().astype(int)


def test_the_grids_own_views(world):
    grid, pyramid, bank = world
    for cell in [grid.root, *grid.children(grid.root)]:
        view = one(bank, Placement.of(grid), cell)
        assert np.abs(view - pyramid.view(*cell, PX).pixels).mean() < 1.5


@pytest.mark.parametrize("reach", [1.0, 1.5])
@pytest.mark.parametrize("bearing_deg", [0.0, 30.0, -120.0])
def test_views_of_a_grid_that_lies_elsewhere(world, reach, bearing_deg):
    grid, pyramid, _ = world
    bank = ViewBank(pyramid, grid, px=PX, reach=reach)
    size_m = 0.6 * grid.size_m
    outer = Placement(grid.centre(grid.root), size_m, bearing_deg)
    placement = Placement(outer.point(-size_m / 2, -size_m / 2), size_m, bearing_deg)
    cell = grid.cell((6,))
    side_m = placement.side_m / 4
    middle = placement.point((cell.row + 0.5) * side_m, (cell.col + 0.5) * side_m)
    half = side_m * reach / 2
    bounds = Bounds(middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
    expected = seen(pyramid.source.render(Window(bounds, grid.crs, (PX, PX), bearing_deg)))
    view = one(bank, placement, cell)
    assert np.abs(view - expected).mean() < 4
    for other in (Placement.of(grid), Placement(placement.north_west, placement.side_m, bearing_deg + 20)):
        assert np.abs(one(bank, other, cell) - expected).mean() > 8


def test_where_there_is_no_imagery_a_view_is_neutral(world):
    grid, _, bank = world
    x, y = grid.north_west
    corner = one(
        bank, Placement((x - 20, y + 20), grid.size_m), grid.cell((0,))
    )  # it ends at the region's edge
    edge = int(20 / (grid.side_m(1) / PX))
    assert (corner[: edge - 1] == NEUTRAL).all()
    assert not (corner[edge + 1 :, edge + 1 :] == NEUTRAL).all(axis=-1).any()
    view = View(np.zeros((2, 2, 3), np.uint8), np.array([[True, False], [False, True]]))
    assert (seen(view)[~view.mask] == NEUTRAL).all()
    assert (seen(view)[view.mask] == 0).all()
