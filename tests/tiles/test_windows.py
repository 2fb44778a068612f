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


def middles(bounds, shape, bearing_deg=0.0):
    """Where the pixels of a window lie, x and y: by the textbook, not by the code under test."""
    right = (np.arange(shape[1]) + 0.5) / shape[1] * bounds.width - bounds.width / 2
    up = bounds.height / 2 - (np.arange(shape[0]) + 0.5) / shape[0] * bounds.height
    right, up = np.meshgrid(right, up)
    sine, cosine = np.sin(np.radians(bearing_deg)), np.cos(np.radians(bearing_deg))
    x, y = (bounds.west + bounds.east) / 2, (bounds.south + bounds.north) / 2
    return x + right * cosine + up * sine, y - right * sine + up * cosine


def measured_shift_px(source, bounds, crs, *, origin, wavelength, gsd, bearing_deg=0.0):
    """(east, north) error of a window's position in window pixels; its waves are given in the source's CRS."""
    view = source.read(bounds, crs, (PX, PX), bearing_deg=bearing_deg)
    assert view.coverage == 1
    x, y = middles(bounds, (PX, PX), bearing_deg)
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


@pytest.mark.parametrize("crs", PLACES)
@pytest.mark.parametrize("bearing_deg", [30, 90, 137.3, -45, 270])
@pytest.mark.parametrize("scale", [0.8, 1.37, 2.9])
def test_position_is_exact_at_every_bearing(wavy, crs, bearing_deg, scale):
    gsd = 0.5 * scale
    source, (x, y) = wavy(crs, wavelength=12 * gsd)
    half = PX * gsd / 2
    bounds = tiles.Bounds(x - half + 0.317, y - half - 0.171, x + half + 0.317, y + half - 0.171)
    error = measured_shift_px(
        source, bounds, crs, origin=(x, y), wavelength=12 * gsd, gsd=gsd, bearing_deg=bearing_deg
    )
    assert np.abs(error).max() < 0.02


@pytest.mark.parametrize("bearing_deg", [20, 200])
def test_position_is_exact_at_a_bearing_of_another_crs(wavy, bearing_deg):
    """The bearing counts from the north of the window's CRS, which is not that of the raster's."""
    gsd = 0.5 * 1.4
    source, (x, y) = wavy("EPSG:2056", wavelength=12 * gsd)
    x, y = Transformer.from_crs("EPSG:2056", "EPSG:32632", always_xy=True).transform(x, y)
    half = PX * gsd / 2
    error = measured_shift_px(
        source, tiles.Bounds(x - half, y - half, x + half, y + half), "EPSG:32632",
        origin=PLACES["EPSG:2056"], wavelength=12 * gsd, gsd=gsd, bearing_deg=bearing_deg,
    )  # fmt: skip
    assert np.abs(error).max() < 0.05


@pytest.mark.parametrize(
    ("bearing_deg", "top", "right"),
    [(0, "north", "east"), (90, "east", "south"), (180, "south", "west"), (-90, "west", "north")],
)
def test_the_top_of_the_picture_looks_to_the_bearing(write_raster, bearing_deg, top, right):
    values = np.full((3, 90, 90), 128, np.uint8)
    towards = {
        "north": np.s_[:, :30],
        "south": np.s_[:, 60:],
        "west": np.s_[:, :, :30],
        "east": np.s_[:, :, 60:],
    }
    values[towards[top]] = 200
    values[1][towards[right][1:]] = 50
    source = tiles.open(write_raster(values, north=90))
    view = source.read(source.bounds, source.crs, (90, 90), bearing_deg=bearing_deg)
    assert view.coverage == 1
    assert (view.pixels[:29, :, 0] == 200).all() and (view.pixels[31:, :, 0] == 128).all()
    assert (view.pixels[:, 61:, 1] == 50).all() and (view.pixels[31:, :59, 1] == 128).all()


def test_a_turned_window_is_filled_from_the_finest_that_covers(write_raster):
    """Two squares around one middle: every pixel shows the finer one exactly where that is."""
    fine = write_raster(np.full((3, 40, 40), 50, np.uint8), name="fine.tif", west=-20, north=20)
    coarse = write_raster(np.full((3, 40, 40), 99, np.uint8), name="coarse.tif", west=-80, north=80, gsd=4)
    bounds = tiles.Bounds(-47, -50, 53, 50)
    view = tiles.open([fine, coarse]).read(bounds, "EPSG:32632", (100, 100), bearing_deg=33)
    x, y = middles(bounds, (100, 100), 33)
    edge = np.maximum(np.abs(x), np.abs(y))
    assert view.coverage == 1
    assert (view.pixels[edge < 19.4] == 50).all() and (view.pixels[edge > 20.6] == 99).all()


