"""Tiles of servers: found by template, TileJSON and WMTS; patience with servers; what is kept on disk."""

import io
import json
import logging
import os
import pickle
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import cache

import httpx
import mercantile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from pmtiles.writer import write as write_pmtiles
from pyproj import Transformer

import tiles
from tiles import Bounds, TilesError, fetch
from tiles.uri import redacted, split_options

CRS = "EPSG:3857"
TOP = mercantile.Tile(540, 360, 10)
CHILDREN = mercantile.children(TOP)
SECRETS = ("s3cret", "hunter2")


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOOMLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "BACKOFF_S", 0.01)
    monkeypatch.setattr(fetch, "_HOSTS", fetch._Hosts())


@pytest.fixture
def no_cache(monkeypatch):
    monkeypatch.setattr(fetch, "default_cache", lambda: None)


@cache
def png(colour, side=256):
    file = io.BytesIO()
    Image.new("RGB" if len(colour) == 3 else "RGBA", (side, side), colour).save(file, "PNG", compress_level=1)
    return file.getvalue()


def colour_of(tile):
    """Its own for every tile of a neighbourhood."""
    return tile.x % 16 * 16 + 7, tile.y % 16 * 16 + 7, tile.z * 12


def bounds_of(tile):
    return Bounds(*mercantile.xy_bounds(tile))


def inside(tile):
    """The middle half of a tile: far enough from its neighbours that none is needed."""
    bounds = bounds_of(tile)
    quarter = bounds.width / 4
    return Bounds(
        bounds.west + quarter, bounds.south + quarter, bounds.east - quarter, bounds.north - quarter
    )


