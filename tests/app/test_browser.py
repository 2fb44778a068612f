"""The whole app as people meet it: started by its command, in a real browser that can reach nothing but loopback."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.settings import DEMO
from benchmarks import app as benchmark
from zoomloc import tables
from zoomloc.region import Region

ROOT = Path(__file__).parents[2]
PHOTO = DEMO / "photos" / "000238.jpg"
# Long, as a busy machine may be slow; nothing waits longer than it must.
START_S, WAIT_MS = 300, 300_000


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the app keeps what it makes."""
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def address(home):
    """Of a running app; it ends when it is told to, and its tile server with it."""
    command = [sys.executable, "-m", "zoomloc", "app", "--no-browser", "--port", "0", "--home", str(home)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"ZOOMLOC_CACHE": str(home / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines = iter(process.stdout.readline, "")
        found = next(match[1] for line in lines if (match := re.search(r"URL: (http://127\S+)", line)))
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=START_S)
        for index in DEMO.glob("*.index"):  # which a batch leaves beside the region's file
            shutil.rmtree(index)


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("NO BROWSER: chromium is not installed, so the app was not looked at in one")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="NO PLAYWRIGHT: the app was not tried in a browser"
    )
    flags = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=program, args=flags)
        yield running
        running.close()


@pytest.fixture
def page(browser, address):
    """A page of its own session; whatever it asks of another machine fails the test."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 1000}, accept_downloads=True, reduced_motion="reduce"
    )
    opened = context.new_page()
    opened.set_default_timeout(WAIT_MS)
    asked, failures = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.goto(address)
    yield opened
    context.close()
    hosts = {urlsplit(url).hostname for url in asked if url.startswith(("http", "ws"))}
    assert hosts == {"127.0.0.1"} and failures == []


def test_a_photo_is_dropped_found_narrowed_down_by_an_area_and_exported(page, tmp_path):
    page.wait_for_selector(".leaflet-tile-loaded")
    page.set_input_files("input[type=file]", str(PHOTO))
    title = page.locator(".leaflet-marker-icon[title^=answer]").get_attribute("title")
    lat, lon = map(float, re.match(r"answer: (\S+), (\S+);", title).groups())
    assert _said(page) == f"{lat:.6f}, {lon:.6f}"
    assert page.locator(".step.view").count() == 3  # what the model saw at each level
    assert page.locator(".children button.chosen").count() == 3
    assert page.locator(".legend").inner_text().split("\n") == [
        "the answer",
        "2",
        "the next likeliest",
        "holds 50 %",
        "holds 90 %",
        "the way down",
        "the brighter, the likelier",
        "EXIF position",
    ]
    before = _exported(page, tmp_path / "before.geojson")

    west, south, east, north = _draw_area_around_the_answer(page)
    assert west < lon < east and south < lat < north
    page.get_by_role("button", name="Forget all this").wait_for()
    page.wait_for_selector("[data-test-script-state=notRunning]")
    after = _exported(page, tmp_path / "after.geojson")
    lon, lat = after["geometry"]["coordinates"]
    assert west < lon < east and south < lat < north
    assert after["properties"]["photo"] == PHOTO.name
    # Not certain of another place than this, the model is surer of it now.
    assert after["properties"]["area_90_m2"] < before["properties"]["area_90_m2"]
    assert _said(page) == f"{lat:.6f}, {lon:.6f}"


def _said(page) -> str:
    """The coordinates in the answer's box."""
    return page.locator("output").inner_text().strip()


def _exported(page, path) -> dict:
    """The answer in the GeoJSON file that the page offers."""
    with page.expect_download() as download:
        page.get_by_role("button", name="GeoJSON").click()
    download.value.save_as(path)
    return json.loads(path.read_text())["features"][0]


