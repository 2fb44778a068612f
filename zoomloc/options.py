"""Options that several commands have."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class SearchName(StrEnum):
    """How the tree of cells is searched."""

    greedy = "greedy"
    beam = "beam"
    posterior = "posterior"


Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Near = Annotated[
    str | None,
    typer.Option(
        metavar="LAT,LON,RADIUS_M",
        help="All were taken within so many metres of a point; a walk began there.",
    ),
]
Within = Annotated[
    str | None,
    typer.Option(help="Likewise in this area: a GeoJSON file or WEST,SOUTH,EAST,NORTH."),
]
GpsPrior = Annotated[
    float | None,
    typer.Option(
        min=0, help="Use each photo's EXIF position, good to so many metres (1 sigma); 0: as its camera says."
    ),
]
HeadingPrior = Annotated[
    float | None,
    typer.Option(
        "--heading-prior",
        "--heading-from-exif",
        min=0,
        help="Use each photo's EXIF heading, good to so many degrees (1 sigma); 0: to 15.",
    ),
]
Gpx = Annotated[
    list[Path] | None,
    typer.Option(
        help="GPS track for --gps-prior, of photos without a position of their own; repeat for several."
    ),
]
TimeOffset = Annotated[
    str | None,
    typer.Option(help="How far clocks without a time zone are ahead of UTC, for --gpx: +02:00, or seconds."),
]


class EngineName(StrEnum):
    """Where the work is done."""

    local = "local"
    ray = "ray"


Engine = Annotated[EngineName, typer.Option(help="This machine, or a Ray cluster.")]
Address = Annotated[
    str | None,
    typer.Option(
        help="Of the Ray cluster, HOST:PORT; without it or RAY_ADDRESS, a Ray is started on this machine."
    ),
]
