"""Whether imagery has changed, without reading it."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tiles.opening import SCHEMES, expand
from tiles.uri import is_remote, split_scheme


def stamp(uri: str | Path | Sequence[str | Path]) -> str:
    """A short text that changes when imagery does: from the name, size and time of every file it consists of.

    uri: as for `tiles.open`. Of what is on a server only the name counts, and of what is made up what it is made of.
    Raises TilesError where no file matches.
    """
    uris = [split_scheme(str(one), SCHEMES)[1] for one in ([uri] if isinstance(uri, str | Path) else uri)]
    digest = hashlib.sha256()
    for location, options in (entry for one in uris for entry in expand(one)):
        digest.update(repr((location, sorted(options.items()))).encode())
        if not is_remote(location):
            for path in _files(Path(location)):
                facts = path.stat()
                digest.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    """A file and those that lie beside it under its name (masks, overviews), or all in a folder, in a fixed order."""
    if path.is_file():
        yield from sorted(path.parent.glob(f"{path.name}*"))
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (Path(folder) / name for name in sorted(names))
