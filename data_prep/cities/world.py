"""A built town: everything that stands on the plan, ready to be cast at."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from data_prep.cities.blocks import Site
from data_prep.cities.ground import GroundMap, make_ground
from data_prep.cities.mesh import Mesh, Surfaces
from data_prep.cities.noise import F, dot, pick
from data_prep.cities.plan import Plan
from data_prep.cities.traffic import add_traffic

Floats = NDArray[np.float32]
MOMENTS = 4  # sets of cars and people; the first is the one seen from above
GROUND_FACET = 0  # a site begins with the ground
SKY = 255  # in place of a material
TRAFFIC_M = 420.0  # cars further away would be specks, and cost time


@dataclass(frozen=True)
class Hits:
    """What a set of rays met, ordered by material; rays into the sky are left out."""

    ray: NDArray[np.intp]  # index of the ray
    direction: Floats  # (3, n)
    point: Floats  # (3, n)
    normal: Floats  # (3, n), towards the eye; materials may bend it
    face: Floats  # (3, n), the same, never bent
    distance_m: Floats
    facet: NDArray[np.int32]


@dataclass(frozen=True)
class World:
    plan: Plan
    ground: GroundMap
    surfaces: Surfaces
    skyline: Floats  # (2, n) height over distance of two ranges of hills, clockwise from north
    static: EmbreeScene
    moments: tuple[EmbreeScene, ...]
    starts: tuple[int, ...]  # first triangle of the static scene and of every moment
    top_m: float  # of the tallest thing

    @classmethod
    def assemble(cls, plan: Plan, ground: GroundMap, mesh: Mesh, *, seed: int) -> "World":
        """Add the traffic of every moment to what stands in `mesh`, and make it all ready for rays."""
        starts = [0, mesh.flush()]
        for moment in range(MOMENTS):
            add_traffic(np.random.default_rng([seed, 3, moment]), mesh, plan)
            starts.append(mesh.flush())
        surfaces = mesh.arrays()
        scenes = [_scene(surfaces.triangles[a:b]) for a, b in pairwise(starts)]
        top_m = float(surfaces.triangles[..., 2].max())
        return cls(
            plan, ground, surfaces, _skyline(seed), scenes[0], tuple(scenes[1:]), tuple(starts[:-1]), top_m
        )

    def cast(self, origins: Floats, directions: Floats, moment: int) -> Hits:
        """First hits of rays `(n, 3)`, in the town as it was at one moment."""
        found = self.static.run(origins, directions, output=1)
        reach = np.minimum(found["tfar"], TRAFFIC_M)
        moved = self.moments[moment].run(origins, directions, dists=reach, output=1)
        triangle = found["primID"]
        of_moved = np.flatnonzero(moved["primID"] >= 0)
        triangle[of_moved] = moved["primID"][of_moved] + self.starts[moment + 1]
        facet = pick(self.surfaces.facet_of, triangle)
        far = (triangle < 0) & (directions[:, 2] < -1e-4)
        facet[far] = GROUND_FACET  # beyond the last triangle the ground goes on, flat, to the horizon
        kind = pick(self.surfaces.material, facet)
        kind[(triangle < 0) & ~far] = SKY
        ray = np.argsort(kind, kind="stable")[: np.count_nonzero(kind != SKY)]
        t, normal = found["tfar"], found["Ng"]
        t[of_moved], normal[of_moved] = moved["tfar"][of_moved], moved["Ng"][of_moved]
        t[far], normal[far] = -origins[far, 2] / directions[far, 2], (0, 0, 1)
        t, n = pick(t, ray), np.ascontiguousarray(normal.take(ray, 0).T)
        d, o = (np.ascontiguousarray(a.take(ray, 0).T) for a in (directions, origins))
        n *= np.copysign(1 / np.sqrt(dot(n, n) + F(1e-20)), -dot(n, d))
        return Hits(ray, d, o + d * t, n, n.copy(), t, pick(facet, ray))

    def shadowed(self, points: Floats, towards: Floats, moment: int) -> NDArray[np.bool_]:
        """Whether something stands between `points` (n, 3) and the sun."""
        rays = np.ascontiguousarray(np.broadcast_to(towards.astype(np.float32), points.shape))
        dark = self.static.run(points, rays, query="OCCLUDED") == 0
        low = np.flatnonzero(~dark & (points[:, 2] < 2.6))
        dark[low] = self.moments[moment].run(points[low], rays[low], query="OCCLUDED") == 0
        return dark


def make_world(plan: Plan, *, seed: int) -> World:
    """Build the town of a plan; the seed draws whatever the plan leaves open."""
    mesh = Mesh()
    site = Site(np.random.default_rng([seed, 2]), plan, mesh)
    site.develop()
    ground = make_ground(plan, site.areas, site.buildings)
    return World.assemble(plan, ground, mesh, seed=seed)


def _scene(triangles: Floats) -> EmbreeScene:
    scene = EmbreeScene()
    far = np.full((1, 3, 3), -1e5, np.float32) + np.eye(3, dtype=np.float32)  # a scene may not be empty
    TriangleMesh(scene, np.concatenate([triangles, far]))
    up = np.array([[0, 0, 1]], np.float32)
    scene.run(up * 1e4, up)  # builds the tree now, once, before workers share it
    return scene


def _skyline(seed: int) -> Floats:
    rng = np.random.default_rng([seed, 8])
    angle = np.linspace(0, 2 * np.pi, 4096, endpoint=False)
    crests = []
    for tall in (0.050, 0.026):
        waves = [
            rng.uniform(0.3, 1) / k**0.8 * np.sin(k * angle + rng.uniform(0, 7))
            for k in (1, 2, 3, 5, 9, 17, 31, 67, 131)
        ]
        crests.append(tall * np.clip(0.45 + 0.35 * np.sum(waves, 0), 0.06, 1.3))
    return np.array(crests, np.float32)
