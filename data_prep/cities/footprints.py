"""Footprints: where on a lot the buildings of a district stand."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from data_prep.cities.mesh import rectangle
from data_prep.cities.palettes import TYPES, Type

Floats = NDArray[np.float64]


class Footprint(NamedTuple):
    centre: Floats
    u: Floats  # unit vector along the street, the street on the right-hand side of it
    width_m: float
    depth_m: float

    @property
    def corners(self) -> Floats:
        return rectangle(self.centre, self.u, self.width_m, self.depth_m)


def footprints(rng: np.random.Generator, lot: Polygon, kind: str) -> list[Footprint]:
    """Rectangles along the edges of a lot, set back and spaced as the district's type has it."""
    t = TYPES[kind]
    inner = lot.buffer(-t.setback_m, join_style="mitre")
    free = lot.buffer(0.3)
    placed: list[Footprint] = []
    taken: list[Polygon] = []
    for part in shapely.get_parts(inner.simplify(1.2)):
        for a, u, length in _edges(part):
            for found in _along(rng, a, u, length, t):
                shape = Polygon(found.corners)
                if free.covers(shape) and not any(shape.intersection(o).area > 2.0 for o in taken):
                    placed.append(found)
                    taken.append(shape.buffer(0.5 * t.gap_m[0], join_style="mitre"))
    return placed


def _edges(part: Polygon) -> list[tuple[Floats, Floats, float]]:
    ring = np.array(shapely.geometry.polygon.orient(part).exterior.coords)
    sides = [(a, b - a) for a, b in pairwise(ring)]
    return [(a, d / np.hypot(*d), float(np.hypot(*d))) for a, d in sides if np.hypot(*d) > 5]


def _along(rng: np.random.Generator, a: Floats, u: Floats, length: float, t: Type) -> list[Footprint]:
    found: list[Footprint] = []
    at, row = 0.0, 0
    left = np.array([-u[1], u[0]])
    while True:
        w, d = rng.uniform(*t.width_m), rng.uniform(*t.depth_m)
        w = min(w, length - at)
        if w < 0.75 * t.width_m[0]:
            return found
        found.append(Footprint(a + u * (at + w / 2) + left * d / 2, u, w, d))
        row += 1
        at += w + rng.uniform(*t.gap_m)
        if t.gap_m[1] == 0 and t.setback_m > 0 and row % int(rng.integers(5, 9)) == 0:
            at += 7.0  # a passage between rows of houses
