"""The end of every importer: a report of one screen, a map, and a list of what was left out."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_prep import maps
from zoomloc import manifest
from zoomloc.files import atomic

REASONS_SHOWN = 10


@dataclass(frozen=True)
class Rejected:
    """A photo that did not become a row of the manifest: its name, and why in a few words.

    Reasons are counted by what stands before a ": "; what follows is about the one photo.
    """

    name: str
    reason: str


def finish(folder: Path, rejected: Sequence[Rejected]) -> None:
    """Print what `folder/manifest.parquet` holds; write `map.png` and, where any were rejected, `rejected.csv`.

    The rejected are listed first, so that they are told even where no photo is left for a manifest.
    Raises ManifestError where there is no valid manifest, OutputError where a file cannot be written.
    """
    list_rejected(folder, rejected)
    console = Console()
    frame = manifest.read(folder / "manifest.parquet")
    _say(console, f"manifest: {folder / 'manifest.parquet'}")
    console.print(_summary(frame))
    maps.draw(frame, maps.ground(frame, folder), folder / "map.png", title=folder.resolve().name)
    _say(console, f"map: {folder / 'map.png'}")


def list_rejected(folder: Path, rejected: Sequence[Rejected]) -> None:
    """Print why photos were rejected and write `rejected.csv`, where any were. Raises OutputError."""
    _write_rejected(folder / "rejected.csv", rejected)
    if rejected:
        console = Console()
        console.print(f"{len(rejected):,} photos rejected, all of them listed in rejected.csv")
        console.print(_reasons(rejected))


def _say(console: Console, text: str) -> None:
    """Paths stay in one piece, to be copied."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _write_rejected(path: Path, rejected: Sequence[Rejected]) -> None:
    if not rejected:
        path.unlink(missing_ok=True)  # that of an earlier run
        return
    with atomic(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["photo", "reason"])
        rows.writerows((each.name, each.reason) for each in rejected)


def _reasons(rejected: Sequence[Rejected]) -> Table:
    """The rejected grouped by reason, the commonest first."""
    table = Table()
    table.add_column("photos", justify="right", no_wrap=True)
    table.add_column("reason")
    table.add_column("such as", max_width=34, overflow="ellipsis", no_wrap=True)
    kinds = [each.reason.partition(": ")[0] for each in rejected]
    names = {kinds[i]: rejected[i].name for i in reversed(range(len(rejected)))}  # the first of each kind
    counts = Counter(kinds).most_common()
    for reason, count in counts[:REASONS_SHOWN]:
        table.add_row(f"{count:,}", escape(reason), escape(names[reason]))
    if len(counts) > REASONS_SHOWN:
        rest = sum(count for _, count in counts[REASONS_SHOWN:])
        table.add_row(f"{rest:,}", f"{len(counts) - REASONS_SHOWN} other reasons", "")
    return table


def _summary(frame: gpd.GeoDataFrame) -> Table:
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _facts(frame):
        table.add_row(label, escape(text))
    return table


def _facts(frame: gpd.GeoDataFrame) -> Iterator[tuple[str, str]]:
    splits = frame["split"].value_counts()
    parts = ", ".join(f"{splits[name]:,} {name}" for name in manifest.SPLITS if name in splits)
    yield "photos", f"{len(frame):,}: {parts}"
    yield "positions", _extent(frame)
    for column in ("heading", "captured_at", "fov"):
        yield column, _known(int(frame[column].notna().sum()), len(frame))
    times = frame["captured_at"].dropna()
    if len(times):
        yield "taken", f"{times.min():%Y-%m-%d} to {times.max():%Y-%m-%d} (UTC)"
    drives = frame["sequence"].nunique()
    yield "sequences", f"{drives:,}" if drives else "none"
    for column in ("projection", "licence", "attribution"):
        yield column, _counts(frame, column)


def _extent(frame: gpd.GeoDataFrame) -> str:
    west, south, east, north = frame.total_bounds
    return f"latitude {south:.5f} to {north:.5f}, longitude {west:.5f} to {east:.5f}"


def _known(count: int, total: int) -> str:
    return "every photo" if count == total else f"{count:,} of {total:,} photos" if count else "none"


def _counts(frame: gpd.GeoDataFrame, column: str, shown: int = 3) -> str:
    """The commonest values of a column of texts, with the number of photos of each where there are several."""
    values = frame[column].fillna("not said").value_counts()
    if len(values) == 1:
        return str(values.index[0])
    named = [f"{value} ({count:,})" for value, count in values[:shown].items()]
    return ", ".join(named) + (f" and {len(values) - shown} more" if len(values) > shown else "")
