"""The plan of a town: streets, blocks, districts, parks and water, as plane geometry.

Everything is in local metres, x east and y north, with the origin at the region's south-west corner. The
plan reaches `MARGIN_M` beyond the region so that the town does not end where the photos do.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import LineString, Point, Polygon, box
from shapely.affinity import rotate, translate
from shapely.ops import polygonize, unary_union

from data_prep.cities.mesh import Ground

MARGIN_M = 80.0
SMALLEST_BLOCK_M2 = 3800.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Character:
    """What the streets and blocks of one kind of district are like."""

    kind: str
    block_m: tuple[float, float]  # distance between parallel streets, along both directions
    width_m: float  # carriageway
    walk_m: float  # sidewalk


CHARACTERS = {
    c.kind: c
    for c in (
        Character("towers", (160, 180), 10.0, 4.0),
        Character("perimeter", (148, 172), 8.5, 3.2),
        Character("slabs", (205, 230), 8.0, 2.6),
        Character("rows", (148, 225), 7.0, 2.2),
        Character("villas", (155, 225), 6.5, 1.9),
        Character("works", (215, 245), 9.0, 2.2),
        Character("fields", (430, 620), 5.5, 0.0),
    )
}


@dataclass(frozen=True)
class District:
    kind: str
    outline: Polygon


@dataclass(frozen=True)
class Street:
    """A street between two junctions; `clear_m` is how far the junctions reach into it at both ends."""

    line: LineString
    width_m: float
    walk_m: float
    rank: str  # "avenue", "street" or "lane"
    district: int
    clear_m: tuple[float, float]


@dataclass(frozen=True)
class Block:
    """Land between streets; `lot` is what is left inside the sidewalks."""

    lot: Polygon
    use: str  # a district kind, "park", "plaza", "wood" or "crop"
    district: int


@dataclass(frozen=True)
class House:
    """A mapped building, or a part of one, on an outline of any shape."""

    shape: Polygon
    low_m: float  # above 0 where it stands on something else
    top_m: float  # of the roof
    roof: str  # "flat", "gable", "hip", "mono", "pyramid" or "dome"
    kind: str  # a district kind: the rules of its façade
    district: int


@dataclass(frozen=True)
class Grove:
    """Land with trees on it; `species` counts in `plants.SPECIES`, None is a mixture."""

    area: shapely.Geometry
    per_m2: float
    species: int | None


@dataclass(frozen=True)
class Survey:
    """What a map knows and a plan drawn from a seed does not: it is built as it is, nothing is drawn by lot."""

    houses: tuple[House, ...]
    areas: tuple[tuple[shapely.Geometry, Ground], ...]  # later ones on top
    groves: tuple[Grove, ...]
    trees: tuple[tuple[float, float, int], ...]  # x, y, species
    rails: tuple[LineString, ...]
    parking: tuple[Polygon, ...]


@dataclass(frozen=True)
class Plan:
    size_m: float
    streets: tuple[Street, ...]
    blocks: tuple[Block, ...]
    districts: tuple[District, ...]
    water: Polygon | shapely.MultiPolygon
    bridges: Polygon | shapely.MultiPolygon
    survey: Survey | None = None

    @property
    def street_length_m(self) -> float:
        """Length of the streets inside the region."""
        region = box(0, 0, self.size_m, self.size_m)
        return float(sum(s.line.intersection(region).length for s in self.streets))


@dataclass(frozen=True)
class _Warp:
    """A smooth bend of the plane, so that straight lines become the slightly curved ones of a real town."""

    waves: Floats  # (n, 5): kx, ky, phase, amplitude east, amplitude north

    @classmethod
    def random(cls, rng: np.random.Generator, size_m: float) -> "_Warp":
        n, length = 4, rng.uniform(550, 1000, 4)
        turn = rng.uniform(0, 2 * np.pi, n)
        k = 2 * np.pi / length
        amplitude = rng.uniform(-1, 1, (n, 2)) * length[:, None] / 60 * min(1.0, size_m / 1200)
        return cls(np.column_stack([k * np.cos(turn), k * np.sin(turn), rng.uniform(0, 7, n), amplitude]))

    def __call__(self, geometry: shapely.Geometry) -> shapely.Geometry:
        return shapely.transform(shapely.segmentize(geometry, 22.0), self._move)

    def _move(self, xy: Floats) -> Floats:
        wave = np.sin(xy @ self.waves[:, :2].T + self.waves[:, 2])  # (points, waves)
        return xy + wave @ self.waves[:, 3:]


def make_plan(*, seed: int, size_m: float) -> Plan:
    """Lay a town out in a square of `size_m` metres."""
    rng = np.random.default_rng([seed, 1])
    frame = box(-MARGIN_M, -MARGIN_M, size_m + MARGIN_M, size_m + MARGIN_M)
    warp = _Warp.random(rng, size_m)
    river, quays = _river(rng, size_m)
    avenues = _avenues(rng, size_m)
    parks = _parks(rng, size_m, river, avenues)
    major = [*avenues, *quays, *(park.exterior for park in parks)]
    districts = _districts(rng, frame, major, river, size_m)
    minor = [line for d in districts for line in _minor_streets(rng, d, parks, river)]
    edges = _tidy(_cut([*major, *minor], frame, river, avenues), frame, major)
    streets = _streets(edges, avenues, major, districts, frame)
    blocks = _blocks(rng, edges, frame, streets, districts, parks, river)
    lakes = [park.centroid.buffer(min(60, park.area**0.5 / 5)) for park in parks[:1]]
    stretched = [shapely.affinity.scale(lake, 1.5, 0.8) for lake in lakes]
    water = unary_union([warp(river), *(warp(lake) for lake in stretched)])
    warped = tuple(Street(warp(s.line), s.width_m, s.walk_m, s.rank, s.district, s.clear_m) for s in streets)
    spans = [s.line.buffer(s.width_m / 2 + s.walk_m, cap_style="flat") for s in warped]
    bridges = unary_union(spans).intersection(warp(river).buffer(1.0))
    lots = tuple(_lots(blocks, warp, spans))
    outlines = tuple(District(d.kind, warp(d.outline)) for d in districts)
    return Plan(size_m, warped, lots, outlines, water, bridges)


def _river(rng: np.random.Generator, size_m: float) -> tuple[Polygon, list[LineString]]:
    if size_m < 900:
        return Polygon(), []
    x = np.linspace(-6000, size_m + 6000, 400)
    tilt, phase = rng.uniform(-0.15, 0.15), rng.uniform(0, 2 * np.pi)
    y = (
        size_m * rng.uniform(0.32, 0.42)
        + tilt * (x - size_m / 2)
        + 0.06 * size_m * np.sin(x / size_m * 4.5 + phase)
    )
    centre = LineString(np.column_stack([x, y]))
    half = rng.uniform(24, 32)
    inside = LineString(np.column_stack([x, y])[(x > -400) & (x < size_m + 400)])
    quays = [inside.parallel_offset(half + 15, side) for side in ("left", "right")]
    return centre.buffer(half), quays


def _avenues(rng: np.random.Generator, size_m: float) -> list[LineString]:
    n = max(1, round(size_m / 850))
    low, high = -2 * MARGIN_M, size_m + 2 * MARGIN_M
    lines = []
    for k in range(n):
        for swap in (False, True):
            a, b = size_m * (k + 0.5 + rng.uniform(-0.12, 0.12)) / n + rng.uniform(-0.05, 0.05, 2) * size_m
            ends = np.array([[a, low], [b, high]])
            lines.append(LineString(ends[:, ::-1] if swap else ends))
    if size_m >= 1500:  # one avenue across the grain of the others
        ends = np.array([[low, size_m * rng.uniform(0.55, 0.7)], [size_m * rng.uniform(0.7, 0.9), high]])
        lines.append(LineString(ends))
    return lines


def _parks(
    rng: np.random.Generator, size_m: float, river: Polygon, avenues: list[LineString]
) -> list[Polygon]:
    busy = unary_union([river.buffer(60), *(line.buffer(25) for line in avenues)])
    parks: list[Polygon] = []
    wanted = 0 if size_m < 700 else 1 if size_m < 1500 else 3
    while len(parks) < wanted:
        w, h = rng.uniform(220, 330), rng.uniform(180, 280)
        x, y = rng.uniform(0.15, 0.85, 2) * size_m
        park = rotate(translate(box(-w / 2, -h / 2, w / 2, h / 2), x, y), rng.uniform(-25, 25))
        if all(park.distance(other) > 350 for other in parks) and not park.intersects(busy):
            parks.append(park)
    return parks


def _districts(
    rng: np.random.Generator, frame: Polygon, major: list[LineString], river: Polygon, size_m: float
) -> list[District]:
    cells = [c.intersection(frame) for c in polygonize(unary_union([frame.exterior, *major]))]
    cells = [c for c in cells if c.area > 500 and not river.contains(c.representative_point())]
    cells = [c for c in cells if frame.contains(c.representative_point())]
    middle = Point(size_m * 0.48, size_m * 0.55)
    cells.sort(key=lambda c: float(c.centroid.distance(middle)))
    inner = ["towers", "perimeter", "perimeter", "rows", "slabs", "perimeter"]
    outer = ["rows", "villas", "slabs", "works", "villas", "rows"]
    kinds, rank = [], 0
    for cell in cells:
        far = cell.centroid.x > size_m * 0.78 and size_m >= 1500
        kinds.append("fields" if far else inner[rank] if rank < len(inner) else outer[rank % len(outer)])
        rank += not far and cell.area > 60_000
    return [District(kind, cell) for kind, cell in zip(kinds, cells, strict=True)]


def _minor_streets(
    rng: np.random.Generator, district: District, parks: list[Polygon], river: Polygon
) -> list[LineString]:
    """A grid of its own angle and spacing in every district; cross streets are staggered in half of them."""
    along, across = CHARACTERS[district.kind].block_m
    outline = district.outline
    corners = shapely.get_coordinates(outline.minimum_rotated_rectangle)
    base = np.degrees(np.arctan2(*(corners[1] - corners[0])[::-1])) + rng.uniform(-9, 9)
    upright = rotate(outline, -base, origin=(0, 0))
    west, south, east, north = upright.bounds
    xs = _steps(rng, west, east, along)
    staggered = rng.random() < 0.6
    shared = _steps(rng, south, north, across)
    lines = [LineString([(x, south), (x, north)]) for x in xs]
    for left, right in pairwise([west, *xs, east]):
        ys = _steps(rng, south, north, across) if staggered else shared
        lines += [LineString([(left, y), (right, y)]) for y in ys]
    keep_out = unary_union([outline.exterior.buffer(32), *(p.buffer(20) for p in parks), river.buffer(30)])
    whole = [rotate(line, base, origin=(0, 0)).intersection(outline) for line in lines]
    pieces = [piece for line in whole for piece in shapely.get_parts(line) if piece.length > 40]
    return [p for p in pieces if p.intersection(keep_out).length < 0.6 * p.length]


def _steps(rng: np.random.Generator, low: float, high: float, step: float) -> list[float]:
    n = round((high - low) / step)
    ticks = low + np.cumsum(rng.uniform(0.8, 1.2, n + 1)) * step - step * rng.uniform(0, 0.5)
    return [float(t) for t in ticks if low + step * 0.4 < t < high - step * 0.4]


def _cut(
    lines: Iterable[LineString], frame: Polygon, river: Polygon, avenues: list[LineString]
) -> list[LineString]:
    """Node the lines where they meet; only avenues may cross the river."""
    crossing = unary_union(avenues).buffer(0.5)
    edges = shapely.get_parts(unary_union(list(lines)).intersection(frame))
    edges = [e for e in edges if e.geom_type == "LineString" and e.length > 0.5]
    wet = river.buffer(5)
    return [e for e in edges if not e.intersects(wet) or crossing.covers(e)]


def _tidy(edges: list[LineString], frame: Polygon, major: list[LineString]) -> list[LineString]:
    """Merge blocks too small to build on, then drop streets that lead nowhere."""
    fixed = unary_union(major).buffer(0.5)
    for _ in range(60):
        edges = _without_dead_ends(edges, frame)
        cells = list(polygonize(unary_union([*edges, frame.exterior])))
        small = [c for c in cells if c.area < SMALLEST_BLOCK_M2 or c.buffer(-17).is_empty]
        doomed: set[int] = set()
        minor = [(k, e) for k, e in enumerate(edges) if not fixed.covers(e)]
        for cell in small:
            rim = cell.exterior.buffer(0.3)
            sides = [(e.length, k) for k, e in minor if rim.covers(e)]
            if sides:
                doomed.add(max(sides)[1])
        if not doomed:
            break
        edges = _joined([e for k, e in enumerate(edges) if k not in doomed])
    return edges


def _joined(edges: list[LineString]) -> list[LineString]:
    return [e for e in shapely.get_parts(unary_union(edges)) if e.length > 0.5]


def _without_dead_ends(edges: list[LineString], frame: Polygon) -> list[LineString]:
    rim = frame.exterior.buffer(1.0)
    while True:
        degree = Counter(end for e in edges for end in _ends(e))
        kept = [e for e in edges if all(degree[end] > 1 or rim.contains(Point(end)) for end in _ends(e))]
        if len(kept) == len(edges):
            return edges
        edges = kept


def _ends(line: LineString) -> tuple[tuple[float, float], tuple[float, float]]:
    (ax, ay), (bx, by) = line.coords[0], line.coords[-1]
    return (round(ax, 2), round(ay, 2)), (round(bx, 2), round(by, 2))


def _streets(
    edges: list[LineString],
    avenues: list[LineString],
    major: list[LineString],
    districts: list[District],
    frame: Polygon,
) -> list[Street]:
    wide, ring = unary_union(avenues).buffer(0.5), unary_union(major).buffer(0.5)
    tree = shapely.STRtree([d.outline for d in districts])
    sized = []
    for edge in edges:
        district = int(tree.nearest(edge.interpolate(0.5, normalized=True)))
        character = CHARACTERS[districts[district].kind]
        if wide.covers(edge):
            sized.append((edge, 13.0, 4.0, "avenue", district))
        elif ring.covers(edge):
            sized.append((edge, 8.5, 3.0, "street", district))
        else:
            rank = "street" if character.walk_m >= 2.1 else "lane"
            sized.append((edge, character.width_m, character.walk_m, rank, district))
    reach: dict[tuple[float, float], list[float]] = {}
    for edge, width, *_ in sized:
        for end in _ends(edge):
            reach.setdefault(end, []).append(width / 2 + 1.2)
    clear = lambda end: max(reach[end]) if len(reach[end]) > 2 else 0.0  # noqa: E731
    return [Street(e, w, k, r, d, (clear(_ends(e)[0]), clear(_ends(e)[1]))) for e, w, k, r, d in sized]


def _blocks(
    rng: np.random.Generator,
    edges: list[LineString],
    frame: Polygon,
    streets: list[Street],
    districts: list[District],
    parks: list[Polygon],
    river: Polygon,
) -> list[Block]:
    tree = shapely.STRtree([d.outline for d in districts])
    blocks = []
    for cell in polygonize(unary_union([*edges, frame.exterior])):
        inside = cell.representative_point()
        district = int(tree.nearest(inside))
        if any(park.contains(inside) for park in parks):
            use = "park"
        elif river.intersection(cell).area > 0.25 * cell.area:
            use = "bank"
        elif districts[district].kind == "fields":
            use = "wood" if rng.random() < 0.3 else "crop"
        else:
            use = districts[district].kind
            use = "plaza" if cell.area < SMALLEST_BLOCK_M2 else "park" if rng.random() < 0.025 else use
        blocks.append(Block(cell.difference(river.buffer(1.5)), use, district))
    return blocks


def _lots(blocks: list[Block], warp: _Warp, spans: list[Polygon]) -> Iterable[Block]:
    tree = shapely.STRtree(spans)
    for block in blocks:
        land = warp(block.lot)
        near = [spans[k] for k in tree.query(land)]
        for lot in shapely.get_parts(land.difference(unary_union(near))):
            if lot.area > 30:
                yield Block(lot.simplify(0.15), block.use, block.district)
