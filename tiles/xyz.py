"""Folders of map tiles as web maps use them: z/x/y.jpg, .png or .webp, Web Mercator, y from the north."""

from collections.abc import Iterator
from itertools import pairwise
from math import ceil, floor, log2, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tiles.bounds import Bounds
from tiles.errors import TilesError
from tiles.geo import check_window, ground_m
from tiles.stack import fill
from tiles.view import View, empty_view
from tiles.warp import MARGIN_PX, Canvas, footprint, render

CRS = "EPSG:3857"
WORLD_M = 20037508.342789244  # from the middle of the Web Mercator square to its edges
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FRAY = 16  # how far JPEG drives pure white or black padding off its value, near the imagery


class XYZSource:
    """A folder of tiles.

    A window is read from the coarsest zoom that is fine enough for it; where that one lacks tiles, or shows
    them transparent, coarser zooms fill in. What no zoom has is masked, and so is padding painted into tiles:
    pure white or pure black along a whole edge, as far as it reaches from there.
    bounds: around the tiles that no finer tile replaces.
    Raises TilesError for a folder without tiles, and for a damaged tile when it is read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.crs = CRS
        self.attribution = ""
        self._zooms = _find_zooms(self.folder)  # finest first
        self.bounds = _bounds_of_leaves(self._zooms)
        self.gsd_m = self._zooms[0].gsd_m

    def read(self, bounds: Bounds, crs: str, shape: tuple[int, int]) -> View:
        """See `Source.read`."""
        check_window(bounds, crs, shape)
        view = empty_view(shape)
        fine_enough = [zoom for zoom in self._zooms if zoom.scale(bounds, crs, shape) >= 1 - 1e-6]
        start = self._zooms.index(fine_enough[-1]) if fine_enough else 0
        for zoom in self._zooms[start:]:
            fill(view, zoom, bounds, crs)
        return view

    def close(self) -> None:
        """Nothing stays open."""

    def __reduce__(self) -> tuple[Any, ...]:
        return XYZSource, (self.folder,)


class _Zoom:
    """The tiles of one zoom, a source of its own. paths: by (x, y)."""

    def __init__(self, zoom: int, paths: dict[tuple[int, int], Path]) -> None:
        self.crs = CRS
        self.attribution = ""
        self.zoom = zoom
        self.paths = paths
        x, y = np.array(list(paths)).T
        self.bounds = self.tile_bounds(int(x.min()), int(y.min()), int(x.max()), int(y.max()))
        self.tile_px = _decode(next(iter(paths.values()))).width
        self.gsd_m = self._gsd_m()

    def tile_bounds(self, west: int, north: int, east: int, south: int) -> Bounds:
        """Around the tiles of columns west..east and rows north..south, both included."""
        side_m = 2 * WORLD_M / 2**self.zoom
        return Bounds(
            west=west * side_m - WORLD_M,
            south=WORLD_M - (south + 1) * side_m,
            east=(east + 1) * side_m - WORLD_M,
            north=WORLD_M - north * side_m,
        )

    def scale(self, bounds: Bounds, crs: str, shape: tuple[int, int]) -> float:
        """Pixels of this zoom per pixel of a window."""
        place = footprint(bounds, crs, shape, raster_crs=CRS, raster_transform=self._transform(self.tile_px))
        return place.scale if place else 0.0

    def read(self, bounds: Bounds, crs: str, shape: tuple[int, int]) -> View:
        """See `Source.read`."""
        # Tiles that are much too fine are shrunk by a power of two as they are read.
        shrink = int(log2(max(1.0, self.scale(bounds, crs, shape))))
        px = max(1, self.tile_px >> shrink)
        canvas = self._canvas(bounds, crs, shape, px)
        return render(canvas, bounds, crs, shape) if canvas else empty_view(shape)

    def close(self) -> None:
        """Nothing stays open."""

    def _gsd_m(self) -> float:
        """Metres on the ground of a pixel in the middle of the tiles: Mercator's metres are longer."""
        x, y = (self.bounds.west + self.bounds.east) / 2, (self.bounds.south + self.bounds.north) / 2
        half = WORLD_M / 2**self.zoom / self.tile_px
        across, along = ground_m(Bounds(x - half, y - half, x + half, y + half), CRS)
        return sqrt(across * along)

    def _transform(self, px: int) -> Affine:
        """From the columns and rows of the whole world, in tiles of `px`, to Web Mercator."""
        m_per_px = 2 * WORLD_M / 2**self.zoom / px
        return Affine(m_per_px, 0, -WORLD_M, 0, -m_per_px, WORLD_M)

    def _canvas(self, bounds: Bounds, crs: str, shape: tuple[int, int], px: int) -> Canvas | None:
        """The tiles around a window, each px by px; None where there are none."""
        place = footprint(bounds, crs, shape, raster_crs=CRS, raster_transform=self._transform(px))
        if place is None:
            return None
        cols = _tiles_of(place.left, place.right, px)
        rows = _tiles_of(place.top, place.bottom, px)
        found = [(x, y) for y in rows for x in cols if (x, y) in self.paths]
        if not found:
            return None
        rgba = np.zeros((len(rows) * px, len(cols) * px, 4), np.uint8)
        for x, y in found:
            top, left = (y - rows.start) * px, (x - cols.start) * px
            rgba[top : top + px, left : left + px] = _pixels(self.paths[x, y], px)
        transform = self._transform(px) * Affine.translation(cols.start * px, rows.start * px)
        return Canvas(rgba[..., :3], rgba[..., 3], transform, CRS)


