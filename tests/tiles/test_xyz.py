"""Folders of map tiles: the zoom that fits, coarser ones where tiles are missing, padding masked."""

import pickle

import mercantile
import numpy as np
import pytest
from PIL import Image

import tiles
from tiles import TilesError, tiled

CRS = "EPSG:3857"
COLOURS = {10: (200, 30, 30), 11: (30, 200, 30), 12: (30, 30, 200)}
TOP = mercantile.Tile(540, 360, 10)


def save(folder, tile, picture, suffix="png"):
    path = folder / str(tile.z) / str(tile.x) / f"{tile.y}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def below(zoom):
    return mercantile.children(TOP, zoom=zoom) if zoom > TOP.z else [TOP]


def tile_bounds(tile):
    return tiles.Bounds(*mercantile.xy_bounds(tile))


@pytest.fixture
def pyramid(tmp_path):
    """One tile of zoom 10 and all below it to zoom 12, every zoom its own colour."""
    for zoom, colour in COLOURS.items():
        for tile in below(zoom):
            save(tmp_path, tile, Image.new("RGB", (256, 256), colour))
    return tmp_path


def seen(view):
    """The colours of a view."""
    packed = np.unique(view.pixels[view.mask].astype(int) @ [65536, 256, 1])
    return {(int(p) >> 16, int(p) >> 8 & 255, int(p) & 255) for p in packed}


@pytest.mark.parametrize(
    ("px", "zoom"), [(1300, 12), (1024, 12), (520, 12), (512, 11), (260, 11), (256, 10), (40, 10)]
)
def test_the_zoom_that_fits_is_read(pyramid, px, zoom):
    view = tiles.open(pyramid).read(tile_bounds(TOP), CRS, (px, px))
    assert seen(view) == {COLOURS[zoom]} and view.coverage == 1


def test_missing_tiles_are_filled_from_coarser_zooms(pyramid):
    gone = mercantile.Tile(TOP.x * 4 + 1, TOP.y * 4 + 2, 12)
    (pyramid / f"12/{gone.x}/{gone.y}.png").unlink()
    view = tiles.open(pyramid).read(tile_bounds(TOP), CRS, (1024, 1024))
    assert view.coverage == 1
    assert (view.pixels[512:768, 256:512] == COLOURS[11]).all()
    assert (view.pixels == COLOURS[12]).all(axis=-1).sum() == 15 * 256 * 256


@pytest.mark.parametrize("gone", [[], [(1, 2)], [(0, 0), (3, 3)]])
def test_a_small_zoom_kept_in_one_piece_shows_what_its_tiles_do(pyramid, monkeypatch, gone):
    """A window of all its tiles, which has the transparent ones filled from coarser zooms, too."""
    rng = np.random.default_rng(1)
    for tile in below(12):
        save(pyramid, tile, Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)))
    hole = np.dstack([rng.integers(0, 256, (256, 256, 3)), np.arange(256) % 2 * np.full((256, 1), 255)])
    save(pyramid, mercantile.Tile(TOP.x * 4 + 2, TOP.y * 4 + 1, 12), Image.fromarray(hole.astype(np.uint8)))
    for col, row in gone:
        (pyramid / f"12/{TOP.x * 4 + col}/{TOP.y * 4 + row}.png").unlink()
    west, south, east, north = tile_bounds(TOP)
    inset = (east - west) / 50
    windows = [
        (tiles.Bounds(west + inset * i, south + inset, east - inset, north), (700, 700)) for i in range(3)
    ]

    def views():
        source = tiles.open(pyramid)
        return [source.read(bounds, CRS, shape) for bounds, shape in windows]

    kept = views()
    monkeypatch.setattr(tiled, "WHOLE_PX", 0)
    for view, plain in zip(kept, views(), strict=True):
        assert np.array_equal(view.pixels, plain.pixels) and np.array_equal(view.mask, plain.mask)


def test_what_no_zoom_has_is_masked(pyramid):
    source = tiles.open(pyramid)
    bounds = tile_bounds(TOP)
    wide = tiles.Bounds(bounds.west - bounds.width, bounds.south, bounds.east, bounds.north)
    view = source.read(wide, CRS, (64, 128))
    assert not view.mask[:, :64].any() and view.mask[:, 64:].all()
    assert source.read(tiles.Bounds(0, 0, 1000, 1000), CRS, (16, 16)).coverage == 0


