"""What is served of every source: map tiles, windows, cells, and where all this is."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, Field

from tiles.errors import TilesError
from tiles.pyramid import Pyramid
from tiles.server import cells, mercator, windows
from tiles.server.encode import MEDIA_TYPES, NO_DATA, Format, encode
from tiles.server.pictures import Picture, Pictures
from tiles.source import Source
from tiles.view import View
from tiles.window import Resampling

CACHE_CONTROL = "public, max-age=300"  # after that a browser asks whether its picture is still the one
LARGE_PX = 2**20
CLIENT_GONE = 499  # nobody reads it
CELL_PX, MAX_CELL_PX = 384, 2048
SYNTHETIC = "X-Synthetic"  # the part of a picture that was made up, 0..1; left out where none was

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A source under its name, and its zoom grid if it has one."""

    name: str
    source: Source
    pyramid: Pyramid | None
    extent: mercator.Extent


class Problem(BaseModel):
    """What every error answers with."""

    detail: str = Field(description="One line: what is wrong, and what to do about it.")


async def _served(
    request: Request, source: Annotated[str, Path(description="A name of /sources.json")]
) -> Served:
    try:
        return request.app.state.served[source]
    except KeyError:
        raise HTTPException(404, "no such source; /sources.json has the names") from None


async def _pyramid(served: Annotated[Served, Depends(_served)]) -> Pyramid:
    if served.pyramid is None:
        raise HTTPException(404, f"{served.name} has no zoom grid")
    return served.pyramid


AServed = Annotated[Served, Depends(_served)]
APyramid = Annotated[Pyramid, Depends(_pyramid)]
Zoom = Annotated[int, Path(ge=0, le=mercator.MAX_ZOOM, description="Zoom of the web map")]
X = Annotated[int, Path(description="Column of the web map at this zoom, from the west")]
Y = Annotated[int, Path(description="Row, from the north")]
CellPath = Annotated[str, Path(description="Child numbers from the root, row by row: `5-10-3`; or `root`")]
NO_IMAGERY = f"Where there is no imagery it is transparent, in jpg grey ({NO_DATA})"
TileFormat = Annotated[Format, Path(description=NO_IMAGERY)]
AskedFormat = Annotated[Format, Query(description=NO_IMAGERY)]

router = APIRouter(
    responses={
        404: {
            "model": Problem,
            "description": "No such source, tile or cell, or it lies outside the imagery",
        },
        422: {"model": Problem, "description": "A parameter that cannot be right"},
        503: {"model": Problem, "description": "The imagery cannot be read at present"},
    }
)
PICTURE: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {"description": "The picture", "content": {kind: {} for kind in MEDIA_TYPES.values()}},
        304: {"description": "The picture is the one that If-None-Match names"},
    },
}


@router.get("/{source}/{z}/{x}/{y}@2x.{format}", tags=["pictures"], **PICTURE)
async def large_tile(request: Request, served: AServed, z: Zoom, x: X, y: Y, format: TileFormat) -> Response:
    """A map tile for screens of high resolution, 512 x 512 px."""
    window = windows.tile_window(served.extent, zoom=z, x=x, y=y, px=2 * mercator.TILE_PX)
    return await _picture(request, served.name, window, lambda: served.source.render(window), format)


@router.get("/{source}/{z}/{x}/{y}.{format}", tags=["pictures"], **PICTURE)
async def tile(request: Request, served: AServed, z: Zoom, x: X, y: Y, format: TileFormat) -> Response:
    """A map tile (Web Mercator), 256 x 256 px."""
    window = windows.tile_window(served.extent, zoom=z, x=x, y=y)
    return await _picture(request, served.name, window, lambda: served.source.render(window), format)


@router.get("/sources.json", tags=["sources"])
async def list_sources(request: Request, response: Response) -> list[dict[str, Any]]:
    """The TileJSON of every source."""
    response.headers["Cache-Control"] = "no-cache"
    return [_tilejson(request, served, "png") for served in request.app.state.served.values()]


@router.get("/{source}/tilejson.json", tags=["sources"])
async def tilejson(
    request: Request, response: Response, served: AServed, format: AskedFormat = "png"
) -> dict[str, Any]:
    """Where the source is and at which zooms, as map programs read it (TileJSON 3.0.0).

    Beyond the standard: `crs`, `gsd_m` (metres on the ground of its finest pixel), `synthetic` (whether pixels may be
    made up; the header X-Synthetic of a picture says which part of it was) and `grid` (of cells, or null).
    """
    response.headers["Cache-Control"] = "no-cache"
    return _tilejson(request, served, format)


