"""The one schema of results in tables: a row for every photo asked about, located or not.

Columns, in this order; null where unknown or not applicable:

file             the photo or video, as it was named
frame_s          of a video: the frame's time, in seconds from its start
status           "located"; "uncertain": the confidence is below what was asked for; "outside": too
                 likely in none of the regions; "no imagery": all that the regions show was made up; "failed"
reason           why it failed, one line
lat, lon         the answer, WGS 84 degrees; null where the photo is outside, failed, or there is no imagery
confidence       the probability that the photo was taken within the answer's radius (40 m unless asked otherwise)
probability      of the answer's leaf (`path`)
radius_50_m,     if it was taken in the region: within so many metres of the answer with 50 % and 90 % probability
radius_90_m
heading_deg      where the camera looked, clockwise from true north, as estimated
not_here         the probability that it was taken in none of the regions
region           name of the region of the answer
path             the children chosen from the root of its grid down, as "5 10 3"
places           the likeliest places, best first: JSON [{"lat", "lon", "probability"}, …]
captured_at      ISO 8601 time of the photo, without a zone where the camera did not say it
exif_distance_m  from the answer to the photo's own position, where its EXIF or XMP has one
model            fingerprint of the weights
milliseconds     of decoding, and its share of the time of its batch
"""

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from zoomloc.outputs import DEGREE_DIGITS, error_m
from zoomloc.photo import Photo
from zoomloc.prediction import Prediction

Status = Literal["located", "uncertain", "outside", "no imagery", "failed"]
STATUSES: tuple[Status, ...] = ("located", "uncertain", "outside", "no imagery", "failed")
TEXTS = ("file", "status", "reason", "region", "path", "places", "captured_at", "model")


@dataclass(frozen=True)
class Row:
    """One photo's result; the columns are those of the module's docstring."""

    file: str
    frame_s: float | None = None
    status: Status = "failed"
    reason: str | None = None
    lat: float | None = None
    lon: float | None = None
    confidence: float | None = None
    probability: float | None = None
    radius_50_m: float | None = None
    radius_90_m: float | None = None
    heading_deg: float | None = None
    not_here: float | None = None
    region: str | None = None
    path: str | None = None
    places: str | None = None
    captured_at: str | None = None
    exif_distance_m: float | None = None
    model: str | None = None
    milliseconds: float | None = None

    @property
    def name(self) -> str:
        """The file, and the time of a frame as media fragments have it."""
        return self.file if self.frame_s is None else f"{self.file}#t={self.frame_s:g}"

    def as_dict(self) -> dict[str, Any]:
        """Every column, flat: what tables hold."""
        return asdict(self)

    def as_nested(self) -> dict[str, Any]:
        """Every column, with path and places as lists: what JSON holds."""
        path = None if self.path is None else [int(child) for child in self.path.split()]
        places = None if self.places is None else json.loads(self.places)
        return asdict(self) | {"path": path, "places": places}


COLUMNS = tuple(field.name for field in fields(Row))


def from_dict(values: dict[str, Any]) -> Row:
    """The row of a table's values, flat or nested, nan being null. Raises KeyError, TypeError or ValueError."""
    return Row(**{column: _value(column, values[column]) for column in COLUMNS})


def of_prediction(
    prediction: Prediction,
    photo: Photo,
    *,
    min_confidence: float,
    frame_s: float | None = None,
    not_here: float | None = None,
    model: str | None = None,
    milliseconds: float | None = None,
) -> Row:
    """What a prediction says of a photo. not_here: of all regions asked, where there were several."""
    not_here = prediction.not_here if not_here is None else not_here
    confidence = prediction.places[0].probability if prediction.places else 0.0
    outside = prediction.no_imagery or not_here > prediction.threshold
    status: Status = "outside" if outside else "located" if confidence >= min_confidence else "uncertain"
    if prediction.no_imagery:
        status = "no imagery"
    distance_m = None if outside else error_m(photo, prediction)
    places = [
        {
            "lat": round(place.lat, DEGREE_DIGITS),
            "lon": round(place.lon, DEGREE_DIGITS),
            "probability": _rounded(place.probability),
        }
        for place in prediction.places
    ]
    return Row(
        file=prediction.photo,
        frame_s=frame_s,
        status=status,
        lat=None if outside else round(prediction.lat, DEGREE_DIGITS),
        lon=None if outside else round(prediction.lon, DEGREE_DIGITS),
        confidence=_rounded(confidence),
        probability=_rounded(prediction.probability),
        radius_50_m=_rounded(prediction.radius_50_m),
        radius_90_m=_rounded(prediction.radius_90_m),
        heading_deg=_rounded(prediction.heading_deg),
        not_here=_rounded(not_here),
        region=None if outside else prediction.region,
        path=None if outside else " ".join(str(child) for child in prediction.path),
        places=json.dumps(places),
        captured_at=photo.captured_at.isoformat() if photo.captured_at else None,
        exif_distance_m=_rounded(distance_m),
        model=model,
        milliseconds=_rounded(milliseconds),
    )


def judged(row: Row, min_confidence: float) -> Row:
    """The row, told apart anew: what was located and is less sure than this is uncertain."""
    sure = (row.confidence or 0) >= min_confidence
    return (
        row
        if row.status not in ("located", "uncertain")
        else replace(row, status="located" if sure else "uncertain")
    )


def _rounded(value: float | None) -> float | None:
    """Six digits, as more would only look exact; what is no number is unknown."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _value(column: str, value: Any) -> Any:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if column == "path" and isinstance(value, list):
        return " ".join(str(child) for child in value)
    if column == "places" and isinstance(value, list):
        return json.dumps(value)
    return str(value) if column in TEXTS else float(value)
