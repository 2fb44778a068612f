"""Predictions as files: GeoJSON for maps and GIS, JSON for programs."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import shapely
from pyproj import Geod

from zoomloc.answer import outline
from zoomloc.errors import OutputError
from zoomloc.files import atomic
from zoomloc.grid import Grid
from zoomloc.photo import Photo
from zoomloc.prediction import Place, Prediction

DEGREE_DIGITS = 7  # a centimetre
OUTLINE_DIGITS = 6  # a decimetre


def write(
    predictions: Sequence[Prediction],
    path: str | Path,
    *,
    grid: Grid,
    failures: Sequence[tuple[str, str]] = (),
    columns: Sequence[dict[str, Any]] = (),
) -> None:
    """Writes GeoJSON or JSON, chosen by the suffix, whole or not at all.

    grid: of the region the predictions are of. failures: (photo, reason) of photos that got no prediction; they are
    listed too. columns: what features of GeoJSON hold besides, one for each prediction, then for each failure.
    Raises OutputError.
    """
    check_suffix(path)
    content = FORMATS[Path(path).suffix.lower()](predictions, grid, failures, columns)
    with atomic(path) as draft:
        draft.write_text(
            json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def check_suffix(path: str | Path) -> None:
    """Raises OutputError if no format goes by the path's suffix: to be asked before the work, not after."""
    if Path(path).suffix.lower() not in FORMATS:
        raise OutputError(f"{path}: unknown kind of result; let its name end in {' or '.join(FORMATS)}")


def geojson(
    predictions: Sequence[Prediction],
    grid: Grid | None,
    failures: Sequence[tuple[str, str]] = (),
    columns: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """A FeatureCollection: the answers as points, with what is known of them; then, where a posterior was made, the
    ground that holds 50 % and 90 % of it ("holds") as MultiPolygons; failures, and photos looked for where there is no
    imagery, as features without geometry."""
    besides = iter(columns or [{}] * (len(predictions) + len(failures)))
    found = [
        feature(None if p.no_imagery else point(p.lat, p.lon), _facts(p) | next(besides)) for p in predictions
    ]
    grounds = [ground for p in predictions for ground in _grounds(p, grid)]
    failed = [feature(None, {"photo": photo, "error": reason} | next(besides)) for photo, reason in failures]
    return {"type": "FeatureCollection", "features": found + grounds + failed}


def _grounds(prediction: Prediction, grid: Grid | None) -> Iterator[dict[str, Any]]:
    if prediction.posterior is None or grid is None:
        return
    for share, area_m2 in ((0.5, prediction.area_50_m2), (0.9, prediction.area_90_m2)):
        ground = outline(prediction.posterior, area_m2, grid)
        if not ground.is_empty:
            rounded = shapely.transform(ground, lambda lon_lat: lon_lat.round(OUTLINE_DIGITS))
            facts = {"photo": prediction.photo, "holds": share, "area_m2": _number(area_m2)}
            yield feature(json.loads(shapely.to_geojson(rounded)), facts)


def plain(
    predictions: Sequence[Prediction],
    grid: Grid,
    failures: Sequence[tuple[str, str]] = (),
    columns: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """{"predictions": [...], "failures": [...]} with every field of a prediction but its posterior,
    and no columns besides."""
    return {
        "predictions": [record(p) for p in predictions],
        "failures": [{"photo": photo, "error": reason} for photo, reason in failures],
    }


def record(prediction: Prediction) -> dict[str, Any]:
    """One prediction as `plain` writes it."""
    position = {"lat": None, "lon": None} if prediction.no_imagery else _position(prediction)
    return position | _facts(prediction)


def error_m(photo: Photo, prediction: Prediction) -> float | None:
    """Metres on the ground from the answer to the photo's EXIF position, None where that is unknown."""
    if photo.lat is None or photo.lon is None or prediction.no_imagery:
        return None
    return Geod(ellps="WGS84").inv(photo.lon, photo.lat, prediction.lon, prediction.lat)[2]


FORMATS: dict[str, Callable[..., dict[str, Any]]] = {".geojson": geojson, ".json": plain}


def _facts(prediction: Prediction) -> dict[str, Any]:
    """What both formats say of a prediction besides where it is."""
    return {
        "photo": prediction.photo,
        "region": prediction.region,
        "probability": _number(prediction.probability),
        "radius_50_m": _number(prediction.radius_50_m),
        "radius_90_m": _number(prediction.radius_90_m),
        "area_50_m2": _number(prediction.area_50_m2),
        "area_90_m2": _number(prediction.area_90_m2),
        "heading_deg": _number(prediction.heading_deg),
        "heading_50_deg": _number(prediction.heading_50_deg),
        "heading_90_deg": _number(prediction.heading_90_deg),
        "located": prediction.located,
        "status": prediction.status,
        "not_here": _number(prediction.not_here),
        "unexpanded": _number(prediction.unexpanded),
        "search": prediction.search,
        "path": list(prediction.path),
        "radius_m": _number(prediction.radius_m),
        "places": [
            _position(place) | {"probability": _number(place.probability), "path": list(place.path)}
            for place in prediction.places
        ],
    }


def feature(geometry: dict[str, Any] | None, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def point(lat: float, lon: float) -> dict[str, Any]:
    """The one place where lat, lon is turned round: GeoJSON wants longitude first."""
    return {"type": "Point", "coordinates": [round(lon, DEGREE_DIGITS), round(lat, DEGREE_DIGITS)]}


def _position(where: Prediction | Place) -> dict[str, float]:
    return {"lat": round(where.lat, DEGREE_DIGITS), "lon": round(where.lon, DEGREE_DIGITS)}


def _number(value: float | None) -> float | None:
    """JSON has no nan: what is unknown is null. Six digits, as more would only look exact."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
