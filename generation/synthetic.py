"""`synthetic:` before a URI of imagery: what it does not show is made up by a tile model, flagged and marked.

    synthetic:city.tif
    synthetic:imagery/*.tif#levels=2&seed=7
    synthetic:scene.tif#bands=4,3,2&gaps=no

Two things are made up: detail below the finest pixel of the imagery, so many `levels` of it, each of half the pixel;
and what shows in gaps. Options stand after the `#`, beside those of the imagery itself:

- levels: 1 unless given; 0 for none. gaps: `no` leaves them empty.
- seed: of what is drawn; 0 unless given. The same seed shows the same, whoever asks for what first.
- model: folder of a checkpoint of `generation.train`; the one that comes with the package unless given.
- over: `yes` to lie, in a stack, over coarser imagery that is real; else it lies under all that is.

Views say which pixels are made up (`tiles.View.synthetic`), and all of them carry a mark (`generation.mark`). They are
to be looked at: the localizer reads the imagery itself.

This module is on the map's side: it knows the package `tiles`, which finds it by the scheme of a URI.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain
from math import ceil, floor, log2
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from torch import Tensor

import tiles
from generation.mark import Mark, key_of_user, shown_by
from generation.mosaic import SLOTS, Mosaic, Place, batches, in_turns, needed
from generation.pixels import PixelGrid
from generation.tile_model import SHIPPED, TileModel
from generation.windows import zoom_of
from tiles import Source, TilesError, View, Window
from tiles.locate import mapping
from tiles.stack import fill
from tiles.uri import split_options
from tiles.view import empty_view
from tiles.warp import MARGIN_PX, Canvas, render

MAX_LEVELS = 4
SAID = "partly synthetic, made up by a model"  # before the attribution of the imagery
KEPT_BYTES = 128 * 2**20
NEARLY = 0.1  # of a level: a window so little finer than the imagery is shown as it is
OPTIONS = ("levels", "gaps", "seed", "model", "over")
NOTHING, IN_GAP, FINER, REAL = 0, 1, 2, 3  # what a pixel of a window is; it lies in the fourth channel
Window4 = NDArray[np.uint8]  # (px, px, 4)


def open_uri(uri: str) -> Source:
    """See the head of this module. Raises TilesError, one line, for options that are none and what cannot be opened."""
    location, options = (uri, {}) if Path(uri).exists() else split_options(uri)
    own = {key: options.pop(key) for key in OPTIONS if key in options}
    rest = "&".join(f"{key}={quote(value, safe=',')}" for key, value in options.items())
    source = tiles.open(f"{location}#{rest}" if rest else location)
    levels, seed = _number(own, "levels", 1), _number(own, "seed", 0)
    if not 0 <= levels <= MAX_LEVELS:
        raise TilesError(f"synthetic: levels={levels}; give 0 to {MAX_LEVELS}")
    gaps, over = _yes(own, "gaps", True), _yes(own, "over", False)
    return SyntheticSource(source, own.get("model"), levels=levels, gaps=gaps, seed=seed, over=over)


def _number(options: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(options.get(name, default))
    except ValueError:
        raise TilesError(f"synthetic: {name}={options[name]} is no whole number; give one") from None


def _yes(options: Mapping[str, str], name: str, default: bool) -> bool:
    said = options.get(name, "yes" if default else "no")
    if said not in ("yes", "no"):
        raise TilesError(f"synthetic: {name}={said}; write {name}=yes or {name}=no")
    return said == "yes"


class Maker(NamedTuple):
    """A tile model, and what each of its finest codes shows (`mark.shown_by`)."""

    model: TileModel
    shows: NDArray[np.float32]

    @property
    def token_px(self) -> int:
        return self.model.px // self.side

    @property
    def side(self) -> int:
        """Of the finest map."""
        return self.model.schedule[-1].shape[0]


@lru_cache(maxsize=2)
def load_maker(folder: str) -> Maker:
    """Of a checkpoint's folder, in this process. Raises TilesError."""

    try:
        model = TileModel.load(folder)
    except ValueError as error:
        raise TilesError(f"synthetic: {error}") from None
    return Maker(model, shown_by(model, model.tokenizer.config.n_codes))


