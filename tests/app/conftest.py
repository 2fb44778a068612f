import socket

import pytest

pytest.importorskip("streamlit", reason="NO STREAMLIT: the app is not installed, so nothing of it was tested")

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture
def no_network(monkeypatch):
    """Whoever connects to another machine fails."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
            raise AssertionError(f"connected to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
