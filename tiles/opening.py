"""The one door to all kinds of imagery."""

import glob
from collections.abc import Sequence
from pathlib import Path

from tiles.errors import TilesError
from tiles.source import Source
from tiles.uri import check_options, is_remote, split_options


def open(uri: str | Path | Sequence[str | Path]) -> Source:
    """Open imagery: one URI, or a sequence of them, stacked: of several the finest that covers a pixel shows it.

    - a raster GDAL reads, in any CRS: a path, a glob of paths, `https://host/scene.tif`, `s3://bucket/scene.tif`
      (also gs and az), `/vsizip/...`;
    - a folder of tiles z/x/y.jpg, .png or .webp; an .mbtiles file.

    Options follow a `#`, as `key=value` joined by `&`; a raster takes `bands=4,3,2` (or one, for grey) and
    `stretch=0,3000`, the values that become black and white: `scene.tif#bands=4,3,2&stretch=0,3000`. Without a
    stretch 16-bit and floating-point values are shown from their 2nd to their 98th percentile; see `RasterSource`.

    Raises TilesError for what cannot be opened; a message never shows a URL's password or the values of its query.
    """
    uris = [uri] if isinstance(uri, str | Path) else list(uri)
    entries = [entry for one in uris for entry in _expand(str(one))]
    if not entries:
        raise TilesError("no imagery given; name a raster file, a folder of tiles or a glob")
    sources = [_open_one(location, options) for location, options in entries]
    if len(sources) == 1:
        return sources[0]
    from tiles.stack import Stack

    return Stack(sources)


def _expand(uri: str) -> list[tuple[str, dict[str, str]]]:
    """The locations a URI means, with its options; a file whose name looks like a glob is that file."""
    if not is_remote(uri) and Path(uri).exists():
        return [(uri, {})]
    location, options = split_options(uri)
    if is_remote(location) or Path(location).exists() or not glob.has_magic(location):
        return [(location, options)]
    found = sorted(glob.glob(location, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    if not found:
        raise TilesError(f"{location}: no file matches; check the folder and the pattern")
    return [(path, options) for path in found]


def _open_one(location: str, options: dict[str, str]) -> Source:
    # rasterio takes 0.3 s to import, so only who opens something pays for it.
    path = Path(location)
    if not is_remote(location) and (path.is_dir() or path.suffix.lower() == ".mbtiles"):
        check_options(location, options, ())
        return _open_tiles(path)
    from tiles.raster import open_raster

    return open_raster(location, options)


def _open_tiles(path: Path) -> Source:
    from tiles.tiled import TiledSource

    if path.suffix.lower() == ".mbtiles":
        from tiles.mbtiles import MBTiles

        return TiledSource(MBTiles(path))
    if (path / "grid.json").is_file():
        from tiles.cells import CellFolder

        return TiledSource(CellFolder(path))
    from tiles.xyz import XYZFolder

    return TiledSource(XYZFolder(path))
