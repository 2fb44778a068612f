"""Tiles that a server holds: URL templates (XYZ and TMS) and TileJSON."""

import hashlib
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from tiles import fetch
from tiles.bounds import Bounds
from tiles.errors import TilesError
from tiles.geo import transform_bounds
from tiles.store import Level, mercator_level
from tiles.uri import check_options, check_url, redacted

DEFAULT_ZOOMS = range(20)
MAX_ZOOM = 30
FRESH_S = 7 * 86400.0  # tiles without a word of how long they last; OpenStreetMap asks for as much
WORLD = Bounds(-180.0, -90.0, 180.0, 90.0)
MERCATOR_LIMIT = 85.0511287798066  # degrees, where Web Mercator's square ends
SUBDOMAINS = "abc"
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(eq=False)
class WebTiles:
    """Tiles of a server; see `TileStore`.

    templates: URLs with {z}, {x} and {y}, or {-y} for rows counted from the south; tiles are spread over them.
    names: what the server calls a level, where it is not the level's key. A tile the server does not have (HTTP
    204, 404, 410) is None.
    """

    templates: tuple[str, ...]
    levels: tuple[Level, ...]
    bounds: Bounds
    crs: str = "EPSG:3857"
    attribution: str = ""
    padded: bool = True
    names: Mapping[int, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"WebTiles({redacted(self.templates[0])!r})"

    def get(self, level: Level, col: int, row: int) -> bytes | None:
        """See `TileStore.get`."""
        return fetch.get(self._url(level, col, row), fresh_s=FRESH_S)

    def describe(self, level: Level, col: int, row: int) -> str:
        """See `TileStore.describe`."""
        return redacted(self._url(level, col, row))

    def close(self) -> None:
        """Connections are the process's, and are dropped when idle."""

    def _url(self, level: Level, col: int, row: int) -> str:
        values = {
            "z": quote(self.names.get(level.key, str(level.key)), safe=":"),
            "x": str(col),
            "y": str(row),
            "-y": str(2**level.key - 1 - row),
        }
        template = self.templates[(col + row) % len(self.templates)]
        return PLACEHOLDER.sub(lambda match: values[match[1]], template)


def open_template(template: str, options: Mapping[str, str]) -> WebTiles:
    """Web Mercator tiles by a URL template; asks the server nothing yet.

    Options: `zooms=0-19` (what is assumed), `px=512` (256 is assumed, 512 for a template with @2x). {s} stands for
    a, b and c; WMTS's {TileMatrix}, {TileCol} and {TileRow} will do, where its grid is Web Mercator's. Raises
    TilesError for a template or options that are none.
    """
    check_options(template, options, ("zooms", "px"))
    for wmts, xyz in (("{TileMatrix}", "{z}"), ("{TileCol}", "{x}"), ("{TileRow}", "{y}")):
        template = template.replace(wmts, xyz)
    zooms = _zooms(template, options["zooms"]) if "zooms" in options else DEFAULT_ZOOMS
    px = _px(template, options.get("px", "512" if "@2x" in template else "256"))
    templates = [template.replace("{s}", s) for s in SUBDOMAINS] if "{s}" in template else [template]
    return _mercator_tiles(templates, zooms, px)


def open_tilejson(url: str, options: Mapping[str, str]) -> WebTiles:
    """The tiles that a TileJSON document describes. Option: `px=512` (256 is assumed, where it does not say).

    Raises TilesError for a document that cannot be fetched, is no TileJSON or describes vector tiles.
    """
    check_options(url, options, ("px",))
    found = _json(url)
    templates = found.get("tiles") if isinstance(found, dict) else None
    if not (isinstance(templates, list) and templates and all(isinstance(t, str) for t in templates)):
        raise TilesError(f"{redacted(url)}: not a TileJSON, for it names no tiles; check the URL")
    if found.get("vector_layers") or found.get("format") == "pbf":
        raise TilesError(f"{redacted(url)}: describes vector tiles; give imagery, as PNG, JPEG or WebP tiles")
    templates = [urljoin(url, template) for template in templates]
    if found.get("scheme") == "tms":
        templates = [template.replace("{y}", "{-y}") for template in templates]
    try:
        zooms = range(int(found.get("minzoom", 0)), int(found.get("maxzoom", DEFAULT_ZOOMS[-1])) + 1)
        px = int(options.get("px") or found.get("tileSize") or (512 if "@2x" in templates[0] else 256))
        bounds = [float(degrees) for degrees in found.get("bounds") or (-180, -90, 180, 90)]
        west, south, east, north = bounds
        if not (west < east and south < north):
            raise ValueError
    except (ValueError, TypeError):
        raise TilesError(
            f"{redacted(url)}: this TileJSON's zooms, tileSize or bounds make no sense; have it corrected"
        ) from None
    return _mercator_tiles(
        templates,
        _zooms(url, f"{zooms.start}-{zooms.stop - 1}"),
        _px(url, str(px)),
        degrees=Bounds(west, south, east, north),
        attribution=_plain(str(found.get("attribution") or "")),
    )


def _mercator_tiles(
    templates: list[str], zooms: range, px: int, *, degrees: Bounds = WORLD, attribution: str = ""
) -> WebTiles:
    for template in templates:
        check_template(template)
    worlds = [
        mercator_level(zoom, px=px, cols=range(2**zoom), rows=range(2**zoom)) for zoom in reversed(zooms)
    ]
    levels = tuple(limited(level, within(degrees, level, "EPSG:3857")) for level in worlds)
    bounds = within(degrees, worlds[0], "EPSG:3857")
    return WebTiles(tuple(templates), levels, bounds, attribution=attribution)


def within(degrees: Bounds, level: Level, crs: str) -> Bounds:
    """A rectangle of degrees in a CRS, cut to what a level's tiles reach over."""
    limit = MERCATOR_LIMIT if crs == "EPSG:3857" else 90.0
    clipped = Bounds(degrees.west, max(degrees.south, -limit), degrees.east, min(degrees.north, limit))
    box, reach = transform_bounds(clipped, "EPSG:4326", crs), level.bounds
    if box is None or not box.intersects(reach):
        return reach
    return Bounds(
        max(box.west, reach.west),
        max(box.south, reach.south),
        min(box.east, reach.east),
        min(box.north, reach.north),
    )


def limited(level: Level, bounds: Bounds) -> Level:
    """A level with those of its tiles that touch a rectangle of its CRS, by more than rounding."""
    west, south, east, north = bounds
    little = 1e-6 * level.side
    cols, rows = level.touching(Bounds(west + little, south + little, east - little, north - little))
    return replace(level, cols=cols, rows=rows)


def check_template(template: str) -> None:
    """Raises TilesError for a template that does not make http(s) URLs of tiles."""
    check_url(template)
    placeholders = set(PLACEHOLDER.findall(template))
    if urlsplit(template).scheme not in ("http", "https"):
        raise TilesError(f"{redacted(template)}: tiles are fetched by http or https; check the template")
    if not ({"z", "x"} <= placeholders and placeholders - {"z", "x"} in ({"y"}, {"-y"})):
        raise TilesError(
            f"{redacted(template)}: not a template of tiles; write {{z}}, {{x}} and {{y}} (or {{-y}}), and no other"
        )


def _zooms(name: str, text: str) -> range:
    match = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", text)
    zooms = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
    if not zooms or zooms[-1] > MAX_ZOOM:
        raise TilesError(f"{redacted(name)}: the zooms {text} are none; write zooms=0-19, at most {MAX_ZOOM}")
    return zooms


def _px(name: str, text: str) -> int:
    if text not in ("256", "512", "1024"):
        raise TilesError(f"{redacted(name)}: tiles of {text} px are unknown; write px=256, px=512 or px=1024")
    return int(text)


def _json(url: str) -> Any:
    body = fetch.get(url, fresh_s=0.0, document=True)
    if body is None:
        raise TilesError(f"{redacted(url)}: nothing there (HTTP 404 or empty); check the URL")
    try:
        return json.loads(body)
    except ValueError:
        raise TilesError(
            f"{redacted(url)}: not JSON, maybe a sign-in or an error page; check the URL"
        ) from None


def _plain(markup: str) -> str:
    """An attribution without its links."""
    return html.unescape(re.sub(r"<[^>]*>", "", markup)).strip()


class RemoteFile:
    """Parts of a file on a server that answers range requests; see `tiles.pmtiles.ByteRanges`.

    Parts are kept on disk for the version of the file they are of, which its beginning tells.
    """

    def __init__(self, url: str) -> None:
        self.name = redacted(url)
        self._url = url
        self._version = ""

    def __repr__(self) -> str:
        return f"RemoteFile({self.name!r})"

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes, fewer where the file ends. Raises TilesError where they cannot be fetched."""
        fresh_s = FRESH_S if offset else 0.0
        part = fetch.get(self._url, fresh_s=fresh_s, span=(offset, length), version=self._version)
        if part is None:
            raise TilesError(f"{self.name}: no such file on the server; check the URL")
        if offset == 0:
            self._version = hashlib.sha256(part).hexdigest()
        return part

    def close(self) -> None:
        """Connections are the process's, and are dropped when idle."""
