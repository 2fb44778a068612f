"""`zoomloc track`, as the command line has it; what it does is imported when it is asked for."""

import sys
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoomloc.errors import CheckpointError, TrackError
from zoomloc.options import Device, GpsPrior, HeadingPrior, Near, Within

if TYPE_CHECKING:
    from zoomloc.batch.jobs import Job

SOME_FAILED = 1
EVERY_S = 1.0


class Pace(StrEnum):
    """How somebody moves."""

    walk = "walk"
    cycle = "cycle"
    drive = "drive"


def track(
    photos: Annotated[Path, typer.Argument(help="A folder of photos with times, or a video.")],
    region: Annotated[Path, typer.Option(help="Region file (JSON).")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    out: Annotated[
        Path, typer.Option(help="The track: .gpx, .geojson, .csv, .jsonl, .parquet, .gpkg, .fgb or .kml.")
    ],
    gpx: Annotated[
        Path | None,
        typer.Option(help="Times from this GPX file: its points in order, for photos in order of name."),
    ] = None,
    pace: Annotated[Pace, typer.Option(help="How one moved.")] = Pace.walk,
    speed: Annotated[
        float | None, typer.Option(min=0.01, help="Metres a second, in place of --pace.")
    ] = None,
    near: Near = None,
    within: Within = None,
    gps_prior: GpsPrior = None,
    heading_prior: HeadingPrior = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the walk here (.png); of several, into this folder.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Locate the photos of a walk together: each helps those before and after it."""
    from zoomloc import priors, tables, track_figure
    from zoomloc.batch import jobs
    from zoomloc.localizer import Localizer
    from zoomloc.region import Region
    from zoomloc.sequence import SPEEDS_M_S, Motion
    from zoomloc.track import follow

    tables.check_suffix(out)
    place = Region.load(region)
    found = jobs.find([str(photos)], every_s=EVERY_S, listed=sys.stdin)
    times = _times(gpx, found) if gpx else {}
    localizer = Localizer.from_pretrained(checkpoint, device=device)
    pyramid = localizer.index(place).pyramid  # refuses a region that does not fit before any photo is read
    if heading_prior is not None and not localizer.states_headings:
        raise CheckpointError("the checkpoint says nothing of headings; leave out --heading-prior")

    walked = follow(
        localizer,
        place,
        found,
        motion=Motion(speed_m_s=speed or SPEEDS_M_S[pace.value]),
        times=times,
        known=priors.asked(place, near_text=near, within_text=within),
        own=partial(priors.all_of_photo, gps_sigma_m=gps_prior, heading_sigma_deg=heading_prior),
    )
    tables.write(walked.rows, out)
    for row in walked.failed:
        typer.echo(f"zoomloc: {row.reason}", err=True)
    for walk in walked.walks:
        name = walk[0].photo.path.name if walk[0].row.frame_s is not None else walk[0].photo.path.parent.name
        here = [fix.prediction for fix in walk if fix.row.status == "located"]
        radii = sorted(p.radius_50_m for p in here)
        sure = (
            f", half of the probability within {radii[len(radii) // 2]:.0f} m in the middle" if radii else ""
        )
        typer.echo(f"{name}: {len(here)} of {len(walk)} photos located{sure}")
        if figure:
            alone = len(walked.walks) == 1 and figure.suffix.lower() == ".png"
            target = figure if alone else figure / f"{name}.png"
            track_figure.draw(walk, region=place, pyramid=pyramid, path=target)
    if walked.failed:
        raise typer.Exit(SOME_FAILED)


def _times(path: Path, found: "Sequence[Job]") -> dict[Path, datetime]:
    """The times of a GPX file's points, for photos in the order of their names."""
    import pandas as pd

    from zoomloc.gpx import points_of

    moments = pd.to_datetime(points_of(path)["time"], utc=True)
    photos = sorted(job.path for job in found if job.frame_s is None)
    if len(moments) != len(photos) or moments.isna().any():
        raise TrackError(
            f"{path}: has {int(moments.notna().sum())} points with a time for {len(photos)} photos; give one for each"
        )
    return dict(zip(photos, (moment.to_pydatetime() for moment in moments), strict=True))
