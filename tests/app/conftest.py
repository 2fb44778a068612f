import socket
from queue import Queue
from threading import Thread

import pytest

pytest.importorskip("streamlit", reason="NO STREAMLIT: the app is not installed, so nothing of it was tested")

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(scope="session")
def xyz() -> str:
    """The address of tiles on this machine that show the demo city, and nothing of the rest of the world."""
    from app.settings import DEMO
    from tiles.server import create_app, serve
    from zoomloc.region import Region

    address: Queue[str] = Queue()
    app = create_app({}, {"city": Region.load(DEMO / "region.json").open()})
    Thread(target=serve, args=(app,), kwargs={"port": 0, "ready": address.put}, daemon=True).start()
    return address.get(timeout=60) + "city/{z}/{x}/{y}.webp"


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """What is fetched is kept in a folder of the test."""
    monkeypatch.setenv("ZOOMLOC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_network(monkeypatch):
    """Whoever connects to another machine fails."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
            raise AssertionError(f"connected to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
