"""Cell in, view out."""

import pickle

import numpy as np
import pytest

import tiles
from tiles import Pyramid, TilesError

SQUARE = {
    "crs": "EPSG:32632",
    "north_west": (475_000.0, 5_130_160.0),
    "size_m": 160.0,
    "branch": 4,
    "depth": 2,
}


@pytest.fixture
def city(write_raster):
    """160 x 160 m at 1 m: red is the leaf's row, green its column, 16 leaves of 10 m a side."""
    leaf = np.arange(16, dtype=np.uint8).repeat(10)
    values = np.stack(np.broadcast_arrays(leaf[:, None] * 10, leaf[None] * 10, 0)).astype(np.uint8)
    path = write_raster(values, west=475_000, north=5_130_160, overviews=(2, 4))
    return tiles.open(path)


def test_every_leaf_shows_itself(city):
    pyramid = Pyramid(city, **SQUARE)
    for row in range(16):
        for col in range(16):
            view = pyramid.view(2, row, col, 8)
            assert view.pixels.shape == (8, 8, 3) and view.coverage == 1
            assert (view.pixels[2:6, 2:6] == (row * 10, col * 10, 0)).all()


def test_children_together_are_their_parent(city):
    pyramid = Pyramid(city, **SQUARE)
    parent = pyramid.view(1, 2, 1, 160).pixels
    children = [[pyramid.view(2, 8 + i, 4 + j, 40).pixels for j in range(4)] for i in range(4)]
    together = np.vstack([np.hstack(row) for row in children]).astype(int)
    assert np.abs(together - parent).max() <= 1


def test_levels_have_the_same_size_and_middle(city):
    pyramid = Pyramid(city, **SQUARE)
    assert [pyramid.bounds(level, 0, 0).width for level in range(3)] == [160, 40, 10]
    assert pyramid.view(0, 0, 0, 32).pixels[16, 16].tolist() == pytest.approx([75, 75, 0], abs=8)


@pytest.mark.parametrize("shift_m", [1000, 160])
def test_imagery_beside_the_square_is_refused(city, shift_m):
    with pytest.raises(TilesError, match="shows nothing of the square") as caught:
        Pyramid(city, **{**SQUARE, "north_west": (475_000.0 + shift_m, 5_130_160.0)})
    assert "\n" not in str(caught.value)


def test_imagery_on_the_other_side_of_the_world_is_refused(city):
    with pytest.raises(TilesError, match="shows nothing of the square"):
        Pyramid(city, **{**SQUARE, "crs": "EPSG:26985", "north_west": (400_000.0, 136_000.0)})


def test_imagery_without_data_in_the_square_is_refused(write_raster):
    values = np.zeros((3, 400, 400), np.uint8)
    values[:, 300:] = 5
    source = tiles.open(write_raster(values, nodata=0, west=475_000, north=5_130_160))
    with pytest.raises(TilesError, match="has no data in the square"):
        Pyramid(source, **SQUARE)


def test_partly_covered_squares_are_masked(city):
    pyramid = Pyramid(city, **{**SQUARE, "north_west": (475_080.0, 5_130_160.0)})
    assert pyramid.view(0, 0, 0, 64).coverage == 0.5


def test_pickle(city):
    again = pickle.loads(pickle.dumps(Pyramid(city, **SQUARE)))
    assert np.array_equal(again.view(1, 1, 1, 32).pixels, Pyramid(city, **SQUARE).view(1, 1, 1, 32).pixels)
