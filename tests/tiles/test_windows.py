"""A window lies exactly where it was asked for, at every zoom and in any CRS: measured on analytic images."""

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer

import tiles
from tiles.geo import transform_bounds

PX = 96
# The places: a UTM zone, Web Mercator at latitude 60 (where its metre is half a metre), two national grids.
PLACES = {
    "EPSG:32632": (475_000.0, 5_130_000.0),
    "EPSG:3857": (1_000_000.0, 8_399_738.0),
    "EPSG:2056": (2_642_000.0, 1_129_000.0),
    "EPSG:26985": (397_000.0, 135_000.0),
}
SCALES = [0.31, 0.8, 1.0, 1.37, 2.9, 6.3]  # raster pixels per window pixel


def waves(x, y, wavelength):
    """Red varies with x, green with y: a shift of either is a phase."""
    angle = 2 * np.pi / wavelength
    return [127.5 + 100 * np.sin(angle * x), 127.5 + 100 * np.sin(angle * y), np.zeros_like(x)]


def shift(values, position, wavelength):
    """How far a wave seen in a window lies from where it should: by its phase, in units of `position`."""
    angle = 2 * np.pi / wavelength * position.ravel()
    design = np.stack([np.sin(angle), np.cos(angle), np.ones_like(angle)], axis=1)
    (sine, cosine, _), *_ = np.linalg.lstsq(design, values.ravel().astype(float), rcond=None)
    assert np.hypot(sine, cosine) > 60, "the wave is blurred away"
    return np.arctan2(cosine, sine) * wavelength / (2 * np.pi)


def measured_shift_px(source, bounds, crs, *, origin, wavelength, gsd):
    """(east, north) error of a window's position in window pixels; its waves are given in the source's CRS."""
    view = source.read(bounds, crs, (PX, PX))
    assert view.coverage == 1
    centres = (np.arange(PX) + 0.5) / PX
    x, y = np.meshgrid(bounds.west + bounds.width * centres, bounds.north - bounds.height * centres)
    x, y = Transformer.from_crs(crs, source.crs, always_xy=True).transform(x, y)
    return [
        shift(view.pixels[..., 0], x - origin[0], wavelength) / gsd,
        shift(view.pixels[..., 1], y - origin[1], wavelength) / gsd,
    ]


@pytest.fixture
def wavy(write_raster):
    """wavy(crs, wavelength_px) -> (source with waves, its middle); 801 x 801 px, so overviews round."""

    def make(crs, wavelength, side=801, gsd=0.5):
        middle = PLACES[crs]
        west, north = middle[0] - side * gsd / 2, middle[1] + side * gsd / 2
        x, y = np.meshgrid((np.arange(side) + 0.5) * gsd, -(np.arange(side) + 0.5) * gsd)
        values = np.rint(waves(x + west - middle[0], y + north - middle[1], wavelength)).astype(np.uint8)
        path = write_raster(values, crs=crs, west=west, north=north, gsd=gsd, overviews=(2, 4))
        return tiles.open(path), middle

    return make


@pytest.mark.parametrize("crs", PLACES)
@pytest.mark.parametrize("scale", SCALES)
def test_position_is_exact_in_the_rasters_own_crs(wavy, crs, scale):
    gsd = 0.5 * scale
    source, (x, y) = wavy(crs, wavelength=12 * gsd)
    half = PX * gsd / 2
    bounds = tiles.Bounds(x - half + 0.317, y - half - 0.171, x + half + 0.317, y + half - 0.171)
    error = measured_shift_px(source, bounds, crs, origin=(x, y), wavelength=12 * gsd, gsd=gsd)
    assert np.abs(error).max() < 0.02


