"""Mapillary's importer, against a server that behaves like its API, faults included."""

import io
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep import area as areas
from data_prep import mapillary, maps, service
from data_prep.area import Area, parse_area
from data_prep.service import DownloadError
from zoomloc import manifest
from zoomloc.cli import main

ROOT = Path(__file__).parents[2]
TOKEN = "MLY|4711|s3cr3t-t0ken"
BOX = "8.000,46.300,8.010,46.310"


def jpeg(shade=90):
    noise = np.random.default_rng(shade).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


class FakeMapillary:
    """The search, the entities and the image server; `faults` are answers given before the right one, by path."""

    def __init__(self):
        self.images, self.faults, self.asked, self.leaks = {}, {}, [], []
        self.limit, self.page, self.delay_s, self.max_square_deg = 2000, None, 0.0, 0.01
        self.expired = set()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                fake.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def add(self, photo_id, lon, lat, **fields):
        self.images[photo_id] = {
            "id": photo_id,
            "geometry": {"type": "Point", "coordinates": [lon, lat]},
            "thumb_2048_url": f"{self.url}/thumb/{photo_id}?oh=signed",
        } | fields

    def add_grid(self, n):
        """n x n photos, evenly in BOX."""
        for i in range(n * n):
            lon, lat = 8.0 + 0.01 * (i % n + 0.5) / n, 46.3 + 0.01 * (i // n + 0.5) / n
            self.add(f"10{i}", lon, lat, captured_at=1_700_000_000_000 + i, sequence="drive")

    def count(self, path):
        return sum(asked.startswith(path) for asked in self.asked)

    def answer(self, request):
        url = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.asked.append(request.path)
        if "s3cr3t" in request.path or (url.path.startswith("/thumb") and request.headers["Authorization"]):
            self.leaks.append(request.path)
        waiting = next((self.faults[path] for path in self.faults if url.path.startswith(path)), [])
        if waiting:
            fault = waiting.pop(0)
        elif url.path.startswith("/thumb/"):
            fault = self.thumb(url.path.removeprefix("/thumb/"), query)
        elif request.headers["Authorization"] != f"OAuth {TOKEN}":
            error = {"message": f"Cannot parse access token {TOKEN}", "type": "OAuthException", "code": 190}
            fault = 401, {}, json.dumps({"error": error})
        elif url.path == "/images":
            fault = 200, {}, json.dumps(self.search(query))
        else:
            fault = self.entity(url.path[1:])
        self.send(request, *fault)

    def send(self, request, status, headers, body):
        if status is None:  # no answer in time
            time.sleep(body)
            return
        data = body.encode() if isinstance(body, str) else body
        if self.delay_s:
            time.sleep(self.delay_s)
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)

    def search(self, query):
        west, south, east, north = map(float, query["bbox"].split(","))
        assert (east - west) * (north - south) < self.max_square_deg
        fields = query["fields"].split(",")
        hits = [
            {key: value for key, value in image.items() if key in fields}
            for image in self.images.values()
            if west <= image["geometry"]["coordinates"][0] <= east
            and south <= image["geometry"]["coordinates"][1] <= north
        ]
        if self.page is None:
            return {"data": hits[: self.limit]}  # cut off without a word
        start = int(query.get("after", 0))
        stop = start + self.page
        answer = {"data": hits[start:stop], "paging": {"cursors": {"after": str(stop)}}}
        if stop < len(hits):
            answer["paging"]["next"] = f"{self.url}/images?access_token={TOKEN}&after={stop}"
        return answer

    def entity(self, photo_id):
        if photo_id not in self.images:
            error = {
                "message": f"Object with ID '{photo_id}' does not exist",
                "code": 100,
                "error_subcode": 33,
            }
            return 400, {}, json.dumps({"error": error})
        fresh = {"id": photo_id, "thumb_2048_url": f"{self.url}/thumb/{photo_id}?oh=fresh"}
        return 200, {}, json.dumps(fresh)

    def thumb(self, photo_id, query):
        if photo_id in self.expired and query["oh"] == "signed":
            return 403, {}, "URL signature expired"
        return 200, {"Content-Type": "image/jpeg"}, jpeg()


