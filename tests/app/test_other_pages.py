"""Batch, regions and the model's card, run without a browser and without a network."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import app
from app import places, runs
from app.settings import DEMO, Settings
from zoomloc import tables
from zoomloc.rows import Row

SCREENS = Path(app.__file__).parent / "screens"
TIMEOUT_S = 120


@pytest.fixture
def opened(monkeypatch, tmp_path, no_network):
    for name, value in Settings(home=tmp_path).pack().items():
        monkeypatch.setenv(name, value)

    def run(name: str) -> AppTest:
        page = AppTest.from_file(str(SCREENS / f"{name}.py"), default_timeout=TIMEOUT_S).run()
        assert not page.exception
        return page

    return run


def test_the_results_of_a_batch_are_reopened_and_filtered(opened, tmp_path):
    folder = tmp_path / "batches" / "2026-01-02 03.04.05"
    folder.mkdir(parents=True)
    asked = runs.Asked(("photos",), str(DEMO / "region.json"), str(DEMO / "checkpoint"), 3)
    (folder / runs.RUN).write_text(json.dumps(asdict(asked)))
    rows = [
        Row("sure.jpg", status="located", lat=51.46, lon=9.53, confidence=0.9),
        Row("unsure.jpg", status="uncertain", lat=51.461, lon=9.531, confidence=0.2),
        Row("broken.jpg", reason="cut off"),
    ]
    tables.write(rows, folder / runs.RESULTS)
    page = opened("batch")
    assert page.success[0].value == "3 photos looked at: 1 located, 1 uncertain, 1 failed"
    assert list(page.dataframe[0].value["file"]) == ["sure.jpg", "unsure.jpg", "broken.jpg"]
    page.slider(key="sure").set_value(50).run()
    assert not page.exception
    assert list(page.dataframe[0].value["file"]) == ["sure.jpg"]


def test_before_the_first_batch_the_map_is_there_and_says_what_will_be_on_it(opened):
    page = opened("batch")
    assert [each.key for each in page.get("bidi_component")] == ["batch-map"]
    assert any("What is found will be on this map" in each.value for each in page.caption)


def test_a_batch_of_a_folder_that_is_not_there_is_refused_in_one_line(opened):
    page = opened("batch")
    page.text_input[0].set_value("/no/such/folder").run()
    next(button for button in page.button if button.label == "Start").click().run()
    assert not page.exception
    assert len(page.error) == 1 and "/no/such/folder" in page.error[0].value


def test_a_region_is_described_and_one_is_added(opened, tmp_path):
    page = opened("regions")
    told = "\n".join(each.value for each in page.markdown)
    assert "**simulated-7**" in told and "down to cells of 40 m" in told and "100 % of the square" in told
    page.text_input[0].set_value(str(DEMO / "city.tif")).run()
    next(button for button in page.button if button.label == "Add it").click().run()
    assert not page.exception and not page.error
    assert (tmp_path / "regions" / "city" / "region.json").is_file()
    assert "**city**" in "\n".join(each.value for each in page.markdown)


def test_imagery_that_is_none_is_refused_in_one_line(opened):
    page = opened("regions")
    page.text_input[0].set_value("/no/such/city.tif").run()
    assert not page.exception and len(page.error) == 1 and "/no/such/city.tif" in page.error[0].value


def test_how_far_an_index_is_is_read_off_its_file(monkeypatch, tmp_path):
    import numpy as np

    monkeypatch.setattr(places, "place_on_disk", lambda model, region: tmp_path)
    assert places.indexed(None, None) == 0
    np.save(tmp_path / places.KNOWN, np.array([True, False, False, True]))
    assert places.indexed(None, None) == 0.5


def test_the_card_of_the_model_is_shown(opened):
    page = opened("model")
    card = (DEMO / "checkpoint" / "README.md").read_text(encoding="utf-8")
    assert page.markdown[0].value.strip() == card.strip()
    assert "what it says may mean little" in page.warning[0].value


def test_no_screen_is_run_without_the_frame_of_the_app():
    """Streamlit takes every script in a folder "pages" beside its own for a page with a frame of Streamlit's."""
    assert not (Path(app.__file__).parent / "pages").exists()
