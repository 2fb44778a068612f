"""Whether probabilities hold what they promise: calibration errors, coverage, telling where photos are not from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoomloc.files import atomic

BINS = 10
SHARES = (0.5, 0.9)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Claims:
    """What was claimed of N photos that are from the map, given that they are, and what came true.

    within: (N,) the probability that the answer is no more than a radius off. is_within: (N,) whether it was. before,
    own: (N,) what the leaves more probable than the true one hold together, and what that holds. is_around: (N, 2)
    whether the truth is in the circles around the answer that hold 50 % and 90 %. located: (N,) whether they were not
    called "not in this region".
    """

    within: Floats
    is_within: NDArray[np.bool_]
    before: Floats
    own: Floats
    is_around: NDArray[np.bool_]
    located: NDArray[np.bool_]


@dataclass(frozen=True)
class Trust:
    """ece: the expected calibration error of being within the radius, in 10 bins of as many photos each; ece_by_chance:
    what it would be for as many photos if every probability were right. area, circle: how often the truth is on the
    likeliest ground, and in the circle around the answer, that hold 50 % and 90 %. located: the share of photos not
    called "not in this region". bins: (photos, mean probability, share within) each.
    """

    ece: float
    ece_by_chance: float
    area: dict[float, float]
    circle: dict[float, float]
    located: float
    bins: "list[Bin]"


def all_of(parts: Sequence[Claims]) -> Claims:
    """Those of several sets of photos, one after the other."""
    return Claims(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Claims)))


def trust(claims: Claims) -> Trust:
    """The figures of a set of photos."""
    return Trust(
        ece=calibration_error(claims.within, claims.is_within),
        ece_by_chance=error_by_chance(claims.within),
        area={share: covered(claims.before, claims.own, share) for share in SHARES},
        circle=dict(zip(SHARES, claims.is_around.mean(0).tolist(), strict=True)),
        located=float(claims.located.mean()),
        bins=bins(claims.within, claims.is_within),
    )


class Bin(NamedTuple):
    """Of n answers: the mean of the probabilities claimed, and the share that came true."""

    n: int
    claimed: float
    came_true: float


def bins(claimed: Floats, true: NDArray[np.bool_]) -> list[Bin]:
    """Answers in BINS bins of as many each, from the least to the most probable."""
    parts = np.array_split(np.argsort(claimed, kind="stable"), min(BINS, len(claimed)))
    return [Bin(len(part), float(claimed[part].mean()), float(true[part].mean())) for part in parts]


def calibration_error(claimed: Floats, true: NDArray[np.bool_]) -> float:
    """The expected calibration error: of the bins, the mean of |claimed - came true|, weighed by size."""
    return float(sum(b.n * abs(b.claimed - b.came_true) for b in bins(claimed, true)) / len(claimed))


def error_by_chance(claimed: Floats, *, draws: int = 200, seed: int = 0) -> float:
    """The calibration error that so many answers would show by chance if every probability were right."""
    random = np.random.default_rng(seed)
    return float(
        np.mean([calibration_error(claimed, random.random(len(claimed)) < claimed) for _ in range(draws)])
    )


def covered(before: Floats, own: Floats, share: float) -> float:
    """How often the truth lies on the likeliest ground that holds a share of the probability.

    before, own: (N,) what the leaves more probable than the true one hold together, and what that holds. Of the last
    leaf needed only as much ground counts as is needed, so that leaves of much probability do not cover too much.
    """
    return float(np.clip((share - before) / np.maximum(own, 1e-12), 0, 1).mean())


def auroc(here: Floats, elsewhere: Floats) -> float:
    """The probability that a photo from elsewhere has a higher score than one from here; equal ones count half."""
    ordered = np.sort(here)
    below, up_to = np.searchsorted(ordered, elsewhere, "left"), np.searchsorted(ordered, elsewhere, "right")
    return float((below + up_to).mean() / 2 / len(here))


def plot(claims: dict[str, Claims], path: Path) -> None:
    """Draw reliability, and coverage at every share, of sets of photos by name. Raises OutputError."""
    from matplotlib.figure import Figure  # here: importing it takes long

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    shares = np.linspace(0, 1, 101)
    for name, each in claims.items():
        found = bins(each.within, each.is_within)
        left.plot([b.claimed for b in found], [b.came_true for b in found], "o-", ms=4, label=name)
        right.plot(shares, [covered(each.before, each.own, share) for share in shares], label=name)
    most = max(
        max(b.claimed, b.came_true) for each in claims.values() for b in bins(each.within, each.is_within)
    )
    for axes, end in ((left, min(1.0, 1.1 * most)), (right, 1.0)):
        axes.plot([0, end], [0, end], color="0.6", lw=1, ls="--", label="as promised")
        axes.set_aspect("equal")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    left.set(xlabel="probability of being within the radius", ylabel="share of photos that were")
    right.set(xlabel="probability that the likeliest ground holds", ylabel="share of photos taken on it")
    with atomic(path) as draft:
        figure.savefig(draft, dpi=120)
