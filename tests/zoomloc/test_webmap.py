import io
import json
import math
import re
import shutil
import subprocess
from base64 import b64decode
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from zoomloc import figure, webmap
from zoomloc.errors import OutputError

EVIL = '</script><img src=x onerror="window.harmed=1">.jpg'
LEAFLET = files("tiles") / "assets" / "leaflet"


@pytest.fixture
def world(make_world):
    return make_world(depth=3)


def _write(world, path, photos=None, predictions=None, failures=()):
    """A map of three photos unless given others: one off by 500 m, one without position, one with an evil name."""
    photos = photos or [world.photo(x_m=1800, y_m=900), world.photo(), world.photo(EVIL, x_m=640, y_m=640)]
    predictions = predictions or [
        world.prediction("far.jpg", x_m=1500, y_m=500, probability=0.3),
        world.prediction("unknown.jpg", x_m=2000, y_m=2000, probability=0.9),
        world.prediction(EVIL, x_m=640, y_m=650, probability=0.6, radius_50_m=math.nan, radius_90_m=math.nan),
    ]
    webmap.write(
        path,
        region=world.region,
        pyramid=world.pyramid,
        photos=photos,
        predictions=predictions,
        failures=failures,
    )
    return path.read_text(encoding="utf-8")


def _data(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def _pixels(uri):
    return np.asarray(Image.open(io.BytesIO(b64decode(uri.partition("base64,")[2])))).astype(int)


def test_the_surest_photo_comes_first_with_all_that_is_known_of_it(world, tmp_path):
    data = _data(_write(world, tmp_path / "map.html", failures=[("gone.jpg", "no such file")]))
    assert [photo["name"] for photo in data["photos"]] == ["unknown.jpg", EVIL, "far.jpg"]
    assert data["failures"] == [{"photo": "gone.jpg", "error": "no such file"}]
    assert data["summary"].startswith("3 photos") and "1 of 2 within 50 m" in data["summary"]
    unknown, evil, far = data["photos"]
    assert unknown["truth"] is None and unknown["error_m"] is None
    assert evil["radius_50_m"] is None and evil["error_m"] == pytest.approx(10, abs=0.1)
    assert far["area_90_m2"] == 3200 and far["radius_m"] == 40 and far["not_here"] == far["unexpanded"] == 0
    assert far["error_m"] == pytest.approx(500, abs=1)
    assert far["answer"] == pytest.approx([2060, 1500], abs=0.01)  # north, east of the south-west corner
    assert far["truth"] == pytest.approx([1660, 1800], abs=0.01)


def test_the_zoom_path_leads_to_the_answer(world, tmp_path):
    for photo in _data(_write(world, tmp_path / "map.html"))["photos"]:
        assert [cell["side_m"] for cell in photo["cells"]] == [2560, 640, 160, 40]
        north_m, east_m = photo["answer"]
        for cell in photo["cells"]:
            (south, west), (north, east) = cell["bounds"]
            assert south <= north_m <= north and west <= east_m <= east
            assert north - south == east - west == cell["side_m"]
        assert [view["bounds"] for view in photo["details"]] == [photo["cells"][2]["bounds"]]


def test_the_imagery_is_inside_and_its_gaps_are_a_checkerboard(world, tmp_path):
    data = _data(_write(world, tmp_path / "map.html"))
    ground = _pixels(data["imagery"])
    side = webmap.IMAGERY_PX
    assert ground.shape == (side, side, 3) and data["gaps"] is True
    assert np.abs(ground[side // 4, side // 2] - (128, 64, 40)).max() < 8
    gap = ground[:, : side // 8 - 8]
    assert all((np.abs(gap - shade).max(axis=-1) < 30).any() for shade in figure.NO_IMAGERY)
    assert np.abs(gap - np.mean(figure.NO_IMAGERY, axis=0)).max() < 40


def test_the_posterior_is_inside(world, tmp_path):
    data = _data(_write(world, tmp_path / "map.html"))
    opacity = _pixels(data["photos"][2]["heat"])[..., 3]
    grid = world.region.grid
    best = grid.cell(world.prediction(x_m=1500, y_m=500).path)
    assert opacity.shape == (64, 64) and opacity[best.row, best.col] > 150 and (opacity > 0).sum() == 2
    without = [world.prediction(x_m=1500, y_m=500, posterior=False)]
    assert _data(_write(world, tmp_path / "b.html", [world.photo()], without))["photos"][0]["heat"] is None


def test_the_legend_has_the_colours_of_the_posterior():
    page = (files("zoomloc") / "assets" / "map.html").read_text()
    stops = re.findall(r'<stop offset="([\d.]+)" stop-color="#(\w{6})"(?: stop-opacity="([\d.]+)")?/>', page)
    assert len(stops) == 3
    certainty = np.array([[float(offset) for offset, _, _ in stops]])
    shown = figure.heat(np.exp((certainty - 1) * np.log(3)), 2, at_most_px=8)[0]
    for colour, (_, text, opacity) in zip(shown, stops, strict=True):
        wanted = [int(text[i : i + 2], 16) for i in (0, 2, 4)]
        assert np.abs(colour[:3].astype(int) - wanted).max() <= 4, text
        assert abs(colour[3] / 255 - float(opacity or 1)) <= 0.11


def test_nothing_points_outside(world, tmp_path):
    photo, prediction = world.photo(x_m=1800, y_m=900), world.prediction(x_m=1500, y_m=500)
    page = _write(world, tmp_path / "map.html", [photo], [prediction])
    ours = page.replace((LEAFLET / "leaflet.js").read_text(), "")
    assert len(page) - len(ours) > 100_000
    outside = r"""(?:src|href|action)\s*=|@import|fetch\(|XMLHttp|WebSocket|url\((?!#)|sourceMappingURL"""
    assert re.findall(outside, ours) == []
    assert [
        url for url in re.findall(r"https?://[\w./?=]+", ours) if "bug" not in url
    ] == []  # Leaflet's comments
    assert "default-src 'none'; img-src data:;" in page
    assert "sourceMappingURL" not in page
    assert "Leaflet 1.9.4" in page and "(c) 2010-2023 Vladimir Agafonkin" in page


def test_names_cannot_end_the_data_or_become_markup(world, tmp_path):
    region = replace(world.region, name="<b>A & B</b>", attribution=EVIL)
    world.region = region
    page = _write(world, tmp_path / "map.html")
    assert EVIL not in page and "<img" not in page.lower()
    assert "<title>ZoomLoc · &lt;b&gt;A &amp; B&lt;/b&gt;</title>" in page
    assert page.count("</script>") == 3
    assert _data(page)["attribution"] == f"Imagery: {EVIL}"


def test_no_photos_at_all_and_photos_that_do_not_pair(world, tmp_path):
    webmap.write(tmp_path / "a.html", region=world.region, pyramid=world.pyramid, photos=[], predictions=[])
    assert _data((tmp_path / "a.html").read_text())["summary"].startswith("0 photos")
    with pytest.raises(ValueError, match="longer"):
        _write(world, tmp_path / "b.html", [world.photo()], [world.prediction(x_m=9, y_m=9)] * 2)
    assert not (tmp_path / "b.html").exists()


def test_what_cannot_be_written_is_one_line(world, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        _write(world, tmp_path / "file" / "map.html")


def test_leaflet_keeps_its_licence():
    assert "BSD 2-Clause License" in (LEAFLET / "LICENSE").read_text()


# Clicks on every photo of the list and notes in the page's title what came of it.
PROBE = """<script>
const pins = () => document.querySelectorAll(".pin").length, lit = () => chosen.getLayers().length;
const before = lit();
document.querySelectorAll("#list button").forEach(button => button.click());
document.title = JSON.stringify({ pins: pins(), rows: document.querySelectorAll("#list li").length,
  truths: document.querySelectorAll(".truth").length, before, after: lit(), harmed: window.harmed ?? 0,
  card: document.querySelector("#card h2").textContent,
  drawn: document.querySelectorAll("img.leaflet-image-layer").length,
  overflow: document.documentElement.scrollWidth - innerWidth });
</script></body>"""


def test_a_browser_without_network_shows_it(world, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("NO BROWSER: chromium is not installed, so the map's program did not run")
    page = _write(world, tmp_path / "map.html", failures=[(EVIL, EVIL)])
    (tmp_path / "probed.html").write_text(page.replace("</body>", PROBE), encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    )
    flags += "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=3000 --dump-dom"
    command = [
        browser,
        *flags.split(),
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    done = subprocess.run(
        [*command, (tmp_path / "probed.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1]
    seen = json.loads(title.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert seen["pins"] == 3 and seen["rows"] == 4 and seen["truths"] == 2
    assert seen["before"] == 0 and seen["after"] > 10, "a click lights the zoom path"
    assert seen["drawn"] == 3, "ground, last view and posterior"
    assert seen["card"] == "far.jpg" and seen["harmed"] == 0 and seen["overflow"] == 0
