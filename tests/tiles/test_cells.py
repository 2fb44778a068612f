"""Cells as tiles: a view is one tile, any window is as from any source."""

import io
import json
import pickle
import sqlite3
from contextlib import suppress

import mercantile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tiles
from tiles import Bounds, Pyramid, TilesError, mbtiles
from tiles.build import build
from tiles.cache import SHARED
from tiles.cells import CellGrid
from tiles.store import WORLD_M

CRS = "EPSG:32632"
SQUARE = {"crs": CRS, "north_west": (475_000.0, 5_130_160.0), "size_m": 160.0, "branch": 4, "depth": 2}
WHOLE = Bounds(475_000.0, 5_130_000.0, 475_160.0, 5_130_160.0)
EVERY_CELL = [(level, row, col) for level in (0, 1) for row in range(4**level) for col in range(4**level)]
PX = 64
TOP = mercantile.Tile(270, 180, 9)


@pytest.fixture
def imagery(write_raster):
    """160 x 160 m at 0.5 m: a picture with a slanted edge, nothing in its south-east."""
    rows, cols = np.mgrid[:320, :320]
    values = np.stack([rows * 255 // 320, cols * 255 // 320, 60 + (rows + cols) // 8]).astype(np.uint8)
    alpha = np.where(rows + cols > 400, 0, 255).astype(np.uint8)
    return write_raster(values, west=475_000, north=5_130_160, gsd=0.5, alpha=alpha)


@pytest.fixture(params=["cells.mbtiles", "cells"])
def store(request, imagery, tmp_path):
    """The path of its cells."""
    path = tmp_path / request.param
    build(Pyramid(tiles.open(imagery), **SQUARE), path, px=PX, attribution="Who made it")
    return path


def test_what_is_stored_is_known_again(store):
    source = tiles.open(store)
    assert (source.crs, source.bounds, source.attribution) == (CRS, WHOLE, "Who made it")
    assert source.levels_m == pytest.approx((160 / 4 / PX, 160 / PX), rel=1e-3)


def test_a_view_is_what_any_window_of_that_place_shows(store):
    pyramid = Pyramid(tiles.open(store), **SQUARE)
    covered = []
    for cell in EVERY_CELL:
        view, read = pyramid.view(*cell, PX), pyramid.source.read(pyramid.bounds(*cell), CRS, (PX, PX))
        assert np.array_equal(view.pixels, read.pixels) and np.array_equal(view.mask, read.mask)
        covered.append(view.coverage)
    assert {0.0, 1.0} < set(covered)  # full, partly masked and absent cells


def test_a_view_shows_what_the_imagery_shows(store, imagery):
    cells, raw = Pyramid(tiles.open(store), **SQUARE), Pyramid(tiles.open(imagery), **SQUARE)
    for cell in EVERY_CELL:
        view, truth = cells.view(*cell, PX), raw.view(*cell, PX)
        assert (view.mask != truth.mask).mean() < 0.02
        both = view.mask & truth.mask
        assert np.abs(view.pixels[both].astype(int) - truth.pixels[both]).max(initial=0) < 25
        assert np.abs(view.pixels[both].astype(int) - truth.pixels[both]).mean() < 2 if both.any() else True


def test_a_view_reads_no_tile_but_its_own(imagery, tmp_path):
    path = tmp_path / "cells.mbtiles"
    build(Pyramid(tiles.open(imagery), **SQUARE), path, px=PX)
    pyramid = Pyramid(tiles.open(path), **SQUARE)
    pyramid.close()
    with sqlite3.connect(path) as connection:  # row 2 of 4, from the south
        connection.execute("UPDATE tiles SET tile_data = 'x' WHERE (tile_column, tile_row) != (1, 2)")
    assert pyramid.view(1, 1, 1, PX).coverage == 1
    with pytest.raises(TilesError, match=r"cells.mbtiles, zoom_level 1, column 0, row"):
        pyramid.source.read(pyramid.bounds(1, 1, 1), CRS, (PX, PX))


def test_no_caller_can_change_what_others_see(store):
    pyramid = Pyramid(tiles.open(store), **SQUARE)
    for cell in [(1, 0, 0), (1, 2, 2)]:  # full and partly masked
        view = pyramid.view(*cell, PX)
        before = view.pixels.copy(), view.mask.copy()
        for array in (view.pixels, view.mask):
            with suppress(ValueError):  # what is shared is read-only
                array[:] = 0
        again = pyramid.view(*cell, PX)
        assert np.array_equal(again.pixels, before[0]) and np.array_equal(again.mask, before[1])


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_views_of_full_cells_are_read_only_whether_kept_or_not(plain_store, cache_bytes, monkeypatch):
    monkeypatch.setattr(SHARED, "max_bytes", cache_bytes)
    pyramid = Pyramid(tiles.open(plain_store), **SQUARE)
    for cell in EVERY_CELL:
        view = pyramid.view(*cell, PX)
        for array in (view.pixels, view.mask):
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0


@pytest.mark.parametrize("change", [
    {"north_west": (475_000.001, 5_130_160.0)}, {"size_m": 159.999}, {"branch": 2, "depth": 4}, {"crs": "EPSG:25832"},
])  # fmt: skip
def test_other_squares_and_sizes_are_read_as_windows(store, change):
    pyramid = Pyramid(tiles.open(store), **SQUARE | change)
    for cell in [(1, 0, 0), (1, 1, 1), (0, 0, 0)]:
        for px in (PX, 50):
            view = pyramid.view(*cell, px)
            read = pyramid.source.read(pyramid.bounds(*cell), pyramid.crs, (px, px))
            assert np.array_equal(view.pixels, read.pixels) and np.array_equal(view.mask, read.mask)


def test_coarse_cells_do_not_fray_the_edge_of_the_imagery(store, imagery):
    """Their pixels are larger: shown in a fine window's holes they would reach beyond the imagery."""
    window = Bounds(475_080, 5_130_040, 475_120, 5_130_080), CRS, (100, 100)
    view, truth = tiles.open(store).read(*window), tiles.open(imagery).read(*window)
    assert 0.3 < truth.coverage < 0.7
    assert (view.mask & ~truth.mask).mean() < 0.02


def test_in_a_stack_the_finest_tile_shows_and_coarser_imagery_fills_it(store, write_raster):
    plain = write_raster(
        np.full((3, 40, 40), 200, np.uint8), name="coarse.tif", west=475_000, north=5_130_160, gsd=4
    )
    pyramid = Pyramid(tiles.open([plain, store]), **SQUARE)
    for cell in EVERY_CELL:
        view, read = pyramid.view(*cell, PX), pyramid.source.read(pyramid.bounds(*cell), CRS, (PX, PX))
        assert view.coverage == 1 and np.array_equal(view.pixels, read.pixels)
    assert (pyramid.view(1, 3, 3, PX).pixels == 200).all()


def test_web_tiles_are_the_views_of_a_web_mercator_square(tmp_path):
    """The square is one tile; its cells lie somewhere in the grid of the tiles."""
    entries = []
    for zoom in (9, 10, 11):
        for tile in mercantile.children(TOP, zoom=zoom) if zoom > 9 else [TOP]:
            rng = np.random.default_rng(tile.x * 1000 + tile.y)
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(file, "PNG")
            entries.append((tile.z, tile.x, tile.y, file.getvalue()))
    mbtiles.write(tmp_path / "x.mbtiles", entries, {})
    bounds = mercantile.xy_bounds(TOP)
    pyramid = Pyramid(
        tiles.open(tmp_path / "x.mbtiles"),
        crs="EPSG:3857",
        north_west=(bounds.left, bounds.top),
        size_m=2 * WORLD_M / 2**9,
        branch=2,
        depth=3,
    )
    stored = {(z, x, y): np.array(Image.open(io.BytesIO(data))) for z, x, y, data in entries}
    for level in range(3):
        for row in range(2**level):
            for col in range(2**level):
                tile = stored[9 + level, (270 << level) + col, (180 << level) + row]
                assert np.array_equal(pyramid.view(level, row, col, 256).pixels, tile)


def test_pickle(store):
    pyramid = Pyramid(tiles.open(store), **SQUARE)
    here = pyramid.view(1, 0, 1, PX).pixels
    assert np.array_equal(pickle.loads(pickle.dumps(pyramid)).view(1, 0, 1, PX).pixels, here)


GRID = CellGrid("EPSG:32632", (475_000.0, 5_130_160.0), 160.0, 4, 2, 64)


def test_a_grid_survives_its_json():
    assert CellGrid.loads(GRID.dumps(), name="x") == GRID


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([1.0, 2.0])


@given(st.dictionaries(st.sampled_from(list(json.loads(GRID.dumps()))), values) | st.text() | values)
def test_what_is_no_grid_is_refused(changed):
    text = (
        json.dumps(json.loads(GRID.dumps()) | changed) if isinstance(changed, dict) else json.dumps(changed)
    )
    try:
        grid = CellGrid.loads(text, name="there/grid.json")
    except TilesError as error:
        assert str(error).startswith("there/grid.json: ") and "\n" not in str(error)
    else:
        assert grid.levels[0].side > 0 and grid.bounds.width > 0


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"crs": 1}', GRID.dumps().replace("EPSG:32632", "EPSG:9")]
)
def test_a_folder_with_a_broken_grid_is_refused(tmp_path, text):
    (tmp_path / "grid.json").write_text(text)
    with pytest.raises(TilesError, match=r"grid\.json: ") as caught:
        tiles.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_cell_is_named(store):
    source = tiles.open(store)
    if store.is_dir():
        (store / "1" / "0" / "2.jpg").write_text("gone")
        named = "1/0/2"
    else:
        with sqlite3.connect(store) as connection:
            connection.execute("UPDATE tiles SET tile_data = 'gone' WHERE (tile_column, tile_row) = (2, 3)")
        named = "zoom_level 1, column 2, row 3"
    with pytest.raises(TilesError, match=named) as caught:
        Pyramid(source, **SQUARE).view(1, 0, 2, PX)
    assert str(store) in str(caught.value)


