"""Buildings: volumes, the rules of their façades, and what hangs on them."""

from typing import NamedTuple

import numpy as np

from data_prep.cities.footprints import Footprint
from data_prep.cities.mesh import Material, Mesh, rectangle
from data_prep.cities.palettes import TYPES, Palette, Rgb
from data_prep.cities.roofs import Paint, roof

SHOP, SHED = 1.0, 2.0  # ground floors of their own, in a style's column "ground"


class Design(NamedTuple):
    """What is decided of a building before it is built."""

    floors: int
    height_m: float  # of its walls
    roof: str
    paint: Paint


def build(rng: np.random.Generator, mesh: Mesh, plot: Footprint, kind: str, palette: Palette) -> float:
    """Add one building to the mesh; returns its height in metres."""
    return erect(rng, mesh, plot, kind, palette, design(rng, kind, palette))


def design(rng: np.random.Generator, kind: str, palette: Palette) -> Design:
    t = TYPES[kind]
    wall = _vary(rng, palette.walls[int(rng.integers(len(palette.walls)))], 0.05)
    tiles = _vary(rng, palette.roofs[int(rng.integers(len(palette.roofs)))], 0.05)
    shape = palette.roof[int(rng.integers(len(palette.roof)))]
    floors = int(rng.integers(palette.floors[0], palette.floors[1] + 1))
    if kind == "towers" and rng.random() < 0.6:
        floors = min(floors, 9)
    height = floors * t.floor_m + rng.uniform(0.2, 0.7)
    accent = _vary(rng, _ACCENTS[int(rng.integers(len(_ACCENTS)))], 0.04)
    return Design(floors, height, shape, Paint(wall, tiles, accent, float(rng.random())))


def erect(
    rng: np.random.Generator, mesh: Mesh, plot: Footprint, kind: str, palette: Palette, plan: Design
) -> float:
    """Add the building of a design to the mesh; returns its height in metres."""
    height, paint = plan.height_m, plan.paint
    rules = facade(rng, kind, palette)
    style = mesh.style(**rules)
    mesh.prism(
        plot.corners, 0.0, height, Material.WALL, paint.wall, rgb2=paint.accent, style=style, seed=paint.seed
    )
    rise = roof(rng, mesh, plot, height, plan.roof, paint)
    if kind in ("villas", "rows") or (kind == "perimeter" and rng.random() < 0.7):
        _chimneys(rng, mesh, plot, height)
    if rules["ground"] == SHOP:
        _awning(rng, mesh, plot, paint.accent)
    _details(rng, mesh, plot, kind, plan.floors, height, paint)
    return height + rise


def _vary(rng: np.random.Generator, rgb: Rgb, amount: float) -> Rgb:
    shade = rng.uniform(-amount, amount)
    r, g, b = (float(np.clip(c + shade + rng.uniform(-amount, amount) / 2, 0.03, 0.97)) for c in rgb)
    return r, g, b


_ACCENTS: tuple[Rgb, ...] = (
    (0.93, 0.92, 0.88), (0.62, 0.18, 0.15), (0.16, 0.32, 0.50), (0.20, 0.40, 0.27), (0.86, 0.62, 0.16),
    (0.26, 0.25, 0.26), (0.45, 0.28, 0.18), (0.84, 0.46, 0.20), (0.35, 0.52, 0.60),
)  # fmt: skip


def facade(rng: np.random.Generator, kind: str, palette: Palette) -> dict[str, float]:
    """The style of a façade."""
    t = TYPES[kind]
    ground = SHOP if rng.random() < t.shops else SHED if kind == "works" else 0.0
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


def _details(
    rng: np.random.Generator, mesh: Mesh, plot: Footprint, kind: str, floors: int, height: float, paint: Paint
) -> None:
    if kind in ("slabs", "perimeter") and floors > 2 and rng.random() < (0.85 if kind == "slabs" else 0.35):
        _balconies(rng, mesh, plot, floors, TYPES[kind].floor_m, paint)
    if kind in ("villas", "perimeter") and rng.random() < 0.4:
        _dormers(mesh, plot, height, paint)


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
    rng: np.random.Generator, mesh: Mesh, plot: Footprint, floors: int, floor_m: float, paint: Paint
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
                mesh.prism(outline, z - 0.1, z + 0.95, Material.PLAIN, paint.accent)
                mesh.polygon([(*p, z) for p in outline], Material.PLAIN, paint.wall)


def _dormers(mesh: Mesh, plot: Footprint, height: float, paint: Paint) -> None:
    n = max(1, int(plot.width_m / 5))
    out = np.array([plot.u[1], -plot.u[0]])
    for k in range(n):
        middle = plot.centre + plot.u * plot.width_m * ((k + 0.5) / n - 0.5)
        outline = rectangle(middle + out * (plot.depth_m * 0.27), plot.u, 1.5, plot.depth_m * 0.3)
        mesh.prism(
            outline, height, height + 2.1, Material.PLAIN, paint.wall, top=(Material.PLAIN, (0.3, 0.28, 0.28))
        )
        a, b = (outline[0] * 0.8 + outline[1] * 0.2), (outline[0] * 0.2 + outline[1] * 0.8)
        a, b = a + out * 0.03, b + out * 0.03
        mesh.polygon(
            [(*a, height + 0.6), (*b, height + 0.6), (*b, height + 1.8), (*a, height + 1.8)],
            Material.GLASS,
            (0.12, 0.14, 0.17),
        )
