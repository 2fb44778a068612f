"""Windows out of tiles, whatever holds them."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import count
from math import ceil, floor, log2, sqrt
from typing import Any

import cv2
import numpy as np
from affine import Affine
from numpy.typing import NDArray

from tiles.bounds import Bounds
from tiles.cache import SHARED
from tiles.decode import decode
from tiles.errors import TilesError
from tiles.geo import ground_m
from tiles.locate import Footprint, mapping
from tiles.scratch import scratch
from tiles.source import Source
from tiles.stack import fill
from tiles.store import Level, TileStore
from tiles.view import View, empty_view
from tiles.warp import MARGIN_PX, Canvas, render
from tiles.window import Window

_NUMBERS = count()
FETCHERS = 16  # threads that wait for servers, of a whole process
MAX_FETCHED = 1024  # tiles of one window


class TiledSource(Source):
    """Tiles as a source.

    A window is read from the coarsest level that is fine enough for it; where that one lacks tiles, or shows
    them transparent, coarser levels fill in, unless it is complete. What no level has is masked. Decoded tiles
    are kept in `cache.SHARED`. remote: the store waits for a server, so several tiles are asked for at once, and
    windows of more than `MAX_FETCHED` tiles are refused.
    """

    def __init__(self, store: TileStore, *, remote: bool = False) -> None:
        self.store, self.remote = store, remote
        self.crs, self.bounds, self.attribution = store.crs, store.bounds, store.attribution
        self.levels_m = tuple(_gsd_m(level, store.crs) for level in store.levels)
        self.gsd_m = self.levels_m[0]
        self._number = next(_NUMBERS)  # in the cache; what a source that is gone left there ages out
        self._layers = [_Layer(self, level) for level in store.levels]

    def render(self, window: Window) -> View:
        """See `Source.render`."""
        finest, *coarser = self._layers[self._first_fine_enough(window) :]
        view, complete = finest.render(window), finest.level.complete
        for layer in coarser:
            if complete or view.mask.all():
                break
            view = fill(view, layer, window)
            complete = layer.level.complete
        return view

    def pixels(self, level: Level, col: int, row: int, px: int) -> NDArray[np.uint8] | None:
        """A tile shrunk to px x px: (px, px, 3), or (px, px, 4) where not all is opaque; read-only where
        others may have it too.

        None where there is none. Raises TilesError for a damaged tile.
        """
        return SHARED.get((self._number, level.key, col, row, px), lambda: self._decoded(level, col, row, px))

    def block(
        self, level: Level, cols: range, rows: range, px: int
    ) -> dict[tuple[int, int], NDArray[np.uint8] | None]:
        """The `pixels` of all tiles of some columns and rows, by (column, row)."""
        places = [(col, row) for row in rows for col in cols]
        if not self.remote or len(places) == 1:
            return {place: self.pixels(level, place[0], place[1], px) for place in places}
        if len(places) > MAX_FETCHED:
            raise TilesError(
                f"{self.store.describe(level, cols.start, rows.start)}: a window shows {len(places)} such tiles, more "
                f"than {MAX_FETCHED}; ask for a smaller one, or name coarser zooms where the server has them"
            )
        pool = _fetchers(os.getpid())
        return dict(
            zip(
                places,
                pool.map(lambda place: self.pixels(level, place[0], place[1], px), places),
                strict=True,
            )
        )

    def close(self) -> None:
        SHARED.forget(self._number)
        self.store.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(TiledSource, remote=self.remote), (self.store,)

    def _first_fine_enough(self, window: Window) -> int:
        """The index of the coarsest level that keeps the detail a window can show; 0 where none does."""
        place = mapping(window, self.crs).footprint
        fitting = [i for i, layer in enumerate(self._layers) if place and layer.shrinks(place) >= 1 - 1e-6]
        return max(fitting, default=0)

    def _decoded(self, level: Level, col: int, row: int, px: int) -> NDArray[np.uint8] | None:
        data = self.store.get(level, col, row)
        if data is None:
            return None
        name = partial(self.store.describe, level, col, row)
        return decode(data, px, padded=self.store.padded, name=name)


class _Layer:
    """The tiles of one level."""

    def __init__(self, source: TiledSource, level: Level) -> None:
        self.source, self.level = source, level
        self.crs, self.bounds = source.crs, level.bounds

    def shrinks(self, place: Footprint) -> float:
        """Pixels of this level per pixel of a window; place: in the plane of the CRS."""
        return place.scale * self.level.px / self.level.side

    def render(self, window: Window) -> View:
        place = mapping(window, self.crs).footprint
        canvas = self._canvas(place) if place else None
        return render(canvas, window) if canvas else empty_view(window.shape)

    def _canvas(self, place: Footprint) -> Canvas | None:
        """The pixels around a place in the plane of the CRS, if any, until this thread's next call."""
        level = self.level
        # Tiles that are much too fine are shrunk by a power of two as they are read.
        px = max(1, level.px >> int(log2(max(1.0, self.shrinks(place)))))
        unit, (west, north) = level.side / px, level.north_west
        across = _span((place.left - west) / unit, (place.right - west) / unit, level.cols, px)
        down = _span((north - place.bottom) / unit, (north - place.top) / unit, level.rows, px)
        tiles = self.source.block(level, _tiles(across, px), _tiles(down, px), px) if across and down else {}
        if all(tile is None for tile in tiles.values()):
            return None
        opaque = all(tile is not None and tile.shape[2] == 3 for tile in tiles.values())
        rgba = scratch("canvas", (len(down), len(across), 4), np.uint8)
        if not opaque:
            rgba[:] = 0
        for (col, row), tile in tiles.items():
            if tile is not None:
                _put(tile, col * px - across.start, row * px - down.start, rgba)
        corner = Affine(unit, 0, west + across.start * unit, 0, -unit, north - down.start * unit)
        return Canvas(rgba, None if opaque else rgba[..., 3], corner, self.crs)