def test_what_a_turned_window_sees_beyond_the_raster_is_mask(write_raster):
    source = tiles.open(write_raster(np.full((3, 40, 40), 77, np.uint8), north=40))
    bounds = tiles.Bounds(-10, -10, 50, 50)
    for resampling in ("auto", "nearest", "bilinear", "cubic", "average"):
        view = source.read(bounds, source.crs, (60, 60), bearing_deg=45, resampling=resampling)
        x, y = middles(bounds, (60, 60), 45)
        edge = np.maximum(np.abs(x - 20), np.abs(y - 20))
        assert view.mask[edge < 19.4].all() and not view.mask[edge > 20.6].any()
        assert (
            np.abs(view.pixels[view.mask].astype(int) - 77).max() <= 1 and not view.pixels[~view.mask].any()
        )


@pytest.fixture
def noise():
    return np.random.default_rng(7).integers(0, 256, (3, 80, 80), dtype=np.uint8)


OFF_GRID = tiles.Bounds(10.37, 20.81, 50.37, 60.81)


def pixels_of(view, exact):
    assert view.coverage == 1
    return np.abs(view.pixels.astype(float) - exact)


@pytest.mark.parametrize("bearing_deg", [0, 25])
@pytest.mark.parametrize("px", [33, 40, 130])
def test_nearest_shows_the_pixel_that_is_there(write_raster, noise, px, bearing_deg):
    source = tiles.open(write_raster(noise, north=80))
    view = source.read(OFF_GRID, source.crs, (px, px), resampling="nearest", bearing_deg=bearing_deg)
    x, y = middles(OFF_GRID, (px, px), bearing_deg)
    assert pixels_of(view, noise[:, (80 - y).astype(int), x.astype(int)].transpose(1, 2, 0)).max() == 0


@pytest.mark.parametrize("bearing_deg", [0, 25])
@pytest.mark.parametrize("px", [33, 40, 130])
def test_bilinear_interpolates_between_four(write_raster, noise, px, bearing_deg):
    source = tiles.open(write_raster(noise, north=80))
    view = source.read(OFF_GRID, source.crs, (px, px), resampling="bilinear", bearing_deg=bearing_deg)
    x, y = middles(OFF_GRID, (px, px), bearing_deg)
    col, row = x - 0.5, 80 - y - 0.5
    i, j = np.floor(row).astype(int), np.floor(col).astype(int)
    down, across = row - i, col - j
    north = noise[:, i, j] * (1 - across) + noise[:, i, j + 1] * across
    south = noise[:, i + 1, j] * (1 - across) + noise[:, i + 1, j + 1] * across
    assert pixels_of(view, (north * (1 - down) + south * down).transpose(1, 2, 0)).max() < 0.6


@pytest.mark.parametrize("bearing_deg", [0, 25])
def test_cubic_goes_through_the_pixels_and_bends_with_them(write_raster, noise, bearing_deg):
    """Catmull and Rom's keeps what is there, and a parabola a parabola; a straight line between pixels would not."""
    source = tiles.open(write_raster(noise, north=80))
    view = source.read(tiles.Bounds(20, 20, 60, 60), source.crs, (40, 40), resampling="cubic")
    assert np.array_equal(view.pixels.transpose(2, 0, 1), noise[:, 20:60, 20:60])
    at = np.arange(16) - 7.5
    parabola = np.broadcast_to(np.rint(240 - 4 * at**2), (3, 16, 16)).astype(np.uint8)
    source = tiles.open(write_raster(parabola, name="parabola.tif", north=16))
    bounds, shape = tiles.Bounds(5, 5, 11, 11), (60, 60)
    x, _ = middles(bounds, shape, bearing_deg)
    exact = (240 - 4 * (x - 8) ** 2)[..., None]
    view = source.read(bounds, source.crs, shape, resampling="cubic", bearing_deg=bearing_deg)
    assert pixels_of(view, exact).max() < 0.6
    view = source.read(bounds, source.crs, shape, resampling="bilinear", bearing_deg=bearing_deg)
    assert pixels_of(view, exact).max() > 0.9


def test_the_resamplings_differ(write_raster, noise):
    source = tiles.open(write_raster(noise, north=80))
    views = [
        source.read(OFF_GRID, source.crs, (25, 25), resampling=resampling).pixels.tobytes()
        for resampling in ("auto", "nearest", "bilinear", "cubic", "average")
    ]
    assert len(set(views)) == 5


