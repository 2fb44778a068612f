"""`zoomloc tiles` as a user has it."""

import json
import subprocess
import sys
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import tiles
from zoomloc.cli import app
from zoomloc.region import Region


def zoomloc(*words, code=0):
    result = CliRunner().invoke(app, ["tiles", *map(str, words)])
    if isinstance(result.exception, tiles.TilesError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture
def region(tiny_data, tmp_path):
    """The tiny city's region file, in a folder of its own, with a hole in the imagery's east."""
    fields = json.loads((tiny_data / "region.json").read_text())
    fields["imagery"] = [str(tiny_data / "city.tif")]
    path = tmp_path / "region.json"
    path.write_text(json.dumps(fields))
    return path


def test_info_tells_the_facts_on_one_screen(tiny_data):
    shown = zoomloc("info", tiny_data / "city.tif")
    for fact in ("EPSG:32632", "500000.000 .. 500320.000", "1 m a pixel", "100.0%", "not stated"):
        assert fact in shown
    assert len(shown.splitlines()) < 25


def test_check_names_the_cells_without_imagery(region):
    assert "imagery covers 100.0% of it" in zoomloc("check", "--region", region)
    fields = json.loads(region.read_text())
    fields["north_west"][0] += 80  # a quarter of the square now lies beyond the imagery
    region.write_text(json.dumps(fields))
    shown = zoomloc("check", "--region", region, code=1)
    assert "covers 75.0%" in shown and "16, of which 12 are covered whole, 0 in part, 4 not at all" in shown
    assert [line.split(": ")[1] for line in shown.splitlines() if "no imagery" in line] == [
        f"level 1, row {row}, column 3" for row in range(4)
    ]


@pytest.mark.parametrize("name", ["cells.mbtiles", "cells", "map.pmtiles", "city.tif"])
def test_what_is_built_shows_what_it_was_built_from(region, tmp_path, name):
    out = tmp_path / name
    assert "built" in zoomloc("build", "--region", region, "--out", out, "--px", 64)
    place = Region.load(region)
    before, after = (
        place.open().view(0, 0, 0, 64),
        tiles.open(out).read(place.grid.bounds(place.grid.cell(())), place.crs, (64, 64)),
    )
    assert after.coverage > 0.95
    both = before.mask & after.mask
    assert np.abs(before.pixels.astype(int) - after.pixels)[both].mean() < 4
    with pytest.raises(tiles.TilesError, match="exists already"):
        zoomloc("build", "--region", region, "--out", out, "--px", 64)


def test_a_region_is_served_until_interrupted(region):
    command = [sys.executable, "-m", "zoomloc", "tiles", "serve", str(region), "--port", "0"]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = served.stdout.readline()
        assert "serving tiny at http://127.0.0.1:" in line
        url = line.split(" at ")[1].strip()
        with urlopen(f"{url}tiny/cell/root?px=32", timeout=30) as answer:
            assert Image.open(answer).size == (32, 32)
        with urlopen(f"{url}tiny/tilejson.json", timeout=30) as answer:
            assert json.load(answer)["attribution"] == "made up"
    finally:
        served.terminate()
        _, err = served.communicate(timeout=60)
    assert "Traceback" not in err


def test_two_sources_of_one_name_are_both_served(tiny_data):
    from zoomloc.tiles_commands import _unused

    assert _unused("city.tif", []) == "city.tif"
    assert _unused("city.tif", ["city.tif", "city.tif-2"]) == "city.tif-3"
    assert _unused("höhe über null!", []) == "höhe-über-null"
    assert _unused("...", []) == "imagery"
