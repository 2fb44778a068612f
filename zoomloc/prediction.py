"""What the localizer says of one photo."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Place:
    """A leaf as an answer: its centre in WGS 84 degrees, its probability, its path from the root."""

    lat: float
    lon: float
    probability: float
    path: tuple[int, ...]


@dataclass(frozen=True)
class Prediction:
    """Where one photo was taken.

    photo, region: names as the user gave them. lat, lon: the answer, WGS 84 degrees. probability: of the
    answer's leaf (`path`). radius_50_m, radius_90_m: circles around the answer that hold 50 % and 90 % of the
    probability found (nan where the search kept too little of it). places: the best leaves, best first.
    posterior: (side, side) float32 over all leaves, row 0 in the north; None unless the whole tree was searched.
    """

    photo: str
    region: str
    lat: float
    lon: float
    probability: float
    radius_50_m: float
    radius_90_m: float
    path: tuple[int, ...]
    places: tuple[Place, ...]
    search: str
    posterior: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
