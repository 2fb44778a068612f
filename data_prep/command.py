"""What every `python -m data_prep.NAME` does, beside `zoomloc prep NAME`: the same command."""

import sys
from collections.abc import Callable

import typer

from tiles import TilesError
from zoomloc.cli import EXIT_BAD_INPUT
from zoomloc.errors import ZoomlocError


def run(main: Callable[..., None]) -> None:
    """Run a command's function on the words of the command line; a user's mistake is one line on stderr."""
    try:
        typer.run(main)
    except (ZoomlocError, TilesError) as error:
        typer.echo(f"zoomloc: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