class SyntheticSource(Source):
    """Imagery with made-up detail and filled gaps; see the head of this module. Raises TilesError.

    What shows at a place depends on the imagery, the model, the seed and the key alone: windows of a fixed grid are
    made from coarse to fine, each under the control of the coarser level, and pass into each other where they overlap,
    in the turns of `mosaic`. Passing over leaves the mark: neighbours lie on the same side of the same planes.
    """

    synthetic = True

    def __init__(
        self,
        source: Source,
        model: str | None = None,
        *,
        levels: int = 1,
        gaps: bool = True,
        seed: int = 0,
        over: bool = False,
    ) -> None:
        self.source, self.levels, self.gaps, self.seed = source, levels, gaps, seed
        self.gives_way = not over
        self._model_folder, self._maker = model, load_maker(model or str(SHIPPED))
        self._mark = Mark(key_of_user(), self._maker.token_px)
        self._list = self._mark.list_of(seed)
        self.crs, self.bounds = source.crs, source.bounds
        self.attribution = "; ".join(filter(None, (SAID, source.attribution)))
        finer = [source.gsd_m / 2**level for level in range(levels, 0, -1)]
        self.gsd_m, self.levels_m = source.gsd_m / 2**levels, (*finer, *source.levels_m)
        px = self._maker.model.px
        self._grid, self._mosaic = PixelGrid(source, px), Mosaic(px, px // 4)
        self._kept: OrderedDict[Place, Window4] = OrderedDict()
        self._locks: dict[int, threading.RLock] = {}

    @property
    def real(self) -> Source:
        """See `Source.real`."""
        return self.source.real

    def render(self, window: Window) -> View:
        """See `Source.render`."""
        place = mapping(window, self.crs).footprint
        if place is None:
            return empty_view(window.shape)
        finer = ceil(log2(self._grid.unit / place.scale) - NEARLY)
        level = _Level(self, min(max(finer, self._grid.coarsest), self.levels))
        if level.number > 0:
            return level.render(window)
        view = self.source.render(window)
        return view if view.mask.all() or not self.gaps else fill(view, level, window)

    def close(self) -> None:
        self.source.close()
        with self._lock:
            self._kept.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"levels": self.levels, "gaps": self.gaps, "seed": self.seed, "over": not self.gives_way}
        return _restored, (self.source, self._model_folder, options)

    @property
    def _lock(self) -> threading.RLock:
        """Of this process: in a forked child another thread may have held the parent's."""
        return self._locks.setdefault(os.getpid(), threading.RLock())

    # --- windows

    def canvas(self, level: int, rows: range, cols: range) -> Window4:
        """What shows at rows and columns of a level, at 0 or more: (rows, cols, 4)."""
        places = self._mosaic.touching(level, rows, cols)
        with self._lock:
            shown = self._windows(places)
        whole = np.zeros((len(rows), len(cols), 4), np.uint8)
        for place in chain.from_iterable(in_turns(places)):
            _paste(shown[place], *self._mosaic.pixels(place), whole, rows, cols)
        return whole

    def _windows(self, places: Iterable[Place]) -> dict[Place, Window4]:
        """These windows, made with all that they go on from where they are not kept."""
        missing = needed(places, self._kept)
        wanted = {*places, *chain.from_iterable(place.before for place in missing)}
        shown = {place: self._kept[place] for place in sorted(wanted - missing)}
        for turn in in_turns(missing):
            for batch in batches(turn):
                shown |= self._made(batch, shown)
        for place, window in shown.items():
            self._kept[place] = window
            self._kept.move_to_end(place)
        while len(self._kept) * self._mosaic.px**2 * 4 > KEPT_BYTES:
            self._kept.popitem(last=False)
        return shown

    def _made(self, batch: list[Place | None], shown: Mapping[Place, Window4]) -> dict[Place, Window4]:
        """A batch of windows; shown: those before them."""
        begun = {place: self._begun(place, shown) for place in batch if place is not None}
        todo = [place if place and (begun[place][..., 3] != REAL).any() else None for place in batch]
        if any(todo):
            begun |= self._completed(todo, begun)
        return begun

    def _begun(self, place: Place, shown: Mapping[Place, Window4]) -> Window4:
        """What is known of a window: what is real, and what its neighbours show."""
        rows, cols = self._mosaic.pixels(place)
        window = np.zeros((len(rows), len(cols), 4), np.uint8)
        if place.level <= 0:
            view = self.source.read(self._grid.bounds(place.level, rows, cols), self.crs, window.shape[:2])
            window[view.real, :3], window[view.real, 3] = view.pixels[view.real], REAL
        strips = np.zeros_like(window)
        for other in sorted(place.before, key=lambda other: other.turn):
            _paste(shown[other], *self._mosaic.pixels(other), strips, rows, cols)
        return np.where(window[..., 3:] == REAL, window, strips)

    def _completed(self, batch: list[Place | None], begun: Mapping[Place, Window4]) -> dict[Place, Window4]:
        """Windows of one level with what was missing made up."""
        places = [place for place in batch if place is not None]
        px, level = self._mosaic.px, places[0].level
        blank = np.zeros((px, px, 4), np.uint8)
        tiles_ = _images([blank if place is None else begun[place] for place in batch])
        known = torch.from_numpy(
            np.stack([begun[p][..., 3] == REAL if p else blank[..., 3] == REAL for p in batch])
        )
        parents = None
        if level > self._grid.coarsest:
            above = {place: self._parent(place) for place in places}
            parents = _images([blank[::2, ::2] if place is None else above[place] for place in batch])
        made = self._drawn(batch, tiles_, known, parents, level)
        done = {}
        for i, place in enumerate(batch):
            if place is not None:
                done[place] = window = begun[place].copy()
                new, own = window[..., 3] != REAL, _pixels(made[i])
                own = self._mark.moved(own, new, self._list, self._origin(place))
                own = _mixed(own, window, self._mosaic.weights(place))
                window[new, :3] = own[new]
                kind = np.full((px, px), IN_GAP, np.uint8)
                if level > 0:
                    kind[(above[place][..., 3] > IN_GAP).repeat(2, 0).repeat(2, 1)] = FINER
                window[new, 3] = kind[new]
        return done

    def _parent(self, place: Place) -> Window4:
        rows, cols = (range(each.start // 2, each.stop // 2) for each in self._mosaic.pixels(place))
        return self.canvas(place.level - 1, rows, cols)

    def _drawn(
        self, batch: list[Place | None], images: Tensor, known: Tensor, parents: Tensor | None, level: int
    ) -> Tensor:
        """Images (4, 3, px, px) with what is not known (4, px, px) made up."""
        model, shows, side = self._maker.model, self._maker.shows, self._maker.side
        origins = [(0, 0) if place is None else self._origin(place) for place in batch]
        mark = self._mark.processor(shows, self._list, origins, side)
        zoom = torch.full((SLOTS,), zoom_of(self.source.gsd_m / 2.0**level))
        seeds = [0 if place is None else _seed(self.seed, place) for place in batch]
        with torch.inference_mode():
            if parents is not None and not known.any():
                return model.enlarge(parents, zoom, seeds=seeds, processors=[mark]).images
            return model.fill(images, known, zoom, seeds=seeds, parents=parents, processors=[mark]).images

    def _origin(self, place: Place) -> tuple[int, int]:
        """Row and column, among all tokens of its level, of a window's first."""
        step = self._mosaic.step // self._maker.token_px
        return place.row * step, place.col * step


def _restored(source: Source, model: str | None, options: dict[str, Any]) -> SyntheticSource:
    return SyntheticSource(source, model, **options)


class _Level:
    """One level of a synthetic source, as a layer of a stack."""

    def __init__(self, source: SyntheticSource, number: int) -> None:
        self.source, self.number = source, number
        self.crs, self.bounds = source.crs, source.bounds

    def render(self, window: Window) -> View:
        canvas = self._canvas(window)
        return render(canvas, window) if canvas else empty_view(window.shape)

    def _canvas(self, window: Window) -> Canvas | None:
        place, grid = mapping(window, self.crs).footprint, self.source._grid
        if place is None:
            return None
        side, (n_rows, n_cols) = grid.side(self.number), grid.shape(self.number)
        west, north = grid.around.west, grid.around.north
        cols = _span((place.left - west) / side, (place.right - west) / side, n_cols)
        rows = _span((north - place.bottom) / side, (north - place.top) / side, n_rows)
        if not rows or not cols:
            return None
        whole = self.source.canvas(self.number, rows, cols)
        shown = whole[..., 3] > (NOTHING if self.source.gaps else IN_GAP)
        transform = Affine(side, 0, west + cols.start * side, 0, -side, north - rows.start * side)
        pixels = np.where(shown[..., None], whole[..., :3], np.uint8(0))
        flags = (whole[..., 3] != REAL).astype(np.uint8)
        alpha = None if shown.all() else shown.astype(np.uint8) * np.uint8(255)
        return Canvas(np.ascontiguousarray(pixels), alpha, transform, self.crs, flags)


def _span(start: float, stop: float, n: int) -> range:
    return range(max(floor(start) - MARGIN_PX, 0), min(ceil(stop) + MARGIN_PX, n))


def _paste(
    window: Window4, its_rows: range, its_cols: range, canvas: Window4, rows: range, cols: range
) -> None:
    """Put the part of a window that lies on a canvas there."""
    top, bottom = max(its_rows.start, rows.start), min(its_rows.stop, rows.stop)
    left, right = max(its_cols.start, cols.start), min(its_cols.stop, cols.stop)
    if top >= bottom or left >= right:
        return
    part = window[
        top - its_rows.start : bottom - its_rows.start, left - its_cols.start : right - its_cols.start
    ]
    there = canvas[top - rows.start : bottom - rows.start, left - cols.start : right - cols.start]
    there[:] = part


def _mixed(own: NDArray[np.uint8], begun: Window4, weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What a window shows of its own, passing into what its neighbours show in the strips that they share."""
    weight = np.where(begun[..., 3] == NOTHING, np.float32(1), weights)[..., None]
    return np.rint(own * weight + begun[..., :3] * (1 - weight)).astype(np.uint8)


def _images(windows: list[Window4]) -> Tensor:
    """(n, 3, px, px), -1 to 1."""
    stacked = torch.from_numpy(np.stack(windows)[..., :3].copy())
    return stacked.movedim(-1, 1).float() / 127.5 - 1


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    """(px, px, 3) of (3, px, px)."""
    return ((image.movedim(0, -1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def _seed(seed: int, place: Place) -> int:
    digest = hashlib.blake2b(f"{seed}/{place.level}/{place.row}/{place.col}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
