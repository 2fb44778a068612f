"""Rows in every format, read back by ourselves and by other programs' readers."""

import json
import math
import re
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import gpxpy
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomloc import rows, tables
from zoomloc.errors import OutputError
from zoomloc.photo import Photo
from zoomloc.prediction import Place, Prediction
from zoomloc.rows import COLUMNS, Row

BEST = Place(lat=46.31, lon=7.98, probability=0.62, path=(5, 10, 3))
FOUND = Prediction(
    photo="walk/Straße <1>.jpg",
    region="brig",
    lat=46.3123456789,
    lon=7.98,
    probability=0.42,
    radius_50_m=31.0,
    radius_90_m=412.5,
    area_50_m2=1600.0,
    area_90_m2=3200.0,
    path=(5, 10, 3),
    places=(BEST,),
    radius_m=40.0,
    search="posterior",
    not_here=0.1,
)
PHOTO = Photo(
    Path("a.jpg"),
    np.zeros((1, 1, 3), np.uint8),
    lat=46.3123456789,
    lon=7.99,
    captured_at=datetime.fromisoformat("2024-05-06T12:00:00+02:00"),
)


def row(**changes):
    return replace(rows.of_prediction(FOUND, PHOTO, min_confidence=0.5, model="abc"), **changes)


FAILED = Row(file="gone, or not.jpg", status="failed", reason='gone: no "such" file; check it', model="abc")
MANY = [
    row(),
    row(file="walk/b.jpg", status="uncertain", captured_at="2024-05-06T12:00:01"),
    row(file="c.jpg", status="outside", lat=None, lon=None, path=None, region=None, exif_distance_m=None),
    FAILED,
    row(file="drive.mp4", frame_s=0.5, heading_deg=271.5, milliseconds=12.5),
]


def test_a_row_says_what_the_prediction_does():
    made = rows.of_prediction(FOUND, PHOTO, min_confidence=0.5, model="abc", milliseconds=1.23456789)
    assert made.exif_distance_m == pytest.approx(770.5, abs=1)
    assert made.as_nested() | {"exif_distance_m": None} == {
        "file": "walk/Straße <1>.jpg",
        "frame_s": None,
        "status": "located",
        "reason": None,
        "lat": 46.3123457,
        "lon": 7.98,
        "confidence": 0.62,
        "probability": 0.42,
        "radius_50_m": 31.0,
        "radius_90_m": 412.5,
        "heading_deg": None,
        "not_here": 0.1,
        "region": "brig",
        "path": [5, 10, 3],
        "places": [{"lat": 46.31, "lon": 7.98, "probability": 0.62}],
        "captured_at": "2024-05-06T12:00:00+02:00",
        "exif_distance_m": None,
        "model": "abc",
        "milliseconds": 1.23457,
    }


def test_every_column_is_explained():
    listed = rows.__doc__.split("\n\n")[2]
    starts = re.findall(r"^(\w+)(?:, (\w+))?", listed, flags=re.MULTILINE)
    assert [name for pair in starts for name in pair if name] == list(COLUMNS)
    assert tuple(field.name for field in fields(Row)) == COLUMNS


@pytest.mark.parametrize(
    ("not_here", "min_confidence", "status"),
    [(0.1, 0.62, "located"), (0.1, 0.63, "uncertain"), (0.51, 0.1, "outside"), (0.51, 0.9, "outside")],
)
def test_what_is_told_of_it(not_here, min_confidence, status):
    made = rows.of_prediction(replace(FOUND, not_here=not_here), PHOTO, min_confidence=min_confidence)
    assert made.status == status
    assert (
        (made.lat is None) == (made.region is None) == (made.exif_distance_m is None) == (status == "outside")
    )
    assert made.places, "even outside, what came nearest can be looked at"


def test_what_is_no_number_is_unknown():
    made = rows.of_prediction(replace(FOUND, radius_90_m=math.nan, places=()), PHOTO, min_confidence=0.5)
    assert made.radius_90_m is None and made.confidence == 0 and made.status == "uncertain"


@pytest.mark.parametrize("suffix", tables.READERS)
def test_what_is_written_is_read_back(tmp_path, suffix):
    tables.write(MANY, tmp_path / f"new/r{suffix}")
    assert tables.read(tmp_path / f"new/r{suffix}") == MANY
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"r{suffix}"]


@pytest.mark.parametrize("suffix", tables.READERS)
@pytest.mark.parametrize("some", [[], [FAILED]])
def test_columns_are_there_even_where_nothing_was_located(tmp_path, suffix, some):
    tables.write(some, tmp_path / f"r{suffix}")
    assert tables.read(tmp_path / f"r{suffix}") == some


@settings(max_examples=25)
@given(
    file=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda s: "\0" not in s),
    reason=st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    number=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".geojson", ".parquet"])