@pytest.fixture
def fake(monkeypatch, request):
    fake = FakeMapillary()
    monkeypatch.setattr(mapillary, "API", fake.url)
    monkeypatch.setattr(service, "BACKOFF_S", 0.01)
    monkeypatch.setenv("MAPILLARY_TOKEN", TOKEN)
    if not request.node.name.startswith("test_an_area_becomes"):
        monkeypatch.setattr(maps, "draw", lambda *_, **__: None)  # tested elsewhere, and slow
    yield fake
    fake.http.shutdown()
    fake.http.server_close()


@pytest.fixture
def run(fake, tmp_path, monkeypatch, capfd, caplog):
    """Runs the command; gives its exit code and what it said. The token must appear nowhere, not even in debug logs."""
    caplog.set_level(logging.DEBUG)

    def run(*words, out=None):
        words = ["prep", "mapillary", "--bbox", BOX, "--out", str(out or tmp_path / "set"), *words]
        monkeypatch.setattr(sys, "argv", ["zoomloc", *words])
        with pytest.raises(SystemExit) as exit_:
            main()
        said = capfd.readouterr()
        everything = [said.out, said.err, caplog.text]
        everything += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
        assert not any("s3cr3t" in text for text in everything) and not fake.leaks
        return exit_.value.code or 0, said.out, said.err

    return run


def test_an_area_becomes_a_dataset(fake, run, tmp_path):
    fake.add(
        "1", 8.001, 46.301, computed_geometry={"type": "Point", "coordinates": [8.002, 46.302]},
        compass_angle=10.0, computed_compass_angle=372.5, captured_at=1714557600000, sequence="drive-1",
        camera_type="perspective", camera_parameters=[0.5, 0, 0], width=4000, height=3000,
        creator={"username": "somebody", "id": "7"},
    )  # fmt: skip
    fake.add("2", 8.003, 46.303, compass_angle=90.0, camera_type="equirectangular")
    code, out, _ = run()
    assert code == 0 and "2 train" in out and "no region.json" in out and "zoomloc prep split" in out
    rows = manifest.read(tmp_path / "set" / "manifest.parquet").set_index("photo")
    first, second = rows.loc["photos/1.jpg"], rows.loc["photos/2.jpg"]
    assert (first.geometry.x, first.geometry.y) == (8.002, 46.302)  # the computed position wins
    assert first.heading == 12.5 and second.heading == 90.0
    assert first.captured_at.isoformat() == "2024-05-01T10:00:00+00:00"
    assert first.fov == pytest.approx(90) and second.fov == 360
    assert (first.projection, second.projection) == ("perspective", "spherical")
    assert set(rows.licence) == {"CC BY-SA 4.0"}
    assert (first.attribution, second.attribution) == ("somebody / Mapillary", "Mapillary contributors")
    assert (tmp_path / "set" / "map.png").is_file()


def test_a_list_that_was_cut_off_is_asked_for_in_quarters(fake, run, tmp_path, monkeypatch):
    fake.limit = 10
    monkeypatch.setattr(mapillary, "LIMIT", 10)
    fake.add_grid(10)
    assert run()[0] == 0
    assert len(manifest.read(tmp_path / "set" / "manifest.parquet")) == 100


def test_pages_are_followed_without_the_url_that_holds_the_token(fake, run, tmp_path):
    fake.page = 7
    fake.add_grid(5)
    assert run()[0] == 0
    assert len(manifest.read(tmp_path / "set" / "manifest.parquet")) == 25


def test_large_boxes_are_split_below_the_limit_of_the_api(fake, run, tmp_path):
    fake.add("1", 8.5, 46.5)
    assert run("--bbox", "8.49,46.4,8.61,46.6")[0] == 0  # the fake refuses a box of 0.01 square degrees
    assert len(manifest.read(tmp_path / "set" / "manifest.parquet")) == 1


