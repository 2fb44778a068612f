"""Raster files of every make: bands, depths, masks, placements."""

import multiprocessing
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp as Colour
from rasterio.shutil import copy as copy_raster

import tiles

SIDE = 40
CRS = "EPSG:32632"


def flat(*values, dtype=np.uint8):
    """(bands, 40, 40), every band one value."""
    return np.broadcast_to(np.array(values, dtype)[:, None, None], (len(values), SIDE, SIDE)).copy()


def whole(path, px=SIDE):
    source = tiles.open(path)
    return source.read(source.bounds, source.crs, (px, px))


def colour(view):
    """The one colour a view shows."""
    (only,) = {tuple(map(int, pixel)) for pixel in view.pixels[view.mask]}
    return only


@pytest.mark.parametrize(
    ("values", "colours", "expected"),
    [
        ([7], None, (7, 7, 7)),
        ([7, 255], [Colour.gray, Colour.alpha], (7, 7, 7)),
        ([10, 20, 30], None, (10, 20, 30)),
        ([10, 20, 30, 99], [Colour.red, Colour.green, Colour.blue, Colour.undefined], (10, 20, 30)),
        ([10, 20, 30, 255], [Colour.red, Colour.green, Colour.blue, Colour.alpha], (10, 20, 30)),
        ([30, 20, 10], [Colour.blue, Colour.green, Colour.red], (10, 20, 30)),
        ([99, 30, 20, 10], [Colour.undefined, Colour.blue, Colour.green, Colour.red], (10, 20, 30)),
        ([10, 20, 30, 40, 50, 60], [Colour.undefined] * 6, (10, 20, 30)),
    ],
)
def test_colours_come_from_the_right_bands(write_raster, values, colours, expected):
    view = whole(write_raster(flat(*values), colours=colours))
    assert colour(view) == expected and view.coverage == 1


def test_a_colour_table_is_applied(write_raster):
    values = np.repeat([[[1, 2]]], 20, axis=2).repeat(SIDE, axis=1).astype(np.uint8)
    path = write_raster(values)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (10, 20, 30, 255), 2: (40, 50, 60, 255)})
    view = whole(path)
    assert tuple(view.pixels[5, 5]) == (10, 20, 30) and tuple(view.pixels[5, 35]) == (40, 50, 60)


def test_colours_of_a_table_are_never_mixed_up(write_raster):
    """Entries 1 and 3 alternate; their mean, 2, is a colour the file nowhere shows."""
    values = np.tile(np.array([[1, 3], [3, 1]], np.uint8), (1, 400, 400))
    path = write_raster(values)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (200, 0, 0, 255), 2: (0, 255, 0, 255), 3: (200, 0, 0, 255)})
    assert colour(whole(path, 50)) == (200, 0, 0)


def test_sixteen_bits_are_stretched_between_percentiles_of_the_whole_file(write_raster):
    ramp = np.linspace(1000, 3000, SIDE * SIDE).reshape(SIDE, SIDE)
    path = write_raster(np.stack([ramp, ramp + 5, ramp]).astype(np.uint16))
    view = whole(path)
    low, high = np.percentile(np.stack([ramp, ramp + 5, ramp]).astype(np.uint16), [2, 98])
    expected = np.clip((ramp.astype(np.uint16) - low) / (high - low), 0, 1) * 255
    assert np.abs(view.pixels[..., 0] - expected).max() <= 1
    assert view.coverage == 1
    source = tiles.open(path)
    part = source.read(tiles.Bounds(10, -20, 20, -10), CRS, (10, 10))  # the same stretch in every window
    assert np.abs(part.pixels[..., 0].astype(int) - view.pixels[10:20, 10:20, 0]).max() <= 1


def test_sixteen_bit_no_data_neither_shows_nor_stretches(write_raster):
    values = np.full((3, SIDE, SIDE), 1000, np.uint16)
    values[:, :, 20:] = 2000
    values[:, :10] = 0
    view = whole(write_raster(values, nodata=0))
    assert not view.mask[:10].any() and view.mask[10:].all()
    assert set(np.unique(view.pixels[10:])) == {0, 255}


def test_floating_point_nan_is_mask(write_raster):
    values = np.linspace(0, 1, 3 * SIDE * SIDE, dtype=np.float32).reshape(3, SIDE, SIDE)
    values[:, 5:10] = np.nan
    view = whole(write_raster(values))
    assert not view.mask[5:10].any() and view.mask[12:].all()


