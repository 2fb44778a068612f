"""Where and how the photos of a town are taken, and which of them are held out."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from data_prep.cities.camera import Pose
from data_prep.cities.plan import Street
from data_prep.cities.traffic import along
from data_prep.cities.world import MOMENTS, World
from zoomloc.errors import ConfigError

Floats = NDArray[np.float64]
APART_M = 30.0  # at least this far from every held-out photo to the nearest training photo
SPOT_M = 2.0  # held-out photos of one spot stand within this of it
EDGE_M = 6.0
TRIES = 80
FOV_DEG = (60.0, 90.0)


@dataclass(frozen=True)
class Split:
    """Numbers of photos; the held-out ones stand in pairs, one pair a spot."""

    train: int
    val: int
    test: int

    @classmethod
    def of(cls, photos: int, *, test: int | None = None, val: int | None = None) -> "Split":
        """By default 1/40 of the photos are for testing and 1/120 for validation, at least one pair each."""
        test = max(2, round(photos / 80) * 2) if test is None else test
        val = max(2, round(photos / 240) * 2) if val is None else val
        if photos - test - val < 1 or test < 0 or val < 0:
            raise ConfigError(
                f"{photos} photos leave none to train on beside {test} test and {val} val; ask for more photos"
            )
        return cls(photos - test - val, val, test)


@dataclass(frozen=True)
class Placement:
    """Photo number `number` of a town."""

    number: int
    pose: Pose
    moment: int
    split: str
    sequence: str | None
    drive: int | None = None  # on which it was taken, with the photos of one camera on one day
    elapsed_s: float = 0.0  # since the drive began


def place(
    world: World, *, seed: int, split: Split, fov_deg: tuple[float, float] = FOV_DEG
) -> list[Placement]:
    """All placements, test first, then val, then train; `place` draws from the seed alone.

    `fov_deg` is the range of the horizontal fields of view.
    """
    rng = np.random.default_rng([seed, 4])
    finder = _Finder(world, rng, fov_deg)
    held: list[tuple[str, int, list[tuple[Pose, int]]]] = []
    spots = [("test", k) for k in range((split.test + 1) // 2)] + [
        ("val", k) for k in range((split.val + 1) // 2)
    ]
    order = rng.permutation(len(spots))
    for at, which in zip(finder.spread(len(spots)), order, strict=True):
        name, number = spots[which]
        held.append((name, number, finder.pair(float(at))))
    taken = np.array([(pose.x, pose.y) for _, _, pair in held for pose, _ in pair]).reshape(-1, 2)
    placements: list[Placement] = []
    for name, number, pair in sorted(held, key=lambda h: (h[0] != "test", h[1])):
        limit = {"test": split.test, "val": split.val + split.test}[name]
        for pose, moment in pair:
            if len(placements) < limit:
                placements.append(Placement(len(placements), pose, moment, name, f"{name}-{number:04d}"))
    for pose, moment in finder.train(split.train, KDTree(taken) if len(taken) else None):
        placements.append(Placement(len(placements), pose, moment, "train", None))
    return placements


def turn_around(placements: list[Placement], *, seed: int, share: float) -> list[Placement]:
    """Some of the photos, drawn from the seed, as panoramas; all or none of a drive."""
    found = []
    for p in placements:
        which = [seed, 10, p.number] if p.drive is None else [seed, 12, p.drive]
        if np.random.default_rng(which).random() < share:
            whole = replace(p.pose, fov_deg=360.0, pitch_deg=0.0, roll_deg=0.0, spherical=True)
            p = replace(p, pose=whole)
        found.append(p)
    return found


class _Finder:
    """Draws poses along the streets and keeps those from which a person would take a photo."""

    def __init__(self, world: World, rng: np.random.Generator, fov_deg: tuple[float, float]) -> None:
        self.world, self.rng, self.fov_deg = world, rng, fov_deg
        self.streets: tuple[Street, ...] = world.plan.streets
        self.ends = np.cumsum([s.line.length for s in self.streets])

    def spread(self, n: int) -> Floats:
        """`n` positions along all streets laid end to end, evenly spaced but for some play."""
        return (np.arange(n) + self.rng.uniform(0.1, 0.9, n)) / n * self.ends[-1]

    def pair(self, at: float) -> list[tuple[Pose, int]]:
        """Two photos of one spot, near `at` or, where no camera can stand, further along."""
        for step in range(TRIES):
            where = (at + step * 17.0) % self.ends[-1]
            street, p, u = self._locate(where)
            lateral = self._lateral(street)
            shots = []
            for _ in range(12):
                spot = p + u * self.rng.uniform(-1, 1) + np.array([-u[1], u[0]]) * lateral
                shot = self._clear(spot, u)
                if shot is not None:
                    shots.append(shot)
                if len(shots) == 2:
                    return shots
        raise ConfigError("no place to hold out was found in the town; choose a larger size or another seed")

    def train(self, n: int, taken: KDTree | None) -> list[tuple[Pose, int]]:
        """`n` photos spread evenly over what the held-out spots leave of the streets."""
        free = self._free(taken)
        if len(free) == 0:
            raise ConfigError(
                "held-out photos leave no street to train on; hold out fewer, or choose a larger size"
            )
        shots = []
        for k in range(n):
            for attempt in range(TRIES):
                slot = (k + self.rng.random() + attempt * attempt * 0.37) / n * len(free)
                street, p, u = self._locate(float(free[int(slot) % len(free)] + self.rng.uniform(-0.5, 0.5)))
                spot = p + np.array([-u[1], u[0]]) * self._lateral(street)
                if taken is not None and taken.query(spot)[0] < APART_M + 0.05:
                    continue
                shot = self._clear(spot, u)
                if shot is not None:
                    shots.append(shot)
                    break
            else:
                raise ConfigError(
                    "no free place for a training photo was found; hold out fewer, or choose another seed"
                )
        return shots

    def _free(self, taken: KDTree | None) -> Floats:
        """Metre by metre, the positions along the streets that may hold training photos."""
        at = np.arange(0.5, self.ends[-1], 1.0)
        xy = np.array([self._locate(float(a))[1] for a in at])
        inside = ((xy > EDGE_M) & (xy < self.world.plan.size_m - EDGE_M)).all(1)
        if taken is not None:
            inside &= taken.query(xy)[0] > APART_M - 8
        return at[inside]

    def _locate(self, at: float) -> tuple[Street, Floats, Floats]:
        k = min(int(np.searchsorted(self.ends, at)), len(self.streets) - 1)
        street = self.streets[k]
        p, u = along(street, at - float(self.ends[k]) + float(street.line.length))
        return street, p, u

    def _lateral(self, street: Street) -> float:
        side = float(self.rng.choice([-1, 1]))
        if street.walk_m > 1.8 and self.rng.random() < 0.3:
            return side * (street.width_m / 2 + float(self.rng.uniform(1.3, street.walk_m - 0.3)))
        return side * float(self.rng.uniform(0.0, street.width_m * 0.36))

    def _clear(self, spot: Floats, u: Floats) -> tuple[Pose, int] | None:
        """A photo at the spot in some direction, or None where it would show a wall or stand in something."""
        rng = self.rng
        size = self.world.plan.size_m
        azimuth = np.degrees(np.arctan2(u[0], u[1])) + rng.choice([0, 180]) + rng.uniform(-20, 20)
        azimuth = azimuth if rng.random() < 0.75 else rng.uniform(0, 360)
        pose = Pose(
            float(spot[0]), float(spot[1]), float(rng.uniform(1.4, 2.2)), float(azimuth % 360),
            float(rng.uniform(-4, 4)), float(rng.uniform(-2, 2)), float(rng.uniform(*self.fov_deg)),
        )  # fmt: skip
        moment = int(rng.integers(1, MOMENTS))
        if not (EDGE_M < spot[0] < size - EDGE_M and EDGE_M < spot[1] < size - EDGE_M):
            return None
        return (pose, moment) if sees(self.world, pose, moment) else None


def sees(world: World, pose: Pose, moment: int) -> bool:
    """Whether a camera stands in the open and looks at more than a wall."""
    turns = np.radians(
        pose.azimuth_deg + np.concatenate([np.linspace(-0.45, 0.45, 7) * pose.fov_deg, np.arange(0, 360, 30)])
    )
    level = np.column_stack([np.sin(turns), np.cos(turns), np.zeros(len(turns))])
    down, up = np.array((0, 0, -0.4)), np.array((0, 0, 0.35))
    directions = np.concatenate([level, level + down, level[:7] + up, [(0, 0, 1.0)]]).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origins = np.tile(np.array([[pose.x, pose.y, pose.z]], np.float32), (len(directions), 1))
    distance = np.full(len(directions), 1e4)
    hits = world.cast(origins, directions, moment)
    distance[hits.ray] = hits.distance_m
    ahead, around, above = distance[:7], distance[7 : len(turns) * 2], distance[-8:]
    return bool(
        np.sort(ahead)[1] > 4.0 and np.median(ahead) > 9.0 and around.min() > 1.6 and above.min() > 1.6
    )
