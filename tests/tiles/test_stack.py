"""Several sources as one: the finest that covers wins, pixel by pixel."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import tiles

CRS = "EPSG:32632"


def plain(value, side):
    return np.full((3, side, side), value, np.uint8)


@pytest.fixture
def stack(write_raster):
    """Three squares around one middle, (0, 0): 40 m at 4 m/px, 20 m at 2 m/px, 10 m at 1 m/px."""
    return tiles.open([
        write_raster(plain(value, 10), name=f"{gsd}.tif", west=-5 * gsd, north=5 * gsd, gsd=gsd)
        for gsd, value in [(4, 40), (1, 10), (2, 20)]
    ])  # fmt: skip


def test_the_finest_that_covers_wins_and_coarser_fills(stack):
    view = stack.read(tiles.Bounds(-30, -30, 30, 30), CRS, (60, 60))
    expected = np.zeros((60, 60), np.uint8)
    for half, value in [(20, 40), (10, 20), (5, 10)]:
        expected[30 - half : 30 + half, 30 - half : 30 + half] = value
    assert np.array_equal(view.pixels[..., 0], expected)
    assert np.array_equal(view.mask, expected > 0)


def test_it_wins_when_shrunk_too(stack):
    view = stack.read(tiles.Bounds(-20, -20, 20, 20), CRS, (8, 8))  # 5 m pixels
    assert view.coverage == 1
    assert (view.pixels[3:5, 3:5] == 10).all() and (view.pixels[2, 2:6] == 20).all()
    assert (view.pixels[0] == 40).all()


def test_holes_in_the_finest_are_filled(write_raster):
    fine = plain(10, 40)
    fine[:, 10:20, 10:20] = 0
    stack = tiles.open(
        [
            write_raster(fine, name="fine.tif", nodata=0, west=0, north=40),
            write_raster(plain(90, 10), name="coarse.tif", west=0, north=40, gsd=4),
        ]
    )
    view = stack.read(stack.bounds, CRS, (40, 40))
    assert view.coverage == 1
    assert (view.pixels[10:20, 10:20] == 90).all() and (view.pixels == 90).sum() == 300


def test_of_equally_fine_ones_the_first_given_shows(write_raster):
    paths = [write_raster(plain(value, 8), name=f"{value}.tif") for value in (3, 1, 2)]
    stack = tiles.open(paths)
    assert (stack.read(stack.bounds, CRS, (8, 8)).pixels == 3).all()


def test_sources_of_several_crs_agree(write_raster):
    """Two halves of one ramp, one in UTM and one in Web Mercator, meet without a step."""
    from pyproj import Transformer

    to_mercator = Transformer.from_crs(CRS, "EPSG:3857", always_xy=True)

    def ramp(x):
        return 127 + (x - 475_000) / 2

    x = 475_000 - 100 + np.arange(100) + 0.5
    west = np.broadcast_to(ramp(x), (3, 200, 100)).round().astype(np.uint8)
    path = write_raster(west, name="west.tif", west=474_900, north=5_130_100)
    x0, _ = to_mercator.transform(474_850, 5_129_850)
    x1, y1 = to_mercator.transform(475_150, 5_130_150)
    gsd = (x1 - x0) / 300
    grid = np.meshgrid(x0 + (np.arange(300) + 0.5) * gsd, y1 - (np.arange(300) + 0.5) * gsd)
    utm_x, _ = to_mercator.transform(*grid, direction="INVERSE")
    both = np.broadcast_to(ramp(utm_x), (3, 300, 300)).round().astype(np.uint8)
    other = write_raster(both, name="all.tif", crs="EPSG:3857", west=x0, north=y1, gsd=gsd)
    view = tiles.open([path, other]).read(
        tiles.Bounds(474_920, 5_129_920, 475_080, 5_130_080), CRS, (160, 160)
    )
    expected = ramp(474_920 + np.arange(160) + 0.5)
    assert view.coverage == 1
    assert np.abs(view.pixels[..., 0] - expected[None]).max() <= 1


def test_more_files_than_a_process_may_hold_open(write_raster):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 64
    paths = [write_raster(plain(i % 200, 4), name=f"{i}.tif", west=4 * i) for i in range(150)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + 100, hard))
    try:
        stack = tiles.open(paths)
        view = stack.read(stack.bounds, CRS, (4, 600))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert np.array_equal(view.pixels[0, ::4, 0], np.arange(150) % 200)


def test_what_it_reports(stack, write_raster):
    assert stack.gsd_m == pytest.approx(1, rel=1e-2)
    assert stack.bounds == pytest.approx((-20, -20, 20, 20))
    assert [round(source.gsd_m) for source in stack.sources] == [1, 2, 4]


def test_pickle_and_close(stack):
    bounds = tiles.Bounds(-30, -30, 30, 30)
    before = stack.read(bounds, CRS, (60, 60)).pixels
    stack.close()
    assert np.array_equal(pickle.loads(pickle.dumps(stack)).read(bounds, CRS, (60, 60)).pixels, before)