BUSY = json.dumps({"error": {"message": "Application request limit reached", "code": 4}})
REDUCE = json.dumps({"error": {"message": "Please reduce the amount of data you're asking for", "code": 1}})
FAULTS = {
    "a full house": (429, {"Retry-After": "0"}, ""),
    "an error": (500, {}, "<html>oops</html>"),
    "a limit told in JSON": (403, {}, BUSY),
    "malformed JSON": (200, {}, '{"data": [{"id": "1", '),
    "a dense box": (500, {}, REDUCE),
    "a broken connection": (200, {"Content-Length": "1000"}, '{"data"'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_passing_faults_of_the_search_are_sat_out(fake, run, fault):
    fake.add_grid(2)
    fake.faults = {"/images": [FAULTS[fault]]}
    code, out, _ = run()
    assert code == 0 and "4 train" in out


def test_retry_after_is_honoured(fake, run, monkeypatch):
    slept = []
    monkeypatch.setattr(service.time, "sleep", slept.append)
    fake.add_grid(1)
    fake.faults = {"/images": [(429, {"Retry-After": "7"}, ""), (429, {"Retry-After": "86400"}, "")]}
    assert run()[0] == 0
    assert [seconds for seconds in slept if seconds >= 1] == [7, service.LONGEST_WAIT_S]


def test_a_box_that_takes_too_long_is_asked_for_in_quarters(fake, run, monkeypatch):
    monkeypatch.setattr(service, "TIMEOUT", 0.2)
    fake.add_grid(2)
    fake.faults = {"/images": [(None, {}, 0.4)] * service.SLOW_ATTEMPTS}
    code, out, _ = run()
    assert code == 0 and "4 train" in out
    assert fake.count("/images") == service.SLOW_ATTEMPTS + 4


def test_a_service_that_never_answers_ends_the_run(fake, run, monkeypatch):
    monkeypatch.setattr(service, "TIMEOUT", 0.05)
    monkeypatch.setattr(areas, "SILENT_ROUNDS", 2)
    fake.faults = {"/images": [(None, {}, 0.2)] * 100}
    code, _, err = run()
    assert code == 2 and "does not answer, however little is asked" in err


def test_faults_of_the_image_server_are_sat_out(fake, run, tmp_path):
    fake.add_grid(2)
    whole = jpeg()
    fake.expired = {"100"}
    fake.faults = {
        "/thumb/101": [(429, {"Retry-After": "0"}, ""), (500, {}, "")],
        "/thumb/102": [(200, {"Content-Length": str(len(whole))}, whole[:500])],  # broken off
        "/thumb/103": [(200, {}, whole[:500])],  # cut off, and said to be all
    }
    code, out, _ = run()
    assert code == 0 and "4 train" in out
    for photo in (tmp_path / "set" / "photos").iterdir():
        assert photo.read_bytes() == whole
    assert "/thumb/100?oh=fresh" in fake.asked and "/thumb/103?oh=fresh" in fake.asked


def test_one_bad_photo_does_not_stop_the_others(fake, run, tmp_path):
    fake.add_grid(2)
    fake.add("gone", 8.005, 46.305, thumb_2048_url=f"{fake.url}/nowhere")
    del fake.images["103"]["thumb_2048_url"]  # as the API does at times: asked for by itself
    fake.add("nourl", 8.005, 46.305, thumb_2048_url="nonsense://")
    fake.add("html", 8.005, 46.305)
    fake.faults = {
        "/thumb/html": [(200, {}, "<html>sign in</html>")] * 2,
        "/gone": [(400, {}, json.dumps({"error": {"message": "no", "code": 100, "error_subcode": 33}}))],
        "/nourl": [(200, {}, '{"id": "nourl"}')],
    }
    fake.add("dual", 8.005, 46.305, camera_type="dual")
    fake.add("lost", 8.005, 46.305, computed_geometry={"type": "Point", "coordinates": ["a", "b"]})
    fake.add("../up", 8.005, 46.305)
    code, out, _ = run()
    assert code == 0 and "4 train" in out
    reasons = dict(
        line.split(",", 1) for line in (tmp_path / "set" / "rejected.csv").read_text().splitlines()
    )
    assert reasons == {
        "photo": "reason",
        "gone": "Mapillary no longer has it",
        "nourl": "the service gives no URL for its image",
        "html": "the image is damaged or cut off",
        "dual": "\"its camera is 'dual', which is not known here\"",
        "lost": reasons["lost"],
        "../up": "its id cannot be the name of a file",
    }
    assert "its computed_geometry.coordinates.0 is not as documented" in reasons["lost"]
    assert not (tmp_path / "up.jpg").exists()


def test_a_second_run_asks_for_nothing(fake, run):
    fake.add_grid(3)
    assert run()[0] == 0
    fake.asked.clear()
    code, out, _ = run()
    assert code == 0 and "9 train" in out and fake.asked == []


def test_a_failed_run_goes_on_where_it_stopped(fake, run, tmp_path):
    fake.add_grid(3)
    fake.faults = {"/images": [(500, {}, "")] * service.ATTEMPTS}
    code, _, err = run()
    assert code == 2 and "Mapillary fails (HTTP 500); run the same command again" in err
    assert run()[0] == 0
    (tmp_path / "set" / "photos" / "104.jpg").unlink()
    kept = tmp_path / "set" / "found.jsonl"
    kept.write_bytes(kept.read_bytes() + b'{"area": [8.0, 46')  # a kill while a line was written
    fake.asked.clear()
    assert run()[0] == 0
    assert [urlsplit(path).path for path in fake.asked] == ["/thumb/104"]
    kept.write_text("not JSON\n")
    assert "found.jsonl: damaged; delete it" in run()[2]


def test_a_killed_run_goes_on_where_it_stopped(fake, run, tmp_path):
    fake.add_grid(8)
    fake.delay_s = 0.05
    out = tmp_path / "set"
    code = (
        f"from data_prep import command, mapillary; mapillary.API = {fake.url!r}; command.run(mapillary.main)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--bbox", BOX, "--out", str(out)],
        cwd=ROOT, env=os.environ | {"MAPILLARY_TOKEN": TOKEN}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and len(list(out.glob("photos/[0-9]*.jpg"))) < 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    had = {f"/thumb/{path.stem}" for path in out.glob("photos/[0-9]*.jpg")}
    assert 5 <= len(had) < 64 and not (out / "manifest.parquet").exists()
    fake.asked.clear()
    fake.delay_s = 0.0
    assert run()[0] == 0
    again = {urlsplit(path).path for path in fake.asked}
    assert not had & again and "/images" not in again
    assert len(manifest.read(out / "manifest.parquet")) == 64


@pytest.mark.parametrize("status", [400, 401])
def test_a_refused_token_is_one_clear_line(fake, run, status):
    error = {"message": f"Invalid OAuth access token {TOKEN}", "type": "OAuthException", "code": 190}
    fake.faults = {"/images": [(status, {}, json.dumps({"error": error}))] * 9}
    code, _, err = run()
    line = err.strip().splitlines()[-1]
    assert code == 2 and "refuses the token in MAPILLARY_TOKEN; make one at https://" in line
    assert fake.count("/images") == 1 and "Traceback" not in err


def test_a_token_refused_in_the_middle_ends_the_run(fake, run, monkeypatch):
    fake.add_grid(15)
    fake.expired = set(fake.images)
    error = json.dumps({"error": {"message": "Session has expired", "code": 190}})
    fake.faults = {"/10": [(401, {}, error)] * 999}
    code, _, err = run()
    assert code == 2 and "refuses the token" in err and fake.count("/10") < 225


def test_what_the_api_refuses_is_told_without_the_token(fake, run):
    refusal = json.dumps({"error": {"message": f"(#100) bad\nparam for {TOKEN}", "code": 100}})
    fake.faults = {"/images": [(400, {}, refusal)]}
    code, _, err = run()
    assert code == 2 and "Mapillary refuses: (#100) bad param for *** (error 100)" in err


@pytest.mark.parametrize("value", ["", "  ", "s3cr3t token", "s3cr3t\n2", "s3cr3té"])
def test_a_token_that_is_none_is_refused_before_it_is_sent(fake, run, monkeypatch, value):
    monkeypatch.setenv("OTHER_NAME", value)
    code, _, err = run("--token-env", "OTHER_NAME")
    assert code == 2 and "the environment variable OTHER_NAME holds" in err and fake.asked == []


def test_an_empty_area_and_an_unreachable_service_are_one_line(fake, run, monkeypatch):
    code, _, err = run()
    assert code == 2 and f"no photos in --bbox {','.join(map(str, parse_area(BOX)))}" in err
    monkeypatch.setattr(mapillary, "API", "http://127.0.0.1:1")
    code, _, err = run("--bbox", "1,1,1.01,1.01")
    assert code == 2 and re.search(r"Mapillary cannot be reached \(.*\); run the same command again", err)


def test_photos_close_to_the_one_before_are_left_out(fake, run, tmp_path):
    for i in range(10):  # 7.7 m apart
        fake.add(f"{i}", 8.001 + i * 1e-4, 46.3, sequence="drive", captured_at=1_700_000_000_000 - i)
    fake.add("alone", 8.001, 46.3)
    code, _, err = run("--min-distance-m", "20")
    assert code == 0 and "6 photos closer than 20 m are left out" in err
    kept = sorted(manifest.read(tmp_path / "set" / "manifest.parquet").photo)
    assert kept == ["photos/0.jpg", "photos/3.jpg", "photos/6.jpg", "photos/9.jpg", "photos/alone.jpg"]


def test_photos_are_blurred_by_the_users_hook(fake, run, tmp_path):
    fake.add_grid(1)
    blur = "convert() {{ :; }}; cp"  # not a program
    code, out, _ = run("--blur", f"{blur} {{in}} {{out}}")
    assert code != 0 and "blurring failed" in out
    black = f"{sys.executable} -c \"import sys; from PIL import Image; Image.new('RGB', (64, 48)).save(sys.argv[2])\""
    assert run("--blur", f"{black} {{in}} {{out}}")[0] == 0
    rows = manifest.read(tmp_path / "set" / "manifest.parquet")
    assert list(rows.photo) == ["blurred/100.jpg"]
    with Image.open(tmp_path / "set" / rows.photo[0]) as image:
        assert np.asarray(image).max() < 8


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "a,b,c,d", "1,1,1,2", "2,1,1,2", "1,2,2,1", "1,1,nan,2", "170,0,190,1", "0,80,1,95"]
)
def test_boxes_that_are_none_are_refused(text):
    with pytest.raises(DownloadError, match="--bbox") as caught:
        parse_area(text)
    assert "\n" not in str(caught.value)


