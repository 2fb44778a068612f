"""A record of work done, one JSON line an item, so that a run that was stopped goes on where it was."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from zoomloc.errors import OutputError


class Journal:
    """Items by name, each with a stamp that tells whether it is still the one that was worked on.

    settings: what decides the results beside the items themselves; a journal begun with others is refused.
    Raises OutputError for that, and where the file cannot be read or written.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._done: dict[str, tuple[list[Any], Any]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            first, *lines = (path.read_bytes() if path.exists() else b"").splitlines() or [b""]
            begun_with = _parse(first)
            if begun_with and begun_with != json.loads(json.dumps([settings])):
                raise OutputError(
                    f"{path.parent}: was begun from other data or with other settings; name another folder with "
                    f"--out, or delete {path} to do it all again"
                )
            self._file = path.open("a" if begun_with else "w", encoding="utf-8")
            self._file.write("\n" if begun_with else json.dumps([settings]) + "\n")  # or ends a line cut off
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
        for name, stamp, facts in filter(None, map(_parse, lines)):
            self._done[name] = stamp, facts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def recall(self, name: str, stamp: list[Any]) -> Any:
        """What was noted of an item under this stamp, else None."""
        known_stamp, facts = self._done.get(name, (None, None))
        return facts if known_stamp == stamp else None

    def note(self, name: str, stamp: list[Any], facts: Any) -> None:
        self._done[name] = stamp, facts
        self._file.write(json.dumps([name, stamp, facts]) + "\n")
        self._file.flush()


def stamp_of(path: Path) -> list[Any]:
    """What tells whether a file has changed."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # empty, or cut off by whatever stopped the run
        return None
