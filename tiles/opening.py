"""The one door to all kinds of imagery."""

import glob
from collections.abc import Sequence
from pathlib import Path

from tiles.errors import TilesError
from tiles.source import Source


def open(uri: str | Path | Sequence[str | Path]) -> Source:
    """Open imagery: a raster file, a folder of z/x/y tiles, a glob, or a sequence of these (stacked).

    Of several sources the finest that covers a pixel shows it. Raises TilesError for what cannot be opened.
    """
    uris = [uri] if isinstance(uri, str | Path) else list(uri)
    paths = [path for entry in uris for path in _expand(entry)]
    if not paths:
        raise TilesError("no imagery given; name a raster file, a folder of tiles or a glob")
    sources = [_open_one(path) for path in paths]
    if len(sources) == 1:
        return sources[0]
    from tiles.stack import Stack

    return Stack(sources)


def _expand(uri: str | Path) -> list[Path]:
    """The paths a URI means; a file whose name looks like a glob is that file."""
    path = Path(uri)
    if path.exists() or not glob.has_magic(str(uri)):
        return [path]
    found = sorted(map(Path, glob.glob(str(uri), recursive=True)))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    if not found:
        raise TilesError(f"{uri}: no file matches; check the folder and the pattern")
    return found


def _open_one(path: Path) -> Source:
    # rasterio takes 0.3 s to import, so only who opens something pays for it.
    if path.is_dir():
        from tiles.tiled import TiledSource
        from tiles.xyz import XYZFolder

        return TiledSource(XYZFolder(path))
    from tiles.raster import RasterSource

    return RasterSource(path)
