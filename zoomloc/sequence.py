"""Photos one after the other: a hidden Markov chain over the leaves of a map, filtered forward, smoothed backward.

The state is a leaf, or "not here". Between photos somebody moves: a Gaussian step whose root mean square is a speed
times the time, from anywhere in a leaf, so that the chance to cross into the next one is right however short the
step; who steps over the map's edge is not here. What a photo says of a state is the model's probability divided by
what the model takes for granted, raised to a power below 1, because the errors of one model on neighbouring photos
are alike and must not count as often as there are photos; and with a small probability a photo says nothing at all.

Kept are the leaves that hold all but a small share of the probability: few where photos are sure, most of the map where
they are not. That share is spread evenly over the others, so that a place given up can come back. With nothing cut off,
this is the forward-backward algorithm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtr

from zoomloc.grid import Grid
from zoomloc.posterior import Leaves, rows_cols
from zoomloc.priors import Evidence

SPEEDS_M_S = {"walk": 1.5, "cycle": 5.0, "drive": 10.0}
CLOCK_S = 0.5  # cameras tell whole seconds
REACH_SIGMAS = 4.0  # where steps are cut off
DENSE = 16  # from one leaf in so many on, a full matrix is faster than a sparse one

Values = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Motion:
    """How somebody moves, and how far photos are to be believed.

    speed_m_s: root mean square. exponent: of a photo's likelihood. mute: the probability that a photo says nothing.
    lost: of a jump to anywhere between two photos. returns: of being on the map again after not being here.
    elsewhere: the probability of not being here that the model takes for granted, and that a jump leads to.
    cut: the share of the probability that is spread evenly to keep few leaves.

    The exponent, and that photos are mute at times, were chosen on simulated drives with a photo every ten metres or
    so (see docs/results/context.md).
    """

    speed_m_s: float = SPEEDS_M_S["walk"]
    exponent: float = 0.25
    mute: float = 0.05
    lost: float = 1e-3
    returns: float = 0.05
    elsewhere: float = 0.5
    cut: float = 1e-3


@dataclass(frozen=True)
class Sighting:
    """What one photo says of the states, beside saying nothing, which is 1 for all: of leaves (their numbers, row by
    row, increasing) the likelihood (n,), of all other leaves `others`, and of not being here."""

    numbers: Numbers
    likelihood: Values
    others: float
    not_here: float


@dataclass(frozen=True)
class Belief:
    """Where somebody is: leaves (numbers, row by row, increasing) and their probabilities (n,), the probability that is
    spread evenly over the others, and that of not being here. All sums to 1."""

    numbers: Numbers
    probabilities: Values
    others: float
    not_here: float

    def leaves(self, grid: Grid) -> Leaves:
        """As a search would have found them."""
        order = np.argsort(-self.probabilities, kind="stable")
        paths = _paths(self.numbers[order], grid)
        return Leaves(paths, self.probabilities[order], self.not_here, self.others)


def sighting(leaves: Leaves, grid: Grid, motion: Motion) -> Sighting:
    """What the posterior of a photo says of where it was taken, whatever the photos around it."""
    n = grid.n_cells(grid.depth) ** 2
    kept = _holding(leaves.probabilities, motion.cut * float(leaves.probabilities.sum()))
    rows, cols = rows_cols(leaves.paths[kept], grid.branch)
    numbers = rows * grid.n_cells(grid.depth) + cols
    order = np.argsort(numbers)
    numbers, probabilities = numbers[order], leaves.probabilities[kept][order]
    even = (1 - motion.elsewhere) / n
    left = leaves.unexpanded + float(leaves.probabilities[~kept].sum())
    left = left / (n - len(numbers)) if len(numbers) < n else 0.0

    def said(ratio: Any) -> Any:
        return (1 - motion.mute) * ratio**motion.exponent + motion.mute

    return Sighting(
        numbers,
        said(probabilities / even),
        float(said(left / even)),
        float(said(leaves.not_here / motion.elsewhere)),
    )


def smooth(
    sightings: Sequence[Sighting],
    seconds: Sequence[float],
    grid: Grid,
    motion: Motion,
    known: Evidence | None = None,
) -> tuple[list[Belief], list[Belief]]:
    """Where somebody was at every photo: by the photos up to it (filtered), and by all of them (smoothed).

    seconds: when each was taken, not decreasing. known: of the whole walk, such as an area it was in. It counts once,
    where the walk begins: if it is wrong, it is so for all photos.
    """
    chain = _Chain(grid, motion)
    gaps_s = np.diff(seconds)
    before: list[Belief] = []
    filtered: list[Belief] = []
    for i, seen in enumerate(sightings):
        before.append(chain.moved(filtered[-1], gaps_s[i - 1]) if i else chain.start(known))
        prior, posterior = chain.updated(before[-1], seen)
        before[-1] = prior
        filtered.append(posterior)
    smoothed = filtered[-1:]
    for i in range(len(filtered) - 2, -1, -1):
        smoothed.append(chain.seen_from(filtered[i], before[i + 1], smoothed[-1], gaps_s[i]))
    return filtered, smoothed[::-1]


def together(found: Sequence[Leaves], grid: Grid, motion: Motion) -> Leaves:
    """Where several photos of one place were taken, by all of them: no one moves. One photo alone keeps its own
    posterior only if the motion's exponent is 1 and its photos are never mute."""
    chain = _Chain(grid, motion)
    belief = chain.start()
    for leaves in found:
        _, belief = chain.updated(belief, sighting(leaves, grid, motion))
    return belief.leaves(grid)


