"""The report of a batch: one page that holds its maps, pictures and program, and works without a network."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiles import Bounds, Pyramid
from zoomloc import video
from zoomloc.errors import PhotoError
from zoomloc.figure import checkered
from zoomloc.files import atomic
from zoomloc.photo import Photo, load
from zoomloc.progress import progress
from zoomloc.region import Region
from zoomloc.rows import STATUSES, Row
from zoomloc.webmap import jpeg, local, page

MAP_PX = 1600  # a side of the map of a region
CARD_PX = 260  # the larger side of a photo, and a side of the ground beside it, on a card
CARDS = 8  # of each kind
BINS = 20  # of the histogram
MAX_POINTS = 20_000  # on all maps: more are no longer told apart, and make pages that open slowly
MAX_NAMES = 100  # of failures, for each reason
AROUND_M = 60.0  # shown around an answer to each side
NEAR_M = 50  # what counts as right beside the photo's own position


class Place(NamedTuple):
    """A region and its imagery."""

    region: Region
    pyramid: Pyramid


def write(path: str | Path, rows: Sequence[Row], places: Sequence[Place], *, min_confidence: float) -> None:
    """Writes the report of rows, whole or not at all; their photos are read again for the pictures.

    Raises OutputError.
    """
    by_name = {place.region.name: place for place in places}
    data = {
        "summary": _summary(rows),
        "min_confidence": min_confidence,
        "histogram": _histogram(rows),
        "regions": [_map(place) for place in places],
        "points": _points(rows, by_name),
        "sheets": _sheets(rows, by_name),
        "failures": _failures(rows),
        "near_m": NEAR_M,
        "model": next((row.model for row in rows if row.model), None),
    }
    template = (files("zoomloc") / "assets" / "report.html").read_text(encoding="utf-8")
    with atomic(path) as draft:
        draft.write_text(page(template, f"ZoomLoc · {len(rows)} photos", data), encoding="utf-8")


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts, and how far answers are from the photos' own positions where there are any."""
    distances = [row.exif_distance_m for row in rows if row.exif_distance_m is not None]
    confidences = [row.confidence for row in rows if row.confidence is not None]
    return {
        "n": len(rows),
        "by_status": {status: sum(row.status == status for row in rows) for status in STATUSES},
        "median_confidence": median(confidences) if confidences else None,
        "n_measured": len(distances),
        "median_m": median(distances) if distances else None,
        "near": sum(distance <= NEAR_M for distance in distances),
    }


def _histogram(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Photos by confidence in BINS steps, for each status that has one."""
    found = {}
    for status in ("located", "uncertain", "outside"):
        values = [row.confidence for row in rows if row.status == status and row.confidence is not None]
        found[status] = np.histogram(values, BINS, (0, 1))[0].tolist()
    return found


def _map(place: Place) -> dict[str, Any]:
    region = place.region
    return {
        "name": region.name,
        "size_m": region.size_m,
        "imagery": jpeg(checkered(place.pyramid.view(*region.grid.root, MAP_PX))),
        "attribution": f"Imagery: {place.pyramid.source.attribution or region.attribution}",
    }


def _points(rows: Sequence[Row], places: Mapping[str, Place]) -> list[dict[str, Any]]:
    """The answers, as many as a map can show: evenly from all."""
    placed = [
        (row, places[row.region])
        for row in rows
        if row.region and row.region in places and row.lat is not None
    ]
    step = -(-len(placed) // MAX_POINTS) or 1
    return [_facts(row) | {"at": _at(row, place.region)} for row, place in placed[::step]]


def _at(row: Row, region: Region) -> list[float]:
    assert row.lat is not None and row.lon is not None
    return [round(value, 1) for value in local(row.lat, row.lon, region)]


def _facts(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "status": row.status,
        "region": row.region,
        "lat": row.lat,
        "lon": row.lon,
        "confidence": row.confidence,
        "not_here": row.not_here,
        "radius_50_m": row.radius_50_m,
        "radius_90_m": row.radius_90_m,
        "heading_deg": row.heading_deg,
        "exif_distance_m": row.exif_distance_m,
    }


# --- the contact sheet


def _sheets(rows: Sequence[Row], places: Mapping[str, Place]) -> list[dict[str, Any]]:
    """Photos worth a look, beside the ground they were put on."""
    chosen = _chosen(rows)
    drawn = list(dict.fromkeys(row for _, _, some in chosen for row in some))
    with ThreadPoolExecutor() as pool:
        cards = pool.map(lambda row: _card(row, places), drawn)
        by_row = dict(zip(drawn, progress(cards, "drawing the report", len(drawn)), strict=True))
    return [
        {"title": title, "what": what, "cards": [by_row[row] for row in some]} for title, what, some in chosen
    ]


def _chosen(rows: Sequence[Row]) -> list[tuple[str, str, list[Row]]]:
    """(title, what they are, rows) of every sheet that has any."""
    located = [row for row in rows if row.status == "located"]
    measured = [row for row in rows if row.exif_distance_m is not None]
    unsure = [row for row in rows if row.status == "uncertain"]
    outside = [row for row in rows if row.status == "outside"]
    sheets = [
        (
            "Surest",
            "located with the highest confidence",
            _first(located, lambda row: -(row.confidence or 0)),
        ),
        (
            "Worst",
            "farthest from the position in their own EXIF",
            _first(measured, lambda row: -(row.exif_distance_m or 0)),
        ),
        (
            "Least sure",
            "uncertain, with the lowest confidence",
            _first(unsure, lambda row: row.confidence or 0),
        ),
        ("Elsewhere", "held to be in none of the regions", _first(outside, lambda row: -(row.not_here or 0))),
    ]
    return [sheet for sheet in sheets if sheet[2]]


def _first(rows: Iterable[Row], key: Any) -> list[Row]:
    return sorted(rows, key=key)[:CARDS]


def _card(row: Row, places: Mapping[str, Place]) -> dict[str, Any]:
    place = places.get(row.region) if row.region else None
    photo, ground = _picture(row), None if place is None else _ground(row, place)
    return _facts(row) | {
        "photo": None if photo is None else jpeg(photo),
        "ground": None if ground is None else jpeg(ground),
        "around_m": AROUND_M,
    }


def _picture(row: Row) -> NDArray[np.uint8] | None:
    """The photo, small; None where it cannot be read any more."""
    path = Path(row.file)
    found: Photo | PhotoError
    try:
        found = load(path) if row.frame_s is None else video.frames(path, [row.frame_s])[0]
    except PhotoError:
        return None
    if isinstance(found, PhotoError):
        return None
    small = Image.fromarray(found.pixels)
    small.thumbnail((CARD_PX, CARD_PX))
    return np.asarray(small)


def _ground(row: Row, place: Place) -> NDArray[np.uint8]:
    """The imagery around the answer, (CARD_PX, CARD_PX, 3)."""
    assert row.lat is not None and row.lon is not None
    grid = place.region.grid
    x, y = grid.project(row.lat, row.lon)
    bounds = Bounds(x - AROUND_M, y - AROUND_M, x + AROUND_M, y + AROUND_M)
    return checkered(place.pyramid.source.read(bounds, grid.crs, (CARD_PX, CARD_PX)))


# --- failures


def _failures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Failed photos by reason, the most frequent first."""
    from zoomloc.batch.tally import without_file

    names: dict[str, list[str]] = {}
    for row in rows:
        if row.status == "failed":
            names.setdefault(without_file(row), []).append(row.name)
    return [
        {"reason": reason, "count": len(some), "names": some[:MAX_NAMES]}
        for reason, some in sorted(names.items(), key=lambda item: -len(item[1]))
    ]