def _draw_area_around_the_answer(page) -> list[float]:
    """Its west, south, east, north as the page then says it."""
    page.get_by_role("button", name="Whole map").click()
    page.wait_for_timeout(300)
    pin = page.locator(".leaflet-marker-icon[title^=answer]").bounding_box()
    page.get_by_role("button", name="Draw area").click()
    page.mouse.move(pin["x"] - 60, pin["y"] + 70)
    page.mouse.down()
    page.mouse.move(pin["x"], pin["y"], steps=3)
    page.mouse.move(pin["x"] + 60, pin["y"] - 50, steps=3)
    page.mouse.up()
    page.wait_for_function(
        "() => [...document.querySelectorAll('input')].some(i => i.value.split(',').length === 4)"
    )
    return [float(part) for part in page.get_by_label("Area").input_value().split(",")]


def test_a_cell_is_looked_into_and_left_again_with_the_keyboard_alone(page):
    page.get_by_role("button", name="Photo 1").press("Enter")
    page.locator(".pin.first").wait_for()
    first = page.locator(".children").first.locator("button")
    other = page.locator(".children").first.locator("button:not(.chosen)").first
    words = other.get_attribute("aria-label")
    assert re.fullmatch(r"level 1, row \d, column \d: (< )?\d+ % of the probability", words)
    assert first.count() == 16
    other.press("Enter")
    page.get_by_text("Stepping by hand").wait_for()
    assert page.locator(".step.view").count() == 2  # the map, and the cell that was asked for
    page.get_by_role("button", name="Back to the answer").press("Enter")
    page.get_by_text("Stepping by hand").wait_for(state="detached")
    assert page.locator(".step.view").count() == 3
    # Back there, the map shows the answer among what is around it, not the smallest cell alone.
    assert page.locator(".leaflet-marker-icon[title^=EXIF]").is_visible()


def test_what_was_asked_for_is_in_sight_beside_the_answer(page):
    page.get_by_role("button", name="Photo 1").click()
    page.locator(".pin.first").wait_for()
    page.get_by_text("What else is known?").click()
    _entered(page, "Circle", "51.4586, 9.5259, 400")  # far from what the photo looks like
    asked = page.locator("path[stroke='#0072B2']").bounding_box()
    around = page.locator(".map").bounding_box()
    assert around["x"] < asked["x"] and asked["x"] + asked["width"] < around["x"] + around["width"]
    assert around["y"] < asked["y"] and asked["y"] + asked["height"] < around["y"] + around["height"]
    assert page.locator(".pin.first").is_visible()


def test_what_has_the_focus_of_the_keyboard_is_seen(page):
    page.wait_for_selector(".leaflet-tile-loaded")
    ringed = "e => getComputedStyle(e).outlineStyle"
    page.keyboard.press("Tab")
    for name in ("Locate", "Batch", "Regions", "About the model"):
        page.keyboard.press("Tab")
        assert page.get_by_role("link", name=name).evaluate(ringed) == "solid"
    page.get_by_role("button", name="Photo 1").press("Enter")
    page.locator(".pin.first").wait_for()
    page.get_by_role("slider", name="opacity of the heat layer").focus()
    page.keyboard.press("Shift+Tab")  # from the map's tools back to its last pin
    assert page.locator(".pin-at:focus .pin").evaluate(ringed) == "solid"


def test_in_a_narrow_window_the_keyboard_opens_the_menu(page):
    page.set_viewport_size({"width": 420, "height": 900})
    page.wait_for_selector(".leaflet-tile-loaded")
    page.wait_for_timeout(500)  # the closing of the menu, which slides
    page.keyboard.press("Tab")  # "skip to the main content"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    link = page.get_by_role("link", name="Batch")
    link.wait_for()
    page.wait_for_timeout(500)
    assert link.bounding_box()["x"] >= 0
    link.press("Enter")
    page.get_by_text("Many photos at once").wait_for()