class _Chain:
    """The steps of the algorithm on one grid."""

    def __init__(self, grid: Grid, motion: Motion) -> None:
        self.motion, self.grid = motion, grid
        self.side, self.leaf_m = grid.n_cells(grid.depth), grid.leaf_m
        self.n = self.side**2

    def start(self, known: Evidence | None = None) -> Belief:
        away = self.motion.elsewhere
        if known is None:
            return Belief(np.empty(0, np.int64), np.empty(0), 1 - away, away)
        numbers = np.arange(self.n)
        here = (1 - away) / self.n * known.of(_paths(numbers, self.grid))
        not_here, least = away * known.not_here, float(here.min())
        total = float(here.sum()) + not_here
        listed = here > least
        return Belief(
            numbers[listed], (here[listed] - least) / total, self.n * least / total, not_here / total
        )

    def moved(self, belief: Belief, gap_s: float) -> Belief:
        """One step later. The even part is left where it is, evenly."""
        m = self.motion
        stays = 1 - m.lost
        values = self._spread(belief.numbers, belief.probabilities, gap_s)
        numbers, probabilities = _listed(values)
        here = float(belief.probabilities.sum())
        jumps = m.lost * (here + belief.others)
        left = stays * (here - float(probabilities.sum()))
        others = stays * belief.others + jumps * (1 - m.elsewhere) + m.returns * belief.not_here
        not_here = (1 - m.returns) * belief.not_here + jumps * m.elsewhere + max(left, 0.0)
        return Belief(numbers, stays * probabilities, others, not_here)

    def updated(self, prior: Belief, seen: Sighting) -> tuple[Belief, Belief]:
        """The belief before a photo, listed for the leaves that are kept after it; and the belief after it."""
        numbers = np.concatenate([prior.numbers, seen.numbers])
        numbers.sort(kind="stable")  # two runs in order already, which it joins in one go
        numbers = numbers[np.diff(numbers, prepend=-1) > 0]
        before = np.full(len(numbers), prior.others / self.n)
        before[np.searchsorted(numbers, prior.numbers)] += prior.probabilities
        likelihood = np.full(len(numbers), seen.others)
        likelihood[np.searchsorted(numbers, seen.numbers)] = seen.likelihood
        after = before * likelihood
        others = prior.others * (1 - len(numbers) / self.n) * seen.others
        not_here = prior.not_here * seen.not_here
        total = float(after.sum()) + others + not_here
        kept = _holding(after, self.motion.cut * float(after.sum()))
        others += float(after[~kept].sum())
        everywhere = float(prior.probabilities.sum()) + prior.others
        unlisted = max(everywhere - float(before[kept].sum()), 0.0)
        weighed = Belief(numbers[kept], before[kept], unlisted, prior.not_here)
        return weighed, Belief(numbers[kept], after[kept] / total, others / total, not_here / total)

    def seen_from(self, filtered: Belief, before: Belief, after: Belief, gap_s: float) -> Belief:
        """The belief with what came later: from the beliefs one step on, before its photo and smoothed."""
        m = self.motion
        n_others = self.n - len(after.numbers)
        # How much likelier later photos make each state one step on.
        gain = after.probabilities / before.probabilities
        gain_others = after.others / before.others if before.others > 0 and n_others else 0.0
        gain_away = after.not_here / before.not_here if before.not_here > 0 else 0.0
        gain_anywhere = (float(gain.sum()) + n_others * gain_others) / self.n
        inside = self._inside(filtered.numbers, gap_s)
        rows, cols = np.divmod(filtered.numbers, self.side)
        to_listed = self._spread(after.numbers, gain - gain_others, gap_s)[rows, cols]
        reached = np.asarray(to_listed).ravel() + gain_others * inside + gain_away * (1 - inside)
        jump = m.lost * ((1 - m.elsewhere) * gain_anywhere + m.elsewhere * gain_away)
        probabilities = filtered.probabilities * ((1 - m.lost) * reached + jump)
        others = filtered.others * ((1 - m.lost) * gain_anywhere + jump)
        not_here = filtered.not_here * ((1 - m.returns) * gain_away + m.returns * gain_anywhere)
        total = float(probabilities.sum()) + others + not_here
        return Belief(filtered.numbers, probabilities / total, others / total, not_here / total)

    def _spread(self, numbers: Numbers, values: Values, gap_s: float) -> Any:
        """Values of leaves after a step, (side, side); sparse where there are few."""
        step = self._step(gap_s)
        if len(numbers) * DENSE < self.n:
            where = np.divmod(numbers, self.side)
            return step @ sparse.csr_array((values, where), shape=(self.side, self.side)) @ step
        field = np.zeros(self.n)
        field[numbers] = values
        return (step @ (step @ field.reshape(self.side, self.side)).T).T

    def _inside(self, numbers: Numbers, gap_s: float) -> Values:
        """The probability that a step from each leaf ends on the map."""
        along = np.asarray(self._step(gap_s).sum(axis=0)).ravel()
        rows, cols = np.divmod(numbers, self.side)
        return along[rows] * along[cols]

    def _step(self, gap_s: float) -> Any:
        """(side, side), symmetric: the probabilities of a step along one axis."""
        sigma_m = self.motion.speed_m_s * (gap_s + CLOCK_S) / math.sqrt(2)
        return _step_matrix(self.side, round(sigma_m / self.leaf_m, 8))


