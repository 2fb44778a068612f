"""Is a dataset what its manifest says, and can a result measured on it be trusted?"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import geopandas as gpd
import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_prep.clocks import check_times
from data_prep.duplicates import alike
from data_prep.finding import Finding, unchecked
from data_prep.headings import check_headings
from data_prep.looks import Look, look_at
from data_prep.places import check_imagery, check_region, check_swapped
from data_prep.positions import nearest
from data_prep.shifts import check_shifts
from zoomloc import manifest
from zoomloc.errors import ConfigError
from zoomloc.files import atomic
from zoomloc.region import Region

CHECKS = (
    "disjoint", "region", "swapped", "imagery", "heading", "readable", "copies", "time", "shift", "clock", "compass",
)  # fmt: skip
COPY_BITS = 48  # of 256; different photos differ in 76 or more, one cut by 3 % at every edge in about 48
EXIT_PROBLEMS = 1


def findings(folder: Path, *, min_m: float, reference: Path | None) -> Iterator[Finding]:
    """Every check of the dataset in a folder, one after the other.

    Raises ManifestError, RegionError.
    """
    frame = manifest.read(folder / "manifest.parquet")
    yield check_disjoint(frame, min_m)
    yield from _check_places(frame, folder)
    yield check_headings(frame)
    looks = look_at(folder, list(frame["photo"]))
    yield check_readable(frame, looks)
    yield check_copies(frame, looks)
    yield check_times(frame, looks)
    if reference:
        yield from check_shifts(frame, manifest.read(reference))
    else:
        yield unchecked("shift", "a constant shift of positions, clock or compass needs --reference")


def check_disjoint(frame: gpd.GeoDataFrame, min_m: float) -> Finding:
    """Proves that every val and test photo is at least `min_m` from the nearest train photo.

    How far test photos are from val ones is told, and no problem: val photos choose a model, they do not train it.
    """
    train = frame[frame["split"] == "train"]
    held = frame[frame["split"] != "train"]
    if train.empty or held.empty:
        return unchecked(
            "disjoint", f"all photos are {frame['split'].iloc[0]}" if held.empty else "no train photo"
        )
    distance_m, row = nearest(held, train)
    proof = "; ".join(
        f"{split} {distance_m[held['split'] == split].min():.1f} m or more from train"
        for split in manifest.SPLITS[1:]
        if (held["split"] == split).any()
    )
    if held["split"].nunique() == 2:
        between_m, _ = nearest(held[held["split"] == "test"], held[held["split"] == "val"])
        proof += f", {between_m.min():.1f} m or more from val"
    near = distance_m < min_m
    if not near.any():
        return Finding("disjoint", f"{proof} (asked: {min_m:g} m)")
    worst = int(distance_m.argmin())
    text = (
        f"closer than {min_m:g} m to a train photo; the nearest, {distance_m[worst]:.1f} m: "
        f"{held['photo'].iloc[worst]} and {train['photo'].iloc[int(row[worst])]}"
    )
    return Finding(
        "disjoint", text, list(held["photo"][near]), "make another split: zoomloc prep split --buffer-m"
    )


def check_copies(frame: gpd.GeoDataFrame, looks: Sequence[Look]) -> Finding:
    """Val and test photos that show the same picture as a photo of another split."""
    if frame["split"].nunique() == 1:
        return unchecked("copies", f"all photos are {frame['split'].iloc[0]}")
    readable = np.array([bool(look.fingerprint) for look in looks])
    names, splits = frame["photo"].to_numpy()[readable], frame["split"].to_numpy()[readable]
    prints = np.array([look.fingerprint for look in looks])[readable]
    found: dict[str, str] = {}
    for split, others in (("test", ("train", "val")), ("val", ("train",))):
        ours, theirs = splits == split, np.isin(splits, others)
        for i, j in alike(list(prints[ours]), list(prints[theirs]), at_most=COPY_BITS):
            found.setdefault(names[ours][i], names[theirs][j])
    if not found:
        return Finding(
            "copies", f"no photo of one split is like one of another ({readable.sum():,} compared)"
        )
    one, other = next(iter(found.items()))
    return Finding("copies", f"like a photo of another split, such as {one} and {other}", list(found),
                   "drop them, or keep both in one split")  # fmt: skip


def check_readable(frame: gpd.GeoDataFrame, looks: Sequence[Look]) -> Finding:
    broken = {name: look.problem for name, look in zip(frame["photo"], looks, strict=True) if look.problem}
    if not broken:
        return Finding("readable", f"all {len(looks):,} photos")
    name, problem = next(iter(broken.items()))
    return Finding(
        "readable", f"cannot be read, such as {name}: {problem}", list(broken), "restore or drop them"
    )


def _check_places(frame: gpd.GeoDataFrame, folder: Path) -> Iterator[Finding]:
    if not (folder / "region.json").exists():
        yield unchecked("region", "the folder has no region.json")
        yield check_swapped(frame, None)
        return
    region = Region.load(folder / "region.json")
    yield check_region(frame, region)
    yield check_swapped(frame, region)
    pyramid = region.open()
    yield check_imagery(frame, region, pyramid)
    pyramid.close()


def table(found: Sequence[Finding], accepted: Sequence[str]) -> Table:
    made = Table()
    made.add_column("check", no_wrap=True)
    made.add_column("photos", justify="right", no_wrap=True)
    made.add_column("what was found", ratio=1, overflow="fold")
    for each in found:
        text = escape(each.text) + (f"\n[bold]{escape(each.way_out)}[/]" if each.photos else "")
        state = "-" if not each.checked else "ok" if not each.photos else f"{len(each.photos):,}"
        colour = "" if not each.photos else "yellow" if each.check in accepted else "red"
        made.add_row(each.check, state, text, style=colour)
    return made


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the dataset, with manifest.parquet.")],
    min_m: Annotated[
        float, typer.Option(min=0, help="Least distance of val and test photos to train photos, in metres.")
    ] = 30.0,
    reference: Annotated[
        Path | None, typer.Option(help="Another manifest of the same photos, known to be right.")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="A check whose problem is known and no failure; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write every photo with a problem here (CSV).")] = None,
) -> None:
    """Look for what makes a dataset wrong or a result on it worthless; exits with 1 where anything is found."""
    accepted = accept or []
    for name in accepted:
        if name not in CHECKS:
            raise ConfigError(f"--accept {name}: no such check; there are {', '.join(CHECKS)}")
    found = list(findings(folder, min_m=min_m, reference=reference))
    Console().print(table(found, accepted))
    if out:
        _write(found, out)
    wrong = [each.check for each in found if each.photos]
    problems = [name for name in wrong if name not in accepted]
    but = " but those accepted" if wrong else ""
    typer.echo(f"problems: {', '.join(problems)}" if problems else f"no problems found{but}")
    if problems:
        raise typer.Exit(EXIT_PROBLEMS)


def _write(found: Sequence[Finding], path: Path) -> None:
    with atomic(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["check", "photo"])
        rows.writerows((each.check, name) for each in found for name in each.photos)


if __name__ == "__main__":
    from data_prep.command import run

    run(main)
