"""Buildings: where they stand on a lot, their volumes, roofs and façade rules."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from data_prep.cities.mesh import Ground, Material, Mesh, rectangle

Floats = NDArray[np.float64]
Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Type:
    """The ranges from which the buildings of one district kind are drawn (metres, storeys)."""

    width_m: tuple[float, float]
    depth_m: tuple[float, float]
    setback_m: float
    gap_m: tuple[float, float]
    floors: tuple[int, int]
    floor_m: float
    bay_m: tuple[float, float]
    roofs: tuple[str, ...]
    shops: float  # share of buildings with a shop front
    ground: Ground


TYPES = {
    "villas": Type((9, 14), (8, 11), 6.0, (5, 11), (1, 2), 2.9, (2.4, 3.8), ("gable", "hip", "gable", "cross"), 0.03, Ground.GARDEN),
    "rows": Type((6, 8), (9, 10.5), 3.5, (0, 0), (2, 3), 2.9, (2.0, 3.2), ("gable", "gable", "mono"), 0.06, Ground.GARDEN),
    "perimeter": Type((13, 25), (11, 13.5), 0.0, (0, 0), (3, 6), 3.2, (2.1, 3.6), ("gable", "mansard", "gable", "flat"), 0.45, Ground.YARD),
    "slabs": Type((42, 72), (11, 13), 9.0, (16, 26), (4, 11), 2.9, (2.8, 4.2), ("flat",), 0.1, Ground.LAWN),
    "towers": Type((22, 36), (20, 30), 3.0, (9, 18), (5, 22), 3.6, (1.6, 3.4), ("flat",), 0.6, Ground.PAVING),
    "works": Type((32, 66), (24, 40), 8.0, (9, 20), (2, 3), 4.4, (4.0, 7.0), ("flat", "saw", "low", "flat"), 0.05, Ground.YARD),
}  # fmt: skip

WALLS: dict[str, tuple[Rgb, ...]] = {
    "plaster": ((0.93, 0.88, 0.76), (0.90, 0.78, 0.55), (0.86, 0.66, 0.52), (0.80, 0.83, 0.80), (0.95, 0.93, 0.90), (0.78, 0.84, 0.72), (0.72, 0.78, 0.86), (0.88, 0.72, 0.70)),
    "brick": ((0.62, 0.33, 0.25), (0.70, 0.42, 0.30), (0.52, 0.30, 0.25), (0.76, 0.60, 0.42), (0.45, 0.36, 0.34)),
    "stone": ((0.80, 0.76, 0.66), (0.72, 0.68, 0.60), (0.84, 0.80, 0.74), (0.66, 0.60, 0.54), (0.78, 0.68, 0.58)),
    "panel": ((0.86, 0.86, 0.84), (0.72, 0.76, 0.80), (0.88, 0.82, 0.66), (0.70, 0.78, 0.72), (0.82, 0.66, 0.54)),
    "curtain": ((0.30, 0.42, 0.52), (0.24, 0.30, 0.34), (0.46, 0.52, 0.54), (0.34, 0.44, 0.40), (0.60, 0.54, 0.44), (0.78, 0.78, 0.78)),
    "sheet": ((0.72, 0.74, 0.76), (0.42, 0.54, 0.66), (0.58, 0.62, 0.52), (0.80, 0.76, 0.66), (0.66, 0.36, 0.28), (0.86, 0.86, 0.86)),
    "pastel": ((0.96, 0.78, 0.60), (0.68, 0.80, 0.88), (0.92, 0.70, 0.66), (0.80, 0.88, 0.70), (0.97, 0.92, 0.68), (0.80, 0.72, 0.86)),
}  # fmt: skip
ROOFS: dict[str, tuple[Rgb, ...]] = {
    "red": ((0.68, 0.32, 0.22), (0.60, 0.27, 0.20), (0.74, 0.40, 0.28), (0.54, 0.30, 0.24)),
    "slate": ((0.32, 0.34, 0.38), (0.40, 0.41, 0.44), (0.27, 0.28, 0.31), (0.36, 0.33, 0.36)),
    "brown": ((0.46, 0.32, 0.25), (0.52, 0.38, 0.29), (0.38, 0.28, 0.23)),
    "green": ((0.40, 0.58, 0.50), (0.46, 0.62, 0.56), (0.34, 0.50, 0.46)),
    "gravel": ((0.58, 0.56, 0.52), (0.48, 0.48, 0.48), (0.66, 0.65, 0.62), (0.38, 0.38, 0.38)),
    "light": ((0.70, 0.70, 0.68), (0.58, 0.60, 0.62), (0.46, 0.50, 0.54), (0.62, 0.56, 0.50)),
}
PALETTES: dict[str, tuple[tuple[str, str], ...]] = {  # wall family and roof family, a pair per district
    "villas": (("plaster", "red"), ("brick", "slate"), ("pastel", "brown"), ("stone", "red"), ("plaster", "slate")),
    "rows": (("brick", "slate"), ("pastel", "red"), ("brick", "brown"), ("plaster", "brown"), ("stone", "slate")),
    "perimeter": (("plaster", "red"), ("stone", "slate"), ("pastel", "brown"), ("brick", "green"), ("brick", "red")),
    "slabs": (("panel", "gravel"), ("pastel", "gravel"), ("brick", "light")),
    "towers": (("curtain", "gravel"), ("curtain", "light"), ("stone", "gravel")),
    "works": (("sheet", "light"), ("brick", "gravel"), ("sheet", "gravel")),
}  # fmt: skip


@dataclass(frozen=True)
class Palette:
    """The look of one district: colours, and how far its buildings keep to one floor height and roof."""

    walls: tuple[Rgb, ...]
    roofs: tuple[Rgb, ...]
    brick: float
    floors: tuple[int, int]
    roof: tuple[str, ...]
    bay_m: float
    mullions: int
    shutters: bool

    @classmethod
    def random(cls, rng: np.random.Generator, kind: str, number: int) -> "Palette":
        """Districts of one kind take the palettes in turn, so that neighbours rarely share one."""
        wall, roof = PALETTES[kind][number % len(PALETTES[kind])]
        t = TYPES[kind]
        low = int(rng.integers(t.floors[0], max(t.floors[0] + 1, t.floors[1] - 1)))
        return cls(
            tuple(WALLS[wall][k] for k in rng.permutation(len(WALLS[wall]))[:5]),
            tuple(ROOFS[roof][k] for k in rng.permutation(len(ROOFS[roof]))[:3]),
            0.9 if wall == "brick" else 0.15,
            (low, t.floors[1]),
            tuple(t.roofs[k] for k in rng.permutation(len(t.roofs))[: max(1, len(t.roofs) - 1)]),
            float(rng.uniform(*t.bay_m)),
            int(rng.integers(0, 3)),
            bool(rng.random() < 0.4 and kind in ("villas", "rows", "perimeter")),
        )


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
    sides = [(a, b - a) for a, b in zip(ring[:-1], ring[1:], strict=True)]
    return [(a, d / np.hypot(*d), float(np.hypot(*d))) for a, d in sides if np.hypot(*d) > 5]


def _along(rng: np.random.Generator, a: Floats, u: Floats, length: float, t: Type) -> list[Footprint]:
    found, at, row = [], 0.0, 0
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


def build(rng: np.random.Generator, mesh: Mesh, plot: Footprint, kind: str, palette: Palette) -> float:
    """Add one building to the mesh; returns its height in metres."""
    t = TYPES[kind]
    wall = _vary(rng, palette.walls[int(rng.integers(len(palette.walls)))], 0.05)
    roof = _vary(rng, palette.roofs[int(rng.integers(len(palette.roofs)))], 0.05)
    roof_kind = palette.roof[int(rng.integers(len(palette.roof)))]
    floors = int(rng.integers(palette.floors[0], palette.floors[1] + 1))
    if kind == "towers" and rng.random() < 0.6:
        floors = min(floors, 9)
    height = floors * t.floor_m + rng.uniform(0.2, 0.7)
    accent = _vary(rng, _accent(rng, wall), 0.04)
    seed = float(rng.random())
    style = mesh.style(**_facade(rng, kind, palette, t))
    _volume(mesh, plot, height, wall, accent, style, seed)
    top = height + _roof(rng, mesh, plot, height, roof_kind, wall, roof, style, seed)
    _details(rng, mesh, plot, kind, height, floors * 1.0, t.floor_m, accent, wall, seed)
    return top


def _vary(rng: np.random.Generator, rgb: Rgb, amount: float) -> Rgb:
    shade = rng.uniform(-amount, amount)
    r, g, b = (float(np.clip(c + shade + rng.uniform(-amount, amount) / 2, 0.03, 0.97)) for c in rgb)
    return r, g, b


def _accent(rng: np.random.Generator, wall: Rgb) -> Rgb:
    options: tuple[Rgb, ...] = (
        (0.93, 0.92, 0.88), (0.62, 0.18, 0.15), (0.16, 0.32, 0.50), (0.20, 0.40, 0.27), (0.86, 0.62, 0.16),
        (0.26, 0.25, 0.26), (0.45, 0.28, 0.18), (0.84, 0.46, 0.20), (0.35, 0.52, 0.60),
    )  # fmt: skip
    return options[int(rng.integers(len(options)))]


def _facade(rng: np.random.Generator, kind: str, palette: Palette, t: Type) -> dict[str, float]:
    ground = 1.0 if rng.random() < t.shops else 2.0 if kind == "works" else 0.0
    shape = {
        "towers": (rng.uniform(0.72, 0.96), rng.uniform(0.05, 0.3), rng.uniform(0.86, 0.97)),
        "slabs": (rng.uniform(0.45, 0.85), 0.3, 0.84),
        "works": (rng.uniform(0.5, 0.92), rng.uniform(0.5, 0.62), 0.9),
    }.get(kind, (rng.uniform(0.30, 0.52), rng.uniform(0.24, 0.34), rng.uniform(0.78, 0.88)))
    return {
        "bay_m": palette.bay_m * rng.uniform(0.85, 1.2),
        "floor_m": t.floor_m,
        "window_w": shape[0],
        "window_low": shape[1],
        "window_high": shape[2],
        "mullions": float(palette.mullions if rng.random() < 0.75 else rng.integers(0, 3)),
        "shutters": float(palette.shutters and rng.random() < 0.8),
        "bands": float(rng.choice([0.0, 0.35, 0.8])) if kind != "villas" else 0.0,
        "brick": palette.brick,
        "ground": ground,
        "tint": rng.uniform(0.0, 1.0),
        "frame": float(rng.choice([0.93, 0.9, 0.25, 0.5])),
    }


def _volume(
    mesh: Mesh, plot: Footprint, height: float, wall: Rgb, accent: Rgb, style: int, seed: float
) -> None:
    mesh.prism(plot.corners, 0.0, height, Material.WALL, wall, rgb2=accent, style=style, seed=seed)


def _roof(
    rng: np.random.Generator, mesh: Mesh, plot: Footprint, eave: float, kind: str, wall: Rgb, rgb: Rgb, style: int, seed: float
) -> float:  # fmt: skip
    """Add the roof above `eave`; returns how far it rises."""
    turned = plot.width_m < plot.depth_m or (kind == "cross" and plot.width_m < plot.depth_m * 1.35)
    if kind in ("gable", "cross", "hip", "mansard"):
        slope = {"hip": 0.62, "mansard": 1.1}.get(kind, rng.uniform(0.7, 0.95))
        rise = slope * min(plot.depth_m, plot.width_m if turned else 1e9) / 2
        inset = {"hip": 0.5, "mansard": 0.5}.get(kind, 0.0)
        pitched(mesh, plot, eave, rise, inset, turned, wall, rgb, seed)
        return float(rise)
    if kind == "mono":
        return _mono(mesh, plot, eave, wall, rgb, seed)
    if kind == "saw":
        return _saw(mesh, plot, eave, wall, rgb, seed)
    if kind == "low":
        pitched(mesh, plot, eave, 0.12 * plot.depth_m, 0.0, False, wall, rgb, seed)
        return 0.12 * plot.depth_m
    return _flat(rng, mesh, plot, eave, wall, rgb, seed)


def pitched(
    mesh: Mesh, plot: Footprint, eave: float, rise: float, inset: float, turned: bool, wall: Rgb, rgb: Rgb, seed: float
) -> None:  # fmt: skip
    """A ridged roof; `inset` is how far the ridge ends stand in, as a share of the span (0: gables)."""
    over = 0.45
    w, d = (plot.depth_m, plot.width_m) if turned else (plot.width_m, plot.depth_m)
    ux = np.array([-plot.u[1], plot.u[0]]) if turned else np.asarray(plot.u)
    vx = np.array([-ux[1], ux[0]])
    low = eave - over * rise / (d / 2)

    def at(a: float, b: float, z: float) -> tuple[float, float, float]:
        x, y = plot.centre + ux * a + vx * b
        return float(x), float(y), z

    out = over if inset == 0 else over
    half_w, half_d, ridge = (
        w / 2 + out,
        d / 2 + over,
        max(w / 2 + (over if inset == 0 else 0) - inset * d, 0.3),
    )
    r0, r1 = at(-ridge, 0, eave + rise), at(ridge, 0, eave + rise)
    c = [
        at(-half_w, -half_d, low),
        at(half_w, -half_d, low),
        at(half_w, half_d, low),
        at(-half_w, half_d, low),
    ]
    for corners in ((c[0], c[1], r1, r0), (c[2], c[3], r0, r1)):
        mesh.polygon(corners, Material.TILES, rgb, seed=seed)
    if inset > 0:
        for corners in ((c[1], c[2], r1), (c[3], c[0], r0)):
            mesh.polygon(corners, Material.TILES, rgb, seed=seed)
        return
    for side in (-1, 1):
        a, b, top = (
            at(side * w / 2, -side * d / 2, eave),
            at(side * w / 2, side * d / 2, eave),
            at(side * w / 2, 0, eave + rise),
        )
        mesh.polygon((a, b, top), Material.PLAIN, wall, seed=seed)


def _mono(mesh: Mesh, plot: Footprint, eave: float, wall: Rgb, rgb: Rgb, seed: float) -> float:
    a, b, c, d = plot.corners
    rise = 0.28 * plot.depth_m
    mesh.polygon(
        [(*a, eave), (*b, eave), (*c, eave + rise), (*d, eave + rise)], Material.TILES, rgb, seed=seed
    )
    mesh.polygon(
        [(*c, eave), (*d, eave), (*d, eave + rise), (*c, eave + rise)], Material.PLAIN, wall, seed=seed
    )
    for low, high in ((a, d), (b, c)):
        mesh.polygon([(*low, eave), (*high, eave), (*high, eave + rise)], Material.PLAIN, wall, seed=seed)
    return rise


def _saw(mesh: Mesh, plot: Footprint, eave: float, wall: Rgb, rgb: Rgb, seed: float) -> float:
    n = max(2, round(plot.width_m / 9))
    rise = 3.2
    a, b, c, d = plot.corners
    for k in range(n):
        near = [a + (b - a) * t / n for t in (k, k + 1)]
        far = [d + (c - d) * t / n for t in (k, k + 1)]
        slope = [(*near[0], eave), (*near[1], eave + rise), (*far[1], eave + rise), (*far[0], eave)]
        mesh.polygon(slope, Material.TILES, rgb, seed=seed)
        upright = [(*near[1], eave), (*far[1], eave), (*far[1], eave + rise), (*near[1], eave + rise)]
        mesh.polygon(upright, Material.GLASS, (0.25, 0.32, 0.36), seed=seed)
        for p, q in (near, far):
            mesh.polygon([(*p, eave), (*q, eave), (*q, eave + rise)], Material.PLAIN, wall, seed=seed)
    return rise


def _flat(
    rng: np.random.Generator, mesh: Mesh, plot: Footprint, eave: float, wall: Rgb, rgb: Rgb, seed: float
) -> float:
    """A flat roof behind a parapet, with stair heads and plant on it."""
    mesh.polygon([(*p, eave) for p in plot.corners], Material.GRAVEL, rgb, seed=seed)
    rim = rectangle(plot.centre, plot.u, plot.width_m - 0.5, plot.depth_m - 0.5)
    for k in range(4):
        a, b, c, d = plot.corners[k], plot.corners[(k + 1) % 4], rim[(k + 1) % 4], rim[k]
        mesh.polygon(
            [(*a, eave), (*b, eave), (*b, eave + 0.7), (*a, eave + 0.7)], Material.PLAIN, wall, seed=seed
        )
        mesh.polygon(
            [(*a, eave + 0.7), (*b, eave + 0.7), (*c, eave + 0.7), (*d, eave + 0.7)],
            Material.PLAIN,
            wall,
            seed=seed,
        )
        mesh.polygon(
            [(*d, eave + 0.7), (*c, eave + 0.7), (*c, eave), (*d, eave)], Material.PLAIN, wall, seed=seed
        )
    for _ in range(int(rng.integers(1, 5))):
        spread = np.array([plot.width_m, plot.depth_m]) * rng.uniform(-0.33, 0.33, 2)
        centre = plot.centre + plot.u * spread[0] + np.array([-plot.u[1], plot.u[0]]) * spread[1]
        outline = rectangle(centre, plot.u, *rng.uniform(1.5, 0.22 * plot.depth_m + 2, 2))
        tone = float(rng.uniform(0.35, 0.85))
        mesh.prism(
            outline,
            eave,
            eave + rng.uniform(1.0, 2.8),
            Material.PLAIN,
            (tone,) * 3,
            top=(Material.PLAIN, (tone * 0.9,) * 3),
        )
    return 0.7


def _details(
    rng: np.random.Generator, mesh: Mesh, plot: Footprint, kind: str, height: float, floors: float, floor_m: float, accent: Rgb, wall: Rgb, seed: float
) -> None:  # fmt: skip
    if kind in ("villas", "rows") or (kind == "perimeter" and rng.random() < 0.7):
        _chimneys(rng, mesh, plot, height)
    style = mesh.styles[-1]
    if style[9] == 1.0:
        _awning(rng, mesh, plot, accent)
    if kind in ("slabs", "perimeter") and floors > 2 and rng.random() < (0.85 if kind == "slabs" else 0.35):
        _balconies(rng, mesh, plot, int(floors), floor_m, accent, wall)
    if kind in ("villas", "perimeter") and rng.random() < 0.4:
        _dormers(rng, mesh, plot, height, wall)


def _chimneys(rng: np.random.Generator, mesh: Mesh, plot: Footprint, height: float) -> None:
    for side in rng.permutation([-0.3, 0.28])[: int(rng.integers(1, 3))]:
        base = plot.centre + plot.u * plot.width_m * side + np.array([-plot.u[1], plot.u[0]]) * 0.8
        outline = rectangle(base, plot.u, 0.9, 0.7)
        rise = 0.45 * plot.depth_m + 1.0
        mesh.prism(
            outline,
            height,
            height + rise,
            Material.PLAIN,
            (0.50, 0.33, 0.27),
            top=(Material.PLAIN, (0.15, 0.14, 0.14)),
        )


def _awning(rng: np.random.Generator, mesh: Mesh, plot: Footprint, accent: Rgb) -> None:
    a, b = plot.corners[0], plot.corners[1]
    out = np.array([plot.u[1], -plot.u[0]]) * 1.3
    a, b = a + (b - a) * 0.06, b - (b - a) * 0.06
    corners = [(*(a + out), 2.65), (*(b + out), 2.65), (*b, 3.15), (*a, 3.15)]
    second = (0.94, 0.92, 0.88) if rng.random() < 0.5 else accent
    mesh.polygon(corners, Material.RIBS, accent, rgb2=second, size=(1.6, 1.0))


def _balconies(
    rng: np.random.Generator, mesh: Mesh, plot: Footprint, floors: int, floor_m: float, accent: Rgb, wall: Rgb
) -> None:
    bays = max(2, round(plot.width_m / 6.5))
    out = np.array([plot.u[1], -plot.u[0]])
    for side in (1, -1):
        for bay in range(bays):
            if rng.random() < 0.25:
                continue
            middle = plot.centre + plot.u * plot.width_m * ((bay + 0.5) / bays - 0.5)
            centre = middle + side * out * (plot.depth_m / 2 + 0.55)
            outline = rectangle(centre, plot.u, 3.0, 1.1)
            for floor in range(1, floors):
                z = floor * floor_m
                mesh.prism(outline, z - 0.1, z + 0.95, Material.PLAIN, accent)
                mesh.polygon([(*p, z) for p in outline], Material.PLAIN, wall)


def _dormers(rng: np.random.Generator, mesh: Mesh, plot: Footprint, height: float, wall: Rgb) -> None:
    n = max(1, int(plot.width_m / 5))
    out = np.array([plot.u[1], -plot.u[0]])
    for k in range(n):
        middle = plot.centre + plot.u * plot.width_m * ((k + 0.5) / n - 0.5)
        outline = rectangle(middle + out * (plot.depth_m * 0.27), plot.u, 1.5, plot.depth_m * 0.3)
        mesh.prism(
            outline, height, height + 2.1, Material.PLAIN, wall, top=(Material.PLAIN, (0.3, 0.28, 0.28))
        )
        a, b = (outline[0] * 0.8 + outline[1] * 0.2), (outline[0] * 0.2 + outline[1] * 0.8)
        a, b = a + out * 0.03, b + out * 0.03
        mesh.polygon(
            [(*a, height + 0.6), (*b, height + 0.6), (*b, height + 1.8), (*a, height + 1.8)],
            Material.GLASS,
            (0.12, 0.14, 0.17),
        )
