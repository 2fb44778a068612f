"""HTTP for tiles: patient with servers, kept on disk, and every failure one line without secrets.

A GET is tried again, after 0.5, 1 and 2 s or as long as Retry-After asks, where the server is busy, fails or cannot
be reached. Answers are kept as their headers allow (`Cache-Control`, `Expires`, `ETag`). Where the server cannot be
reached or fails, a kept answer is used although it has expired, with one warning a host.
"""

import logging
import os
import re
import threading
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from time import monotonic, sleep, time
from urllib.parse import urlsplit

import httpx

from tiles.disk_cache import DiskCache, Record, default_cache
from tiles.errors import TilesError
from tiles.uri import redact_logs, redacted

ATTEMPTS = 4
BACKOFF_S = 0.5  # after the first attempt, doubled each time
LONGEST_WAIT_S = 30.0  # whatever Retry-After says
TIMEOUT = httpx.Timeout(30.0, connect=10.0, pool=None)
DEADLINE_S = 60.0  # for one answer, however steadily it drips
MAX_BYTES = 20 * 2**20
PER_HOST = 8  # connections
MISSING_S = 600.0  # how long it is believed that there is no tile
OFFLINE_S = 30.0  # how long a host that could not be reached is left alone where kept answers will do

NOTHING_THERE = (204, 404, 410)
PICTURES = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8")
TRY_AGAIN = (429, 500, 502, 503, 504)

log = logging.getLogger(__name__)
redact_logs("httpx", *(f"httpcore.{name}" for name in ("connection", "http11", "http2", "proxy", "socks")))


class _Unavailable(TilesError):
    """The server cannot be reached, is busy or fails: a kept answer may stand in."""


def get(
    url: str,
    *,
    fresh_s: float,
    document: bool = False,
    span: tuple[int, int] | None = None,
    version: str = "",
) -> bytes | None:
    """What a URL holds, from disk or from its server; None where there is nothing (HTTP 204, 404, 410).

    fresh_s: how long an answer that says nothing of it may be used unasked. document: text is expected; else it is
    refused, for an HTML page is no tile. span: (first byte, number of bytes), where only a part is wanted; version:
    what is kept of another version of the file is not meant. Raises TilesError.
    """
    cache = default_cache()
    body: bytes | None
    key = url if span is None else f"{url} {span[0]}+{span[1]} {version}"
    kept = cache.get(key) if cache else None
    if kept and (time() < kept.expires or _HOSTS.is_offline(url)):
        return kept.body
    try:
        response, sent = _ask(url, _headers(kept, span), attempts=1 if kept else ATTEMPTS)
    except _Unavailable as error:
        if kept is None:
            raise TilesError(f"{error}; asked {ATTEMPTS} times, try later") from None
        _HOSTS.went_offline(url, error)
        return kept.body
    if kept and response.status_code == 304:
        body = kept.body
    elif response.status_code in NOTHING_THERE or (response.status_code == 200 and not sent):
        body = None
    else:
        _check(url, response, sent, document=document, partial=span is not None)
        body = sent
    if cache:
        unchanged = kept if response.status_code == 304 else None
        _keep(cache, key, response.headers, body, fresh_s, unchanged)
    return body


def _headers(kept: Record | None, span: tuple[int, int] | None) -> dict[str, str]:
    headers = {}
    if span is not None:
        headers["Range"] = f"bytes={span[0]}-{span[0] + span[1] - 1}"
        headers["Accept-Encoding"] = "identity"  # a range of what is stored, not of its compressed form
    if kept and kept.etag:
        headers["If-None-Match"] = kept.etag
    elif kept and kept.last_modified:
        headers["If-Modified-Since"] = kept.last_modified
    return headers


def _keep(
    cache: DiskCache,
    key: str,
    headers: httpx.Headers,
    body: bytes | None,
    fresh_s: float,
    unchanged: Record | None,
) -> None:
    """Keep an answer as long as its headers allow. unchanged: what was kept, where the server confirms it."""
    lifetime = lifetime_s(headers, fresh_s)
    if lifetime is None:
        cache.drop(key)
        return
    if body is None:
        lifetime = min(lifetime, MISSING_S)
    etag = headers.get("ETag") or (unchanged.etag if unchanged else "")
    last_modified = headers.get("Last-Modified") or (unchanged.last_modified if unchanged else "")
    cache.put(key, Record(body, time() + lifetime, etag, last_modified))


def lifetime_s(headers: Mapping[str, str], otherwise: float) -> float | None:
    """How long an answer may be used unasked, by its headers (lower-case names); None where it may not be kept."""
    control = headers.get("cache-control", "").lower()
    if "no-store" in control:
        return None
    if "no-cache" in control:
        return 0.0
    age = _seconds(headers.get("age", "")) or 0.0
    if match := re.search(r"max-age\s*=\s*\"?(\d{1,9})", control):
        return max(0.0, float(match[1]) - age)
    if "expires" in headers:
        return max(0.0, _seconds(headers["expires"]) or 0.0)  # "0" and the like: has expired
    return otherwise


