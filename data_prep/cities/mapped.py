"""Builds what a map knows of a town: its houses as they stand, its woods and trees, its railways."""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from data_prep.cities import outlines
from data_prep.cities.buildings import Design, design, erect, facade
from data_prep.cities.mesh import Material, Mesh
from data_prep.cities.palettes import ROOFS, TYPES, Palette
from data_prep.cities.plan import House, Survey

if TYPE_CHECKING:
    from data_prep.cities.blocks import Site

Floats = NDArray[np.float64]
GAUGE_M, RAIL_M = 1.435, 0.16


def build_survey(site: "Site", survey: Survey) -> None:
    """Add everything that a survey holds to a building site."""
    site.areas += survey.areas
    streets = shapely.STRtree([street.line for street in site.plan.streets])
    for house in survey.houses:
        front = site.plan.streets[int(streets.nearest(house.shape))].line
        _house(site.rng, site.mesh, house, site.palette(house.district, house.kind), front)
        site.buildings.append((house.shape, house.top_m))
    for grove in survey.groves:
        for part in shapely.get_parts(grove.area):
            site.scatter(part, grove.per_m2, Polygon(), grove.species)
    site.trees += survey.trees
    for line in survey.rails:
        _rails(site.mesh, shapely.get_coordinates(line))


def _house(
    rng: np.random.Generator, mesh: Mesh, house: House, palette: Palette, front: shapely.Geometry
) -> None:
    plan = _fitted(rng, house, design(rng, house.kind, palette))
    plot = outlines.footprint(house.shape, front)
    if plot is not None and house.low_m == 0 and house.roof not in ("pyramid", "dome"):
        erect(rng, mesh, plot, house.kind, palette, _ridged(house, plan, min(plot.width_m, plot.depth_m)))
        return
    shape, paint = house.shape, plan.paint
    style = mesh.style(**facade(rng, house.kind, palette))
    tall = house.top_m - house.low_m
    rise = 0.0
    if house.roof in ("pyramid", "dome"):
        rise = min(outlines.STEEPEST_SHARE * tall, np.sqrt(shape.area) * 0.5)
    elif house.roof != "flat":
        rise = outlines.rise_m(shape, tall)
    eave = house.top_m - rise
    outlines.walls(mesh, shape, house.low_m, eave, paint, style)
    if house.roof == "pyramid":
        outlines.spire(mesh, shape, eave, rise, paint)
    elif house.roof == "dome":
        outlines.dome(mesh, shape, eave, rise, paint)
    elif rise > 0.5:
        outlines.sloped(mesh, shape, eave, rise, paint)
    else:
        outlines.flat(rng, mesh, shape, eave, paint)


def _fitted(rng: np.random.Generator, house: House, plan: Design) -> Design:
    """A design with the height and roof that the map gives."""
    if house.roof == "flat":  # of tar, gravel or sheet, whatever tiles the district has
        tones = ROOFS["gravel"] + ROOFS["light"]
        plan = plan._replace(paint=plan.paint._replace(roof=tones[int(rng.integers(len(tones)))]))
    floors = max(1, round((house.top_m - house.low_m) / TYPES[house.kind].floor_m))
    return plan._replace(floors=floors, height_m=house.top_m, roof=house.roof)


def _ridged(house: House, plan: Design, span_m: float) -> Design:
    """The walls lowered by what the roof will rise above them."""
    rise = {"gable": 0.41, "hip": 0.31, "mono": 0.28}.get(house.roof, 0.0) * span_m
    return plan._replace(height_m=max(house.top_m - rise, (1 - outlines.STEEPEST_SHARE) * house.top_m))


def _rails(mesh: Mesh, line: Floats) -> None:
    steel = mesh.facet(Material.PLAIN, (0.46, 0.40, 0.36))
    for a, b in pairwise(line):
        long = float(np.hypot(*(b - a)))
        if long < 0.05:
            continue
        left = np.array([a[1] - b[1], b[0] - a[0]]) / long
        for side in (-1, 1):
            inner, outer = (left * side * (GAUGE_M + w) / 2 for w in (-RAIL_M, RAIL_M))
            quad = [(*(p + o), 0.14) for p, o in ((a, inner), (b, inner), (b, outer), (a, outer))]
            mesh.add(np.array([quad[:3], [quad[0], *quad[2:]]]), steel)