@lru_cache(maxsize=64)
def _step_matrix(side: int, sigma: float) -> Any:
    """Of a Gaussian step of `sigma` leaves from anywhere in a leaf: exact, cut off, and made to sum to 1."""
    reach = min(side - 1, math.ceil(REACH_SIGMAS * sigma) + 1)
    edges = np.arange(-reach - 1, reach + 2, dtype=np.float64)
    scaled = edges / max(sigma, 1e-9)
    # The integral of the Gaussian's distribution function, whose second differences are the probabilities.
    integral = edges * ndtr(scaled) + sigma * np.exp(-(scaled**2) / 2) / math.sqrt(2 * math.pi)
    steps = np.maximum(np.diff(integral, 2), 0)
    return sparse.diags_array(
        list(steps / steps.sum()), offsets=range(-reach, reach + 1), shape=(side, side), format="csr"
    )


def _listed(values: Any) -> tuple[Numbers, Values]:
    """Numbers and values of the leaves with any, increasing."""
    if sparse.issparse(values):
        found = values.tocoo()
        numbers = found.row.astype(np.int64) * values.shape[1] + found.col
        order = np.argsort(numbers)
        return numbers[order], found.data[order]
    flat = np.asarray(values).ravel()
    numbers = np.flatnonzero(flat)
    return numbers, flat[numbers]


def _holding(values: Values, left_out: float) -> NDArray[np.bool_]:
    """Which of the values are the fewest that together lack no more than `left_out`; equal ones are kept together."""
    increasing = np.sort(values)  # many times faster than the order of the values
    first = int(np.searchsorted(np.cumsum(increasing), left_out, side="right"))
    return values >= increasing[first] if first < len(values) else np.zeros(len(values), bool)


def _paths(numbers: Numbers, grid: Grid) -> Numbers:
    """(n, depth) from numbers of leaves, row by row."""
    rows, cols = np.divmod(numbers, grid.n_cells(grid.depth))
    weights = grid.branch ** np.arange(grid.depth - 1, -1, -1)
    return rows[:, None] // weights % grid.branch * grid.branch + cols[:, None] // weights % grid.branch
