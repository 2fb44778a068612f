"""Trees and hedges: clouds of leaf triangles around a core, so that outlines are ragged and shade is broken."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import trimesh
from numpy.typing import NDArray

from data_prep.cities.mesh import Material, Mesh

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Species:
    rgb: tuple[float, float, float]  # summer leaf
    height_m: tuple[float, float]
    spread: float  # crown width over height
    clear: float  # share of the height below the crown
    shape: str  # "round", "column" or "cone"


SPECIES = (
    Species((0.30, 0.42, 0.16), (9, 15), 0.72, 0.24, "round"),  # linden
    Species((0.36, 0.46, 0.18), (6, 10), 0.80, 0.30, "round"),  # maple
    Species((0.34, 0.45, 0.22), (13, 20), 0.26, 0.12, "column"),  # poplar
    Species((0.16, 0.28, 0.17), (9, 17), 0.44, 0.08, "cone"),  # spruce
    Species((0.44, 0.50, 0.24), (8, 13), 0.48, 0.28, "round"),  # birch
)
VARIANTS = 3


@cache
def _template(species: int, variant: int, leaves: int) -> tuple[Floats, Floats]:
    """Crown and trunk of a tree one metre tall, `(n, 3, 3)` each."""
    kind = SPECIES[species]
    rng = np.random.default_rng([species, variant, leaves])
    core = trimesh.creation.icosphere(subdivisions=1, radius=1.0)
    bumps = core.vertices * rng.uniform(0.70, 0.96, (len(core.vertices), 1))
    direction = rng.normal(size=(leaves, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    at = direction * rng.uniform(0.80, 1.06, (leaves, 1))
    leaf = at[:, None] + rng.normal(size=(leaves, 3, 3)) * 0.13
    crown = _shape(np.concatenate([bumps[core.faces], leaf]), kind)
    trunk = trimesh.creation.cylinder(radius=0.018, height=kind.clear + 0.25, sections=4)
    stem = trunk.vertices + np.array((0, 0, (kind.clear + 0.25) / 2))
    return crown, stem[trunk.faces]


def _shape(ball: Floats, kind: Species) -> Floats:
    z = ball[..., 2] / 2 + 0.5
    radius = kind.spread / 2 * {"round": 1.0, "column": 1.0, "cone": 0.0}[kind.shape]
    wide = radius if kind.shape != "cone" else kind.spread / 2 * np.clip(1.25 - 1.2 * z, 0.05, 1.1)
    x, y = ball[..., 0] * wide, ball[..., 1] * wide
    return np.stack([x, y, kind.clear + (1 - kind.clear) * z], -1)


def plant(
    rng: np.random.Generator, mesh: Mesh, places: Floats, species: NDArray[np.int64], *, leaves: int = 64
) -> None:
    """Put a tree on every one of `places` (n, 2)."""
    for kind in range(len(SPECIES)):
        for variant in range(VARIANTS):
            chosen = (species == kind) & (np.arange(len(species)) % VARIANTS == variant)
            if chosen.any():
                _instances(rng, mesh, places[chosen], kind, variant, leaves)


def _instances(
    rng: np.random.Generator, mesh: Mesh, places: Floats, kind: int, variant: int, leaves: int
) -> None:
    crown, trunk = _template(kind, variant, leaves)
    tree, n = SPECIES[kind], len(places)
    height, turn = rng.uniform(*tree.height_m, n), rng.uniform(0, 2 * np.pi, n)
    tint = rng.uniform(-0.05, 0.05, (n, 1)) + rng.uniform(-0.02, 0.02, (n, 3))
    middle = np.column_stack([places, height * (1 + tree.clear) / 2])
    kind_of = (float(tree.shape != "cone"), 1.0)  # sheds its leaves; is round
    crowns = [
        mesh.facet(Material.LEAF, tree.rgb + tint[k], origin=middle[k], size=kind_of, seed=rng.random())
        for k in range(n)
    ]
    bark = mesh.facet(Material.PLAIN, (0.33, 0.27, 0.22) if kind != 4 else (0.80, 0.79, 0.75))
    c, s = ((height * f(turn))[:, None, None] for f in (np.cos, np.sin))
    for template, facet in ((crown, np.array(crowns)), (trunk, np.full(n, bark))):
        x, y, z = template[None, ..., 0], template[None, ..., 1], template[None, ..., 2]
        px = x * c - y * s + places[:, 0, None, None]
        py = x * s + y * c + places[:, 1, None, None]
        pz = z * height[:, None, None] + 0 * px
        mesh.add(np.stack([px, py, pz], -1), np.repeat(facet, len(template)))


def hedge(mesh: Mesh, a: Floats, b: Floats, *, height_m: float, width_m: float, seed: float) -> None:
    """A clipped hedge from `a` to `b`."""
    u = (b - a) / max(float(np.hypot(*(b - a))), 1e-6)
    left = np.array([-u[1], u[0]]) * width_m / 2
    outline = np.array([a - left, b - left, b + left, a + left])
    middle = (*((a + b) / 2), height_m / 2)
    facet = mesh.facet(Material.LEAF, (0.22, 0.34, 0.15), origin=middle, size=(0.0, 0.0), seed=seed)
    sides = [(p, q) for p, q in zip(outline, np.roll(outline, -1, 0), strict=True)]
    quads = [((*p, 0.0), (*q, 0.0), (*q, height_m), (*p, height_m)) for p, q in sides]
    quads.append(tuple((*p, height_m) for p in outline))  # type: ignore[arg-type]
    mesh.add(np.array([(q[i], q[j], q[k]) for q in quads for i, j, k in ((0, 1, 2), (0, 2, 3))]), facet)
