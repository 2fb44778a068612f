"""The tile service over real HTTP: what it shows is where it says, and what it should not do it does not."""

import http.client
import io
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from urllib.parse import quote, urlsplit

import httpx
import mercantile
import numpy as np
import pytest
import uvicorn
from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyproj import Transformer

import tiles
from tiles import Bounds, Pyramid, Source, TilesError, Window
from tiles.server import create_app, serve
from tiles.server.encode import NO_DATA
from tiles.server.headers import PAGE_POLICY
from tiles.view import View, empty_view

CRS = "EPSG:32632"
WEST, NORTH, SIDE_M = 500_000.0, 5_700_000.0, 512
TO_WGS84 = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
FROM_MERCATOR = Transformer.from_crs("EPSG:3857", CRS, always_xy=True)
KINDS = {"png": 2, "webp": 12, "jpg": 8}  # how far a colour may be off


def colour_at(x, y):
    """What the raster shows at a place: red grows eastwards, green southwards."""
    return np.stack([(x - WEST) / 2.5, (NORTH - y) / 2.5, np.full_like(x, 60)], axis=-1)


@contextmanager
def running(app):
    """The URL of an app on a free port of the loopback device."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def client_of(sources, pyramids=None, **options):
    with running(create_app(sources, pyramids, **options)) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    """512 m at 1 m, its western quarter without imagery."""
    import rasterio

    path = tmp_path_factory.mktemp("server") / "secret-folder" / "city.tif"
    path.parent.mkdir()
    across, down = np.meshgrid(np.arange(SIDE_M) + 0.5, np.arange(SIDE_M) + 0.5)
    pixels = colour_at(WEST + across, NORTH - down).round().astype(np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE_M, height=SIDE_M, count=3, dtype="uint8", crs=CRS,
        transform=rasterio.transform.from_origin(WEST, NORTH, 1, 1),
    ) as dataset:  # fmt: skip
        dataset.write(pixels.transpose(2, 0, 1))
        dataset.write_mask((across > SIDE_M / 4).astype(np.uint8) * 255)
        dataset.update_tags(TIFFTAG_COPYRIGHT="me & <b>you</b>")
    return path


@pytest.fixture(scope="module")
def pyramid(raster):
    return Pyramid(tiles.open(raster), crs=CRS, north_west=(WEST, NORTH), size_m=SIDE_M, branch=4, depth=2)


@pytest.fixture(scope="module")
def url(raster, pyramid):
    with running(create_app({"city": tiles.open(raster)}, {"grid": pyramid})) as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def picture(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(float)


def problem(answer):
    """The one line of an error."""
    assert answer.headers["content-type"] == "application/json", answer.text
    body = answer.json()
    assert list(body) == ["detail"] and isinstance(body["detail"], str) and "\n" not in body["detail"]
    assert "Traceback" not in body["detail"] and "secret-folder" not in body["detail"]
    return body["detail"]


def tile_at(zoom, x=WEST + 350, y=NORTH - 250):
    return mercantile.tile(*TO_WGS84.transform(x, y), zoom)


# --- pictures


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("zoom", "scale"), [(16, ""), (17, ""), (17, "@2x")])
def test_a_tile_shows_its_place(client, kind, zoom, scale):
    tile = tile_at(zoom)
    answer = client.get(f"/city/{zoom}/{tile.x}/{tile.y}{scale}.{kind}")
    found = picture(answer)
    assert (
        answer.headers["content-type"]
        == {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}[kind]
    )
    px = 512 if scale else 256
    assert found.shape[:2] == (px, px)
    bounds = mercantile.xy_bounds(tile)
    step = (bounds.right - bounds.left) / px
    x, y = np.meshgrid(bounds.left + step * (np.arange(px) + 0.5), bounds.top - step * (np.arange(px) + 0.5))
    x, y = FROM_MERCATOR.transform(x, y)
    inside = (
        (x > WEST + SIDE_M / 4 + 20) & (x < WEST + SIDE_M - 20) & (y < NORTH - 20) & (y > NORTH - SIDE_M + 20)
    )
    assert inside.sum() > 1000
    assert np.abs(found[inside][:, :3] - colour_at(x, y)[inside]).max() <= KINDS[kind]


def test_no_data_is_transparent_and_grey_in_jpeg(client):
    tile = tile_at(17, x=WEST + 60)
    for kind in ("png", "webp"):
        alpha = picture(client.get(f"/city/17/{tile.x}/{tile.y}.{kind}"))[..., 3]
        assert set(np.unique(alpha)) == {0, 255}
    grey = picture(client.get(f"/city/17/{tile.x}/{tile.y}.jpg"))[alpha == 0]
    assert np.abs(np.median(grey, axis=0) - NO_DATA).max() <= 2


def test_a_window_is_what_the_source_renders(client, raster):
    bounds = WEST + 200, NORTH - 400, WEST + 440, NORTH - 100
    query = {"bounds": ",".join(map(str, bounds)), "crs": CRS, "width": 100, "height": 80}
    for extra in ({}, {"bearing": 33.5}, {"bearing": -10, "resampling": "nearest"}):
        found = picture(client.get("/city/window", params=query | extra))
        expected = tiles.open(raster).read(
            Bounds(*bounds), CRS, (80, 100),
            bearing_deg=extra.get("bearing", 0), resampling=extra.get("resampling", "auto"),
        )  # fmt: skip
        assert expected.mask.all() and np.array_equal(found, expected.pixels)


def test_a_window_in_degrees_keeps_its_proportions(client):
    west, north = TO_WGS84.transform(WEST + 200, NORTH - 100)
    found = picture(client.get(f"/city/window?bounds={west},{north - 0.001},{west + 0.002},{north}&width=90"))
    assert found.shape[:2] == (45, 90)


@pytest.mark.parametrize(("path", "cell"), [("root", (0, 0, 0)), ("6", (1, 1, 2)), ("6-13", (2, 7, 9))])
def test_a_cell_is_what_the_pyramid_shows(client, pyramid, path, cell):
    view = pyramid.view(*cell, 64)
    found = picture(client.get(f"/grid/cell/{path}?px=64"))
    assert np.array_equal(found[..., :3], view.pixels)
    outline = client.get(f"/grid/cell/{path}.json").json()["features"][0]["properties"]
    assert (outline["level"], outline["row"], outline["col"]) == cell
    assert outline["crs"] == CRS and outline["bounds"] == list(pyramid.bounds(*cell))


def test_the_outlines_of_children_tile_their_parent(client):
    cell, *children = client.get("/grid/cell/6.json").json()["features"]
    assert [child["id"] for child in children] == [f"6-{number}" for number in range(16)]
    west, south, east, north = zip(*(child["properties"]["bounds"] for child in children), strict=True)
    assert [min(west), min(south), max(east), max(north)] == cell["properties"]["bounds"]
    assert sum(child["properties"]["side_m"] ** 2 for child in children) == cell["properties"]["side_m"] ** 2
    lon, lat = TO_WGS84.transform(*cell["properties"]["bounds"][:2])
    assert cell["geometry"]["coordinates"][0][1] == pytest.approx([lon, lat])
    assert len(client.get("/grid/cell/6-13.json").json()["features"]) == 1


# --- where things are


def test_tilejson_leads_to_all_tiles_and_to_no_others(client, url):
    source = client.get("/city/tilejson.json").json()
    assert source["tilejson"] == "3.0.0" and source["attribution"] == "me & <b>you</b>"
    lon, lat = TO_WGS84.transform(WEST + SIDE_M / 2, NORTH - SIDE_M / 2)
    west, south, east, north = source["bounds"]
    assert west < source["center"][0] < east and south < source["center"][1] < north
    assert [source["center"][0], source["center"][1]] == pytest.approx([lon, lat], abs=1e-4)
    assert source["tiles"] == [f"{url}/city/{{z}}/{{x}}/{{y}}.png"]
    # At 51.4 degrees: 512 m in a tile of 762 m, and 1 m shown by pixels of 0.74 m.
    assert (source["minzoom"], source["maxzoom"]) == (15, 17)
    for zoom in (source["minzoom"], source["maxzoom"]):
        seen = list(mercantile.tiles(*source["bounds"], zoom))
        for tile in seen:
            address = source["tiles"][0].format(z=tile.z, x=tile.x, y=tile.y)
            assert client.get(address).status_code == 200
        beyond = max(tile.x for tile in seen) + 1, max(tile.y for tile in seen) + 1
        assert "outside" in problem(client.get(f"/city/{zoom}/{beyond[0]}/{seen[0].y}.png"))
        assert client.get(f"/city/{zoom}/{seen[0].x}/{beyond[1]}.png").status_code == 404
    assert "zoom" in problem(client.get("/city/14/0/0.png")) and "zoom" in problem(
        client.get("/city/18/0/0.png")
    )


def test_all_sources_are_listed(client):
    listed = client.get("/sources.json").json()
    assert listed == [client.get(f"/{name}/tilejson.json").json() for name in ("city", "grid")]
    assert listed[0]["grid"] is None
    assert listed[1]["grid"] == {
        "crs": CRS, "north_west": [WEST, NORTH], "size_m": SIDE_M, "branch": 4, "depth": 2,
    }  # fmt: skip
    assert client.get("/healthz").json() == {"status": "ok", "waiting": 0}


def test_tiles_of_a_web_map_are_served_at_their_own_zooms(tmp_path):
    for x, y in ((8715, 5688), (8716, 5688)):
        (tmp_path / "14" / str(x)).mkdir(parents=True)
        Image.new("RGB", (256, 256), (200, 100, 50)).save(tmp_path / f"14/{x}/{y}.png")
    with client_of({"folder": tiles.open(tmp_path)}) as client:
        source = client.get("/folder/tilejson.json").json()
        assert (source["minzoom"], source["maxzoom"]) == (13, 14)
        assert (picture(client.get("/folder/14/8715/5688.png")) == (200, 100, 50)).all()


# --- what browsers need


def test_a_picture_known_is_not_sent_again(client):
    tile = tile_at(17)
    address = f"/city/17/{tile.x}/{tile.y}.webp"
    first = client.get(address)
    etag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag) and "max-age" in first.headers["cache-control"]
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = client.get(address, headers={"If-None-Match": known})
        assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == etag
    assert client.get(address, headers={"If-None-Match": '"other"'}).content == first.content
    assert client.get(address.replace("webp", "png")).headers["etag"] != etag


def test_head_answers_as_get_without_the_body(client):
    tile = tile_at(17)
    answer = client.head(f"/city/17/{tile.x}/{tile.y}.jpg")
    assert answer.status_code == 200 and answer.content == b""
    assert int(answer.headers["content-length"]) > 500 and answer.headers["etag"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        "/city/tilejson.json",
        "/city/1/0/0.png",
        "/city/x/0/0.png",
        "/none/",
        "/static/preview.js",
    ],
)
def test_every_answer_is_open_to_other_pages_and_never_guessed_at(client, path):
    answer = client.get(path, headers={"Origin": "https://example.org"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers or "uvicorn" in answer.headers["server"]


def test_a_page_elsewhere_may_ask_whether_a_picture_changed(client):
    preflight = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "if-none-match",
    }
    assert client.options("/city/15/0/0.png", headers=preflight).status_code == 200
    assert client.post("/city/15/0/0.png").status_code == 405


def test_openapi_describes_every_route_and_its_errors(client):
    described = client.get("/openapi.json").json()
    assert {
        "/sources.json", "/{source}/tilejson.json", "/{source}/{z}/{x}/{y}.{format}",
        "/{source}/{z}/{x}/{y}@2x.{format}",
        "/{source}/window", "/{source}/cell/{path}", "/{source}/cell/{path}.json", "/healthz",
    } == set(described["paths"])  # fmt: skip
    for path, methods in described["paths"].items():
        assert list(methods) == ["get"] and methods["get"]["description"]
        if "{source}" in path:
            for status in ("404", "422", "503"):
                schema = methods["get"]["responses"][status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}
    assert "image/webp" in described["paths"]["/{source}/window"]["get"]["responses"]["200"]["content"]


# --- what cannot be right

BOX = f"{WEST + 200},{NORTH - 300},{WEST + 300},{NORTH - 200}"


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/none/15/1/1.png", 404, "no such source"),
        ("/city/31/1/1.png", 422, "z: .*30"),
        ("/city/-1/1/1.png", 422, "z: "),
        ("/city/15/-1/1.png", 404, "from 0 to 32767"),
        ("/city/15/1/32768.png", 404, "from 0 to 32767"),
        ("/city/15/1/1.5.png", 422, "y: "),
        ("/city/15/1/" + "9" * 5000 + ".png", 422, "y: "),
        ("/city/15/1/1.gif", 422, "format: .*'png', 'jpg' or 'webp'"),
        ("/city/15/1/1@3x.png", 422, "y: "),
        ("/city/window", 422, "bounds: .*required"),
        ("/city/window?bounds=1,2,3", 422, "four numbers"),
        ("/city/window?bounds=a,b,c,d", 422, "four numbers"),
        ("/city/window?bounds=nan,0,1,1", 422, "nowhere on earth"),
        ("/city/window?bounds=0,0,inf,1", 422, "nowhere on earth"),
        ("/city/window?bounds=-1e300,0,1e300,1", 422, "nowhere on earth"),
        ("/city/window?bounds=1,0,0,1", 422, "west < east"),
        ("/city/window?bounds=0,1,1,1", 422, "south < north"),
        ("/city/window?bounds=0,0,1,1", 404, "outside the imagery"),
        (f"/city/window?bounds={BOX}&crs=EPSG:999999", 422, "unknown CRS 'EPSG:999999'"),
        (f"/city/window?bounds={BOX}&crs=nonsense", 422, "not a code"),
        (f"/city/window?bounds={BOX}&crs=EPSG:5773", 422, "not one of maps"),
        (f"/city/window?bounds={BOX}&crs=EPSG:4978", 422, "not one of maps"),
        (f"/city/window?bounds={BOX}&crs={CRS}&width=0", 422, "width: "),
        (f"/city/window?bounds={BOX}&crs={CRS}&width=100000", 422, "width: .*4096"),
        (f"/city/window?bounds={BOX}&crs={CRS}&width=4096&height=4096", 422, "ask for a smaller picture"),
        (f"/city/window?bounds={BOX}&crs={CRS}&width=4096&height=1", 422, "ask for a smaller picture"),
        (f"/city/window?bounds={BOX}&crs={CRS}&bearing=nan", 422, "bearing: "),
        (f"/city/window?bounds={BOX}&crs={CRS}&bearing=1e9", 422, "bearing: "),
        (f"/city/window?bounds={BOX}&crs={CRS}&resampling=magic", 422, "resampling: .*'nearest'"),
        (f"/city/window?bounds={BOX}&crs={CRS}&format=tiff", 422, "format: "),
        ("/city/cell/root", 404, "no zoom grid"),
        ("/grid/cell/16", 404, "from 0 to 15"),
        ("/grid/cell/1-2-3", 404, "up to 2 numbers"),
        ("/grid/cell/1--2", 422, "child numbers"),
        ("/grid/cell/-1", 422, "child numbers"),
        ("/grid/cell/%D9%A1", 422, "child numbers"),
        ("/grid/cell/" + "1-" * 3000 + "1", 422, "child numbers"),
        ("/grid/cell/root?px=100000", 422, "px: "),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_in_one_line(client, path, status, says):
    answer = client.get(path)
    assert answer.status_code == status
    assert re.search(says, problem(answer))


NUMBERS = st.one_of(st.floats(), st.floats(-180, 180), st.integers(-(10**7), 10**7), st.text(max_size=5))
CODES = st.sampled_from(["EPSG:4326", "EPSG:3857", CRS, "EPSG:3413", "EPSG:27700", "OGC:CRS84", "EPSG:2193"])


@settings(max_examples=80, deadline=None)
@given(
    bounds=st.lists(NUMBERS, min_size=3, max_size=5),
    crs=CODES | st.text(max_size=12),
    width=st.integers(-1, 300) | st.text(max_size=4),
    bearing=st.floats() | st.floats(-360, 360),
)
def test_whatever_is_asked_the_answer_is_a_picture_or_a_reason(client, bounds, crs, width, bearing):
    query = {"bounds": ",".join(map(str, bounds)), "crs": crs, "width": width, "bearing": bearing}
    answer = client.get("/city/window", params=query)
    assert answer.status_code in (200, 404, 422)
    if answer.status_code != 200:
        problem(answer)


@settings(max_examples=40, deadline=None)
@given(
    x=st.floats(-600, 600), y=st.floats(-600, 600), log_side=st.floats(-12, 8), proportion=st.floats(0.05, 20),
    bearing=st.floats(-360, 360),
)  # fmt: skip
def test_windows_of_any_size_near_the_imagery_can_be_made(client, x, y, log_side, proportion, bearing):
    side = 10.0**log_side
    bounds = WEST + x, NORTH + y, WEST + x + side, NORTH + y + side * proportion
    query = {"bounds": ",".join(map(str, bounds)), "crs": CRS, "width": 40, "height": 30, "bearing": bearing}
    answer = client.get("/city/window", params=query)
    assert answer.status_code in (200, 404, 422)


def test_names_that_are_no_part_of_a_url_are_refused(raster):
    for name in ("", "a/b", "..", ".x", "a b", "static", "a?b", "a%2fb"):
        with pytest.raises(TilesError, match="cannot be the name"):
            create_app({name: tiles.open(raster)})


def test_imagery_no_web_map_can_show_is_refused(write_raster):
    source = tiles.open(
        write_raster(np.zeros((3, 8, 8), np.uint8), crs="EPSG:4326", west=10, north=89, gsd=0.1)
    )
    with pytest.raises(TilesError, match="outside the web map"):
        create_app({"arctic": source})


# --- attacks


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd", "/..%2f..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
        "/static/../server/app.py", "/static/..%2fserver%2fapp.py", "/static/%2e%2e/server/app.py",
        "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/..%5cserver%5capp.py", "/static/leaflet%00.js",
        "/static/", "/static", "/{folder}/city.tif", "/{quoted}/15/1/1.png", "/{quoted}/tilejson.json",
        "/http%3A%2F%2F127.0.0.1%2Fx.tif/tilejson.json", "/..%2fcity.tif/tilejson.json",
        "/city/15/1/..%2f..%2fcity.png", "/city/../../city.tif", "/grid/cell/..%2f..%2fcity.tif",
    ],
)  # fmt: skip
def test_nothing_but_the_sources_can_be_reached(url, raster, path):
    path = path.format(folder=raster.parent, quoted=quote(str(raster), safe=""))
    connection = http.client.HTTPConnection(urlsplit(url).netloc)  # sends the path as it is
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status in (404, 422), path
    body = answer.read()
    assert b"root:" not in body and b"create_app" not in body and b"II*" not in body
    connection.close()


def test_no_parameter_is_ever_opened(client, raster, tmp_path):
    trap = socket.create_server(("127.0.0.1", 0))
    trap.settimeout(0.3)
    there = f"http://127.0.0.1:{trap.getsockname()[1]}/x.tif"
    for crs in (
        there,
        f"+init={raster}:1",
        f"+proj=longlat +nadgrids={there}",
        f"+proj=longlat +nadgrids=@{raster}",
    ):
        answer = client.get("/city/window", params={"bounds": BOX, "crs": crs})
        assert answer.status_code == 422
    tile = tile_at(17)
    plain = client.get(f"/city/17/{tile.x}/{tile.y}.png")
    for name in ("url", "source", "path", "file", "uri", "colormap"):
        asked = client.get(f"/city/17/{tile.x}/{tile.y}.png", params={name: there})
        assert asked.content == plain.content
        assert client.get("/city/window", params={"bounds": BOX, "crs": CRS, name: there}).status_code == 200
    with pytest.raises(TimeoutError):
        trap.accept()
    trap.close()


def test_a_tile_that_would_fill_the_memory_is_not_decoded(tmp_path):
    for x in (8715, 8720):
        (tmp_path / "14" / str(x)).mkdir(parents=True)
        Image.new("RGB", (256, 256), (9, 99, 9)).save(tmp_path / f"14/{x}/5688.png")
    for side in (5000, 20_000):
        source = tiles.open(tmp_path)
        Image.new("1", (side, side)).save(tmp_path / "14/8720/5688.png", compress_level=1)
        with client_of({"bomb": source}) as client:
            assert client.get("/bomb/14/8715/5688.png").status_code == 200
            answer = client.get("/bomb/14/8720/5688.png")
            assert answer.status_code == 503 and "cannot be read" in problem(answer)
        Image.new("RGB", (256, 256)).save(tmp_path / "14/8720/5688.png")


# --- imagery that fails


def test_damaged_imagery_is_one_line_for_clients_and_its_name_is_logged(write_raster, tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 255, (3, 400, 400), dtype=np.uint8)
    path = write_raster(noise, name="broken.tif", compress="deflate", west=WEST, north=NORTH)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with client_of({"broken": tiles.open(path)}) as client:
        answer = client.get(f"/broken/window?bounds={WEST},{NORTH - 400},{WEST + 400},{NORTH}&crs={CRS}")
    assert answer.status_code == 503 and answer.headers["cache-control"] == "no-store"
    assert (
        "broken" in problem(answer) and "broken.tif" not in answer.text and str(tmp_path) not in answer.text
    )
    assert str(path) in caplog.text


class Painted(Source):
    """A source without files that counts its renderings and can be made to wait or to fail."""

    crs, bounds, gsd_m, levels_m, attribution = (
        CRS,
        Bounds(WEST, NORTH - 512, WEST + 512, NORTH),
        1.0,
        (1.0,),
        "",
    )

    def __init__(self, *, wait_s=0.0, error=None):
        self.wait_s, self.error = wait_s, error
        self.n, self.now, self.most = 0, 0, 0
        self.lock = threading.Lock()
        self.go = threading.Event()
        self.go.set()

    def render(self, window: Window) -> View:
        with self.lock:
            self.n, self.now = self.n + 1, self.now + 1
            self.most = max(self.most, self.now)
        time.sleep(self.wait_s)
        self.go.wait(60)
        with self.lock:
            self.now -= 1
        if self.error:
            raise self.error
        view = empty_view(window.shape)
        view.pixels[:], view.mask[:] = 90, True
        return view

    def close(self):
        pass


def window_at(i, px=16):
    return f"/x/window?bounds={WEST + i},{NORTH - 100},{WEST + i + 50},{NORTH - 50}&crs={CRS}&width={px}&height={px}"


def test_a_mistake_of_ours_shows_no_traceback():
    with client_of({"x": Painted(error=ZeroDivisionError("in /secret-folder/x.py"))}) as client:
        answer = client.get(window_at(0))
        assert answer.status_code == 500 and "log" in problem(answer)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert client.get("/healthz").status_code == 200


# --- many clients


def ask_all(client, paths):
    with ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(lambda path: client.get(path, timeout=30), paths))


def test_a_picture_many_ask_for_is_made_once_and_kept():
    source = Painted(wait_s=0.3)
    with client_of({"x": source}) as client:
        answers = ask_all(client, [window_at(0)] * 30)
        assert {answer.status_code for answer in answers} == {200} and source.n == 1
        client.get(window_at(0))
        assert source.n == 1


def test_a_failure_is_not_kept():
    source = Painted(error=TilesError("the disk is away"))
    with client_of({"x": source}) as client:
        assert {answer.status_code for answer in ask_all(client, [window_at(0)] * 5)} == {503}
        source.error = None
        assert client.get(window_at(0)).status_code == 200


def test_only_so_many_pictures_are_made_at_once_and_large_ones_one_by_one():
    source = Painted(wait_s=0.02)
    with client_of({"x": source}) as client:
        assert {answer.status_code for answer in ask_all(client, [window_at(i) for i in range(60)])} == {200}
        assert source.n == 60 and source.most <= min(32, (os.cpu_count() or 1) + 4)
        source.most = 0
        assert {answer.status_code for answer in ask_all(client, [window_at(i, 1100) for i in range(4)])} == {
            200
        }
        assert source.most == 1


def test_pictures_kept_take_no_more_than_they_may():
    source = Painted()
    with client_of({"x": source}, cache_bytes=1000) as client:
        size = len(client.get(window_at(0)).content)
        count = 1000 // size
        assert count > 2
        for i in range(1, count + 1):
            client.get(window_at(i))
        made = source.n
        client.get(window_at(1))
        assert source.n == made, "the latest are kept"
        client.get(window_at(0))
        assert source.n == made + 1, "the oldest gave way"


def until(true, timeout_s=60):
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_pictures_that_nobody_waits_for_any_more_are_not_made():
    source = Painted()
    source.go.clear()
    with running(create_app({"x": source})) as url:
        address = urlsplit(url)
        connections = [socket.create_connection((address.hostname, address.port)) for _ in range(60)]
        for i, connection in enumerate(connections):
            connection.sendall(f"GET {window_at(i)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: httpx.get(f"{url}/healthz").json()["waiting"] == 60)
        for connection in connections:
            connection.close()
        until(lambda: httpx.get(f"{url}/healthz").json()["waiting"] == 0)
        source.go.set()
        assert httpx.get(url + window_at(100)).status_code == 200
        assert source.n <= 32 + 1, "those under way, of at most 32 threads, and the last"


# --- the page and the port


def test_the_page_asks_nothing_of_other_servers(client):
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    texts = [page.text]
    for path in re.findall(r'(?:src|href)="(static/[^"]+)"', page.text):
        answer = client.get(f"/{path}")
        assert answer.status_code == 200
        if "leaflet" not in path:
            texts.append(answer.text)
    assert len(texts) == 3
    assert not re.search(r"https?://|//[a-z]|innerHTML|eval\(", "".join(texts))
    assert "BSD 2-Clause" in (files("tiles") / "assets" / "leaflet" / "LICENSE").read_text()


# What a visitor would do, then what came of it.
PROBE = """
const wrong = [], wait = ms => new Promise(done => setTimeout(done, ms));
addEventListener("error", event => wrong.push(event.message));
addEventListener("unhandledrejection", event => wrong.push(String(event.reason)));
addEventListener("securitypolicyviolation", event => wrong.push(event.blockedURI));
const all = selector => [...document.querySelectorAll(selector)];
const texts = selector => all(selector).map(found => found.textContent);
const until = async true_ => { for (let i = 0; i < 300 && !true_(); i++) await wait(100); };
const shown = tile => tile.src.includes("/grid/") && tile.naturalWidth > 0;
const loaded = () => all("img.leaflet-tile-loaded").filter(shown).length;
(async () => {
  await until(() => loaded() && all(".number").length === 16);
  const first = { tiles: loaded(), numbers: texts(".number"), chosen: texts("[aria-pressed=true] .name") };
  all("path.leaflet-interactive")[6].dispatchEvent(new MouseEvent("click", { bubbles: true }));
  await until(() => texts("#path button").length === 2 && document.getElementById("view").src.includes("cell/6"));
  await until(() => document.getElementById("view").complete);
  const second = { path: texts("#path button"), caption: texts("#caption"), links: texts("output"),
    view: document.getElementById("view").naturalWidth,
    credit: texts(".leaflet-control-attribution"), bold: all("b").length };
  await fetch("report", { method: "POST", body: JSON.stringify({ wrong, first, second }) });
})();
"""


def test_a_browser_shows_the_imagery_and_its_grid(raster, pyramid, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("NO BROWSER: chromium is not installed, so the page's program did not run")
    app = create_app({"city": tiles.open(raster)}, {"grid": pyramid})
    reports = queue.Queue()

    @app.get("/probed")
    def probed() -> HTMLResponse:
        page = (files("tiles") / "assets" / "preview.html").read_text()
        page = page.replace("</body>", '<script src="probe.js"></script></body>')
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/probe.js")
    def probe() -> Response:
        return Response(PROBE, media_type="text/javascript")

    @app.post("/report")
    async def report(request: Request) -> None:
        reports.put(await request.json())

    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    )
    flags += f" --disable-component-update --user-data-dir={tmp_path}"
    with running(app) as url, (tmp_path / "browser.log").open("wb") as log:
        command = [browser, *flags.split(), "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        process = subprocess.Popen(
            [*command, f"{url}/probed#grid"], stdout=log, stderr=log, start_new_session=True
        )
        try:
            seen = reports.get(timeout=90)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert seen["wrong"] == []
    first, second = seen["first"], seen["second"]
    assert first["tiles"] >= 1 and first["chosen"] == ["grid"]
    assert first["numbers"] == [str(number) for number in range(16)]
    assert second["path"] == ["whole", "6"] and second["caption"] == ["Level 1: 128 m a side"]
    assert second["view"] == 384
    assert second["links"][:2] == [f"{url}/grid/{{z}}/{{x}}/{{y}}.png", f"{url}/grid/tilejson.json"]
    assert second["links"][2].startswith(f"{url}/grid/window?bounds=")
    assert second["credit"] == ["me & you"] and second["bold"] == 0


SERVE = """
import sys, tiles
from tiles.server import create_app, serve
serve(create_app({"city": tiles.open(sys.argv[1])}), port=0, ready=lambda url: print(url, flush=True))
"""


def test_serve_listens_on_loopback_only_until_interrupted(raster):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(raster)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    url = process.stdout.readline().strip()
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
        assert httpx.get(url + "healthz", timeout=30).json() == {"status": "ok", "waiting": 0}
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.2", urlsplit(url).port), timeout=1)
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(30) in (0, -signal.SIGINT)  # 0 where whoever started this ignores the signal


def test_a_port_or_host_that_cannot_be_had_is_one_line(raster):
    app = create_app({"city": tiles.open(raster)})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for host, port in (("127.0.0.1", taken.getsockname()[1]), ("192.0.2.1", 0), ("127.0.0.1", 99999)):
            with pytest.raises(
                TilesError, match=f"cannot serve on port {port} of {re.escape(host)}"
            ) as caught:
                serve(app, host=host, port=port)
            assert "\n" not in str(caught.value)
