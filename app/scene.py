"""What the map shows, as plain data for its program in the browser. Points are [lat, lon] in WGS 84 degrees."""

import math
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pyproj import Transformer

from app.locating import Clues, Given, share
from app.resources import SOURCE
from tiles import Pyramid
from tiles.server.mercator import extent
from zoomloc.figure import heat
from zoomloc.outputs import error_m
from zoomloc.prediction import Prediction
from zoomloc.region import Region

HEAT_PX = 512
THUMBNAIL_PX = 480
VIEW_PX = 256
# Of the coverage, red, green, blue, alpha: where there is imagery, and in turn where there is none.
COVERED, BLANK, BETWEEN = (0, 114, 178, 70), (213, 94, 0, 255), (255, 255, 255, 200)
HATCH_PX = 12
VEIL = 0.45  # of black, under the heat layer


def of_region(region: Region, pyramid: Pyramid, server: str) -> dict[str, Any]:
    """The map alone."""
    where = extent(pyramid.source)
    return {
        "tiles": f"{server}/{SOURCE}/{{z}}/{{x}}/{{y}}.webp",
        "static": f"{server}/static",
        "min_zoom": where.min_zoom,
        "max_zoom": where.max_zoom,
        "attribution": pyramid.source.attribution or region.attribution,
        "region": {"name": region.name, "ring": ring(region, ())},
        "branch": region.branch,
        "sides_m": [region.grid.side_m(level) for level in range(region.depth + 1)],
    }


def of_answer(
    given: Given,
    prediction: Prediction,
    path: Sequence[int],
    *,
    region: Region,
    server: str,
    reach: float,
    clues: Clues,
) -> dict[str, Any]:
    """What is said of a photo. path: of the cell to look into. reach: what the model sees of a cell, in its sides."""
    photo = given.photo
    truth = (
        None if photo.lat is None else {"at": [photo.lat, photo.lon], "away_m": error_m(photo, prediction)}
    )
    return {
        "photo": {"key": given.key, "name": given.name, "picture": thumbnail(photo.pixels)},
        "answer": {
            "at": [prediction.lat, prediction.lon],
            "radius_50_m": _number(prediction.radius_50_m),
            "radius_90_m": _number(prediction.radius_90_m),
            "heading_deg": prediction.heading_deg,
            "located": prediction.located,
        },
        "radius_m": prediction.radius_m,
        "places": [{"at": [p.lat, p.lon], "probability": p.probability} for p in prediction.places],
        "truth": truth,
        "path": list(path),
        "answer_path": list(prediction.path),
        "cells": [_cell(prediction, path[:level], region) for level in range(len(path) + 1)],
        "views": [
            _view(prediction, path, level, region, server, reach)
            for level in range(min(len(path), region.depth - 1) + 1)
        ],
        "heat": None if prediction.posterior is None else _heat(prediction.posterior, region),
        "area": _numbers(clues.area, 4),
        "circle": _numbers(clues.circle, 3),
    }


def ring(region: Region, path: Sequence[int]) -> list[list[float]]:
    """The outline of a cell."""
    polygon = region.grid.polygon(region.grid.cell(tuple(path)))
    return [[round(lat, 7), round(lon, 7)] for lon, lat in polygon.exterior.coords]


def _cell(prediction: Prediction, path: Sequence[int], region: Region) -> dict[str, Any]:
    posterior = prediction.posterior
    return {
        "ring": ring(region, path),
        "share": None if posterior is None else share(posterior, region.grid, path),
    }


def _view(
    prediction: Prediction, path: Sequence[int], level: int, region: Region, server: str, reach: float
) -> dict[str, Any]:
    """What the model saw of a cell on the path, and how likely each of its children is."""
    grid, here = region.grid, tuple(path[:level])
    posterior, side_m = prediction.posterior, grid.side_m(level)
    west, south, east, north = grid.bounds(grid.cell(here))
    rim_m = side_m * (reach - 1) / 2
    bounds = f"{west - rim_m},{south - rim_m},{east + rim_m},{north + rim_m}"
    children = range(grid.branch**2)
    return {
        "picture": f"{server}/{SOURCE}/window?bounds={bounds}&crs={region.crs}&width={VIEW_PX}&format=webp",
        "path": list(here),
        "side_m": side_m,
        "rim": (reach - 1) / 2 / reach,
        "chosen": path[level] if level < len(path) else None,
        "shares": None if posterior is None else [share(posterior, grid, (*here, k)) for k in children],
    }


def _heat(posterior: NDArray[np.float32], region: Region) -> dict[str, Any]:
    """The posterior as a picture in Web Mercator, and its bounds [[south, west], [north, east]]."""
    return _overlay(_veiled(heat(posterior, region.branch, at_most_px=HEAT_PX)), region)


def _veiled(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours (n, n, 4) RGBA over a dark veil, so that without any hue, too, the likelier is the brighter."""
    alpha = colours[..., 3:] / 255
    both = alpha + VEIL * (1 - alpha)
    veiled = np.concatenate([colours[..., :3] * alpha / both, 255 * both], axis=-1)
    return veiled.round().astype(np.uint8)


def coverage(mask: NDArray[np.bool_], region: Region) -> dict[str, Any]:
    """Where there is imagery, (n, n) over the square, as a picture likewise: blue, and hatched where there is none."""
    rows, cols = np.indices(mask.shape)
    colours = np.full((*mask.shape, 4), BETWEEN)
    colours[(rows + cols) % HATCH_PX < HATCH_PX // 3] = BLANK
    colours[mask] = COVERED
    return _overlay(colours, region)


def _overlay(colours: NDArray[Any], region: Region) -> dict[str, Any]:
    """Colours (n, n, 4) over the square as a picture in Web Mercator, and its bounds [[south, west], [north, east]]."""
    rows, cols, inside, bounds = _mercator(region)
    picture = (
        colours[(rows * len(colours)).astype(int), (cols * len(colours)).astype(int)] * inside[..., None]
    )
    return {"picture": _data_uri(Image.fromarray(picture.astype(np.uint8)), "PNG"), "bounds": bounds}


@lru_cache(maxsize=16)
def _mercator(region: Region) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], Any]:
    """For every pixel of a picture in Web Mercator: where in the square it lies, (rows, cols) in 0..1 from the
    north-west, and whether it does; and the picture's bounds."""
    lats, lons = np.array(ring(region, ())).T
    to_mercator = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    (west, east), (south, north) = to_mercator.transform([lons.min(), lons.max()], [lats.min(), lats.max()])
    steps = (np.arange(HEAT_PX) + 0.5) / HEAT_PX
    x, y = np.meshgrid(west + steps * (east - west), north - steps * (north - south))
    x, y = Transformer.from_crs("EPSG:3857", region.crs, always_xy=True).transform(x, y)
    cols, rows = (x - region.north_west[0]) / region.size_m, (region.north_west[1] - y) / region.size_m
    inside = (cols >= 0) & (cols < 1) & (rows >= 0) & (rows < 1)
    bounds = [[float(lats.min()), float(lons.min())], [float(lats.max()), float(lons.max())]]
    return rows.clip(0, 1 - 1e-9), cols.clip(0, 1 - 1e-9), inside, bounds


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """A small picture of a photo as a data URI."""
    small = Image.fromarray(pixels)
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return _data_uri(small, "JPEG", quality=80)


def _data_uri(image: Image.Image, kind: str, **options: int) -> str:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{b64encode(buffer.getvalue()).decode()}"


def _numbers(text: str, count: int) -> list[float] | None:
    """The numbers of a clue, None where it is none (yet)."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
