"""Landmarks: the dozen buildings of which a town has one each, several of them tall enough to steer by."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import trimesh
from numpy.typing import NDArray

from data_prep.cities.footprints import Footprint
from data_prep.cities.mesh import Material, Mesh, rectangle, ring
from data_prep.cities.roofs import Paint, pitched

Floats = NDArray[np.float64]
Rgb = tuple[float, float, float]
Maker = Callable[[np.random.Generator, Mesh, Floats, Floats], None]


def _lathe(
    mesh: Mesh,
    centre: Floats,
    profile: list[tuple[float, float]],
    material: Material,
    rgb: Rgb,
    *,
    sides: int = 24,
    rgb2: Rgb | None = None,
    size: tuple[float, float] = (3.0, 4.0),
) -> None:
    """A surface of revolution through (radius, height) pairs; patterns run around it in u and up it in v."""
    for (r0, z0), (r1, z1) in pairwise(profile):
        low, high = ring(centre, max(r0, 0.01), sides), ring(centre, max(r1, 0.01), sides)
        for k in range(sides):
            j = (k + 1) % sides
            corners = [(*low[k], z0), (*low[j], z0), (*high[j], z1), (*high[k], z1)]
            origin = (*low[k], 0.0)
            upright = {"v": (0, 0, 1), "origin": origin} if abs(z1 - z0) > 0.3 else {}
            mesh.polygon(corners, material, rgb, rgb2=rgb2, size=size, **upright)


def _box(
    mesh: Mesh,
    centre: Floats,
    u: Floats,
    w: float,
    d: float,
    low: float,
    high: float,
    rgb: Rgb,
    *,
    material: Material = Material.PLAIN,
    **options: object,
) -> None:
    outline = rectangle(centre, u, w, d)
    mesh.prism(
        outline, low, high, material, rgb, top=(Material.GRAVEL, tuple(c * 0.85 for c in rgb)), **options
    )


def _beam(mesh: Mesh, a: Floats, b: Floats, radius: float, rgb: Rgb) -> None:
    rod = trimesh.creation.cylinder(radius=radius, segment=np.array([a, b]), sections=5)
    mesh.add(rod.vertices[rod.faces], mesh.facet(Material.PLAIN, rgb))


def _left(u: Floats) -> Floats:
    return np.array([-u[1], u[0]])


def tv_tower(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    _lathe(mesh, c, [(7, 0), (4, 30), (3, 105)], Material.PLAIN, (0.76, 0.75, 0.72))
    _lathe(
        mesh,
        c,
        [(3, 98), (10, 104), (10.5, 108), (10.5, 112), (4, 116)],
        Material.BANDS,
        (0.85, 0.85, 0.86),
        rgb2=(0.2, 0.26, 0.3),
        size=(3, 4),
    )
    _lathe(
        mesh,
        c,
        [(1.6, 116), (0.8, 150), (0.1, 165)],
        Material.BANDS,
        (0.9, 0.9, 0.9),
        rgb2=(0.75, 0.1, 0.08),
        size=(1, 12),
    )


def church(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    wall, roof = (0.80, 0.74, 0.62), (0.30, 0.52, 0.45)
    style = _style(mesh, bay_m=5.0, floor_m=12.0, window_w=0.3, window_high=0.85)
    _box(mesh, c, u, 38, 16, 0, 13, wall, material=Material.WALL, style=style, rgb2=wall)
    pitched(mesh, Footprint(c, u, 38, 16), 13, 10, Paint(wall, (0.55, 0.30, 0.22), wall, 0.3))
    tower = c - u * 23
    _box(mesh, tower, u, 9, 9, 0, 34, wall, material=Material.WALL, style=style, rgb2=wall)
    base = rectangle(tower, u, 9.6, 9.6)
    for a, b in zip(base, np.roll(base, -1, 0), strict=True):
        mesh.polygon([(*a, 34), (*b, 34), (*tower, 68)], Material.TILES, roof)


def cathedral(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    wall, roof = (0.66, 0.44, 0.34), (0.28, 0.30, 0.34)
    style = _style(mesh, bay_m=6.0, floor_m=18.0, window_w=0.34, window_high=0.88)
    _box(mesh, c, u, 62, 22, 0, 20, wall, material=Material.WALL, style=style, rgb2=wall)
    pitched(mesh, Footprint(c, u, 62, 22), 20, 15, Paint(wall, roof, wall, 0.1))
    _box(mesh, c + u * 10, u, 14, 42, 0, 19, wall, material=Material.WALL, style=style, rgb2=wall)
    pitched(mesh, Footprint(c + u * 10, u, 14, 42), 19, 10, Paint(wall, roof, wall, 0.1), turned=True)
    for side in (-1, 1):
        tower = c - u * 32 + _left(u) * side * 8
        _box(mesh, tower, u, 10, 10, 0, 46, wall, material=Material.WALL, style=style, rgb2=wall)
        _lathe(mesh, tower, [(6.5, 46), (5.5, 54), (0.2, 82)], Material.TILES, (0.34, 0.56, 0.50), sides=8)


def gasholder(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    _lathe(
        mesh,
        c,
        [(24, 0), (24, 44), (16, 50), (0, 52)],
        Material.RIBS,
        (0.30, 0.50, 0.56),
        rgb2=(0.24, 0.42, 0.48),
        size=(3.1, 4),
        sides=32,
    )
    for z in (15, 30, 44):
        _lathe(mesh, c, [(24.6, z), (24.6, z + 1)], Material.PLAIN, (0.85, 0.85, 0.82), sides=32)


def stadium(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    angle = np.arange(36) * 2 * np.pi / 36
    circle = np.column_stack([np.cos(angle), np.sin(angle)])

    def oval(a: float, b: float) -> Floats:
        return c + circle[:, :1] * a * u + circle[:, 1:] * b * _left(u)

    field, outer = oval(42, 30), oval(64, 51)
    canopy = oval(52, 39)
    for k in range(36):
        j = (k + 1) % 36
        seat = (0.78, 0.16, 0.14) if k % 6 else (0.9, 0.88, 0.86)
        mesh.polygon(
            [(*field[k], 1), (*field[j], 1), (*outer[j], 16), (*outer[k], 16)],
            Material.BANDS,
            seat,
            rgb2=(0.5, 0.5, 0.5),
            size=(1, 1.6),
        )
        mesh.polygon(
            [(*outer[k], 0), (*outer[j], 0), (*outer[j], 22), (*outer[k], 22)],
            Material.RIBS,
            (0.86, 0.86, 0.88),
            rgb2=(0.45, 0.5, 0.56),
            size=(5, 4),
        )
        mesh.polygon(
            [(*canopy[k], 20), (*canopy[j], 20), (*outer[j], 22), (*outer[k], 22)],
            Material.PLAIN,
            (0.92, 0.92, 0.92),
        )
    mesh.polygon(
        [(*p, 0.05) for p in field], Material.BANDS, (0.30, 0.50, 0.22), rgb2=(0.25, 0.44, 0.18), size=(1, 12)
    )
    for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        foot = c + u * a * 60 + _left(u) * b * 47
        _beam(mesh, np.array([*foot, 0]), np.array([*foot, 48]), 0.7, (0.8, 0.8, 0.8))
        _box(mesh, foot, u, 7, 2, 46, 51, (0.94, 0.94, 0.9))


def chimney(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    _lathe(
        mesh,
        c,
        [(4.6, 0), (3.0, 112)],
        Material.BANDS,
        (0.88, 0.86, 0.84),
        rgb2=(0.72, 0.13, 0.10),
        size=(1, 22),
    )
    _box(
        mesh,
        c + u * 22,
        u,
        34,
        24,
        0,
        19,
        (0.62, 0.36, 0.28),
        material=Material.RIBS,
        rgb2=(0.54, 0.31, 0.24),
        size=(4, 4),
    )


def wheel(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    hub, r, n = np.array([*c, 36.0]), 31.0, 28
    angle = np.arange(n) * 2 * np.pi / n
    rim = hub + r * (
        np.cos(angle)[:, None] * np.array([*u, 0]) + np.sin(angle)[:, None] * np.array([0, 0, 1])
    )
    cabins = ((0.80, 0.16, 0.14), (0.92, 0.74, 0.16), (0.16, 0.40, 0.66), (0.92, 0.92, 0.9))
    for k in range(n):
        _beam(mesh, rim[k], rim[(k + 1) % n], 0.8, (0.92, 0.92, 0.94))
        if k % 2 == 0:
            _beam(mesh, hub, rim[k], 0.25, (0.85, 0.85, 0.88))
            _box(mesh, rim[k][:2], u, 3, 3, rim[k][2] - 4, rim[k][2] - 1, cabins[(k // 2) % 4])
    for side in (-1, 1):
        for lean in (-14, 14):
            _beam(mesh, np.array([*(c + u * lean + _left(u) * side * 6), 0]), hub, 0.8, (0.7, 0.72, 0.76))


def domed_hall(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    wall = (0.84, 0.80, 0.70)
    style = _style(mesh, bay_m=4.0, floor_m=13.0, window_w=0.45, window_high=0.84)
    _box(mesh, c, u, 54, 40, 0, 14, wall, material=Material.WALL, style=style, rgb2=wall)
    arc = [(16 * np.cos(t), 20 + 18 * np.sin(t)) for t in np.linspace(0, np.pi / 2, 8)]
    _lathe(mesh, c, [(16, 14), (16, 20)], Material.RIBS, wall, rgb2=(0.3, 0.3, 0.32), size=(4, 4), sides=28)
    _lathe(mesh, c, arc, Material.RIBS, (0.40, 0.66, 0.56), rgb2=(0.36, 0.60, 0.51), size=(3.6, 4), sides=28)
    _lathe(mesh, c, [(2, 38), (2, 42), (0.1, 47)], Material.PLAIN, (0.85, 0.70, 0.30), sides=8)


def skyscraper(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    glass = _style(mesh, bay_m=1.8, floor_m=3.6, window_w=0.94, window_low=0.12, window_high=0.95, ground=1.0)
    _box(
        mesh,
        c,
        u,
        26,
        26,
        0,
        96,
        (0.16, 0.22, 0.30),
        material=Material.WALL,
        style=glass,
        rgb2=(0.3, 0.4, 0.5),
        seed=0.4,
    )
    _box(
        mesh,
        c,
        u,
        18,
        18,
        96,
        108,
        (0.14, 0.19, 0.26),
        material=Material.RIBS,
        rgb2=(0.5, 0.55, 0.6),
        size=(3, 4),
    )


def gold_tower(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    glass = _style(mesh, bay_m=2.6, floor_m=3.5, window_w=0.55, window_low=0.2, window_high=0.85, ground=1.0)
    for k, side in enumerate((34, 26, 18)):
        _box(
            mesh,
            c,
            u,
            side,
            side * 0.8,
            0,
            46 + 22 * k,
            (0.82, 0.62, 0.30),
            material=Material.WALL,
            style=glass,
            rgb2=(0.9, 0.8, 0.6),
            seed=0.7,
        )
    _beam(mesh, np.array([*c, 90]), np.array([*c, 118]), 0.5, (0.8, 0.8, 0.8))


def water_tower(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    _lathe(
        mesh,
        c,
        [(6, 0), (5, 26), (9.5, 32), (9.5, 42)],
        Material.BANDS,
        (0.62, 0.34, 0.26),
        rgb2=(0.74, 0.50, 0.38),
        size=(1, 10),
        sides=16,
    )
    _lathe(mesh, c, [(10.3, 42), (0.2, 51)], Material.TILES, (0.28, 0.28, 0.32), sides=16)


def cooling_tower(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    z = np.linspace(0, 82, 12)
    profile = [(float(17 * np.sqrt(1 + ((h - 60) / 52) ** 2)), float(h)) for h in z]
    _lathe(
        mesh, c, profile, Material.RIBS, (0.74, 0.73, 0.71), rgb2=(0.70, 0.69, 0.67), size=(4, 4), sides=32
    )
    _lathe(mesh, c, [(17.5, 76), (17.5, 76.2)], Material.PLAIN, (0.3, 0.3, 0.3), sides=32)


def castle(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    stone = (0.60, 0.55, 0.48)
    style = _style(mesh, bay_m=5.5, floor_m=6.0, window_w=0.18, window_high=0.7)
    _box(mesh, c, u, 34, 26, 0, 20, stone, material=Material.WALL, style=style, rgb2=stone)
    for k, (a, b) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1))):
        tower = c + u * a * 18 + _left(u) * b * 14
        top = 38 if k == 2 else 27
        _lathe(
            mesh,
            tower,
            [(5.4, 0), (5.2, top), (6.2, top + 1), (6.2, top + 3)],
            Material.PLAIN,
            stone,
            sides=14,
        )
        _lathe(mesh, tower, [(6.6, top + 3), (0.1, top + 15)], Material.TILES, (0.24, 0.30, 0.42), sides=14)


def glass_pyramid(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    base = rectangle(c, u, 44, 44)
    for a, b in zip(base, np.roll(base, -1, 0), strict=True):
        mesh.polygon(
            [(*a, 0), (*b, 0), (*c, 36)],
            Material.BANDS,
            (0.28, 0.44, 0.54),
            rgb2=(0.72, 0.78, 0.82),
            size=(1, 3),
        )


def column(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    _box(mesh, c, u, 12, 12, 0, 4, (0.74, 0.70, 0.62))
    _lathe(mesh, c, [(2.6, 4), (2.0, 42), (3.4, 44), (3.4, 46)], Material.PLAIN, (0.82, 0.78, 0.70), sides=14)
    _lathe(mesh, c, [(1.2, 46), (1.6, 50), (0.2, 56)], Material.PLAIN, (0.88, 0.70, 0.22), sides=8)


def silos(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    for k in range(5):
        _lathe(
            mesh,
            c + u * (k - 2) * 10.5,
            [(5.2, 0), (5.2, 38), (0.3, 41)],
            Material.PLAIN,
            (0.84, 0.82, 0.76),
            sides=18,
        )
    _box(mesh, c, u, 54, 5, 38, 45, (0.36, 0.48, 0.56))


def power_hall(rng: np.random.Generator, mesh: Mesh, c: Floats, u: Floats) -> None:
    _box(
        mesh,
        c,
        u,
        50,
        22,
        0,
        24,
        (0.58, 0.32, 0.25),
        material=Material.RIBS,
        rgb2=(0.22, 0.24, 0.26),
        size=(5, 4),
    )
    for k in range(4):
        _lathe(
            mesh, c + u * (k - 1.5) * 12, [(2.2, 24), (1.8, 62)], Material.PLAIN, (0.82, 0.80, 0.76), sides=14
        )


# Who builds it, where it may stand and the radius in metres it needs, in the order in which a town gets them.
LANDMARKS: tuple[tuple[Maker, tuple[str, ...], float], ...] = (
    (tv_tower, ("slabs", "villas", "park"), 14),
    (church, ("rows", "perimeter", "villas"), 34),
    (chimney, ("works",), 40),
    (skyscraper, ("towers", "perimeter"), 22),
    (cathedral, ("perimeter",), 46),
    (stadium, ("slabs", "works", "crop", "rows"), 70),
    (gasholder, ("works", "rows"), 30),
    (wheel, ("park",), 32),
    (domed_hall, ("perimeter", "towers"), 36),
    (water_tower, ("villas", "rows"), 13),
    (cooling_tower, ("works", "crop"), 40),
    (gold_tower, ("towers", "perimeter", "slabs"), 24),
    (castle, ("park", "wood", "villas"), 30),
    (glass_pyramid, ("perimeter", "rows", "towers"), 34),
    (column, ("perimeter", "rows", "plaza"), 10),
    (silos, ("crop", "works"), 32),
    (power_hall, ("works", "slabs"), 30),
    (church, ("villas", "rows"), 34),
)


def _style(mesh: Mesh, **columns: float) -> int:
    plain = dict.fromkeys(("mullions", "shutters", "bands", "brick", "ground"), 0.0)
    given = {
        "bay_m": 3.0,
        "floor_m": 3.2,
        "window_w": 0.5,
        "window_low": 0.2,
        "window_high": 0.8,
        "tint": 0.5,
        "frame": 0.6,
    }
    return mesh.style(**(plain | given | columns))
