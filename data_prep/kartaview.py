"""Street photos of an area from KartaView: `zoomloc prep kartaview --bbox W,S,E,N --out DIR`.

API 2.0, https://doc.kartaview.org; no token is needed. It lists photos around a point, 150 a page, and gives up with
code 408 where too many are near: the area is asked for as small boxes, each by the circle around it, and boxes that
are too dense in quarters. The images taken are the processed ones, with faces and plates blurred.
"""

from datetime import UTC, datetime
from math import ceil, isfinite
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from data_prep import blur as blurring
from data_prep import command
from data_prep.area import Area, Record, TooMuch, parse_area
from data_prep.download import (
    GEOD,
    Bbox,
    BlurHook,
    Documented,
    Listed,
    MinDistance,
    Out,
    Shot,
    download,
    parse,
)
from data_prep.service import NoImage, RequestError, Service

API = "https://api.openstreetcam.org/2.0"
LICENCE = "CC BY-SA 4.0"
ATTRIBUTION = "Grab and KartaView contributors"
PAGE = 150  # photos, the most the API gives
SIDE_DEG = 0.003  # of the first boxes; circles of more than some 300 m take the API too long

OK, NOTHING, TIME_OUT = 600, 601, 408  # codes in `status`

PROJECTIONS = {"PLANE": "perspective", "SPHERE": "spherical"}