def test_tiles_of_one_zoom_serve_much_coarser_windows(tmp_path):
    rng = np.random.default_rng(0)
    mean = np.zeros((8, 8, 3))
    for tile in below(13):
        picture = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
        save(tmp_path, tile, Image.fromarray(picture))
        mean[tile.y - TOP.y * 8, tile.x - TOP.x * 8] = picture.mean(axis=(0, 1))
    view = tiles.open(tmp_path).read(tile_bounds(TOP), CRS, (8, 8))
    assert np.abs(view.pixels - mean).max() <= 2


def test_suffixes_and_tile_sizes(tmp_path):
    for tile, suffix in zip(below(11), ["jpg", "png", "webp", "jpeg"], strict=True):
        save(tmp_path, tile, Image.new("RGB", (512, 512), (90, 120, 150)), suffix)
    (tmp_path / "11" / "readme.txt").write_text("not a tile")
    (tmp_path / "metadata.json").write_text("{}")
    view = tiles.open(tmp_path).read(tile_bounds(TOP), CRS, (100, 100))
    assert view.coverage == 1 and np.abs(view.pixels.astype(int) - (90, 120, 150)).max() <= 4


def test_transparent_pixels_are_mask(tmp_path):
    picture = np.full((256, 256, 4), 255, np.uint8)
    picture[..., :3] = (10, 20, 30)
    picture[:128, :, 3] = 0
    save(tmp_path, TOP, Image.fromarray(picture))
    view = tiles.open(tmp_path).read(tile_bounds(TOP), CRS, (64, 64))
    assert not view.mask[:32].any() and view.mask[32:].all()
    assert seen(view) == {(10, 20, 30)}


@pytest.mark.parametrize("padding", [0, 255])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("px", [256, 100, 600])
def test_padding_painted_into_tiles_is_mask(tmp_path, padding, suffix, px):
    """A slanted border, as imagery of another CRS has: white or black above it, a picture below."""
    rows, cols = np.mgrid[:256, :256]
    picture = np.where((rows < 60 + cols // 10)[..., None], padding, (120, 90, 60)).astype(np.uint8)
    save(tmp_path, TOP, Image.fromarray(picture), suffix)
    view = tiles.open(tmp_path).read(tile_bounds(TOP), CRS, (px, px))
    rows, cols = np.mgrid[:px, :px] * 256 / px
    assert not view.mask[rows < 50 + cols / 10].any()
    assert view.mask[rows > 75 + cols / 10].all()


def test_white_and_black_in_the_picture_are_colours(tmp_path):
    picture = np.full((256, 256, 3), 120, np.uint8)
    picture[:100, 50:150] = 255  # a roof that touches the edge
    picture[200:, 60:255] = 0  # a shadow that does
    save(tmp_path, TOP, Image.fromarray(picture))
    assert tiles.open(tmp_path).read(tile_bounds(TOP), CRS, (256, 256)).coverage == 1


def test_bounds_are_those_of_the_picture_not_of_the_coarsest_tile(tmp_path):
    for zoom in (3, 8, 12):
        tile = mercantile.Tile(2160, 1440, 12)
        save(
            tmp_path, mercantile.parent(tile, zoom=zoom) if zoom < 12 else tile, Image.new("RGB", (256, 256))
        )
    assert tiles.open(tmp_path).bounds == pytest.approx(tuple(mercantile.xy_bounds(2160, 1440, 12)))


def test_ground_resolution_counts_latitude(tmp_path):
    tile = mercantile.tile(8.0, 60.0, 17)
    save(tmp_path, tile, Image.new("RGB", (256, 256)))
    assert tiles.open(tmp_path).gsd_m == pytest.approx(1.1943 / 2, rel=0.01)


def test_a_damaged_tile_is_named(pyramid):
    tile = pyramid / "12" / str(TOP.x * 4) / f"{TOP.y * 4}.png"
    tile.write_text("<html>429 Too Many Requests</html>")
    with pytest.raises(TilesError, match=r"not a readable tile") as caught:
        source = tiles.open(pyramid)
        source.read(tile_bounds(TOP), CRS, (1024, 1024))
    assert str(tile) in str(caught.value) and "\n" not in str(caught.value)


def test_pickle(pyramid):
    source = tiles.open(pyramid)
    again = pickle.loads(pickle.dumps(source))
    window = tile_bounds(TOP), "EPSG:4326", (50, 50)
    bounds = tiles.Bounds(*mercantile.bounds(TOP))
    assert np.array_equal(source.read(bounds, *window[1:]).pixels, again.read(bounds, *window[1:]).pixels)
    assert again.bounds == source.bounds