def middle(source, tile, px=128):
    """The colour a source shows in the middle of a tile, None where it is masked; px: of the middle half."""
    view = source.read(inside(tile), CRS, (px, px))
    return tuple(map(int, view.pixels[px // 2, px // 2])) if view.mask[px // 2, px // 2] else None


def refused(act):
    with pytest.raises(TilesError) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message and not any(secret in message for secret in SECRETS)
    return message


@pytest.fixture
def town(web):
    """The tiles of zooms 10 and 11 below one tile, under /z/x/y.png."""
    for tile in (TOP, *CHILDREN):
        web.files[f"/{tile.z}/{tile.x}/{tile.y}.png"] = png(colour_of(tile))
    return web


def template(web):
    return f"{web.url}/{{z}}/{{x}}/{{y}}.png#zooms=10-11"


# ---------------------------------------------------------------- templates


def test_tiles_of_a_template_are_where_they_belong(town):
    source = tiles.open(template(town))
    assert town.requests == []  # opening asks nothing
    for tile in (TOP, *CHILDREN):
        assert middle(source, tile) == colour_of(tile)


def test_only_the_tiles_a_window_shows_are_fetched_once_each(town):
    source = tiles.open(template(town))
    with ThreadPoolExecutor(8) as pool:
        views = list(pool.map(lambda _: source.read(inside(TOP), CRS, (256, 256)).pixels, range(8)))
    assert all(np.array_equal(view, views[0]) for view in views)
    assert sorted(town.paths()) == sorted(f"/11/{tile.x}/{tile.y}.png" for tile in CHILDREN)


def test_tiles_of_a_window_are_fetched_side_by_side(town, no_cache, monkeypatch):
    all_there = threading.Barrier(4, timeout=20)
    answer = town.answer

    def together(path, headers):
        all_there.wait()  # breaks where one is asked for only after another has come
        return answer(path, headers)

    monkeypatch.setattr(town, "answer", together)
    assert tiles.open(template(town)).read(inside(TOP), CRS, (256, 256)).coverage == 1


def test_at_most_so_many_requests_at_once_to_a_host(town, no_cache, monkeypatch):
    at_once, most = set(), []
    answer = town.answer

    def counted(path, headers):
        at_once.add(path)
        most.append(len(at_once))
        time.sleep(0.05)
        at_once.discard(path)
        return answer(path, headers)

    monkeypatch.setattr(fetch, "PER_HOST", 3)
    monkeypatch.setattr(town, "answer", counted)
    tiles.open(template(town)).read(bounds_of(TOP), CRS, (512, 512))
    assert len(most) == 16 and max(most) == 3


@pytest.mark.parametrize("status", [404, 204, 410, (200, {}, b"")])
def test_a_tile_that_is_not_there_is_filled_from_coarser_zooms_or_masked(town, status):
    gone = CHILDREN[0]
    town.answers[f"/11/{gone.x}/{gone.y}.png"] = [status]
    source = tiles.open(template(town))
    assert middle(source, gone) == colour_of(TOP)
    assert middle(source, CHILDREN[1]) == colour_of(CHILDREN[1])
    assert middle(source, mercantile.Tile(TOP.x + 1, TOP.y, 10)) is None
    before = len(town.requests)
    assert middle(tiles.open(template(town)), gone) == colour_of(TOP)
    assert len(town.requests) == before  # that it is not there is kept, too


@pytest.mark.parametrize("row", ["{-y}", "{y}"])
def test_rows_counted_from_the_south(web, row):
    tile = mercantile.Tile(TOP.x, TOP.y if row == "{y}" else 2**10 - 1 - TOP.y, 10)
    web.files[f"/tms/10/{tile.x}/{tile.y}.png"] = png((1, 2, 3))
    assert middle(tiles.open(f"{web.url}/tms/{{z}}/{{x}}/{row}.png#zooms=10"), TOP) == (1, 2, 3)


def test_the_names_of_wmts_and_tiles_of_512_px(web):
    web.files["/10/360/540@2x.png"] = png((9, 8, 7), side=512)
    source = tiles.open(f"{web.url}/{{TileMatrix}}/{{TileRow}}/{{TileCol}}@2x.png#zooms=10")
    assert middle(source, TOP, 256) == (9, 8, 7) and source.store.levels[0].px == 512


def test_subdomains_share_the_tiles(web):
    store = tiles.open("https://{s}.tiles.test/{z}/{x}/{y}.png").store
    level = store.levels[0]
    hosts = {store.describe(level, col, row).split("/")[2] for col in range(3) for row in range(3)}
    assert hosts == {"a.tiles.test", "b.tiles.test", "c.tiles.test"}
    assert [level.key for level in store.levels] == list(range(19, -1, -1))


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("https://h/{z}/{x}/{y}.png#zooms=5-3", "zooms 5-3 are none"),
        ("https://h/{z}/{x}/{y}.png#zooms=0-31", "at most 30"),
        ("https://h/{z}/{x}/{y}.png#zooms=all", "zooms all are none"),
        ("https://h/{z}/{x}/{y}.png#px=300", "300 px are unknown"),
        ("https://h/{z}/{x}/{y}.png#bands=1", "unknown option 'bands'; it takes px, zooms"),
        ("https://h/{x}/{y}.png", "not a template of tiles"),
        ("https://h/{z}/{x}/{q}.png?key=s3cret", "not a template of tiles"),
        ("ftp://h/{z}/{x}/{y}.png", "by http or https"),
        ("https://h/city.mbtiles?key=s3cret", "cannot be read over the network"),
    ],
)
def test_templates_that_are_none_are_refused(uri, says):
    assert says in refused(lambda: tiles.open(uri))


def test_a_window_of_too_many_tiles_is_refused_before_any_is_fetched(web):
    source = tiles.open(f"{web.url}/{{z}}/{{x}}/{{y}}.png#zooms=18")
    assert "more than 1024" in refused(lambda: source.read(bounds_of(TOP), CRS, (256, 256)))
    assert web.requests == []


def test_a_source_travels_to_other_processes(town):
    source = pickle.loads(pickle.dumps(tiles.open(template(town))))
    assert source.remote and middle(source, TOP) == colour_of(TOP)


def test_a_forked_process_reads_on(town):
    source = tiles.open(template(town))
    child = CHILDREN[0]
    assert middle(source, TOP) == colour_of(TOP)
    process = os.fork()
    if process == 0:
        os._exit(0 if middle(source, child) == colour_of(child) else 1)
    assert os.waitpid(process, 0)[1] == 0
    assert middle(source, child) == colour_of(child)


# ---------------------------------------------------------------- patience and failures


@pytest.mark.parametrize("failures", [[500], [503, 502, 504], [429], [500, (503, {"Retry-After": "0"}, b"")]])
def test_a_server_that_fails_for_a_while_is_asked_again(web, failures):
    web.files["/10/540/360.png"] = png((1, 2, 3))
    web.answers["/10/540/360.png"] = [*failures, "file"]
    assert middle(tiles.open(template(web)), TOP) == (1, 2, 3)
    assert len(web.requests) == len(failures) + 1


@pytest.mark.parametrize("asked_s", ["1", "99999", "date"])
def test_retry_after_is_honoured_up_to_a_limit(web, monkeypatch, asked_s):
    slept = []
    monkeypatch.setattr(fetch, "sleep", slept.append)
    asked_s = formatdate(time.time() + 20, usegmt=True) if asked_s == "date" else asked_s
    web.files["/10/540/360.png"] = png((1, 2, 3))
    web.answers["/10/540/360.png"] = [(429, {"Retry-After": asked_s}, b""), "file"]
    assert middle(tiles.open(template(web)), TOP) == (1, 2, 3)
    expected = {"1": 1, "99999": fetch.LONGEST_WAIT_S}.get(asked_s, 20)
    assert slept == [pytest.approx(expected, abs=2 if expected == 20 else 0)]


def test_waits_double(web, monkeypatch):
    slept = []
    monkeypatch.setattr(fetch, "sleep", slept.append)
    monkeypatch.setattr(fetch, "BACKOFF_S", 0.5)
    web.answers["/10/540/360.png"] = [500]
    refused(lambda: middle(tiles.open(template(web)), TOP))
    assert slept == [0.5, 1, 2]


HTML = (200, {"Content-Type": "text/html; charset=utf-8"}, b"<!doctype html><title>Sign in</title>")


@pytest.mark.parametrize(
    ("answer", "says", "asked"),
    [
        (500, "the server fails (HTTP 500); asked 4 times", 4),
        (429, "asks for fewer requests (HTTP 429); asked 4 times", 4),
        (403, "refuses access (HTTP 403)", 1),
        (400, "answers with HTTP 400", 1),
        (HTML, "answers with text/html instead of a JPEG, PNG or WebP tile", 1),
        ((200, {"Content-Type": "application/json"}, b'{"error": 1}'), "answers with application/json", 1),
        ((200, {}, b"\x1a\x90vector tile"), "answers with something else", 1),
        ((200, {"Content-Length": "500"}, b"\x89PNG cut"), "cannot be reached", 4),
        ((302, {"Location": "/10/540/360.png"}, b""), "cannot be fetched", 6),
        ((200, {"Content-Encoding": "gzip"}, b"no gzip"), "cannot be fetched", 1),
    ],
)
def test_failures_name_the_tile_in_one_line_and_are_not_kept(web, answer, says, asked):
    if isinstance(answer, tuple) and answer[1].get("Content-Length"):
        answer = (200, {**answer[1], "Connection": "close"}, answer[2])
    web.answers["/10/540/360.png"] = [answer]
    source = tiles.open(f"{web.url}/{{z}}/{{x}}/{{y}}.png?key=s3cret#zooms=10-11")
    message = refused(lambda: middle(source, TOP))
    assert says in message and f"{web.url}/10/540/360.png?key=…" in message
    assert len(web.requests) == asked
    web.answers["/10/540/360.png"] = [(200, {}, png((1, 2, 3)))]
    assert middle(source, TOP) == (1, 2, 3)


def test_a_body_that_is_too_large_is_dropped_while_it_comes(web, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1 << 20)
    web.answers["/10/540/360.png"] = [(200, {}, b"\x89PNG" + bytes(64 << 20))]
    assert "larger than 1 MB" in refused(lambda: middle(tiles.open(template(web)), TOP))
    assert web.n_bytes == 0  # it was never sent to its end


def test_a_tile_that_does_not_decode_is_named(web):
    web.files["/10/540/360.png"] = png((1, 2, 3))[:60]
    message = refused(lambda: middle(tiles.open(template(web)), TOP))
    assert f"{web.url}/10/540/360.png: not a readable tile" in message


def test_a_server_that_does_not_answer(web, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", httpx.Timeout(0.1))
    web.answers["/10/540/360.png"] = ["hang"]
    assert "did not answer in time" in refused(lambda: middle(tiles.open(template(web)), TOP))
    assert len(web.requests) == 4


def test_a_server_that_drips(web, monkeypatch):
    monkeypatch.setattr(fetch, "DEADLINE_S", 0.0)
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    web.files["/10/540/360.png"] = png((1, 2, 3))
    assert "did not answer in time" in refused(lambda: middle(tiles.open(template(web)), TOP))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_nobody_there():
    source = tiles.open(f"http://127.0.0.1:{free_port()}/{{z}}/{{x}}/{{y}}.png#zooms=10")
    assert "cannot be reached" in refused(lambda: middle(source, TOP))


def test_secrets_are_in_no_message_log_or_repr(web, caplog):
    caplog.set_level(logging.DEBUG)
    web.files["/10/540/360.png"] = png((1, 2, 3))
    login = web.url.replace("://", "://hunter2:s3cret@")
    source = tiles.open(f"{login}/{{z}}/{{x}}/{{y}}.png?key=s3cret#zooms=10-11")
    assert middle(source, TOP) == (1, 2, 3)
    web.answers["/11/1080/720.png"] = [500]
    refused(lambda: middle(source, CHILDREN[0]))
    source.close()
    said = [record.getMessage() for record in caplog.records] + [repr(source), repr(source.store)]
    assert len(said) > 2 and not any(secret in text for text in said for secret in SECRETS)
    assert web.requests[0][1].endswith("?key=s3cret") and "Authorization" in web.requests[0][2]


def test_who_asks_is_said(town):
    middle(tiles.open(template(town)), TOP)
    assert town.requests[0][2]["User-Agent"].startswith("zoomloc")


# ---------------------------------------------------------------- what is kept


def reread(web, **headers):
    """Read the tile with a source and a memory of its own; the answer's headers are those given."""
    web.answers["/10/540/360.png"] = [(200, headers, web.files["/10/540/360.png"])]
    return middle(tiles.open(template(web)), TOP)


@pytest.fixture
def one_tile(web):
    web.files["/10/540/360.png"] = png((1, 2, 3))
    return web


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({}, 1),
        ({"Cache-Control": "max-age=60"}, 1),
        ({"Cache-Control": "public, max-age=0, s-maxage=60"}, 2),
        ({"Cache-Control": "max-age=60", "Age": "61"}, 2),
        ({"Cache-Control": "no-cache"}, 2),
        ({"Cache-Control": "no-store, max-age=60"}, 2),
        ({"Expires": formatdate(4e9, usegmt=True)}, 1),
        ({"Expires": formatdate(1e9, usegmt=True)}, 2),
        ({"Expires": "0"}, 2),
        ({"Expires": formatdate(1e9, usegmt=True), "Cache-Control": "max-age=60"}, 1),
    ],
)
def test_a_tile_is_kept_as_long_as_its_headers_allow(one_tile, headers, asked):
    for _ in range(2):
        assert reread(one_tile, **headers) == (1, 2, 3)
    assert len(one_tile.requests) == asked


