"""What clients may ask for, turned into windows, or refused in one line."""

import re
from math import isfinite

from fastapi import HTTPException

from tiles.bounds import Bounds
from tiles.errors import TilesError
from tiles.geo import crs_named
from tiles.server.mercator import CRS, TILE_PX, Extent, tile_bounds
from tiles.source import Source
from tiles.window import Resampling, Window

MAX_SIDE_PX = 4096
MAX_SQUARE_PX = 2**23  # of a window, see `_square_px`; each takes some 20 bytes while it is made
MAX_COORDINATE = 1e9  # in the units of any CRS, far beyond the earth
CRS_CODE = re.compile(r"[A-Za-z]+:[A-Za-z0-9]+")  # no PROJ strings, for these can name files to be opened


def tile_window(extent: Extent, *, zoom: int, x: int, y: int, px: int = TILE_PX) -> Window:
    """The window of a map tile; 404 for one that there is none of."""
    if not extent.min_zoom <= zoom <= extent.max_zoom:
        raise HTTPException(404, f"no tiles at zoom {zoom}, only from {extent.min_zoom} to {extent.max_zoom}")
    if not (0 <= x < 2**zoom and 0 <= y < 2**zoom):
        raise HTTPException(404, f"no such tile at zoom {zoom}; x and y run from 0 to {2**zoom - 1}")
    bounds = tile_bounds(zoom, x, y)
    if not bounds.intersects(extent.bounds):
        raise HTTPException(404, "the tile lies outside the imagery; tilejson.json has the bounds")
    return Window(bounds, CRS, (px, px))


def asked_window(
    source: Source,
    *,
    bounds: str,
    crs: str,
    width: int,
    height: int | None,
    bearing_deg: float,
    resampling: Resampling,
) -> Window:
    """The window a query asks for; 422 for one that is none or too large, 404 for one outside the imagery.

    height: as the bounds are proportioned, where it is None.
    """
    box = _bounds(bounds)
    _check_crs(crs)
    if height is None:
        height = min(max(1, round(width * box.height / box.width)), MAX_SIDE_PX)
    try:
        window = Window(box, crs, (height, width), bearing_deg, resampling)
    except TilesError as error:
        raise HTTPException(422, str(error)) from None
    if _square_px(window) > MAX_SQUARE_PX:
        raise HTTPException(
            422,
            f"{width} x {height} px of these bounds are read from {_square_px(window) / 1e6:.3g} million square "
            f"pixels, more than {MAX_SQUARE_PX / 1e6:.1f}; ask for a smaller picture of the bounds' proportions",
        )
    if not _touches(window, source):
        raise HTTPException(404, "the window lies outside the imagery; tilejson.json has the bounds")
    return window


def _bounds(text: str) -> Bounds:
    try:
        west, south, east, north = map(float, text.split(","))
    except ValueError:
        raise HTTPException(422, "bounds: not four numbers; give west,south,east,north") from None
    bounds = Bounds(west, south, east, north)
    if not all(isfinite(value) and abs(value) <= MAX_COORDINATE for value in bounds):
        raise HTTPException(422, "bounds: nowhere on earth; give west,south,east,north in units of the CRS")
    if not (west < east and south < north):
        raise HTTPException(
            422, "bounds: nothing between them; give west,south,east,north, west < east and south < north"
        )
    return bounds


def _check_crs(name: str) -> None:
    if not CRS_CODE.fullmatch(name):
        raise HTTPException(422, "crs: not a code; give one such as EPSG:32632")
    try:
        crs = crs_named(name)
    except TilesError as error:
        raise HTTPException(422, str(error)) from None
    if not (crs.is_geographic or crs.is_projected):
        raise HTTPException(422, f"crs: {name} is not one of maps; give a geographic or a projected one")


def _square_px(window: Window) -> float:
    """How many pixels a window is read from: oblong ones are made of squares of their shorter side."""
    height, width = window.shape
    across, down = window.bounds.width / width, window.bounds.height / height
    return width * height * max(across, down) / min(across, down)


def _touches(window: Window, source: Source) -> bool:
    place = window.where(source.bounds, source.crs)
    return place is not None and all(start < 1 and stop > 0 for start, stop in place)
