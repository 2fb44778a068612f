"""The service on a port of this machine."""

import logging
import socket

import uvicorn
from fastapi import FastAPI

from zoomloc.errors import OutputError

BACKLOG = 1024
log = logging.getLogger("zoomloc.serve")


class Listener:
    """Serves until it is interrupted or stopped; what was accepted by then is answered first."""

    def __init__(self, host: str, port: int) -> None:
        """Others than this machine can reach it only where `host` says so ("0.0.0.0"). port: 0 takes a free one.
        Raises OutputError for a host or port that cannot be had."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(
                f"cannot serve on port {port} of {host} ({reason}); choose another port or host"
            ) from None
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}/"
        self._server: uvicorn.Server | None = None

    def serve(self, app: FastAPI) -> None:
        config = uvicorn.Config(
            app, log_config=None, log_level="warning", access_log=False, server_header=False, lifespan="on"
        )
        self._server = uvicorn.Server(config)
        with self._socket:
            log.info("serving at %s", self.url)
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """From any thread."""
        if self._server:
            self._server.should_exit = True