@pytest.mark.parametrize(
    ("validator", "asks"), [("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")]
)
def test_what_has_expired_is_asked_for_with_its_validator(one_tile, validator, asks):
    value = '"v1"' if validator == "ETag" else "Sun, 06 Nov 1994 08:49:37 GMT"
    assert reread(one_tile, **{validator: value, "Cache-Control": "max-age=0"}) == (1, 2, 3)
    one_tile.answers["/10/540/360.png"] = [(304, {"Cache-Control": "max-age=0"}, b"")]
    for _ in range(2):
        assert middle(tiles.open(template(one_tile)), TOP) == (1, 2, 3)
        assert one_tile.requests[-1][2][asks] == value
    one_tile.files["/10/540/360.png"] = png((4, 5, 6))
    for _ in range(2):
        assert reread(one_tile, **{"Cache-Control": "max-age=0"}) == (4, 5, 6)
    assert asks not in one_tile.requests[-1][2]  # what was told of another body


def test_what_is_not_to_be_stored_leaves_no_trace(one_tile, tmp_path):
    assert reread(one_tile, **{"Cache-Control": "max-age=0"}) == (1, 2, 3)
    assert reread(one_tile, **{"Cache-Control": "no-store"}) == (1, 2, 3)
    assert list((tmp_path / "cache" / "tiles" / "records").glob("*/*")) == []


