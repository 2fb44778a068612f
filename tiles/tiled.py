"""Windows out of tiles, whatever holds them."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import count
from math import log2, sqrt
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from tiles.bounds import Bounds
from tiles.cache import SHARED
from tiles.decode import decode
from tiles.errors import TilesError
from tiles.geo import ground_m
from tiles.source import Source
from tiles.stack import fill
from tiles.store import Level, TileStore
from tiles.view import View, empty_view
from tiles.warp import MARGIN_PX, Canvas, footprint, render
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
        view = empty_view(window.shape)
        for layer in self._layers[self._first_fine_enough(window) :]:
            fill(view, layer, window)
            if layer.level.complete or view.mask.all():
                break
        return view

    def pixels(self, level: Level, col: int, row: int, px: int) -> NDArray[np.uint8] | None:
        """A tile shrunk to px x px: (px, px, 3), or (px, px, 4) where not all is opaque; read-only, shared.

        None where there is none. Raises TilesError for a damaged tile.
        """
        return SHARED.get((self._number, level.key, col, row, px), lambda: self._decoded(level, col, row, px))

    def block(
        self, level: Level, cols: range, rows: range, px: int
    ) -> dict[tuple[int, int], NDArray[np.uint8] | None]:
        """The `pixels` of all tiles of some columns and rows, by (column, row)."""
        places = [(col, row) for row in rows for col in cols]
        if not self.remote or len(places) == 1:
            return {place: self.pixels(level, *place, px) for place in places}
        if len(places) > MAX_FETCHED:
            raise TilesError(
                f"{self.store.describe(level, cols.start, rows.start)}: a window shows {len(places)} such tiles, more "
                f"than {MAX_FETCHED}; ask for a smaller one, or name coarser zooms where the server has them"
            )
        pool = _fetchers(os.getpid())
        return dict(zip(places, pool.map(lambda place: self.pixels(level, *place, px), places), strict=True))

    def close(self) -> None:
        SHARED.forget(self._number)
        self.store.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(TiledSource, remote=self.remote), (self.store,)

    def _first_fine_enough(self, window: Window) -> int:
        """The index of the coarsest level that keeps the detail a window can show; 0 where none does."""
        for i in reversed(range(len(self._layers))):
            if self._layers[i].scale(window) >= 1 - 1e-6:
                return i
        return 0

    def _decoded(self, level: Level, col: int, row: int, px: int) -> NDArray[np.uint8] | None:
        data = self.store.get(level, col, row)
        if data is None:
            return None
        return decode(data, px, padded=self.store.padded, name=self.store.describe(level, col, row))


class _Layer:
    """The tiles of one level."""

    def __init__(self, source: TiledSource, level: Level) -> None:
        self.source, self.level = source, level
        self.crs, self.bounds = source.crs, level.bounds

    def scale(self, window: Window) -> float:
        """Pixels of this level per pixel of a window."""
        place = footprint(window, self.crs, self._transform(self.level.px))
        return place.scale if place else 0.0

    def render(self, window: Window) -> View:
        # Tiles that are much too fine are shrunk by a power of two as they are read.
        shrink = int(log2(max(1.0, self.scale(window))))
        canvas = self._canvas(window, max(1, self.level.px >> shrink))
        return render(canvas, window) if canvas else empty_view(window.shape)

    def _transform(self, px: int) -> Affine:
        """From columns and rows of pixels, in tiles of `px`, to the CRS."""
        west, north = self.level.north_west
        return Affine(self.level.side / px, 0, west, 0, -self.level.side / px, north)

    def _canvas(self, window: Window, px: int) -> Canvas | None:
        """The tiles around a window, each px by px; None where there are none."""
        transform = self._transform(px)
        place = footprint(window, self.crs, transform)
        if place is None:
            return None
        west, north = transform * (place.left - MARGIN_PX, place.top - MARGIN_PX)
        east, south = transform * (place.right + MARGIN_PX, place.bottom + MARGIN_PX)
        cols, rows = self.level.touching(Bounds(west, south, east, north))
        found = self.source.block(self.level, cols, rows, px)
        if all(tile is None for tile in found.values()):
            return None
        rgba = np.zeros((len(rows) * px, len(cols) * px, 4), np.uint8)
        for (x, y), tile in found.items():
            if tile is not None:
                top, left = (y - rows.start) * px, (x - cols.start) * px
                block = rgba[top : top + px, left : left + px]
                block[..., 3] = 255
                block[..., : tile.shape[2]] = tile
        place_of = transform * Affine.translation(cols.start * px, rows.start * px)
        return Canvas(rgba[..., :3], rgba[..., 3], place_of, self.crs)


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
