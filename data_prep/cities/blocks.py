"""The building site: fills a plan's blocks with everything that does not move."""

from collections import Counter
from itertools import pairwise, product

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Point, Polygon, box
from shapely.ops import unary_union

from data_prep.cities.buildings import build
from data_prep.cities.footprints import Footprint, footprints
from data_prep.cities.landmarks import LANDMARKS
from data_prep.cities.mapped import build_survey
from data_prep.cities.mesh import Ground, Material, Mesh, rectangle
from data_prep.cities.palettes import TYPES, Palette
from data_prep.cities.plan import Block, Plan, Survey
from data_prep.cities.plants import hedge, plant
from data_prep.cities.traffic import along

Floats = NDArray[np.float64]
NEAR_M = 400.0  # how far beyond the region the ground is made of triangles


class Site:
    """Grows a mesh, and notes what the ground map needs to know: `areas` and `buildings` with their heights."""

    def __init__(self, rng: np.random.Generator, plan: Plan, mesh: Mesh) -> None:
        self.rng, self.plan, self.mesh = rng, plan, mesh
        self.areas: list[tuple[shapely.Geometry, Ground]] = []
        self.buildings: list[tuple[Polygon, float]] = []
        self.trees: list[tuple[float, float, int]] = []
        numbers: Counter[str] = Counter()
        self.palettes: list[Palette] = []
        self.others: dict[tuple[int, str], Palette] = {}
        for d in plan.districts:
            kind = d.kind if d.kind in TYPES else "villas"
            self.palettes.append(Palette.random(rng, kind, numbers[kind]))
            numbers[kind] += 1
        self.greens = rng.integers(0, 5, len(plan.districts))

    def develop(self) -> None:
        self._land()
        if self.plan.survey is not None:
            build_survey(self, self.plan.survey)
        reserved = self._landmarks() if self.plan.survey is None else self._standing(self.plan.survey)
        for k, block in enumerate(self.plan.blocks):
            self._block(block, reserved.get(k, Polygon()))
        self._street_trees()
        self._lamps()
        self._plant()

    def _land(self) -> None:
        """Ground and water in small pieces, because the ray caster is slow among long thin triangles."""
        ground = self.mesh.facet(Material.GROUND, (0.5, 0.5, 0.5))
        water = self.mesh.facet(Material.WATER, (0.22, 0.32, 0.32))
        ticks = np.linspace(-NEAR_M, self.plan.size_m + NEAR_M, 9 + round(self.plan.size_m / 100))
        wet = self.plan.water.difference(self.plan.bridges)
        shapely.prepare(wet)
        for (a, b), (c, d) in product(pairwise(ticks), repeat=2):
            cell = box(a, c, b, d)
            self._sheet(cell.difference(wet) if wet.intersects(cell) else cell, 0.0, ground)
            if wet.intersects(cell):
                self._sheet(cell, -2.2, water)
        self._shores()

    def _sheet(self, area: shapely.Geometry, z: float, facet: int) -> None:
        for triangle in shapely.get_parts(shapely.constrained_delaunay_triangles(area)):
            corners = shapely.get_coordinates(triangle)[:3]
            self.mesh.add(np.column_stack([corners, np.full(3, z)]), facet)

    def _shores(self) -> None:
        near = box(-NEAR_M, -NEAR_M, self.plan.size_m + NEAR_M, self.plan.size_m + NEAR_M)
        for shore in shapely.get_parts(self.plan.water.intersection(near)):
            for ring in (shore.exterior, *shore.interiors):
                self._wall(shapely.get_coordinates(ring), -2.3, 0.0, (0.56, 0.53, 0.48))
        inside = self.plan.water.buffer(-1.0)
        shapely.prepare(inside)
        for bridge in shapely.get_parts(self.plan.bridges):
            for deck in shapely.get_parts(bridge.intersection(self.plan.water).buffer(0)):
                rim = shapely.get_coordinates(deck.exterior)
                for a, b in pairwise(rim):
                    if inside.contains(Point((a + b) / 2)):
                        self._wall(np.array([a, b]), -1.0, 0.95, (0.70, 0.68, 0.63))

    def _wall(self, line: Floats, low: float, high: float, rgb: tuple[float, float, float]) -> None:
        for a, b in pairwise(line):
            if np.hypot(*(b - a)) > 1e-3:
                self.mesh.polygon(
                    [(*a, low), (*b, low), (*b, high), (*a, high)],
                    Material.BANDS,
                    rgb,
                    rgb2=[c * 0.9 for c in rgb],
                    size=(1, 1),
                )

    def _landmarks(self) -> dict[int, shapely.Geometry]:
        """Give every landmark a block of its own, far from the others; small towns get fewer."""
        reserved: dict[int, shapely.Geometry] = {}
        sites: list[Point] = []
        region = box(30, 30, self.plan.size_m - 30, self.plan.size_m - 30)
        room = [(b, shapely.maximum_inscribed_circle(b.lot)) for b in self.plan.blocks]
        limit = max(1, len(self.plan.blocks) // 9)
        for maker, uses, radius in LANDMARKS[:limit]:
            fits = []
            for k, (block, spoke) in enumerate(room):
                centre = Point(spoke.coords[0])
                if (
                    block.use in uses
                    and k not in reserved
                    and spoke.length > 0.72 * radius
                    and region.contains(centre)
                ):
                    fits.append(
                        (min([600.0, *(centre.distance(s) for s in sites)]) + self.rng.uniform(0, 150), k)
                    )
            if not fits:
                continue
            k = max(fits)[1]
            block, spoke = room[k]
            centre = np.array(spoke.coords[0])
            if block.use == "park" and self.plan.water.buffer(radius).contains(Point(centre)):
                centre = centre + (spoke.length - radius * 0.6) * np.array([0.7, 0.7])
            sites.append(Point(centre))
            maker(self.rng, self.mesh, centre, _grain(block.lot))
            reserved[k] = Point(centre).buffer(radius)
            self.buildings.append((Point(centre).buffer(radius * 0.5), 12.0))
        return reserved

    def _standing(self, survey: Survey) -> dict[int, shapely.Geometry]:
        """What is taken of each block by the houses that a map has on it."""
        tree = shapely.STRtree([house.shape for house in survey.houses])
        near = {k: tree.query(block.lot, predicate="intersects") for k, block in enumerate(self.plan.blocks)}
        return {
            k: unary_union([survey.houses[i].shape.buffer(3.0, quad_segs=1) for i in found])
            for k, found in near.items()
            if len(found)
        }

    def palette(self, district: int, kind: str) -> Palette:
        """That of a district, or of its own for houses of another kind than most there."""
        if kind == self.plan.districts[district].kind:
            return self.palettes[district]
        if (district, kind) not in self.others:
            self.others[district, kind] = Palette.random(self.rng, kind, district)
        return self.others[district, kind]

    def _block(self, block: Block, reserved: shapely.Geometry) -> None:
        if block.use in TYPES:
            self._built(block, reserved)
        elif block.use == "crop":
            self.areas.append(
                (block.lot, Ground(int(self.rng.choice([Ground.CROP, Ground.STUBBLE, Ground.MEADOW]))))
            )
            self.scatter(block.lot.exterior.buffer(4), 1 / 260, reserved, int(self.rng.integers(0, 5)))
        elif block.use == "wood":
            self.areas.append((block.lot, Ground.WOOD))
            self.scatter(block.lot, 1 / 70, reserved, None)
        elif block.use == "bank":
            self.areas.append((block.lot, Ground.MEADOW))
            self.scatter(block.lot, 1 / 420, reserved, 2)
        elif block.use == "plaza":
            self.areas.append((block.lot, Ground.PAVING))
            self.scatter(block.lot.buffer(-3), 1 / 160, reserved, 1)
        else:
            self._park(block, reserved)

    def _park(self, block: Block, reserved: shapely.Geometry) -> None:
        lot, water = block.lot, self.plan.water
        self.areas.append((lot, Ground.LAWN))
        corners = shapely.get_coordinates(lot.simplify(8).exterior)[:-1]
        middle = lot.centroid if reserved.is_empty else reserved.centroid
        paths = unary_union([shapely.LineString([p, (middle.x, middle.y)]).buffer(1.6) for p in corners[:6]])
        self.areas.append(
            (paths.union(lot.buffer(-9).exterior.buffer(1.4)).difference(water.buffer(3)), Ground.PATH)
        )
        self.areas.append((reserved, Ground.GRAVEL))
        free = lot.buffer(-2).difference(unary_union([paths.buffer(1), water.buffer(3)]))
        self.scatter(free, 1 / 230, reserved, None)
        self.scatter(
            lot.buffer(-1).difference(lot.buffer(-7)), 1 / 120, reserved, int(self.rng.integers(0, 5))
        )

    def _built(self, block: Block, reserved: shapely.Geometry) -> None:
        kind, palette = block.use, self.palette(block.district, block.use)
        t = TYPES[kind]
        self.areas.append((block.lot, t.ground))
        if not reserved.is_empty:
            self.areas.append((reserved.intersection(block.lot), Ground.PAVING))
        plots = [
            p for p in footprints(self.rng, block.lot, kind) if not Polygon(p.corners).intersects(reserved)
        ]
        shapes = []
        for plot in plots:
            height = build(self.rng, self.mesh, plot, kind, palette)
            shapes.append(Polygon(plot.corners))
            self.buildings.append((shapes[-1], height))
            self._forecourt(block, plot, kind)
        if kind == "perimeter":
            self.areas.append((block.lot.buffer(-20), self._pick(Ground.GARDEN, Ground.LAWN, Ground.YARD)))
            shapes += self._sheds(block.lot.buffer(-21), reserved, 3.2)
        if kind in ("slabs", "works"):
            shapes += self._sheds(
                block.lot.buffer(-14).difference(unary_union([s.buffer(6) for s in shapes])), reserved, 2.8
            )
        for plot in plots if kind in ("villas", "rows") else ():
            self._back_garden(block, plot)
        free = block.lot.difference(unary_union([s.buffer(2.6) for s in shapes]))
        rate = {
            "villas": 1 / 170,
            "rows": 1 / 190,
            "perimeter": 1 / 260,
            "slabs": 1 / 230,
            "towers": 1 / 300,
        }.get(kind, 1 / 900)
        self.scatter(free.buffer(-1.0), rate, reserved, None)

    def _pick(self, *kinds: Ground) -> Ground:
        return kinds[int(self.rng.integers(len(kinds)))]

    def _sheds(self, area: shapely.Geometry, reserved: shapely.Geometry, height: float) -> list[Polygon]:
        """Low garages and workshops in the middle of a block."""
        found: list[Polygon] = []
        if area.is_empty:
            return found
        u = _grain(area)
        west, south, east, north = area.bounds
        for _ in range(int(area.area / 700)):
            turned = u if self.rng.random() < 0.5 else np.array([-u[1], u[0]])
            outline = rectangle(
                self.rng.uniform((west, south), (east, north)),
                turned,
                self.rng.uniform(8, 26),
                self.rng.uniform(5.5, 9),
            )
            shape = Polygon(outline)
            if (
                not area.contains(shape)
                or shape.intersects(reserved)
                or any(shape.distance(f) < 3 for f in found)
            ):
                continue
            wall, roof = self.rng.uniform(0.35, 0.8, 3) * 0.4 + 0.4, self.rng.uniform(0.25, 0.75)
            tall = float(height * self.rng.uniform(0.9, 1.5))
            self.mesh.prism(
                outline,
                0,
                tall,
                Material.RIBS,
                wall,
                rgb2=wall * 0.7,
                size=(5.0, 1.0),
                top=(Material.GRAVEL, (roof, roof * 0.97, roof * 0.92)),
            )
            self.areas.append((shape.buffer(5), Ground.YARD))
            self.buildings.append((shape, tall))
            found.append(shape)
        return found

    def _back_garden(self, block: Block, plot: Footprint) -> None:
        """A strip of its own ground behind every house, a terrace, and a hedge to the neighbour."""
        c, u = plot.corners, plot.u
        back = np.array([-u[1], u[0]])
        deep = float(self.rng.uniform(12, 20))
        strip = rectangle(
            (c[2] + c[3]) / 2 + back * deep / 2,
            u,
            plot.width_m + (5 if block.use == "villas" else -0.3),
            deep,
        )
        ground = self._pick(
            Ground.LAWN, Ground.GARDEN, Ground.MEADOW, Ground.GARDEN, Ground.GRAVEL, Ground.LAWN
        )
        self.areas.append((Polygon(strip).intersection(block.lot), ground))
        terrace = rectangle((c[2] + c[3]) / 2 + back * 1.6, u, plot.width_m * 0.7, 3.2)
        self.areas.append((Polygon(terrace).intersection(block.lot), Ground.PATH))
        line = shapely.LineString([strip[0], strip[3]])
        if self.rng.random() < 0.6 and block.lot.contains(line):
            hedge(self.mesh, strip[0], strip[3], height_m=1.6, width_m=0.8, seed=float(self.rng.random()))

    def _forecourt(self, block: Block, plot: Footprint, kind: str) -> None:
        corners, u = plot.corners, plot.u
        out = np.array([u[1], -u[0]])
        setback = TYPES[kind].setback_m
        if kind == "works":
            apron = rectangle((corners[0] + corners[1]) / 2 + out * setback / 2, u, 20, setback)
            self.areas.append((Polygon(apron), Ground.YARD))
        if kind not in ("villas", "rows"):
            return
        path = rectangle(
            corners[0] * 0.4 + corners[1] * 0.6 + out * setback / 2,
            u,
            1.4 if kind == "rows" else 3.0,
            setback,
        )
        self.areas.append((Polygon(path), Ground.PATH))
        a, b = (
            corners[0] + out * (setback - 0.5),
            corners[0] * 0.55 + corners[1] * 0.45 + out * (setback - 0.5),
        )
        if block.lot.contains(shapely.LineString([a, b])):
            self._fence(a, b)

    def _fence(self, a: Floats, b: Floats) -> None:
        choice = self.rng.random()
        if choice < 0.5:
            hedge(
                self.mesh,
                a,
                b,
                height_m=float(self.rng.uniform(0.8, 1.7)),
                width_m=0.7,
                seed=float(self.rng.random()),
            )
        elif choice < 0.8:
            tone = [(0.9, 0.9, 0.88), (0.42, 0.30, 0.22), (0.6, 0.56, 0.5)][int(self.rng.integers(3))]
            self.mesh.polygon(
                [(*a, 0), (*b, 0), (*b, 1.0), (*a, 1.0)],
                Material.RIBS,
                tone,
                rgb2=[c * 0.55 for c in tone],
                size=(0.24, 1),
            )

    def scatter(
        self, area: shapely.Geometry, per_m2: float, keep_out: shapely.Geometry, species: int | None
    ) -> None:
        if area.is_empty or area.area < 10:
            return
        n = int(self.rng.poisson(area.area * per_m2))
        west, south, east, north = area.bounds
        tries = max(4 * n, int(n * (east - west) * (north - south) / area.area * 1.6))
        xy = self.rng.uniform((west, south), (east, north), (tries, 2))
        good = shapely.contains_xy(area, xy)
        if not keep_out.is_empty:
            good &= ~shapely.contains_xy(keep_out, xy)
        for x, y in xy[good][:n]:
            self.trees.append((x, y, int(self.rng.integers(0, 5)) if species is None else int(species)))

    def _street_trees(self) -> None:
        for street in self.plan.streets:
            chance = {"avenue": 0.9, "street": 0.5, "lane": 0.25}[street.rank]
            if self.rng.random() > chance or street.walk_m < 2.0:
                continue
            step = float(self.rng.choice([9.0, 12.0, 16.0, 22.0]))
            kind = int(self.greens[street.district])
            kind = 0 if kind == 3 else kind  # no spruces along streets
            for side in (-1, 1):
                for at in np.arange(street.clear_m[0] + 9, street.line.length - street.clear_m[1] - 8, step):
                    p, u = along(street, float(at + self.rng.uniform(-1, 1)))
                    x, y = p + np.array([-u[1], u[0]]) * side * (street.width_m / 2 + 0.9)
                    if not self.plan.bridges.intersects(Point(x, y)):
                        self.trees.append((x, y, kind))

    def _lamps(self) -> None:
        for street in self.plan.streets:
            if street.walk_m == 0:
                continue
            side = 1
            for at in np.arange(street.clear_m[0] + 4, street.line.length - 3, 30.0):
                p, u = along(street, float(at))
                left = np.array([-u[1], u[0]]) * side
                foot, arm = p + left * (street.width_m / 2 + 0.5), p + left * (street.width_m / 2 - 1.2)
                self._lamp(foot, arm, u, 8.0 if street.rank == "avenue" else 5.5)
                side = -side

    def _lamp(self, foot: Floats, arm: Floats, u: Floats, z: float) -> None:
        grey = (0.36, 0.38, 0.38)
        self.mesh.prism(rectangle(foot, u, 0.14, 0.14), 0, z, Material.PLAIN, grey)
        self.mesh.prism(
            rectangle((foot + arm) / 2, u, 0.12, float(np.hypot(*(foot - arm)))),
            z,
            z + 0.12,
            Material.PLAIN,
            grey,
        )
        self.mesh.prism(
            rectangle(arm, u, 0.3, 0.7),
            z - 0.05,
            z + 0.12,
            Material.PLAIN,
            (0.85, 0.85, 0.8),
            top=(Material.PLAIN, grey),
        )

    def _plant(self) -> None:
        trees = np.array(self.trees).reshape(-1, 3)
        roofs = shapely.STRtree([shape.buffer(1.5) for shape, _ in self.buildings])
        points = shapely.points(trees[:, :2])
        blocked = np.unique(roofs.query(points, predicate="intersects")[0])
        trees = np.delete(trees, blocked, axis=0)
        plant(self.rng, self.mesh, trees[:, :2], trees[:, 2].astype(np.int64))


def _grain(lot: Polygon) -> Floats:
    corners = shapely.get_coordinates(lot.minimum_rotated_rectangle)
    sides = [corners[1] - corners[0], corners[2] - corners[1]]
    u = max(sides, key=lambda s: float(np.hypot(*s)))
    return np.asarray(u / np.hypot(*u))
