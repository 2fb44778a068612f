"""Region files: what is right loads, what is wrong is refused in one line that names the file."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from zoomloc.errors import RegionError
from zoomloc.region import Region

FIELDS = {
    "name": "town",
    "crs": "EPSG:32632",
    "north_west": [475_000.0, 5_130_160.0],
    "size_m": 160,
    "branch": 4,
    "depth": 2,
    "imagery": ["imagery/*.tif"],
    "attribution": "(c) town",
}


@pytest.fixture
def town(tmp_path):
    """town(**changes) -> the path of a region file with imagery beside it; a change to None leaves a key out."""
    (tmp_path / "imagery").mkdir()
    with rasterio.open(
        tmp_path / "imagery" / "a.tif", "w", driver="GTiff", width=160, height=160, count=3, dtype="uint8",
        crs="EPSG:32632", transform=Affine(1, 0, 475_000, 0, -1, 5_130_160),
    ) as dataset:  # fmt: skip
        dataset.write(np.full((3, 160, 160), 99, np.uint8))

    def write(**changes):
        fields = {key: value for key, value in {**FIELDS, **changes}.items() if value is not None}
        path = tmp_path / "region.json"
        path.write_text(json.dumps(fields))
        return path

    return write


def refusal(action):
    with pytest.raises(RegionError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_region_loads_and_opens(town):
    region = Region.load(town())
    assert (region.name, region.crs, region.north_west) == ("town", "EPSG:32632", (475_000.0, 5_130_160.0))
    assert (region.size_m, region.branch, region.depth) == (160, 4, 2)
    assert region.grid.leaf_m == 10 and region.attribution == "(c) town"
    view = region.open().view(1, 0, 3, 16)
    assert view.coverage == 1 and (view.pixels == 99).all()


def test_save_and_load(town):
    path = town()
    region = Region.load(str(path))
    region.save(path.with_name("again.json"))
    assert Region.load(path.with_name("again.json")) == region


def test_attribution_may_be_left_out(town):
    assert Region.load(town(attribution=None)).attribution == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sise_m": 5}, "unknown key 'sise_m'; did you mean 'size_m'"),
        ({"zzzzzz": 5}, "unknown key 'zzzzzz'; known keys are name, crs"),
        ({"crs": None}, "key 'crs' is missing"),
        ({"crs": "EPSG:1"}, "unknown CRS 'EPSG:1'"),
        ({"crs": "EPSG:4326"}, "not projected"),
        ({"size_m": 0}, "size_m is 0"),
        ({"size_m": -5}, "size_m is -5"),
        ({"size_m": "10 km"}, "size_m: "),
        ({"depth": 2.5}, "depth: "),
        ({"depth": 0}, "depth is 0"),
        ({"branch": 1}, "branch is 1"),
        ({"north_west": [1.0]}, "north_west"),
        ({"imagery": "imagery/*.tif"}, "imagery: "),
        ({"imagery": [7]}, "imagery.0: "),
    ],
)
def test_a_wrong_file_is_refused(town, changes, says):
    path = town(**changes)
    message = refusal(lambda: Region.load(path))
    assert message.startswith(f"{path}: ") and says in message


@pytest.mark.parametrize(
    ("text", "says"), [("{,}", "not valid JSON"), ("[]", "not a JSON object"), ("", "not valid JSON")]
)
def test_what_is_no_region_file_is_refused(tmp_path, text, says):
    path = tmp_path / "region.json"
    path.write_text(text)
    message = refusal(lambda: Region.load(path))
    assert message.startswith(f"{path}: ") and says in message


def test_unreadable_files_are_refused(tmp_path):
    assert "no such file" in refusal(lambda: Region.load(tmp_path / "region.json"))
    assert "cannot be read" in refusal(lambda: Region.load(tmp_path))
    (tmp_path / "image.json").write_bytes(b"\xff\xd8\xff\xe0")
    assert "not UTF-8" in refusal(lambda: Region.load(tmp_path / "image.json"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"imagery": ["imagery/b.tif"]}, "b.tif: no such file"),
        ({"imagery": ["imagery/*.jp2"]}, "no file matches"),
        ({"imagery": []}, "no imagery given"),
        ({"imagery": ["region.json"]}, "not a raster"),
        ({"north_west": [500_000.0, 5_130_160.0]}, "shows nothing of the square"),
    ],
)
def test_imagery_that_is_not_there_is_refused(town, changes, says):
    region = Region.load(town(**changes))
    message = refusal(region.open)
    assert "region 'town'" in message and str(region.folder) in message and says in message


def test_brackets_in_the_folder_are_no_glob(town, tmp_path):
    path = town()
    folder = tmp_path.with_name(tmp_path.name + "[1]")
    tmp_path.rename(folder)
    assert Region.load(folder / path.name).open().view(0, 0, 0, 8).coverage == 1


def test_washington(shared_data):
    region = Region.load(shared_data / "dc" / "region.json")
    assert region.grid.leaf_m == pytest.approx(39.0625)
    assert region.folder == Path(shared_data / "dc")
    assert region.open().source.gsd_m == pytest.approx(0.139, abs=0.001)
