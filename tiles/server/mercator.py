"""Sources on the web map (EPSG:3857): where they are, at which zooms, and the bounds of its tiles."""

from dataclasses import dataclass
from math import ceil, cos, floor, log2, radians

from tiles.bounds import Bounds
from tiles.errors import TilesError
from tiles.geo import transform_bounds
from tiles.source import Source
from tiles.store import WORLD_M

CRS = "EPSG:3857"
TILE_PX = 256
MAX_ZOOM = 30  # of a web map: tiles of 4 cm
WORLD_LONLAT = Bounds(-180, -85.0511287798066, 180, 85.0511287798066)  # what the map's square shows


@dataclass(frozen=True)
class Extent:
    """Where a source is on the web map.

    lonlat: its bounds in degrees, cut to what the map shows. bounds: the same in EPSG:3857. min_zoom: the last at
    which it fits into one tile. max_zoom: the first that shows all its detail.
    """

    lonlat: Bounds
    bounds: Bounds
    min_zoom: int
    max_zoom: int

    @property
    def center(self) -> tuple[float, float, int]:
        """Longitude, latitude and zoom of a first look."""
        west, south, east, north = self.lonlat
        return (west + east) / 2, (south + north) / 2, min(self.min_zoom + 2, self.max_zoom)


def extent(source: Source) -> Extent:
    """Raises TilesError for a source that the web map cannot show, such as one of a pole."""
    lonlat = transform_bounds(source.bounds, source.crs, "EPSG:4326")
    if lonlat is None or not lonlat.intersects(WORLD_LONLAT):
        raise TilesError(
            f"the source at {tuple(source.bounds)} ({source.crs}) lies outside the web map, which ends at 85 "
            "degrees of latitude; serve another"
        )
    west, south = max(lonlat.west, WORLD_LONLAT.west), max(lonlat.south, WORLD_LONLAT.south)
    east, north = min(lonlat.east, WORLD_LONLAT.east), min(lonlat.north, WORLD_LONLAT.north)
    lonlat = Bounds(west, south, east, north)
    bounds = transform_bounds(lonlat, "EPSG:4326", CRS)
    assert bounds is not None  # the square is where the projection is defined
    pixel = source.gsd_m / cos(radians((south + north) / 2))  # Mercator's metres are longer
    # A tenth of a zoom is no detail: a source made of map tiles must not ask for a zoom more than it has.
    finest = ceil(log2(2 * WORLD_M / TILE_PX / pixel) - 0.1)
    max_zoom = min(max(finest, 0), MAX_ZOOM)
    whole = floor(log2(2 * WORLD_M / max(bounds.width, bounds.height)))
    return Extent(lonlat, bounds, min(max(whole, 0), max_zoom), max_zoom)


def tile_bounds(zoom: int, x: int, y: int) -> Bounds:
    """In EPSG:3857; y counts from the north."""
    side = 2 * WORLD_M / 2**zoom
    return Bounds(
        -WORLD_M + x * side, WORLD_M - (y + 1) * side, -WORLD_M + (x + 1) * side, WORLD_M - y * side
    )
