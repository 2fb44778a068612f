"""The report: what it says, and that a browser shows it without a network."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from zoomloc import report
from zoomloc.errors import OutputError
from zoomloc.report import Place
from zoomloc.rows import Row

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def world(make_world):
    return make_world()


@pytest.fixture
def place(world):
    return Place(world.region, world.pyramid)


@pytest.fixture
def rows(world, tmp_path):
    """Located, uncertain, outside and failed photos, the first three of each there to be read."""
    found = []
    for i in range(40):
        path = tmp_path / f"photo-{i}.jpg"
        if i % 10 < 3:
            Image.fromarray(np.full((40, 60, 3), 6 * i, np.uint8)).save(path)
        lat, lon = world.region.grid.unproject(500_400 + 40 * i, 4_999_000)
        located = Row(
            file=str(path), status="located", lat=lat, lon=lon, confidence=0.5 + i / 100, probability=0.3,
            radius_50_m=30.0, radius_90_m=90.0, not_here=0.1, region=world.region.name, path="1 2", places="[]",
            exif_distance_m=float(i), model="abc",
        )  # fmt: skip
        status = ("located", "uncertain", "outside", "failed")[i // 10]
        nowhere = {"lat": None, "lon": None, "region": None, "exif_distance_m": None}
        found.append(
            {
                "located": located,
                "uncertain": replace(located, status="uncertain", confidence=i / 100),
                "outside": replace(located, status="outside", not_here=0.9, **nowhere),
                "failed": Row(file=f"</script><b>{i}.jpg", reason=f"</script><b>{i}.jpg: no <such> file"),
            }[status]
        )
    return found


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)[1])


def test_it_tells_what_the_rows_do(place, rows, tmp_path):
    report.write(tmp_path / "r.html", rows, [place], min_confidence=0.5)
    data = data_of(tmp_path / "r.html")
    assert data["summary"] == {
        "n": 40,
        "by_status": {"located": 10, "uncertain": 10, "outside": 10, "no imagery": 0, "failed": 10},
        "median_confidence": pytest.approx(0.545),
        "n_measured": 20,
        "median_m": 9.5,
        "near": 20,
    }
    assert [sum(data["histogram"][status]) for status in ("located", "uncertain", "outside")] == [10] * 3
    assert len(data["points"]) == 20 and data["points"][0]["at"] == [
        pytest.approx(1560, abs=1),
        pytest.approx(400, abs=1),
    ]
    sheets = {
        sheet["title"]: [card["name"][-6:-4].strip("-") for card in sheet["cards"]]
        for sheet in data["sheets"]
    }
    assert sheets == {
        "Surest": ["9", "8", "7", "6", "5", "4", "3", "2"],
        "Worst": [str(i) for i in range(19, 11, -1)],
        "Least sure": [str(i) for i in range(10, 18)],
        "Elsewhere": [str(i) for i in range(20, 28)],
    }
    there = {
        card["name"][-6:-4].strip("-"): card["photo"] for sheet in data["sheets"] for card in sheet["cards"]
    }
    assert there["2"].startswith("data:image/jpeg") and there["9"] is None
    assert all(card["ground"] for card in data["sheets"][0]["cards"])
    assert all(card["ground"] is None for card in data["sheets"][3]["cards"])
    (failed,) = data["failures"]
    assert failed["reason"] == "no <such> file" and failed["count"] == 10


def test_it_is_one_page_that_fetches_nothing(place, rows, tmp_path):
    report.write(tmp_path / "new" / "r.html", rows, [place], min_confidence=0.5)
    text = (tmp_path / "new" / "r.html").read_text(encoding="utf-8")
    assert (
        not re.search(r"<link|\bsrc=[\"']?(?!data:)\w+:|@import|url\(\W?http", text)
        and "default-src 'none'" in text
    )
    assert "{{" not in text and [path.name for path in (tmp_path / "new").iterdir()] == ["r.html"]
    assert text.count("</script>") == 3, "names end no script"


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_located_is_a_report_too(place, rows, tmp_path, n):
    report.write(tmp_path / "r.html", rows[39 : 39 + n], [place], min_confidence=0.5)
    data = data_of(tmp_path / "r.html")
    assert data["summary"]["median_confidence"] is None and data["sheets"] == [] and data["points"] == []


def test_many_answers_are_thinned_evenly(place, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MAX_POINTS", 7)
    report.write(tmp_path / "r.html", rows, [place], min_confidence=0.5)
    names = [point["name"] for point in data_of(tmp_path / "r.html")["points"]]
    assert names == [row.name for row in rows[:20:3]]


def test_what_cannot_be_written_is_one_line(place, rows, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        report.write(tmp_path / "file" / "r.html", rows[:1], [place], min_confidence=0.5)


@pytest.mark.skipif(BROWSER is None, reason="NO BROWSER: what a reader sees was not looked at")
def test_a_browser_shows_all_of_it(place, rows, tmp_path):
    report.write(tmp_path / "r.html", rows, [place], min_confidence=0.5)
    words = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    shown = subprocess.run(
        [*words, "--virtual-time-budget=3000", "--dump-dom", (tmp_path / "r.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    body = shown[: shown.index('id="data"')]
    assert "40 photos, 10 located" in body and body.count('class="card"') == 32
    assert body.count("<rect") >= 3 and "10 × </b>no &lt;such&gt; file" in body
    assert "leaflet-image-layer" in body and "simulated" in body
