"""GDAL's virtual file systems: how rasters on servers are reached, and what is said when they are not."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError

from tiles.errors import TilesError
from tiles.uri import is_remote, redact_logs, redacted

_FILE_SYSTEMS = {
    "http://": "/vsicurl/http://",
    "https://": "/vsicurl/https://",
    "s3://": "/vsis3/",
    "gs://": "/vsigs/",
    "az://": "/vsiaz/",
}

_HTTP = {
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",  # bytes a second; slower than this for so long is a stalled server
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",  # seconds, doubled each time
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_USERAGENT": "zoomloc",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",  # a header with its overviews, in one request
    "CPL_VSIL_CURL_CACHE_SIZE": str(64 * 2**20),
}

_failed: set[str] = set()  # what GDAL would go on refusing, for it remembers failures as it does contents

redact_logs(
    "rasterio",
    *(
        f"rasterio.{name}"
        for name in ("_base", "_env", "_err", "_io", "_path", "_vsiopener", "env", "session")
    ),
)


def gdal_path(uri: str) -> str:
    """What GDAL calls a URI. Raises TilesError for a URL of a kind it does not read."""
    for scheme, file_system in _FILE_SYSTEMS.items():
        if uri.startswith(scheme):
            return file_system + uri.removeprefix(scheme)
    if is_remote(uri) and not uri.startswith("/vsi"):
        raise TilesError(
            f"{redacted(uri)}: imagery is not read from this kind of URL; use {', '.join(_FILE_SYSTEMS)} or a path"
        )
    return uri


@contextmanager
def gdal_options(uri: str) -> Iterator[None]:
    """GDAL's options for reading a raster; does nothing for a local file, which needs none.

    Environment variables go before.
    """
    path = gdal_path(uri)
    if not (is_remote(uri) or uri.lower().endswith(".vrt")):  # a VRT may name files on servers
        yield
        return
    options = dict(_HTTP)
    if is_remote(uri):
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
        if "?" in uri:
            options["CPL_VSIL_CURL_USE_HEAD"] = "NO"  # a URL signed for GET refuses HEAD
        if path in _failed:
            options["CPL_VSIL_CURL_NON_CACHED"] = path
    with rasterio.Env(**{key: value for key, value in options.items() if key not in os.environ}):
        yield


@contextmanager
def one_line_errors(uri: str, local: str) -> Iterator[None]:
    """Turns rasterio's errors into a TilesError that names the raster, without the secrets of its URL.

    local: what to say of a local file, with {} for GDAL's words.
    """
    try:
        yield
        _failed.discard(gdal_path(uri))
    except RasterioError as error:
        if is_remote(uri):
            _failed.add(gdal_path(uri))
            problem = _remote(_words(error))
        else:
            problem = (
                local.format(redacted(_words(error)))
                if Path(uri).exists()
                else "no such file; check the path"
            )
        raise TilesError(f"{redacted(uri)}: {problem}") from None


def _words(error: BaseException | None) -> str:
    """What an error and its causes say, in one line."""
    words = []
    while error is not None:
        words += str(error).split()
        error = error.__cause__
    return " ".join(words)


def _remote(text: str) -> str:
    """What failed, and the way out. GDAL's texts quote URLs in many ways, so nothing of them is passed on."""
    for pattern, problem in _PROBLEMS:
        if match := re.search(pattern, text, re.IGNORECASE):
            return problem.format(*match.groups())
    return "cannot be read; the file may be damaged or the server have failed: try again"


_PROBLEMS = (
    (r"code\W*404|does not exist", "no such file on the server; check the URL"),
    (
        r"code\W*(401|403)",
        "the server refuses access (HTTP {}); check the credentials, or get a fresh signed URL",
    ),
    (
        r"Access ?Denied|SignatureDoesNotMatch|InvalidAccessKeyId|not authorized",
        "the server refuses access; check the credentials",
    ),
    (r"code\W*([1-5]\d\d)", "the server fails (HTTP {}); try later"),
    (
        r"credentials|NO_SIGN_REQUEST",
        "no credentials for this bucket; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "or for a public one AWS_NO_SIGN_REQUEST=YES",
    ),
    (r"timed out|timeout|too slow", "the server did not answer in time; try later"),
    (r"resolve host", "no such server; check the URL and the network"),
    (
        r"(could ?n.t|failed to) connect|connection (refused|reset|died)",
        "the server cannot be reached; check the URL and the network",
    ),
    (
        r"Range downloading not supported",
        "the server does not answer range requests; download the file and give its path",
    ),
    (
        r"not recognized",
        "what the server sent is not a raster, maybe a sign-in or an error page; check the URL",
    ),
)
