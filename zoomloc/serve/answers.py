"""What the service says, as JSON: the fields of `outputs.record`, described."""

from typing import Annotated

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Why there is no answer, in one line."""

    detail: str


class Candidate(BaseModel):
    """A place the photo may be from, WGS 84 degrees; probability: within radius_m of it, and of no place before."""

    lat: float
    lon: float
    probability: float
    path: list[int]


class Located(BaseModel):
    """Where one photo was taken, in the region asked about; `located` is false where it is held to be from elsewhere,
    or the region has no imagery but what was made up (`status`). The radii and areas hold 50 % and 90 % of the
    probability if it was taken here, null where unknown."""

    photo: str
    region: str
    lat: Annotated[float | None, Field(description="Null where there is no imagery.")]
    lon: float | None
    probability: Annotated[float, Field(description="Of the answer's cell.")]
    radius_50_m: float | None
    radius_90_m: float | None
    area_50_m2: float | None
    area_90_m2: float | None
    heading_deg: Annotated[
        float | None, Field(description="Clockwise from true north; null where the model says nothing of it.")
    ]
    heading_50_deg: float | None
    heading_90_deg: float | None
    located: bool
    status: Annotated[str, Field(description="located, not here, or no imagery.")]
    not_here: Annotated[float, Field(description="Probability of not having been taken in the region.")]
    unexpanded: Annotated[float, Field(description="At most so much lies where the search did not look.")]
    search: str
    path: list[int]
    radius_m: float
    places: list[Candidate]


class Failed(BaseModel):
    """A photo that could not be used, and why."""

    photo: str
    error: str


class Answers(BaseModel):
    """In the order of the upload."""

    photos: list[Located | Failed]


class RegionFacts(BaseModel):
    """A region that can be asked about; outline: its square's corners, GeoJSON, WGS 84."""

    name: str
    crs: str
    size_m: float
    leaf_m: float
    attribution: str
    outline: dict[str, object]


class Health(BaseModel):
    status: str
