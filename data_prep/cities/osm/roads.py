"""Streets out of a map: cut at their junctions, as wide as their class, lanes and neighbours let them be."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree
from shapely import LineString, Polygon

from data_prep.cities.osm.read import Feature, metres, number
from data_prep.cities.plan import Street

Floats = NDArray[np.float64]
End = tuple[float, float]
SHORTEST_M = 1.5
LANE_M = 3.3
TOWN_M, TOWN_JUNCTIONS = 150.0, 8  # so many junctions so near: a town, whether or not its houses are mapped


@dataclass(frozen=True)
class Class:
    """What a street of a class is like where the map says no more."""

    rank: str
    width_m: float
    urban: bool  # has sidewalks where houses line it


CLASSES = {
    "motorway": Class("avenue", 11.0, False),
    "motorway_link": Class("lane", 6.0, False),
    "trunk": Class("avenue", 11.0, False),
    "trunk_link": Class("lane", 6.0, False),
    "primary": Class("avenue", 10.0, True),
    "primary_link": Class("street", 5.5, True),
    "secondary": Class("avenue", 8.5, True),
    "secondary_link": Class("street", 5.5, True),
    "tertiary": Class("street", 7.5, True),
    "tertiary_link": Class("street", 5.5, True),
    "unclassified": Class("street", 6.3, True),
    "residential": Class("street", 6.5, True),
    "living_street": Class("lane", 5.5, True),
    "road": Class("lane", 5.5, True),
    "service": Class("lane", 3.6, False),
}
PATHS_M = {  # ways for feet and hooves, and their widths
    "pedestrian": 6.0, "track": 2.6, "footway": 1.8, "path": 1.4, "cycleway": 2.4, "steps": 2.0, "bridleway": 1.8,
}  # fmt: skip


def on_the_ground(way: Feature) -> bool:
    """Whether a way is there to be seen and walked on: not in a tunnel, not in a building."""
    return not way.has("tunnel", "yes", "building_passage") and not way.has("indoor")


def streets(
    features: Iterable[Feature], frame: Polygon, houses: list[Polygon], districts: shapely.STRtree
) -> list[Street]:
    """The streets within the frame. Houses hold them narrow, or give them the sidewalks between."""
    ways = [f for f in features if _is_street(f)]
    shared = Counter(point for way in ways for point in set(way.geometry.coords))
    walls = shapely.STRtree(houses)
    junctions = KDTree(np.array([p for p, ways_there in shared.items() if ways_there > 1]).reshape(-1, 2))
    found = []
    for way in ways:
        for line in _pieces(way.geometry, shared, frame):
            middle = line.interpolate(0.5, normalized=True)
            town = len(junctions.query_ball_point((middle.x, middle.y), TOWN_M)) >= TOWN_JUNCTIONS
            sized = _widths(way, _gap(line, walls, houses), town)
            found.append((line, *sized, int(districts.nearest(middle))))
    reach: dict[End, list[float]] = {}
    for line, _, width_m, _, _ in found:
        for end in _ends(line):
            reach.setdefault(end, []).append(width_m / 2 + 1.2)

    def clear(end: End) -> float:
        return max(reach[end]) if len(reach[end]) > 2 else 0.0

    return [
        Street(
            line.simplify(0.25), width, walk, rank, district, (clear(_ends(line)[0]), clear(_ends(line)[1]))
        )
        for line, rank, width, walk, district in found
    ]


def _is_street(f: Feature) -> bool:
    return isinstance(f.geometry, LineString) and f.tags.get("highway") in CLASSES and on_the_ground(f)


def _ends(line: LineString) -> tuple[End, End]:
    return line.coords[0][:2], line.coords[-1][:2]


def _pieces(line: LineString, shared: Counter[End], frame: Polygon) -> Iterator[LineString]:
    """A way cut where others meet it, and at the frame."""
    xy = list(line.coords)
    cuts = [0, *(k for k in range(1, len(xy) - 1) if shared[xy[k]] > 1), len(xy) - 1]
    for a, b in pairwise(cuts):
        inside = shapely.get_parts(LineString(xy[a : b + 1]).intersection(frame))
        yield from (part for part in inside if part.geom_type == "LineString" and part.length > SHORTEST_M)


def _widths(way: Feature, gap: float, town: bool) -> tuple[str, float, float]:
    """Rank, and the widths of the carriageway and of each sidewalk; `gap` is between the houses."""
    known = CLASSES[way.tags["highway"]]
    lanes = number(way.tags.get("lanes"))
    width = metres(way.tags.get("width")) or (lanes * LANE_M + 0.6 if lanes else known.width_m)
    if known.rank != "avenue" and way.has("oneway", "yes") and not lanes:
        width *= 0.85
    if not known.urban:
        return known.rank, float(np.clip(width, 2.6, max(gap - 1.0, 2.6))), 0.0
    if gap < 34:  # lined with houses: carriageway and sidewalks share what is between them
        width = float(np.clip(max(width, min(0.5 * gap, 1.4 * width)), 2.8, max(gap - 2.4, 2.8)))
        return known.rank, width, float(np.clip((gap - width) / 2 - 0.2, 0.0, 4.5))
    return known.rank, width, 1.8 if town or gap < 80 else 0.0


def _gap(line: LineString, walls: shapely.STRtree, houses: list[Polygon]) -> float:
    """Between the houses on both sides of a street, or infinity where there are none on most of its length."""
    if not houses:
        return np.inf
    at = np.linspace(0, 1, 2 + int(line.length / 8))[1:-1] if line.length > 16 else np.array([0.5])
    points = shapely.line_interpolate_point(line, at, normalized=True)
    _, distance = walls.query_nearest(points, all_matches=False, return_distance=True)
    near, usual = np.quantile(distance, [0.15, 0.5])
    return float(2 * near) if usual < 45 else np.inf


def paths(features: Iterable[Feature], frame: Polygon) -> Iterator[tuple[str, Feature, Polygon]]:
    """Ways that are no streets: their class and the strip of ground they take."""
    for f in features:
        kind = f.tags.get("highway", "")
        if kind in PATHS_M and f.geometry.intersects(frame) and on_the_ground(f) and not _beside_a_street(f):
            if isinstance(f.geometry, Polygon):
                yield kind, f, f.geometry
            elif isinstance(f.geometry, LineString):
                wide = metres(f.tags.get("width")) or PATHS_M[kind]
                yield kind, f, f.geometry.buffer(min(wide, 12.0) / 2, cap_style="flat", quad_segs=3)


def _beside_a_street(f: Feature) -> bool:
    """Sidewalks and crossings are drawn with the street that they belong to."""
    return f.has("footway", "sidewalk", "crossing") or f.has("cycleway", "crossing")
