"""Small rasters made on the spot, and a server on loopback."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling


@pytest.fixture
def write_raster(tmp_path: Path) -> Callable[..., Path]:
    """write_raster(values (bands, h, w), crs=..., west=..., north=..., gsd=..., **profile) -> path."""

    def write(values, *, name="image.tif", crs="EPSG:32632", west=0.0, north=0.0, gsd=1.0, transform=None,
              overviews=(), colours=None, alpha=None, driver="GTiff", **profile):  # fmt: skip
        path = tmp_path / name
        values = np.asarray(values)
        bands, height, width = values.shape
        transform = transform or Affine(gsd, 0, west, 0, -gsd, north)
        shape = {"width": width, "height": height, "count": bands, "dtype": values.dtype}
        with rasterio.open(
            path, "w", driver=driver, crs=crs, transform=transform, **shape, **profile
        ) as dataset:
            if colours:
                dataset.colorinterp = colours
            dataset.write(values)
            if alpha is not None:
                dataset.write_mask(alpha)
            if overviews:
                dataset.build_overviews(overviews, Resampling.average)
        return path

    return write


@dataclass
class WebServer:
    """A small HTTP server whose answers a test chooses.

    files: bodies by path, served with ranges. answers: by path, what to answer instead, one after the other, the
    last for good: a status, or (status, headers, body), or "hang". requests: (method, path, headers) as they came.
    n_bytes: of all bodies sent.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list] = field(default_factory=dict)
    requests: list = field(default_factory=list)
    n_bytes: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def paths(self):
        return [path for _, path, _ in self.requests]

    def answer(self, path, headers):
        """(status, headers, body)."""
        if path in self.answers:
            queue = self.answers[path]
            chosen = queue.pop(0) if len(queue) > 1 else queue[0]
            if chosen == "hang":
                self.ended.wait()
            elif chosen != "file":
                return (chosen, {}, b"") if isinstance(chosen, int) else chosen
        if path not in self.files:
            return 404, {}, b""
        body = self.files[path]
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("Range", ""))
        if span is None:
            return 200, {"Accept-Ranges": "bytes"}, body
        first, last = int(span[1]), min(int(span[2]), len(body) - 1)
        return 206, {"Content-Range": f"bytes {first}-{last}/{len(body)}"}, body[first : last + 1]


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A server on loopback; see `WebServer`."""
    web = WebServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            web.requests.append((self.command, self.path, self.headers))
            status, headers, body = web.answer(self.path.partition("?")[0], self.headers)
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                with suppress(OSError):
                    self.wfile.write(body)
                    web.n_bytes += len(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    yield web
    web.ended.set()
    server.shutdown()
    server.server_close()
    thread.join()
