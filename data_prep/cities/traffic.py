"""What has moved between two pictures: parked and driving cars, vans and people."""

from functools import cache
from itertools import pairwise

import numpy as np
import shapely
import trimesh
from numpy.typing import NDArray
from shapely import Polygon

from data_prep.cities.mesh import Material, Mesh
from data_prep.cities.plan import Plan, Street

Floats = NDArray[np.float64]
PAINTS = np.array([
    (0.90, 0.90, 0.90), (0.90, 0.90, 0.90), (0.08, 0.08, 0.09), (0.12, 0.12, 0.13), (0.55, 0.57, 0.59),
    (0.55, 0.57, 0.59), (0.32, 0.34, 0.36), (0.60, 0.08, 0.08), (0.10, 0.20, 0.42), (0.16, 0.32, 0.52),
    (0.30, 0.36, 0.28), (0.74, 0.66, 0.52), (0.80, 0.66, 0.12), (0.12, 0.26, 0.20),
])  # fmt: skip
CLOTHES = np.array([
    (0.15, 0.16, 0.22), (0.60, 0.15, 0.14), (0.85, 0.84, 0.80), (0.20, 0.30, 0.50), (0.30, 0.36, 0.24),
    (0.08, 0.08, 0.08), (0.80, 0.60, 0.20), (0.45, 0.38, 0.34),
])  # fmt: skip
PARTS = {"body": 0, "glass": 1, "tyre": 2}


def _loft(sections: list[tuple[float, float, float, float]]) -> Floats:
    """Skin through boxes' cross-sections (x0, x1, half width, z), bottom to top, closed above."""
    rings = [np.array([(x0, -w, z), (x1, -w, z), (x1, w, z), (x0, w, z)]) for x0, x1, w, z in sections]
    quads = [(lo[k], lo[(k + 1) % 4], hi[(k + 1) % 4], hi[k]) for lo, hi in pairwise(rings) for k in range(4)]
    quads.append(tuple(rings[-1]))
    return np.array([(q[i], q[j], q[k]) for q in quads for i, j, k in ((0, 1, 2), (0, 2, 3))])


@cache
def _car(kind: int) -> tuple[tuple[str, Floats], ...]:
    """Body, glass and tyres of a saloon, an estate or a van, x forward, on the ground."""
    long, roof, high = ((4.3, (-1.0, 0.55), 1.45), (4.5, (-1.9, 0.5), 1.55), (5.4, (-2.45, 1.5), 2.25))[kind]
    h, waist = long / 2, 0.88 if kind < 2 else 1.15
    body = _loft([(-h, h, 0.84, 0.22), (-h - 0.04, h + 0.04, 0.88, 0.55), (-h + 0.05, h - 0.1, 0.84, waist)])
    front = 1.35 if kind < 2 else 2.3
    back = -1.75 if kind == 0 else -2.15 if kind == 1 else -2.6
    glass = _loft([(back, front, 0.82, waist), (roof[0], roof[1], 0.68, high - 0.06)])
    top = _loft([(roof[0], roof[1], 0.69, high - 0.06), (roof[0] + 0.1, roof[1] - 0.1, 0.62, high)])
    if kind == 2:  # a van has panels where a car has windows
        top = np.concatenate([top, _loft([(-2.62, 0.7, 0.86, 1.1), (-2.6, 0.7, 0.80, 2.2)])])
    wheels = []
    for x in (-h + 0.85, h - 0.85):
        wheel = trimesh.creation.cylinder(radius=0.33, height=1.78, sections=8)
        turned = wheel.vertices[:, [0, 2, 1]] + (x, 0, 0.33)
        wheels.append(turned[wheel.faces])
    return ("body", np.concatenate([body, top])), ("glass", glass), ("tyre", np.concatenate(wheels))


@cache
def _person() -> tuple[tuple[str, Floats], ...]:
    legs = np.concatenate(
        [
            _loft([(-0.1 + s, 0.08 + s, 0.10, 0.0), (-0.09 + s / 3, 0.09 + s / 3, 0.15, 0.85)])
            for s in (-0.16, 0.16)
        ]
    )
    torso = _loft([(-0.12, 0.12, 0.19, 0.80), (-0.14, 0.14, 0.25, 1.35), (-0.08, 0.08, 0.12, 1.50)])
    head = trimesh.creation.icosphere(subdivisions=0, radius=0.14)
    return ("legs", legs), ("torso", torso), ("head", (head.vertices + np.array((0, 0, 1.63)))[head.faces])


def add_traffic(rng: np.random.Generator, mesh: Mesh, plan: Plan) -> None:
    """Park, drive and walk: another call with another generator is another moment."""
    for street in plan.streets:
        _park(rng, mesh, street)
        _drive(rng, mesh, street)
        _walk(rng, mesh, street)
    for lot in plan.survey.parking if plan.survey else ():
        _park_in_rows(rng, mesh, lot)


