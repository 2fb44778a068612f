"""KartaView's importer, against a server that behaves like its API; what it shares is tested with Mapillary's."""

import io
import json
import re
import shlex
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyproj import Geod

from data_prep import kartaview, maps, service
from data_prep.area import Area
from zoomloc import manifest
from zoomloc.cli import main

BOX = "8.000,46.300,8.010,46.310"
GEOD = Geod(ellps="WGS84")


def jpeg():
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


class FakeKartaView:
    """Lists photos within a radius, so many a page, and gives up where more than `too_many` are near."""

    def __init__(self):
        self.photos, self.asked, self.faults, self.expired = {}, [], [], set()
        self.too_many, self.image = 10**9, jpeg()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                fake.asked.append(self.path)
                status, body = fake.answer(urlsplit(self.path))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def add(self, photo_id, lon, lat, **fields):
        self.photos[photo_id] = {
            "id": photo_id, "lat": str(lat), "lng": str(lon), "heading": "74.00", "projection": "PLANE",
            "shotDate": "2023-01-01 10:00:00.000", "imageProcUrl": f"{self.url}/image/{photo_id}?old",
            "fileurl": f"{self.url}/{{{{sizeprefix}}}}/{photo_id}", "width": "3840", "height": "2160",
            "status": "active", "visibility": "public", "fieldOfView": None,
            "sequence": {"id": "991", "cameraParameters": {"fLen": "4.2", "hFoV": "65.4", "vFoV": "40"}},
        } | fields  # fmt: skip

    def answer(self, url):
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path.startswith("/image/"):
            gone = url.path.removeprefix("/image/") in self.expired and url.query == "old"
            return (404, b"") if gone else (200, self.image)
        if self.faults:
            return self.faults.pop(0)
        if url.path != "/photo/":
            photo = self.photos.get(url.path.removeprefix("/photo/"))
            if photo is None:
                return say(601)
            return say(600, photo | {"imageProcUrl": photo["imageProcUrl"].replace("?old", "?new")})
        lat, lon, radius = float(query["lat"]), float(query["lng"]), float(query["radius"])
        near = [
            photo
            for photo in self.photos.values()
            if GEOD.inv(lon, lat, float(photo["lng"]), float(photo["lat"]))[2] <= radius
        ]
        if len(near) > self.too_many:
            return say(408)
        size, page = int(query["itemsPerPage"]), int(query["page"])
        part = near[(page - 1) * size : page * size]
        return say(600, part, more=page * size < len(near)) if part else say(601)


def say(code, data=None, more=False):
    status = {"apiCode": code, "apiMessage": {408: "Query timeout"}.get(code, "what it says")}
    result = {} if data is None else {"result": {"data": data, "hasMoreData": more}}
    return 200, json.dumps({"status": status} | result).encode()


@pytest.fixture
def fake(monkeypatch):
    fake = FakeKartaView()
    monkeypatch.setattr(kartaview, "API", fake.url)
    monkeypatch.setattr(service, "BACKOFF_S", 0.01)
    monkeypatch.setattr(maps, "draw", lambda *_, **__: None)
    yield fake
    fake.http.shutdown()
    fake.http.server_close()


@pytest.fixture
def run(fake, tmp_path, monkeypatch, capfd):
    def run(*words):
        words = ["prep", "kartaview", "--bbox", BOX, "--out", str(tmp_path), *words]
        monkeypatch.setattr(sys, "argv", ["zoomloc", *words])
        with pytest.raises(SystemExit) as exit_:
            main()
        said = capfd.readouterr()
        return exit_.value.code or 0, said.out, said.err

    return run


