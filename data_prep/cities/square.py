"""The square of the world in which a town lies: local metres to and from WGS 84."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from zoomloc.errors import ConfigError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Square:
    """Local metres run east (x) and north (y) from the south-west corner; grid north is that of `crs`."""

    crs: str
    north_west: tuple[float, float]
    size_m: float

    @cached_property
    def projection(self) -> pyproj.Proj:
        return pyproj.Proj(self.crs)

    @property
    def south_west(self) -> tuple[float, float]:
        return self.north_west[0], self.north_west[1] - self.size_m

    def geographic(self, x: float, y: float) -> tuple[float, float]:
        """Latitude and longitude of a local point."""
        west, south = self.south_west
        lon, lat = self.projection(west + x, south + y, inverse=True)
        return lat, lon

    def lean_deg(self, lat: float, lon: float) -> float:
        """By how much an azimuth from true north is larger than one from grid north."""
        return float(self.projection.get_factors(lon, lat).meridian_convergence)

    def local(self, geometries: list[shapely.Geometry]) -> NDArray[np.object_]:
        """Geometries in WGS 84 (lon, lat) as local ones."""
        return np.asarray(shapely.transform(np.array(geometries, object), self._project))

    def _project(self, lon_lat: Floats) -> Floats:
        x, y = self.projection(lon_lat[:, 0], lon_lat[:, 1])
        return np.column_stack([x, y]) - self.south_west

    def window(self, margin_m: float) -> tuple[float, float, float, float]:
        """West, south, east and north in degrees of the square and a margin around it."""
        far = self.size_m + margin_m
        corners = [self.geographic(x, y) for x in (-margin_m, far) for y in (-margin_m, far)]
        lats, lons = zip(*corners, strict=True)
        return min(lons), min(lats), max(lons), max(lats)


def around(lat: float, lon: float, size_m: float) -> Square:
    """The square of this size around a point, in the UTM zone of the point."""
    if not (-80 <= lat <= 84 and -180 <= lon <= 180):
        raise ConfigError(f"latitude {lat:g}, longitude {lon:g}: no place that UTM covers; give LAT,LON")
    zone = min(int((lon + 180) // 6) + 1, 60)
    crs = f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"
    x, y = pyproj.Proj(crs)(lon, lat)
    return Square(crs, (float(round(x - size_m / 2)), float(round(y + size_m / 2))), size_m)


def covering(west: float, south: float, east: float, north: float) -> Square:
    """The smallest square, but for whole tens of metres, that holds a rectangle in degrees."""
    if not (west < east and south < north):
        raise ConfigError(f"{west:g},{south:g},{east:g},{north:g}: not a rectangle; give W,S,E,N in degrees")
    lat, lon = (south + north) / 2, (west + east) / 2
    guess = around(lat, lon, 0.0)
    x, y = guess.projection((west, west, east, east), (south, north, south, north))
    side = max(max(x) - min(x), max(y) - min(y))
    return around(lat, lon, math.ceil(side / 10) * 10.0)


def numbers(text: str, names: str) -> tuple[float, ...]:
    """The numbers of an option such as `W,S,E,N`. Raises ConfigError, one line."""
    parts = text.split(",")
    try:
        values = tuple(float(part) for part in parts)
    except ValueError:
        values = ()
    if len(values) != names.count(",") + 1 or not all(map(math.isfinite, values)):
        raise ConfigError(f"{text}: not {names}; give {names.count(',') + 1} numbers, separated by commas")
    return values