@pytest.mark.parametrize("failure", [500, 429, "nobody"])
def test_an_expired_tile_is_shown_while_the_server_cannot_answer(one_tile, monkeypatch, caplog, failure):
    stale = {"Cache-Control": "max-age=0"}
    assert reread(one_tile, **stale) == (1, 2, 3)
    if failure == "nobody":

        def unreachable(*_args, **_more):
            raise httpx.ConnectError("Connection refused")

        monkeypatch.setattr(fetch, "_send", unreachable)
    one_tile.answers["/10/540/360.png"] = [failure]
    before = len(one_tile.requests)
    for _ in range(3):
        assert middle(tiles.open(template(one_tile)), TOP) == (1, 2, 3)
    assert len(one_tile.requests) - before == (
        failure != "nobody"
    )  # then the server is left alone for a while
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "what was kept from this server is used" in warning.getMessage()


def test_refused_access_is_not_hidden_by_what_was_kept(one_tile):
    assert reread(one_tile, **{"Cache-Control": "max-age=0"}) == (1, 2, 3)
    one_tile.answers["/10/540/360.png"] = [403]
    assert "refuses access" in refused(lambda: middle(tiles.open(template(one_tile)), TOP))


def test_a_damaged_body_is_fetched_again(one_tile, tmp_path):
    assert reread(one_tile) == (1, 2, 3)
    (body,) = (tmp_path / "cache" / "tiles" / "bodies").glob("*/*")
    body.write_bytes(png((9, 9, 9)))
    assert reread(one_tile) == (1, 2, 3)
    assert len(one_tile.requests) == 2


