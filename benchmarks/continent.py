"""A continent on paper: imagery, index, results and the cost of photos, from what is measured here and what is assumed.

    python -m benchmarks.continent --out docs/results/continent.json

Measured: seconds a photo and bytes a cell (docs/results/latency.json, DINOv2-base on the cores it names), bytes of a
view as JPEG (of the shipped demonstration's imagery, simulated) and of a row of results (here and now). Assumed: the
options. Prints the plan as Markdown; with --out writes it, and its numbers as JSON.
"""

import json
import tempfile
from dataclasses import asdict, dataclass
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from data_prep.command import run
from zoomloc import tables
from zoomloc.batch.shards import MOST
from zoomloc.files import atomic
from zoomloc.region import Region
from zoomloc.rows import Row

LATENCY = Path(__file__).parent.parent / "docs" / "results" / "latency.json"
DEMO = Path(__file__).parent.parent / "zoomloc" / "assets" / "demo" / "region.json"
BRANCH, VIEW_PX, QUALITY, HOUR_S, MILLION = 4, 384, 90, 3600, 10**6


@dataclass(frozen=True)
class Assumed:
    """What nobody measured. A core-hour's price is in whatever money."""

    area_km2: float
    region_km: float
    leaf_m: float
    core_hour: float
    cores: int
    machines: int


@dataclass(frozen=True)
class Plan:
    """A continent in numbers."""

    depth: int
    leaf_m: float
    regions: int
    cells_a_region: int
    cells: int
    view_bytes: float
    imagery_tb: float
    index_gb_a_region: float
    index_tb: float
    index_core_hours: float
    photo_s: float
    search_s: float
    core_hours_a_million: float
    cost_a_million: float
    days_a_million: float
    everywhere_s: float
    row_bytes: float
    shards_a_million: int
    results_mb_a_million: float


def main(
    area_km2: Annotated[float, typer.Option(help="Of the continent.")] = 10_180_000,
    region_km: Annotated[float, typer.Option(help="Side of a region.")] = 160,
    leaf_m: Annotated[float, typer.Option(help="Side of the smallest cells, at most.")] = 40,
    core_hour: Annotated[float, typer.Option(help="Price of a processor core for an hour.")] = 0.04,
    cores: Annotated[int, typer.Option(help="Those that the measurement used.")] = 2,
    machines: Annotated[int, typer.Option(help="Machines of so many cores.")] = 100,
    out: Annotated[Path | None, typer.Option(help="Write the numbers here (.json), the page beside.")] = None,
) -> None:
    """Print the plan."""
    assumed = Assumed(area_km2, region_km, leaf_m, core_hour, cores, machines)
    measured = json.loads(LATENCY.read_text())
    made = plan(assumed, measured)
    page = markdown(assumed, measured, made)
    typer.echo(page)
    if out:
        with atomic(out) as draft:
            draft.write_text(json.dumps({"assumed": asdict(assumed), "plan": asdict(made)}, indent=1) + "\n")
        with atomic(out.with_suffix(".md")) as draft:
            draft.write_text(page)


def plan(assumed: Assumed, measured: dict) -> Plan:
    """measured: docs/results/latency.json. Regions tile the area; coasts and borders take more than this says."""
    side_m, depth = 1000 * assumed.region_km, 0
    while side_m / BRANCH**depth > assumed.leaf_m:
        depth += 1
    cells = sum(BRANCH ** (2 * level) for level in range(depth))
    regions = ceil(assumed.area_km2 / assumed.region_km**2)
    seconds, bytes_a_cell = measured["seconds"], measured["index_bytes_a_cell"]
    photo_s, view_bytes = seconds["ours, posterior, 25,600 km²"], bytes_of_a_view()
    search_s = photo_s - seconds["encoding the photo"]
    view_s = seconds["the encoder alone, no JPEG"] / 2  # a photo is two squares of a view's size
    core_hours = MILLION * photo_s * assumed.cores / HOUR_S
    row_bytes = bytes_of_a_row()
    return Plan(
        depth=depth,
        leaf_m=side_m / BRANCH**depth,
        regions=regions,
        cells_a_region=cells,
        cells=regions * cells,
        view_bytes=view_bytes,
        imagery_tb=regions * cells * view_bytes / 1e12,
        index_gb_a_region=cells * bytes_a_cell / 1e9,
        index_tb=regions * cells * bytes_a_cell / 1e12,
        index_core_hours=regions * cells * view_s * assumed.cores / HOUR_S,
        photo_s=photo_s,
        search_s=search_s,
        core_hours_a_million=core_hours,
        cost_a_million=core_hours * assumed.core_hour,
        days_a_million=core_hours / assumed.cores / assumed.machines / 24,
        everywhere_s=photo_s + (regions - 1) * search_s,
        row_bytes=row_bytes,
        shards_a_million=ceil(MILLION / MOST),
        results_mb_a_million=row_bytes,
    )


