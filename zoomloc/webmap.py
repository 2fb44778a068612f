"""A map of answers: one HTML file that holds its imagery, its photos and its program, and works without network."""

import html
import json
import math
import re
from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiles import Bounds, Pyramid
from zoomloc.figure import checkered, heat
from zoomloc.files import atomic
from zoomloc.outputs import error_m
from zoomloc.photo import Photo
from zoomloc.prediction import Prediction
from zoomloc.region import Region

IMAGERY_PX = 2560  # a side of the whole region
DETAIL_PX = 384  # a side of a view on a zoom path
THUMBNAIL_PX = 320
HEAT_PX = 256


def write(
    path: str | Path,
    *,
    region: Region,
    pyramid: Pyramid,
    photos: Sequence[Photo],
    predictions: Sequence[Prediction],
    failures: Sequence[tuple[str, str]] = (),
) -> None:
    """Writes the map of photos and their predictions (in the same order), whole or not at all.

    failures: (photo, reason) of photos that got no prediction. Raises OutputError.
    """
    ground = pyramid.view(*region.grid.root, IMAGERY_PX)
    pairs = sorted(zip(photos, predictions, strict=True), key=lambda pair: -pair[1].probability)
    data = {
        "region": region.name,
        "attribution": f"Imagery: {region.attribution}",
        "size_m": region.size_m,
        "leaf_m": region.grid.leaf_m,
        "branch": region.branch,
        "imagery": jpeg(checkered(ground)),
        "gaps": not bool(ground.mask.all()),
        "summary": _summary(pairs),
        "photos": [_photo(photo, prediction, region, pyramid) for photo, prediction in pairs],
        "failures": [{"photo": photo, "error": reason} for photo, reason in failures],
    }
    template = (files("zoomloc") / "assets" / "map.html").read_text(encoding="utf-8")
    text = page(template, f"ZoomLoc · {region.name}", data)
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8")


def page(template: str, title: str, data: dict[str, Any]) -> str:
    """A template with {{title}}, {{leaflet_css}}, {{leaflet_js}} and {{data}} filled in.

    Data is JSON in which no `<` can end its script element.
    """
    leaflet = files("tiles") / "assets" / "leaflet"
    css = (leaflet / "leaflet.css").read_text(encoding="utf-8")
    parts = {
        "title": html.escape(title),
        "leaflet_css": re.sub(r"[\w-]+:\s*url\([^)]*\);?", "", css),  # pictures of controls not used here
        "leaflet_js": (leaflet / "leaflet.js").read_text(encoding="utf-8"),
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _summary(pairs: Sequence[tuple[Photo, Prediction]]) -> str:
    errors = [error for pair in pairs if (error := error_m(*pair)) is not None]
    count = f"{len(pairs)} photo{'' if len(pairs) == 1 else 's'}, the surest first"
    if not errors:
        return count
    near = sum(error <= 50 for error in errors)
    return f"{count}. {near} of {len(errors)} within 50 m of the true place, median {median(errors):.0f} m."


def _photo(photo: Photo, prediction: Prediction, region: Region, pyramid: Pyramid) -> dict[str, Any]:
    """What the page knows of one photo. Points are [north, east] in metres from the square's south-west."""
    truth = None if photo.lat is None or photo.lon is None else local(photo.lat, photo.lon, region)
    return {
        "name": prediction.photo,
        "lat": prediction.lat,
        "lon": prediction.lon,
        "probability": float(prediction.probability),
        "radius_50_m": _known(prediction.radius_50_m),
        "radius_90_m": _known(prediction.radius_90_m),
        "area_50_m2": _known(prediction.area_50_m2),
        "area_90_m2": _known(prediction.area_90_m2),
        "radius_m": prediction.radius_m,
        "not_here": prediction.not_here,
        "unexpanded": prediction.unexpanded,
        "error_m": error_m(photo, prediction),
        "answer": local(prediction.lat, prediction.lon, region),
        "truth": truth,
        "places": [
            {"at": local(place.lat, place.lon, region), "probability": float(place.probability)}
            for place in prediction.places
        ],
        "cells": _cells(prediction, region),
        "details": _details(prediction, region, pyramid),
        "heat": None if prediction.posterior is None else _heat(prediction.posterior, region.branch),
        "thumbnail": _thumbnail(photo),
    }


def _cells(prediction: Prediction, region: Region) -> list[dict[str, Any]]:
    """The zoom path, from the whole region to the leaf."""
    cells = [region.grid.cell(prediction.path[:level]) for level in range(len(prediction.path) + 1)]
    return [
        {"bounds": _corners(region.grid.bounds(cell), region), "side_m": region.grid.side_m(cell.level)}
        for cell in cells
    ]


def _details(prediction: Prediction, region: Region, pyramid: Pyramid) -> list[dict[str, Any]]:
    """The views of the zoom path that are sharper than the picture of the whole region."""
    grid = region.grid
    cells = [grid.cell(prediction.path[:level]) for level in range(1, len(prediction.path))]
    return [
        {
            "image": jpeg(checkered(pyramid.view(*cell, DETAIL_PX))),
            "bounds": _corners(grid.bounds(cell), region),
        }
        for cell in cells
        if grid.side_m(cell.level) / DETAIL_PX < grid.size_m / IMAGERY_PX
    ]


def _corners(bounds: Bounds, region: Region) -> list[list[float]]:
    west, south = region.north_west[0], region.north_west[1] - region.size_m
    return [[bounds.south - south, bounds.west - west], [bounds.north - south, bounds.east - west]]


def local(lat: float, lon: float, region: Region) -> list[float]:
    x, y = region.grid.project(lat, lon)
    return [y - (region.north_west[1] - region.size_m), x - region.north_west[0]]


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


# --- pictures as text


def jpeg(pixels: NDArray[np.uint8]) -> str:
    """A picture (h, w, 3) as a data URI."""
    return _data_uri(Image.fromarray(pixels), "JPEG", quality=80)


def _thumbnail(photo: Photo) -> str:
    small = Image.fromarray(photo.pixels)
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return _data_uri(small, "JPEG", quality=75)


def _heat(posterior: NDArray[np.float32], branch: int) -> str:
    return _data_uri(Image.fromarray(heat(posterior, branch, at_most_px=HEAT_PX)), "PNG")


def _data_uri(image: Image.Image, kind: str, **options: int) -> str:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{b64encode(buffer.getvalue()).decode()}"