def test_any_name_and_number_survives(tmp_path_factory, suffix, file, reason, number):
    path = tmp_path_factory.mktemp("any") / f"r{suffix}"
    one = Row(file=file, reason=reason, confidence=number)
    tables.write([one], path)
    assert tables.read(path) == [one]


@pytest.mark.parametrize("suffix", [".geojson", ".parquet", ".fgb", ".gpkg"])
def test_maps_find_the_points(tmp_path, suffix):
    path = tmp_path / f"r{suffix}"
    tables.write(MANY, path)
    frame = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path)
    assert frame.crs == "EPSG:4326"
    assert [None if p is None else (p.y, p.x) for p in frame.geometry] == [
        (46.3123457, 7.98), (46.3123457, 7.98), None, None, (46.3123457, 7.98)
    ]  # fmt: skip
    assert set(COLUMNS) < set(frame.columns)


def test_numbers_are_numbers_in_parquet(tmp_path):
    tables.write([FAILED], tmp_path / "r.parquet")
    kinds = pd.read_parquet(tmp_path / "r.parquet").dtypes
    assert kinds["radius_90_m"] == "float64" and kinds["file"] != "float64"


def test_kml_shows_the_rows_with_a_position(tmp_path):
    tables.write([*MANY, row(file="bell\x07.jpg")], tmp_path / "r.kml")
    space = {"k": tables.KML}
    document = ElementTree.parse(tmp_path / "r.kml").getroot()
    marks = document.findall(".//k:Placemark", space)
    names = [mark.find("k:name", space).text for mark in marks]
    assert names == ["Straße <1>.jpg", "b.jpg", "drive.mp4#t=0.5", "bell�.jpg"]
    assert marks[0].find("k:Point/k:coordinates", space).text == "7.98,46.3123457"
    assert [mark.find("k:styleUrl", space).text for mark in marks[:2]] == ["#located", "#uncertain"]
    assert {style.get("id") for style in document.findall(".//k:Style", space)} == {"located", "uncertain"}
    assert len(gpd.read_file(tmp_path / "r.kml")) == 4


def test_gpx_has_a_track_for_each_walk_in_the_order_of_time(tmp_path):
    walk = [
        row(file="walk/b.jpg", captured_at="2024-05-06T12:00:05+02:00"),
        row(file="walk/a.jpg", captured_at="2024-05-06T10:00:03+00:00"),
        row(file="ride/z.jpg", captured_at="2024-05-06T09:00:00"),
        row(file="walk/c.jpg", status="uncertain"),
        row(file="drive.mp4", frame_s=10.0),
        row(file="drive.mp4", frame_s=9.0),
        FAILED,
    ]
    tables.write(walk, tmp_path / "r.gpx")
    read = gpxpy.parse((tmp_path / "r.gpx").read_text(encoding="utf-8"))
    tracks = {track.name: [point.name for point in track.segments[0].points] for track in read.tracks}
    assert tracks == {
        "drive.mp4": ["drive.mp4#t=9", "drive.mp4#t=10"], "ride": ["z.jpg"], "walk": ["a.jpg", "b.jpg"]
    }  # fmt: skip
    assert [point.name for point in read.waypoints] == ["c.jpg"]
    (segment,) = next(track for track in read.tracks if track.name == "walk").segments
    assert [point.time.isoformat() for point in segment.points] == [
        "2024-05-06T10:00:03+00:00", "2024-05-06T10:00:05+00:00"
    ]  # fmt: skip
    (ride,) = next(track for track in read.tracks if track.name == "ride").segments[0].points
    assert ride.time is None, "a clock without a zone is not UTC"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("r.shp", None, "unknown|cannot be read from this"),
        ("r.kml", None, "give one of .csv"),
        ("r.csv", None, "no such file"),
        ("r.jsonl", "{}\n", "no column 'file'"),
        ("r.csv", "a,b\n1,2\n", "no column 'file'"),
        ("r.parquet", "not parquet", "cannot be read"),
        ("r.gpkg", "not a database", "cannot be read"),
        ("r.geojson", "[1", "cannot be read"),
    ],
)
def test_what_is_no_result_is_told_in_one_line(tmp_path, name, content, says):
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(OutputError, match=says) as raised:
        tables.read(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name)) and "\n" not in str(raised.value)


def test_an_unknown_suffix_is_refused_and_a_failure_leaves_the_old_file(tmp_path):
    with pytest.raises(OutputError, match=r"\.csv or .* or \.gpx"):
        tables.write(MANY, tmp_path / "r.shp")
    tables.write(MANY, tmp_path / "r.jsonl")
    before = (tmp_path / "r.jsonl").read_bytes()
    with pytest.raises(TypeError):
        tables.write([*MANY, row(file=object())], tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_json_lines_are_json_a_line(tmp_path):
    tables.write(MANY, tmp_path / "r.jsonl")
    lines = (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["file"] for line in lines] == [each.file for each in MANY]
    assert lines[0] == tables.json_line(MANY[0])
