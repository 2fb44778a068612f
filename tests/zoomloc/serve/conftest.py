"""The service over real HTTP on loopback, with an untrained model."""

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
import torch
import uvicorn

from zoomloc.config import PointerConfig
from zoomloc.localizer import Localizer
from zoomloc.pointer import PointerModel
from zoomloc.region import Region
from zoomloc.serve.app import create_app


@pytest.fixture(scope="session")
def localizer():
    torch.manual_seed(0)
    config = PointerConfig(
        kind="pointer", width=32, encoder_layers=1, encoder_heads=2, patch_px=8, table_px=48, photo_px=32,
        view_px=48, decoder_layers=1, decoder_heads=2, queries=3, key_width=16, not_here=True,
    )  # fmt: skip
    return Localizer(PointerModel(config))


@pytest.fixture(scope="session")
def region(tiny_data):
    return Region.load(tiny_data / "region.json")


@pytest.fixture(scope="session")
def photo(tiny_data):
    """The bytes of one of the photos, by its number."""
    return lambda i=0: (tiny_data / "photos" / f"test-{i}.jpg").read_bytes()


@dataclass
class Served:
    app: object
    client: httpx.Client
    server: uvicorn.Server
    thread: threading.Thread

    def locate(self, *photos, **fields):
        """POST /locate with (name, bytes) each."""
        files = [("photos", (name, content, "image/jpeg")) for name, content in photos]
        return self.client.post("/locate", files=files, data=fields)


@pytest.fixture(scope="session")
def serving(localizer, region):
    """Serves an application for as long as a block takes."""

    @contextmanager
    def serve(**options):
        app = create_app(localizer, [region], **options)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", log_config=None, lifespan="on"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            try:
                with httpx.Client(base_url=url, timeout=60) as client:
                    deadline = time.monotonic() + 60
                    while client.get("/readyz").status_code != 200:
                        assert time.monotonic() < deadline
                        time.sleep(0.02)
                    yield Served(app, client, server, thread)
            finally:
                server.should_exit = True
                thread.join()

    return serve


@pytest.fixture(scope="module")
def served(serving):
    with serving() as service:
        yield service
