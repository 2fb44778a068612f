"""Your own photos as a dataset: a folder of them, with what their EXIF, XMP, sidecars and GPS tracks say.

Without --out the manifest is written into the folder itself and names the photos where they are. With --out they are
hard-linked (copied across file systems) under `photos/` of another folder, which is then whole by itself and costs no
space. No original is ever changed; with --blur the new folder gets blurred JPEGs, without EXIF, instead of links.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import geopandas as gpd
import typer

from data_prep import blur as blurring
from data_prep import bring, duplicates, report, shots
from data_prep.journal import Journal
from data_prep.region import adopt, advice
from data_prep.report import Rejected
from data_prep.shots import Shot
from zoomloc import gpx, manifest, photo
from zoomloc.errors import ConfigError, PhotoError, SourceError
from zoomloc.gpx import Clock
from zoomloc.progress import progress
from zoomloc.region import Region

JOURNAL = ".photos.jsonl"

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """A photo to be named in the manifest. photo: its path there. moment: with a time zone."""

    shot: Shot
    photo: str
    lat: float
    lon: float
    moment: datetime | None
    sequence: str | None


def import_photos(
    folder: Path,
    out: Path,
    *,
    clock: Clock,
    max_error_m: float = 50.0,
    region: Region | None = None,
    licence: str | None = None,
    attribution: str | None = None,
    blur: str | None = None,
) -> list[Rejected]:
    """Write `out/manifest.parquet` for the photos under `folder`, all of split train; returns those left out.

    A second call reads only what is new or changed. max_error_m: the largest error a photo may state of its own
    position. region: written to `out/region.json`. licence, attribution: of photos that do not say so themselves.
    blur: see data_prep.blur. Raises SourceError where no photo can be used, OutputError where `out` cannot be
    written, ConfigError for a blur that does not exist.
    """
    in_place = out.resolve() == folder.resolve()
    if blur and in_place:
        raise ConfigError(
            "blurred photos need a folder of their own, originals are kept; name one with --out"
        )
    hook = blurring.hook(blur) if blur else None
    names, rejected = shots.find(folder, out)
    with Journal(out / JOURNAL, {"photos": str(folder.resolve()), "blur": blur}) as journal:
        said = _kept(shots.read(folder, names, journal), rejected)
    rows = _kept([_place(shot, clock, max_error_m) for shot in said], rejected)
    rows = _without_copies(rows, rejected)
    if not in_place:
        brought = progress((_bring(row, folder, out, hook) for row in rows), "bringing photos", len(rows))
        rows = _kept(brought, rejected)
    if not rows:
        report.list_rejected(out, rejected)
        raise SourceError(f"{folder}: no photo in it can be used; see why in {out / 'rejected.csv'}")
    manifest.write(_frame(rows, licence, attribution), out / "manifest.parquet")
    if region:
        adopt(region, out)
    return rejected


def _kept(found: Iterable[T | Rejected], rejected: list[Rejected]) -> list[T]:
    """Those that were not rejected; the others are added to the list."""
    kept: list[T] = []
    for each in found:
        if isinstance(each, Rejected):
            rejected.append(each)
        else:
            kept.append(each)
    return kept


def _place(shot: Shot, clock: Clock, max_error_m: float) -> Row | Rejected:
    """A photo with its position: its own, else that of the first track that covers its time."""
    if shot.projection not in manifest.PROJECTIONS:
        return Rejected(shot.name, f"a {shot.projection} panorama; only equirectangular ones can be used")
    taken = _taken(shot)
    moment = clock.moment(taken)
    poor = shot.accuracy_m is not None and shot.accuracy_m > max_error_m
    if shot.lat is not None and shot.lon is not None and not poor:
        walk = Path(shot.name).parent.as_posix()
        return Row(shot, shot.name, shot.lat, shot.lon, moment, None if walk == "." else walk)
    if found := clock.place(taken):
        track, place = found
        return Row(shot, shot.name, *place, moment, track.name)
    return Rejected(shot.name, _placeless(shot, clock, max_error_m if poor else None))


def _placeless(shot: Shot, clock: Clock, max_error_m: float | None) -> str:
    """Why a photo has no position. max_error_m: what its own one exceeds."""
    lacks = (
        "no position" if max_error_m is None else f"its position may be off by more than {max_error_m:g} m"
    )
    if not clock.tracks:
        return lacks if max_error_m is not None else f"{lacks} in its EXIF, its XMP or a sidecar"
    if not shot.captured_at:
        return f"{lacks}, and no time to find it in a track"
    if not clock.moment(_taken(shot)):
        return f"{lacks}, and its clock has no zone; give --time-offset"
    return f"{lacks}, and no track covers its time"


def _taken(shot: Shot) -> datetime | None:
    return datetime.fromisoformat(shot.captured_at) if shot.captured_at else None


def _without_copies(rows: Sequence[Row], rejected: list[Rejected]) -> list[Row]:
    """The rows but for copies of earlier ones."""
    originals: dict[int, int] = {}
    for first, second in duplicates.copies([row.shot.fingerprint for row in rows]):
        if first not in originals:
            originals.setdefault(second, first)
    for copy, original in sorted(originals.items()):
        rejected.append(Rejected(rows[copy].shot.name, f"a copy: of {rows[original].shot.name}"))
    return [row for number, row in enumerate(rows) if number not in originals]


def _bring(row: Row, folder: Path, out: Path, hook: blurring.Blur | None) -> Row | Rejected:
    """Link a photo, or save it blurred, under `out/photos/`."""
    source = folder / row.shot.name
    name = f"photos/{row.shot.name}{'.jpg' if hook else ''}"
    target = out / name
    if hook is None:
        bring.link(source, target)
    elif not target.exists() or target.stat().st_mtime_ns < source.stat().st_mtime_ns:
        try:
            bring.save(hook(photo.load(source).pixels), target)
        except PhotoError as error:
            return Rejected(row.shot.name, str(error).removeprefix(f"{source}: "))
    return replace(row, photo=name)


def _frame(rows: Sequence[Row], licence: str | None, attribution: str | None) -> gpd.GeoDataFrame:
    shots = [row.shot for row in rows]
    return gpd.GeoDataFrame(
        {
            "photo": [row.photo for row in rows],
            "heading": [shot.heading_deg for shot in shots],
            "captured_at": [row.moment for row in rows],
            "sequence": [row.sequence for row in rows],
            "split": "train",
            "fov": [shot.fov_deg for shot in shots],
            "projection": [shot.projection for shot in shots],
            "licence": [shot.rights or licence for shot in shots],
            "attribution": [shot.creator or attribution for shot in shots],
        },
        geometry=gpd.points_from_xy([row.lon for row in rows], [row.lat for row in rows]),
        crs="EPSG:4326",
    )


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with the photos, however deep.")],
    out: Annotated[Path | None, typer.Option(help="Another folder for the dataset, with links.")] = None,
    gpx_tracks: Annotated[
        list[Path], typer.Option("--gpx", help="GPS track of photos without a position; repeat for several.")
    ] = [],  # noqa: B006
    time_offset: Annotated[
        str | None,
        typer.Option(help="How far clocks without a time zone are ahead of UTC: +02:00, or seconds."),
    ] = None,
    max_gap_s: Annotated[
        float, typer.Option(min=0, help="Longest gap between track points to interpolate across.")
    ] = 30.0,
    max_error_m: Annotated[
        float, typer.Option(min=0, help="Largest error a photo may state of its position.")
    ] = 50.0,
    region: Annotated[
        Path | None, typer.Option(help="Region file to search; copied beside the photos.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of photos that do not name theirs.")] = None,
    attribution: Annotated[str | None, typer.Option(help="Whom to name where photos do not say.")] = None,
    blur: Annotated[str | None, typer.Option(help=blurring.HELP)] = None,
) -> None:
    """Make a dataset of your own photos: EXIF, XMP, sidecars and GPS tracks."""
    target = out or folder
    rejected = import_photos(
        folder,
        target,
        clock=Clock(
            tracks=tuple(map(gpx.load, gpx_tracks)),
            offset=gpx.parse_offset(time_offset) if time_offset else None,
            max_gap_s=max_gap_s,
        ),
        max_error_m=max_error_m,
        region=Region.load(region) if region else None,
        licence=licence,
        attribution=attribution,
        blur=blur,
    )
    report.finish(target, rejected)
    for line in advice(target):
        typer.echo(line)


if __name__ == "__main__":
    from data_prep.command import run

    run(main)
