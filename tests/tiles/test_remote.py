"""Rasters on servers: only what a window shows is fetched, and every failure is one line without secrets."""

import logging
import multiprocessing
import pickle
import socket

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.shutil import copy as copy_raster

import tiles
from tiles import Bounds, TilesError

CRS = "EPSG:32632"
SECRETS = ("s3cret", "hunter2", "Sig%3D", "AKIA123")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.02")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "2")


@pytest.fixture(scope="module")
def cog(tmp_path_factory):
    """(bytes, values): 2048 x 2048 px of noise, 11 MB, with overviews."""
    values = np.random.default_rng(0).integers(0, 256, (3, 2048, 2048), dtype=np.uint8)
    path = tmp_path_factory.mktemp("cog") / "cog.tif"
    shape = {"width": 2048, "height": 2048, "count": 3, "dtype": "uint8"}
    place = {"crs": CRS, "transform": Affine(1, 0, 500_000, 0, -1, 5_000_000)}
    with rasterio.open(
        path, "w", driver="COG", blocksize=256, compress="deflate", **shape, **place
    ) as dataset:
        dataset.write(values)
    return path.read_bytes(), values


def refused(uri, window=None):
    with pytest.raises(TilesError) as caught:
        source = tiles.open(uri)
        source.read(window or source.bounds, source.crs, (32, 32))
    message = str(caught.value)
    assert "\n" not in message and not any(secret in message for secret in SECRETS)
    return message


def test_a_window_fetches_its_own_blocks_only(web, cog):
    web.files["/cog.tif"], values = cog
    source = tiles.open(f"{web.url}/cog.tif")
    view = source.read(Bounds(500_300, 4_999_600, 500_400, 4_999_700), CRS, (100, 100))
    assert np.array_equal(view.pixels, values[:, 300:400, 300:400].transpose(1, 2, 0))
    assert web.n_bytes < len(web.files["/cog.tif"]) / 8
    assert set(web.paths()) == {"/cog.tif"}  # no sidecar is asked for
    before = len(web.requests)
    source.read(Bounds(500_300, 4_999_600, 500_400, 4_999_700), CRS, (100, 100))
    assert len(web.requests) == before


def test_a_view_of_the_whole_reads_an_overview(web, cog):
    web.files["/cog.tif"], _ = cog
    source = tiles.open(f"{web.url}/cog.tif")
    assert source.read(source.bounds, CRS, (128, 128)).coverage == 1
    assert web.n_bytes < len(web.files["/cog.tif"]) / 8


def test_a_vrt_on_a_server_finds_its_file_there(web, cog, tmp_path):
    web.files["/imagery/cog.tif"], values = cog
    (tmp_path / "cog.tif").write_bytes(cog[0])
    copy_raster(tmp_path / "cog.tif", tmp_path / "mosaic.vrt", driver="VRT")
    web.files["/imagery/mosaic.vrt"] = (tmp_path / "mosaic.vrt").read_bytes()
    # In a process of its own: GDAL opens a mosaic's files while rasterio keeps Python, and so the server, waiting.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pixels = pool.apply(_corner, (f"{web.url}/imagery/mosaic.vrt",))
    assert np.array_equal(pixels, values[:, :100, :100].transpose(1, 2, 0))


def _corner(uri):
    return tiles.open(uri).read(Bounds(500_000, 4_999_900, 500_100, 5_000_000), CRS, (100, 100)).pixels


def test_a_remote_and_a_local_raster_are_stacked(web, cog, write_raster):
    web.files["/cog.tif"], values = cog
    fine = write_raster(np.full((3, 20, 20), 7, np.uint8), west=500_000, north=5_000_000, gsd=0.5)
    view = tiles.open([f"{web.url}/cog.tif", fine]).read(
        Bounds(500_000, 4_999_980, 500_020, 5_000_000), CRS, (20, 20)
    )
    assert (view.pixels[:10, :10] == 7).all()
    assert np.array_equal(view.pixels[12:, 12:], values[:, 12:20, 12:20].transpose(1, 2, 0))


def test_a_signed_url_is_fetched_with_its_query_and_options(web, cog):
    web.files["/cog.tif"], values = cog
    source = tiles.open(f"{web.url}/cog.tif?X-Sig=s3cret&e=1#bands=2&stretch=0,510")
    source = pickle.loads(pickle.dumps(source))
    view = source.read(Bounds(500_000, 4_999_900, 500_100, 5_000_000), CRS, (100, 100))
    assert np.abs(view.pixels[..., 0] - values[1, :100, :100] / 2).max() <= 1
    assert {path.partition("?")[2] for path in web.paths()} == {"X-Sig=s3cret&e=1"}
    assert {method for method, _, _ in web.requests} == {"GET"}  # a URL signed for GET refuses HEAD


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (404, "no such file on the server"),
        (401, "refuses access"),
        (403, "refuses access"),
        (500, "fails (HTTP 500)"),
        (503, "fails (HTTP 503)"),
        (418, "fails (HTTP 418)"),
    ],
)
def test_what_the_server_refuses_is_one_line(web, status, says):
    web.answers["/x.tif"] = [status]
    message = refused(f"{web.url}/x.tif")
    assert says in message and f"{web.url}/x.tif" in message


