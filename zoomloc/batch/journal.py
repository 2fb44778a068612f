"""Rows as they are found, so that a run that was killed goes on where it was.

Beside the file of results: a line with what decides the results, then a line for every batch of photos, a list of
rows, written and forced to disk as one. What was cut off while being written is dropped. As batches begin where they
would have, a resumed run computes the very numbers of an unbroken one. Rows are kept on disk alone, so that memory
does not grow with the run.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zoomloc.errors import OutputError
from zoomloc.rows import Row, from_dict


class Journal:
    """The journal of one file of results.

    settings: what decides the results; a journal begun with others is refused, and so is one that is there although
    `resume` is not asked for. Raises OutputError for that, and where the file cannot be read or written.
    """

    def __init__(self, out: Path, settings: dict[str, Any], *, resume: bool) -> None:
        self.path, self._folder = place(out), folder(out)
        whole = _whole_lines(self.path)
        if whole and not resume:
            raise OutputError(
                f"{self.path}: a run towards {out} was stopped; go on with --resume, or delete this to begin again"
            )
        if whole:
            self._check(json.loads(whole[0]), settings)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("r+b" if whole else "w+b")
            self._file.truncate(sum(map(len, whole)))
            self._file.seek(0, os.SEEK_END)
            if not whole:
                self._append(settings)
        except OSError as error:
            raise _cannot(self.path, error) from None

    def add(self, rows: Sequence[Row]) -> None:
        """Note a batch of rows: once this returns, no kill undoes them."""
        try:
            self._append([row.as_dict() for row in rows])
        except OSError as error:
            raise _cannot(self.path, error) from None

    def rows(self) -> Iterator[Row]:
        """Those done, in order."""
        return rows_of(_whole_lines(self.path))

    def close(self, *, done: bool) -> None:
        """done: the results are written, and the journal is of no more use."""
        self._file.close()
        if done:
            self.path.unlink(missing_ok=True)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _append(self, content: Any) -> None:
        self._file.write(json.dumps(content).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _check(self, begun_with: dict[str, Any], settings: dict[str, Any]) -> None:
        now = json.loads(json.dumps(settings))
        every = dict.fromkeys([*now, *begun_with])
        if changed := [key for key in every if begun_with.get(key) != now.get(key)]:
            raise OutputError(
                f"{self.path}: begun with other {', '.join(changed)}; give the same, or delete it to begin again"
            )


def place(out: Path) -> Path:
    """Where the journal of a file of results is."""
    return out.with_name(f"{out.name}.journal")


def folder(out: Path) -> Path:
    """Where a run keeps what is no row, as long as it needs its journal."""
    return out.with_name(f"{out.name}.seen")


def rows_of(lines: Sequence[bytes]) -> Iterator[Row]:
    """The rows in the lines of a journal."""
    return (from_dict(values) for line in lines[1:] for values in json.loads(line))


def rows_on_disk(out: Path) -> list[Row]:
    """What a stopped run left. Raises OutputError."""
    return list(rows_of(_whole_lines(place(out))))


def _whole_lines(path: Path) -> list[bytes]:
    """The lines but a last one that was cut off; none where there is no journal. Raises OutputError."""
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    except OSError as error:
        raise _cannot(path, error) from None
    good = [line.endswith(b"\n") and _is_json(line) for line in lines]
    if not all(good[:-1]):
        raise OutputError(f"{path}: damaged in the middle; delete it to begin again")
    return [line for line, is_good in zip(lines, good, strict=True) if is_good]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _cannot(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot be used ({error.strerror}); free or unlock it, or choose another --out"
    )