def test_in_a_narrow_window_the_flight_is_seen(page):
    page.set_viewport_size({"width": 420, "height": 900})
    page.get_by_role("button", name="Photo 1").click()
    page.locator(".pin.first").wait_for()
    page.wait_for_function(
        """() => { for (const host of document.querySelectorAll("*")) {
            const map = host.shadowRoot?.querySelector(".map")?.getBoundingClientRect();
            if (map) return map.top >= 0 && map.bottom <= innerHeight; } }"""
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 420


def test_a_first_answer_waits_for_no_large_program(page):
    page.wait_for_selector(".leaflet-tile-loaded")
    page.set_input_files("input[type=file]", str(PHOTO))
    page.get_by_role("button", name="Copy").wait_for()
    programs = page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
    assert not [name for name in programs if "Highlighter" in name]


def test_the_benchmark_drops_a_photo_and_takes_the_time_to_its_pin(browser, address, tmp_path, monkeypatch):
    assert 0 < benchmark.dropped(browser, address, PHOTO) < WAIT_MS / 1000
    monkeypatch.setattr(benchmark, "measure", lambda n: [1.5, 1.0, 3.25][:n])
    benchmark.main(3, tmp_path)
    told = json.loads((tmp_path / "app.json").read_text())
    assert (told["median_s"], told["slowest_s"], told["n_photos"]) == (1.5, 3.25, 3)


def _entered(page, label, text) -> None:
    """Typed into a field, and taken in."""
    page.get_by_label(label).fill(text)
    page.get_by_label(label).press("Enter")
    page.wait_for_timeout(300)
    page.wait_for_selector("[data-test-script-state=notRunning]")


def test_a_batch_is_stopped_and_gone_on_with_to_its_end(page, home, tmp_path):
    names = [f"{i:03}-{path.name}" for i in range(10) for path in sorted(PHOTO.parent.glob("*.jpg"))]
    for name in names:
        (tmp_path / name).symlink_to(PHOTO.with_name(name[4:]))
    page.get_by_role("link", name="Batch").click()
    _entered(page, "or a folder of this machine", str(tmp_path))
    page.get_by_role("button", name="Start").click()
    page.get_by_text(re.compile(rf"^[1-9]\d* of {len(names)} photos")).wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
    (run,) = (home / "batches").iterdir()
    journal = (run / "results.parquet.journal").read_bytes().splitlines(keepends=True)
    assert not (run / "results.parquet").exists() and len(journal) > 1
    page.get_by_role("button", name="Go on").click()
    page.get_by_text(f"{len(names)} photos looked at").wait_for()
    # The keyboard goes past the places on the map, of which there may be thousands, to the table that has them all.
    page.locator("path[tabindex='-1']").first.wait_for()
    assert page.locator("path.leaflet-interactive:not([tabindex='-1'])").count() == 0
    rows = tables.read(run / "results.parquet")
    assert [Path(row.file).name for row in rows] == names
    noted = [row for line in journal[1:] if line.endswith(b"\n") for row in json.loads(line)]
    assert [row["milliseconds"] for row in noted] == [row.milliseconds for row in rows[: len(noted)]]


def test_a_region_of_tiles_is_added_and_its_index_built(page, home, xyz):
    grid = Region.load(DEMO / "region.json").grid
    lat, lon = grid.unproject(*grid.centre(grid.root))
    page.get_by_role("link", name="Regions").click()
    page.get_by_text("Add a region").click()
    _entered(page, "Imagery", xyz)
    page.get_by_text("Tiles of the whole world").wait_for()
    _entered(page, "Latitude of the middle", f"{lat:.6f}")
    _entered(page, "Longitude of the middle", f"{lon:.6f}")
    _entered(page, "Side in km", "0.64")
    page.get_by_text("640 m a side, 100 % covered").wait_for()
    _entered(page, "Name", "by tiles")
    page.get_by_role("button", name="Add it").click()
    page.get_by_text("0 % of its cells encoded on disk").wait_for()
    page.get_by_role("button", name="Build the index").click()
    page.get_by_text("100 % of its cells encoded on disk").wait_for()
    region = Region.load(home / "regions" / "by-tiles" / "region.json")
    assert region.imagery == (xyz,) and region.depth == 2
    assert list(region.folder.glob("*.index/*/features.npy"))
    page.get_by_text("Show coverage").click()
    page.get_by_alt_text("coverage").wait_for()