@pytest.mark.parametrize("zoom", [0, 1, 2, 3])
def test_position_is_exact_at_every_level_of_tiles_in_utm(tmp_path, zoom):
    """Tiles of 0.5 m, 1 m, 2 m and 4 m a pixel, drawn analytically; the window's pixels are 1.3 times as large."""
    import yaml
    from PIL import Image

    (west, north), tile_m = PLACES["EPSG:32632"], 128.0
    north += 8 * tile_m
    layout = {
        "crs": "epsg:32632", "tile_shape_px": [256, 256], "tile_shape_crs": [8 * tile_m] * 2, "min_zoom": 0,
        "origin_crs": [west, north - 8 * tile_m], "size_crs": [8 * tile_m] * 2, "max_zoom": 3,
        "tile_axes": ["east", "south"], "path": "{zoom}/{x}/{y}.png",
    }  # fmt: skip
    (tmp_path / "layout.yaml").write_text(yaml.safe_dump(layout))
    gsd = 0.5 * 2 ** (3 - zoom) * 1.3
    for z in range(4):
        side = tile_m * 2 ** (3 - z)
        for col, row in np.ndindex(2**z, 2**z):
            within = (np.arange(256) + 0.5) / 256 * side
            x, y = np.meshgrid(col * side + within, -row * side - within)
            (tmp_path / f"{z}/{col}").mkdir(parents=True, exist_ok=True)
            picture = np.stack(waves(x, y, 12 * gsd if z == zoom else 1e9), axis=-1)
            Image.fromarray(np.rint(picture).astype(np.uint8)).save(tmp_path / f"{z}/{col}/{row}.png")
    source = tiles.open(tmp_path)
    half = PX * gsd / 2
    x, y = west + 4 * tile_m + 0.317, north - 4 * tile_m - 0.171
    for crs, limit in [("EPSG:32632", 0.02), ("EPSG:2056", 0.05), ("EPSG:3857", 0.05)]:
        k = np.cos(np.radians(46.3)) if crs == "EPSG:3857" else 1
        cx, cy = Transformer.from_crs("EPSG:32632", crs, always_xy=True).transform(x, y)
        bounds = tiles.Bounds(cx - half / k, cy - half / k, cx + half / k, cy + half / k)
        error = measured_shift_px(
            source, bounds, crs, origin=(west, north), wavelength=12 * gsd, gsd=gsd, bearing_deg=10
        )
        assert np.abs(error).max() < limit


def test_a_window_over_the_pole_is_right_to_the_pixel(write_raster):
    """Where no polynomial follows the map every pixel is transformed by itself."""
    lat = np.broadcast_to(np.linspace(89.75, 0.25, 180)[:, None], (180, 720))
    values = np.broadcast_to(np.rint(lat * 2.5), (3, 180, 720)).astype(np.uint8)
    source = tiles.open(write_raster(values, crs="EPSG:4326", west=-180, north=90, gsd=0.5))
    bounds = tiles.Bounds(-3e6, -3e6, 3e6, 3e6)
    view = source.read(bounds, "EPSG:3995", (120, 120), resampling="bilinear")
    x, y = middles(bounds, (120, 120))
    _, lat = Transformer.from_crs("EPSG:3995", "EPSG:4326", always_xy=True).transform(x, y)
    seen = view.mask & (lat < 89)
    assert seen.sum() > 14_300
    assert np.abs(view.pixels[..., 0] - lat * 2.5)[seen].max() < 1.5


def test_large_windows_have_no_seams(write_raster):
    ramp = np.add.outer(np.arange(40), np.arange(100)).astype(np.uint8)
    source = tiles.open(write_raster(np.stack([ramp] * 3), north=40))
    bounds, shape = tiles.Bounds(1.3, 2.7, 98.3, 38.7), (1100, 2300)
    view = source.read(bounds, source.crs, shape, bearing_deg=180)
    x, y = middles(bounds, shape, 180)
    assert pixels_of(view, (x - 0.5 + 40 - y - 0.5)[..., None]).max() < 0.6


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
def ground():
    """(1920, 1920) float: discs of all sizes anywhere, whose edges know nothing of a raster's pixels."""
    import cv2

    rng, picture = np.random.default_rng(5), np.full((1920, 1920), 128, np.uint8)
    for x, y, size, grey in rng.uniform((0, 0, 0, 20), (1920, 1920, 1, 235), (12_000, 4)).tolist():
        cv2.circle(picture, (int(x), int(y)), int(4 + 60 * size**6), int(grey), -1, cv2.LINE_AA)
    return picture.astype(float)


