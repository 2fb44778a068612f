"""The forms that imagery is built in: which tiles each takes, and how these become one file or folder."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import floor, log2
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from tiles import mbtiles
from tiles.bounds import Bounds
from tiles.cells import GRID_FILE, CellGrid
from tiles.decode import MAX_TILE_PX, decode
from tiles.encode import JPEG, suffix
from tiles.errors import TilesError
from tiles.geo import ground_m, transform_bounds
from tiles.pyramid import Pyramid
from tiles.store import WORLD_M, Level, mercator_level

Kind = Literal["cells", "web"]
Key = tuple[int, int, int]  # a tile's level, column and row, counted from the north-west

CELL_PX, WEB_PX, BLOCK_PX = 384, 256, 512
MAX_ZOOM = 24
GEOTIFF = (".tif", ".tiff")


class Made(Protocol):
    """Encoded tiles: the `places` of those there are, finest level first, row by row; `get` one of these."""

    def places(self) -> Sequence[Key]: ...

    def get(self, key: Key) -> bytes: ...


@dataclass(frozen=True)
class Form:
    """Tiles to be made, and what becomes of them.

    crs: of the levels. levels: finest first. branch: finer tiles along a side of a coarser one. write: from a path
    where there is nothing, and at least one tile, the finished file or folder. plain: coarser tiles are no JPEGs, see
    `encode`.
    """

    name: str
    crs: str
    levels: tuple[Level, ...]
    branch: int
    write: Callable[[Path, Made], None]
    plain: bool = False


def form_of(
    target: Path,
    pyramid: Pyramid,
    *,
    kind: Kind | None,
    px: int | None,
    gsd_m: float | None,
    attribution: str,
) -> Form:
    """What a target's suffix and `kind` name; see `build.build`. Raises TilesError for what cannot be."""
    ending = target.suffix.lower()
    if ending not in ("", ".mbtiles", ".pmtiles", *GEOTIFF):
        raise TilesError(f"{target}: unknown form; end it in .mbtiles, .pmtiles or .tif, or name a folder")
    if (kind and ending in GEOTIFF) or (kind == "cells" and ending == ".pmtiles"):
        raise TilesError(
            f"{target}: a {ending} file cannot hold the kind {kind!r}; take .mbtiles or a folder"
        )
    if not (1 <= (1 if px is None else px) <= MAX_TILE_PX and (gsd_m is None or gsd_m > 0)):
        raise TilesError(
            f"{target}: px {px}, gsd_m {gsd_m}; give 1 to {MAX_TILE_PX} px and a resolution above 0"
        )
    if ending in GEOTIFF and (px or BLOCK_PX) % 16:
        raise TilesError(f"{target}: blocks of {px} px; a GeoTIFF's are multiples of 16")
    if ending in GEOTIFF:
        return _geotiff(pyramid, px or BLOCK_PX, gsd_m or pyramid.source.gsd_m, attribution)
    if kind == "web" or ending == ".pmtiles":
        return _web_map(target, pyramid, px or WEB_PX, gsd_m or pyramid.source.gsd_m, attribution)
    if gsd_m:
        raise TilesError(f"{target}: the resolution of cells follows from px, a cell's side; leave gsd_m out")
    return _cells(target, pyramid, px or CELL_PX, attribution)


def _cells(target: Path, pyramid: Pyramid, px: int, attribution: str) -> Form:
    grid = CellGrid(
        crs=pyramid.crs,
        north_west=pyramid.north_west,
        size_m=pyramid.size_m,
        branch=pyramid.branch,
        depth=pyramid.depth,
        px=px,
        attribution=attribution,
    )
    write: Callable[[Path, Made], None]
    if target.suffix:
        metadata = {"name": target.stem, "format": "jpg", "attribution": attribution}
        write = partial(_write_mbtiles, metadata, grid)
    else:
        write = partial(_write_cells, grid)
    return Form("cells", grid.crs, grid.levels, grid.branch, write, plain=True)


def _web_map(target: Path, pyramid: Pyramid, px: int, gsd_m: float, attribution: str) -> Form:
    """From the zoom nearest to a resolution to the one where a tile is as large as the square."""
    square = transform_bounds(pyramid.bounds(0, 0, 0), pyramid.crs, "EPSG:3857")
    degrees = transform_bounds(square, "EPSG:3857", "EPSG:4326") if square else None
    if square is None or degrees is None:
        raise TilesError(f"{target}: the square ({pyramid.crs}) has no place on a web map")
    coarsest = max(floor(log2(2 * WORLD_M / max(square.width, square.height))), 0)
    finest = round(log2(2 * WORLD_M * _ground_scale(square, "EPSG:3857") / px / gsd_m))
    levels = []
    for zoom in range(max(min(finest, MAX_ZOOM), coarsest), coarsest - 1, -1):
        every = range(2**zoom)
        cols, rows = mercator_level(zoom, px=px, cols=every, rows=every).touching(square)
        levels.append(mercator_level(zoom, px=px, cols=cols, rows=rows))
    metadata = {
        "name": target.stem,
        "format": "jpg",
        "type": "overlay",
        "bounds": ",".join(f"{value:.7f}" for value in degrees),
        "minzoom": str(coarsest),
        "maxzoom": str(levels[0].key),
        "attribution": attribution,
    }
    writers: dict[str, Callable[[Path, Made], None]] = {
        ".mbtiles": partial(_write_mbtiles, metadata, None),
        ".pmtiles": partial(_write_pmtiles, metadata, degrees),
        "": _write_xyz,
    }
    return Form("web map", "EPSG:3857", tuple(levels), 2, writers[target.suffix.lower()])


