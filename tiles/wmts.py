"""WMTS: tiles of a server that describes its grids, in any CRS, by an XML document (OGC 07-057r7, version 1.0.0)."""

import re
from collections.abc import Mapping
from math import pi
from typing import NamedTuple
from urllib.parse import quote, urljoin
from xml.etree import ElementTree

from tiles import fetch
from tiles.bounds import Bounds
from tiles.errors import TilesError
from tiles.geo import crs_named, transform_bounds
from tiles.store import Level
from tiles.uri import check_options, redacted
from tiles.web import WORLD, WebTiles, check_template, limited, within

OPTIONS = ("layer", "matrix_set", "style", "format")
PIXEL_M = 0.00028  # that scale denominators count with
DEGREE_M = 6378137 * pi / 180
XLINK = "{http://www.w3.org/1999/xlink}href"

Element = ElementTree.Element


class _Grid(NamedTuple):
    """A tile matrix set. matrices: (identifier, level), coarsest first."""

    crs: str
    matrices: list[tuple[str, Level]]


def open_wmts(url: str, options: Mapping[str, str]) -> WebTiles:
    """The tiles of one layer of a WMTS, by the URL of its capabilities.

    Options: `layer`, needed where there are several; `matrix_set` and `format`, else the first the layer has;
    `style`, else the default. Other dimensions, such as time, have their default. Raises TilesError for a document
    that cannot be fetched or is no WMTS, and for options it does not have.
    """
    check_options(url, options, OPTIONS)
    root = _document(url)
    try:
        return _tiles(root, url, options)
    except (AttributeError, ValueError, LookupError, ZeroDivisionError) as error:
        raise TilesError(
            f"{redacted(url)}: this WMTS does not describe its tiles as it must ({error})"
        ) from None


def _document(url: str) -> Element:
    body = fetch.get(url, fresh_s=0.0, document=True)
    if body is None:
        raise TilesError(f"{redacted(url)}: nothing there (HTTP 404 or empty); check the URL")
    if b"<!ENTITY" in body:
        raise TilesError(f"{redacted(url)}: XML with entities of its own is refused; check the URL")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        root = Element("none")
    if root.find("{*}Contents/{*}TileMatrixSet") is None:
        raise TilesError(
            f"{redacted(url)}: not the capabilities of a WMTS; give the URL of its GetCapabilities"
        )
    return root


def _tiles(root: Element, url: str, options: Mapping[str, str]) -> WebTiles:
    layers = {_text(layer, "Identifier"): layer for layer in root.findall("{*}Contents/{*}Layer")}
    if "layer" not in options and len(layers) > 1:
        raise TilesError(f"{redacted(url)}: has several layers; name one, #layer=...: {_some(layers)}")
    layer = layers[_chosen(url, options, "layer", list(layers))]
    box = _degrees(layer)
    linked = {_text(link, "TileMatrixSet"): link for link in layer.findall("{*}TileMatrixSetLink")}
    matrix_set = _chosen(url, options, "matrix_set", list(linked))
    grid = _grid(root, matrix_set, box)
    template = _template(root, layer, url, options, matrix_set)
    check_template(template)
    levels = [_limited(level, name, linked[matrix_set], box, grid.crs) for name, level in grid.matrices]
    finest = levels[-1]
    return WebTiles(
        templates=(template,),
        levels=tuple(reversed(levels)),
        bounds=within(box or WORLD, finest, grid.crs),
        crs=grid.crs,
        attribution=root.findtext("{*}ServiceProvider/{*}ProviderName") or "",
        names={level.key: name for name, level in grid.matrices},
    )


def _grid(root: Element, matrix_set: str, box: Bounds | None) -> _Grid:
    sets = {_text(element, "Identifier"): element for element in root.findall("{*}Contents/{*}TileMatrixSet")}
    crs = _crs(_text(sets[matrix_set], "SupportedCRS"))
    matrices = sets[matrix_set].findall("{*}TileMatrix")
    matrices.sort(key=lambda matrix: -float(_text(matrix, "ScaleDenominator")))
    north_first = crs_named(crs).axis_info[0].direction == "north"
    levels = _levels(matrices, crs, north_first=north_first)
    # Some servers write x, y where the CRS says y, x: then nothing of the layer is on the grid as described.
    shown = transform_bounds(box, "EPSG:4326", crs) if box else None
    if shown and not levels[-1].bounds.intersects(shown):
        swapped = _levels(matrices, crs, north_first=not north_first)
        if swapped[-1].bounds.intersects(shown):
            levels = swapped
    return _Grid(crs, [(_text(m, "Identifier"), level) for m, level in zip(matrices, levels, strict=True)])


def _levels(matrices: list[Element], crs: str, *, north_first: bool) -> list[Level]:
    return [_level(i, matrix, crs, north_first=north_first) for i, matrix in enumerate(matrices)]


