"""The command that makes a town."""

from pathlib import Path
from typing import Annotated

import typer

from data_prep.cities.look import Season, Weather
from data_prep.cities.make import make_city
from data_prep.cities.square import Square, around, covering, numbers
from zoomloc.errors import ConfigError


def main(
    out: Annotated[Path, typer.Option(help="Folder to write; a killed run is taken up again.")],
    seed: Annotated[int, typer.Option(help="The same seed makes the same town, byte for byte.")] = 7,
    photos: Annotated[int, typer.Option(min=5, help="Street photos in all.")] = 24000,
    size_m: Annotated[float, typer.Option(help="Side of the town in metres.")] = 2560.0,
    gsd_m: Annotated[float, typer.Option(help="Metres per overhead pixel.")] = 0.5,
    width: Annotated[
        int, typer.Option(help="Width of the 16:9 photos in pixels; panoramas have twice that.")
    ] = 384,
    test: Annotated[int | None, typer.Option(help="Photos held out for testing (default 1 in 40).")] = None,
    val: Annotated[
        int | None, typer.Option(help="Photos held out for validation (default 1 in 120).")
    ] = None,
    osm: Annotated[
        Path | None,
        typer.Option(help="OpenStreetMap file (.osm.pbf, .osm, .osm.gz, .geojson) to lay the town out on."),
    ] = None,
    bbox: Annotated[
        str | None,
        typer.Option(metavar="W,S,E,N", help="With --osm: the place; the square around it is taken."),
    ] = None,
    centre: Annotated[
        str | None, typer.Option(metavar="LAT,LON", help="With --osm: the middle of the square of --size-m.")
    ] = None,
    panoramas: Annotated[
        float, typer.Option(help="Share of the photos that are 360 degree panoramas, 0-1.")
    ] = 0.0,
    sequences: Annotated[
        int, typer.Option(min=0, help="Take all photos on so many drives along the streets.")
    ] = 0,
    season: Annotated[
        Season, typer.Option(help="Of the photos; overhead it is always summer.")
    ] = Season.mixed,
    weather: Annotated[
        Weather, typer.Option(help="Of the photos; overhead it is always clear.")
    ] = Weather.mixed,
    time: Annotated[
        str,
        typer.Option(
            metavar="FROM,TO", help="Hours between which photos are taken, 12 being noon by the sun."
        ),
    ] = "8.6,16.4",
    fov: Annotated[
        str, typer.Option(metavar="LEAST,MOST", help="Horizontal fields of view, in degrees.")
    ] = "60,90",
    workers: Annotated[int | None, typer.Option(help="Processes (default: one a core).")] = None,
) -> None:
    """Simulate a town, made up or on a real one's map: an orthophoto and street photos cast from one geometry."""
    from data_prep.report import finish

    make_city(
        out,
        seed=seed,
        photos=photos,
        size_m=size_m,
        gsd_m=gsd_m,
        width=width,
        test=test,
        val=val,
        workers=workers,
        osm=osm,
        square=_square(osm, bbox, centre, size_m),
        panoramas=panoramas,
        drives=sequences,
        season=season,
        weather=weather,
        hours=_range(time, "FROM,TO"),
        fov_deg=_range(fov, "LEAST,MOST"),
    )
    finish(out, [])


def _range(text: str, names: str) -> tuple[float, float]:
    low, high = numbers(text, names)
    return low, high


def _square(osm: Path | None, bbox: str | None, centre: str | None, size_m: float) -> Square | None:
    """The place asked for, or None for the middle of the map."""
    if bbox is None and centre is None:
        return None
    if osm is None or (bbox is not None and centre is not None):
        raise ConfigError("--bbox and --centre choose a place on a map: give --osm, and one of them")
    if bbox is not None:
        west, south, east, north = numbers(bbox, "W,S,E,N")
        return covering(west, south, east, north)
    lat, lon = numbers(centre or "", "LAT,LON")
    return around(lat, lon, size_m)
