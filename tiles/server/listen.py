"""The service on a port of this machine."""

import os
import socket
from collections.abc import Callable

import rasterio
import uvicorn
from fastapi import FastAPI

from tiles.errors import TilesError

PORT = 8000
BACKLOG = 2048
GDAL_CACHE_BYTES = 256 * 2**20  # GDAL's own limit is 5 % of the machine's memory


def serve(
    app: FastAPI,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until interrupted. Others than this machine can reach it only where `host` says so ("0.0.0.0").

    port: 0 takes a free one. ready: is told the URL as soon as clients can connect. Raises TilesError for a host
    or port that cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TilesError(
            f"cannot serve on port {port} of {host} ({reason}); choose another port or host"
        ) from None
    gdal_options = {} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": GDAL_CACHE_BYTES}
    with listening, rasterio.Env(**gdal_options):
        if ready:
            shown = f"[{host}]" if family == socket.AF_INET6 else host
            ready(f"http://{shown}:{listening.getsockname()[1]}/")
        config = uvicorn.Config(
            app, backlog=BACKLOG, log_level="warning", access_log=False, server_header=False
        )
        uvicorn.Server(config).run(sockets=[listening])
