"""Roofs: gables, hips, sheds, saw teeth and flat ones with what stands on them."""

from typing import NamedTuple

import numpy as np

from data_prep.cities.footprints import Footprint
from data_prep.cities.mesh import Material, Mesh, rectangle
from data_prep.cities.palettes import Rgb


class Paint(NamedTuple):
    """Colours of one building, and the number that sets its weathering apart."""

    wall: Rgb
    roof: Rgb
    accent: Rgb
    seed: float


def roof(
    rng: np.random.Generator, mesh: Mesh, plot: Footprint, eave: float, kind: str, paint: Paint
) -> float:
    """Add the roof above `eave`; returns how far it rises."""
    turned = plot.width_m < plot.depth_m or (kind == "cross" and plot.width_m < plot.depth_m * 1.35)
    if kind in ("gable", "cross", "hip", "mansard"):
        slope = {"hip": 0.62, "mansard": 1.1}.get(kind, rng.uniform(0.7, 0.95))
        rise = slope * min(plot.depth_m, plot.width_m if turned else 1e9) / 2
        inset = {"hip": 0.5, "mansard": 0.5}.get(kind, 0.0)
        pitched(mesh, plot, eave, rise, paint, inset=inset, turned=turned)
        return float(rise)
    if kind == "mono":
        return _mono(mesh, plot, eave, paint)
    if kind == "saw":
        return _saw(mesh, plot, eave, paint)
    if kind == "low":
        pitched(mesh, plot, eave, 0.12 * plot.depth_m, paint)
        return 0.12 * plot.depth_m
    return _flat(rng, mesh, plot, eave, paint)


def pitched(
    mesh: Mesh,
    plot: Footprint,
    eave: float,
    rise: float,
    paint: Paint,
    *,
    inset: float = 0.0,
    turned: bool = False,
) -> None:
    """A ridged roof; `inset` is how far the ridge ends stand in, as a share of the span (0: gables)."""
    over = 0.45
    w, d = (plot.depth_m, plot.width_m) if turned else (plot.width_m, plot.depth_m)
    ux = np.array([-plot.u[1], plot.u[0]]) if turned else np.asarray(plot.u)
    vx = np.array([-ux[1], ux[0]])
    low = eave - over * rise / (d / 2)

    def at(a: float, b: float, z: float) -> tuple[float, float, float]:
        x, y = plot.centre + ux * a + vx * b
        return float(x), float(y), z

    half_w, half_d = w / 2 + over, d / 2 + over
    ridge = max(half_w if inset == 0 else w / 2 - inset * d, 0.3)
    r0, r1 = at(-ridge, 0, eave + rise), at(ridge, 0, eave + rise)
    c = [at(a * half_w, b * half_d, low) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    for corners in ((c[0], c[1], r1, r0), (c[2], c[3], r0, r1)):
        mesh.polygon(corners, Material.TILES, paint.roof, seed=paint.seed)
    if inset > 0:
        for hip in ((c[1], c[2], r1), (c[3], c[0], r0)):
            mesh.polygon(hip, Material.TILES, paint.roof, seed=paint.seed)
        return
    for side in (-1, 1):
        gable = (at(side * w / 2, -side * d / 2, eave), at(side * w / 2, side * d / 2, eave))
        mesh.polygon((*gable, at(side * w / 2, 0, eave + rise)), Material.PLAIN, paint.wall, seed=paint.seed)


def _mono(mesh: Mesh, plot: Footprint, eave: float, paint: Paint) -> float:
    a, b, c, d = plot.corners
    rise = 0.28 * plot.depth_m
    mesh.polygon(
        [(*a, eave), (*b, eave), (*c, eave + rise), (*d, eave + rise)],
        Material.TILES,
        paint.roof,
        seed=paint.seed,
    )
    mesh.polygon(
        [(*c, eave), (*d, eave), (*d, eave + rise), (*c, eave + rise)],
        Material.PLAIN,
        paint.wall,
        seed=paint.seed,
    )
    for low, high in ((a, d), (b, c)):
        mesh.polygon(
            [(*low, eave), (*high, eave), (*high, eave + rise)], Material.PLAIN, paint.wall, seed=paint.seed
        )
    return rise


def _saw(mesh: Mesh, plot: Footprint, eave: float, paint: Paint) -> float:
    n = max(2, round(plot.width_m / 9))
    rise = 3.2
    a, b, c, d = plot.corners
    for k in range(n):
        near = [a + (b - a) * t / n for t in (k, k + 1)]
        far = [d + (c - d) * t / n for t in (k, k + 1)]
        slope = [(*near[0], eave), (*near[1], eave + rise), (*far[1], eave + rise), (*far[0], eave)]
        mesh.polygon(slope, Material.TILES, paint.roof, seed=paint.seed)
        upright = [(*near[1], eave), (*far[1], eave), (*far[1], eave + rise), (*near[1], eave + rise)]
        mesh.polygon(upright, Material.GLASS, (0.25, 0.32, 0.36), seed=paint.seed)
        for p, q in (near, far):
            mesh.polygon(
                [(*p, eave), (*q, eave), (*q, eave + rise)], Material.PLAIN, paint.wall, seed=paint.seed
            )
    return rise


def _flat(rng: np.random.Generator, mesh: Mesh, plot: Footprint, eave: float, paint: Paint) -> float:
    """A flat roof behind a parapet, with stair heads and plant on it."""
    mesh.polygon([(*p, eave) for p in plot.corners], Material.GRAVEL, paint.roof, seed=paint.seed)
    rim = rectangle(plot.centre, plot.u, plot.width_m - 0.5, plot.depth_m - 0.5)
    for k in range(4):
        a, b, c, d = plot.corners[k], plot.corners[(k + 1) % 4], rim[(k + 1) % 4], rim[k]
        mesh.polygon(
            [(*a, eave), (*b, eave), (*b, eave + 0.7), (*a, eave + 0.7)],
            Material.PLAIN,
            paint.wall,
            seed=paint.seed,
        )
        mesh.polygon(
            [(*a, eave + 0.7), (*b, eave + 0.7), (*c, eave + 0.7), (*d, eave + 0.7)],
            Material.PLAIN,
            paint.wall,
            seed=paint.seed,
        )
        mesh.polygon(
            [(*d, eave + 0.7), (*c, eave + 0.7), (*c, eave), (*d, eave)],
            Material.PLAIN,
            paint.wall,
            seed=paint.seed,
        )
    for _ in range(int(rng.integers(1, 5))):
        spread = np.array([plot.width_m, plot.depth_m]) * rng.uniform(-0.33, 0.33, 2)
        centre = plot.centre + plot.u * spread[0] + np.array([-plot.u[1], plot.u[0]]) * spread[1]
        outline = rectangle(centre, plot.u, *rng.uniform(1.5, 0.22 * plot.depth_m + 2, 2))
        tone = float(rng.uniform(0.35, 0.85))
        mesh.prism(
            outline,
            eave,
            eave + rng.uniform(1.0, 2.8),
            Material.PLAIN,
            (tone,) * 3,
            top=(Material.PLAIN, (tone * 0.9,) * 3),
        )
    return 0.7
