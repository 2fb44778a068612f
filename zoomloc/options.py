"""Options that several commands have."""

from enum import StrEnum
from typing import Annotated

import typer


class SearchName(StrEnum):
    """How the tree of cells is searched."""

    greedy = "greedy"
    beam = "beam"
    posterior = "posterior"


Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