@router.get("/{source}/window", tags=["pictures"], **PICTURE)
async def window(
    request: Request,
    served: AServed,
    bounds: Annotated[str, Query(description="west,south,east,north in `crs`, x (longitude) first")],
    crs: Annotated[str, Query(description="A code", examples=["EPSG:32632"], max_length=40)] = "EPSG:4326",
    width: Annotated[int, Query(ge=1, le=windows.MAX_SIDE_PX)] = 512,
    height: Annotated[
        int | None,
        Query(ge=1, le=windows.MAX_SIDE_PX, description="As the bounds are proportioned, if left out"),
    ] = None,
    bearing: Annotated[
        float,
        Query(ge=-360, le=360, allow_inf_nan=False, description="Degrees the bounds are turned clockwise by"),
    ] = 0,
    resampling: Resampling = "auto",
    format: AskedFormat = "png",
) -> Response:
    """Any rectangle of any CRS as one picture."""
    wanted = windows.asked_window(
        served.source,
        bounds=bounds,
        crs=crs,
        width=width,
        height=height,
        bearing_deg=bearing,
        resampling=resampling,
    )
    large = wanted.shape[0] * wanted.shape[1] > LARGE_PX
    render = lambda: served.source.render(wanted)  # noqa: E731
    return await _picture(request, served.name, wanted, render, format, large=large)


@router.get("/{source}/cell/{path}.json", tags=["cells"])
async def cell_outline(pyramid: APyramid, path: CellPath) -> dict[str, Any]:
    """The outlines (GeoJSON) of a cell and, after it, of its children, with their bounds in the grid's CRS."""
    return cells.geojson(pyramid, path)


@router.get("/{source}/cell/{path}", tags=["cells"], **PICTURE)
async def cell(
    request: Request,
    served: AServed,
    pyramid: APyramid,
    path: CellPath,
    px: Annotated[int, Query(ge=16, le=MAX_CELL_PX, description="Side of the picture")] = CELL_PX,
    format: AskedFormat = "png",
) -> Response:
    """The square view of a cell of the zoom grid: what a model sees there."""
    place = cells.cell_at(pyramid, path)
    render = lambda: pyramid.view(*place, px)  # noqa: E731
    return await _picture(request, served.name, (place, px), render, format, large=px**2 > LARGE_PX)


async def _picture(
    request: Request,
    name: str,
    what: Hashable,
    render: Callable[[], View],
    kind: Format,
    *,
    large: bool = False,
) -> Response:
    pictures: Pictures = request.app.state.pictures
    key = name, what, kind
    try:
        picture = pictures.kept(key) or await _unless_gone(
            request, pictures.get(key, lambda: _made(render(), kind), large=large)
        )
    except TilesError as error:  # it names files and addresses that are no business of clients
        log.warning("%s: %s", name, error)
        raise HTTPException(
            503,
            f"the imagery of {name} cannot be read at present; the server's log says why",
            {"Cache-Control": "no-store"},
        ) from None
    if picture is None:
        return Response(status_code=CLIENT_GONE)
    headers = {"ETag": picture.etag, "Cache-Control": CACHE_CONTROL}
    if picture.synthetic:
        headers[SYNTHETIC] = f"{picture.synthetic:.4g}"
    if _names(request.headers.get("If-None-Match", ""), picture.etag):
        return Response(status_code=304, headers=headers)
    return Response(picture.body, media_type=MEDIA_TYPES[kind], headers=headers)


def _made(view: View, kind: Format) -> tuple[bytes, float]:
    return encode(view, kind), view.synthetic_share


async def _unless_gone(request: Request, making: Coroutine[Any, Any, Picture]) -> Picture | None:
    """What is made, or None once the client has hung up, as browsers do with tiles no longer in view."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.create_task(making), asyncio.create_task(hung_up())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()


def _names(if_none_match: str, etag: str) -> bool:
    given = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in given or given == ["*"]


def _tilejson(request: Request, served: Served, kind: Format) -> dict[str, Any]:
    """What map programs need to show a source, and what else there is to know."""
    source, extent, pyramid = served.source, served.extent, served.pyramid
    return {
        "tilejson": "3.0.0",
        "name": served.name,
        "tiles": [f"{request.base_url}{quote(served.name)}/{{z}}/{{x}}/{{y}}.{kind}"],
        "scheme": "xyz",
        "minzoom": extent.min_zoom,
        "maxzoom": extent.max_zoom,
        "bounds": list(extent.lonlat),
        "center": list(extent.center),
        "attribution": source.attribution,
        "crs": source.crs,
        "gsd_m": source.gsd_m,
        "synthetic": source.synthetic,
        "grid": None if pyramid is None else _grid(pyramid),
    }


def _grid(pyramid: Pyramid) -> dict[str, Any]:
    return {
        "crs": pyramid.crs,
        "north_west": list(pyramid.north_west),
        "size_m": pyramid.size_m,
        "branch": pyramid.branch,
        "depth": pyramid.depth,
    }
