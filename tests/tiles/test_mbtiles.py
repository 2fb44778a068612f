"""MBTiles: rows from the south, zooms and sizes as the file has them, what is no imagery refused."""

import gzip
import io
import multiprocessing
import pickle
import sqlite3
import threading

import mercantile
import numpy as np
import pytest
import rasterio
from PIL import Image

import tiles
from tiles import TilesError, mbtiles
from tiles.mbtiles import MBTiles

CRS = "EPSG:3857"
TOP = mercantile.Tile(540, 360, 10)


def picture(colour, suffix="PNG", px=256):
    file = io.BytesIO()
    Image.new("RGB", (px, px), tuple(colour)).save(file, suffix)
    return file.getvalue()


def bounds_of(tile):
    return tiles.Bounds(*mercantile.xy_bounds(tile))


def colour_of(tile):
    """Every tile its own."""
    return tile.z * 10, tile.x % 16 * 15, tile.y % 16 * 15


def below(zoom):
    return mercantile.children(TOP, zoom=zoom) if zoom > TOP.z else [TOP]


@pytest.fixture
def path(tmp_path):
    """One tile of zoom 10 and all below it to zoom 12."""
    path = tmp_path / "map.mbtiles"
    entries = [(t.z, t.x, t.y, picture(colour_of(t))) for zoom in (10, 11, 12) for t in below(zoom)]
    mbtiles.write(path, entries, {"name": "a map", "format": "png", "attribution": "Who made it"})
    return path


@pytest.mark.parametrize("zoom", [10, 11, 12])
def test_every_tile_shows_where_it_belongs(path, zoom):
    source = tiles.open(path)
    for tile in below(zoom):
        view = source.read(bounds_of(tile), CRS, (256, 256))
        assert view.coverage == 1 and (view.pixels == colour_of(tile)).all()


def test_gdal_reads_the_same_picture(path):
    """GDAL has its own reader of the format; a row counted from the wrong side would show."""
    with rasterio.open(path, ZOOM_LEVEL="12") as dataset:
        theirs = dataset.read((1, 2, 3)).transpose(1, 2, 0)
        bounds = tiles.Bounds(*dataset.bounds)
    ours = tiles.open(path).read(bounds, CRS, theirs.shape[:2])
    assert np.array_equal(ours.pixels, theirs)


def test_what_the_file_says_of_itself(path, tmp_path):
    source = tiles.open(path)
    assert source.attribution == "Who made it" and source.crs == CRS
    assert source.bounds == pytest.approx(tuple(bounds_of(TOP)))
    assert [level.key for level in source.store.levels] == [12, 11, 10]
    west, south, east, north = mercantile.bounds(TOP)
    inner = west, (south + north) / 2, east, north
    text = ",".join(map(str, inner))
    mbtiles.write(tmp_path / "said.mbtiles", [(10, TOP.x, TOP.y, picture((1, 2, 3)))], {"bounds": text})
    expected = mercantile.xy(west, inner[1]) + mercantile.xy(east, north)
    assert tiles.open(tmp_path / "said.mbtiles").bounds == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "nonsense", "1,2,3", "10,0,5,1", "0,nan,1,1"])
def test_bounds_that_are_none_are_those_of_the_tiles(tmp_path, text):
    mbtiles.write(tmp_path / "x.mbtiles", [(10, TOP.x, TOP.y, picture((1, 2, 3)))], {"bounds": text})
    assert tiles.open(tmp_path / "x.mbtiles").bounds == pytest.approx(tuple(bounds_of(TOP)))


def test_bounds_of_the_whole_world_end_with_the_map(tmp_path):
    mbtiles.write(tmp_path / "x.mbtiles", [(0, 0, 0, picture((1, 2, 3)))], {"bounds": "-180,-90,180,90"})
    assert tiles.open(tmp_path / "x.mbtiles").bounds == pytest.approx(
        tuple(mercantile.xy_bounds(0, 0, 0)), rel=1e-6
    )