@pytest.mark.parametrize("raster_crs", PLACES)
@pytest.mark.parametrize("scale", SCALES)
def test_position_is_exact_in_another_crs(wavy, raster_crs, scale):
    gsd = 0.5 * scale  # in units of the raster's CRS
    source, (x, y) = wavy(raster_crs, wavelength=12 * gsd)
    crs = {"EPSG:32632": "EPSG:3857", "EPSG:3857": "EPSG:32632", "EPSG:2056": "EPSG:32632"}.get(
        raster_crs, "EPSG:32618"
    )
    middle = Transformer.from_crs(raster_crs, crs, always_xy=True).transform(x, y)
    side = transform_bounds(tiles.Bounds(x, y, x + 1, y + 1), raster_crs, crs).width * PX * gsd
    bounds = tiles.Bounds(
        middle[0] - side / 2, middle[1] - side / 2, middle[0] + side / 2, middle[1] + side / 2
    )
    error = measured_shift_px(source, bounds, crs, origin=(x, y), wavelength=12 * gsd, gsd=gsd)
    assert np.abs(error).max() < 0.05


@pytest.mark.parametrize("scale", SCALES)
def test_position_is_exact_in_map_tiles(tmp_path, scale):
    """XYZ tiles at latitude 60, drawn analytically at two zooms, seen in UTM 32."""
    from PIL import Image

    middle, zoom = PLACES["EPSG:3857"], 17
    world = 20037508.342789244
    px_m = 2 * world / 2**zoom / 256
    wavelength = 12 * px_m * scale
    for z in (zoom - 1, zoom):
        side = 2 * world / 2**z
        reach = int(PX * px_m * scale / side) + 1
        col, row = int((middle[0] + world) / side), int((world - middle[1]) / side)
        for tx in range(col - reach, col + reach + 1):
            for ty in range(row - reach, row + reach + 1):
                within = (np.arange(256) + 0.5) / 256 * side
                x, y = np.meshgrid(tx * side - world + within, world - ty * side - within)
                picture = np.stack(waves(x - middle[0], y - middle[1], wavelength), axis=-1)
                (tmp_path / str(z) / str(tx)).mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.rint(picture).astype(np.uint8)).save(tmp_path / f"{z}/{tx}/{ty}.png")
    source = tiles.open(tmp_path)
    x, y = Transformer.from_crs("EPSG:3857", "EPSG:32632", always_xy=True).transform(*middle)
    half = PX * px_m * scale * 0.5 / 2  # a metre of Mercator is half a metre here
    bounds = tiles.Bounds(x - half, y - half, x + half, y + half)
    error = measured_shift_px(
        source, bounds, "EPSG:32632", origin=middle, wavelength=wavelength, gsd=px_m * scale
    )
    assert np.abs(error).max() < 0.05


@pytest.mark.parametrize(
    "transform", [None, Affine(0, 1, 0, 1, 0, 0)]
)  # north-up, and turned over the diagonal
def test_average_is_the_exact_area_average(write_raster, transform):
    values = np.random.default_rng(0).integers(0, 256, (3, 120, 120), dtype=np.uint8)
    source = tiles.open(write_raster(values, north=120, transform=transform))
    view = source.read(source.bounds, source.crs, (80, 80), resampling="average")
    fine = values.repeat(2, axis=1).repeat(2, axis=2)  # 1.5 raster pixels are 3 half ones
    exact = fine.reshape(3, 80, 3, 80, 3).mean(axis=(2, 4))
    if transform:
        exact = exact.transpose(0, 2, 1)[:, ::-1]
    assert view.coverage == 1
    assert np.abs(view.pixels.transpose(2, 0, 1) - exact).max() <= 0.51


