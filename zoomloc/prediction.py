"""What the localizer says of one photo."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Place:
    """A place the photo may be from: a point in WGS 84 degrees, and the path of its leaf.

    probability: what lies within the prediction's `radius_m` of the point and of no place named before it.
    """

    lat: float
    lon: float
    probability: float
    path: tuple[int, ...]


@dataclass(frozen=True)
class Prediction:
    """Where one photo was taken.

    photo, region: names as the user gave them. lat, lon: the answer, WGS 84 degrees. probability: of the answer's
    leaf (`path`). places: at least `radius_m` apart, best first. search: how they were found. not_here: the
    probability that the photo was not taken in the region. threshold: from where on it is too high, so that the photo
    is not `located`, and the answer only the best there would be. unexpanded: at most so much is where the search did
    not look. If it was taken here, then with 50 % and 90 % probability: radius_50_m, radius_90_m, within this circle
    around the answer; area_50_m2, area_90_m2, on so much ground, the likeliest leaves together (all nan where the
    search kept too little). posterior: (side, side) float32 over all leaves, row 0 in the north; None unless the
    whole tree was searched. heading_deg: where the camera looked, clockwise from true north, if it stood at the
    answer: the direction around which the most of the probability lies; heading_50_deg and heading_90_deg: how far to
    each side of it 50 % and 90 % lie; headings: (BINS,) the probabilities of all of `zoomloc.heading`'s bins. All
    None where the model says nothing of it.
    """

    photo: str
    region: str
    lat: float
    lon: float
    probability: float
    radius_50_m: float
    radius_90_m: float
    area_50_m2: float
    area_90_m2: float
    path: tuple[int, ...]
    places: tuple[Place, ...]
    radius_m: float
    search: str
    not_here: float = 0.0
    threshold: float = 0.5
    unexpanded: float = 0.0
    posterior: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    heading_deg: float | None = None
    heading_50_deg: float | None = None
    heading_90_deg: float | None = None
    headings: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    @property
    def located(self) -> bool:
        """Whether the photo is held to be from the region; if not, it is "not in this region"."""
        return self.not_here <= self.threshold