def test_missing_tiles_are_filled_from_coarser_zooms_or_masked(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM tiles WHERE zoom_level = 12 AND tile_column = ?", (TOP.x * 4,))
    view = tiles.open(path).read(bounds_of(TOP), CRS, (1024, 1024))
    assert view.coverage == 1 and set(view.pixels[:, :256, 0].ravel().tolist()) == {110}
    assert (view.pixels[:, 256:, 0] == 120).all()
    aside = mercantile.Tile(TOP.x + 1, TOP.y, TOP.z)
    assert tiles.open(path).read(bounds_of(aside), CRS, (16, 16)).coverage == 0


@pytest.mark.parametrize(("suffix", "px"), [("JPEG", 512), ("WEBP", 256), ("PNG", 128)])
def test_formats_and_sizes_are_those_of_the_tiles(tmp_path, suffix, px):
    mbtiles.write(tmp_path / "x.mbtiles", [(10, TOP.x, TOP.y, picture((90, 120, 150), suffix, px))], {})
    source = tiles.open(tmp_path / "x.mbtiles")
    assert source.store.levels[0].px == px
    view = source.read(bounds_of(TOP), CRS, (64, 64))
    assert view.coverage == 1 and np.abs(view.pixels.astype(int) - (90, 120, 150)).max() <= 4


def test_threads_at_once_see_the_same(path):
    source = tiles.open(path)
    windows = [tiles.Window(bounds_of(t), CRS, (256, 256)) for t in below(12)] * 4
    views = source.read_many(windows, threads=8)
    for view, tile in zip(views, list(below(12)) * 4, strict=True):
        assert (view.pixels == colour_of(tile)).all()


WHOLE = (bounds_of(TOP), CRS, (64, 64))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_it_goes_to_other_processes(path, start):
    source = tiles.open(path)
    here = source.read(*WHOLE)  # a connection is open when the process forks
    with multiprocessing.get_context(start).Pool(1) as pool:
        assert np.array_equal(pool.apply_async(source.read, WHOLE).get(60).pixels, here.pixels)
    assert np.array_equal(source.read(*WHOLE).pixels, here.pixels)


def test_pickled_it_is_the_same(path):
    source = tiles.open(path)
    again = pickle.loads(pickle.dumps(source))
    assert again.bounds == source.bounds
    assert np.array_equal(again.read(*WHOLE).pixels, source.read(*WHOLE).pixels)


def test_closed_it_opens_again(path):
    store = MBTiles(path)
    level = store.levels[0]
    tile = store.get(level, TOP.x * 4, TOP.y * 4)
    other = threading.Thread(target=store.close)
    other.start()
    other.join()
    assert tile and store.get(level, TOP.x * 4, TOP.y * 4) == tile


def refusal(path):
    with pytest.raises(TilesError) as caught:
        tiles.open(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_files_that_are_no_mbtiles_are_refused(tmp_path):
    path = tmp_path / "x.mbtiles"
    assert "no such file" in refusal(path)
    path.write_bytes(b"not a database at all, but long enough to look at" * 40)
    assert "not an MBTiles file" in refusal(path)
    path.write_bytes(b"")
    assert "not an MBTiles file" in refusal(path)
    path.unlink()
    mbtiles.write(path, [], {"name": "empty"})
    assert "holds no tiles" in refusal(path)


@pytest.mark.parametrize("metadata", [{"format": "pbf"}, {}])
def test_vector_tiles_are_refused(tmp_path, metadata):
    path = tmp_path / "roads.mbtiles"
    mbtiles.write(path, [(0, 0, 0, gzip.compress(b"\x1a\x05roads"))], metadata)
    assert "vector tiles" in refusal(path)


def test_a_damaged_tile_is_named(path):
    source = tiles.open(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tiles SET tile_data = 'gone' WHERE tile_column = ?", (TOP.x * 4,))
    with pytest.raises(
        TilesError, match=rf"map.mbtiles, zoom_level 12, column {TOP.x * 4}, row \d+: not a r"
    ):
        source.read(bounds_of(TOP), CRS, (1024, 1024))


def test_a_file_cut_short_is_named(path):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    path.unlink()
    mbtiles.write(path, [(t.z, t.x, t.y, file.getvalue()) for t in below(12)], {"format": "png"})
    source = tiles.open(path)
    with path.open("r+b") as damaged:
        damaged.truncate(path.stat().st_size // 2)
    with pytest.raises(TilesError, match=r"map\.mbtiles") as caught:
        source.read(bounds_of(TOP), CRS, (1024, 1024))
    assert "\n" not in str(caught.value)


def test_the_same_tiles_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        mbtiles.write(
            tmp_path / name, [(t.z, t.x, t.y, picture(colour_of(t))) for t in below(12)], {"name": "x"}
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