def test_without_a_cache_tiles_are_fetched_again(one_tile, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ZOOMLOC_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        assert reread(one_tile) == (1, 2, 3)
    assert len(one_tile.requests) == 2


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["cache-control", "age", "expires"]), st.text(max_size=40)))
def test_any_header_says_something_sensible(headers):
    seconds = fetch.lifetime_s(headers, 7.0)
    assert seconds is None or seconds >= 0


# ---------------------------------------------------------------- TileJSON


def tilejson(web, **fields):
    west, south, east, north = mercantile.bounds(TOP)
    document = {"tilejson": "3.0.0", "tiles": ["{z}/{x}/{y}.png"], "minzoom": 10, "maxzoom": 11}
    document |= {"bounds": [west, south, east, north], "attribution": '<a href="x">Somebody</a> &amp; more'}
    web.files["/tiles.json"] = json.dumps(document | fields).encode()
    return f"{web.url}/tiles.json"


def test_a_tilejson_says_where_its_tiles_are(town):
    source = tiles.open(tilejson(town))
    assert source.bounds == pytest.approx(tuple(bounds_of(TOP)))
    assert source.attribution == "Somebody & more"
    assert [level.key for level in source.store.levels] == [11, 10]
    assert [len(level.cols) * len(level.rows) for level in source.store.levels] == [4, 1]
    assert middle(source, CHILDREN[2]) == colour_of(CHILDREN[2])


def test_a_tilejson_with_rows_from_the_south_and_an_absolute_url(web):
    web.files[f"/t/10/540/{2**10 - 1 - 360}.png"] = png((5, 6, 7))
    url = tilejson(web, scheme="tms", tiles=[f"{web.url}/t/{{z}}/{{x}}/{{y}}.png"])
    assert middle(tiles.open(url), TOP) == (5, 6, 7)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tiles": []}, "names no tiles"),
        ({"tiles": [3]}, "names no tiles"),
        ({"vector_layers": [{"id": "roads"}]}, "vector tiles"),
        ({"minzoom": "many"}, "make no sense"),
        ({"bounds": [1, 2, 3]}, "make no sense"),
        ({"bounds": [3, 2, 1, 4]}, "make no sense"),
        ({"minzoom": 5, "maxzoom": 3}, "zooms 5-3 are none"),
        ({"tiles": ["file:///etc/passwd/{z}/{x}/{y}"]}, "by http or https"),
    ],
)
def test_a_tilejson_that_makes_no_sense_is_refused(web, fields, says):
    url = tilejson(web, **fields)
    message = refused(lambda: tiles.open(url))
    assert says in message


@pytest.mark.parametrize(
    ("body", "says"), [(b"<html>", "not JSON"), (b"[1]", "names no tiles"), (None, "nothing there")]
)
def test_what_is_no_tilejson_is_refused(web, body, says):
    if body is not None:
        web.files["/x.json"] = body
    assert f"{web.url}/x.json?token=…: " in (
        message := refused(lambda: tiles.open(f"{web.url}/x.json?token=s3cret"))
    )
    assert says in message


def test_a_tilejson_is_opened_offline_from_what_was_kept(town, monkeypatch):
    url = tilejson(town)
    assert middle(tiles.open(url), TOP) == colour_of(TOP)

    def unreachable(*_args, **_more):
        raise httpx.ConnectError("Network is unreachable")

    monkeypatch.setattr(fetch, "_send", unreachable)
    assert middle(tiles.open(url), TOP) == colour_of(TOP)


# ---------------------------------------------------------------- WMTS

