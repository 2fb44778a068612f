"""Buildings out of a map: outlines, and heights, roofs and kinds where the map does not tell them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree
from shapely import Polygon

from data_prep.cities.osm.read import Feature, metres, number
from data_prep.cities.plan import House

Floats = NDArray[np.float64]
FLOOR_M, ATTIC_M = 3.1, 1.5
ROOF_M = {"flat": 0.0, None: 1.5}  # height of the roof above the highest floor, 3 m where it is pitched
SMALLEST_M2 = 6.0
TALLEST_M = 830.0
NEAR_M, FEW = 150.0, 3  # so near, so many: those that a building of unknown height takes after

HEIGHTS_M = {  # of buildings of which only the use is known
    "garage": 2.8, "garages": 2.8, "carport": 2.6, "shed": 2.6, "hut": 2.8, "kiosk": 3.0, "roof": 4.5,
    "greenhouse": 3.5, "stable": 6.0, "barn": 8.0, "farm_auxiliary": 6.5, "bungalow": 6.0, "house": 9.0,
    "detached": 9.0, "semidetached_house": 9.5, "terrace": 9.5, "farm": 10.0, "residential": 10.5,
    "apartments": 14.0, "dormitory": 14.0, "hotel": 18.0, "office": 18.0, "commercial": 10.0, "retail": 7.0,
    "supermarket": 6.5, "industrial": 9.0, "warehouse": 9.5, "hangar": 12.0, "school": 11.0, "hospital": 18.0,
    "university": 15.0, "church": 18.0, "chapel": 9.0, "cathedral": 28.0, "mosque": 16.0, "synagogue": 14.0,
    "parking": 13.0, "parking_garage": 13.0, "train_station": 12.0, "stadium": 24.0, "castle": 16.0,
}  # fmt: skip
WORKS = (
    "industrial", "warehouse", "hangar", "supermarket", "retail", "parking", "parking_garage", "barn", "stable",
    "farm_auxiliary", "garage", "garages", "carport", "shed", "hut", "roof", "greenhouse", "stadium",
)  # fmt: skip
ROOFS = {
    "flat": "flat", "gabled": "gable", "gambrel": "gable", "saltbox": "gable", "hipped": "hip",
    "half-hipped": "hip", "mansard": "hip", "pyramidal": "pyramid", "cone": "pyramid", "skillion": "mono",
    "round": "hip", "dome": "dome", "onion": "dome",
}  # fmt: skip


@dataclass(frozen=True)
class _Mapped:
    shape: Polygon
    feature: Feature
    use: str
    low_m: float
    top_m: float | None
    roof: str | None


def houses(
    rng: np.random.Generator, features: Iterable[Feature], frame: Polygon, districts: shapely.STRtree
) -> list[House]:
    """Buildings that touch the frame, each part of a building by itself where the map has parts."""
    mapped = _without_outlines(list(_mapped(features, frame)))
    if not mapped:
        return []
    xy = np.array([(m.shape.centroid.x, m.shape.centroid.y) for m in mapped])
    tops = _filled(rng, xy, mapped)
    roofs = _roofs(xy, mapped, tops)
    touching = shapely.STRtree([m.shape for m in mapped])
    found = []
    for m, top, roof in zip(mapped, tops, roofs, strict=True):
        attached = len(touching.query(m.shape, predicate="dwithin", distance=0.4)) > 1
        kind = _kind(m, top - m.low_m, attached)
        found.append(House(m.shape, m.low_m, top, roof, kind, int(districts.nearest(m.shape.centroid))))
    return found


def _mapped(features: Iterable[Feature], frame: Polygon) -> Iterable[_Mapped]:
    for f in features:
        if not isinstance(f.geometry, Polygon) or not (f.has("building") or f.has("building:part")):
            continue
        if f.has("location", "underground") or not f.geometry.intersects(frame):
            continue
        low, top = _extent(f)
        for shape in shapely.get_parts(f.geometry.simplify(0.25)):
            if isinstance(shape, Polygon) and shape.area > SMALLEST_M2:
                use = f.tags.get("building", "yes")
                yield _Mapped(shapely.geometry.polygon.orient(shape), f, use, low, top, _roof(f))


def _extent(f: Feature) -> tuple[float, float | None]:
    """Height of the lowest and of the highest point; None where the map does not tell."""
    levels, below = number(f.tags.get("building:levels")), number(f.tags.get("building:min_level"))
    low = metres(f.tags.get("min_height")) or (below or 0) * FLOOR_M
    top = metres(f.tags.get("height") or f.tags.get("building:height"))
    if top is None and levels:
        attic = (number(f.tags.get("roof:levels")) or 0) * ATTIC_M
        top = levels * FLOOR_M + attic + ROOF_M.get(_roof(f), 3.0)  # floors under the roof are not counted
    if top is not None and not low + 1.5 < top < TALLEST_M:
        top = None
    return (low, top) if top is not None else (0.0, None)


def _roof(f: Feature) -> str | None:
    return ROOFS.get(f.tags.get("roof:shape", ""))


def _without_outlines(mapped: list[_Mapped]) -> list[_Mapped]:
    """Leave out the outlines of buildings whose parts are mapped: the parts are what is built."""
    parts = [m.shape for m in mapped if m.feature.has("building:part")]
    if not parts:
        return mapped
    tree = shapely.STRtree(parts)
    kept = []
    for m in mapped:
        if not m.feature.has("building:part"):
            inside = [parts[k] for k in tree.query(m.shape, predicate="intersects")]
            if inside and shapely.union_all(inside).intersection(m.shape).area > 0.5 * m.shape.area:
                continue
        kept.append(m)
    return kept


def _filled(rng: np.random.Generator, xy: Floats, mapped: list[_Mapped]) -> list[float]:
    """Heights: the map's, else that of the use, else the middle one of some near by, else that of a house."""
    told = [k for k, m in enumerate(mapped) if m.top_m is not None]
    tree = KDTree(xy[told]) if told else None
    tops = []
    for at, m in zip(xy, mapped, strict=True):
        usual = HEIGHTS_M.get(m.use) or (3.0 if m.shape.area < 35 else None)
        if usual is None and tree is not None:
            near = [mapped[told[k]] for k in sorted(tree.query_ball_point(at, NEAR_M))]
            alike = [n.top_m for n in near if n.top_m and 0.4 < n.shape.area / m.shape.area < 2.5]
            usual = float(np.median(alike)) if len(alike) >= FEW else None
        tops.append(m.top_m or (usual or HEIGHTS_M["house"]) * float(rng.uniform(0.85, 1.2)))
    return tops


