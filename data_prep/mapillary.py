"""Street photos of an area from Mapillary: `zoomloc prep mapillary --bbox W,S,E,N --out DIR`.

API v4, https://www.mapillary.com/developer/api-documentation. Its search takes small boxes only, lists at most 2,000
photos of one, says nothing of those it leaves out, and fails on boxes that are too dense: such boxes are asked for in
quarters. URLs of images expire after some days and are then asked for again. Faces and plates are blurred already.
"""

import math
import os
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from data_prep import blur as blurring
from data_prep import command
from data_prep.area import Area, Record, TooMuch, parse_area
from data_prep.download import Bbox, BlurHook, Documented, Listed, MinDistance, Out, Shot, download, parse
from data_prep.service import TRY_AGAIN, Busy, DownloadError, NoImage, RequestError, Service

API = "https://graph.mapillary.com"
LICENCE = "CC BY-SA 4.0"
FIELDS = (
    "id,geometry,computed_geometry,compass_angle,computed_compass_angle,camera_type,camera_parameters,captured_at,"
    "sequence,width,height,exif_orientation,creator,thumb_2048_url,thumb_original_url"
)
LIMIT = 2000  # photos in an answer, the most the API gives
SIDE_DEG = 0.02  # of the first boxes; the API takes up to 0.01 square degrees

# Codes of errors, https://developers.facebook.com/docs/graph-api/guides/error-handling
BAD_TOKEN, GONE, BUSY = 190, (100, 33), (2, 4, 17, 32, 613)

PROJECTIONS = {
    "perspective": "perspective",
    "brown": "perspective",
    "radial": "perspective",
    "simple_radial": "perspective",
    "fisheye": "fisheye",
    "fisheye_opencv": "fisheye",
    "spherical": "spherical",
    "equirectangular": "spherical",
}


class _Cursors(BaseModel):
    after: str | None = None


class _Paging(BaseModel):
    """Where more follows. Only the cursor is used: the URL, `next`, has the token in it."""

    next: str | None = None
    cursors: _Cursors = _Cursors()


class _Page(BaseModel):
    data: list[Listed]
    paging: _Paging = _Paging()


class _Error(BaseModel):
    message: str = ""
    code: int = 0
    error_subcode: int = 0
    is_transient: bool = False


class _Point(BaseModel):
    coordinates: tuple[float, float]  # lon, lat


class _Creator(BaseModel):
    username: str | None = None


class _Image(BaseModel):
    """An image as documented; what was not computed is missing."""

    id: str
    geometry: _Point | None = None
    computed_geometry: _Point | None = None
    compass_angle: float | None = None
    computed_compass_angle: float | None = None
    camera_type: str | None = None
    camera_parameters: list[float] = []
    captured_at: int | None = None  # milliseconds since 1970
    sequence: str | None = None
    width: int | None = None
    height: int | None = None
    exif_orientation: int = 1
    creator: _Creator = _Creator()
    thumb_2048_url: str | None = None
    thumb_original_url: str | None = None


def read_image(record: Record) -> Shot:
    """A photo from its record. Raises ValueError, one line, for one that cannot be used."""
    image = parse(_Image, record)
    point = image.computed_geometry or image.geometry
    if point is None or not all(map(math.isfinite, point.coordinates)):
        raise ValueError("it has no position")
    camera = image.camera_type or "perspective"  # not said for what was not processed
    if camera not in PROJECTIONS:
        raise ValueError(f"its camera is {camera!r}, which is not known here")
    computed = image.computed_compass_angle
    heading = image.compass_angle if computed is None else computed
    return Shot(
        id=image.id,
        lat=point.coordinates[1],
        lon=point.coordinates[0],
        url=image.thumb_2048_url or image.thumb_original_url,
        projection=PROJECTIONS[camera],
        attribution=f"{image.creator.username} / Mapillary"
        if image.creator.username
        else "Mapillary contributors",
        heading=None if heading is None or not math.isfinite(heading) else heading % 360,
        captured_at=_time(image.captured_at),
        sequence=image.sequence,
        fov=_fov_deg(image, PROJECTIONS[camera]),
    )


def _time(milliseconds: int | None) -> datetime | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
    except (ValueError, OverflowError, OSError):  # no time on any calendar
        return None