def _number(value: Any) -> float | None:
    """Numbers come as texts, and where unknown as empty ones or -1."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) else None


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _object(value: Any) -> Any:
    return value if isinstance(value, dict) else {}


Number = Annotated[float | None, BeforeValidator(_number)]
Text = Annotated[str | None, BeforeValidator(_text)]


class _Lens(BaseModel):
    fov: Number = Field(default=None, validation_alias="hFoV")


class _Sequence(BaseModel):
    id: Text = None
    lens: Annotated[_Lens, BeforeValidator(_object)] = Field(
        default=_Lens(), validation_alias="cameraParameters"
    )


class _Photo(BaseModel):
    """A photo as documented, with its sequence joined."""

    id: str
    lat: Number = None
    lon: Number = Field(default=None, validation_alias="lng")
    heading: Number = None
    shot_date: Text = Field(default=None, validation_alias="shotDate")
    projection: Text = None
    fov: Number = Field(default=None, validation_alias="fieldOfView")
    width: Number = None
    height: Number = None
    sequence_id: Text = Field(default=None, validation_alias="sequenceId")
    sequence: Annotated[_Sequence, BeforeValidator(_object)] = _Sequence()
    visibility: Text = None
    status: Text = None
    proc: Text = Field(default=None, validation_alias="imageProcUrl")
    origin: Text = Field(default=None, validation_alias="fileurlProc")
    large: Text = Field(default=None, validation_alias="imageLthUrl")

    @property
    def url(self) -> str | None:
        """Of the largest processed image; what holds a {{placeholder}} is no URL."""
        return next((url for url in (self.proc, self.origin, self.large) if url and "{" not in url), None)


class _Result(BaseModel):
    data: list[Listed] = []
    more: bool = Field(default=False, validation_alias="hasMoreData")


class _Page(BaseModel):
    result: _Result


class _One(BaseModel):
    class _Data(BaseModel):
        data: _Photo

    result: _Data


class _Status(BaseModel):
    code: int = Field(default=OK, validation_alias="apiCode")
    message: Text = Field(default=None, validation_alias="apiMessage")


def read_photo(record: Record) -> Shot:
    """A photo from its record. Raises ValueError, one line, for one that cannot be used.

    Its time has no zone in the API and is taken for UTC.
    """
    photo = parse(_Photo, record)
    if photo.lat is None or photo.lon is None:
        raise ValueError("it has no position")
    if photo.status not in (None, "active") or photo.visibility not in (None, "public"):
        raise ValueError("it is not public")
    if photo.projection not in (None, *PROJECTIONS):
        raise ValueError(f"its projection is {photo.projection!r}, which is not known here")
    heading = photo.heading
    return Shot(
        id=photo.id,
        lat=photo.lat,
        lon=photo.lon,
        url=photo.url,
        projection=PROJECTIONS[photo.projection or "PLANE"],
        attribution=ATTRIBUTION,
        heading=heading if heading is not None and 0 <= heading <= 360 else None,
        captured_at=_time(photo.shot_date),
        sequence=photo.sequence_id or photo.sequence.id,
        fov=_fov_deg(photo),
    )


def _time(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _fov_deg(photo: _Photo) -> float | None:
    """Horizontal field of view; None where it is unknown, or the photo upright and the lens told for the sensor."""
    if photo.projection == "SPHERE":
        return 360.0
    if photo.width is None or photo.height is None or photo.width < photo.height:
        return None
    told = (photo.sequence.lens.fov, photo.fov)
    return next((fov for fov in told if fov is not None and 0 < fov < 180), None)


class KartaView:
    """The API, and what its answers mean."""

    def __init__(self) -> None:
        self.service = Service("KartaView")

    def photos(self, part: Area) -> list[Record]:
        """The photos around a box. Raises TooMuch where its quarters should be asked for, or as `Service.ask`."""
        params = _circle(part) | {"join": "sequence", "orderBy": "id", "itemsPerPage": PAGE, "page": 1}
        records: list[Record] = []
        while True:
            answer = self.service.ask(f"{API}/photo/", params, self._check)
            if _status(answer).code == NOTHING:
                return records
            result = self._read(_Page, answer).result
            records += [listed.model_dump() for listed in result.data]
            if not result.more or not result.data:
                return records
            params["page"] = int(params["page"]) + 1

    def fresh_url(self, photo_id: str) -> str | None:
        """A URL of a photo, None where there is none."""
        answer = self.service.ask(f"{API}/photo/{photo_id}", {}, self._check)
        if _status(answer).code == NOTHING:
            raise NoImage("KartaView no longer has it")
        return self._read(_One, answer).result.data.url

    def _read(self, kind: type[Documented], answer: dict[str, Any]) -> Documented:
        try:
            return parse(kind, answer)
        except ValueError as error:
            raise RequestError(f"KartaView's answer is not understood: {error}") from None

    def _check(self, status: int, answer: dict[str, Any]) -> None:
        """Raises what an answer means that is none; its own code counts, whatever HTTP says."""
        code, message = _status(answer).code, _status(answer).message
        if TIME_OUT in (code, status):
            raise TooMuch("KartaView takes too long")
        if code not in (OK, NOTHING):
            raise RequestError(f"KartaView refuses: {self.service.quote(message)} (code {code})")


def _status(answer: dict[str, Any]) -> _Status:
    try:
        return parse(_Status, answer.get("status") or {})
    except ValueError:
        return _Status()


def _circle(part: Area) -> dict[str, str | int | float]:
    """The circle around a box: its middle, and metres to the corner furthest off."""
    lon, lat = (part.west + part.east) / 2, (part.south + part.north) / 2
    corners = ((part.west, part.south), (part.west, part.north))
    radius_m = max(GEOD.inv(lon, lat, *corner)[2] for corner in corners)
    return {"lat": f"{lat:.7f}", "lng": f"{lon:.7f}", "radius": ceil(radius_m)}


def main(
    bbox: Bbox,
    out: Out,
    min_distance_m: MinDistance = 0.0,
    blur: BlurHook = None,
) -> None:
    """Download the street photos of an area from KartaView."""
    area, hook = parse_area(bbox), blurring.hook(blur) if blur else None
    download(
        KartaView(),
        read_photo,
        area,
        out,
        side_deg=SIDE_DEG,
        licence=LICENCE,
        min_distance_m=min_distance_m,
        blur=hook,
    )


if __name__ == "__main__":
    command.run(main)