def _tiles_of(start: float, stop: float, px: int) -> range:
    return range(floor((start - MARGIN_PX) / px), ceil((stop + MARGIN_PX) / px))


def _pixels(path: Path, px: int) -> NDArray[np.uint8]:
    """A tile as (px, px, 4) RGBA."""
    image = _decode(path)
    padding = _padding(np.asarray(image)[..., :3])
    if padding.any():
        rgba = np.array(image)
        rgba[padding] = 0
        image = Image.fromarray(rgba)
    if image.size != (px, px):
        image = image.resize((px, px), Image.Resampling.BOX)
    return np.asarray(image)


def _padding(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(h, w): what was never imagery. JPEG has no transparency, so tiles are filled up in white or black."""
    padding = np.zeros(rgb.shape[:2], bool)
    for pure in (255, 0):
        if not (rgb[[0, 0, -1, -1], [0, -1, 0, -1]] == pure).all(axis=-1).any():
            continue  # no corner, so no whole edge: most tiles end here
        near = (np.abs(rgb.astype(np.int16) - pure) <= FRAY).all(axis=-1)
        for turns in range(4):
            if (np.rot90(rgb, turns)[0] == pure).all():
                np.rot90(padding, turns)[:] |= np.logical_and.accumulate(np.rot90(near, turns), axis=0)
    return padding


def _decode(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGBA")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        reason = " ".join(str(error).replace(str(path), "it").split())
        raise TilesError(f"{path}: not a readable tile ({reason}); fetch it again or delete it") from None


def _find_zooms(folder: Path) -> list[_Zoom]:
    """All tiles below a folder, finest zoom first."""
    zooms = []
    for zoom_folder in sorted(_numbered(folder), key=lambda path: int(path.name), reverse=True):
        paths = {
            (int(column.name), int(tile.stem)): tile
            for column in _numbered(zoom_folder)
            for tile in column.iterdir()
            if tile.stem.isdecimal() and tile.suffix.lower() in SUFFIXES
        }
        if paths:
            zooms.append(_Zoom(int(zoom_folder.name), paths))
    if not zooms:
        raise TilesError(
            f"{folder}: no tiles z/x/y.jpg, .png or .webp in this folder; "
            f"for a folder of rasters give a glob, such as {folder / '*.tif'}"
        )
    return zooms


def _numbered(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())


def _bounds_of_leaves(zooms: list[_Zoom]) -> Bounds:
    """Around the tiles without finer ones below them: coarse tiles reach far beyond what they show."""
    boxes = [zooms[0].bounds]
    for finer, zoom in pairwise(zooms):
        steps = finer.zoom - zoom.zoom
        leaves = zoom.paths.keys() - {(x >> steps, y >> steps) for x, y in finer.paths}
        boxes += [zoom.tile_bounds(x, y, x, y) for x, y in leaves]
    west, south, east, north = zip(*boxes, strict=True)
    return Bounds(min(west), min(south), max(east), max(north))