WMTS = """<?xml version="1.0" encoding="UTF-8"?>
<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1"
 xmlns:xlink="http://www.w3.org/1999/xlink" version="1.0.0">
<ows:ServiceProvider><ows:ProviderName>Survey of Somewhere</ows:ProviderName></ows:ServiceProvider>
<ows:OperationsMetadata><ows:Operation name="GetTile"><ows:DCP><ows:HTTP>
<ows:Get xlink:href="{base}/kvp?"/></ows:HTTP></ows:DCP></ows:Operation></ows:OperationsMetadata>
<Contents>{layers}
<TileMatrixSet><ows:Identifier>grid</ows:Identifier><ows:SupportedCRS>{crs}</ows:SupportedCRS>{matrices}
</TileMatrixSet></Contents></Capabilities>"""

LAYER = """<Layer><ows:Identifier>{name}</ows:Identifier>
<ows:WGS84BoundingBox><ows:LowerCorner>{west} {south}</ows:LowerCorner>
<ows:UpperCorner>{east} {north}</ows:UpperCorner></ows:WGS84BoundingBox>
<Style><ows:Identifier>grey</ows:Identifier></Style>
<Style isDefault="true"><ows:Identifier>natural colours</ows:Identifier></Style>
<Format>image/png</Format><Dimension><ows:Identifier>Time</ows:Identifier><Default>2024</Default>
<Value>2023</Value><Value>2024</Value></Dimension>
<TileMatrixSetLink><TileMatrixSet>grid</TileMatrixSet></TileMatrixSetLink>{resource}</Layer>"""

REST = """<ResourceURL format="image/png" resourceType="tile"
template="{base}/{name}/{{Style}}/{{Time}}/{{TileMatrixSet}}/{{TileMatrix}}/{{TileRow}}/{{TileCol}}.png"/>"""

CORNER = 400_000.0, 6_000_000.0  # of the grid; 5 m pixels at level "1", 10 m at level "0"
PX_M = {"0": 10.0, "1": 5.0}


def wmts(web, *, crs="EPSG:32632", named=None, swap=False, rest=True, layers=("ortho",)):
    """A server with tiles of `layers`, each tile its own colour, in a grid of 2 x 2 and 4 x 4 tiles of 128 px."""
    degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    side = 2 * 128 * PX_M["0"]
    box = degrees.transform_bounds(
        CORNER[0] + 10, CORNER[1] - side + 10, CORNER[0] + side - 10, CORNER[1] - 10
    )
    west, south, east, north = box
    corner = f"{CORNER[1]} {CORNER[0]}" if swap else f"{CORNER[0]} {CORNER[1]}"
    matrices = "".join(
        f"<TileMatrix><ows:Identifier>{z}</ows:Identifier><ScaleDenominator>{m / 0.00028}</ScaleDenominator>"
        f"<TopLeftCorner>{corner}</TopLeftCorner><TileWidth>128</TileWidth><TileHeight>128</TileHeight>"
        f"<MatrixWidth>{2 << int(z)}</MatrixWidth><MatrixHeight>{2 << int(z)}</MatrixHeight></TileMatrix>"
        for z, m in PX_M.items()
    )
    resources = {name: REST.format(base=web.url, name=name) if rest else "" for name in layers}
    described = "".join(
        LAYER.format(name=name, resource=resources[name], west=west, south=south, east=east, north=north)
        for name in layers
    )
    named = named or f"urn:ogc:def:crs:EPSG::{crs.partition(':')[2]}"
    document = WMTS.format(base=web.url, layers=described, crs=named, matrices=matrices)
    web.files["/WMTSCapabilities.xml"] = document.encode()
    for z in PX_M:
        for row in range(2 << int(z)):
            for col in range(2 << int(z)):
                path = f"/{layers[0]}/natural%20colours/2024/grid/{z}/{row}/{col}.png"
                web.files[path] = png((row * 50 + 5, col * 50 + 5, int(z) * 100 + 50), side=128)
    return f"{web.url}/WMTSCapabilities.xml"


def shown(source, crs, z, row, col):
    """The colour in the middle of a tile of the grid, at its own resolution."""
    side = 128 * PX_M[z]
    west, north = CORNER[0] + col * side, CORNER[1] - row * side
    view = source.read(Bounds(west, north - side, west + side, north), crs, (128, 128))
    assert view.coverage == 1
    return tuple(map(int, view.pixels[64, 64]))


