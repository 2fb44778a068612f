"""What a town is made after, and which of it can be."""

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cached_property

from data_prep.cities.look import MIXED, Conditions, Season, Weather
from data_prep.cities.placement import FOV_DEG
from data_prep.cities.square import Square
from zoomloc.errors import ConfigError

CRS = "EPSG:32632"
NORTH_WEST = (536000.0, 5702560.0)  # Hesse, half a degree east of the zone's central meridian
SMALLEST_M = 320.0
ATTRIBUTION = "simulated by zoomloc"
OSM_ATTRIBUTION, OSM_LICENCE = f"© OpenStreetMap contributors (ODbL), {ATTRIBUTION}", "ODbL 1.0"


@dataclass(frozen=True)
class Settings:
    """What decides every byte of a town; kept in `simulation.json` so that a resumed run cannot mix two."""

    seed: int
    photos: int
    size_m: float
    gsd_m: float
    width: int
    height: int
    test: int
    val: int
    map: str | None = None  # name and size of the OpenStreetMap file
    crs: str = CRS
    north_west: tuple[float, float] = NORTH_WEST
    panoramas: float = 0.0
    drives: int = 0
    season: Season = Season.mixed
    weather: Weather = Weather.mixed
    hours: tuple[float, float] = MIXED.hours
    fov_deg: tuple[float, float] = FOV_DEG

    @cached_property
    def square(self) -> Square:
        return Square(self.crs, self.north_west, self.size_m)

    @cached_property
    def conditions(self) -> Conditions:
        """Of a real place with the sun as it stands there; a town made up has that of its own latitude."""
        drawn = Conditions(self.season, self.weather, self.hours)
        if self.map is None:
            return drawn
        lat, lon = self.square.geographic(self.size_m / 2, self.size_m / 2)
        return replace(drawn, latitude_deg=lat, noon_utc_h=12 - lon / 15)

    @property
    def attribution(self) -> str:
        return ATTRIBUTION if self.map is None else OSM_ATTRIBUTION

    @property
    def record(self) -> str:
        """JSON of what was asked for; what was left at its default is left out, so that new settings can come."""
        default = {f.name: f.default for f in fields(self) if f.default is not MISSING}
        asked = {k: v for k, v in asdict(self).items() if k not in default or v != default[k]}
        return json.dumps(asked, indent=1)


def check(s: Settings) -> None:
    """Raises ConfigError for what cannot be made."""
    if s.size_m < SMALLEST_M:
        raise ConfigError(f"a town of {s.size_m:g} m is too small; choose at least {SMALLEST_M:g} m")
    if not 0 < s.gsd_m <= s.size_m / 64 or abs(s.size_m / s.gsd_m - round(s.size_m / s.gsd_m)) > 1e-6:
        raise ConfigError(
            f"a pixel of {s.gsd_m:g} m does not divide {s.size_m:g} m; choose one that does, such as 0.5 m"
        )
    if s.width < 64:
        raise ConfigError(f"photos {s.width} pixels wide show too little; choose at least 64")
    if not 0 <= s.panoramas <= 1:
        raise ConfigError(f"--panoramas {s.panoramas:g}: not a share of the photos; choose one from 0 to 1")
    if not 5 <= s.hours[0] <= s.hours[1] <= 20:
        raise ConfigError(
            f"--time {s.hours[0]:g},{s.hours[1]:g}: there is no night here; choose hours in 5-20"
        )
    if not 20 <= s.fov_deg[0] <= s.fov_deg[1] <= 120:
        raise ConfigError(
            f"--fov {s.fov_deg[0]:g},{s.fov_deg[1]:g}: no such lens here; choose degrees in 20-120"
        )
