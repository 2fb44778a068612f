"""From the features of a map to the plan of a town."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import numpy as np
import shapely
from shapely import LineString, Polygon, box
from shapely.ops import polygonize, unary_union

from data_prep.cities.mesh import Ground
from data_prep.cities.osm import cover, water
from data_prep.cities.osm.houses import houses
from data_prep.cities.osm.read import Feature, polygonal
from data_prep.cities.osm.roads import on_the_ground, paths, streets
from data_prep.cities.plan import MARGIN_M, Block, District, Grove, House, Plan, Street, Survey
from data_prep.cities.square import Square
from zoomloc.errors import SourceError

FAR_M = 400.0  # how far beyond the square there is water
SEEN_M = 220.0  # and houses
DISTRICT_M = 320.0  # of districts, which differ in colours only
RAILS = ("rail", "light_rail", "narrow_gauge", "disused", "preserved")
BALLAST_M = 3.6
SMALLEST_LOT_M2 = 40.0  # with room for a few cars

AROUND: dict[str, tuple[float, Ground]] = {  # what lies around the houses of a kind, and how far it reaches
    "villas": (12.0, Ground.GARDEN), "rows": (9.0, Ground.GARDEN), "perimeter": (6.0, Ground.YARD),
    "slabs": (10.0, Ground.LAWN), "towers": (9.0, Ground.PAVING), "works": (9.0, Ground.YARD),
}  # fmt: skip
FILLED: dict[str, str] = {  # what stands where a map has streets but no houses, by land use
    "residential": "rows", "industrial": "works", "commercial": "perimeter", "retail": "perimeter",
}  # fmt: skip
BUILT = (Ground.GARDEN, Ground.YARD, Ground.PAVING)
DENSE = 0.28  # share of a block built over from which the rest is courtyards
EMPTY, EMPTY_M = 0.07, 150.0  # share of built-over land, this far around, below which a map lacks houses
BLOCK_M2 = (1500.0, 45000.0)  # sizes of the blocks of a town


def survey(features: Iterable[Feature], square: Square, *, seed: int) -> Plan:
    """The plan of what the map (in WGS 84) shows in the square; the seed draws what the map leaves open.

    Raises SourceError where it shows no street there.
    """
    rng = np.random.default_rng([seed, 20])
    local = _local(list(features), square)
    size = square.size_m
    frame, seen, far = (box(-m, -m, size + m, size + m) for m in (MARGIN_M, SEEN_M, FAR_M))
    squares = _squares(size)
    nearest = shapely.STRtree(squares)
    built = houses(rng, local, seen, nearest)
    roads = streets(local, frame, [h.shape for h in built], nearest)
    if not any(road.line.intersects(box(0, 0, size, size)) for road in roads):
        raise SourceError("the map shows no street in this square; choose another with --centre or --bbox")
    wet = water.waters(local, far)
    spans = [r.line.buffer(r.width_m / 2 + r.walk_m, cap_style="flat", quad_segs=3) for r in roads]
    ways = list(paths(local, frame))
    rails = [part for f in local if _is_rail(f) for part in _lines(f.geometry.intersection(frame))]
    beds = unary_union([rail.buffer(BALLAST_M / 2, quad_segs=2) for rail in rails])
    over = [strip for _, f, strip in ways if f.has("bridge")]
    bridges = unary_union([*spans, *over, beds]).intersection(wet)
    blocks, yards = _blocks(roads, spans, built, local, wet, frame, nearest)
    land = cover.covers(rng, local)
    areas = [
        *((area, ground) for area, ground, _ in land if ground in BUILT),
        *yards,
        *((area, ground) for area, ground, _ in land if ground not in BUILT),
        *((h.shape.buffer(AROUND[h.kind][0], quad_segs=2), AROUND[h.kind][1]) for h in built),
        *((strip, _surface(kind)) for kind, _, strip in ways),
        *((p, Ground.PAVING) for f in local if (p := water.pier(f)) is not None),
        (beds, Ground.BALLAST),
    ]
    bare = unary_union([*(s.buffer(0.5) for s in spans), *(strip for *_, strip in ways), beds.buffer(2), wet])
    found = Survey(
        houses=tuple(built),
        areas=tuple((polygonal(a.intersection(frame)), ground) for a, ground in areas if a.intersects(frame)),
        groves=(*cover.groves(land, frame, bare), _garden_trees(built, bare, land)),
        trees=tuple(cover.trees(rng, local, frame)),
        rails=tuple(rails),
        parking=tuple(_parking(land, frame)),
    )
    districts = _districts(squares, built)
    return Plan(size, tuple(roads), tuple(blocks), districts, wet, bridges, found)


def _local(features: list[Feature], square: Square) -> list[Feature]:
    """The features in local metres, their polygons made valid."""
    shapes = square.local([f.geometry for f in features])
    valid = shapely.make_valid(shapes, method="structure", keep_collapsed=False)
    return [
        Feature(part, f.tags)
        for shape, f in zip(valid, features, strict=True)
        for part in shapely.get_parts(shape)
    ]


def _squares(size_m: float) -> list[Polygon]:
    n = max(1, round(size_m / DISTRICT_M))
    ticks = np.linspace(0, size_m, n + 1)
    return [box(ticks[i], ticks[j], ticks[i + 1], ticks[j + 1]) for i, j in product(range(n), repeat=2)]


def _districts(squares: Sequence[Polygon], built: Sequence[House]) -> tuple[District, ...]:
    """Squares, each of the kind that covers most of it."""
    area = [dict.fromkeys(AROUND, 0.0) for _ in squares]
    for h in built:
        area[h.district][h.kind] += h.shape.area
    return tuple(District(max(a, key=lambda k: a[k]), s) for a, s in zip(area, squares, strict=True))


def _is_rail(f: Feature) -> bool:
    return (
        isinstance(f.geometry, LineString)
        and f.has("railway", *RAILS)
        and on_the_ground(f)
        and not f.has("tunnel")
    )


def _lines(geometry: shapely.Geometry) -> list[LineString]:
    return [part for part in shapely.get_parts(geometry) if isinstance(part, LineString)]


def _parking(land: Sequence[tuple[Polygon, Ground, Feature]], frame: Polygon) -> Iterator[Polygon]:
    """Lots under the open sky."""
    for area, _, f in land:
        if f.has("amenity", "parking") and not f.has("parking", "multi-storey", "underground"):
            parts = shapely.get_parts(area.intersection(frame))
            yield from (p for p in parts if isinstance(p, Polygon) and p.area > SMALLEST_LOT_M2)


def _surface(kind: str) -> Ground:
    return {"track": Ground.GRAVEL, "pedestrian": Ground.PAVING, "cycleway": Ground.ASPHALT}.get(
        kind, Ground.PATH
    )


def _blocks(
    roads: Sequence[Street],
    spans: Sequence[Polygon],
    built: Sequence[House],
    features: Sequence[Feature],
    wet: shapely.Geometry,
    frame: Polygon,
    nearest: shapely.STRtree,
) -> tuple[list[Block], list[tuple[shapely.Geometry, Ground]]]:
    """Blocks to be filled with made-up houses, where the map has none; and the courtyards of those it has."""
    lines = [r.line for r in roads if r.walk_m > 0 or r.rank != "lane"]
    strips, shapes = shapely.STRtree(list(spans)), shapely.STRtree([h.shape for h in built])
    used = [f for f in features if isinstance(f.geometry, Polygon) and ("landuse" in f.tags or _is_open(f))]
    uses = shapely.STRtree([f.geometry for f in used])
    blocks: list[Block] = []
    yards: list[tuple[shapely.Geometry, Ground]] = []
    for face in polygonize(unary_union([frame.exterior, *lines])):
        town = BLOCK_M2[0] < face.area < BLOCK_M2[1]
        settled = town and _share(face.buffer(EMPTY_M), shapes, built) > EMPTY
        if _share(face, shapes, built) > DENSE:
            yards.append((face, Ground.YARD))
        elif settled:
            yards.append((face, Ground.GARDEN))
        if settled or not town:
            continue
        inside = face.representative_point()
        on = [used[k] for k in uses.query(inside, predicate="within")]
        if any(_is_open(f) for f in on) or face.intersection(wet).area > 0.2 * face.area:
            continue
        use = next((FILLED.get(f.tags.get("landuse", ""), "") for f in on), "rows")
        if not use:
            continue
        taken = unary_union(
            [*(spans[k] for k in strips.query(face)), wet.intersection(face.buffer(5)).buffer(2)]
        )
        for lot in shapely.get_parts(face.difference(taken)):
            if isinstance(lot, Polygon) and lot.area > 200:
                blocks.append(Block(lot.simplify(0.3), use, int(nearest.nearest(inside))))
    return blocks, yards


def _is_open(f: Feature) -> bool:
    """Whether land is kept free of houses."""
    return any(f.has(key) for key in ("leisure", "natural", "place", "aeroway")) or f.has(
        "amenity", "parking"
    )


def _share(area: Polygon, shapes: shapely.STRtree, built: Sequence[House]) -> float:
    """Of an area, covered by houses."""
    near = shapes.query(area, predicate="intersects")
    return float(sum(area.intersection(built[k].shape).area for k in near) / area.area)


def _garden_trees(
    built: Sequence[House], bare: shapely.Geometry, land: Sequence[tuple[Polygon, Ground, Feature]]
) -> Grove:
    gardens = [h.shape.buffer(13, quad_segs=2) for h in built if h.kind in ("villas", "slabs")]
    taken = [h.shape.buffer(2.5, quad_segs=1) for h in built]
    used = [
        area
        for area, ground, _ in land
        if ground in (Ground.PITCH, Ground.ASPHALT, Ground.VINES, Ground.FOREST)
    ]
    return Grove(unary_union(gardens).difference(unary_union([bare, *taken, *used])), 1 / 330, None)