def _fov_deg(image: _Image, projection: str) -> float | None:
    """Horizontal field of view of the upright photo; None where the lens is not known.

    The first camera parameter is the focal length as a share of the longer side. Width, height and lens are those of
    the file as it was uploaded; what is downloaded is upright.
    """
    if projection == "spherical":
        return 360.0
    if not image.camera_parameters or not image.width or not image.height:
        return None
    focal = image.camera_parameters[0]
    if not 0 < focal < math.inf or min(image.width, image.height) < 1:
        return None
    across = image.height if image.exif_orientation >= 5 else image.width
    half = across / max(image.width, image.height) / 2 / focal
    fov_deg = math.degrees(2 * half if projection == "fisheye" else 2 * math.atan(half))
    return fov_deg if fov_deg <= 360 else None


class Mapillary:
    """The API, and what its answers mean. token_env: name of the environment variable that holds the token."""

    def __init__(self, token_env: str) -> None:
        self.token_env = token_env
        self.service = Service("Mapillary", token=_token(token_env))

    def photos(self, part: Area) -> list[Record]:
        """The photos of a box. Raises TooMuch where its quarters should be asked for, or as `Service.ask`."""
        params: dict[str, str | int | float] = {
            "bbox": ",".join(f"{degrees:.7f}" for degrees in part),
            "fields": FIELDS,
            "limit": LIMIT,
        }
        records: list[Record] = []
        while True:
            page = self._ask(f"{API}/images", params, _Page)
            records += [listed.model_dump() for listed in page.data]
            if page.paging.next and page.paging.cursors.after:
                params["after"] = page.paging.cursors.after
            elif len(page.data) >= LIMIT:
                raise TooMuch(f"Mapillary lists no more than {LIMIT} photos", records)
            else:
                return records

    def fresh_url(self, photo_id: str) -> str | None:
        """A URL of a photo that has not expired, None where there is none."""
        image = self._ask(f"{API}/{photo_id}", {"fields": "thumb_2048_url,thumb_original_url"}, _Image)
        return image.thumb_2048_url or image.thumb_original_url

    def _ask(self, url: str, params: dict[str, str | int | float], kind: type[Documented]) -> Documented:
        try:
            return parse(kind, self.service.ask(url, params, self._check))
        except ValueError as error:
            raise RequestError(f"Mapillary's answer is not understood: {error}") from None

    def _check(self, status: int, answer: dict[str, Any]) -> None:
        """Raises what an answer means that is none."""
        error = parse(_Error, answer.get("error") or {})
        if status == 401 or error.code == BAD_TOKEN:
            raise DownloadError(
                f"Mapillary refuses the token in {self.token_env}; "
                "make one at https://www.mapillary.com/dashboard/developers"
            )
        if (error.code, error.error_subcode) == GONE:
            raise NoImage("Mapillary no longer has it")
        if "reduce the amount of data" in error.message:
            raise TooMuch("Mapillary finds too much there")
        if error.code in BUSY or error.is_transient:
            raise Busy(f"Mapillary asks for fewer requests (error {error.code})")
        if error.code and status not in TRY_AGAIN:
            raise RequestError(f"Mapillary refuses: {self.service.quote(error.message)} (error {error.code})")


def _token(name: str) -> str:
    token = os.environ.get(name, "").strip()
    if not token:
        raise DownloadError(
            f"the environment variable {name} holds no token; make one at "
            "https://www.mapillary.com/dashboard/developers, or name another variable with --token-env"
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise DownloadError(f"the environment variable {name} holds something that is no token; check it")
    return token


def main(
    bbox: Bbox,
    out: Out,
    token_env: Annotated[
        str, typer.Option(help="Environment variable that holds the access token.")
    ] = "MAPILLARY_TOKEN",
    min_distance_m: MinDistance = 0.0,
    blur: BlurHook = None,
) -> None:
    """Download the street photos of an area from Mapillary."""
    area, hook = parse_area(bbox), blurring.hook(blur) if blur else None
    download(
        Mapillary(token_env),
        read_image,
        area,
        out,
        side_deg=SIDE_DEG,
        licence=LICENCE,
        min_distance_m=min_distance_m,
        blur=hook,
    )


if __name__ == "__main__":
    command.run(main)
