"""Real photos over real imagery: the whole way runs, what has no imagery is masked, and errors are told as they are."""

import contextlib
import importlib.util
import io
import json
import math
import re
import sys
from pathlib import Path

import pandas as pd
import pyproj
import pytest

from zoomloc import demo
from zoomloc.cli import main
from zoomloc.localizer import Localizer
from zoomloc.region import Region

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "washington.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("washington", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_six_real_photos(shared_data, benchmark, tmp_path, monkeypatch):
    dc = shared_data / "dc"
    benchmark.make_dataset(dc, tmp_path, depth=3)
    photos = sorted((dc / "photos").glob("*.jpg"))
    out = tmp_path / "places.geojson"
    words = [
        "locate",
        *photos,
        "--region",
        tmp_path / "region.json",
        "--checkpoint",
        demo.FOLDER / "checkpoint",
    ]
    monkeypatch.setattr(
        sys, "argv", ["zoomloc", *map(str, words), "--out", str(out), "--figure", str(tmp_path / "p")]
    )
    with contextlib.redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    features = [f for f in json.loads(out.read_text())["features"] if f["geometry"]["type"] == "Point"]
    assert len(features) == len(list((tmp_path / "p").glob("*.png"))) == 6
    truth = pd.read_csv(dc / "photos" / "photos.csv").set_index("file")
    for photo, feature in zip(photos, features, strict=True):
        lon, lat = feature["geometry"]["coordinates"]
        row = truth.loc[photo.name]
        error_m = pyproj.Geod(ellps="WGS84").inv(lon, lat, row.longitude, row.latitude)[2]
        print(f"{photo.name}: {error_m:.0f} m off, probability {feature['properties']['probability']:.1%}")
        assert 0 <= error_m < 10_000 * math.sqrt(2)
        printed = re.search(rf"{photo.name}: .*?(-?[0-9.]+), (-?[0-9.]+) \(", said.getvalue())
        assert (float(printed[1]), float(printed[2])) == pytest.approx((lat, lon), abs=2e-6)


def test_the_posterior_over_real_imagery_is_a_distribution(shared_data, benchmark, tmp_path):
    benchmark.make_dataset(shared_data / "dc", tmp_path, depth=3)
    region = Region.load(tmp_path / "region.json")
    root = region.open().view(0, 0, 0, 128)
    assert 0.5 < root.coverage <= 1
    localizer = Localizer.from_pretrained(demo.FOLDER / "checkpoint", device="cpu")
    pixels = [root.pixels]  # any picture will do
    prediction = localizer.locate(pixels, region, names=["root"])[0]
    assert prediction.posterior.shape == (64, 64)
    total = prediction.posterior.sum() + prediction.not_here + prediction.unexpanded
    assert total == pytest.approx(1, abs=1e-4)
    greedy = localizer.locate(pixels, region, names=["root"], how="greedy")[0]
    row, col = region.grid.cell(greedy.path)[1:]
    # More than greedy says: what wrong branches held has gone back to the leaves.
    assert 0 < greedy.probability <= prediction.posterior[row, col] * 1.001
