"""Views for training: cut from memory, they show the same as the pyramid does, also on a moved grid."""

import numpy as np
import pytest

from tiles import Bounds, View
from zoomloc.region import Region
from zoomloc.views import NEUTRAL, ViewBank, seen

PX = 32


@pytest.fixture(scope="module")
def world(tiny_data):
    region = Region.load(tiny_data / "region.json")
    pyramid = region.open()
    return region.grid, pyramid, ViewBank(pyramid, region.grid, px=PX, margin_m=30)


def test_the_grids_own_views(world):
    grid, pyramid, bank = world
    for cell in [grid.root, *grid.children(grid.root)]:
        view = bank.cut(cell.level, [(cell.row, cell.col)], (0, 0))[0].numpy()
        expected = pyramid.view(*cell, PX).pixels
        assert np.abs(view.astype(int) - expected).mean() < 1.5


@pytest.mark.parametrize("shift_m", [(10.0, -20.0), (-30.0, 30.0)])
def test_a_moved_grids_views(world, shift_m):
    grid, pyramid, bank = world
    west, south, east, north = grid.bounds(grid.cell((6,)))
    moved = Bounds(west + shift_m[0], south + shift_m[1], east + shift_m[0], north + shift_m[1])
    expected = pyramid.source.read(moved, grid.crs, (PX, PX)).pixels
    view = bank.cut(1, [grid.cell((6,))[1:]], shift_m)[0].numpy()
    assert np.abs(view.astype(int) - expected).mean() < 1.5
    assert np.abs(view.astype(int) - bank.cut(1, [grid.cell((6,))[1:]], (0, 0))[0].numpy()).mean() > 3


def test_where_there_is_no_imagery_a_view_is_neutral(world):
    grid, _, bank = world
    corner = bank.cut(1, [(0, 0)], (-20.0, 20.0))[0].numpy()  # the imagery ends at the region's edge
    edge = int(20 / (grid.side_m(1) / PX))
    assert (corner[: edge - 1] == NEUTRAL).all()
    assert not (corner[edge + 1 :, edge + 1 :] == NEUTRAL).all(axis=-1).any()
    view = View(np.zeros((2, 2, 3), np.uint8), np.array([[True, False], [False, True]]))
    assert (seen(view)[~view.mask] == NEUTRAL).all()
    assert (seen(view)[view.mask] == 0).all()


def test_a_shift_beyond_the_margin_is_refused(world):
    with pytest.raises(IndexError, match="margin"):
        world[2].cut(1, [(0, 0)], (40.0, 0.0))
