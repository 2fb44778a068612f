"""Real imagery, skipped where it is absent: the answers are held against GDAL's own."""

import mercantile
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.warp import reproject

import tiles
from tiles import Bounds, Pyramid

WASHINGTON = {
    "crs": "EPSG:26985",
    "north_west": (395993.5, 141189.0),
    "size_m": 10_000,
    "branch": 4,
    "depth": 4,
}


@pytest.fixture(scope="module")
def washington(shared_data):
    return Pyramid(tiles.open(shared_data / "dc" / "imagery" / "*.tif"), **WASHINGTON)


def cell_around(place, level):
    """(level, row, col) of the cell of Washington's grid that holds an (x, y)."""
    side_m = 10_000 / 4**level
    west, north = WASHINGTON["north_west"]
    return level, int((north - place[1]) / side_m), int((place[0] - west) / side_m)


def test_washington_has_a_view_at_every_level(washington, shared_data):
    for path in sorted((shared_data / "dc" / "imagery").glob("*_100m.tif")):
        with rasterio.open(path) as dataset:
            bounds = dataset.bounds
        place = (bounds.left + bounds.right) / 2, (bounds.bottom + bounds.top) / 2
        for level in range(5):
            view = washington.view(*cell_around(place, level), 384)
            assert view.coverage == 1
            assert view.pixels.std() > 10  # a picture, not a fill


def test_washington_is_shown_by_its_finest_imagery(washington, shared_data):
    path = next((shared_data / "dc" / "imagery").glob("*_100m.tif"))
    with rasterio.open(path) as dataset:
        bounds, values = Bounds(*dataset.bounds), dataset.read()
    view = washington.source.read(bounds, "EPSG:26985", values.shape[1:])
    assert np.array_equal(view.pixels.transpose(2, 0, 1), values)


@pytest.mark.parametrize(("fine", "coarse"), [("100m", "300m"), ("300m", "1000m"), ("1000m", "3000m")])
def test_washingtons_resolutions_lie_on_each_other(shared_data, fine, coarse):
    """What the finer picture averages to is what the coarser shows; half a pixel aside it is not."""
    for path in sorted((shared_data / "dc" / "imagery").glob(f"*_{fine}.tif")):
        source = tiles.open(path)
        other = tiles.open(str(path).replace(fine, coarse))
        px = round(source.bounds.width / other.gsd_m)

        def difference(shift_px, source=source, other=other, px=px):
            move = shift_px * (source.bounds.width / px)
            moved = Bounds(*(value + move for value in source.bounds))
            one = other.read(source.bounds, source.crs, (px, px))
            two = source.read(moved, source.crs, (px, px))
            both = two.mask & one.mask
            return np.abs(one.pixels[both].astype(float) - two.pixels[both]).mean()

        assert difference(0) < min(difference(0.5), difference(-0.5))


def test_washingtons_mosaic_is_masked_where_it_ends(shared_data):
    path = shared_data / "dc" / "imagery" / "mosaic.tif"
    source = tiles.open(path)
    view = source.read(source.bounds, source.crs, (400, 400))
    with rasterio.open(path) as dataset:
        valid = dataset.dataset_mask(out_shape=(400, 400), resampling=Resampling.average) / 255
    assert view.coverage == pytest.approx(valid.mean(), abs=0.005)
    assert not view.mask[valid == 0].any() and view.mask[valid == 1].all()
    assert (view.pixels[~view.mask] == 0).all() and 0.2 < view.coverage < 0.9


def test_brig_lies_where_gdal_puts_it(shared_data):
    """A window in the Swiss grid from tiles, against GDAL's warp of the same tiles put together."""
    zoom, cols, rows = 17, range(68434, 68440), range(46460, 46464)
    folder = shared_data / "brig"
    mosaic = np.zeros((len(rows) * 256, len(cols) * 256, 3), np.uint8)
    for i, row in enumerate(rows):
        for j, col in enumerate(cols):
            tile = np.asarray(Image.open(folder / str(zoom) / str(col) / f"{row}.jpg").convert("RGB"))
            mosaic[i * 256 : i * 256 + 256, j * 256 : j * 256 + 256] = tile
    world = 20037508.342789244
    side = 2 * world / 2**zoom
    left, top = cols.start * side - world, world - rows.start * side
    area = (left, top - len(rows) * side, left + len(cols) * side, top)
    x, y = (area[0] + area[2]) / 2, (area[1] + area[3]) / 2
    (x,), (y,) = rasterio.warp.transform("EPSG:3857", "EPSG:2056", [x], [y])
    bounds = Bounds(x - 150, y - 150, x + 150, y + 150)
    view = tiles.open(folder).read(bounds, "EPSG:2056", (256, 256))  # 1.17 m a pixel: zoom 17 has 0.82 m

    def gdals(shift_px):
        moved = Bounds(*(value + shift_px * 300 / 256 for value in bounds))
        warped = np.zeros((3, 256, 256), np.uint8)
        reproject(
            np.moveaxis(mosaic, -1, 0).copy(),
            warped,
            src_transform=from_bounds(*area, mosaic.shape[1], mosaic.shape[0]),
            src_crs="EPSG:3857",
            dst_transform=from_bounds(*moved, 256, 256),
            dst_crs="EPSG:2056",
            resampling=Resampling.average,
            tolerance=0.01,
        )
        return np.abs(warped.transpose(1, 2, 0).astype(float) - view.pixels).mean()

    assert view.coverage == 1
    assert gdals(0) < 3 and gdals(0) < min(gdals(0.25), gdals(-0.25))


def _tile(folder, lat, lon, zoom):
    tile = mercantile.tile(lon, lat, zoom)
    return folder / str(zoom) / str(tile.x) / f"{tile.y}.jpg"


def test_brig_falls_back_and_ends(shared_data):
    source = tiles.open(shared_data / "brig")
    half = 0.0002  # degrees; 200 px of 0.15 to 0.22 m ask for zoom 19
    for lat, lon, finest, coverage in [
        (46.317, 7.978, 19, 1.0),
        (46.318, 7.955, 18, 1.0),
        (46.317, 7.900, None, 0.0),
    ]:
        held = [z for z in range(13, 20) if _tile(shared_data / "brig", lat, lon, z).exists()]
        assert max(held, default=None) == finest
        view = source.read(Bounds(lon - half, lat - half, lon + half, lat + half), "EPSG:4326", (200, 200))
        assert view.coverage == coverage
    assert source.gsd_m == pytest.approx(0.206, abs=0.002)


def test_brigs_white_padding_is_mask(shared_data):
    source = tiles.open(shared_data / "brig")
    view = source.read(source.bounds, source.crs, (300, 500))
    assert 0.5 < view.coverage < 0.95
    assert (view.pixels[view.mask] >= 240).all(axis=-1).mean() < 0.02


def test_naip_shows_red_green_and_blue_of_four_bands(shared_data):
    for path in sorted((shared_data / "naip").glob("*.tif")):
        with rasterio.open(path) as dataset:
            values = dataset.read()
        source = tiles.open(path)
        view = source.read(source.bounds, source.crs, values.shape[1:])
        assert len(values) == 4 and view.coverage == 1
        assert np.array_equal(view.pixels.transpose(2, 0, 1), values[:3])