@pytest.mark.parametrize(
    ("crs", "named", "swap"),
    [
        ("EPSG:32632", None, False),
        ("EPSG:32632", "http://www.opengis.net/def/crs/EPSG/0/32632", False),
        ("EPSG:3857", "urn:ogc:def:crs:EPSG:6.18.3:900913", False),
        ("EPSG:3006", None, True),  # its first axis is the northing, and the standard asks for its order
        ("EPSG:3006", None, False),  # which not all servers heed
    ],
)
def test_a_wmts_is_read_in_its_own_grid(web, crs, named, swap):
    source = tiles.open(wmts(web, crs=crs, named=named, swap=swap))
    assert source.crs == crs and source.attribution == "Survey of Somewhere"
    for z in PX_M:
        for row, col in ((0, 0), (1, 0), (0, 1)):
            assert shown(source, crs, z, row, col) == (row * 50 + 5, col * 50 + 5, int(z) * 100 + 50)


def test_a_wmts_in_degrees_with_latitude_first(web):
    web.files["/z/0/1.png"] = png((1, 2, 3))
    matrix = (
        f"<TileMatrix><ows:Identifier>0</ows:Identifier><ScaleDenominator>{180 / 256 * 111319.49079327358 / 0.00028}"
        "</ScaleDenominator><TopLeftCorner>90 -180</TopLeftCorner><TileWidth>256</TileWidth>"
        "<TileHeight>256</TileHeight><MatrixWidth>2</MatrixWidth><MatrixHeight>1</MatrixHeight></TileMatrix>"
    )
    template = f"{web.url}/z/{{TileRow}}/{{TileCol}}.png?{{TileMatrix}}"
    resource = f'<ResourceURL format="image/png" resourceType="tile" template="{template}"/>'
    layer = LAYER.format(name="world", west=-180, south=-90, east=180, north=90, resource=resource)
    document = WMTS.format(base=web.url, layers=layer, crs="urn:ogc:def:crs:EPSG::4326", matrices=matrix)
    web.files["/WMTSCapabilities.xml"] = document.encode()
    source = tiles.open(f"{web.url}/WMTSCapabilities.xml")
    assert source.store.levels[0].bounds == pytest.approx((-180, -90, 180, 90))
    view = source.read(Bounds(8, 47, 9, 48), "EPSG:4326", (8, 8))
    assert view.coverage == 1 and tuple(view.pixels[4, 4]) == (1, 2, 3)


def test_a_wmts_without_restful_urls_is_asked_by_query(web):
    wmts(web, rest=False)
    web.files["/kvp"] = png((1, 2, 3), side=128)
    source = tiles.open(f"wmts:{web.url}/WMTSCapabilities.xml?SERVICE=WMTS&REQUEST=GetCapabilities")
    assert shown(source, "EPSG:32632", "1", 1, 2) == (1, 2, 3)
    query = web.requests[-1][1].lower()
    assert {"tilematrix=1", "layer=ortho", "style=natural%20colours", "time=2024"} <= set(query.split("&"))
    web.answers["/kvp"] = [500]
    message = refused(lambda: shown(source, "EPSG:32632", "0", 0, 0))
    assert "TILEMATRIX=0&TILEROW=" in message and "TIME=…" in message


def test_layers_styles_and_matrix_sets_are_chosen(web):
    url = wmts(web, layers=("ortho", "map"))
    assert "name one, #layer=...: ortho, map" in refused(lambda: tiles.open(url))
    assert "has no layer 'x'; it has ortho, map" in refused(lambda: tiles.open(f"{url}#layer=x"))
    assert "has no style 'x'" in refused(lambda: tiles.open(f"{url}#layer=ortho&style=x"))
    assert "has no matrix_set 'x'; it has grid" in refused(
        lambda: tiles.open(f"{url}#layer=map&matrix_set=x")
    )
    source = tiles.open(f"{url}#layer=ortho&style=grey")
    assert "/ortho/grey/2024/grid/1/0/0.png" in source.store.describe(source.store.levels[0], 0, 0)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>sign in", "not the capabilities of a WMTS"),
        (b"<Capabilities/>", "not the capabilities of a WMTS"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "entities of its own"),
        ("<TileWidth>128", "must"),
        ("<ScaleDenominator>", "not the capabilities of a WMTS"),
        ("<ows:Identifier>1</ows:Identifier>", "without Identifier"),
        ("<TileMatrixSet>grid</TileMatrixSet>", "must"),
        ("urn:ogc:def:crs:EPSG::32632", "unknown CRS"),
    ],
)
def test_a_wmts_that_cannot_be_understood_is_refused(web, body, says):
    url = wmts(web)
    if isinstance(body, str):
        replacement = {"<TileWidth>128": "<TileWidth>100", "urn:ogc:def:crs:EPSG::32632": "urn:nothing"}
        body = web.files["/WMTSCapabilities.xml"].replace(body.encode(), replacement.get(body, "").encode())
    web.files["/WMTSCapabilities.xml"] = body
    assert says in refused(lambda: tiles.open(url))


