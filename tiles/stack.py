"""Several sources as one: the finest that covers a pixel shows it, coarser ones fill the rest."""

from collections.abc import Sequence
from math import ceil, floor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tiles.bounds import Bounds
from tiles.geo import transform_bounds
from tiles.source import Source
from tiles.view import View, empty_view
from tiles.window import Window


class Layer(Protocol):
    """What can fill holes of a view: a source, or one level of one."""

    @property
    def crs(self) -> str: ...

    @property
    def bounds(self) -> Bounds: ...

    def render(self, window: Window) -> View: ...


class Stack(Source):
    """Sources on top of each other, the finest uppermost; of equally fine ones the first given. Below them all lie
    those that give way.

    crs, gsd_m: of the uppermost. bounds: around all. attribution: of all, each once.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sorted(sources, key=lambda source: (source.gives_way, source.gsd_m)))
        self.crs = self.sources[0].crs
        self.levels_m = tuple(sorted({m for source in self.sources for m in source.levels_m}))
        self.gsd_m = self.sources[0].gsd_m
        self.synthetic = any(source.synthetic for source in self.sources)
        self.bounds = _around(
            [transform_bounds(source.bounds, source.crs, self.crs) for source in self.sources]
        )
        self.attribution = "; ".join(dict.fromkeys(s.attribution for s in self.sources if s.attribution))

    @property
    def real(self) -> Source:
        """See `Source.real`."""
        return Stack([source.real for source in self.sources]) if self.synthetic else self

    def render(self, window: Window) -> View:
        """See `Source.render`."""
        view = empty_view(window.shape)
        for source in self.sources:
            view = fill(view, source, window)
            if view.mask.all():
                break
        return view

    def close(self) -> None:
        for source in self.sources:
            source.close()


def fill(view: View, layer: Layer, window: Window) -> View:
    """Put a layer's pixels where the view has none yet, reading no more of it than can show there.

    Returns the view, whose arrays are written to.
    """
    place = window.where(layer.bounds, layer.crs)
    if place is None:
        return view
    across, down = place
    holes: NDArray[np.bool_] = np.logical_not(view.mask)
    rows, cols = _overlap(down, holes.max(axis=1)), _overlap(across, holes.max(axis=0))
    hole = holes[rows, cols]
    if not hole.any():
        return view
    found = layer.render(window.part(rows, cols))
    shown = hole & found.mask
    if found.synthetic is not None:
        view = view.flagged()
        assert view.synthetic is not None
        view.synthetic[rows, cols] |= shown & found.synthetic
    if hole.all():
        view.pixels[rows, cols], view.mask[rows, cols] = found.pixels, found.mask
        return view
    np.copyto(view.pixels[rows, cols], found.pixels, where=shown[..., None])
    view.mask[rows, cols] |= shown
    return view


def _overlap(span: tuple[float, float], wanted: NDArray[np.bool_]) -> slice:
    """The pixels of one axis from the first to the last wanted, cut to fractions of the axis."""
    count = len(wanted)
    first, last = int(wanted.argmax()), count - int(wanted[::-1].argmax())
    first, last = max(first, floor(span[0] * count)), min(last, ceil(span[1] * count))
    return slice(first, max(first, last))


def _around(bounds: Sequence[Bounds | None]) -> Bounds:
    known: Any = np.array([b for b in bounds if b is not None])
    return Bounds(*known[:, :2].min(axis=0).tolist(), *known[:, 2:].max(axis=0).tolist())
