"""What else is known of where a photo was taken, as factors on the probabilities of a map's leaves.

A prior is a density over the ground; what it says of a leaf is its mean over the leaf, beside the even density of the
map, which is what a search takes for granted. Every prior may be wrong: with a small probability it says nothing, and
that is what keeps a position two kilometres off from silencing the photo. Several priors multiply, leaf by leaf.

"Not here" has a factor too: the prior's share beyond the map, where as much ground is counted as on the map.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Geod
from scipy.special import ndtr

from zoomloc.errors import PriorError
from zoomloc.gpx import Clock
from zoomloc.gpx import clock as load_clock
from zoomloc.grid import Grid
from zoomloc.heading import BIN_DEG, BINS
from zoomloc.photo import Photo
from zoomloc.region import Region

WRONG = 0.02  # the probability that a prior says nothing
GPS_SIGMA_M = 100.0  # of a position whose camera does not tell
HEADING_SIGMA_DEG = 15.0  # of a compass in a street
CIRCLE_CORNERS = 128

Boxes = NDArray[np.float64]  # (n, 4): west, south, east, north in a grid's CRS
Values = NDArray[np.float64]


class Density(Protocol):
    """A prior on the ground of one grid."""

    def mass(self, boxes: Boxes) -> Values:
        """The share of the prior in each box, (n,)."""

    def most(self, boxes: Boxes) -> Values:
        """No less than the density anywhere in each box, per m², (n,)."""


class Prior(Protocol):
    """Something known of the position; of the heading, see Facing. wrong: the probability that it says nothing."""

    @property
    def wrong(self) -> float: ...

    def on(self, grid: Grid) -> Density: ...


@dataclass(frozen=True)
class Around:
    """A measured position: a Gaussian around a point in WGS 84 degrees, sigma_m along each axis."""

    lat: float
    lon: float
    sigma_m: float
    wrong: float = WRONG

    def on(self, grid: Grid) -> Density:
        return _Gaussian(np.array(grid.project(self.lat, self.lon)), self.sigma_m)


@dataclass(frozen=True)
class Within:
    """Even over an area: a (multi-)polygon in WGS 84, coordinates in (lon, lat) order."""

    area: shapely.Geometry
    wrong: float = WRONG

    def on(self, grid: Grid) -> Density:
        return _Even(shapely.transform(self.area, lambda p: np.array([grid.project(y, x) for x, y in p])))


@dataclass(frozen=True)
class Facing:
    """A measured heading of the camera, clockwise from true north, with its standard deviation. wrong: the probability
    that it says nothing."""

    heading_deg: float
    sigma_deg: float
    wrong: float = WRONG

    def on(self, grid: Grid) -> Values:
        """How much likelier it makes each of the heading's bins than they are evenly, (BINS,), clockwise from the
        grid's north."""
        lat, lon = grid.unproject(*grid.centre(grid.root))
        lean_deg = float(grid.convergence_deg(np.array([lat]), np.array([lon]))[0])
        off = np.arange(BINS) * BIN_DEG + lean_deg - self.heading_deg
        turns = (off + 180) % 360 - 180 + 360 * np.arange(-3, 4)[:, None]  # around the circle, for wide ones
        density = np.exp(-((turns / self.sigma_deg) ** 2) / 2).sum(axis=0)
        return np.asarray((1 - self.wrong) * density / density.mean() + self.wrong)


def near(lat: float, lon: float, radius_m: float, *, wrong: float = WRONG) -> Within:
    """Even over a circle on the ground."""
    azimuths = np.linspace(360, 0, CIRCLE_CORNERS, endpoint=False)
    same = np.ones(CIRCLE_CORNERS)
    lons, lats, _ = Geod(ellps="WGS84").fwd(lon * same, lat * same, azimuths, radius_m * same)
    return Within(shapely.Polygon(np.column_stack([lons, lats])), wrong)