def _roofs(xy: Floats, mapped: list[_Mapped], tops: list[float]) -> list[str]:
    """Roofs: the map's, else that of most near by, else pitched on what is small and low."""
    told = [k for k, m in enumerate(mapped) if m.roof is not None]
    tree = KDTree(xy[told]) if told else None
    roofs = []
    for k, m in enumerate(mapped):
        roof = m.roof
        if roof is None and tree is not None:
            near = [mapped[told[j]].roof for j in tree.query_ball_point(xy[k], 4 * NEAR_M)]
            roof = max(set(near), key=lambda r: (near.count(r), r)) if len(near) >= FEW else None
        if roof in ("pyramid", "dome") and m.roof is None:
            roof = "hip"
        pitched = m.shape.area < 420 and tops[k] - m.low_m < 16 and m.use not in WORKS
        roofs.append(roof or ("gable" if pitched or m.use in ("church", "chapel", "barn") else "flat"))
    return roofs


def _kind(m: _Mapped, tall: float, attached: bool) -> str:
    if m.use in WORKS:
        return "works"
    if tall > 30 or (tall > 20 and m.shape.area > 900):
        return "towers"
    if tall < 12 and m.shape.area < 320:
        return "rows" if attached else "villas"
    if tall < 10 and m.shape.area > 1200:
        return "works"
    return "perimeter" if attached or m.shape.area < 500 else "slabs"
