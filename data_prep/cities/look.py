"""The light and the lens of one picture: sun, sky, season, haze, exposure, blur."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
LATITUDE_DEG = 51.4


class Season(StrEnum):
    """When photos are taken; mixed is spring and autumn, while the overhead picture is of a summer."""

    mixed = "mixed"
    spring = "spring"
    summer = "summer"
    autumn = "autumn"
    winter = "winter"


class Weather(StrEnum):
    mixed = "mixed"
    clear = "clear"
    cloudy = "cloudy"
    overcast = "overcast"
    fog = "fog"


@dataclass(frozen=True)
class Conditions:
    """From what the looks of photos are drawn, and what decides the sun's course.

    hours: first and last solar hour. noon_utc_h: when the sun stands highest, in hours of UTC.
    """

    season: Season = Season.mixed
    weather: Weather = Weather.mixed
    hours: tuple[float, float] = (8.6, 16.4)
    latitude_deg: float = LATITUDE_DEG
    noon_utc_h: float = 12.0


MIXED = Conditions()
DAYS = {  # of the northern year; half a year later in the south
    Season.spring: (85, 135), Season.summer: (152, 243), Season.autumn: (255, 305), Season.winter: (335, 425),
}  # fmt: skip
GRASS = {  # how pale it is
    Season.spring: (0.0, 0.35), Season.summer: (0.1, 0.5), Season.autumn: (0.0, 0.35), Season.winter: (0.3, 0.7),
}  # fmt: skip
CLOUDS = {
    Weather.mixed: (0.0, 1.0), Weather.clear: (0.0, 0.15), Weather.cloudy: (0.3, 0.6),
    Weather.overcast: (0.7, 1.0), Weather.fog: (0.8, 1.0),
}  # fmt: skip
SIGHT_M, FOGGY_SIGHT_M = (900, 4500), (60, 220)
SUNLESS = 0.62  # cloud cover from which no shadows fall


@dataclass(frozen=True)
class Look:
    """Colours are linear light, `(3, 1)` so that they broadcast over pixels."""

    to_sun: Floats  # (3,)
    sun: Floats  # (3, 1), zero under an overcast sky
    sky: Floats  # zenith
    horizon: Floats
    clouds: float  # 0 clear .. 1 closed
    cloud_shift: tuple[float, float]
    haze_per_m: float
    autumn: float  # 0 summer green .. 1 full colour
    bare: float  # how pale the grass is
    leafless: bool  # only twigs on the trees that shed their leaves
    exposure: float  # stops from the automatic one
    balance: Floats
    vignette: float
    blur_px: float  # radius of a box
    noise: float
    quality: int  # JPEG
    captured_at: datetime


def _column(*rgb: float) -> Floats:
    return np.array(rgb, np.float32)[:, None]


def sun_direction(day: float, hour: float, latitude_deg: float = LATITUDE_DEG) -> Floats:
    """Unit vector to the sun (east, north, up) on a day of the year at a solar hour."""
    tilt = np.radians(-23.44) * np.cos(2 * np.pi * (day + 10) / 365)
    angle, lat = np.radians(15 * (hour - 12)), np.radians(latitude_deg)
    east = -np.cos(tilt) * np.sin(angle)
    north = np.cos(lat) * np.sin(tilt) - np.sin(lat) * np.cos(tilt) * np.cos(angle)
    up = np.sin(lat) * np.sin(tilt) + np.cos(lat) * np.cos(tilt) * np.cos(angle)
    return np.array([east, north, up], np.float32)


def street_look(rng: np.random.Generator, of: Conditions = MIXED) -> Look:
    """A day of the conditions' season and weather."""
    drawn = Season.autumn if rng.random() < 0.6 else Season.spring
    season = drawn if of.season is Season.mixed else of.season
    day = float(rng.uniform(*DAYS[season])) + (182.5 if of.latitude_deg < 0 else 0.0)
    hour = float(rng.uniform(*of.hours))
    to_sun = sun_direction(day, hour, of.latitude_deg)
    least, most = CLOUDS[of.weather]
    cover = least + (most - least) * float(rng.beta(0.8, 0.8))
    hidden = cover > SUNLESS or to_sun[2] < 0
    low = float(np.clip(1 - to_sun[2] / 0.6, 0, 1))
    strength = 0.0 if hidden else 2.6 * (1 - 0.7 * cover) * (0.5 + 0.5 * float(to_sun[2]))
    grey = cover**1.5
    sky = _column(0.20, 0.38, 0.78) * (1 - grey) + _column(0.62, 0.66, 0.72) * grey
    horizon = _column(0.78, 0.86, 0.97) * (1 - grey) + _column(0.80, 0.83, 0.87) * grey
    warm = rng.normal(0, 0.045)
    return Look(
        to_sun=to_sun,
        sun=_column(1.0, 0.93 - 0.10 * low, 0.82 - 0.24 * low) * strength,
        sky=sky,
        horizon=horizon + _column(0.08, 0.02, -0.06) * low * (1 - grey),
        clouds=cover,
        cloud_shift=(float(rng.uniform(0, 512)), float(rng.uniform(0, 512))),
        haze_per_m=float(1 / rng.uniform(*(FOGGY_SIGHT_M if of.weather is Weather.fog else SIGHT_M))),
        autumn=float(rng.uniform(0.15, 0.95)) if season is Season.autumn else 0.0,
        bare=float(rng.uniform(*GRASS[season])),
        leafless=season is Season.winter,
        exposure=float(rng.normal(0, 0.22)),
        balance=_column(1 + warm, 1 + rng.normal(0, 0.012), 1 - warm),
        vignette=float(rng.uniform(0.05, 0.32)),
        blur_px=float(rng.uniform(0.3, 0.6) if rng.random() < 0.85 else rng.uniform(0.6, 1.2)),
        noise=float(rng.uniform(0.003, 0.011)),
        quality=int(rng.integers(78, 93)),
        captured_at=datetime(2024, 1, 1, tzinfo=UTC)
        + timedelta(days=int(day) - 1, seconds=round((hour + of.noon_utc_h - 12) * 3600)),
    )


def overhead_look(rng: np.random.Generator, of: Conditions = MIXED) -> Look:
    """A clear summer noon of another year."""
    day = float(rng.uniform(170, 200)) + (182.5 if of.latitude_deg < 0 else 0.0)
    return Look(
        to_sun=sun_direction(day, float(rng.uniform(10.2, 11.2)), of.latitude_deg),
        sun=_column(1.0, 0.95, 0.86) * 2.3,
        sky=_column(0.34, 0.46, 0.68),
        horizon=_column(0.7, 0.75, 0.8),
        clouds=0.0,
        cloud_shift=(0.0, 0.0),
        haze_per_m=0.0,
        autumn=0.0,
        bare=0.12,
        leafless=False,
        exposure=0.0,
        balance=_column(1.0, 1.0, 0.97),
        vignette=0.0,
        blur_px=0.0,
        noise=0.0,
        quality=76,
        captured_at=datetime(2021, 7, 2, 10, 30, tzinfo=UTC),
    )
