"""The first page, run without a browser and without a network."""

import gc
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

import app
from app import locating, resources
from app.settings import DEMO, Settings
from zoomloc.region import Region

PAGE = Path(app.__file__).parent / "screens" / "locate.py"
PHOTOS = DEMO / "photos"
TIMEOUT_S = 120  # of the first run, which loads the model


@pytest.fixture
def page(monkeypatch, tmp_path, no_network):
    for name, value in Settings(home=tmp_path).pack().items():
        monkeypatch.setenv(name, value)
    return _run(AppTest.from_file(str(PAGE), default_timeout=TIMEOUT_S))


def _run(page: AppTest) -> AppTest:
    page.run()
    assert not page.exception
    return page


def _example(page: AppTest, name: str = "000021") -> AppTest:
    page.button(key=f"example-{name}").click()
    return _run(page)


def _coordinates(page: AppTest) -> list[str]:
    return [json.loads(each.proto.json) for each in page.get("bidi_component") if each.key == "coordinates"]


def _answer(page: AppTest) -> tuple[float, float]:
    (told,) = _coordinates(page)
    lat, lon = map(float, told.split(","))
    return lat, lon


def _told(page: AppTest) -> str:
    return "\n".join(each.value for each in page.markdown)


def test_an_example_is_one_click_away(page):
    assert not _coordinates(page)  # nothing is located yet
    lat, lon = _answer(_example(page))
    Region.load(DEMO / "region.json").grid.path_at(lat, lon)  # raises, were it elsewhere
    assert re.search(r"\d+ m from its EXIF position \(not used\)", _told(page))


def test_the_exif_position_counts_only_once_it_is_ticked(page):
    alone = _answer(_example(page))
    page.checkbox(key="use_exif").check()
    assert "used, as you ticked" in _told(_run(page))
    with_it = _answer(page)
    truth = locating.read("x.jpg", (PHOTOS / "000021.jpg").read_bytes()).photo
    away = [abs(lat - truth.lat) + abs(lon - truth.lon) for lat, lon in (alone, with_it)]
    assert away[1] <= away[0]
    page.checkbox(key="use_exif").uncheck()
    assert _answer(_run(page)) == alone


def test_an_area_counts_at_once_and_nonsense_costs_nothing(page):
    lat, lon = alone = _answer(_example(page))
    area = f"{lon - 0.012:.6f}, {lat - 0.006:.6f}, {lon - 0.004:.6f}, {lat + 0.006:.6f}"
    page.text_input(key="area").set_value(area)
    _run(page)
    shared = resources.ready(Settings().checkpoint, DEMO / "region.json")
    given = locating.read("000021.jpg", (PHOTOS / "000021.jpg").read_bytes())
    clues = locating.Clues(area=area.replace(" ", ""))
    expected = locating.answer(shared.localizer, Region.load(DEMO / "region.json"), given, clues)
    assert _answer(page) == pytest.approx((expected.lat, expected.lon), abs=1e-6)
    page.text_input(key="area").set_value("over there")
    assert _answer(_run(page)) == alone
    assert len(page.error) == 1 and page.error[0].value.startswith("Area: ")
    next(button for button in page.button if button.label == "Forget all this").click()
    assert _answer(_run(page)) == alone and not page.error


def test_broken_uploads_get_a_line_each_and_good_ones_are_located(page):
    page.file_uploader[0].upload("report.jpg", b"%PDF-1.7 a report", "image/jpeg")
    _run(page)
    assert [error.value.split(":")[0] for error in page.error] == ["report.jpg"]
    assert not _coordinates(page)
    photo = (PHOTOS / "000130.jpg").read_bytes()
    page.file_uploader[0].upload("broken.jpg", photo[: len(photo) // 2], "image/jpeg")
    page.file_uploader[0].upload("good.jpg", photo, "image/jpeg")
    _run(page)
    assert len(page.error) <= 2 and all("\n" not in error.value for error in page.error)
    from_upload = _answer(page)
    assert _answer(_example(page, "000130")) == from_upload


def test_a_photo_from_elsewhere_is_said_to_be_so(page, monkeypatch):
    located = locating.answer
    monkeypatch.setattr(
        locating, "answer", lambda *args: replace(located(*args), not_here=0.83, threshold=0.5)
    )
    _example(page)
    assert page.warning[0].value.startswith("**Probably not on this map** (83 % sure)")


def test_two_sessions_do_not_disturb_each_other(page):
    other = _example(_run(AppTest.from_file(str(PAGE), default_timeout=TIMEOUT_S)), "000390")
    theirs = _answer(other)
    ours = _answer(_example(page, "000238"))
    page.checkbox(key="use_exif").check()
    _run(page)
    assert _answer(_run(other)) == theirs != ours
    assert not other.checkbox(key="use_exif").value


def test_what_is_loaded_is_no_garbage_and_a_small_model_thinks_in_one_thread(page):
    """Both cost a first answer most of its time; see benchmarks.app."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    with resources.shared(Settings().checkpoint).alone():
        assert torch.get_num_threads() == 1
    assert gc.get_freeze_count() > 100_000
    torch.set_num_threads(threads)
