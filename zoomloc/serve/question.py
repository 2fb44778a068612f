"""From an upload and the fields beside it to what the worker is asked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from zoomloc import panorama, photo
from zoomloc.encoder import shrink
from zoomloc.errors import CheckpointError, PriorError
from zoomloc.localizer import Localizer, Search
from zoomloc.priors import Prior, Within, box, check_on, circle, facing_of_photo, of_photo
from zoomloc.region import Region
from zoomloc.serve.worker import Question


@dataclass(frozen=True)
class Known:
    """What one request says of all its photos; `of` makes it, from the fields as they were sent."""

    region: Region
    priors: Sequence[Prior]
    gps_sigma_m: float | None
    heading_sigma_deg: float | None
    how: Search
    top_k: int
    radius_m: float
    photo_px: int

    @classmethod
    def of(
        cls,
        localizer: Localizer,
        region: Region,
        *,
        near: str | None,
        within: str | None,
        gps_sigma_m: float | None,
        heading_sigma_deg: float | None,
        how: Search,
        top_k: int,
        radius_m: float,
    ) -> "Known":
        """Raises PriorError and CheckpointError where the fields are not understood or the model cannot use them."""
        if how != "posterior" and any(
            value is not None for value in (near, within, gps_sigma_m, heading_sigma_deg)
        ):
            raise PriorError(f"search {how}: cannot use what else is known; use posterior")
        if heading_sigma_deg is not None and not localizer.states_headings:
            raise CheckpointError("heading_prior: the model says nothing of headings; leave it out")
        priors = [] if near is None else [circle(near, "near")]
        if within is not None:
            priors.append(Within(_area(within)))
        for prior in priors:
            check_on(region, prior, "near or within")
        px = localizer.model.config.photo_px
        return cls(region, priors, gps_sigma_m, heading_sigma_deg, how, top_k, radius_m, px)


def read(name: str, content: bytes, known: Known) -> Question:
    """Decode one photo of a request. Raises PhotoError, which names it and says what is wrong."""
    loaded = photo.load(name, content=content)
    around = panorama.views(loaded) if known.how == "posterior" else []
    own = [] if known.gps_sigma_m is None else of_photo(loaded, known.gps_sigma_m or None)
    facing = (
        []
        if known.heading_sigma_deg is None or around
        else facing_of_photo(loaded, known.heading_sigma_deg or None)
    )
    return Question(
        name=name,
        images=np.stack([shrink(pixels, known.photo_px) for pixels in around or [loaded.pixels]]),
        fov_deg=panorama.FOV_DEG if around else loaded.fov_deg or math.nan,
        region=known.region,
        priors=[*known.priors, *own, *facing],
        how=known.how,
        top_k=known.top_k,
        radius_m=known.radius_m,
    )


def _area(text: str) -> shapely.Geometry:
    """Text alone: a client's words must never name a file here."""
    if not text.lstrip().startswith("{"):
        return box(text, "within", "GeoJSON or ")
    try:
        area = shapely.make_valid(shapely.from_geojson(text))
    except shapely.GEOSException:
        raise PriorError("within: not GeoJSON that can be read; send a Polygon or MultiPolygon") from None
    if not area.area > 0:
        raise PriorError("within: has no polygon; draw the area to search")
    west, south, east, north = area.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise PriorError("within: no such place; write longitude, latitude in degrees, WGS 84")
    return area
