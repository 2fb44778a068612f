"""The whole command in its smallest setting: cities, trainings, answers, report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.accuracy.rows import ROWS
from benchmarks.accuracy.score import ALL_LEAVES, QUERY_LEAVES
from zoomloc import manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("accuracy")


def crossing() -> str:
    """A map (GeoJSON) of two streets that cross."""
    across, up = 0.006, 0.004  # degrees: about 440 m
    lines = [[(9.05 - across, 48.5), (9.05 + across, 48.5)], [(9.05, 48.5 - up), (9.05, 48.5 + up)]]
    features = [
        {
            "type": "Feature",
            "properties": {"highway": "residential"},
            "geometry": {"type": "LineString", "coordinates": line},
        }
        for line in lines
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def command(folder: Path) -> subprocess.CompletedProcess:
    (folder / "cross.geojson").write_text(crossing())
    places = ["--data", folder / "data", "--runs", folder / "runs", "--out", folder / "out"]
    words = ["--osm", folder / "cross.geojson"]
    line = [
        sys.executable,
        "-m",
        "benchmarks.accuracy",
        "--setting",
        "tiny",
        "--device",
        "cpu",
        *places,
        *words,
    ]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def report(folder) -> dict:
    ended = command(folder)
    assert ended.returncode == 0, ended.stderr
    return json.loads((folder / "out" / "accuracy-tiny.json").read_text())


def test_every_row_is_in_every_table(report):
    assert set(report["results"]) == {"same area", "unseen city", "unseen city on a real map"}
    for galleries in report["results"].values():
        assert set(galleries[ALL_LEAVES]) == {row.name for row in ROWS}
        assert (
            {"chance", "ours", "retrieval, posterior"}
            < set(galleries[QUERY_LEAVES])
            < set(galleries[ALL_LEAVES])
        )
        for rows in galleries.values():
            for row in rows.values():
                assert 0 <= row["recall"]["5"] <= row["recall"]["100"] <= 1
        gains = report["gains"]["same area"][ALL_LEAVES]["just_zoom_in, greedy"]["40"]
        assert -1 <= gains["low"] <= gains["value"] <= gains["high"] <= 1


def test_every_training_saw_as_many_photos(report):
    assert len({training["photos_seen"] for training in report["trainings"].values()}) == 1


def test_the_page_names_whose_map_it_is(report, folder):
    assert "© OpenStreetMap contributors" in (folder / "out" / "accuracy-tiny.md").read_text()


def test_the_page_names_the_galleries_and_shows_the_plots(report, folder):
    page = (folder / "out" / "accuracy-tiny.md").read_text()
    for title in ("Same area, gallery: all leaves", "Unseen city, gallery: only leaves that hold a query"):
        assert f"## {title}" in page
    for name in ("accuracy-tiny-distance.png", "accuracy-tiny-area.png"):
        assert f"({name})" in page
        assert Image.open(folder / "out" / name).width > 500


def test_a_second_run_trains_nothing_anew_and_leaking_data_are_refused(report, folder):
    states = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*.npz")}
    states |= {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("model.safetensors")}
    assert command(folder).returncode == 0
    assert all(path.stat().st_mtime_ns == time for path, time in states.items())
    town, unseen = (folder / "data" / "tiny" / name for name in ("town-0", "unseen-0"))
    trained_on = manifest.read(town / "manifest.parquet", "train")["photo"].iloc[0]
    query = manifest.read(unseen / "manifest.parquet", "test")["photo"].iloc[0]
    (unseen / query).write_bytes((town / trained_on).read_bytes())
    refused = command(folder)
    assert refused.returncode != 0
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "unseen-0" in refused.stderr