def _geotiff(pyramid: Pyramid, px: int, gsd_m: float, attribution: str) -> Form:
    """Blocks from the square's corner on; the last ones reach beyond it."""
    square = pyramid.bounds(0, 0, 0)
    # Rounded, so that a source whose pixels fit the square keeps them.
    side_px = max(round(square.width * _ground_scale(square, pyramid.crs) / gsd_m), 1)
    count = range(-(-side_px // px))
    level = Level(0, pyramid.north_west, square.width / side_px * px, px, count, count)
    write = partial(_write_geotiff, pyramid.crs, level, side_px, attribution)
    return Form("GeoTIFF", pyramid.crs, (level,), 1, write)


def _ground_scale(bounds: Bounds, crs: str) -> float:
    """Metres on the ground per unit of a CRS, in the middle of a rectangle."""
    x, y = (bounds.west + bounds.east) / 2, (bounds.south + bounds.north) / 2
    across, along = ground_m(Bounds(x - 0.5, y - 0.5, x + 0.5, y + 0.5), crs)
    return float(np.sqrt(across * along))


def _write_mbtiles(metadata: dict[str, str], grid: CellGrid | None, path: Path, made: Made) -> None:
    mbtiles.write(path, ((*key, made.get(key)) for key in made.places()), metadata, grid=grid)


def _write_pmtiles(metadata: dict[str, str], degrees: Bounds, path: Path, made: Made) -> None:
    from tiles import pmtiles

    keys = sorted(made.places(), key=lambda key: pmtiles.tile_id(*key))
    pmtiles.write(path, ((*key, made.get(key)) for key in keys), metadata, bounds=degrees)


def _write_cells(grid: CellGrid, path: Path, made: Made) -> None:
    _write_files(
        path, ((f"{level}/{row}/{col}", made.get((level, col, row))) for level, col, row in made.places())
    )
    (path / GRID_FILE).write_text(grid.dumps(), encoding="utf-8")


def _write_xyz(path: Path, made: Made) -> None:
    _write_files(path, (("/".join(map(str, key)), made.get(key)) for key in made.places()))


def _write_files(folder: Path, files: Iterator[tuple[str, bytes]]) -> None:
    for name, data in files:
        path = folder / f"{name}{suffix(data)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _write_geotiff(crs: str, level: Level, side_px: int, attribution: str, path: Path, made: Made) -> None:
    """First a plain GeoTIFF, for GDAL makes a cloud optimized one only out of a whole picture."""
    import rasterio
    from rasterio.shutil import copy
    from rasterio.transform import from_origin
    from rasterio.windows import Window as PixelWindow

    mosaic, px = path.with_name("mosaic.tif"), level.px
    keys = list(product([level.key], level.cols, level.rows))
    found = set(made.places())
    opaque = found.issuperset(keys) and all(suffix(made.get(key)) == ".jpg" for key in keys)
    profile = {
        "driver": "GTiff",
        "width": side_px,
        "height": side_px,
        "count": 3,
        "dtype": "uint8",
        "crs": crs,
        "transform": from_origin(*level.north_west, level.side / px, level.side / px),
        "tiled": True,
        "blockxsize": px,
        "blockysize": px,
        "compress": "zstd",
        "zstd_level": 1,
        "photometric": "rgb",
        "bigtiff": "if_safer",
        "sparse_ok": True,
    }
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(mosaic, "w", **profile) as dataset:
        dataset.update_tags(TIFFTAG_COPYRIGHT=attribution)
        for key in made.places():
            _, col, row = key
            width, height = min(px, side_px - col * px), min(px, side_px - row * px)
            name = partial("{}, block {}".format, path, key)
            pixels = decode(made.get(key), px, padded=False, name=name)[:height, :width]
            window = PixelWindow(col * px, row * px, width, height)
            dataset.write(pixels[..., :3].transpose(2, 0, 1), window=window)
            if not opaque:
                alpha = pixels[..., 3] if pixels.shape[2] == 4 else np.full((height, width), 255, np.uint8)
                dataset.write_mask(alpha, window=window)
    copy(
        mosaic,
        path,
        driver="COG",
        compress="jpeg",
        quality=JPEG["quality"],
        blocksize=px,
        overview_resampling="average",
        bigtiff="if_safer",
    )
    mosaic.unlink()
