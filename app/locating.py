"""From an upload to a prediction, and what the posterior says of any cell."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoomloc import panorama, priors
from zoomloc.errors import PhotoError, PriorError
from zoomloc.grid import Grid
from zoomloc.photo import MAX_SIDE_PX, Photo, facts, load
from zoomloc.prediction import Prediction
from zoomloc.region import Region

if TYPE_CHECKING:
    from zoomloc.localizer import Localizer

LARGE_PIXELS = 40_000_000
# Words of the command line, and those of the page.
WORDS = {"--near": "Circle", "--within": "Area"}


@dataclass(frozen=True)
class Given:
    """A photo that the user gave. key: of its content. name: as the user knows it. note: a line worth telling."""

    key: str
    name: str
    photo: Photo
    note: str | None = None


@dataclass(frozen=True)
class Clues:
    """What the user says is known besides the photo.

    area: "west,south,east,north" in degrees. circle: "lat,lon,radius_m". heading_deg: clockwise from north, to so
    many degrees (1 sigma). exif: whether the photo's own position counts. Empty or None: nothing.
    """

    area: str = ""
    circle: str = ""
    heading_deg: float | None = None
    heading_sigma_deg: float = priors.HEADING_SIGMA_DEG
    exif: bool = False


def read(name: str, content: bytes) -> Given:
    """Raises PhotoError, one line that names the file as the user does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"photo{Path(name).suffix}"
        path.write_bytes(content)
        try:
            height, width, _ = facts(path).pixels.shape
            photo = load(path)
        except PhotoError as error:
            raise PhotoError(str(error).replace(str(path), name)) from None
    note = None
    if width * height > LARGE_PIXELS:
        note = f"{name} has {width * height / 1e6:.0f} megapixels; it is looked at {MAX_SIDE_PX} pixels wide."
    return Given(hashlib.sha256(content).hexdigest()[:16], name, photo, note)


def known(clues: Clues, region: Region, photo: Photo) -> list[priors.Prior | priors.Facing]:
    """The clues as priors. Raises PriorError, in the words of the page."""
    found: list[priors.Prior | priors.Facing] = []
    if clues.area and clues.area.count(",") != 3:
        raise PriorError("Area: give west, south, east, north in degrees, such as 9.51, 51.45, 9.53, 51.46")
    try:
        found += priors.asked(region, near_text=clues.circle or None, within_text=clues.area or None)
    except PriorError as error:
        text = str(error)
        for option, word in WORDS.items():
            text = text.replace(option, word)
        raise PriorError(text) from None
    if clues.heading_deg is not None:
        found.append(priors.Facing(clues.heading_deg, clues.heading_sigma_deg))
    if clues.exif:
        found += priors.of_photo(photo)
    return found


def answer(localizer: "Localizer", region: Region, given: Given, clues: Clues) -> Prediction:
    """Where the photo was taken. Raises ZoomlocError or tiles.TilesError."""
    its = known(clues, region, given.photo)
    around = panorama.views(given.photo)
    if around:
        position = [each for each in its if not isinstance(each, priors.Facing)]
        return panorama.locate(localizer, around, region, name=given.name, priors=position)
    return localizer.locate(
        [given.photo.pixels],
        region,
        names=[given.name],
        fovs_deg=[given.photo.fov_deg],
        priors=[its],
    )[0]


def share(posterior: NDArray[np.float32], grid: Grid, path: Sequence[int]) -> float:
    """The probability of all leaves in the cell that a path leads to."""
    cell = grid.cell(tuple(path))
    n = len(posterior) // grid.n_cells(cell.level)
    return float(posterior[cell.row * n : (cell.row + 1) * n, cell.col * n : (cell.col + 1) * n].sum())