def bytes_of_a_view() -> float:
    """The mean of the demonstration's inner cells, as `tiles build` would keep them."""
    region = Region.load(DEMO)
    pyramid, sizes = region.open(), []
    for level in range(region.depth):
        n = region.grid.n_cells(level)
        for row, col in {(k * n // 4 % n, (3 * k + 1) * n // 8 % n) for k in range(16)}:
            file = BytesIO()
            view = pyramid.view(level, row, col, VIEW_PX)
            Image.fromarray(view.pixels).save(file, format="JPEG", quality=QUALITY)
            sizes.append(file.tell())
    return float(np.mean(sizes))


def bytes_of_a_row() -> float:
    """Of a block of located photos in GeoParquet."""
    rng = np.random.default_rng(0)
    rows = []
    for number, (lat, lon, sure, *radii) in enumerate(rng.random((MOST, 5)).tolist()):
        places = [
            {"lat": lat + i / 997, "lon": lon + i / 991, "probability": sure / (i + 1)} for i in range(5)
        ]
        row = Row(f"s3://photos/2026/{number:09d}.jpg", status="located", lat=lat, lon=lon, confidence=sure)
        facts = {"region": "r17", "path": "5 10 3 7 12 1", "places": json.dumps(places), "model": "0" * 16}
        rows.append(Row(**row.as_dict() | facts | {"radius_50_m": radii[0], "radius_90_m": radii[1]}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.parquet"
        tables.write(rows, path)
        return path.stat().st_size / len(rows)


def markdown(assumed: Assumed, measured: dict, made: Plan) -> str:
    """The plan as a page."""
    two = assumed.cores * assumed.machines
    rows = [
        (
            "regions",
            f"{made.regions:,} of {assumed.region_km:g} km a side, {made.depth} levels, "
            f"leaves of {made.leaf_m:.0f} m",
        ),
        ("views (inner cells)", f"{made.cells_a_region:,} a region, {made.cells / 1e6:,.0f} million in all"),
        ("imagery, one JPEG a view", f"{made.view_bytes / 1e3:.0f} kB each, {made.imagery_tb:,.0f} TB"),
        ("index", f"{made.index_gb_a_region:.2f} GB a region, {made.index_tb:.2f} TB"),
        (
            "encoding the index, once",
            f"{made.index_core_hours:,.0f} core-hours, {made.index_core_hours * assumed.core_hour:,.0f} in money, "
            f"{made.index_core_hours / two / 24:.0f} days on {assumed.machines} machines",
        ),
        (
            "a million photos, each in one region",
            f"{made.core_hours_a_million:,.0f} core-hours, {made.cost_a_million:.1f} in money, "
            f"{made.days_a_million:.2f} days on {assumed.machines} machines",
        ),
        (
            "a photo asked of all regions",
            f"{made.everywhere_s:.0f} s instead of {made.photo_s:.2f} s",
        ),
        (
            "results of a million photos",
            f"{made.row_bytes:.0f} bytes a row, {made.results_mb_a_million:.0f} MB in {made.shards_a_million} shards",
        ),
    ]
    return "\n".join(
        [
            "# A continent on paper",
            "",
            f"`python -m benchmarks.continent`: {assumed.area_km2:,.0f} km², a core-hour at {assumed.core_hour:g}, "
            f"machines of {assumed.cores} cores. Seconds and bytes a cell as measured with DINOv2-base on "
            f"{measured['device']} ([latency](latency.md)); bytes of views and rows as the command finds them, the "
            "views simulated imagery. Not measured: imagery that is not simulated, GPUs, and anything of this size.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows),
            "",
        ]
    )


if __name__ == "__main__":
    run(main)
