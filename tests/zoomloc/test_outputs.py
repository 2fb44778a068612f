import json
import math
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from zoomloc import outputs
from zoomloc.errors import OutputError
from zoomloc.grid import Cell, Grid
from zoomloc.photo import Photo
from zoomloc.prediction import Place, Prediction

BEST = Place(lat=46.31, lon=7.98, probability=0.42, path=(5, 10, 3))
OTHER = Place(lat=-46.32, lon=7.99, probability=0.1, path=(5, 10, 4))
GRID = Grid("EPSG:32632", (420_000.0, 5_132_000.0), 2560.0, 4, 3)
POSTERIOR = np.zeros((64, 64), np.float32)
POSTERIOR[10, 20], POSTERIOR[40, 5] = 0.6, 0.3
FOUND = Prediction(
    photo="photos/Straße <1>.jpg",
    region="brig",
    lat=46.3123456789,
    lon=7.98,
    probability=0.42,
    radius_50_m=31.0,
    radius_90_m=412.5,
    area_50_m2=1600.0,
    area_90_m2=3200.0,
    path=(5, 10, 3),
    places=(BEST, OTHER),
    radius_m=40.0,
    search="posterior",
    not_here=0.1,
    unexpanded=0.001,
    posterior=POSTERIOR,
)
FAILED = ("gone.jpg", "gone.jpg: no such file; check the path")


def test_geojson(tmp_path):
    outputs.write([FOUND], tmp_path / "a.geojson", grid=GRID, failures=[FAILED])
    written = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))
    assert written["type"] == "FeatureCollection" and set(written) == {"type", "features"}
    found, half, most, failed = written["features"]
    assert found["geometry"] == {"type": "Point", "coordinates": [7.98, 46.3123457]}
    assert found["properties"] == {
        "photo": "photos/Straße <1>.jpg",
        "region": "brig",
        "probability": 0.42,
        "radius_50_m": 31.0,
        "radius_90_m": 412.5,
        "area_50_m2": 1600.0,
        "area_90_m2": 3200.0,
        "heading_deg": None,
        "heading_50_deg": None,
        "heading_90_deg": None,
        "located": True,
        "status": "located",
        "not_here": 0.1,
        "unexpanded": 0.001,
        "search": "posterior",
        "path": [5, 10, 3],
        "radius_m": 40.0,
        "places": [
            {"lat": 46.31, "lon": 7.98, "probability": 0.42, "path": [5, 10, 3]},
            {"lat": -46.32, "lon": 7.99, "probability": 0.1, "path": [5, 10, 4]},
        ],
    }
    for ground, holds, leaves in ((half, 0.5, [(10, 20)]), (most, 0.9, [(10, 20), (40, 5)])):
        assert ground["properties"] == {"photo": FOUND.photo, "holds": holds, "area_m2": 1600.0 * len(leaves)}
        assert ground["geometry"]["type"] == "MultiPolygon"
        exact = shapely.MultiPolygon([GRID.polygon(Cell(3, *leaf)) for leaf in leaves])
        missed = shapely.geometry.shape(ground["geometry"]).symmetric_difference(exact)
        assert missed.area < 0.02 * exact.area, "rounded to a decimetre"
    assert failed == {
        "type": "Feature",
        "geometry": None,
        "properties": {"photo": FAILED[0], "error": FAILED[1]},
    }


def test_geojson_is_read_by_others(tmp_path):
    outputs.write([FOUND], tmp_path / "a.geojson", grid=GRID, failures=[FAILED])
    frame = gpd.read_file(tmp_path / "a.geojson")
    assert len(frame) == 4 and frame.crs == "EPSG:4326"
    assert (frame.geometry[0].y, frame.geometry[0].x) == (46.3123457, 7.98)
    assert frame.geometry[1:3].is_valid.all()
    assert frame.to_crs(GRID.crs).area[1:3].tolist() == pytest.approx([1600, 3200], rel=0.01)
    assert frame.geometry[3] is None and frame["error"][3] == FAILED[1]


def test_without_a_posterior_there_is_no_ground(tmp_path):
    outputs.write([replace(FOUND, posterior=None)], tmp_path / "a.geojson", grid=GRID)
    outputs.write([replace(FOUND, area_90_m2=math.nan)], tmp_path / "b.geojson", grid=GRID)
    for name, holds in (("a", [None]), ("b", [None, 0.5])):
        features = json.loads((tmp_path / f"{name}.geojson").read_text())["features"]
        assert [feature["properties"].get("holds") for feature in features] == holds


def test_json(tmp_path):
    outputs.write([FOUND], tmp_path / "a.json", grid=GRID, failures=[FAILED])
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert written["failures"] == [{"photo": FAILED[0], "error": FAILED[1]}]
    (found,) = written["predictions"]
    assert (found["lat"], found["lon"]) == (46.3123457, 7.98)
    left_out = {"posterior", "headings", "threshold", "grid", "no_imagery"}
    assert set(found) == set(FOUND.__dataclass_fields__) - left_out | {"located", "status"}


def test_an_unknown_radius_is_null(tmp_path):
    unknown = replace(FOUND, radius_50_m=math.nan, radius_90_m=np.float32("nan"), probability=np.float32(0.1))
    for name in ("a.json", "a.geojson"):
        outputs.write([unknown], tmp_path / name, grid=GRID)
        text = (tmp_path / name).read_text()
        assert "NaN" not in text and '"radius_90_m": null' in text and '"probability": 0.1,' in text


def test_no_photos_at_all(tmp_path):
    outputs.write([], tmp_path / "a.geojson", grid=GRID)
    assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []


@pytest.mark.parametrize("name", ["a.csv", "a", "a.json.gz", "geojson"])
def test_an_unknown_suffix_is_refused_before_and_at_writing(tmp_path, name):
    for refuse in (lambda path: outputs.write([FOUND], path, grid=GRID), outputs.check_suffix):
        with pytest.raises(OutputError, match=r"\.geojson or \.json") as raised:
            refuse(tmp_path / name)
        assert str(raised.value).startswith(str(tmp_path / name)) and "\n" not in str(raised.value)
    assert not any(tmp_path.iterdir())


def test_folders_are_made_and_upper_case_is_fine(tmp_path):
    outputs.write([FOUND], tmp_path / "new" / "folder" / "A.GeoJSON", grid=GRID)
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["A.GeoJSON"]


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "a.json").mkdir()
    (tmp_path / "a.json" / "kept").touch()
    (tmp_path / "file").touch()
    for path in (tmp_path / "a.json", tmp_path / "file" / "b.json"):
        with pytest.raises(OutputError, match="cannot be written") as raised:
            outputs.write([FOUND], path, grid=GRID)
        assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.json", "file", "kept"]


def test_a_failure_while_writing_keeps_the_old_file(tmp_path):
    outputs.write([FOUND], tmp_path / "a.json", grid=GRID)
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(TypeError):
        outputs.write([replace(FOUND, photo=object())], tmp_path / "a.json", grid=GRID)
    assert (tmp_path / "a.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_error_in_metres():
    photo = Photo(Path("a.jpg"), np.zeros((1, 1, 3), np.uint8), lat=46.3123456789, lon=7.99)
    assert outputs.error_m(photo, FOUND) == pytest.approx(770.5, abs=1)  # 0.01° of longitude at 46.3° north
    assert outputs.error_m(replace(photo, lat=None, lon=None), FOUND) is None
