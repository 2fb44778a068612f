"""Windows out of tiles, whatever holds them."""

import os
from collections.abc import Callable
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
WHOLE_PX = 2**20  # of a level that is kept in one piece

Tiles = dict[tuple[int, int], NDArray[np.uint8] | None]  # decoded, by (column, row)


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
        self.number = next(_NUMBERS)  # in the cache; what a source that is gone left there ages out
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
        return SHARED.get((self.number, level.key, col, row, px), lambda: self._decoded(level, col, row, px))

    def block(self, level: Level, cols: range, rows: range, px: int) -> Tiles:
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
        SHARED.forget(self.number)
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
        if not (across and down):
            return None
        corner = Affine(unit, 0, west + across.start * unit, 0, -unit, north - down.start * unit)
        if self._shows_small_level(across, down, px):
            rgba, opaque = self._whole(across, down, px), False  # or it may be: `render` looks
        else:
            tiles = self._tiles(across, down, px)
            opaque = all(tile is not None and tile.shape[2] == 3 for tile in tiles.values())
            rgba = _assembled(tiles, across, down, px, partial(scratch, "canvas"))
        return None if rgba is None else Canvas(rgba, None if opaque else rgba[..., 3], corner, self.crs)

    def _tiles(self, across: range, down: range, px: int) -> Tiles:
        return self.source.block(self.level, _tiles(across, px), _tiles(down, px), px)

    def _shows_small_level(self, across: range, down: range, px: int) -> bool:
        """Whether a rectangle lies on all tiles of a level of no more than `WHOLE_PX`."""
        cols, rows = self.level.cols, self.level.rows
        shows_all = _tiles(across, px) == cols and _tiles(down, px) == rows
        return shows_all and len(cols) * len(rows) * px**2 <= WHOLE_PX

    def _whole(self, across: range, down: range, px: int) -> NDArray[np.uint8] | None:
        """A rectangle of the level's pixels (h, w, 4), read-only, if any. All its tiles put together are kept:
        windows of a whole region show the same ones every time."""
        cols, rows = (range(all.start * px, all.stop * px) for all in (self.level.cols, self.level.rows))
        rgba = SHARED.get(
            (self.source.number, self.level.key, px),
            lambda: _assembled(self._tiles(cols, rows, px), cols, rows, px, np.empty),
        )
        if rgba is None:
            return None
        top, left = down.start - rows.start, across.start - cols.start
        return rgba[top : top + len(down), left : left + len(across)]


def _assembled(
    tiles: Tiles, across: range, down: range, px: int, new: Callable[..., NDArray[np.uint8]]
) -> NDArray[np.uint8] | None:
    """A rectangle of pixels (h, w, 4), made by `new`, out of the tiles of `px` by (column, row); None without any."""
    if all(tile is None for tile in tiles.values()):
        return None
    rgba = new((len(down), len(across), 4), np.uint8)
    for (col, row), tile in tiles.items():
        _put(tile, col * px - across.start, row * px - down.start, px, rgba)
    return rgba


def _put(tile: NDArray[np.uint8] | None, left: int, top: int, px: int, rgba: NDArray[np.uint8]) -> None:
    """Copy what of a tile of `px` lies on a canvas, from a place that may be beyond its edges; transparent for None."""
    place = rgba[max(0, top) : top + px, max(0, left) : left + px]
    if tile is None:
        place[:] = 0
        return
    shown = tile[max(0, -top) :, max(0, -left) :][: place.shape[0], : place.shape[1]]
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