def test_a_stretch_is_stated_or_measured_and_told(write_raster):
    ramp = np.linspace(1000, 3000, SIDE * SIDE).reshape(1, SIDE, SIDE).astype(np.uint16)
    path = write_raster(ramp)
    assert tiles.open(path).stretch == pytest.approx(np.percentile(ramp, [2, 98]))
    stated = tiles.open(f"{path}#stretch=0,4000")
    assert stated.stretch == (0, 4000)
    pixels = stated.read(stated.bounds, CRS, (SIDE, SIDE)).pixels
    assert np.abs(pixels - (ramp[0] / 4000 * 255)[..., None]).max() <= 0.51
    assert pickle.loads(pickle.dumps(stated)).stretch == (0, 4000)
    assert tiles.open(write_raster(flat(7), name="bytes.tif")).stretch is None


def test_eight_bits_are_stretched_where_stated(write_raster):
    assert colour(whole(f"{write_raster(flat(50, 100, 200))}#stretch=50,100")) == (0, 255, 255)


@pytest.mark.parametrize(("bands", "expected"), [("4,3,2", (40, 30, 20)), ("2", (20, 20, 20))])
def test_bands_are_stated(write_raster, bands, expected):
    path = write_raster(flat(10, 20, 30, 40), name="scene#4.tif", colours=[Colour.undefined] * 4)
    assert colour(whole(f"{path}#bands={bands}")) == expected
    assert colour(whole(f"{path.parent}/scene*.tif#bands={bands}")) == expected  # of every file of a glob


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("bands=1,5,2", "name one or three of 1..4"),
        ("bands=1,2", "name one or three of 1..4"),
        ("bands=red", "no list of numbers"),
        ("stretch=0", "no list of numbers"),
        ("stretch=10,10", "black < white"),
        ("stretch=0,inf", "black < white"),
        ("zooms=1-2", "unknown option 'zooms'"),
    ],
)
def test_options_that_make_no_sense_are_refused(write_raster, options, says):
    path = write_raster(flat(10, 20, 30, 40))
    with pytest.raises(tiles.TilesError, match=says) as caught:
        tiles.open(f"{path}#{options}")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_stretch_of_a_colour_table_is_refused(write_raster):
    path = write_raster(flat(1))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (10, 20, 30, 255)})
    with pytest.raises(tiles.TilesError, match="takes no stretch"):
        tiles.open(f"{path}#stretch=0,1")


def test_a_constant_sixteen_bit_file_is_shown(write_raster):
    assert whole(write_raster(flat(500, 500, 500, dtype=np.uint16))).coverage == 1


def hole():
    """(40, 40) uint8 validity: the north-west quarter is missing."""
    valid = np.full((SIDE, SIDE), 255, np.uint8)
    valid[:20, :20] = 0
    return valid


