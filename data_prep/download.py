"""The photos that a service on the web has of an area, downloaded and made a dataset.

found.jsonl       what the service answered, kept so that a run that was stopped goes on; delete it to ask anew
photos/ID.jpg     by the service's own names
manifest.parquet  all of split "train"; `zoomloc prep split` divides them
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import geopandas as gpd
import typer
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ValidationError
from pyproj import Geod
from shapely import Point

from data_prep import blur as blurring
from data_prep.area import Area, Record, search, side_by_side
from data_prep.blur import Blur
from data_prep.bring import QUALITY
from data_prep.region import advice
from data_prep.report import Rejected, finish
from data_prep.service import DownloadError, NoImage, RequestError, Service
from zoomloc import manifest, photo
from zoomloc.errors import PhotoError
from zoomloc.files import atomic

DOWNLOADS = 16  # at once
FORMATS = ("JPEG", "PNG", "WEBP")
GEOD = Geod(ellps="WGS84")

Documented = TypeVar("Documented", bound=BaseModel)

# The options of the commands that download.
Bbox = Annotated[str, typer.Option(help="West,south,east,north in degrees.")]
Out = Annotated[Path, typer.Option(help="Folder of the dataset; a run that was stopped is taken up again.")]
MinDistance = Annotated[
    float, typer.Option(min=0, help="Leave out photos nearer than this to the one before in their sequence.")
]
BlurHook = Annotated[str | None, typer.Option(help=blurring.HELP)]


class Listed(BaseModel, extra="allow"):
    """A photo in a list, of which at first only the id counts."""

    id: Annotated[str, BeforeValidator(str)]


@dataclass(frozen=True)
class Shot:
    """A photo of a service, ready to be downloaded. Columns as in the manifest, None where unknown.

    url: of its image; None where the service has to be asked for one.
    """

    id: str
    lat: float
    lon: float
    url: str | None
    projection: str
    attribution: str
    heading: float | None = None
    captured_at: datetime | None = None
    sequence: str | None = None
    fov: float | None = None


class PhotoApi(Protocol):
    """The API of a service."""

    service: Service

    def photos(self, part: Area) -> list[Record]:
        """The photos of a part of the area, maybe some around it; see `area.search`."""

    def fresh_url(self, photo_id: str) -> str | None:
        """The URL of a photo's image, where the one known is missing or has expired. Raises DownloadError."""


def download(
    api: PhotoApi,
    read: Callable[[Record], Shot],
    area: Area,
    out: Path,
    *,
    side_deg: float,
    licence: str,
    min_distance_m: float,
    blur: Blur | None,
) -> None:
    """Find the photos of an area, download them, write the manifest and report.

    read: makes sense of a record, or raises ValueError. side_deg: of the parts that are asked for first.
    Raises DownloadError where the service cannot be asked or has nothing, OutputError where nothing can be written.
    """
    records = search(area, api.photos, side_deg=side_deg, kept=out / "found.jsonl")
    shots, rejected = read_shots(records, area, read)
    kept = thin(shots, min_distance_m)
    if len(kept) < len(shots):
        typer.echo(
            f"{len(shots) - len(kept):,} photos closer than {min_distance_m:g} m are left out", err=True
        )
    folder = out / ("blurred" if blur else "photos")
    fetched = list(side_by_side(partial(_fetch, api, folder, blur), kept, DOWNLOADS, "downloading photos"))
    there = [shot for shot, problem in zip(kept, fetched, strict=True) if problem is None]
    if there:
        manifest.write(_frame(there, folder.name, licence), out / "manifest.parquet")
    finish(out, [*rejected, *(problem for problem in fetched if problem)])
    for line in advice(out):
        typer.echo(line)


def parse(kind: type[Documented], record: Record) -> Documented:
    """A record as its service documents it. Raises ValueError, one line, for one that is otherwise."""
    try:
        return kind.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "record"
        raise ValueError(f"its {where} is not as documented: {first['msg'].lower()}") from None


def read_shots(
    records: Sequence[Record], area: Area, read: Callable[[Record], Shot]
) -> tuple[list[Shot], list[Rejected]]:
    """The photos inside the area, and those whose record `read` cannot make sense of (it raises ValueError).

    Raises DownloadError where there are no photos at all.
    """
    shots, rejected = [], []
    for record in sorted(records, key=lambda record: record["id"]):
        try:
            shot = read(record)
        except ValueError as error:
            rejected.append(Rejected(record["id"], str(error)))
            continue
        if not re.fullmatch(r"[\w-]{1,100}", shot.id, re.ASCII):
            rejected.append(Rejected(shot.id, "its id cannot be the name of a file"))
        elif area.holds(shot.lat, shot.lon):
            shots.append(shot)
    if not shots and not rejected:
        raise DownloadError(
            f"no photos in --bbox {','.join(map(str, area))}; look at the service's map, or ask for more"
        )
    return shots, rejected


def thin(shots: Sequence[Shot], min_distance_m: float) -> list[Shot]:
    """Of each sequence the photos at least this far from the one before: cars take several where one will do."""

    def order(shot: Shot) -> tuple[str, float, str]:
        return shot.sequence or "", shot.captured_at.timestamp() if shot.captured_at else 0.0, shot.id

    kept: list[Shot] = []
    for _, group in groupby(sorted(shots, key=order), key=lambda shot: shot.sequence or shot.id):
        last: Shot | None = None
        for shot in group:
            if last is None or GEOD.inv(last.lon, last.lat, shot.lon, shot.lat)[2] >= min_distance_m:
                kept.append(shot)
                last = shot
    return kept


def _fetch(api: PhotoApi, folder: Path, blur: Blur | None, shot: Shot) -> Rejected | None:
    """Make sure that a photo's file is there; None if it is. Raises OutputError where it cannot be written."""
    path = folder / f"{shot.id}.jpg"
    if path.exists():
        return None
    try:
        image = _image(api, shot)
        with atomic(path) as draft:
            draft.write_bytes(image)
            if blur:
                Image.fromarray(blur(photo.load(draft).pixels)).save(draft, quality=QUALITY)
    except (RequestError, PhotoError) as error:
        return Rejected(shot.id, str(error))
    return None


def _image(api: PhotoApi, shot: Shot) -> bytes:
    """The bytes of a whole image, by the URL known and then by a fresh one."""
    try:
        if shot.url:
            return _whole(api.service.image(shot.url))
    except NoImage:
        pass
    url = api.fresh_url(shot.id)
    if not url:
        raise NoImage("the service gives no URL for its image")
    return _whole(api.service.image(url))


def _whole(data: bytes) -> bytes:
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            image.load()
    except Exception:  # Pillow fails in many ways
        raise NoImage("the image is damaged or cut off") from None
    return data


def _frame(shots: Sequence[Shot], folder: str, licence: str) -> gpd.GeoDataFrame:
    columns = ("heading", "captured_at", "sequence", "fov", "projection", "attribution")
    values = {name: [getattr(shot, name) for shot in shots] for name in columns}
    return gpd.GeoDataFrame(
        {
            "photo": [f"{folder}/{shot.id}.jpg" for shot in shots],
            **values,
            "split": "train",
            "licence": licence,
        },
        geometry=[Point(shot.lon, shot.lat) for shot in shots],
        crs="EPSG:4326",
    )