# ---------------------------------------------------------------- PMTiles over ranges


def pmtiles_of(folder, colours):
    """A PMTiles file of one tile and its four children; colours: of the tile and of the children."""
    path = folder / "x.pmtiles"
    west, south, east, north = mercantile.bounds(TOP)
    with write_pmtiles(path) as writer:
        by_id = {zxy_to_tileid(TOP.z, TOP.x, TOP.y): colours[0]}
        by_id |= {zxy_to_tileid(child.z, child.x, child.y): colours[1] for child in CHILDREN}
        for tile_id, colour in sorted(by_id.items()):
            writer.write_tile(tile_id, noisy(colour))
        header = {"tile_type": TileType.PNG, "tile_compression": Compression.NONE}
        for key, degrees in {"min_lon": west, "min_lat": south, "max_lon": east, "max_lat": north}.items():
            header[f"{key}_e7"] = round(degrees * 1e7)
        writer.finalize(header, {"attribution": "Somebody"})
    return path.read_bytes()


def noisy(colour):
    """A PNG of one colour that takes 60 kB: what matters is behind its end."""
    return png(colour) + os.urandom(60_000)


def test_pmtiles_are_read_by_ranges(web, tmp_path):
    web.files["/x.pmtiles"] = pmtiles_of(tmp_path, [(1, 2, 3), (4, 5, 6)])
    source = tiles.open(f"{web.url}/x.pmtiles?key=s3cret")
    assert source.attribution == "Somebody" and source.remote
    assert middle(source, CHILDREN[0]) == (4, 5, 6)
    assert web.n_bytes < len(web.files["/x.pmtiles"]) / 2
    assert all("Range" in headers for _, _, headers in web.requests)
    assert middle(pickle.loads(pickle.dumps(source)), TOP) == (1, 2, 3)
    before = len(web.requests)
    assert middle(tiles.open(f"{web.url}/x.pmtiles?key=s3cret"), CHILDREN[0]) == (4, 5, 6)
    assert len(web.requests) == before + 1  # whether it is still the same file
    assert not any(secret in repr(source.store._file) for secret in SECRETS)


def test_another_version_of_a_pmtiles_file_is_not_mixed_with_what_was_kept(web, tmp_path):
    url = f"{web.url}/x.pmtiles"
    web.files["/x.pmtiles"] = pmtiles_of(tmp_path, [(1, 2, 3), (4, 5, 6)])
    assert middle(tiles.open(url), TOP) == (1, 2, 3)
    web.files["/x.pmtiles"] = pmtiles_of(tmp_path, [(7, 8, 9), (70, 80, 90)])
    assert middle(tiles.open(url), TOP) == (7, 8, 9)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (404, "no such file on the server"),
        (403, "refuses access"),
        ((200, {}, b"x" * 500), "does not answer range requests"),
        ((206, {}, b"<html>".ljust(127)), "not a PMTiles file"),
    ],
)
def test_pmtiles_that_cannot_be_read_are_refused(web, answer, says):
    web.answers["/x.pmtiles"] = [answer]
    message = refused(lambda: tiles.open(f"{web.url}/x.pmtiles?key=s3cret"))
    assert says in message and f"{web.url}/x.pmtiles?key=…" in message


# ---------------------------------------------------------------- names


@settings(max_examples=60, deadline=None)
@given(
    st.text(
        st.characters(exclude_characters="/?#@\n '\"`<>", exclude_categories=["Cs", "Z", "C"]), min_size=8
    )
)
def test_no_password_or_query_value_survives_redaction(secret):
    url = f"https://user:{secret}@host.test/a/{{z}}.png?key={secret.replace('&', '')}&LAYER=ortho"
    said = redacted(f"the tile {url}: failed")
    assert said == "the tile https://host.test/a/{z}.png?key=…&LAYER=ortho: failed"


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), st.text(st.characters(categories=["L", "N"])))
)
def test_options_come_back_as_they_were_written(options):
    fragment = "&".join(f"{key}={value}" for key, value in options.items())
    location = "https://host.test/scene.tif?signature=a%23b"
    assert split_options(f"{location}#{fragment}" if options else location) == (location, options)