def _level(key: int, matrix: Element, crs: str, *, north_first: bool) -> Level:
    px, height_px = int(_text(matrix, "TileWidth")), int(_text(matrix, "TileHeight"))
    if px != height_px or px < 1:
        raise ValueError(f"tiles of {px} x {height_px} px are not square")
    first, second = map(float, _text(matrix, "TopLeftCorner").split())
    named = crs_named(crs)
    unit_m = DEGREE_M if named.is_geographic else named.axis_info[0].unit_conversion_factor
    return Level(
        key=key,
        north_west=(second, first) if north_first else (first, second),
        side=px * float(_text(matrix, "ScaleDenominator")) * PIXEL_M / unit_m,
        px=px,
        cols=range(int(_text(matrix, "MatrixWidth"))),
        rows=range(int(_text(matrix, "MatrixHeight"))),
    )


def _limited(level: Level, name: str, link: Element, box: Bounds | None, crs: str) -> Level:
    """A level with those tiles the layer has."""
    for limits in link.findall("{*}TileMatrixSetLimits/{*}TileMatrixLimits"):
        if _text(limits, "TileMatrix") == name:
            first_col, last_col, first_row, last_row = (
                int(_text(limits, key)) for key in ("MinTileCol", "MaxTileCol", "MinTileRow", "MaxTileRow")
            )
            reach = level.around(range(first_col, last_col + 1), range(first_row, last_row + 1))
            return limited(level, reach)
    return limited(level, within(box, level, crs)) if box else level


def _template(root: Element, layer: Element, url: str, options: Mapping[str, str], matrix_set: str) -> str:
    """The layer's URL with {z}, {x} and {y}."""
    styles = [_text(style, "Identifier") for style in layer.findall("{*}Style[@isDefault='true']")]
    styles += [style.findtext("{*}Identifier") or "" for style in layer.findall("{*}Style")]
    values = {"style": _chosen(url, options, "style", styles or [""]), "tilematrixset": matrix_set}
    for dimension in layer.findall("{*}Dimension"):
        default = dimension.findtext("{*}Default") or dimension.findall("{*}Value")[-1].text
        values[_text(dimension, "Identifier").lower()] = default or ""
    resources = layer.findall("{*}ResourceURL[@resourceType='tile']")
    by_format = {resource.get("format", ""): resource.get("template", "") for resource in reversed(resources)}
    formats = list(reversed(by_format)) or [element.text or "" for element in layer.findall("{*}Format")]
    chosen = _chosen(
        url, options, "format", [name for name in formats if name.startswith("image/")] or formats
    )
    template = by_format.get(chosen) or _by_query(root, _text(layer, "Identifier"), chosen, values)
    names = {"tilematrix": "{z}", "tilerow": "{y}", "tilecol": "{x}"}
    names |= {key: quote(value, safe=":") for key, value in values.items()}
    filled = re.sub(r"\{(\w+)\}", lambda match: names.get(match[1].lower(), match[0]), template)
    return urljoin(url, filled)


def _by_query(root: Element, layer: str, image: str, values: Mapping[str, str]) -> str:
    """A template of GetTile requests, for a server without RESTful URLs."""
    get = root.find("{*}OperationsMetadata/{*}Operation[@name='GetTile']/{*}DCP/{*}HTTP/{*}Get")
    if get is None:
        raise ValueError("no URL of tiles")
    address = get.get(XLINK, "")
    query = {"SERVICE": "WMTS", "REQUEST": "GetTile", "VERSION": "1.0.0", "LAYER": layer, "FORMAT": image}
    fixed = "&".join(
        f"{key}={quote(value, safe='/:')}"
        for key, value in (query | {k.upper(): values[k] for k in values}).items()
    )
    joint = "" if address.endswith(("?", "&")) else "&" if "?" in address else "?"
    return f"{address}{joint}{fixed}&TILEMATRIX={{TileMatrix}}&TILEROW={{TileRow}}&TILECOL={{TileCol}}"


def _chosen(url: str, options: Mapping[str, str], key: str, there: list[str]) -> str:
    """The value of an option, or the first there is."""
    if not there:
        raise ValueError(f"no {key}")
    if key in options and options[key] not in there:
        raise TilesError(f"{redacted(url)}: has no {key} {options[key]!r}; it has {_some(there)}")
    return options.get(key, there[0])


def _some(names: Mapping[str, object] | list[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _degrees(layer: Element) -> Bounds | None:
    """What the layer shows, in degrees, where it says so."""
    box = layer.find("{*}WGS84BoundingBox")
    if box is None:
        return None
    west, south = map(float, _text(box, "LowerCorner").split())
    east, north = map(float, _text(box, "UpperCorner").split())
    return Bounds(west, south, east, north) if west < east and south < north else None


def _crs(name: str) -> str:
    """The usual name of a CRS: a WMTS has it as urn:ogc:def:crs:EPSG::25832 or in other ways."""
    if "CRS84" in name:
        return "OGC:CRS84"
    match = re.search(r"EPSG.*?(\d+)$", name)
    code = "3857" if match and match[1] == "900913" else match[1] if match else None
    crs = f"EPSG:{code}" if code else name
    crs_named(crs)
    return crs


def _text(element: Element, tag: str) -> str:
    text = element.findtext(f"{{*}}{tag}")
    if not (text and text.strip()):
        raise ValueError(f"{element.tag.rpartition('}')[2]} without {tag}")
    return text.strip()
