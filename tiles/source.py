"""The contract every kind of imagery follows, and the one door to all of them."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tiles.bounds import Bounds
from tiles.errors import TilesError
from tiles.view import View


class Source(Protocol):
    """Something that renders any window of any CRS into pixels.

    crs: of the imagery itself, such as "EPSG:32632". bounds: of the imagery, in that CRS. gsd_m: metres on
    the ground of its finest pixel. attribution: whom to name, "" where unknown. Sources may be read from
    several threads and processes at once, and pickled.
    """

    crs: str
    bounds: Bounds
    gsd_m: float
    attribution: str

    def read(self, bounds: Bounds, crs: str, shape: tuple[int, int]) -> View:
        """The window `bounds` of `crs` as shape = (height, width) pixels, north up.

        Averages areas when shrinking, interpolates when enlarging. What has no imagery is masked. Raises
        TilesError for an unknown CRS or an empty window.
        """

    def close(self) -> None:
        """Release open files; a later read opens them again."""


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
        from tiles.xyz import XYZSource

        return XYZSource(path)
    from tiles.raster import RasterSource

    return RasterSource(path)