@pytest.fixture(scope="module")
def photo():
    """(480, 480) float: structure at all sizes, as sharp as pictures are."""
    rng, side = np.random.default_rng(5), 480
    picture = np.full((side, side), 128.0)
    for k in (3, 6, 12, 24, 48, 96, 192):
        coarse = rng.normal(size=(k, k)) * 60 / k**0.4
        picture += np.kron(coarse, np.ones((side // k + 1,) * 2))[:side, :side]
    return picture.clip(0, 255).round()


@pytest.mark.parametrize("scale", [1.0, 1.1, 1.25, 1.6, 1.9, 1.99])
def test_shrinking_is_the_area_average_to_half_a_grey_value(write_raster, photo, scale):
    source = tiles.open(write_raster(np.stack([photo] * 3).astype(np.uint8), north=480))
    px, start = 200, 31.37
    stop = start + px * scale
    view = source.read(tiles.Bounds(start, 480 - stop, stop, 480 - start), source.crs, (px, px))
    integral = np.pad(photo, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    edges = np.linspace(start, stop, px + 1)
    at = np.arange(481)
    by_row = np.stack([np.interp(edges, at, column) for column in integral.T], axis=1)
    corners = np.stack([np.interp(edges, at, row) for row in by_row])
    exact = np.diff(np.diff(corners, axis=0), axis=1) / scale**2
    error = np.abs(view.pixels[..., 0] - exact)
    assert error.mean() < 0.7 and (error**2).mean() < 1.5


def test_without_overviews_shrinking_still_averages_areas(write_raster):
    values = np.random.default_rng(1).integers(0, 256, (3, 600, 600), dtype=np.uint8)
    source = tiles.open(write_raster(values, north=600))
    view = source.read(source.bounds, source.crs, (20, 20))
    exact = values.reshape(3, 20, 30, 20, 30).mean(axis=(2, 4))
    assert np.abs(view.pixels.transpose(2, 0, 1) - exact).max() <= 1


def test_a_window_on_the_raster_grid_is_the_raster(write_raster):
    values = np.random.default_rng(2).integers(0, 256, (3, 50, 60), dtype=np.uint8)
    source = tiles.open(write_raster(values, west=100, north=200))
    view = source.read(tiles.Bounds(110, 160, 150, 190), source.crs, (30, 40))
    assert np.array_equal(view.pixels.transpose(2, 0, 1), values[:, 10:40, 10:50])


@pytest.mark.parametrize("scale", [1, 0.5])
def test_enlarging_is_smooth(write_raster, scale):
    """A ramp stays a ramp: nearest would make steps."""
    ramp = np.broadcast_to(np.arange(0, 200, 4, dtype=np.uint8), (3, 50, 50))
    source = tiles.open(write_raster(ramp, north=50))
    view = source.read(tiles.Bounds(10, 10, 40, 40), source.crs, (240, 240))
    steps = np.diff(view.pixels[120, :, 0].astype(int))
    assert steps.min() >= 0 and steps.max() <= 1


def test_the_level_that_is_read_is_the_coarsest_that_keeps_the_detail(tmp_path, write_raster):
    """Every level has its own colour, so a view says which one it was read from."""
    for i, name in enumerate(["levels.tif", "levels.tif.ovr", "levels.tif.ovr.ovr"]):
        values = np.full((3, 1024 >> i, 1024 >> i), [10, 90, 180][i], np.uint8)
        write_raster(values, name=name, north=1024)
    source = tiles.open(tmp_path / "levels.tif")
    colours = {px: set(np.unique(source.read(source.bounds, source.crs, (px, px)).pixels))
               for px in (2000, 1024, 513, 512, 300, 257, 256, 64)}  # fmt: skip
    assert colours == {
        2000: {10},
        1024: {10},
        513: {10},
        512: {90},
        300: {90},
        257: {90},
        256: {180},
        64: {180},
    }


def test_the_level_counts_ground_resolution_not_mercator_metres(tmp_path, write_raster):
    """At latitude 60 a Mercator pixel of 1 is 0.5 m: a view of 0.5 m needs the raster itself, 1 m an overview."""
    x, y = PLACES["EPSG:3857"]
    for i, name in enumerate(["levels.tif", "levels.tif.ovr"]):
        values = np.full((3, 1024 >> i, 1024 >> i), [10, 90][i], np.uint8)
        write_raster(values, name=name, crs="EPSG:3857", west=x - 512, north=y + 512)
    source = tiles.open(tmp_path / "levels.tif")
    assert source.gsd_m == pytest.approx(0.5, rel=0.01)
    utm_x, utm_y = Transformer.from_crs("EPSG:3857", "EPSG:32632", always_xy=True).transform(x, y)
    bounds = tiles.Bounds(utm_x - 50, utm_y - 50, utm_x + 50, utm_y + 50)
    assert set(np.unique(source.read(bounds, "EPSG:32632", (190, 190)).pixels)) == {10}
    assert set(np.unique(source.read(bounds, "EPSG:32632", (90, 90)).pixels)) == {90}
