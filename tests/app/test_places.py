"""Regions added in the app."""

import pytest

from app import places
from app.settings import DEMO, Settings
from tiles.errors import TilesError
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


def test_tiles_of_the_whole_world_are_told_from_those_of_a_place(xyz, own_cache):
    assert places.endless(places.look(xyz)) and not places.endless(places.look(str(CITY)))
    assert places.named(xyz) == "127.0.0.1" and places.named(str(CITY)) == "city"


def test_a_square_of_an_xyz_source_is_seen_added_and_opened(xyz, own_cache, tmp_path):
    lat, lon, _ = places.proposed(places.look(str(CITY)))
    seen = places.see(xyz, lat=lat, lon=lon, side_m=640)
    assert seen.covered == seen.middle_covered == 1 and seen.pixels.std() > 10
    assert places.see(xyz, lat=lat + 0.012, lon=lon, side_m=1280).covered < 0.9
    with pytest.raises(RegionError, match="no data in the square"):
        places.see(xyz, lat=lat + 1, lon=lon, side_m=1280)
    path = places.add(tmp_path, name="by tiles", imagery=xyz, lat=lat, lon=lon, side_m=640, attribution="me")
    region = Region.load(path)
    assert region.imagery == (xyz,) and region.open().view(1, 0, 0, 32).mask.all()


def test_a_server_that_is_gone_is_told_in_one_line(own_cache):
    with pytest.raises((RegionError, TilesError)) as error:
        places.see("http://127.0.0.1:9/{z}/{x}/{y}.png", lat=51.4, lon=9.5, side_m=640)
    assert "\n" not in str(error.value) and "127.0.0.1:9" in str(error.value)