def _put(tile: NDArray[np.uint8], left: int, top: int, rgba: NDArray[np.uint8]) -> None:
    """Copy what of a tile lies on a canvas, from a place that may be beyond its edges."""
    shown = tile[max(0, -top) : rgba.shape[0] - top, max(0, -left) : rgba.shape[1] - left]
    top, left = max(0, top), max(0, left)
    place = rgba[top : top + shown.shape[0], left : left + shown.shape[1]]
    if tile.shape[2] == 3:
        cv2.cvtColor(shown, cv2.COLOR_RGB2RGBA, dst=place)  # several times as fast as NumPy copies them
    else:
        place[:] = shown


def _span(start: float, stop: float, tiles: range, px: int) -> range:
    """Whole pixels around a stretch of one axis, with a margin, of those in tiles of `px`."""
    first, last = floor(start) - MARGIN_PX, ceil(stop) + MARGIN_PX
    return range(max(first, tiles.start * px), min(last, tiles.stop * px))


def _tiles(pixels: range, px: int) -> range:
    """The tiles of `px` that have some of the pixels of an axis."""
    return range(pixels.start // px, -(-pixels.stop // px))


@lru_cache(maxsize=1)
def _fetchers(process: int) -> ThreadPoolExecutor:
    """The pool of this process: a forked child has none of its parent's threads."""
    return ThreadPoolExecutor(FETCHERS, thread_name_prefix="tiles")


def _gsd_m(level: Level, crs: str) -> float:
    """Metres on the ground of a pixel in the middle of the tiles: Mercator's metres are longer."""
    x, y = (
        (level.bounds.west + level.bounds.east) / 2,
        (level.bounds.south + level.bounds.north) / 2,
    )
    half = level.side / level.px / 2
    across, along = ground_m(Bounds(x - half, y - half, x + half, y + half), crs)
    return sqrt(across * along)
