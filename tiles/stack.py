"""Several sources as one: the finest that covers a pixel shows it, coarser ones fill the rest."""

from collections.abc import Sequence
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiles.bounds import Bounds
from tiles.geo import check_window, transform_bounds
from tiles.source import Source
from tiles.view import View, empty_view


class Stack:
    """Sources on top of each other, the finest uppermost; of equally fine ones the first given.

    crs, gsd_m: of the finest. bounds: around all. attribution: of all, each once.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sorted(sources, key=lambda source: source.gsd_m))
        self.crs = self.sources[0].crs
        self.gsd_m = self.sources[0].gsd_m
        self.bounds = _around(
            [transform_bounds(source.bounds, source.crs, self.crs) for source in self.sources]
        )
        self.attribution = "; ".join(dict.fromkeys(s.attribution for s in self.sources if s.attribution))

    def read(self, bounds: Bounds, crs: str, shape: tuple[int, int]) -> View:
        """See `Source.read`."""
        check_window(bounds, crs, shape)
        view = empty_view(shape)
        for source in self.sources:
            fill(view, source, bounds, crs)
            if view.mask.all():
                break
        return view

    def close(self) -> None:
        for source in self.sources:
            source.close()


def fill(view: View, source: Source, bounds: Bounds, crs: str) -> None:
    """Put a source's pixels where the view has none yet, reading no more of it than can show there."""
    covered = transform_bounds(source.bounds, source.crs, crs)
    if covered is None:
        return
    rows, cols = _part(view.mask, covered, bounds)
    hole = ~view.mask[rows, cols]
    if not hole.any():
        return
    height, width = view.mask.shape
    part = Bounds(
        west=bounds.west + bounds.width * cols.start / width,
        south=bounds.north - bounds.height * rows.stop / height,
        east=bounds.west + bounds.width * cols.stop / width,
        north=bounds.north - bounds.height * rows.start / height,
    )
    found = source.read(part, crs, hole.shape)
    shown = hole & found.mask
    np.copyto(view.pixels[rows, cols], found.pixels, where=shown[..., None])
    view.mask[rows, cols] |= shown


def _part(mask: NDArray[np.bool_], covered: Bounds, bounds: Bounds) -> tuple[slice, slice]:
    """The rows and columns of a window that have holes and that a covered rectangle touches."""
    north, south = ((bounds.north - y) / bounds.height for y in (covered.north, covered.south))
    west, east = ((x - bounds.west) / bounds.width for x in (covered.west, covered.east))
    holes = np.logical_not(mask)
    return _overlap(north, south, holes.any(axis=1)), _overlap(west, east, holes.any(axis=0))


def _overlap(start: float, stop: float, wanted: Any) -> slice:
    """The pixels of one axis from the first to the last wanted, cut to fractions of the axis."""
    count = len(wanted)
    first, last = int(wanted.argmax()), count - int(wanted[::-1].argmax())
    first, last = max(first, floor(start * count)), min(last, ceil(stop * count))
    return slice(first, max(first, last))


def _around(bounds: Sequence[Bounds | None]) -> Bounds:
    known = np.array([b for b in bounds if b is not None])
    return Bounds(*known[:, :2].min(axis=0).tolist(), *known[:, 2:].max(axis=0).tolist())
