"""A record of work done, one JSON line an item, so that a run that was stopped goes on where it was."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from zoomloc.errors import OutputError


class Journal:
    """Items by name, each with a stamp that tells whether it is still the one that was worked on.

    Raises OutputError where the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_bytes().splitlines() if path.exists() else []
            self._done = dict(filter(None, map(_parse, lines)))
            self._file = path.open("a", encoding="utf-8")
            if lines:
                self._file.write("\n")  # ends a line that was cut off
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def recall(self, name: str, stamp: list[int]) -> dict[str, Any] | None:
        """What was noted of an item under this stamp."""
        known = self._done.get(name)
        return known[1] if known and known[0] == stamp else None

    def note(self, name: str, stamp: list[int], facts: dict[str, Any]) -> None:
        self._done[name] = stamp, facts
        self._file.write(json.dumps([name, stamp, facts]) + "\n")
        self._file.flush()


def _parse(line: bytes) -> tuple[str, tuple[list[int], dict[str, Any]]] | None:
    try:
        name, stamp, facts = json.loads(line)
        return name, (stamp, facts)
    except ValueError:  # empty, or cut off by whatever stopped the run
        return None
