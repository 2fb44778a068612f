"""Photos taken on drives: along the streets, junction by junction, as a car with a camera goes."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from data_prep.cities.camera import Pose
from data_prep.cities.placement import APART_M, EDGE_M, FOV_DEG, TRIES, Placement, Split, sees
from data_prep.cities.plan import Street
from data_prep.cities.traffic import along
from data_prep.cities.world import MOMENTS, World
from zoomloc.errors import ConfigError

Floats = NDArray[np.float64]
Node = tuple[int, int]
INTERVAL_S = (1.2, 2.5)  # between photos; EXIF tells whole seconds
LONGEST_SHARE = 6.0  # a drive goes on for this many times the way that its photos need, at most


def drive(
    world: World, *, seed: int, split: Split, drives: int, fov_deg: tuple[float, float] = FOV_DEG
) -> list[Placement]:
    """All placements, test first, then val, then train: every drive's photos are of one split.

    Training photos keep as far from held-out ones as those of `placement.place`. Raises ConfigError.
    """
    rng = np.random.default_rng([seed, 11])
    roads = _Roads(world, rng)
    placements: list[Placement] = []
    number = 0
    for name, photos, of in _shares(split, drives):
        held = [(p.pose.x, p.pose.y) for p in placements if p.split != "train"]
        taken = KDTree(held) if held and name == "train" else None
        for wanted in np.diff(np.linspace(0, photos, of + 1).round().astype(int)):
            shots, moment = roads.drive(int(wanted), taken, fov_deg)
            for pose, elapsed_s in shots:
                placements.append(
                    Placement(len(placements), pose, moment, name, f"drive-{number:04d}", number, elapsed_s)
                )
            number += 1
    return placements


def _shares(split: Split, drives: int) -> list[tuple[str, int, int]]:
    """Split, photos and drives of it."""
    photos = split.test + split.val + split.train
    parts = []
    for name, n in (("test", split.test), ("val", split.val)):
        parts.append((name, n, max(1, round(drives * n / photos)) if n else 0))
    left = drives - sum(of for *_, of in parts)
    if left < 1 or photos < 2 * drives:
        raise ConfigError(
            f"{drives} drives for {photos} photos: choose at least one for every split, of two photos or more"
        )
    return [*(part for part in parts if part[1]), ("train", split.train, left)]


@dataclass(frozen=True)
class _Car:
    """What stays the same during a drive."""

    step_m: float
    speed_m_s: float
    height_m: float
    pitch_deg: float
    fov_deg: float


class _Roads:
    """The streets as a graph, on which cars choose their way by lot."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        self.streets: tuple[Street, ...] = world.plan.streets
        self.at: dict[Node, list[tuple[int, bool]]] = defaultdict(
            list
        )  # streets from a node; whether forward
        for k, street in enumerate(self.streets):
            first, last = _nodes(street)
            self.at[first].append((k, True))
            self.at[last].append((k, False))
        lengths = np.array([s.line.length for s in self.streets])
        main = np.array([s.rank != "lane" for s in self.streets])
        self.chance = lengths * (main if main.any() else True)
        self.chance = self.chance / self.chance.sum()

    def drive(
        self, wanted: int, taken: KDTree | None, fov_deg: tuple[float, float]
    ) -> tuple[list[tuple[Pose, float]], int]:
        """`wanted` poses with the seconds since the first, and the moment of the traffic around."""
        rng = self.rng
        for _ in range(TRIES):
            step_m = float(rng.uniform(6, 16))
            car = _Car(
                step_m, step_m / float(rng.uniform(*INTERVAL_S)), float(rng.uniform(1.5, 2.4)),
                float(rng.uniform(-2, 2)), float(rng.uniform(*fov_deg)),
            )  # fmt: skip
            moment = int(rng.integers(1, MOMENTS))
            shots: list[tuple[Pose, float]] = []
            for metres, pose in self._way(car, car.step_m * wanted * LONGEST_SHARE):
                if self._good(pose, moment, taken):
                    shots.append((pose, metres / car.speed_m_s))
                if len(shots) == wanted:
                    start = shots[0][1]
                    return [(pose, seconds - start) for pose, seconds in shots], moment
        raise ConfigError("no drive was long enough; choose more drives, fewer photos or a larger size")

    def _good(self, pose: Pose, moment: int, taken: KDTree | None) -> bool:
        low, high = EDGE_M, self.world.plan.size_m - EDGE_M
        if not (low < pose.x < high and low < pose.y < high):
            return False
        if taken is not None and taken.query((pose.x, pose.y))[0] < APART_M + 0.05:
            return False
        return sees(self.world, pose, moment)

    def _way(self, car: _Car, longest_m: float) -> Iterator[tuple[float, Pose]]:
        """Metres driven and pose at every step, until the way ends outside the town."""
        k, forward = int(self.rng.choice(len(self.streets), p=self.chance)), bool(self.rng.random() < 0.5)
        driven, into = 0.0, 0.0  # metres in all, and those into the street
        while driven < longest_m:
            street = self.streets[k]
            while into < street.line.length:
                at = into if forward else street.line.length - into
                yield driven, self._pose(car, street, at, forward)
                into, driven = into + car.step_m, driven + car.step_m
            into -= street.line.length
            turn = self._turn(k, forward)
            if turn is None:
                return
            k, forward = turn

    def _turn(self, k: int, forward: bool) -> tuple[int, bool] | None:
        """The next street: rather straight on, never back."""
        choices = [way for way in self.at[_nodes(self.streets[k])[forward]] if way[0] != k]
        if not choices:
            return None
        heading = _direction(self.streets[k], forward, end=True)
        ahead = np.array([heading @ _direction(self.streets[j], way, end=False) for j, way in choices])
        chance = np.exp(2.0 * ahead)
        return choices[int(self.rng.choice(len(choices), p=chance / chance.sum()))]

    def _pose(self, car: _Car, street: Street, at: float, forward: bool) -> Pose:
        p, u = along(street, at)
        u = u if forward else -u
        x, y = p + np.array([u[1], -u[0]]) * street.width_m * 0.2  # on the right-hand side
        azimuth = float(np.degrees(np.arctan2(u[0], u[1])) + self.rng.normal(0, 1.5)) % 360
        pitch, roll = car.pitch_deg + self.rng.normal(0, 0.5), self.rng.normal(0, 0.6)
        return Pose(float(x), float(y), car.height_m, azimuth, float(pitch), float(roll), car.fov_deg)


def _nodes(street: Street) -> tuple[Node, Node]:
    """Where a street begins and ends, to half a metre."""
    first, last = (np.round(np.array(street.line.coords[k]) * 2).astype(int) for k in (0, -1))
    return (int(first[0]), int(first[1])), (int(last[0]), int(last[1]))


def _direction(street: Street, forward: bool, *, end: bool) -> Floats:
    """Unit vector in which a car enters or leaves a street."""
    _, u = along(street, street.line.length if forward == end else 0.0)
    return u if forward else -u
