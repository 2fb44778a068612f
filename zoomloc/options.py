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
