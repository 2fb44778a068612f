"""One door to all imagery; what cannot be opened is refused in one line that says where and what to do."""

import numpy as np
import pytest

import tiles
from tiles import Bounds, Stack, TilesError

PLAIN = np.full((3, 8, 8), 77, np.uint8)


def refusal(uri):
    with pytest.raises(TilesError) as caught:
        tiles.open(uri)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_a_glob_and_a_list(write_raster, tmp_path):
    one, two = write_raster(PLAIN, name="one.tif"), write_raster(PLAIN, name="two.tif")
    assert not isinstance(tiles.open(one), Stack)
    assert not isinstance(tiles.open(str(tmp_path / "o*.tif")), Stack)
    assert len(tiles.open(tmp_path / "*.tif").sources) == 2
    assert len(tiles.open([one, str(two)]).sources) == 2
    assert len(tiles.open([tmp_path / "*.tif", one]).sources) == 3


def test_brackets_in_a_file_name_are_no_glob(write_raster):
    assert tiles.open(write_raster(PLAIN, name="image[1].tif")).gsd_m == pytest.approx(1, rel=1e-2)


def test_a_colon_makes_no_url(write_raster, tmp_path):
    assert tiles.open(write_raster(PLAIN, name="scene:1.tif")).gsd_m == pytest.approx(1, rel=1e-2)


def test_missing_file(tmp_path):
    message = refusal(tmp_path / "gone.tif")
    assert str(tmp_path / "gone.tif") in message and "no such file" in message


@pytest.mark.parametrize("content", [b"", b"hello", b"II*\x00\x08\x00\x00\x00"])
def test_not_a_raster(tmp_path, content):
    path = tmp_path / "photo.tif"
    path.write_bytes(content)
    assert str(path) in refusal(path) and "not a raster" in refusal(path)


def test_not_georeferenced(write_raster, tmp_path):
    from affine import Affine
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert "no CRS" in refusal(tmp_path / "plain.png")
    assert "no place" in refusal(write_raster(PLAIN, transform=Affine.identity()))
    assert "no CRS" in refusal(write_raster(PLAIN, crs=None, name="bare.tif"))


def test_empty_folder_and_folder_of_rasters(write_raster, tmp_path):
    assert "*.tif" in refusal(tmp_path)
    write_raster(PLAIN)
    assert str(tmp_path) in refusal(tmp_path) and "*.tif" in refusal(tmp_path)


def test_a_glob_that_matches_nothing(tmp_path):
    assert str(tmp_path / "*.jp2") in refusal(tmp_path / "*.jp2")
    assert "no file matches" in refusal([tmp_path / "*.jp2"])


def test_nothing_at_all():
    assert "no imagery given" in refusal([])


def test_a_folder_takes_no_options(tmp_path):
    assert "unknown option 'bands'" in refusal(f"{tmp_path}#bands=1")


def test_a_raster_cut_short_is_refused_when_read(write_raster, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (3, 400, 400), dtype=np.uint8)
    path = write_raster(noise, compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(TilesError, match=r"image.tif: ") as caught:
        source = tiles.open(path)
        source.read(source.bounds, source.crs, (400, 400))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bounds", "crs", "shape", "says"),
    [
        (Bounds(0, 0, 1, 1), "EPSG:999999", (8, 8), "unknown CRS 'EPSG:999999'"),
        (Bounds(0, 0, 1, 1), "nonsense", (8, 8), "unknown CRS 'nonsense'"),
        (Bounds(1, 0, 0, 1), "EPSG:32632", (8, 8), "empty window"),
        (Bounds(0, 0, 1, 1), "EPSG:32632", (0, 8), "empty window"),
        (Bounds(0, 0, float("nan"), 1), "EPSG:32632", (8, 8), "empty window"),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_windows_that_are_none_are_refused(write_raster, bounds, crs, shape, says, several):
    path = write_raster(PLAIN)
    source = tiles.open([path, path] if several else path)
    with pytest.raises(TilesError, match=says) as caught:
        source.read(bounds, crs, shape)
    assert "\n" not in str(caught.value)
