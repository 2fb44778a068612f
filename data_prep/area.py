"""A rectangle on the map, and all the photos a service has in it, though one answer lists only so many.

What was answered is kept in a file, one line for every part of the area: a run that was stopped asks for nothing twice.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import ceil, isfinite
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import typer

from data_prep.service import GO_ON, DownloadError, RequestError, TooSlow
from zoomloc.errors import OutputError
from zoomloc.files import atomic
from zoomloc.progress import progress

SEARCHES = 4  # at once
SMALLEST_DEG = 1e-4  # about 10 m: a part of the area that is not split any further
SILENT_ROUNDS = 3  # without any answer: the service is down, not the area too large

Record = dict[str, Any]  # a photo as the service describes it
S = TypeVar("S")
T = TypeVar("T")


class Area(NamedTuple):
    """A rectangle in degrees of WGS 84."""

    west: float
    south: float
    east: float
    north: float

    @property
    def side_deg(self) -> float:
        """The longer side."""
        return max(self.east - self.west, self.north - self.south)

    def holds(self, lat: float, lon: float) -> bool:
        return self.west <= lon <= self.east and self.south <= lat <= self.north

    def parts(self, side_deg: float) -> list["Area"]:
        """Equal parts without gap or overlap, none with a side longer than this."""
        lons = _cuts(self.west, self.east, side_deg)
        lats = _cuts(self.south, self.north, side_deg)
        return [
            Area(west, south, east, north) for south, north in pairwise(lats) for west, east in pairwise(lons)
        ]

    def quarters(self) -> list["Area"]:
        lon, lat = (self.west + self.east) / 2, (self.south + self.north) / 2
        return [
            Area(self.west, self.south, lon, lat),
            Area(lon, self.south, self.east, lat),
            Area(self.west, lat, lon, self.north),
            Area(lon, lat, self.east, self.north),
        ]


def _cuts(start: float, stop: float, side: float) -> list[float]:
    n = ceil((stop - start) / side)
    return [start + (stop - start) * i / n for i in range(n)] + [stop]


def parse_area(text: str) -> Area:
    """`W,S,E,N` in degrees. Raises DownloadError, one line."""
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        west = south = east = north = float("nan")
    if not all(map(isfinite, (west, south, east, north))):
        raise DownloadError(f"--bbox {text}: not four numbers; give west,south,east,north in degrees")
    if not -180 <= west < east <= 180:
        raise DownloadError(
            f"--bbox {text}: longitudes must grow from west to east within -180..180; correct it"
        )
    if not -90 <= south < north <= 90:
        raise DownloadError(
            f"--bbox {text}: latitudes must grow from south to north within -90..90; correct it"
        )
    return Area(west, south, east, north)


class TooMuch(RequestError):
    """More photos than the service lists in one answer. records: those it did list."""

    def __init__(self, message: str, records: Sequence[Record] = ()) -> None:
        super().__init__(message)
        self.records = list(records)


def search(area: Area, ask: Callable[[Area], list[Record]], *, side_deg: float, kept: Path) -> list[Record]:
    """All photos the service has in an area, each once, by "id".

    ask: lists the photos of a part; raises TooMuch or TooSlow where its quarters should be asked for instead.
    side_deg: of the first parts. kept: the file of answers. Raises what else `ask` raises.
    """
    answers, lock = _read_answers(kept), Lock()
    records: dict[str, Record] = {}

    def settle(part: Area) -> bool:
        """Ask for a part and keep what is answered; False for silence."""
        answer, spoke = None, True
        try:
            answer = ask(part)
        except (TooMuch, TooSlow) as error:
            spoke = isinstance(error, TooMuch)
            if part.side_deg <= SMALLEST_DEG:
                answer = _of_smallest(part, error)
        except RequestError as error:
            raise DownloadError(f"{error}; {GO_ON}") from None
        with lock:
            _append(kept, json.dumps({"area": part, "photos": answer}))
            answers[part] = answer
        return spoke

    pending, silent = area.parts(side_deg), 0
    while pending:
        spoke = list(
            side_by_side(settle, [p for p in pending if p not in answers], SEARCHES, "asking for photos")
        )
        silent = 0 if any(spoke) or not spoke else silent + 1
        if silent == SILENT_ROUNDS:
            raise DownloadError(f"the service does not answer, however little is asked of it; {GO_ON}")
        records |= {record["id"]: record for part in pending for record in answers[part] or ()}
        pending = [quarter for part in pending if answers[part] is None for quarter in part.quarters()]
    return list(records.values())


def _of_smallest(part: Area, error: RequestError) -> list[Record]:
    """What there is of a part too small to be split."""
    if not isinstance(error, TooMuch) or not error.records:
        raise DownloadError(
            f"{error}, asked for a few metres around {part.south:.5f}, {part.west:.5f}; {GO_ON}"
        )
    typer.echo(f"around {part.south:.5f}, {part.west:.5f} are more photos than the service lists", err=True)
    return error.records


def _append(kept: Path, line: str) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with kept.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise OutputError(f"{kept}: cannot be written ({error.strerror}); choose another --out") from None


def _read_answers(kept: Path) -> dict[Area, list[Record] | None]:
    """What earlier runs were answered: photos, or None where the quarters of a part tell.

    A last line that was cut off is cut from the file as well, since more lines will follow.
    """
    if not kept.exists():
        return {}
    data = kept.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with atomic(kept) as draft:
            draft.write_bytes(whole)
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        return {Area(*line["area"]): line["photos"] for line in lines}
    except (ValueError, KeyError, TypeError):
        raise DownloadError(f"{kept}: damaged; delete it to search anew") from None


def side_by_side(work: Callable[[S], T], items: Sequence[S], workers: int, what: str) -> Iterator[T]:
    """The results in order, with a progress bar; what has not begun is dropped where the run is stopped."""
    pool = ThreadPoolExecutor(workers)
    try:
        if items:
            yield from progress(pool.map(work, items), what, len(items))
    finally:
        pool.shutdown(cancel_futures=True)