@pytest.fixture(params=["plain.mbtiles", "plain"])
def plain_store(request, write_raster, tmp_path):
    """Cells of imagery without holes: its coarse ones are PPM."""
    values = np.random.default_rng(0).integers(0, 256, (3, 256, 256), dtype=np.uint8)
    path = write_raster(values, west=475_000, north=5_130_160, gsd=160 / 256)
    build(Pyramid(tiles.open(path), **SQUARE), tmp_path / request.param, px=PX)
    return tmp_path / request.param


def test_coarse_cells_are_the_very_average_of_finer_ones(plain_store):
    pyramid = Pyramid(tiles.open(plain_store), **SQUARE)
    level = pyramid.source.store.levels[-1]
    assert pyramid.source.store.get(level, 0, 0)[:13] == b"P6\n64 64\n255\n"
    finer = np.concatenate(
        [
            np.concatenate([pyramid.view(1, row, col, PX).pixels for col in range(4)], axis=1)
            for row in range(4)
        ]
    )
    mean = finer.reshape(PX, 4, PX, 4, 3).mean(axis=(1, 3))
    view = pyramid.view(0, 0, 0, PX)
    assert np.abs(view.pixels - mean).max() <= 0.5 and view.coverage == 1
    with Image.open(
        io.BytesIO(pyramid.source.store.get(level, 0, 0))
    ) as picture:  # other programs see the same
        assert np.array_equal(np.asarray(picture), view.pixels)


@pytest.mark.parametrize("left", [13, 5000])
def test_a_plain_cell_cut_short_is_named(plain_store, left):
    source = tiles.open(plain_store)
    data = source.store.get(source.store.levels[-1], 0, 0)[:left]
    if plain_store.is_dir():
        (plain_store / "0" / "0" / "0.ppm").write_bytes(data)
    else:
        with sqlite3.connect(plain_store) as connection:
            connection.execute("UPDATE tiles SET tile_data = ? WHERE zoom_level = 0", (data,))
    with pytest.raises(TilesError, match="not a readable tile") as caught:
        source.read(WHOLE, CRS, (PX, PX))
    assert str(plain_store) in str(caught.value) and "\n" not in str(caught.value)
