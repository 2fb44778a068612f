"""Triangles with surfaces: the one geometry from which both the overhead and the street pictures are cast.

A *facet* is a patch of surface with a material, colours and a plane frame (origin, u, v) in which its
pattern is drawn; many triangles may share one. Buildings add a *style*, the rules of their façades.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Point = tuple[float, ...]


class Material(IntEnum):
    GROUND = 0
    WATER = 1
    WALL = 2  # windows and doors after the building's style
    TILES = 3  # courses along v
    GRAVEL = 4  # flat roofs
    PLAIN = 5
    BANDS = 6  # two colours in turn along v, size[1] metres a pair
    RIBS = 7  # two colours in turn along u, size[0] metres a pair
    LEAF = 8
    PAINT = 9  # glossy: cars
    GLASS = 10


class Ground(IntEnum):
    """What the ground shows between the streets; the value in the ground map."""

    FIELD = 0
    LAWN = 1
    GARDEN = 2
    PAVING = 3
    YARD = 4
    GRAVEL = 5
    WOOD = 6
    CROP = 7
    PATH = 8
    STUBBLE = 9
    MEADOW = 10
    SAND = 11
    BALLAST = 12
    ASPHALT = 13
    PITCH = 14
    ROCK = 15
    VINES = 16
    FOREST = 17  # denser than WOOD: what shows between its trees is more of them


STYLE = (  # columns of a style
    "bay_m", "floor_m", "window_w", "window_low", "window_high", "mullions", "shutters", "bands",
    "brick", "ground", "tint", "frame",
)  # fmt: skip


@dataclass
class Mesh:
    """Grows by `quad`, `polygon`, `box` and `add`; `arrays` turns it into flat tables."""

    triangles: list[Floats] = field(default_factory=list)  # (n, 3, 3) each
    facet_of: list[NDArray[np.int32]] = field(default_factory=list)
    fans: list[tuple[Point, Point, Point]] = field(
        default_factory=list
    )  # triangles of `polygon`, not yet flushed
    fan_facets: list[int] = field(default_factory=list)
    facets: list[tuple[float, ...]] = field(default_factory=list)
    styles: list[tuple[float, ...]] = field(default_factory=lambda: [(3.0, 3.0, *(0.0,) * 10)])

    def style(self, **columns: float) -> int:
        self.styles.append(tuple(columns[name] for name in STYLE))
        return len(self.styles) - 1

    def facet(
        self,
        material: Material,
        rgb: ArrayLike,
        *,
        rgb2: ArrayLike | None = None,
        origin: ArrayLike = (0, 0, 0),
        u: ArrayLike = (1, 0, 0),
        v: ArrayLike = (0, 1, 0),
        size: tuple[float, float] = (1.0, 1.0),
        style: int = 0,
        seed: float = 0.0,
    ) -> int:
        """Register a surface; `rgb` and `rgb2` are sRGB in 0..1, `seed` any number that tells it apart."""
        second = rgb if rgb2 is None else rgb2
        self.facets.append((material, style, seed, *size, *rgb, *second, *origin, *u, *v))  # type: ignore[misc]
        return len(self.facets) - 1

    def add(self, triangles: ArrayLike, facet: int | NDArray[np.int32]) -> None:
        """Add `(n, 3, 3)` corners that belong to one facet, or to one each."""
        corners = np.asarray(triangles, np.float32).reshape(-1, 3, 3)
        self.triangles.append(corners)
        self.facet_of.append(np.broadcast_to(np.asarray(facet, np.int32), len(corners)))

    def polygon(
        self, corners: Sequence[Sequence[float]], material: Material, rgb: ArrayLike, **options: object
    ) -> None:
        """A flat convex polygon; its frame starts at the first corner, u runs to the second."""
        p = [tuple(map(float, corner)) for corner in corners]
        along, aside = _sub(p[1], p[0]), _sub(p[-1], p[0])
        u = _unit(along)
        v = _unit(_sub(aside, _scaled(u, _dot(aside, u))))
        us, vs = [_dot(_sub(q, p[0]), u) for q in p], [_dot(_sub(q, p[0]), v) for q in p]
        options = {"size": (max(us) - min(us), max(vs) - min(vs)), "origin": p[0], "u": u, "v": v} | options
        facet = self.facet(material, rgb, **options)  # type: ignore[arg-type]
        self.fans.extend((p[0], p[k], p[k + 1]) for k in range(1, len(p) - 1))
        self.fan_facets.extend([facet] * (len(p) - 2))

    def prism(
        self,
        outline: ArrayLike,
        low: float,
        high: float,
        material: Material,
        rgb: ArrayLike,
        *,
        top: tuple[Material, ArrayLike] | None = None,
        **options: object,
    ) -> None:
        """Walls around a counter-clockwise outline `(n, 2)`, and a lid if `top` gives its surface."""
        p = np.asarray(outline, np.float64).tolist()
        for a, b in zip(p, p[1:] + p[:1], strict=True):
            self.polygon([(*a, low), (*b, low), (*b, high), (*a, high)], material, rgb, **options)
        if top is not None:
            seed = {"seed": options["seed"]} if "seed" in options else {}
            self.polygon([(*a, high) for a in p], top[0], top[1], **seed)

    def flush(self) -> int:
        """Move what `polygon` added into the arrays; returns the number of triangles so far."""
        if self.fans:
            triangles, self.fans = self.fans, []
            facets, self.fan_facets = self.fan_facets, []
            self.add(np.array(triangles, np.float32), np.array(facets, np.int32))
        return sum(map(len, self.triangles))

    def arrays(self) -> "Surfaces":
        self.flush()
        facets = np.array(self.facets, np.float32).reshape(-1, 20)
        linear = np.clip(facets[:, 5:11], 0, 1) ** 2.2
        return Surfaces(
            triangles=np.concatenate(self.triangles),
            facet_of=np.concatenate(self.facet_of),
            material=facets[:, 0].astype(np.uint8),
            style_of=facets[:, 1].astype(np.int32),
            seed=(facets[:, 2] * 65536).astype(np.int64).astype(np.uint32),
            size=np.ascontiguousarray(facets[:, 3:5].T),
            rgb=np.ascontiguousarray(linear[:, :3].T),
            rgb2=np.ascontiguousarray(linear[:, 3:].T),
            origin=np.ascontiguousarray(facets[:, 11:14].T),
            u=np.ascontiguousarray(facets[:, 14:17].T),
            v=np.ascontiguousarray(facets[:, 17:20].T),
            styles=np.ascontiguousarray(np.array(self.styles, np.float32).T),
        )


@dataclass(frozen=True)
class Surfaces:
    """Tables by triangle, facet (channels first, linear light) and style."""

    triangles: Floats  # (n, 3, 3)
    facet_of: NDArray[np.int32]  # (n,)
    material: NDArray[np.uint8]  # (facets,)
    style_of: NDArray[np.int32]
    seed: NDArray[np.uint32]
    size: Floats  # (2, facets)
    rgb: Floats  # (3, facets)
    rgb2: Floats
    origin: Floats
    u: Floats
    v: Floats
    styles: Floats  # (len(STYLE), styles)


def rectangle(centre: ArrayLike, u: ArrayLike, w: float, d: float) -> NDArray[np.float64]:
    """Corners of a `w` by `d` rectangle, counter-clockwise from its near left; `u` runs along `w`."""
    c, ux = np.asarray(centre, np.float64), np.asarray(u, np.float64)
    vx = np.array([-ux[1], ux[0]])
    return np.array(
        [c + ux * (a * w / 2) + vx * (b * d / 2) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    )


def ring(centre: ArrayLike, radius: float, n: int, start: float = 0.0) -> NDArray[np.float64]:
    """Corners of a regular polygon, counter-clockwise."""
    angle = start + np.arange(n) * 2 * np.pi / n
    return np.asarray(centre, np.float64) + radius * np.column_stack([np.cos(angle), np.sin(angle)])


def _sub(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _scaled(a: Point, factor: float) -> Point:
    return a[0] * factor, a[1] * factor, a[2] * factor


def _unit(a: Point) -> Point:
    return _scaled(a, 1 / max(_dot(a, a) ** 0.5, 1e-9))
