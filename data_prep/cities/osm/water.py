"""Water out of a map: the sea from its coastline, lakes, rivers and docks, less piers and islands."""

import itertools
from collections.abc import Iterable

import numpy as np
import shapely
from shapely import LineString, MultiPolygon, Point, Polygon
from shapely.ops import linemerge, polygonize, unary_union

from data_prep.cities.osm.read import Feature, metres, polygonal
from data_prep.cities.osm.roads import on_the_ground

WIDTHS_M = {"river": 14.0, "canal": 7.0, "stream": 2.2, "tidal_channel": 8.0}
PIER_M = 4.0  # width of a pier that is mapped as a line
TRANSIENT = ("intermittent", "seasonal", "covered")  # tags of water that is not there to be seen


def waters(features: Iterable[Feature], frame: Polygon) -> Polygon | MultiPolygon:
    """All water within the frame."""
    features = list(features)
    wet = [f.geometry for f in features if isinstance(f.geometry, Polygon) and _is_water(f)]
    wet += [strip for f in features if (strip := _strip(f)) is not None]
    coast = [f.geometry for f in features if f.has("natural", "coastline")]
    dry = [p for f in features if (p := pier(f)) is not None]
    whole = unary_union([*wet, sea(coast, frame)])
    return polygonal(whole.intersection(frame).difference(unary_union(dry)).simplify(0.3))


def _is_water(f: Feature) -> bool:
    there = not any(f.has(tag) for tag in TRANSIENT)
    return there and (
        f.has("natural", "water")
        or f.has("waterway", "riverbank", "dock")
        or f.has("landuse", "reservoir")
        or f.has("leisure", "swimming_pool")
    )


def _strip(f: Feature) -> Polygon | None:
    """A river or stream that is mapped as a line."""
    kind = f.tags.get("waterway", "")
    if not isinstance(f.geometry, LineString) or kind not in WIDTHS_M or not on_the_ground(f):
        return None
    if f.has("tunnel") or any(f.has(tag) for tag in TRANSIENT):
        return None
    return f.geometry.buffer((metres(f.tags.get("width")) or WIDTHS_M[kind]) / 2, quad_segs=4)


def pier(f: Feature) -> Polygon | None:
    if not f.has("man_made", "pier", "breakwater", "groyne"):
        return None
    if isinstance(f.geometry, LineString):
        return f.geometry.buffer((metres(f.tags.get("width")) or PIER_M) / 2, cap_style="square")
    return f.geometry if isinstance(f.geometry, Polygon) else None


def sea(coast: Iterable[shapely.Geometry], frame: Polygon) -> shapely.Geometry:
    """The part of the frame that lies to the right of the coastline; mappers draw it with the land on the left."""
    lines = [LineString(c.exterior.coords) if isinstance(c, Polygon) else c for c in coast]
    lines = _joined([line for line in lines if isinstance(line, LineString)], frame)
    shore = [part for line in lines for part in shapely.get_parts(line.intersection(frame)) if part.length]
    if not shore:
        return Polygon()
    cells = list(polygonize(unary_union([*shore, frame.exterior])))
    tree, right = shapely.STRtree(cells), np.zeros(len(cells))
    for line in shore:
        xy = shapely.get_coordinates(line)
        for a, b in itertools.pairwise(xy):
            long = float(np.hypot(*(b - a)))
            if long > 0.2:
                aside = np.array([b[1] - a[1], a[0] - b[0]]) / long * 0.05
                for side in (-1, 1):
                    for k in tree.query(Point((a + b) / 2 + side * aside), predicate="within"):
                        right[k] += side * long
    return unary_union([cell for cell, lies_right in zip(cells, right, strict=True) if lies_right > 0])


def _joined(lines: list[LineString], frame: Polygon) -> list[LineString]:
    """Whole coasts. An extract may lack pieces of them: loose ends within the frame are tied, nearest first."""
    chains = [list(line.coords) for line in shapely.get_parts(linemerge(lines, directed=True)) if line.length]
    while True:
        gaps = [
            (Point(a[-1]).distance(Point(b[0])), i, j)
            for i, a in enumerate(chains)
            for j, b in enumerate(chains)
            if a[-1] != a[0]
            and b[-1] != b[0]
            and frame.contains(Point(a[-1]))
            and frame.contains(Point(b[0]))
        ]
        if not gaps:
            return [LineString(chain) for chain in chains]
        _, i, j = min(gaps)
        if i == j:
            chains[i].append(chains[i][0])
        else:
            chains[i] += chains[j]
            del chains[j]
