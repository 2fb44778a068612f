"""Buildings on outlines of any shape, as maps have them: walls, floors above open ground, roofs."""

import itertools
from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from data_prep.cities.footprints import Footprint
from data_prep.cities.mesh import Material, Mesh, rectangle
from data_prep.cities.roofs import Paint

Floats = NDArray[np.float64]
PARAPET_M = 0.7
SLOPE = 0.75  # rise over run of pitched roofs
STEEPEST_SHARE = 0.45  # of a building's height that its roof may take
LEVELS = (
    0.3,
    0.55,
    0.75,
    0.9,
    0.98,
)  # of a roof, in shares of its rise: wings too narrow for one end at the last
RECTANGULAR = 0.93  # share of its bounding rectangle that an outline must fill to be one


def footprint(shape: Polygon, towards: shapely.Geometry | None) -> Footprint | None:
    """The rectangle that an outline nearly is, its front on the side of `towards`; None where it is none."""
    bounding = shape.minimum_rotated_rectangle
    if shape.interiors or not isinstance(bounding, Polygon) or shape.area < RECTANGULAR * bounding.area:
        return None
    corners = shapely.get_coordinates(shapely.geometry.polygon.orient(bounding))[:4]
    sides = np.roll(corners, -1, 0) - corners
    middles = [shapely.Point(corner + side / 2) for corner, side in zip(corners, sides, strict=True)]
    front = 0 if towards is None else int(np.argmin([towards.distance(middle) for middle in middles]))
    width, depth = np.hypot(*sides[front]), np.hypot(*sides[(front + 1) % 4])
    return Footprint(corners.mean(0), sides[front] / width, float(width), float(depth))


def walls(mesh: Mesh, shape: Polygon, low_m: float, high_m: float, paint: Paint, style: int) -> None:
    for ring in (shape.exterior, *shape.interiors):
        mesh.prism(
            shapely.get_coordinates(ring)[:-1], low_m, high_m, Material.WALL, paint.wall, rgb2=paint.accent,
            style=style, seed=paint.seed,
        )  # fmt: skip
    if low_m > 0:
        _lid(mesh, shape, low_m, Material.PLAIN, paint.wall, paint.seed)


def flat(rng: np.random.Generator, mesh: Mesh, shape: Polygon, eave_m: float, paint: Paint) -> None:
    """A flat roof behind a parapet, with stair heads and plant on it."""
    _lid(mesh, shape, eave_m, Material.GRAVEL, paint.roof, paint.seed)
    for ring in (shape.exterior, *shape.interiors):
        rim = shapely.get_coordinates(ring)[:-1]
        mesh.prism(rim, eave_m, eave_m + PARAPET_M, Material.PLAIN, paint.wall, seed=paint.seed)
    room = shape.buffer(-2.2)
    if room.area < 25:
        return
    west, south, east, north = room.bounds
    u = _grain(shape)
    for _ in range(min(12, 1 + int(room.area / 150))):
        outline = rectangle(rng.uniform((west, south), (east, north)), u, *rng.uniform(1.6, 6.0, 2))
        tone = float(rng.uniform(0.35, 0.8))
        if room.contains(Polygon(outline)):
            top = (Material.PLAIN, (tone * 0.9,) * 3)
            mesh.prism(outline, eave_m, eave_m + rng.uniform(1.0, 3.0), Material.PLAIN, (tone,) * 3, top=top)


def rise_m(shape: Polygon, tall_m: float) -> float:
    """How far the roof of `sloped` rises over an outline: to its ridge, if that is not too high."""
    inner = shapely.maximum_inscribed_circle(shape).length
    return float(min(SLOPE * inner, STEEPEST_SHARE * tall_m))