@pytest.mark.parametrize("kind", ["nodata", "mask", "alpha"])
@pytest.mark.parametrize("px", [80, 40, 20, 8])
@pytest.mark.parametrize("overviews", [(), (2, 4)])
def test_what_is_missing_is_mask_at_every_level_and_never_bleeds(write_raster, kind, px, overviews):
    values = flat(200, 180, 160)
    values[:, :20, :20] = 0
    if kind == "nodata":
        path = write_raster(values, nodata=0, overviews=overviews)
    elif kind == "mask":
        path = write_raster(values, alpha=hole(), overviews=overviews)
    else:
        path = write_raster(
            np.concatenate([values, hole()[None]]),
            colours=[Colour.red, Colour.green, Colour.blue, Colour.alpha],
            overviews=overviews,
        )
    view = whole(path, px)
    assert not view.mask[: px // 2, : px // 2].any()
    assert view.mask.sum() == px * px * 3 // 4
    assert np.abs(view.pixels[view.mask].astype(int) - [200, 180, 160]).max() <= 1


def test_a_pixel_is_no_data_only_where_all_bands_say_so(write_raster):
    view = whole(write_raster(flat(0, 5, 0), nodata=0))
    assert view.coverage == 1 and colour(view) == (0, 5, 0)


def test_black_and_white_without_no_data_are_colours(write_raster):
    assert whole(write_raster(flat(0, 0, 0))).coverage == 1
    assert whole(write_raster(flat(255, 255, 255))).coverage == 1


@pytest.mark.parametrize("crs", [CRS, "EPSG:3857"])
def test_windows_beyond_the_raster_are_masked_not_stretched(write_raster, crs):
    values = flat(50, 60, 70)
    values[0] = np.arange(SIDE)[None]  # red counts columns
    source = tiles.open(write_raster(values, crs=crs, west=1000, north=1000, gsd=1))
    view = source.read(tiles.Bounds(980, 980, 1020, 1020), crs, (40, 40))
    assert view.mask[20:, 20:].all() and view.mask.sum() == 400
    assert np.array_equal(view.pixels[30, 20:, 0], np.arange(20))
    assert source.read(tiles.Bounds(0, 0, 40, 40), crs, (8, 8)).coverage == 0


def test_windows_where_the_crs_ends_are_masked(write_raster):
    source = tiles.open(write_raster(flat(1, 2, 3), west=500_000, north=5_000_000))
    assert source.read(tiles.Bounds(-180, -90, 180, 90), "EPSG:4326", (16, 16)).coverage == 0
    assert source.read(tiles.Bounds(1e12, 1e12, 2e12, 2e12), "EPSG:3857", (16, 16)).coverage == 0


def test_a_geographic_raster_knows_its_metres(write_raster):
    source = tiles.open(write_raster(flat(9, 9, 9), crs="EPSG:4326", west=8, north=60, gsd=1e-5))
    assert source.gsd_m == pytest.approx(np.sqrt(1.1141 * 0.5580), rel=1e-3)
    utm = tiles.open(write_raster(flat(9, 9, 9), name="utm.tif", west=500_000, north=6e6, gsd=0.25))
    assert utm.gsd_m == pytest.approx(0.25, rel=1e-3)


@pytest.mark.parametrize(
    ("transform", "west", "north"),
    [
        (Affine(1, 0, 100, 0, 1, 60), 100, 100),  # south-up: row 0 is in the south
        (Affine.translation(100, 100) * Affine.rotation(-90) * Affine.scale(1, -1), 60, 100),
    ],
)
def test_south_up_and_rotated_rasters_are_turned(write_raster, transform, west, north):
    rng = np.random.default_rng(0)
    values = np.kron(rng.integers(0, 255, (3, 5, 5)), np.ones((1, 8, 8))).astype(np.uint8)
    source = tiles.open(write_raster(values, transform=transform))
    assert source.bounds == pytest.approx((west, north - 40, west + 40, north))
    view = source.read(source.bounds, CRS, (40, 40))
    assert view.coverage == 1
    for row, col in [(4, 4), (4, 36), (36, 20)]:
        x, y = source.bounds.west + col, source.bounds.north - row
        raster_col, raster_row = map(int, ~transform * (x, y))
        assert tuple(view.pixels[row, col]) == pytest.approx(tuple(values[:, raster_row, raster_col]), abs=1)


def test_a_vrt_is_a_raster(write_raster, tmp_path):
    path = write_raster(flat(10, 20, 30))
    copy_raster(path, tmp_path / "image.vrt", driver="VRT")
    assert colour(whole(tmp_path / "image.vrt")) == (10, 20, 30)


def test_attribution_is_the_files_copyright(write_raster):
    path = write_raster(flat(1, 2, 3))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(TIFFTAG_COPYRIGHT="(c) somebody")
    assert tiles.open(path).attribution == "(c) somebody"


@pytest.fixture
def noise(write_raster):
    values = np.random.default_rng(3).integers(0, 256, (3, 512, 512), dtype=np.uint8)
    return tiles.open(
        write_raster(values, north=512, overviews=(2, 4), tiled=True, blockxsize=64, blockysize=64)
    )


def windows(count):
    rng = np.random.default_rng(4)
    for west, south, side in zip(*rng.uniform(0, 250, (2, count)), rng.uniform(20, 250, count), strict=True):
        yield tiles.Bounds(west, south, west + side, south + side)


def test_threads_read_what_one_reads(noise):
    wanted = list(windows(200))
    with ThreadPoolExecutor(8) as pool:  # first, while GDAL has nothing cached
        together = list(pool.map(lambda bounds: _read(noise, bounds), wanted))
    alone = [_read(noise, bounds) for bounds in wanted]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def _read(source, bounds):
    return source.read(bounds, CRS, (48, 48)).pixels


def test_every_thread_has_its_own_handle(noise):
    """GDAL forbids sharing one, but only rarely punishes it."""
    all_there = threading.Barrier(3)

    def handle(_):
        all_there.wait()
        return noise._handles.get(None)

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(handle, range(3)))) == 3


_inherited = {}  # what a forked process finds already open


def _read_inherited(bounds):
    return _read(_inherited["source"], bounds)


def test_forked_processes_do_not_share_a_file_position(noise):
    wanted = list(windows(200))
    for px in (48, 24, 12):  # opens a handle for every level; reading more would fill the cache they inherit
        noise.read(tiles.Bounds(0, 0, 48, 48), CRS, (px, px))
    _inherited["source"] = noise
    with multiprocessing.get_context("fork").Pool(4) as pool:
        together = pool.map(_read_inherited, wanted, chunksize=1)
    alone = [_read(noise, bounds) for bounds in wanted]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_sources_travel_to_spawned_processes(noise):
    wanted = list(windows(4))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.starmap(_read, [(noise, bounds) for bounds in wanted])
    assert all(np.array_equal(_read(noise, b), pixels) for b, pixels in zip(wanted, there, strict=True))


def test_pickled_and_closed_sources_open_again(noise):
    bounds = next(windows(1))
    before = _read(noise, bounds)
    assert np.array_equal(_read(pickle.loads(pickle.dumps(noise)), bounds), before)
    noise.close()
    assert np.array_equal(_read(noise, bounds), before)