def test_an_area_becomes_a_dataset(fake, run, tmp_path):
    fake.add("1", 8.001, 46.301)
    fake.add("2", 8.002, 46.302, projection="SPHERE", heading="-1", shotDate=None, sequenceId="77")
    fake.add("outside", 8.0101, 46.301)  # in a circle around the box, not in the box
    fake.add("hidden", 8.001, 46.301, visibility="private")
    code, out, _ = run()
    assert code == 0 and "2 train" in out
    rows = manifest.read(tmp_path / "manifest.parquet").set_index("photo")
    first, second = rows.loc["photos/1.jpg"], rows.loc["photos/2.jpg"]
    assert (first.geometry.x, first.geometry.y) == (8.001, 46.301)
    assert (first.heading, first.fov, first.sequence) == (74.0, 65.4, "991")
    assert first.captured_at.isoformat() == "2023-01-01T10:00:00+00:00"
    assert (second.projection, second.fov, second.sequence) == ("spherical", 360.0, "77")
    assert second[["heading", "captured_at"]].isna().all()
    assert set(rows.licence) == {"CC BY-SA 4.0"} and set(rows.attribution) == {
        "Grab and KartaView contributors"
    }
    assert (tmp_path / "rejected.csv").read_text().splitlines()[1:] == ["hidden,it is not public"]


def test_every_page_of_a_dense_area_is_read(fake, run, tmp_path, monkeypatch):
    monkeypatch.setattr(kartaview, "PAGE", 10)
    fake.too_many = 40
    for i in range(100):  # most of them within one of the first boxes
        fake.add(str(i), 8.001 + (i % 10) * 2e-4, 46.301 + (i // 10) * 2e-4)
    assert run()[0] == 0
    assert len(manifest.read(tmp_path / "manifest.parquet")) == 100
    asked = len(fake.asked)
    assert run()[0] == 0 and len(fake.asked) == asked  # nothing is asked twice


def test_a_service_that_gives_up_everywhere_is_told(fake, run, monkeypatch):
    fake.add("1", 8.001, 46.301)
    fake.too_many = 0
    code, _, err = run("--bbox", "8.0009,46.3009,8.0011,46.3011")
    assert code == 2 and "takes too long, asked for a few metres around 46.30" in err


def test_moved_images_are_asked_for_again(fake, run, tmp_path):
    fake.add("1", 8.001, 46.301)
    fake.add("2", 8.001, 46.301)
    fake.expired = {"1"}
    fake.photos["2"]["imageProcUrl"] = f"{fake.url}/photo/gone"
    assert run()[0] == 0 and "/image/1?new" in fake.asked
    assert (tmp_path / "photos" / "1.jpg").read_bytes() == fake.image


@pytest.mark.parametrize(
    "fault", [(500, b"oops"), (200, b'{"status": {"apiC'), (200, b"[]"), (429, b""), say(408)], ids=str
)
def test_passing_faults_are_sat_out(fake, run, fault):
    fake.add("1", 8.001, 46.301)
    fake.faults = [fault]
    assert run()[0] == 0


def test_what_the_api_refuses_is_told(fake, run):
    fake.faults = [say(400)] * 99
    code, _, err = run()
    assert code == 2 and "KartaView refuses: what it says (code 400)" in err


@given(
    west=st.floats(-179, 179),
    south=st.floats(-80, 80),
    side=st.floats(1e-4, 0.003),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
)
def test_the_circle_holds_its_box(west, south, side, x, y):
    circle = kartaview._circle(Area(west, south, west + side, south + side))
    distance = GEOD.inv(float(circle["lng"]), float(circle["lat"]), west + x * side, south + y * side)[2]
    assert distance <= circle["radius"] + 0.02 and circle["radius"] < 400


values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just({}) | st.just([])
)
keys = st.sampled_from(
    [
        "lat",
        "lng",
        "heading",
        "shotDate",
        "projection",
        "fieldOfView",
        "width",
        "height",
        "sequence",
        "status",
    ]
)


@given(st.dictionaries(keys, values))
def test_a_record_is_read_or_refused_in_one_line(record):
    try:
        shot = kartaview.read_photo({"id": "1", "lat": "46.0", "lng": "8.0"} | record)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert shot.fov is None or 0 < shot.fov <= 360
        assert shot.heading is None or 0 <= shot.heading <= 360


def test_the_command_of_the_page_on_photos_runs(fake, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake.add("1", 9.52, 47.14)
    page = (Path(__file__).parents[2] / "docs" / "photos.md").read_text()
    (command,) = re.findall(r"^zoomloc prep kartaview (.+)$", page, re.MULTILINE)
    code, _, error = run(*shlex.split(command))  # its --bbox and --out come after those of `run`, and count
    assert code == 0, error
    assert (tmp_path / "vaduz-too" / "photos" / "1.jpg").exists()