def along(street: Street, at: float) -> tuple[Floats, Floats]:
    """Point and unit direction of the centre line, `at` metres from its start."""
    line = street.line
    a, b = line.interpolate(max(at - 1.0, 0)), line.interpolate(min(at + 1.0, line.length))
    d = np.array([b.x - a.x, b.y - a.y])
    p = line.interpolate(at)
    return np.array([p.x, p.y]), d / max(float(np.hypot(*d)), 1e-9)


def _park(rng: np.random.Generator, mesh: Mesh, street: Street) -> None:
    if street.width_m < 6.2:
        return
    busy = rng.uniform(0.1, 0.65) if street.rank != "avenue" else 0.3
    for side in (-1, 1):
        if side == 1 and street.width_m < 7.5:
            continue
        for at in np.arange(street.clear_m[0] + 7, street.line.length - street.clear_m[1] - 7, 6.0):
            if rng.random() < busy:
                p, u = along(street, float(at))
                left = np.array([-u[1], u[0]])
                place = p + left * side * (street.width_m / 2 - 1.05)
                _place_car(rng, mesh, place, u * (1 if side < 0 else -1))


def _park_in_rows(rng: np.random.Generator, mesh: Mesh, lot: Polygon) -> None:
    """Cars side by side along the longer side of a lot, in rows with a lane between every other two."""
    corners = shapely.get_coordinates(lot.minimum_rotated_rectangle)
    short, long = sorted(corners[1:3] - corners[:2], key=lambda side: float(np.hypot(*side)))
    deep, wide = float(np.hypot(*short)), float(np.hypot(*long))
    if deep < 5:
        return
    v, u, room, busy = short / deep, long / wide, lot.buffer(-1.5), rng.uniform(0.15, 0.7)
    shapely.prepare(room)
    for row, into in enumerate(np.arange(3.2, deep - 2, 5.2)):
        for at in np.arange(2.0, wide - 1, 2.7) if row % 3 < 2 else ():
            place = corners[0] + u * at + v * into
            if rng.random() < busy and shapely.contains_xy(room, *place):
                _place_car(rng, mesh, place, v * rng.choice([-1, 1]))


def _drive(rng: np.random.Generator, mesh: Mesh, street: Street) -> None:
    rate = {"avenue": 1 / 55, "street": 1 / 160, "lane": 1 / 400}[street.rank]
    for _ in range(int(rng.poisson(street.line.length * rate))):
        at = float(rng.uniform(0, street.line.length))
        side = int(rng.choice([-1, 1]))
        p, u = along(street, at)
        offset = street.width_m * 0.12 + 0.3
        _place_car(rng, mesh, p + np.array([-u[1], u[0]]) * side * offset, u * -side)


def _walk(rng: np.random.Generator, mesh: Mesh, street: Street) -> None:
    rate = {"avenue": 1 / 30, "street": 1 / 55, "lane": 1 / 140}[street.rank] * (street.walk_m > 0)
    for _ in range(int(rng.poisson(street.line.length * rate))):
        p, u = along(street, float(rng.uniform(0, street.line.length)))
        side, way = int(rng.choice([-1, 1])), int(rng.choice([-1, 1]))
        reach = street.width_m / 2 + rng.uniform(0.6, max(street.walk_m - 0.4, 0.7))
        place = p + np.array([-u[1], u[0]]) * side * reach
        top, bottom = CLOTHES[rng.integers(len(CLOTHES), size=2)]
        colours = {"torso": top, "legs": bottom * 0.7, "head": np.array((0.72, 0.54, 0.44))}
        for part, triangles in _person():
            facet = mesh.facet(Material.PLAIN, colours[part])
            mesh.add(_moved(triangles * rng.uniform(0.92, 1.08), place, u * way), facet)


def _place_car(rng: np.random.Generator, mesh: Mesh, place: Floats, u: Floats) -> None:
    kind = int(rng.choice([0, 0, 0, 1, 1, 2]))
    paint = PAINTS[rng.integers(len(PAINTS))] * rng.uniform(0.85, 1.0)
    surface = {
        "body": (Material.PAINT, paint),
        "glass": (Material.GLASS, (0.06, 0.08, 0.09)),
        "tyre": (Material.PLAIN, (0.06, 0.06, 0.06)),
    }
    for part, triangles in _car(kind):
        mesh.add(_moved(triangles, place, u), mesh.facet(surface[part][0], surface[part][1]))


def _moved(triangles: Floats, place: Floats, u: Floats) -> Floats:
    x, y, z = triangles[..., 0], triangles[..., 1], triangles[..., 2]
    return np.stack([place[0] + x * u[0] - y * u[1], place[1] + x * u[1] + y * u[0], z], -1)
