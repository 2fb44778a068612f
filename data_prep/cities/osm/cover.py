"""What covers the land between the streets of a map: greens, fields, woods, sand, tracks, trees."""

from collections.abc import Iterable, Sequence

import numpy as np
import shapely
from shapely import LineString, Point, Polygon
from shapely.ops import unary_union

from data_prep.cities.mesh import Ground
from data_prep.cities.osm.read import Feature, polygonal
from data_prep.cities.plan import Grove

SPRUCE, MIXED = 3, None
TREE_STEP_M = 8.0
CROPS = (Ground.CROP, Ground.STUBBLE, Ground.MEADOW)  # of fields, of which a map says no more

COVERS: dict[tuple[str, str], Ground] = {
    **{("landuse", v): Ground.LAWN for v in ("grass", "village_green", "recreation_ground", "cemetery")},
    **{("landuse", v): Ground.MEADOW for v in ("meadow", "greenfield")},
    **{("landuse", v): Ground.YARD for v in ("industrial", "commercial", "garages", "farmyard", "depot", "port")},
    **{("landuse", v): Ground.GRAVEL for v in ("construction", "brownfield", "landfill")},
    **{("landuse", v): Ground.GARDEN for v in ("residential", "allotments", "plant_nursery", "orchard")},
    ("landuse", "retail"): Ground.PAVING, ("landuse", "forest"): Ground.FOREST, ("landuse", "vineyard"): Ground.VINES,
    ("landuse", "railway"): Ground.BALLAST, ("landuse", "quarry"): Ground.ROCK,
    **{("leisure", v): Ground.LAWN for v in ("park", "garden", "golf_course", "dog_park", "common")},
    **{("leisure", v): Ground.PITCH for v in ("pitch", "stadium")},
    ("leisure", "playground"): Ground.SAND, ("leisure", "marina"): Ground.PAVING,
    **{("natural", v): Ground.MEADOW for v in ("scrub", "heath", "grassland", "wetland", "fell")},
    **{("natural", v): Ground.SAND for v in ("beach", "sand", "shoal")},
    **{("natural", v): Ground.ROCK for v in ("scree", "bare_rock", "shingle", "glacier", "stone")},
    ("natural", "wood"): Ground.FOREST,
    **{("amenity", v): Ground.ASPHALT for v in ("parking", "bus_station", "fuel")},
    ("amenity", "grave_yard"): Ground.LAWN, ("amenity", "marketplace"): Ground.PAVING,
    ("place", "square"): Ground.PAVING, ("tourism", "camp_site"): Ground.MEADOW,
    ("aeroway", "apron"): Ground.YARD, ("aeroway", "runway"): Ground.ASPHALT,
}  # fmt: skip
GROVES: dict[tuple[str, str], tuple[float, int | None]] = {  # trees a square metre, species
    ("landuse", "forest"): (1 / 75, MIXED), ("natural", "wood"): (1 / 75, MIXED), ("natural", "scrub"): (1 / 160, 4),
    ("leisure", "park"): (1 / 260, MIXED), ("leisure", "garden"): (1 / 260, MIXED),
    ("landuse", "cemetery"): (1 / 220, MIXED), ("amenity", "grave_yard"): (1 / 220, MIXED),
    ("landuse", "orchard"): (1 / 70, 1), ("landuse", "allotments"): (1 / 200, 1), ("natural", "heath"): (1 / 500, 4),
    ("landuse", "residential"): (1 / 700, MIXED), ("leisure", "golf_course"): (1 / 600, MIXED),
}  # fmt: skip
MOST_TREES = 24000  # of groves; denser woods in large squares would fill the memory


def covers(rng: np.random.Generator, features: Iterable[Feature]) -> list[tuple[Polygon, Ground, Feature]]:
    """Land use, large areas first, so that what lies within another shows."""
    found = []
    for f in features:
        if isinstance(f.geometry, Polygon) and (ground := _ground(rng, f)) is not None:
            found.append((f.geometry, ground, f))
    return sorted(found, key=lambda cover: -cover[0].area)


def _ground(rng: np.random.Generator, f: Feature) -> Ground | None:
    if f.has("building"):
        return None
    if f.has("landuse", "farmland", "farm"):
        return CROPS[int(rng.integers(len(CROPS)))]
    return next((COVERS[item] for item in f.tags.items() if item in COVERS), None)


def groves(
    land: Sequence[tuple[Polygon, Ground, Feature]], frame: Polygon, bare: shapely.Geometry
) -> list[Grove]:
    """Where trees stand scattered: less what is kept bare, and what a smaller area within lays open."""
    found = []
    opened: list[shapely.Geometry] = []
    for area, ground, f in reversed(land):  # small ones first
        rate = next((GROVES[item] for item in f.tags.items() if item in GROVES), None)
        if rate is not None:
            inside = polygonal(area.intersection(frame)).difference(
                unary_union([polygonal(bare.intersection(area)), *_near(opened, area)])
            )
            if inside.area > 40:
                species = SPRUCE if f.has("leaf_type", "needleleaved") else rate[1]
                found.append(Grove(inside, rate[0], species))
        if ground != Ground.GARDEN:
            opened.append(area)
    total = sum(g.area.area * g.per_m2 for g in found)
    thin = min(1.0, MOST_TREES / max(total, 1.0))
    return [Grove(g.area, g.per_m2 * thin, g.species) for g in found]


def _near(areas: list[shapely.Geometry], area: Polygon) -> list[shapely.Geometry]:
    return [a for a in areas if a.intersects(area)]


def trees(
    rng: np.random.Generator, features: Iterable[Feature], frame: Polygon
) -> list[tuple[float, float, int]]:
    """Trees that are mapped one by one, or as rows."""
    found = []
    for f in features:
        if f.has("natural", "tree") and isinstance(f.geometry, Point):
            found.append((f.geometry, f))
        elif f.has("natural", "tree_row") and isinstance(f.geometry, LineString):
            at = np.arange(0, f.geometry.length, TREE_STEP_M)
            found += [(point, f) for point in shapely.line_interpolate_point(f.geometry, at)]
    inside = [(p, f) for p, f in found if frame.contains(p)]
    return [(p.x, p.y, _species(rng, f)) for p, f in inside]


def _species(rng: np.random.Generator, f: Feature) -> int:
    needles = f.has("leaf_type", "needleleaved") or f.has("wood", "coniferous") or f.has("type", "conifer")
    return SPRUCE if needles else int(rng.choice([0, 1, 4]))
