"""The zoom grid: a square of a projected CRS, split again and again into branch x branch cells.

Pure geometry. A cell is (level, row, col), rows counted from the north, columns from the west; level 0 is the
whole square. A path is the way to a cell: the child taken at every level, 0..branch²-1, row-major from the
north-west. Lines are placed by integer cell arithmetic, so children share their parent's edges exactly.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import ceil, floor, isfinite
from typing import NamedTuple, TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Geod, Proj, Transformer
from pyproj.exceptions import CRSError

from tiles.bounds import Bounds, cell_bounds, offset_m
from zoomloc.errors import OutsideRegion, RegionError

WGS84 = "EPSG:4326"
MAX_STRETCH = 0.01  # how far a metre of the CRS may differ from a metre on the ground
EDGE_STEP_M = 500.0  # a straight line of this length in the CRS bends by less than 2 cm in WGS 84 (below 70°)


Degrees = TypeVar("Degrees", float, NDArray[np.float64])


class Cell(NamedTuple):
    """A node of the grid."""

    level: int
    row: int
    col: int


@dataclass(frozen=True)
class Grid:
    """An exactly nested grid of `depth` levels below the root.

    crs: projected, in metres. north_west: (x, y) of the corner. size_m: side of the square.
    Raises RegionError where these make no grid.
    """

    crs: str
    north_west: tuple[float, float]
    size_m: float
    branch: int
    depth: int

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_crs(self)

    @property
    def root(self) -> Cell:
        return Cell(0, 0, 0)

    @property
    def leaf_m(self) -> float:
        """The side of a leaf in metres."""
        return self.side_m(self.depth)

    def side_m(self, level: int) -> float:
        """The side of a cell of a level in metres."""
        return self.size_m / self.n_cells(level)

    def n_cells(self, level: int) -> int:
        """Cells along one side of the square."""
        return self.branch**level

    def bounds(self, cell: Cell) -> Bounds:
        """In the grid's CRS. Edges shared between cells are the same floating-point numbers."""
        return cell_bounds(
            north_west=self.north_west,
            size_m=self.size_m,
            branch=self.branch,
            level=cell.level,
            row=cell.row,
            col=cell.col,
        )

    def centre(self, cell: Cell) -> tuple[float, float]:
        """(x, y) in the grid's CRS."""
        west, south, east, north = self.bounds(cell)
        return (west + east) / 2, (south + north) / 2

    def children(self, cell: Cell) -> tuple[Cell, ...]:
        """The branch² cells of the next level, row-major from the north-west."""
        level, row, col = cell
        b = self.branch
        return tuple(Cell(level + 1, row * b + k // b, col * b + k % b) for k in range(b * b))

    def parent(self, cell: Cell) -> Cell:
        if cell.level == 0:
            raise ValueError("the root has no parent")
        return Cell(cell.level - 1, cell.row // self.branch, cell.col // self.branch)

    def cell(self, path: tuple[int, ...]) -> Cell:
        """The cell a path leads to; the empty path is the root."""
        row = col = 0
        for child in path:
            row = row * self.branch + child // self.branch
            col = col * self.branch + child % self.branch
        return Cell(len(path), row, col)

    def path(self, cell: Cell) -> tuple[int, ...]:
        """The child taken at every level on the way from the root; inverse of `cell`."""
        steps = []
        while cell.level:
            steps.append(cell.row % self.branch * self.branch + cell.col % self.branch)
            cell = self.parent(cell)
        return tuple(reversed(steps))

    def cell_at(self, x: float, y: float, level: int | None = None) -> Cell:
        """The cell of a level (default: the leaf) that holds a point of the grid's CRS.

        A point on an inner edge belongs to the cell south or east of it; one on the square's south or east
        edge to the last cell. Raises OutsideRegion for a point outside the square.
        """
        level = self.depth if level is None else level
        west, south, east, north = self.bounds(self.root)
        if not (west <= x <= east and south <= y <= north):
            raise OutsideRegion(f"the point x={x:.1f}, y={y:.1f} ({self.crs}) {self._square_text()}")
        n = self.n_cells(level)
        row = _part(n, (north - y) / self.size_m, lambda i: y <= north - offset_m(self.size_m, i, n))
        col = _part(n, (x - west) / self.size_m, lambda i: x >= west + offset_m(self.size_m, i, n))
        return Cell(level, row, col)

    def project(self, lat: Degrees, lon: Degrees) -> tuple[Degrees, Degrees]:
        """WGS 84 degrees to (x, y) of the grid's CRS; of many points, arrays."""
        x, y = _transformer(WGS84, self.crs).transform(lon, lat)
        return x, y

    def unproject(self, x: float, y: float) -> tuple[float, float]:
        """(x, y) of the grid's CRS to WGS 84 (lat, lon) in degrees."""
        lon, lat = _transformer(self.crs, WGS84).transform(x, y)
        return lat, lon

    def convergence_deg(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far the grid's north lies clockwise from true north at points in WGS 84 degrees."""
        if lat.size == 0:  # pyproj refuses none
            return np.empty_like(lat)
        return np.asarray(Proj(self.crs).get_factors(lon, lat).meridian_convergence)

    def path_at(self, lat: float, lon: float) -> tuple[int, ...]:
        """The path to the leaf that holds a point in WGS 84 degrees. Raises OutsideRegion."""
        try:
            return self.path(self.cell_at(*self.project(lat, lon)))
        except OutsideRegion:
            raise OutsideRegion(f"the point lat={lat:.6f}, lon={lon:.6f} {self._square_text()}") from None

    def polygon(self, cell: Cell) -> shapely.Polygon:
        """The cell in WGS 84, coordinates in (lon, lat) order, edges densified so they follow the CRS."""
        steps = max(1, ceil(self.side_m(cell.level) / EDGE_STEP_M))
        ring = list(_ring(self.bounds(cell), steps))
        lons, lats = _transformer(self.crs, WGS84).transform([x for x, _ in ring], [y for _, y in ring])
        return shapely.Polygon(list(zip(lons, lats, strict=True)))

    def multipolygon(self, parts: Sequence[shapely.Polygon]) -> shapely.MultiPolygon:
        """Ground given in the grid's CRS, in WGS 84 like `polygon`; outer rings run counter-clockwise."""
        transform = _transformer(self.crs, WGS84).transform
        dense = shapely.MultiPolygon(list(shapely.segmentize(parts, EDGE_STEP_M)))
        return shapely.orient_polygons(shapely.transform(dense, lambda xy: np.column_stack(transform(*xy.T))))

    def _square_text(self) -> str:
        lat, lon = self.unproject(*self.centre(self.root))
        return (
            f"lies outside the region, a square of {self.size_m:g} m around lat={lat:.5f}, lon={lon:.5f}; "
            "use a region that holds it"
        )


def published_path(
    lat: float, lon: float, *, centre: tuple[float, float], size_m: float, branch: int, depth: int
) -> tuple[int, ...]:
    """The label path of one point; see `published_paths`. Raises OutsideRegion."""
    point = np.array([lat]), np.array([lon])
    paths, inside = published_paths(*point, centre=centre, size_m=size_m, branch=branch, depth=depth)
    if not inside[0]:
        raise OutsideRegion(f"the point lat={lat:.6f}, lon={lon:.6f} lies outside the {size_m:g} m square")
    return tuple(paths[0].tolist())


def published_paths(
    lats: NDArray[np.float64],
    lons: NDArray[np.float64],
    *,
    centre: tuple[float, float],
    size_m: float,
    branch: int,
    depth: int,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The label paths (n, depth) of the published benchmark, whose cells are no exact grid; and who is inside (n,).

    There every cell's centre is reached from its parent's by geodesic moves, first east, then north, on a
    sphere of the WGS 84 equatorial radius. centre: (lat, lon) of the root. All in WGS 84 degrees.
    """
    olat, olon = np.full_like(lats, centre[0]), np.full_like(lons, centre[1])
    inside, side_m, paths = np.ones(len(lats), np.bool_), size_m, []
    for level in range(depth):
        azimuth, _, distance_m = _SPHERE.inv(olon, olat, lons, lats)
        east_m = distance_m * np.sin(np.radians(azimuth))
        north_m = distance_m * np.cos(np.radians(azimuth))
        if level == 0:
            inside = np.maximum(abs(east_m), abs(north_m)) <= size_m / 2
        side_m /= branch
        # Moves on a sphere do not close exactly: near an edge a point may fall just beyond its parent.
        cols = np.floor(east_m / side_m + branch / 2).clip(0, branch - 1)
        rows = np.floor(branch / 2 - north_m / side_m).clip(0, branch - 1)
        paths.append((rows * branch + cols).astype(np.int64))
        olon, olat, _ = _SPHERE.fwd(olon, olat, np.full_like(olon, 90), (cols + 0.5 - branch / 2) * side_m)
        olon, olat, _ = _SPHERE.fwd(olon, olat, np.zeros_like(olon), (branch / 2 - rows - 0.5) * side_m)
    return np.stack(paths, axis=1), inside


_SPHERE = Geod(a=6_378_137, b=6_378_137)


def move_on_sphere(
    point: tuple[float, float], *, east_m: float = 0.0, north_m: float = 0.0
) -> tuple[float, float]:
    """A (lat, lon) moved by a geodesic to the east, then by one to the north, as the benchmark does."""
    lat, lon = point
    lon, lat, _ = _SPHERE.fwd(lon, lat, 90, east_m)
    lon, lat, _ = _SPHERE.fwd(lon, lat, 0, north_m)
    return lat, lon


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    """(x, y) or (lon, lat) order on both sides, whatever the CRS's own axis order."""
    return Transformer.from_crs(source, target, always_xy=True)


def _part(count: int, fraction: float, reached: Callable[[int], bool]) -> int:
    """Which of `count` parts holds a point: the last whose first line it has reached."""
    part = min(max(floor(fraction * count), 0), count - 1)
    # The division may round across a line; the lines themselves decide.
    while part < count - 1 and reached(part + 1):
        part += 1
    while part > 0 and not reached(part):
        part -= 1
    return part


def _ring(bounds: Bounds, steps: int) -> Iterator[tuple[float, float]]:
    """The corners of a rectangle, counter-clockwise, with `steps` points along every side."""
    west, south, east, north = bounds
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    for (x0, y0), (x1, y1) in pairwise(corners):
        for i in range(steps):
            yield x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps


def _check_numbers(grid: Grid) -> None:
    if not (isfinite(grid.size_m) and grid.size_m > 0):
        raise RegionError(f"size_m is {grid.size_m}; give the side of the square in metres, above 0")
    if grid.branch < 2:
        raise RegionError(f"branch is {grid.branch}; a cell must split into at least 2 x 2 (4 is usual)")
    if grid.depth < 1:
        raise RegionError(f"depth is {grid.depth}; give at least one level of cells below the root")
    if not all(map(isfinite, grid.north_west)):
        raise RegionError(f"north_west is {list(grid.north_west)}; give two finite numbers, [x, y]")


def _check_crs(grid: Grid) -> None:
    """The square must be one on the ground: a projected CRS whose metres are metres there."""
    try:
        crs = CRS.from_user_input(grid.crs)
    except CRSError:
        raise RegionError(f"unknown CRS {grid.crs!r}; give a code such as 'EPSG:32632'") from None
    if not crs.is_projected:
        raise RegionError(f"{grid.crs} is not projected; give a CRS in metres, such as the UTM zone's")
    if any(axis.unit_conversion_factor != 1 for axis in crs.axis_info):
        raise RegionError(f"{grid.crs} counts in {crs.axis_info[0].unit_name}; give a CRS in metres")
    stretch = _stretch(grid)
    if not abs(stretch - 1) <= MAX_STRETCH:
        raise RegionError(
            f"in {grid.crs} a metre is {stretch:.3f} m on the ground at the square; give a CRS made for that "
            f"place{_utm_hint(grid)}"
        )


def _stretch(grid: Grid) -> float:
    """Ground metres in a metre of the CRS, across the middle of the square; nan off the CRS's domain."""
    x, y = grid.centre(grid.root)
    half_m = grid.size_m / 2
    (lat0, lon0), (lat1, lon1) = grid.unproject(x - half_m, y), grid.unproject(x + half_m, y)
    if not all(map(isfinite, (lat0, lon0, lat1, lon1))):
        return float("nan")
    return Geod(ellps="WGS84").inv(lon0, lat0, lon1, lat1)[2] / grid.size_m


def _utm_hint(grid: Grid) -> str:
    lat, lon = grid.unproject(*grid.centre(grid.root))
    if not (isfinite(lat) and isfinite(lon)):
        return ", or correct north_west"
    zone = int((lon + 180) // 6) % 60 + 1
    return f", such as EPSG:{32600 + zone if lat >= 0 else 32700 + zone}"
