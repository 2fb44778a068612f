"""How the buildings of a district look: the ranges of their type, and a palette of its own for each district."""

from dataclasses import dataclass

import numpy as np

from data_prep.cities.mesh import Ground

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Type:
    """The ranges from which the buildings of one district kind are drawn (metres, storeys)."""

    width_m: tuple[float, float]
    depth_m: tuple[float, float]
    setback_m: float
    gap_m: tuple[float, float]
    floors: tuple[int, int]
    floor_m: float
    bay_m: tuple[float, float]
    roofs: tuple[str, ...]
    shops: float  # share of buildings with a shop front
    ground: Ground


TYPES = {  # width, depth, setback, gap, storeys, their height, bay, roofs, share of shops, ground
    "villas": Type(
        (9, 14), (8, 11), 6.0, (5, 11), (1, 2), 2.9, (2.4, 3.8),
        ("gable", "hip", "gable", "cross"), 0.03, Ground.GARDEN,
    ),
    "rows": Type(
        (6, 8), (9, 10.5), 3.5, (0, 0), (2, 3), 2.9, (2.0, 3.2),
        ("gable", "gable", "mono"), 0.06, Ground.GARDEN,
    ),
    "perimeter": Type(
        (13, 25), (11, 13.5), 0.0, (0, 0), (3, 6), 3.2, (2.1, 3.6),
        ("gable", "mansard", "gable", "flat"), 0.45, Ground.YARD,
    ),
    "slabs": Type(
        (42, 72), (11, 13), 9.0, (16, 26), (4, 11), 2.9, (2.8, 4.2),
        ("flat",), 0.1, Ground.LAWN,
    ),
    "towers": Type(
        (22, 36), (20, 30), 3.0, (9, 18), (5, 22), 3.6, (1.6, 3.4),
        ("flat",), 0.6, Ground.PAVING,
    ),
    "works": Type(
        (32, 66), (24, 40), 8.0, (9, 20), (2, 3), 4.4, (4.0, 7.0),
        ("flat", "saw", "low", "flat"), 0.05, Ground.YARD,
    ),
}  # fmt: skip

WALLS: dict[str, tuple[Rgb, ...]] = {
    "plaster": (
        (0.93, 0.88, 0.76), (0.90, 0.78, 0.55), (0.86, 0.66, 0.52), (0.80, 0.83, 0.80),
        (0.95, 0.93, 0.90), (0.78, 0.84, 0.72), (0.72, 0.78, 0.86), (0.88, 0.72, 0.70),
    ),
    "brick": (
        (0.62, 0.33, 0.25), (0.70, 0.42, 0.30), (0.52, 0.30, 0.25), (0.76, 0.60, 0.42),
        (0.45, 0.36, 0.34),
    ),
    "stone": (
        (0.80, 0.76, 0.66), (0.72, 0.68, 0.60), (0.84, 0.80, 0.74), (0.66, 0.60, 0.54),
        (0.78, 0.68, 0.58),
    ),
    "panel": (
        (0.86, 0.86, 0.84), (0.72, 0.76, 0.80), (0.88, 0.82, 0.66), (0.70, 0.78, 0.72),
        (0.82, 0.66, 0.54),
    ),
    "curtain": (
        (0.30, 0.42, 0.52), (0.24, 0.30, 0.34), (0.46, 0.52, 0.54), (0.34, 0.44, 0.40),
        (0.60, 0.54, 0.44), (0.78, 0.78, 0.78),
    ),
    "sheet": (
        (0.72, 0.74, 0.76), (0.42, 0.54, 0.66), (0.58, 0.62, 0.52), (0.80, 0.76, 0.66),
        (0.66, 0.36, 0.28), (0.86, 0.86, 0.86),
    ),
    "pastel": (
        (0.96, 0.78, 0.60), (0.68, 0.80, 0.88), (0.92, 0.70, 0.66), (0.80, 0.88, 0.70),
        (0.97, 0.92, 0.68), (0.80, 0.72, 0.86),
    ),
}  # fmt: skip
ROOFS: dict[str, tuple[Rgb, ...]] = {
    "red": ((0.68, 0.32, 0.22), (0.60, 0.27, 0.20), (0.74, 0.40, 0.28), (0.54, 0.30, 0.24)),
    "slate": ((0.32, 0.34, 0.38), (0.40, 0.41, 0.44), (0.27, 0.28, 0.31), (0.36, 0.33, 0.36)),
    "brown": ((0.46, 0.32, 0.25), (0.52, 0.38, 0.29), (0.38, 0.28, 0.23)),
    "green": ((0.40, 0.58, 0.50), (0.46, 0.62, 0.56), (0.34, 0.50, 0.46)),
    "gravel": ((0.58, 0.56, 0.52), (0.48, 0.48, 0.48), (0.66, 0.65, 0.62), (0.38, 0.38, 0.38)),
    "light": ((0.70, 0.70, 0.68), (0.58, 0.60, 0.62), (0.46, 0.50, 0.54), (0.62, 0.56, 0.50)),
}  # fmt: skip
PALETTES: dict[str, tuple[tuple[str, str], ...]] = {  # wall family and roof family, a pair per district
    "villas": (("plaster", "red"), ("brick", "slate"), ("pastel", "brown"), ("stone", "red"), ("plaster", "slate")),
    "rows": (("brick", "slate"), ("pastel", "red"), ("brick", "brown"), ("plaster", "brown"), ("stone", "slate")),
    "perimeter": (("plaster", "red"), ("stone", "slate"), ("pastel", "brown"), ("brick", "green"), ("brick", "red")),
    "slabs": (("panel", "gravel"), ("pastel", "gravel"), ("brick", "light")),
    "towers": (("curtain", "gravel"), ("curtain", "light"), ("stone", "gravel")),
    "works": (("sheet", "light"), ("brick", "gravel"), ("sheet", "gravel")),
}  # fmt: skip


@dataclass(frozen=True)
class Palette:
    """The look of one district: colours, and how far its buildings keep to one floor height and roof."""

    walls: tuple[Rgb, ...]
    roofs: tuple[Rgb, ...]
    brick: float
    floors: tuple[int, int]
    roof: tuple[str, ...]
    bay_m: float
    mullions: int
    shutters: bool

    @classmethod
    def random(cls, rng: np.random.Generator, kind: str, number: int) -> "Palette":
        """Districts of one kind take the palettes in turn, so that neighbours rarely share one."""
        wall, roof = PALETTES[kind][number % len(PALETTES[kind])]
        t = TYPES[kind]
        low = int(rng.integers(t.floors[0], max(t.floors[0] + 1, t.floors[1] - 1)))
        return cls(
            tuple(WALLS[wall][k] for k in rng.permutation(len(WALLS[wall]))[:5]),
            tuple(ROOFS[roof][k] for k in rng.permutation(len(ROOFS[roof]))[:3]),
            0.9 if wall == "brick" else 0.15,
            (low, t.floors[1]),
            tuple(t.roofs[k] for k in rng.permutation(len(t.roofs))[: max(1, len(t.roofs) - 1)]),
            float(rng.uniform(*t.bay_m)),
            int(rng.integers(0, 3)),
            bool(rng.random() < 0.4 and kind in ("villas", "rows", "perimeter")),
        )
