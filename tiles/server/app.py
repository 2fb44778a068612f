"""The application: sources by name, errors in one line, headers, the page."""

import re
from collections.abc import Mapping
from importlib.resources import files

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from tiles.errors import TilesError
from tiles.pyramid import Pyramid
from tiles.server.headers import HEADERS, PAGE_POLICY, Headers
from tiles.server.mercator import extent
from tiles.server.pictures import Pictures
from tiles.server.routes import SYNTHETIC, Served, router
from tiles.source import Source

CACHE_BYTES = 64 * 2**20
NAME = re.compile(r"\w[\w.-]*")
STATIC = "static"
DESCRIPTION = (
    "Any imagery as map tiles, as windows of any CRS, and as the cells of a zoom grid. Errors are JSON with one "
    "line, `detail`. Every picture has a strong ETag."
)


def create_app(
    sources: Mapping[str, Source],
    pyramids: Mapping[str, Pyramid] | None = None,
    *,
    cache_bytes: int = CACHE_BYTES,
) -> FastAPI:
    """The service of sources, and of pyramids with their sources, by name.

    cache_bytes: what encoded pictures, kept for the next client, may take. Nothing but what is given here is ever
    opened. Where imagery cannot be read, a client learns no more than that; the log has the reason. Raises TilesError
    for a name that cannot be part of a URL and for imagery that a web map cannot show.
    """
    app = FastAPI(
        title="ZoomLoc tiles",
        description=DESCRIPTION,
        docs_url=None,  # these pages load their programs from other servers
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.served = _served(sources, pyramids or {})
    app.state.pictures = Pictures(cache_bytes=cache_bytes)
    assets = files("tiles") / "assets"
    app.mount(f"/{STATIC}", StaticFiles(directory=str(assets)))
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "HEAD"],
        allow_headers=["If-None-Match"],
        expose_headers=["ETag", SYNTHETIC],
    )
    app.add_middleware(Headers)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(str(assets / "preview.html"), headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/healthz", tags=["service"])
    async def healthz() -> dict[str, str | int]:
        """That the service runs, and how many pictures its clients wait for."""
        return {"status": "ok", "waiting": app.state.pictures.waited_for}

    app.include_router(router)
    return app


def _served(sources: Mapping[str, Source], pyramids: Mapping[str, Pyramid]) -> dict[str, Served]:
    every = dict(sources) | {name: pyramid.source for name, pyramid in pyramids.items()}
    for name in every:
        if not NAME.fullmatch(name) or name == STATIC:
            raise TilesError(
                f"{name!r} cannot be the name of a source in a URL; use letters, digits, '-', '_' and '.', "
                f"and not {STATIC!r}"
            )
    return {name: Served(name, source, pyramids.get(name), extent(source)) for name, source in every.items()}


async def _invalid(_: Request, error: Exception) -> Response:
    """The first thing wrong with the parameters, in one line."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)


async def _unexpected(_: Request, __: Exception) -> Response:
    """A mistake of ours: the server logs it, and closes the connection."""
    headers = HEADERS | {"Connection": "close"}
    return JSONResponse({"detail": "something went wrong here; the server's log says what"}, 500, headers)
