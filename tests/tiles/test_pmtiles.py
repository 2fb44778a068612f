"""PMTiles: every tile where it belongs, through directories of directories, read in parts."""

import gzip
import io
import json
import pickle

import mercantile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pmtiles.reader import MmapSource, Reader
from pmtiles.tile import Compression, TileType, deserialize_header, serialize_header

import tiles
from tiles import Bounds, TilesError, pmtiles
from tiles.pmtiles import LocalFile, PMTiles

CRS = "EPSG:3857"
TOP = mercantile.Tile(540, 360, 10)
WHERE = Bounds(*mercantile.bounds(TOP))


def picture(colour, suffix="PNG", px=256):
    file = io.BytesIO()
    Image.new("RGB", (px, px), tuple(colour)).save(file, suffix)
    return file.getvalue()


def colour_of(tile):
    return tile.z * 10, tile.x % 16 * 15, tile.y % 16 * 15


def below(zoom):
    return mercantile.children(TOP, zoom=zoom) if zoom > TOP.z else [TOP]


def save(path, entries, bounds=WHERE, metadata=None):
    ordered = sorted(entries, key=lambda entry: pmtiles.tile_id(*entry[:3]))
    pmtiles.write(path, ordered, metadata or {}, bounds=bounds)


@pytest.fixture
def path(tmp_path):
    """One tile of zoom 10 and all below it to zoom 12."""
    path = tmp_path / "map.pmtiles"
    entries = [(t.z, t.x, t.y, picture(colour_of(t))) for zoom in (10, 11, 12) for t in below(zoom)]
    save(path, entries, metadata={"attribution": "Who made it"})
    return path


@pytest.mark.parametrize("zoom", [10, 11, 12])
def test_every_tile_shows_where_it_belongs(path, zoom):
    source = tiles.open(path)
    for tile in below(zoom):
        view = source.read(Bounds(*mercantile.xy_bounds(tile)), CRS, (256, 256))
        assert view.coverage == 1 and (view.pixels == colour_of(tile)).all()


def test_what_the_file_says_of_itself(path):
    source = tiles.open(path)
    assert source.attribution == "Who made it" and source.crs == CRS
    assert source.bounds == pytest.approx(tuple(mercantile.xy_bounds(TOP)), abs=0.02)
    assert [level.key for level in source.store.levels] == [12, 11, 10]


def test_what_is_not_there_is_masked(path):
    aside = mercantile.Tile(TOP.x + 1, TOP.y, TOP.z)
    assert tiles.open(path).read(Bounds(*mercantile.xy_bounds(aside)), CRS, (16, 16)).coverage == 0


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """So many tiles that the directory has leaves: a square of zoom 8, a tile here and there."""
    path = tmp_path_factory.mktemp("many") / "many.pmtiles"
    rng = np.random.default_rng(0)
    kept = [(8, x, y) for x in range(256) for y in range(256) if rng.random() < 0.6]
    head = picture((1, 2, 3), "JPEG", 16)
    padding = rng.integers(0, 200, len(kept)).tolist()  # sizes differ, or the directory would be small
    entries = [
        (*key, head + b" " * n + json.dumps(key).encode()) for key, n in zip(kept, padding, strict=True)
    ]
    save(path, entries, Bounds(-180, -85, 180, 85))
    return path, set(kept)


def test_leaf_directories_are_followed(many):
    """Against the package's own reader, which reads the directory anew for every tile."""
    path, kept = many
    store = PMTiles(LocalFile(path))
    with path.open("rb") as file:
        reader = Reader(MmapSource(file))
        assert reader.header()["leaf_directory_length"] > 0
        for col, row in np.random.default_rng(1).integers(0, 256, (8, 2)).tolist():
            assert store.get(store.levels[0], col, row) == reader.get(8, col, row)
    for x in range(0, 256, 3):
        for y in range(256):
            tile = store.get(store.levels[0], x, y)
            assert tile.endswith(json.dumps((8, x, y)).encode()) if (8, x, y) in kept else tile is None


def test_every_part_of_the_directory_is_read_once(many):
    path, _ = many
    reads = []

    class Counting(LocalFile):
        def read(self, offset, length):
            reads.append((offset, length))
            return super().read(offset, length)

    store = PMTiles(Counting(path))
    for _ in range(2):
        for col in range(0, 256, 5):
            store.get(store.levels[0], col, 77)
    header = deserialize_header(path.read_bytes()[:127])
    directory = [read for read in reads if read[0] < header["tile_data_offset"]]
    assert len(directory) == len(set(directory))


