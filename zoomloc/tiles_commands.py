"""`zoomloc tiles`: the imagery service on the command line. Regions come from here, for `tiles` knows none."""

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import tiles
from tiles import Bounds
from tiles.build import build as build_pyramid
from tiles.forms import Kind
from tiles.inspect import check as check_cells
from tiles.inspect import info as look_over
from tiles.uri import is_remote, redacted, split_options
from zoomloc.progress import bar
from zoomloc.region import Region

MAP_SIDE = 48  # squares along the side of the map that `provenance` prints
LISTED = 40  # cells named one by one; beyond it a number says enough

Imagery = Annotated[list[str], typer.Argument(help="Imagery: files, folders, globs or URLs.")]


def info(imagery: Imagery) -> None:
    """Say what imagery is: CRS, bounds, resolution, levels, coverage, attribution."""
    for uri in imagery:
        facts = look_over(tiles.open(uri))
        table = Table(
            title=redacted(uri), title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
        )
        table.add_row("kind", facts.kind)
        table.add_row("CRS", facts.crs)
        table.add_row("bounds", _in_words(facts.bounds, "{:.3f}"))
        if facts.lon_lat:
            table.add_row("lon, lat", _in_words(facts.lon_lat, "{:.6f}"))
        table.add_row("resolution", f"{facts.levels_m[0]:.3g} m a pixel on the ground")
        table.add_row("levels", ", ".join(f"{metres:.3g} m" for metres in facts.levels_m))
        table.add_row("coverage", f"{facts.coverage:.1%} of the bounds")
        table.add_row("attribution", facts.attribution or "not stated")
        if facts.synthetic:
            table.add_row(
                "synthetic", "gaps and finer detail are made up: shown, never matched, not counted above"
            )
        Console().print(table, soft_wrap=True)


def build(
    region: Annotated[Path, typer.Option(help="Region file (JSON): the square to build.")],
    out: Annotated[Path, typer.Option(help="What to write: X.mbtiles, X.pmtiles, X.tif, or a folder.")],
    imagery: Annotated[
        list[str] | None, typer.Argument(help="Imagery to build from in place of the region's own.")
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="cells: the region's cells, for the model; web: a web map. Decided by --out if left out."
        ),
    ] = None,
    px: Annotated[int | None, typer.Option(min=16, help="Side of a tile in pixels.")] = None,
    gsd_m: Annotated[float | None, typer.Option(help="Metres a pixel at the finest level.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads (default: one a core).")] = None,
) -> None:
    """Make one pyramid of a region's square out of any imagery. Killed and called again, it goes on."""
    place = Region.load(region)
    pyramid = place.open(imagery or None)
    with bar() as display:
        task = display.add_task(f"building {out.name}", total=None)
        build_pyramid(
            pyramid,
            out,
            kind=kind,
            px=px,
            gsd_m=gsd_m,
            workers=workers,
            progress=lambda done, total: display.update(task, completed=done, total=total),
        )
    typer.echo(f"{out}: built; `zoomloc tiles info {out}` describes it")


def check(
    region: Annotated[Path, typer.Option(help="Region file (JSON).")],
    imagery: Annotated[
        list[str] | None, typer.Argument(help="Imagery to check in place of the region's own.")
    ] = None,
) -> None:
    """Say which cells of a region have no imagery. Ends with 1 where some have none."""
    place = Region.load(region)
    pyramid = place.open(imagery or None)
    with bar() as display:
        task = display.add_task("looking at cells", total=None)
        found = check_cells(
            pyramid, progress=lambda done, total: display.update(task, completed=done, total=total)
        )
    smallest = found.levels[-1]
    typer.echo(f"region '{place.name}': imagery covers {found.levels[0][0, 0]:.1%} of it")
    typer.echo(
        f"smallest cells with a view: {smallest.size}, of which {int((smallest == 1).sum())} are covered whole, "
        f"{found.partial} in part, {int((smallest == 0).sum())} not at all"
    )
    for level, row, col in found.empty[:LISTED]:
        typer.echo(f"  no imagery: level {level}, row {row}, column {col}")
    if len(found.empty) > LISTED:
        typer.echo(f"  ... and {len(found.empty) - LISTED} more")
    if found.empty:
        raise typer.Exit(1)


def provenance(
    file: Annotated[str, typer.Argument(help="An image, a GeoTIFF or a store of tiles.")],
    figure: Annotated[Path | None, typer.Option(help="Draw here (.png) where it is marked.")] = None,
) -> None:
    """Look for the mark of what `synthetic:` makes up. Ends with 1 where it is found, 0 where it is not."""
    from generation.provenance import look  # here: it imports torch

    found = look(file)
    typer.echo(found.line)
    if found.is_marked:
        for row in found.map(MAP_SIDE):
            typer.echo("  " + "".join("█" if marked else "·" for marked in row))
    if figure:
        from generation.provenance_figure import draw

        draw(found, figure)
    if found.is_marked:
        raise typer.Exit(1)


def serve(
    imagery: Annotated[list[str], typer.Argument(help="Region files (JSON), or imagery as for `info`.")],
    host: Annotated[
        str, typer.Option(help="Who can reach it: 127.0.0.1 this machine only, 0.0.0.0 everybody.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
) -> None:
    """Serve imagery as map tiles, windows and zoom cells over HTTP, with a map to look at; until interrupted."""
    from tiles import server  # here: FastAPI takes its time

    sources: dict[str, tiles.Source] = {}
    pyramids: dict[str, tiles.Pyramid] = {}
    for uri in imagery:
        if not is_remote(uri) and uri.endswith(".json"):
            region = Region.load(uri)
            pyramids[_unused(region.name, [*sources, *pyramids])] = region.open()
        else:
            name = split_options(uri)[0].rstrip("/").rpartition("/")[2].partition("?")[0]
            sources[_unused(name, [*sources, *pyramids])] = tiles.open(uri)
    app = server.create_app(sources, pyramids)
    server.serve(
        app,
        host=host,
        port=port,
        ready=lambda url: typer.echo(f"serving {', '.join([*pyramids, *sources])} at {url}"),
    )


def _unused(name: str, used: list[str]) -> str:
    """A name that can be part of a URL, numbered where others have it already."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "imagery"
    numbered = [plain, *(f"{plain}-{i}" for i in range(2, len(used) + 2))]
    return next(one for one in numbered if one not in used)


def _in_words(bounds: Bounds, number: str) -> str:
    west, south, east, north = (number.format(value) for value in bounds)
    return f"{west} .. {east}, {south} .. {north}"