def _seconds(text: str) -> float | None:
    """A number of seconds, or the time until an HTTP date; None for neither."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time()
    except (ValueError, TypeError, OverflowError):
        return None


def _ask(url: str, headers: dict[str, str], *, attempts: int) -> tuple[httpx.Response, bytes]:
    """The last of several attempts' answers, its status not among those to try again."""
    for attempt in range(1, attempts + 1):
        wait_s = BACKOFF_S * 2 ** (attempt - 1)
        try:
            response, body = _send(url, headers)
        except httpx.TransportError as error:
            if isinstance(error, httpx.UnsupportedProtocol):
                raise TilesError(f"{redacted(url)}: not an http(s) URL; check it") from None
            problem = _unreachable(error)
        else:
            if response.status_code not in TRY_AGAIN:
                return response, body
            problem = _unable(response.status_code)
            asked_s = _seconds(response.headers.get("Retry-After", ""))
            wait_s = wait_s if asked_s is None else min(max(0.0, asked_s), LONGEST_WAIT_S)
        if attempt < attempts:
            log.debug("%s: %s; trying again in %.1f s", redacted(url), problem, wait_s)
            sleep(wait_s)
    raise _Unavailable(f"{redacted(url)}: {problem}")


def _unreachable(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "the server did not answer in time"
    return f"the server cannot be reached ({redacted(' '.join(str(error).split())) or type(error).__name__})"


def _unable(status: int) -> str:
    return (
        "the server asks for fewer requests (HTTP 429)"
        if status == 429
        else f"the server fails (HTTP {status})"
    )


def _send(url: str, headers: dict[str, str]) -> tuple[httpx.Response, bytes]:
    """One request's answer. Raises TilesError for one that is too large, or for a URL that is none."""
    try:
        with (
            _HOSTS.slot(url),
            _HOSTS.client().stream("GET", url, headers=headers, timeout=TIMEOUT) as response,
        ):
            deadline = monotonic() + DEADLINE_S
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise TilesError(
                        f"{redacted(url)}: the answer is larger than {MAX_BYTES >> 20} MB; check the URL"
                    )
                if monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer takes too long")
            return response, bytes(body)
    except (httpx.InvalidURL, httpx.TooManyRedirects, httpx.DecodingError) as error:
        raise TilesError(
            f"{redacted(url)}: cannot be fetched ({redacted(str(error))}); check the URL"
        ) from None


def _check(url: str, response: httpx.Response, body: bytes, *, document: bool, partial: bool) -> None:
    """Raises TilesError for what is not the answer to the question."""
    name, status = redacted(url), response.status_code
    if status in (401, 403):
        raise TilesError(
            f"{name}: the server refuses access (HTTP {status}); check the key or the signed URL"
        )
    if partial and status == 200:
        raise TilesError(
            f"{name}: the server does not answer range requests; download the file and give its path"
        )
    if status != (206 if partial else 200):
        raise TilesError(f"{name}: the server answers with HTTP {status}; check the URL")
    if not (document or partial or body.startswith(PICTURES)):
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip() or "something else"
        raise TilesError(
            f"{name}: the server answers with {kind} instead of a JPEG, PNG or WebP tile, "
            "maybe a sign-in or an error page; check the URL and its key"
        )


class _Hosts:
    """The connections of this process: one client, at most `PER_HOST` requests to a host at once."""

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)  # sockets and locks are the parent's

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._offline: dict[str, float] = {}

    def client(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                limits = httpx.Limits(max_connections=None, max_keepalive_connections=4 * PER_HOST)
                agent = {"User-Agent": _user_agent()}
                self._client = httpx.Client(
                    headers=agent, limits=limits, follow_redirects=True, max_redirects=5
                )
            return self._client

    def slot(self, url: str) -> threading.BoundedSemaphore:
        with self._lock:
            return self._slots.setdefault(_host(url), threading.BoundedSemaphore(PER_HOST))

    def is_offline(self, url: str) -> bool:
        return monotonic() < self._offline.get(_host(url), 0.0)

    def went_offline(self, url: str, error: TilesError) -> None:
        with self._lock:
            first = _host(url) not in self._offline
            self._offline[_host(url)] = monotonic() + OFFLINE_S
        if first:
            log.warning("%s; what was kept from this server is used instead", error)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _user_agent() -> str:
    try:
        return f"zoomloc/{version_of('zoomloc')}"
    except PackageNotFoundError:  # run from a checkout
        return "zoomloc"


_HOSTS = _Hosts()
