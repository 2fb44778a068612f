"""Global Streetscapes as a dataset: its CSV of Mapillary and KartaView photos, with the images beside it.

Perspective and fisheye photos are hard-linked (copied across file systems) into the dataset; spherical ones become
perspective views at set headings.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import geopandas as gpd
import numpy as np
import typer
from numpy.typing import NDArray

from data_prep import blur as blurring
from data_prep import bring, report
from data_prep.journal import Journal, stamp_of
from data_prep.region import adopt, advice
from data_prep.report import Rejected
from data_prep.streetscapes_table import Record, read
from data_prep.threads import in_threads
from zoomloc import manifest, panorama, photo
from zoomloc.errors import ConfigError, PhotoError, SourceError
from zoomloc.region import Region

LICENCE = "CC BY-SA 4.0"
JOURNAL = ".streetscapes.jsonl"


@dataclass(frozen=True)
class Picture:
    """An image of the dataset: the photo itself, or a view out of it."""

    photo: str
    heading: float | None
    fov: float | None
    projection: str


@dataclass(frozen=True)
class Views:
    """What spherical photos become: views at headings from true north, with a horizontal field of view."""

    headings_deg: tuple[float, ...]
    fov_deg: float


def import_streetscapes(
    table: Path,
    images: Path,
    out: Path,
    *,
    views: Views,
    blur: str | None = None,
    region: Region | None = None,
) -> list[Rejected]:
    """Write `out/manifest.parquet` and `out/photos/` from a table and the images named `{uuid}.*` under a folder,
    all of split train; returns what was left out. A second call does only what is missing.

    Raises SourceError for a table that is none or without any usable image, OutputError where `out` cannot be
    written or was begun otherwise, ConfigError for a blur that does not exist.
    """
    hook = blurring.hook(blur) if blur else None
    records, rejected = read(table)
    files = {
        path.stem: path
        for path in sorted(images.resolve().rglob("*"))
        if path.is_file() and not path.is_relative_to(out.resolve())
    }
    rejected += [Rejected(each.uuid, "no image") for each in records if each.uuid not in files]
    records = [each for each in records if each.uuid in files]
    if not records:
        raise SourceError(f"{images}: holds no image that {table} names; say where they are with --images")
    settings = {"table": str(table.resolve()), "views": asdict(views), "blur": blur}
    rows: list[tuple[Record, Picture]] = []
    with Journal(out / JOURNAL, settings) as journal:

        def work(record: Record) -> tuple[list[Any], list[Picture] | Rejected, bool]:
            source = files[record.uuid]
            stamp = [*stamp_of(source), record.heading_deg, record.projection, record.fov_deg, record.focal]
            done = journal.recall(record.uuid, stamp)
            if isinstance(done, str):
                return stamp, Rejected(record.uuid, done), True
            pictures = [Picture(**each) for each in done or ()]
            if pictures and all((out / each.photo).exists() for each in pictures):
                return stamp, pictures, True
            return stamp, _make(record, source, out, views, hook), False

        made = in_threads(work, records, "making photos")
        for record, (stamp, pictures, known) in zip(records, made, strict=True):
            if isinstance(pictures, Rejected):
                rejected.append(pictures)
                facts: Any = pictures.reason
            else:
                rows += [(record, picture) for picture in pictures]
                facts = [asdict(picture) for picture in pictures]
            if not known:
                journal.note(record.uuid, stamp, facts)
    if not rows:
        report.list_rejected(out, rejected)
        raise SourceError(f"{table}: no image can be used; see why in {out / 'rejected.csv'}")
    manifest.write(_frame(rows), out / "manifest.parquet")
    if region:
        adopt(region, out)
    return rejected


def _make(
    record: Record, source: Path, out: Path, views: Views, hook: blurring.Blur | None
) -> list[Picture] | Rejected:
    """The photo itself, linked or blurred, or the views of a spherical one."""
    try:
        pixels = photo.load(source).pixels
        if record.projection == "spherical":
            return _cut(record, pixels, out, views, hook)
        name = f"photos/{record.uuid}.jpg" if hook else f"photos/{source.name}"
        if hook:
            bring.save(hook(pixels), out / name)
        else:
            bring.link(source, out / name)
    except PhotoError as error:
        return Rejected(record.uuid, str(error).removeprefix(f"{source}: "))
    height, width = pixels.shape[:2]
    return [Picture(name, record.heading_deg, record.horizontal_fov_deg(width, height), record.projection)]


def _cut(
    record: Record, pixels: NDArray[np.uint8], out: Path, views: Views, hook: blurring.Blur | None
) -> list[Picture] | Rejected:
    """Views of a panorama; where it does not know its own heading, from its middle on and with unknown headings."""
    if not panorama.is_whole(pixels):
        return Rejected(record.uuid, "not a whole sphere: {1} x {0} pixels".format(*pixels.shape))
    pictures = []
    for heading_deg in views.headings_deg:
        cut = panorama.view(pixels, yaw_deg=heading_deg - (record.heading_deg or 0), fov_deg=views.fov_deg)
        name = f"photos/{record.uuid}-{heading_deg:g}.jpg"
        bring.save(hook(cut) if hook else cut, out / name)
        known = record.heading_deg is not None
        pictures.append(Picture(name, heading_deg if known else None, views.fov_deg, "perspective"))
    return pictures


def _frame(rows: Sequence[tuple[Record, Picture]]) -> gpd.GeoDataFrame:
    records, pictures = zip(*rows, strict=True)
    return gpd.GeoDataFrame(
        {
            "photo": [picture.photo for picture in pictures],
            "heading": [picture.heading for picture in pictures],
            "captured_at": [record.captured_at for record in records],
            "sequence": [record.sequence for record in records],
            "split": "train",
            "fov": [picture.fov for picture in pictures],
            "projection": [picture.projection for picture in pictures],
            "licence": LICENCE,
            "attribution": [f"{record.source} contributors" for record in records],
        },
        geometry=gpd.points_from_xy([each.lon for each in records], [each.lat for each in records]),
        crs="EPSG:4326",
    )


def parse_headings(text: str) -> tuple[float, ...]:
    """Degrees, separated by commas. Raises ConfigError."""
    try:
        headings = tuple(float(part) for part in text.split(","))
    except ValueError:
        headings = ()
    if (
        not headings
        or not all(0 <= heading < 360 for heading in headings)
        or len(set(headings)) < len(headings)
    ):
        raise ConfigError(
            f"--headings {text}: give different degrees from 0 to below 360, such as 0,90,180,270"
        )
    return headings


def main(
    table: Annotated[Path, typer.Argument(metavar="CSV", help="Table of Global Streetscapes.")],
    out: Annotated[Path, typer.Option(help="Folder to write; a killed run is taken up again.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder with the images, however deep (default: the table's).")
    ] = None,
    headings: Annotated[
        str, typer.Option(help="Views of spherical photos: degrees from true north.")
    ] = "0,90,180,270",
    fov: Annotated[
        float, typer.Option(min=10, max=150, help="Horizontal field of view of these views in degrees.")
    ] = 90.0,
    region: Annotated[
        Path | None, typer.Option(help="Region file to search; copied beside the photos.")
    ] = None,
    blur: Annotated[str | None, typer.Option(help=blurring.HELP)] = None,
) -> None:
    """Make a dataset of Global Streetscapes: its CSV and images."""
    rejected = import_streetscapes(
        table,
        images or table.parent,
        out,
        views=Views(parse_headings(headings), fov),
        blur=blur,
        region=Region.load(region) if region else None,
    )
    report.finish(out, rejected)
    for line in advice(out):
        typer.echo(line)


if __name__ == "__main__":
    from data_prep.command import run

    run(main)
