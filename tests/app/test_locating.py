"""From an upload to priors and shares, and the data that the map draws."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app import locating, scene
from app.locating import Clues, Given
from app.settings import DEMO, Settings, current
from zoomloc.errors import PhotoError, PriorError
from zoomloc.localizer import predict
from zoomloc.photo import load
from zoomloc.posterior import Leaves
from zoomloc.priors import Around, Facing, Within
from zoomloc.region import Region

PHOTO = DEMO / "photos" / "000021.jpg"


@pytest.fixture(scope="module")
def region():
    return Region.load(DEMO / "region.json")


def _jpeg(size) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, 90).save(file, "JPEG")
    return file.getvalue()


def _given() -> Given:
    return Given("key", PHOTO.name, load(PHOTO))


def _prediction(region, path):
    leaves = Leaves(np.array([path]), np.array([1.0]))
    return predict(leaves, region, PHOTO.name, "posterior", 5)


@pytest.mark.parametrize(
    "content", [b"%PDF-1.7 not a photo", PHOTO.read_bytes()[:4000], b""], ids=["pdf", "cut off", "empty"]
)
def test_what_is_no_photo_gets_one_line_that_names_the_upload(content):
    with pytest.raises(PhotoError) as error:
        locating.read("holiday.jpg", content)
    assert str(error.value).startswith("holiday.jpg: ") and "\n" not in str(error.value)
    assert "/" not in str(error.value).split(";")[0]  # nothing of where it was kept


def test_a_photo_of_50_megapixels_is_read_and_a_line_says_how():
    given = locating.read("large.jpg", _jpeg((8660, 5800)))
    assert given.note == "large.jpg has 50 megapixels; it is looked at 2048 pixels wide."
    assert max(given.photo.pixels.shape) == 2048
    assert locating.read("small.jpg", _jpeg((640, 480))).note is None


def test_clues_become_priors(region):
    lat, lon = region.grid.unproject(*region.grid.centre(region.grid.root))
    photo = load(PHOTO)
    assert locating.known(Clues(), region, photo) == []
    clues = Clues(
        area=f"{lon - 0.005},{lat - 0.005},{lon + 0.005},{lat + 0.005}",
        circle=f"{lat},{lon},200",
        heading_deg=90,
        heading_sigma_deg=20,
        exif=True,
    )
    circle, area, heading, exif = locating.known(clues, region, photo)
    assert isinstance(circle, Within) and isinstance(area, Within)
    assert heading == Facing(90, 20)
    assert isinstance(exif, Around) and (exif.lat, exif.lon) == (photo.lat, photo.lon)


@pytest.mark.parametrize(
    ("clues", "words"),
    [
        (Clues(area="here"), "Area: "),
        (Clues(area="1,2,3,4"), "Area"),
        (Clues(area="4,3,2,1"), "Area"),
        (Clues(circle="51.46,9.54"), "Circle"),
        (Clues(circle="91,9.54,10"), "Circle"),
        (Clues(area=f"{PHOTO},,,"), "Area"),
    ],
)
def test_clues_that_make_no_sense_are_refused_in_the_words_of_the_page(region, clues, words):
    with pytest.raises(PriorError) as error:
        locating.known(clues, region, load(PHOTO))
    assert str(error.value).startswith(words) and "--" not in str(error.value)


def test_the_shares_of_children_sum_to_that_of_their_cell(region):
    posterior = np.random.default_rng(0).dirichlet(np.ones(64 * 64)).reshape(64, 64).astype(np.float32)
    for path in ((), (5,), (5, 10)):
        parts = [locating.share(posterior, region.grid, (*path, child)) for child in range(16)]
        assert sum(parts) == pytest.approx(locating.share(posterior, region.grid, path), rel=1e-5)
    assert locating.share(posterior, region.grid, (0, 0, 1)) == pytest.approx(float(posterior[0, 1]))


@pytest.mark.parametrize("path", [(0, 0, 0), (15, 15, 15), (6, 9, 3)])
def test_the_heat_lies_where_the_leaf_is(region, path):
    drawn = scene.of_answer(
        _given(),
        _prediction(region, path),
        path,
        region=region,
        server="http://127.0.0.1:1",
        reach=1.0,
        clues=Clues(),
    )
    (south, west), (north, east) = drawn["heat"]["bounds"]
    picture = Image.open(io.BytesIO(base64.b64decode(drawn["heat"]["picture"].partition(",")[2])))
    rows, cols = np.nonzero(np.asarray(picture)[..., 3] > 150)  # the veil is thinner
    lat = north + (south - north) * (rows.mean() + 0.5) / picture.height  # a city is flat enough for that
    lon = west + (east - west) * (cols.mean() + 0.5) / picture.width
    x, y = region.grid.project(lat, lon)
    centre = region.grid.centre(region.grid.cell(path))
    assert np.hypot(x - centre[0], y - centre[1]) < region.grid.leaf_m / 4


def test_the_coverage_is_blue_where_there_is_imagery_and_hatched_where_there_is_none(region):
    mask = np.zeros((64, 64), bool)
    mask[:, :32] = True  # the west
    drawn = scene.coverage(mask, region)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn["picture"].partition(",")[2]))))
    west, east = picture[200:300, 100:150].reshape(-1, 4), picture[200:300, 350:400].reshape(-1, 4)
    assert {tuple(colour) for colour in west.tolist()} == {scene.COVERED}
    assert {tuple(colour) for colour in east.tolist()} == {scene.BLANK, scene.BETWEEN}
    assert np.shape(drawn["bounds"]) == (2, 2)


def test_a_scene_is_json_and_tells_of_cells_views_and_the_true_place(region):
    path = (6, 9, 3)
    given, prediction = _given(), _prediction(region, path)
    drawn = scene.of_answer(
        given,
        prediction,
        path,
        region=region,
        server="http://127.0.0.1:1",
        reach=1.5,
        clues=Clues(area="9.5, 51.4, 9.6, 51.5", circle="51.4, nonsense"),
    )
    json.dumps(drawn, allow_nan=False)
    assert [view["chosen"] for view in drawn["views"]] == [6, 9, 3]
    assert [cell["share"] for cell in drawn["cells"]] == [1, 1, 1, 1]
    assert all(view["shares"][view["chosen"]] == 1 for view in drawn["views"])
    assert drawn["truth"]["at"] == [given.photo.lat, given.photo.lon] and drawn["truth"]["away_m"] > 0
    assert (drawn["area"], drawn["circle"]) == ([9.5, 51.4, 9.6, 51.5], None)
    # What the model sees is wider than the cell: 1.5 times its side.
    west, south, east, north = map(float, drawn["views"][1]["picture"].split("=")[1].split("&")[0].split(","))
    assert east - west == north - south == pytest.approx(1.5 * region.size_m / 4)
    assert drawn["views"][1]["rim"] == pytest.approx(0.25 / 1.5)


def test_a_search_without_a_posterior_has_neither_heat_nor_shares(region):
    prediction = replace(_prediction(region, (1, 2, 3)), posterior=None, radius_90_m=float("nan"))
    drawn = scene.of_answer(
        _given(), prediction, (1,), region=region, server="http://x", reach=1.0, clues=Clues()
    )
    json.dumps(drawn, allow_nan=False)
    assert drawn["heat"] is None and drawn["views"][0]["shares"] is None
    assert [view["chosen"] for view in drawn["views"]] == [1, None]


def test_settings_reach_the_pages_through_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("ZOOMLOC_APP", raising=False)
    assert current() == Settings()
    given = Settings(Path("model"), (Path("a.json"), Path("b.json")), tmp_path)
    for name, value in given.pack().items():
        monkeypatch.setenv(name, value)
    assert current() == given
    added = tmp_path / "regions" / "mine" / "region.json"
    added.parent.mkdir(parents=True)
    added.touch()
    assert current().region_files() == [Path("a.json"), Path("b.json"), added]