def sloped(mesh: Mesh, shape: Polygon, eave_m: float, rise: float, paint: Paint) -> None:
    """A hipped roof: it rises from every edge alike, up to a ridge or, where that would be higher, a deck."""
    run = rise / SLOPE
    levels = [(shape, 0.0)]
    for share in LEVELS:
        inset = shape.buffer(-run * share, join_style="mitre")
        levels.append((inset, rise * share))
    for (outer, low), (inner, high) in itertools.pairwise(levels):
        _band(mesh, outer, inner, eave_m + low, eave_m + high, paint)
    for part in shapely.get_parts(levels[-1][0]):
        _lid(mesh, part, eave_m + levels[-1][1], Material.TILES, paint.roof, paint.seed)


def _band(
    mesh: Mesh, outer: shapely.Geometry, inner: shapely.Geometry, low: float, high: float, paint: Paint
) -> None:
    """The slope between two levels of a roof: what lies on the inner rim is high, all else low."""
    rim = shapely.boundary(inner)
    shapely.prepare(rim)
    for triangle in _triangles(outer.difference(inner)):
        z = (
            np.where(shapely.distance(shapely.points(triangle), rim) < 0.02, high, low)
            if not inner.is_empty
            else low
        )
        corners = np.column_stack([triangle, np.broadcast_to(z, 3)])
        _face(mesh, corners, paint)


def _face(mesh: Mesh, corners: Floats, paint: Paint) -> None:
    """A triangle of tiles whose courses run level."""
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    long = float(np.linalg.norm(normal))
    if long < 1e-6:
        return
    normal *= np.copysign(1 / long, normal[2])
    level = np.array([-normal[1], normal[0], 0.0])
    steep = float(np.linalg.norm(level))
    u = level / steep if steep > 1e-3 else np.array([1.0, 0.0, 0.0])
    facet = mesh.facet(
        Material.TILES, paint.roof, origin=corners[0], u=u, v=np.cross(normal, u), seed=paint.seed
    )  # fmt: skip
    mesh.add(corners, facet)


def spire(mesh: Mesh, shape: Polygon, eave_m: float, rise: float, paint: Paint) -> None:
    """Straight up from the outline to a point."""
    middle = shape.centroid
    rim = shapely.get_coordinates(shape.exterior)
    for a, b in itertools.pairwise(rim):
        _face(mesh, np.array([(*a, eave_m), (*b, eave_m), (middle.x, middle.y, eave_m + rise)]), paint)


def dome(mesh: Mesh, shape: Polygon, eave_m: float, rise: float, paint: Paint) -> None:
    rim, middle = shapely.get_coordinates(shape.exterior), np.array(shape.centroid.coords[0])
    angles = np.linspace(0, np.pi / 2, 6)
    for t0, t1 in itertools.pairwise(angles):
        low, high = (middle + (rim - middle) * np.cos(t) for t in (t0, t1))
        z0, z1 = (eave_m + rise * float(np.sin(t)) for t in (t0, t1))
        for k in range(len(rim) - 1):
            corners = np.array([(*low[k], z0), (*low[k + 1], z0), (*high[k + 1], z1), (*high[k], z1)])
            _face(mesh, corners[:3], paint)
            _face(mesh, corners[[0, 2, 3]], paint)


def _lid(mesh: Mesh, shape: Polygon, z: float, material: Material, rgb: Sequence[float], seed: float) -> None:
    facet = mesh.facet(material, rgb, seed=seed)
    for triangle in _triangles(shape):
        mesh.add(np.column_stack([triangle, np.full(3, z)]), facet)


def _triangles(area: shapely.Geometry) -> list[Floats]:
    return [
        shapely.get_coordinates(t)[:3]
        for t in shapely.get_parts(shapely.constrained_delaunay_triangles(area))
    ]


def _grain(shape: Polygon) -> Floats:
    corners = shapely.get_coordinates(shape.minimum_rotated_rectangle)
    side = max(corners[1] - corners[0], corners[2] - corners[1], key=lambda s: float(np.hypot(*s)))
    return np.asarray(side / np.hypot(*side))
