"""Whether one method is better than another on the same photos, or was lucky with them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
CONFIDENCE = 0.95


class Difference(NamedTuple):
    """A difference of two shares, and the interval that holds it with 95 % confidence; all in -1..1."""

    value: float
    low: float
    high: float


def recall_difference(
    ours_m: NDArray[np.floating], theirs_m: NDArray[np.floating], radius_m: float, *, seed: int = 0
) -> Difference:
    """How much more of the photos we answer within the radius, with a paired bootstrap interval.

    ours_m, theirs_m: (N,) errors in metres on the same photos in the same order. Photos are drawn anew with
    replacement, each with both its errors; the interval is between percentiles of 10,000 draws.

    Raises ValueError where the photos cannot be the same.
    """
    if ours_m.shape != theirs_m.shape or not len(ours_m):
        raise ValueError(f"{len(ours_m)} and {len(theirs_m)} errors: give both methods' for the same photos")
    gain = (ours_m <= radius_m).astype(int) - (theirs_m <= radius_m)  # 1 won, 0 alike, -1 lost
    n = len(gain)
    # A draw of photos matters only by how many of each kind are in it.
    shares = np.array([(gain == kind).sum() for kind in (-1, 0, 1)]) / n
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=DRAWS)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile((drawn[:, 2] - drawn[:, 0]) / n, [tail, 1 - tail])
    return Difference(float(gain.mean()), float(low), float(high))