lons, lats = st.floats(-179, 178), st.floats(-89, 88)


@given(
    west=lons, south=lats, width=st.floats(1e-3, 0.3), height=st.floats(1e-3, 0.3), side=st.floats(0.01, 0.5)
)
def test_parts_tile_their_area(west, south, width, height, side):
    area = Area(west, south, west + width, south + height)
    for parts in (area.parts(side), area.quarters()):
        assert {(p.west, p.south) for p in parts} >= {(west, south)}
        assert max(p.east for p in parts) == area.east and max(p.north for p in parts) == area.north
        squares = sum((p.east - p.west) * (p.north - p.south) for p in parts)
        assert squares == pytest.approx(width * height)
    assert all(part.side_deg <= side * (1 + 1e-9) for part in area.parts(side))
    assert parse_area(",".join(map(repr, area))) == area


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(mapillary.FIELDS.split(","))


@given(st.dictionaries(fields, json_values))
def test_a_record_is_read_or_refused_in_one_line(record):
    record = {"id": "1", "geometry": {"coordinates": [8.0, 46.0]}} | record
    try:
        shot = mapillary.read_image(record)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert shot.fov is None or 0 < shot.fov <= 360
        assert shot.heading is None or 0 <= shot.heading <= 360


@pytest.mark.parametrize(
    ("camera", "parameters", "width", "height", "orientation", "fov"),
    [
        ("perspective", [0.5, 0, 0], 4000, 3000, 1, 90.0),
        ("perspective", [0.5, 0, 0], 4000, 3000, 6, 73.7),  # downloaded upright, 3000 across
        ("perspective", [0.5, 0, 0], 3000, 4000, 1, 73.7),
        ("fisheye", [0.5, 0, 0], 4000, 3000, 1, 114.6),  # an angle in proportion to the distance
        ("spherical", [], 4000, 2000, 1, 360.0),
        ("perspective", [], 4000, 3000, 1, None),
        ("perspective", [0.0], 4000, 3000, 1, None),
        ("perspective", [0.5], None, 3000, 1, None),
    ],
)
def test_the_field_of_view_is_that_of_the_upright_photo(camera, parameters, width, height, orientation, fov):
    record = {
        "id": "1", "geometry": {"coordinates": [8, 46]}, "camera_type": camera, "camera_parameters": parameters,
        "width": width, "height": height, "exif_orientation": orientation,
    }  # fmt: skip
    assert mapillary.read_image(record).fov == (fov and pytest.approx(fov, abs=0.05))


def test_the_command_of_the_page_on_photos_runs(fake, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake.add("1", 9.52, 47.14)
    page = (ROOT / "docs" / "photos.md").read_text()
    (command,) = re.findall(r"^zoomloc prep mapillary (.+)$", page, re.MULTILINE)
    code, _, error = run(*shlex.split(command))  # its --bbox and --out come after those of `run`, and count
    assert code == 0, error
    assert (tmp_path / "vaduz" / "photos" / "1.jpg").exists()