def area_average(picture, edges):
    """(n, n): the exact averages of the squares between `edges`, in pixels, along both axes."""
    integral = np.pad(picture, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    at = np.arange(len(integral))
    by_row = np.stack([np.interp(edges, at, column) for column in integral.T], axis=1)
    corners = np.stack([np.interp(edges, at, row) for row in by_row])
    return np.diff(np.diff(corners, axis=0), axis=1) / (edges[1] - edges[0]) ** 2


@pytest.mark.parametrize("bearing_deg", [0, 90])
@pytest.mark.parametrize("scale", [1.25, 1.6, 1.8, 1.99])
def test_shrinking_is_nearer_to_what_is_on_the_ground_than_averages_of_pixels(
    write_raster, ground, scale, bearing_deg
):
    """A raster whose pixels are averages of 4 x 4 of the ground; "average" is exact, but of these pixels."""
    pixels = ground.reshape(480, 4, 480, 4).mean(axis=(1, 3)).round().astype(np.uint8)
    source = tiles.open(write_raster(np.stack([pixels] * 3), north=480))
    px, start = 200, 31.37
    stop = start + px * scale
    bounds = tiles.Bounds(start, 480 - stop, stop, 480 - start)
    exact = np.rot90(area_average(ground, 4 * np.linspace(start, stop, px + 1)), bearing_deg // 90)

    def error(resampling):
        view = source.read(bounds, source.crs, (px, px), resampling=resampling, bearing_deg=bearing_deg)
        return view.pixels[..., 0] - exact

    shown, linear = error("auto"), error("bilinear")
    assert abs(shown.mean()) < 0.1
    assert (shown**2).mean() < (error("average") ** 2).mean()
    assert (shown**2).mean() <= (0.95 if scale > 1.5 else 1) * (linear**2).mean()


@pytest.mark.parametrize("scale", [0.8, 0.9])
def test_enlarging_a_little_averages_areas(write_raster, ground, scale):
    pixels = ground[:480, :480].astype(np.uint8)
    source = tiles.open(write_raster(np.stack([pixels] * 3), north=480))
    px, start = 200, 31.37
    stop = start + px * scale
    bounds = tiles.Bounds(start, 480 - stop, stop, 480 - start)
    exact = area_average(pixels.astype(float), np.linspace(start, stop, px + 1))
    off = source.read(bounds, source.crs, (px, px)).pixels[..., 0] - exact
    assert abs(off.mean()) < 0.05 and np.abs(off).mean() < 0.6  # OpenCV counts in 1/32 of a pixel
    linear = source.read(bounds, source.crs, (px, px), resampling="bilinear").pixels[..., 0] - exact
    assert np.abs(off).mean() < 0.6 * np.abs(linear).mean()


def test_a_window_in_another_crs_is_sampled_alike_whether_its_map_is_straight_or_not(
    write_raster, monkeypatch
):
    """A small window's map is a matrix to within the tolerance: the picture is the one its every pixel makes."""
    values = np.random.default_rng(3).integers(0, 256, (3, 300, 300), dtype=np.uint8)
    x, y = PLACES["EPSG:2056"]
    source = tiles.open(write_raster(values, crs="EPSG:2056", west=x, north=y))
    middle = Transformer.from_crs("EPSG:2056", "EPSG:32632", always_xy=True).transform(x + 150, y - 150)
    bounds = tiles.Bounds(middle[0] - 60.3, middle[1] - 60.3, middle[0] + 60.3, middle[1] + 60.3)
    for px in (80, 110, 200):
        quick = source.read(bounds, "EPSG:32632", (px, px), bearing_deg=20).pixels
        with monkeypatch.context() as patch:
            patch.setattr("tiles.locate.Mapping.affine", lambda *_: None)
            exact = source.read(bounds, "EPSG:32632", (px, px), bearing_deg=20).pixels
        assert np.abs(quick.astype(int) - exact).max() <= 3


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


@pytest.mark.parametrize("resampling", ["auto", "bilinear", "nearest", "cubic"])
@pytest.mark.parametrize("scale", [0.4, 0.8, 1.0, 1.3, 1.63, 1.9, 2.7])
def test_a_window_within_imagery_shows_it_whole_whatever_is_masked_beside(write_raster, scale, resampling):
    values = np.random.default_rng(3).integers(0, 256, (3, 120, 120), dtype=np.uint8)
    rows, cols = np.mgrid[:120, :120]
    alpha = np.where((rows >= 20) & (rows < 100) & (cols >= 20) & (cols < 100), 255, 0).astype(np.uint8)
    whole = tiles.open(write_raster(values, north=120, name="whole.tif"))
    masked = tiles.open(write_raster(values * (alpha > 0), north=120, name="masked.tif", alpha=alpha))
    for margin in (0.01, 0.4, 0.9, 1.7):
        px = int((80 - 2 * margin) / scale)
        half = px * scale / 2
        inner = tiles.Bounds(60 - half, 60 - half, 60 + half, 60 + half)
        views = [
            source.read(inner, source.crs, (px, px), resampling=resampling) for source in (whole, masked)
        ]
        assert views[1].coverage == 1
        edge = slice(3, -3)  # where kernels reach over the mask, what they see there has no weight
        assert np.abs(views[0].pixels[edge, edge] - views[1].pixels[edge, edge].astype(int)).max() <= 1


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