class Evidence:
    """All that is known besides the photo, on one grid: the one place where priors multiply.

    Called with numbers of cells, level by level from the root 0 on (see `generation.search.best_first`), it gives a
    factor for each: of a leaf its own, of an inner cell a bound on those of its leaves. not_here: the factor of that.
    headings: factors of the camera's headings, (BINS,) clockwise from the grid's north, None where nothing is known.
    """

    def __init__(self, priors: Sequence[Prior | Facing], grid: Grid) -> None:
        self.grid = grid
        self._densities = [(prior.on(grid), prior.wrong) for prior in priors if not isinstance(prior, Facing)]
        headings = [prior.on(grid) for prior in priors if isinstance(prior, Facing)]
        self.headings: Values | None = np.prod(headings, axis=0) if headings else None
        n = grid.branch**2
        self._first = [(n**level - 1) // (n - 1) for level in range(grid.depth + 2)]
        self._area_m2 = grid.size_m**2
        root = np.array([grid.bounds(grid.root)])
        beyond = [(1 - wrong) * (1 - density.mass(root)[0]) + wrong for density, wrong in self._densities]
        self.not_here = float(np.prod(beyond))

    def __call__(self, numbers: NDArray[np.int64]) -> Values:
        factors = np.empty(len(numbers))
        level = np.searchsorted(self._first, numbers, side="right") - 1
        for each in np.unique(level):
            at = level == each
            boxes = self._boxes(numbers[at] - self._first[each], int(each))
            factors[at] = self.leaves(boxes) if each == self.grid.depth else self.bounds(boxes)
        return factors

    def of(self, paths: NDArray[np.int64]) -> Values:
        """Factors of the leaves that paths (n, depth) lead to."""
        weights = self.grid.branch ** (2 * np.arange(self.grid.depth - 1, -1, -1))
        return self.leaves(self._boxes(paths @ weights, self.grid.depth))

    def leaves(self, boxes: Boxes) -> Values:
        """Factors of leaves (n, 4): the mean of every prior over them, beside an even one's."""
        even = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / self._area_m2
        parts = [(1 - wrong) * density.mass(boxes) / even + wrong for density, wrong in self._densities]
        return np.asarray(np.prod(parts, axis=0)) if parts else np.ones(len(boxes))

    def bounds(self, boxes: Boxes) -> Values:
        """No less than the factor of any leaf in the boxes (n, 4)."""
        parts = [
            (1 - wrong) * density.most(boxes) * self._area_m2 + wrong for density, wrong in self._densities
        ]
        return np.asarray(np.prod(parts, axis=0)) if parts else np.ones(len(boxes))

    def _boxes(self, numbers: NDArray[np.int64], level: int) -> Boxes:
        """Of cells counted from 0 in their level."""
        branch = self.grid.branch
        digits = numbers[:, None] // branch ** (2 * np.arange(level - 1, -1, -1)) % branch**2
        weights = branch ** np.arange(level - 1, -1, -1)
        rows, cols = digits // branch @ weights, digits % branch @ weights
        side_m, (west, north) = self.grid.side_m(level), self.grid.north_west
        left, top = west + cols * side_m, north - rows * side_m
        return np.column_stack([left, top - side_m, left + side_m, top])


@dataclass(frozen=True)
class _Gaussian:
    centre: NDArray[np.float64]
    sigma_m: float

    def mass(self, boxes: Boxes) -> Values:
        low, high = ((corner - self.centre) / self.sigma_m for corner in (boxes[:, :2], boxes[:, 2:]))
        # On the side where the tails are small, so that far boxes keep their digits.
        flip = low > 0
        low, high = np.where(flip, -high, low), np.where(flip, -low, high)
        return np.asarray(np.prod(ndtr(high) - ndtr(low), axis=1))

    def most(self, boxes: Boxes) -> Values:
        nearest = np.clip(self.centre, boxes[:, :2], boxes[:, 2:])
        squares = (((nearest - self.centre) / self.sigma_m) ** 2).sum(axis=1)
        return np.asarray(np.exp(-squares / 2) / (2 * math.pi * self.sigma_m**2))


@dataclass(frozen=True)
class _Even:
    area: shapely.Geometry

    def mass(self, boxes: Boxes) -> Values:
        found = shapely.box(*boxes.T)
        shapely.prepare(self.area)
        share = np.where(shapely.contains_properly(self.area, found), shapely.area(found), 0.0)
        border = shapely.intersects(self.area, found) & (share == 0)
        share[border] = shapely.area(shapely.intersection(self.area, found[border]))
        return share / self.area.area

    def most(self, boxes: Boxes) -> Values:
        shapely.prepare(self.area)
        return shapely.intersects(self.area, shapely.box(*boxes.T)) / self.area.area


# --- what a user writes


def of_photo(
    photo: Photo, sigma_m: float | None = None, *, clock: Clock | None = None, wrong: float = WRONG
) -> list[Prior]:
    """The position in a photo's EXIF, else that of the clock's tracks at its time, none where neither is known.

    sigma_m: the camera's own word by default.
    """
    if photo.lat is not None and photo.lon is not None:
        return [Around(photo.lat, photo.lon, sigma_m or photo.accuracy_m or GPS_SIGMA_M, wrong)]
    if clock is not None and (found := clock.place(photo.captured_at)):
        return [Around(*found[1], sigma_m or GPS_SIGMA_M, wrong)]
    return []


def tracks(files: Sequence[Path | str], offset: str | None, sigma_m: float | None) -> Clock | None:
    """What --gpx and --time-offset say, None where nothing. sigma_m: of --gps-prior.

    Raises PriorError where that is missing, SourceError for files and offsets that are not understood.
    """
    if not files and offset is None:
        return None
    if not files:
        raise PriorError(f"--time-offset {offset}: says when a track was where; name the track with --gpx")
    if sigma_m is None:
        raise PriorError(f"--gpx {files[0]}: say with --gps-prior to how many metres its positions are good")
    return load_clock(files, offset)


def facing_of_photo(photo: Photo, sigma_deg: float | None = None, *, wrong: float = WRONG) -> list[Facing]:
    """The heading in a photo's EXIF, none where it has none."""
    if photo.heading_deg is None:
        return []
    return [Facing(photo.heading_deg, sigma_deg or HEADING_SIGMA_DEG, wrong)]


def all_of_photo(
    photo: Photo, gps_sigma_m: float | None, heading_sigma_deg: float | None, *, clock: Clock | None = None
) -> list[Prior | Facing]:
    """`of_photo` and `facing_of_photo` together: None leaves one out, 0 is for what the camera says or is usual."""
    places = [] if gps_sigma_m is None else of_photo(photo, gps_sigma_m or None, clock=clock)
    headings = [] if heading_sigma_deg is None else facing_of_photo(photo, heading_sigma_deg or None)
    return [*places, *headings]


def asked(
    region: Region, *, near_text: str | None = None, within_text: str | None = None, wrong: float = WRONG
) -> list[Prior]:
    """Priors in a user's words: near_text "LAT,LON,RADIUS_M"; within_text a GeoJSON file or "WEST,SOUTH,EAST,NORTH".

    Raises PriorError where they are not understood or lie off the region.
    """
    priors: list[tuple[str, Prior]] = []
    if near_text is not None:
        priors.append((f"--near {near_text}", circle(near_text, "--near", wrong=wrong)))
    if within_text is not None:
        priors.append((f"--within {within_text}", Within(_area(within_text), wrong)))
    for words, prior in priors:
        check_on(region, prior, words)
    return [prior for _, prior in priors]


def check_on(region: Region, prior: Prior, words: str) -> None:
    """Raises PriorError, with the user's words for the prior, where it lies off the region."""
    root = np.array([region.grid.bounds(region.grid.root)])
    if not prior.on(region.grid).mass(root)[0] > 0:
        raise PriorError(f"{words}: lies off the region '{region.name}'; check the order of the numbers")


def circle(text: str, option: str, *, wrong: float = WRONG) -> Within:
    """The prior that "LAT,LON,RADIUS_M" says. option: its name in errors. Raises PriorError."""
    lat, lon, radius_m = _numbers(text, option, "LAT,LON,RADIUS_M")
    _check_degrees(f"{option} {text}", lat, lon)
    if radius_m <= 0:
        raise PriorError(f"{option} {text}: give a radius above 0 m")
    return near(lat, lon, radius_m, wrong=wrong)


def box(text: str, option: str, or_else: str = "") -> shapely.Geometry:
    """The area that "WEST,SOUTH,EAST,NORTH" says. option, or_else: in errors, its name and what else could be
    written. Raises PriorError."""
    west, south, east, north = _numbers(text, option, f"{or_else}WEST,SOUTH,EAST,NORTH")
    _check_degrees(f"{option} {text}", south, west)
    _check_degrees(f"{option} {text}", north, east)
    if not (west < east and south < north):
        raise PriorError(f"{option} {text}: write WEST,SOUTH,EAST,NORTH in degrees")
    return shapely.segmentize(shapely.box(west, south, east, north), 0.01)


def _area(text: str) -> shapely.Geometry:
    if Path(text).suffix.lower() in {".geojson", ".json"} or Path(text).is_file():
        return _read_area(Path(text))
    return box(text, "--within", "a GeoJSON file or ")


def _read_area(path: Path) -> shapely.Geometry:
    import geopandas as gpd

    if not path.is_file():
        raise PriorError(f"{path}: no such file; give a GeoJSON file with polygons")
    try:
        frame = gpd.read_file(path)
        area = shapely.make_valid(frame.to_crs("EPSG:4326").geometry.union_all())
    except Exception as error:  # GDAL's reader fails in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PriorError(f"{path}: not GeoJSON that can be read ({reason}); export it again") from None
    if not area.area > 0:
        raise PriorError(f"{path}: has no polygon; draw the area to search")
    return area


def _numbers(text: str, option: str, form: str) -> list[float]:
    wanted = form.split(" or ")[-1].count(",") + 1
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != wanted or not all(map(math.isfinite, values)):
        raise PriorError(f"{option} {text}: not understood; write {form}")
    return values


def _check_degrees(words: str, lat: float, lon: float) -> None:
    if not (abs(lat) <= 90 and abs(lon) <= 180):
        raise PriorError(f"{words}: no such place; latitudes are in -90..90, longitudes in -180..180")
