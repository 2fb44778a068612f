"""Progress bars with an ETA, on stderr, for work that takes long."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


def bar(*extra: str) -> Progress:
    """A rich progress display; `extra` are more columns, as rich format strings."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *(TextColumn(column) for column in extra),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def progress(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Pass items through, showing how many of `total` have gone by."""
    with bar() as display:
        yield from display.track(items, total=total, description=what)
