"""The one door to all kinds of imagery."""

import glob
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

from tiles.errors import TilesError
from tiles.source import Source
from tiles.store import TileStore
from tiles.uri import check_options, check_url, is_remote, redacted, split_options, split_scheme

# Schemes of URIs that wrap others, and what opens what they wrap. Found by name: nothing here imports these rooms.
SCHEMES = {"synthetic": "generation.synthetic:open_uri"}


def open(uri: str | Path | Sequence[str | Path]) -> Source:
    """Open imagery: one URI, or a sequence of them, stacked: of several the finest that covers a pixel shows it.

    - a raster GDAL reads, in any CRS: a path, a glob of paths, `https://host/scene.tif`, `s3://bucket/scene.tif`
      (also gs and az), `/vsizip/...`;
    - tiles: a folder z/x/y.jpg, .png or .webp, one with a `layout.yaml` (of tiledwebmaps), one of cells (`build`);
      an .mbtiles or .pmtiles file; `https://host/imagery.pmtiles`;
    - tiles of a server: `https://host/{z}/{x}/{y}.png` (rows from the south: {-y}), a TileJSON `https://host/x.json`,
      the capabilities of a WMTS, `wmts:https://host/...`.

    Options follow a `#`, as `key=value` joined by `&`, which no server sees:
    - of a raster, `bands=4,3,2` (or one, shown grey) and `stretch=0,3000`, the values that become black and white:
      `scene.tif#bands=4,3,2&stretch=0,3000`. Without a stretch 8-bit values are shown as they are, 16-bit and
      floating-point ones from their 2nd to their 98th percentile; see `RasterSource`.
    - of a template, `zooms=0-19` (what is assumed) and `px=512` (256, or 512 for @2x); of a TileJSON, `px`;
    - of a WMTS, `layer`, `matrix_set`, `style` and `format`, where it has several.

    `synthetic:` before a URI makes up, by a model, what the imagery does not show: gaps, and detail below its finest
    pixel; see `generation.synthetic`. Views say which pixels those are.

    Tiles of servers are kept on disk, see `disk_cache`, and used when the server cannot be reached.

    Raises TilesError for what cannot be opened; a message never shows a URL's password or the values of its query.
    """
    uris = [uri] if isinstance(uri, str | Path) else list(uri)
    sources = [source for one in uris for source in _opened(str(one))]
    if not sources:
        raise TilesError("no imagery given; name a raster file, a folder of tiles or a glob")
    if len(sources) == 1:
        return sources[0]
    from tiles.stack import Stack

    return Stack(sources)


def _opened(uri: str) -> list[Source]:
    scheme, wrapped = split_scheme(uri, SCHEMES)
    if not scheme:
        return [_open_one(location, options) for location, options in expand(uri)]
    module, function = SCHEMES[scheme].split(":")
    return [getattr(import_module(module), function)(wrapped)]


def expand(uri: str) -> list[tuple[str, dict[str, str]]]:
    """The locations a URI means, with its options; a file whose name looks like a glob is that file."""
    if not is_remote(uri) and Path(uri).exists():
        return [(uri, {})]
    location, options = split_options(uri)
    if is_remote(location):
        check_url(location)
        return [(location, options)]
    if Path(location).exists() or not glob.has_magic(location):
        return [(location, options)]
    found = sorted(glob.glob(location, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    if not found:
        raise TilesError(f"{location}: no file matches; check the folder and the pattern")
    return [(path, options) for path in found]


def _open_one(location: str, options: dict[str, str]) -> Source:
    # rasterio takes 0.3 s to import, so only who opens something pays for it.
    store = _store(location, options)
    if store is None:
        from tiles.raster import open_raster

        return open_raster(location, options)
    from tiles.tiled import TiledSource

    return TiledSource(store, remote=is_remote(location))


def _store(location: str, options: dict[str, str]) -> TileStore | None:
    """The tiles that a location holds, None where it must be a raster."""
    if is_remote(location):
        return _remote_store(location, options)
    path = Path(location)
    suffix = path.suffix.lower()
    if not (path.is_dir() or suffix in (".mbtiles", ".pmtiles")):
        return None
    check_options(location, options, ())
    if suffix == ".mbtiles":
        from tiles.mbtiles import MBTiles

        return MBTiles(path)
    if suffix == ".pmtiles":
        from tiles.pmtiles import LocalFile, PMTiles

        return PMTiles(LocalFile(path))
    if (path / "grid.json").is_file():
        from tiles.cells import CellFolder

        return CellFolder(path)
    if (path / "layout.yaml").is_file():
        from tiles.tiledwebmaps import TiledWebMaps

        return TiledWebMaps(path)
    from tiles.xyz import XYZFolder

    return XYZFolder(path)


def _remote_store(url: str, options: dict[str, str]) -> TileStore | None:
    path = urlsplit(url).path.lower()
    if "{" in url:
        from tiles.web import open_template

        return open_template(url, options)
    if url.startswith("wmts:") or "wmtscapabilities" in path or "request=getcapabilities" in url.lower():
        from tiles.wmts import open_wmts

        return open_wmts(url.removeprefix("wmts:"), options)
    if path.endswith(".json"):
        from tiles.web import open_tilejson

        return open_tilejson(url, options)
    if path.endswith(".pmtiles") and url.startswith("http"):
        from tiles.pmtiles import PMTiles
        from tiles.web import RemoteFile

        check_options(url, options, ())
        return PMTiles(RemoteFile(url))
    if path.endswith(".mbtiles"):
        raise TilesError(
            f"{redacted(url)}: MBTiles cannot be read over the network; download the file and give its path"
        )
    return None