def test_html_where_a_raster_should_be(web):
    web.files["/x.tif"] = b"<html><body>Please sign in</body></html>"
    assert "not a raster, maybe a sign-in or an error page" in refused(f"{web.url}/x.tif")


def test_a_raster_cut_short_on_the_server(web, cog):
    web.files["/connecticut.tif"] = cog[0][: len(cog[0]) // 2]
    assert "may be damaged" in refused(
        f"{web.url}/connecticut.tif", Bounds(502_000, 4_998_000, 502_032, 4_998_032)
    )


def test_a_server_without_ranges(web, cog):
    web.answers["/x.tif"] = [(200, {}, cog[0])]
    assert "does not answer range requests" in refused(f"{web.url}/x.tif")


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be reached" in refused(f"http://127.0.0.1:{port}/x.tif")


def test_a_server_that_does_not_answer(web, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "0.3")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    web.answers["/x.tif"] = ["hang"]
    assert "did not answer in time" in refused(f"{web.url}/x.tif")


def test_what_failed_once_is_asked_again(web, cog):
    web.files["/cog.tif"], _ = cog
    for failure in (404, 500):
        web.answers["/cog.tif"] = [failure]
        refused(f"{web.url}/cog.tif")
    web.answers.clear()
    source = tiles.open(f"{web.url}/cog.tif")
    window = Bounds(501_000, 4_998_900, 501_100, 4_999_000)
    web.answers["/cog.tif"] = [500]
    with pytest.raises(TilesError, match=r"cog.tif: "):
        source.read(window, CRS, (100, 100))
    web.answers.clear()
    assert source.read(window, CRS, (100, 100)).coverage == 1


def test_a_server_busy_for_a_moment_is_asked_again(web, cog):
    web.files["/cog.tif"], _ = cog
    web.answers["/cog.tif"] = [503, 500, "file"]
    assert tiles.open(f"{web.url}/cog.tif").gsd_m == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize("answer", [403, 404, 500, (200, {}, b"<html>"), "file"])
def test_secrets_are_in_no_message_log_or_repr(web, cog, caplog, answer):
    caplog.set_level(logging.DEBUG)
    web.files["/x.tif"], _ = cog
    web.answers["/x.tif"] = [answer]
    uri = f"{web.url.replace('://', '://hunter2:s3cret@')}/x.tif?Signature=Sig%3D&Key=AKIA123"
    if answer == "file":
        source = tiles.open(uri)
        source.read(source.bounds, CRS, (16, 16))
        source.close()
        assert not any(secret in repr(source) for secret in SECRETS)
    else:
        assert f"{web.url}/x.tif?Signature=…&Key=…" in refused(uri)
    assert caplog.records
    assert not any(secret in record.getMessage() for record in caplog.records for secret in SECRETS)


def test_urls_that_are_no_imagery(web):
    assert "not read from this kind of URL" in refused("ftp://host/x.tif")
    assert "unknown option 'strech'; it takes bands, stretch" in refused(f"{web.url}/x.tif#strech=0,1")
    assert "write %20" in refused(f"{web.url}/my scene.tif?key=s3cret")
    assert web.requests == []


@pytest.fixture
def bucket(monkeypatch):
    """An S3 server with an empty bucket "imagery"; yields a client."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "s3cret", "region_name": "us-east-1"}
    for key, value in {
        "AWS_S3_ENDPOINT": f"{host}:{port}",
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(key, value)
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
    client.create_bucket(Bucket="imagery")
    yield client
    server.stop()


def test_an_s3_bucket(bucket, cog):
    bucket.put_object(Bucket="imagery", Key="2024/cog.tif", Body=cog[0])
    source = tiles.open("s3://imagery/2024/cog.tif")
    view = source.read(Bounds(500_300, 4_999_600, 500_400, 4_999_700), CRS, (100, 100))
    assert np.array_equal(view.pixels, cog[1][:, 300:400, 300:400].transpose(1, 2, 0))
    assert "s3://imagery/gone.tif: no such file on the server" in refused("s3://imagery/gone.tif")
    assert "s3://nowhere/x.tif: no such file on the server" in refused("s3://nowhere/x.tif")
