"""Regions added in the app."""

import pytest

from app import places
from app.settings import DEMO, Settings
from zoomloc.errors import RegionError
from zoomloc.region import Region

CITY = DEMO / "city.tif"


def test_imagery_is_looked_at_and_its_square_proposed():
    lat, lon, side_m = places.proposed(places.look(str(CITY)))
    demo = Region.load(DEMO / "region.json").grid
    x, y = demo.project(lat, lon)
    centre = demo.centre(demo.root)
    assert abs(x - centre[0]) < 50 and abs(y - centre[1]) < 50
    assert side_m == pytest.approx(demo.size_m, rel=0.03)
    assert places.utm(lat, lon) == demo.crs
    assert places.utm(-33.9, 151.2) == "EPSG:32756"


def test_a_region_that_is_added_can_be_opened_and_is_listed(tmp_path):
    lat, lon, _ = places.proposed(places.look(str(CITY)))
    square = {"imagery": str(CITY), "lat": lat, "lon": lon, "side_m": 640.0, "attribution": "me"}
    path = places.add(tmp_path, name="Old town", **square)
    region = Region.load(path)
    assert (region.name, region.depth, region.grid.leaf_m) == ("Old-town", 2, 40)
    assert region.open().view(0, 0, 0, 32).mask.all()
    assert Settings(home=tmp_path).region_files()[-1] == path
    with pytest.raises(RegionError, match="there is a region of this name"):
        places.add(tmp_path, name="Old town", **square)
    with pytest.raises(RegionError, match="no name"):
        places.add(tmp_path, name="...", **square)


def test_a_square_off_the_imagery_and_a_file_that_is_none_are_refused(tmp_path):
    with pytest.raises(RegionError) as error:
        places.add(tmp_path, name="sea", imagery=str(CITY), lat=0, lon=-30, side_m=1000, attribution="")
    assert "\n" not in str(error.value) and not (tmp_path / "regions").exists()
    (tmp_path / "letter.tif").write_text("dear reader")
    for imagery in (tmp_path / "letter.tif", tmp_path / "gone.tif"):
        with pytest.raises(RegionError) as error:
            places.look(str(imagery))
        assert "\n" not in str(error.value)