def test_equal_tiles_are_stored_once(tmp_path):
    sea = picture((0, 0, 90))
    save(tmp_path / "x.pmtiles", [(t.z, t.x, t.y, sea) for zoom in (10, 13) for t in below(zoom)])
    assert (tmp_path / "x.pmtiles").stat().st_size < 3 * len(sea) + 2000
    tile = mercantile.Tile(TOP.x * 8 + 5, TOP.y * 8 + 2, 13)
    view = tiles.open(tmp_path / "x.pmtiles").read(Bounds(*mercantile.xy_bounds(tile)), CRS, (64, 64))
    assert (view.pixels == (0, 0, 90)).all()


@pytest.mark.parametrize(("suffix", "px"), [("JPEG", 512), ("WEBP", 256), ("PNG", 128)])
def test_formats_and_sizes_are_those_of_the_tiles(tmp_path, suffix, px):
    save(tmp_path / "x.pmtiles", [(10, TOP.x, TOP.y, picture((90, 120, 150), suffix, px))])
    source = tiles.open(tmp_path / "x.pmtiles")
    assert source.store.levels[0].px == px
    view = source.read(source.bounds, CRS, (64, 64))
    assert view.coverage == 1 and np.abs(view.pixels.astype(int) - (90, 120, 150)).max() <= 4


def test_a_header_without_bounds_means_the_whole_world(tmp_path):
    save(tmp_path / "x.pmtiles", [(0, 0, 0, picture((9, 9, 9)))], Bounds(0, 0, 0, 0))
    source = tiles.open(tmp_path / "x.pmtiles")
    assert source.bounds == pytest.approx(tuple(mercantile.xy_bounds(0, 0, 0)))


def test_pickled_and_closed_it_goes_on(path):
    source = tiles.open(path)
    window = source.bounds, CRS, (64, 64)
    here = source.read(*window).pixels
    again = pickle.loads(pickle.dumps(source))
    source.close()
    for one in (again, source):
        assert np.array_equal(one.read(*window).pixels, here)


def refusal(path):
    with pytest.raises(TilesError) as caught:
        tiles.open(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def with_header(path, **changes):
    data = path.read_bytes()
    path.write_bytes(serialize_header(deserialize_header(data[:127]) | changes) + data[127:])


def test_files_that_cannot_be_read_are_refused(path, tmp_path):
    whole = path.read_bytes()
    assert "no such file" in refusal(tmp_path / "gone.pmtiles")
    for content in (b"", b"not PMTiles" * 30, b"\xff" * 200):
        path.write_bytes(content)
        assert "not a PMTiles file" in refusal(path)
    path.write_bytes(whole[:7] + b"\x02" + whole[8:])
    assert "version 2" in refusal(path)
    path.write_bytes(whole[:150])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize(("changes", "says"), [
    ({"tile_type": TileType.MVT}, "vector tiles"),
    ({"tile_type": TileType.MLT}, "vector tiles"),
    ({"internal_compression": Compression.ZSTD}, "internal_compression is ZSTD"),
    ({"tile_compression": Compression.GZIP}, "tile_compression is GZIP"),
])  # fmt: skip
def test_forms_that_are_not_read_are_refused(path, changes, says):
    with_header(path, **changes)
    assert says in refusal(path)


def test_vector_tiles_of_an_unknown_type_are_refused(tmp_path):
    save(tmp_path / "x.pmtiles", [(0, 0, 0, gzip.compress(b"\x1a\x05roads"))])
    with_header(tmp_path / "x.pmtiles", tile_type=TileType.UNKNOWN)
    assert "not a picture" in refusal(tmp_path / "x.pmtiles")


def test_a_damaged_tile_is_named(path):
    source = tiles.open(path)
    data = path.read_bytes()
    start = data.rindex(b"\x89PNG")
    path.write_bytes(data[:start] + b"\0" * (len(data) - start))
    with pytest.raises(TilesError, match=r"map\.pmtiles, tile 12/\d+/\d+: not a readable tile"):
        source.read(source.bounds, CRS, (1024, 1024))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damage_anywhere_is_one_line_or_a_picture(data):
    """Bytes of header and directory changed at will."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pmtiles"
        save(path, [(t.z, t.x, t.y, picture(colour_of(t), px=16)) for t in below(12)])
        content = bytearray(path.read_bytes())
        size = content.index(b"\x89PNG")
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(8, size - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            source = tiles.open(path)
            source.read(Bounds(*mercantile.xy_bounds(TOP)), CRS, (64, 64))
        except TilesError as error:
            assert str(path) in str(error) and "\n" not in str(error)
