"""What the localizer says of one photo."""

import html
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoomloc.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Status = Literal["located", "not here", "no imagery"]


@dataclass(frozen=True)
class Place:
    """A place the photo may be from: a point in WGS 84 degrees, and the path of its leaf.

    probability: what lies within the prediction's `radius_m` of the point and of no place named before it.
    """

    lat: float
    lon: float
    probability: float
    path: tuple[int, ...]


@dataclass(frozen=True, repr=False)
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
    None where the model says nothing of it. grid: the region's. no_imagery: all that the region's imagery shows was
    made up, which is never matched: nothing was looked for, and the answer, the middle of the region, says nothing.
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
    grid: Grid | None = field(default=None, repr=False, compare=False)
    no_imagery: bool = False

    @property
    def located(self) -> bool:
        """Whether the photo is held to be from the region; if not, it is "not in this region"."""
        return self.status == "located"

    @property
    def status(self) -> Status:
        """What became of the photo."""
        if self.no_imagery:
            return "no imagery"
        return "located" if self.not_here <= self.threshold else "not here"

    def __repr__(self) -> str:
        return f"<Prediction {self.photo}: {'; '.join(self._words())}>"

    def _repr_html_(self) -> str:
        """For notebooks: what is said, above the map of the probability where there is one."""
        words = "<br>".join(html.escape(each) for each in self._words())
        return f"<div><b>{html.escape(self.photo)}</b><br>{words}<br>{self._picture()}</div>"

    def to_geojson(self) -> dict[str, Any]:
        """A FeatureCollection: the answer as a point, with all that is known of it; where the whole tree was
        searched, the ground that holds 50 % and 90 % of the probability, as MultiPolygons."""
        from zoomloc.outputs import geojson

        return geojson([self], self.grid)

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw the probability over the region (log scale), the answer, the circles around it that hold 50 % and
        90 %, and the other places. axes: of matplotlib, new ones by default; in metres from the region's north-west
        corner. Raises ValueError where the prediction does not know its grid, as one made by hand."""
        from zoomloc.plot import draw

        return draw(self, axes)

    def _words(self) -> list[str]:
        if self.no_imagery:
            return [f"no imagery of {self.region} but what was made up, which is never matched"]
        answer = f"{self.lat:.6f}, {self.lon:.6f} in {self.region}"
        words = [answer if self.located else f"not in this region; if it were, {answer}"]
        words.append(f"its cell has probability {self.probability:.1%}")
        if math.isfinite(self.radius_50_m) and math.isfinite(self.radius_90_m):
            words.append(f"50 % within {self.radius_50_m:.0f} m, 90 % within {self.radius_90_m:.0f} m")
        if self.heading_deg is not None:
            words.append(f"looking to {self.heading_deg:.0f}° ± {self.heading_50_deg:.0f}°")
        if self.not_here >= 0.001:
            words.append(f"{self.not_here:.1%} not in this region")
        return words

    def _picture(self) -> str:
        if self.posterior is None or self.grid is None:
            return ""
        from zoomloc.plot import png

        return f'<img alt="probability over the region" src="data:image/png;base64,{png(self)}">'
