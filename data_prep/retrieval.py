"""The benchmarks of cross-view retrieval: CVUSA, CVACT, VIGOR and University-1652.

Writes `pairs.parquet` (zoomloc.pairs), and where the benchmark says where its photos were taken `manifest.parquet` too.
Nothing is copied: with --out both name the images where they are.
"""

import os
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import geopandas as gpd
import pandas as pd
import typer

from data_prep import layouts, report
from data_prep.layouts import Listing, Pair
from data_prep.region import advice
from data_prep.report import Rejected
from zoomloc import manifest, pairs
from zoomloc.errors import ConfigError, OutputError, SourceError
from zoomloc.progress import progress


class Benchmark(StrEnum):
    """A benchmark by its name."""

    cvusa = "cvusa"
    cvact = "cvact"
    vigor = "vigor"
    university = "university-1652"


def import_benchmark(
    name: Benchmark, root: Path, out: Path, *, cross_area: bool = False
) -> tuple[bool, list[Rejected]]:
    """Write the tables of a benchmark into `out`; says whether there is a manifest, and what was left out.

    cross_area: VIGOR's split by cities. Raises SourceError where the folder has not the benchmark's layout or none of
    its images, OutputError where `out` cannot be written, ConfigError for cross_area of another benchmark.
    """
    if cross_area and name is not Benchmark.vigor:
        raise ConfigError(f"--cross-area is a split of vigor, {name} has none; leave it out")
    listing = _list(name, root, cross_area)
    rejected = list(listing.rejected)
    kept = list(_there(listing.pairs, root, rejected))
    if not kept:
        report.list_rejected(out, rejected)
        raise SourceError(f"{root}: none of the images of {name} is there; unpack them beside its lists")
    try:
        out.mkdir(parents=True, exist_ok=True)  # paths such as ../photo.jpg lead nowhere before it is there
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be made ({error.strerror}); name another folder with --out"
        ) from None
    here = os.path.relpath(root.resolve(), out.resolve())
    pairs.write(_pairs(kept, listing, here), out / "pairs.parquet")
    photos = {pair.photo: pair.split for pair in kept if pair.photo and pair.photo in listing.places}
    if photos:
        manifest.write(_manifest(photos, listing, here), out / "manifest.parquet")
    return bool(photos), rejected


def _list(name: Benchmark, root: Path, cross_area: bool) -> Listing:
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder; name the one that {name} was unpacked in")
    match name:
        case Benchmark.cvusa:
            return layouts.cvusa(root)
        case Benchmark.cvact:
            return layouts.cvact(root)
        case Benchmark.vigor:
            return layouts.vigor(root, cross_area=cross_area)
        case Benchmark.university:
            return layouts.university(root)


def _there(listed: list[Pair], root: Path, rejected: list[Rejected]) -> Iterator[Pair]:
    """The pairs whose images are there. An overhead image is looked for once, a photo in as many rows as it has."""
    there: dict[str, bool] = {}
    for pair in progress(listed, "looking for images", len(listed)):
        missing = [
            name
            for name in (pair.photo, pair.overhead)
            if name and not there.setdefault(name, (root / name).is_file())
        ]
        if missing:
            rejected.append(Rejected(pair.photo or pair.overhead, f"a file is missing: {missing[0]}"))
        else:
            yield pair


def _pairs(kept: list[Pair], listing: Listing, here: str) -> pd.DataFrame:
    rows = [
        vars(pair) | {"photo": pair.photo and _seen(here, pair.photo), "overhead": _seen(here, pair.overhead)}
        for pair in kept
    ]
    return pd.DataFrame(rows).assign(licence=listing.licence, attribution=listing.attribution)


def _manifest(photos: dict[str, str], listing: Listing, here: str) -> gpd.GeoDataFrame:
    """Of panoramas, all of them with north in their middle."""
    places = [listing.places[name] for name in photos]
    return gpd.GeoDataFrame(
        {
            "photo": [_seen(here, name) for name in photos],
            "heading": 0.0,
            "captured_at": None,
            "sequence": None,
            "split": list(photos.values()),
            "fov": 360.0,
            "projection": "spherical",
            "licence": listing.licence,
            "attribution": listing.attribution,
        },
        geometry=gpd.points_from_xy([lon for _, lon in places], [lat for lat, _ in places]),
        crs="EPSG:4326",
    )


def _seen(here: str, name: str) -> str:
    return Path(os.path.normpath(f"{here}/{name}")).as_posix()


def main(
    name: Annotated[Benchmark, typer.Argument(help="Which benchmark.")],
    root: Annotated[Path, typer.Argument(help="Folder it was unpacked in.")],
    out: Annotated[Path | None, typer.Option(help="Another folder for the tables.")] = None,
    cross_area: Annotated[
        bool, typer.Option("--cross-area", help="VIGOR: train on two cities, test on the others.")
    ] = False,
) -> None:
    """Make tables of a retrieval benchmark: CVUSA, CVACT, VIGOR or University-1652."""
    target = out or root
    has_manifest, rejected = import_benchmark(name, root, target, cross_area=cross_area)
    if has_manifest:
        report.finish(target, rejected)
    else:
        report.list_rejected(target, rejected)
    table = pairs.read(target / "pairs.parquet")
    typer.echo(f"pairs: {target / 'pairs.parquet'}")
    for split, rows in table.groupby("split"):
        views = Counter(rows.dropna(subset="photo").drop_duplicates("photo")["view"])
        photos = ", ".join(f"{count:,} {view} photos" for view, count in sorted(views.items()))
        typer.echo(f"  {split}: {photos}, {rows['overhead'].nunique():,} images from above")
    if has_manifest:
        for line in advice(target):
            typer.echo(line)
    else:
        typer.echo("no manifest: nothing here says where the photos were taken")


if __name__ == "__main__":
    from data_prep.command import run

    run(main)
