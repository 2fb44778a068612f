"""A prediction as words, as GeoJSON, in a notebook and as a plot."""

import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

import zoomloc
from zoomloc.config import PointerConfig
from zoomloc.localizer import Localizer
from zoomloc.photo import load
from zoomloc.pointer import PointerModel
from zoomloc.priors import Around
from zoomloc.region import Region

matplotlib.use("Agg")


@pytest.fixture
def prediction(make_world):
    world = make_world()
    return world.prediction("<a>.jpg", x_m=700, y_m=1200, grid=world.region.grid)


def test_its_words_can_be_read_aloud(prediction):
    told = repr(prediction)
    assert told.startswith(f"<Prediction <a>.jpg: {prediction.lat:.6f}, {prediction.lon:.6f} in toy; ")
    assert "50 % within 12 m, 90 % within 2000 m" in told and "array" not in told
    elsewhere = replace(prediction, not_here=0.9, heading_deg=80.0, heading_50_deg=5.0, heading_90_deg=20.0)
    assert "not in this region; if it were" in repr(elsewhere) and "looking to 80° ± 5°" in repr(elsewhere)


def test_a_notebook_shows_its_words_and_its_map(prediction):
    shown = prediction._repr_html_()
    assert "&lt;a&gt;.jpg" in shown and "<a>" not in shown
    image = Image.open(io.BytesIO(base64.b64decode(re.search(r'base64,([^"]+)"', shown)[1])))
    assert min(image.size) > 200
    assert "<img" not in replace(prediction, posterior=None)._repr_html_()


def test_the_plot_shows_the_probability_where_it_lies(prediction):
    axes = prediction.plot()
    [image] = axes.images
    assert tuple(image.get_extent()) == (0, 2560, 2560, 0)
    leaves = image.get_array()
    assert np.unravel_index(leaves.argmax(), leaves.shape) == (1200 // 40, 700 // 40)
    answer = next(line for line in axes.lines if line.get_label() == "answer")
    np.testing.assert_allclose(answer.get_xydata(), [[700, 1200]], atol=0.1)
    assert [circle.radius for circle in axes.patches] == [12, 2000]
    matplotlib.pyplot.close(axes.figure)
    with pytest.raises(ValueError, match="does not know its grid"):
        replace(prediction, grid=None).plot()


def test_as_geojson_it_is_a_point_and_the_ground_that_holds_its_probability(prediction):
    found = prediction.to_geojson()
    kinds = [feature["geometry"]["type"] for feature in found["features"]]
    assert kinds == ["Point", "MultiPolygon", "MultiPolygon"]
    assert found["features"][0]["geometry"]["coordinates"] == [
        round(prediction.lon, 7),
        round(prediction.lat, 7),
    ]
    assert len(replace(prediction, grid=None).to_geojson()["features"]) == 1


def test_a_photos_file_and_a_regions_file_are_enough(tiny_data):
    torch.manual_seed(0)
    sizes = {"width": 32, "encoder_layers": 1, "encoder_heads": 2, "patch_px": 8, "table_px": 48, "photo_px": 32,
             "view_px": 48, "decoder_layers": 1, "decoder_heads": 2}  # fmt: skip
    localizer = Localizer(PointerModel(PointerConfig(kind="pointer", **sizes)))
    path, region = tiny_data / "photos" / "test-0.jpg", Region.load(tiny_data / "region.json")
    found = localizer.locate_photo(path, tiny_data / "region.json")
    photo = load(path)
    [expected] = localizer.locate([photo.pixels], region, names=[str(path)], fovs_deg=[photo.fov_deg])
    assert found == expected and found.grid == region.grid
    known = localizer.locate_photo(photo, region, priors=[Around(photo.lat, photo.lon, 2)])
    assert known.path == region.grid.path(region.grid.cell_at(*region.grid.project(photo.lat, photo.lon)))


def test_the_package_is_typed_and_imports_nothing_heavy_before_it_is_used():
    assert (Path(zoomloc.__file__).parent / "py.typed").exists()
    code = "import sys, zoomloc; assert 'torch' not in sys.modules; zoomloc.Prediction; zoomloc.Localizer"
    subprocess.run([sys.executable, "-c", code], check=True)
