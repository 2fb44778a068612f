"""Cameras: where rays start and go, and what becomes of the light that comes back."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from data_prep.cities.look import Look
from data_prep.cities.noise import F
from data_prep.cities.shade import radiance
from data_prep.cities.world import World

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Pose:
    """A camera in local metres; the azimuth is clockwise from grid north.

    A pinhole camera, or one that sees all around: level, the azimuth in the middle column, equirectangular.
    """

    x: float
    y: float
    z: float
    azimuth_deg: float
    pitch_deg: float = 0.0  # up is positive
    roll_deg: float = 0.0  # clockwise is positive
    fov_deg: float = 75.0  # horizontal
    spherical: bool = False

    def axes(self) -> Floats:
        """Rows: right, down and forward."""
        a, p, r = np.radians([self.azimuth_deg, self.pitch_deg, self.roll_deg])
        forward = np.array([np.sin(a) * np.cos(p), np.cos(a) * np.cos(p), np.sin(p)])
        level = np.array([np.cos(a), -np.sin(a), 0.0])
        down = np.cross(forward, level)
        right = level * np.cos(r) + down * np.sin(r)
        return np.stack([right, np.cross(forward, right), forward]).astype(np.float32)

    def rays(self, width: int, height: int, jitter: Floats | None = None) -> Floats:
        """Unit directions `(height * width, 3)`, row-major from the top left; `jitter` (2, h, w) in pixels."""
        right = np.broadcast_to(
            (np.arange(width, dtype=np.float32) + 0.5 - width / 2)[None, :], (height, width)
        )
        down = np.broadcast_to(
            (np.arange(height, dtype=np.float32) + 0.5 - height / 2)[:, None], (height, width)
        )
        if jitter is not None:
            right, down = right + jitter[0], down + jitter[1]
        if self.spherical:
            return self._around(right * F(2 * np.pi / width), down * F(-np.pi / height))
        axes = self.axes()
        axes[:2] *= 2 * np.tan(np.radians(self.fov_deg) / 2) / width
        d = [
            right * a + down * b + c for a, b, c in axes.T
        ]  # plain sums: small matrix products wake every core
        scale = 1 / np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2)
        return np.stack([(part * scale).ravel() for part in d], -1).astype(np.float32, copy=False)

    def _around(self, turn: Floats, rise: Floats) -> Floats:
        """Unit directions at angles from the azimuth and above the horizon, in radians."""
        azimuth, level = turn + F(np.radians(self.azimuth_deg)), np.cos(rise)
        return np.stack(
            [(np.sin(azimuth) * level).ravel(), (np.cos(azimuth) * level).ravel(), np.sin(rise).ravel()], -1
        ).astype(np.float32, copy=False)


def take(
    world: World, pose: Pose, look: Look, *, width: int, height: int, moment: int, rng: np.random.Generator
) -> Image.Image:
    """One photo as its camera would hand it over, before JPEG."""
    jitter = rng.random((2, height, width), np.float32) - 0.5
    directions = pose.rays(width, height, jitter)
    origins = np.broadcast_to(np.array([pose.x, pose.y, pose.z], np.float32), directions.shape)
    light = radiance(
        world,
        np.ascontiguousarray(origins),
        directions,
        look,
        moment=moment,
        pixel_rad=math.radians(pose.fov_deg) / width,
    )
    return develop(light.reshape(3, height, width), look, rng)


def develop(light: Floats, look: Look, rng: np.random.Generator) -> Image.Image:
    """Expose, balance, darken the corners, blur and add noise: linear light `(3, h, w)` to 8-bit sRGB."""
    _, h, w = light.shape
    meter = float(np.median(light[1, ::3, ::3])) * 0.6 + float(light[1].mean()) * 0.4
    gain = 0.34 / max(meter, 0.02) * 2.0**look.exposure
    y, x = np.linspace(-h / w, h / w, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)
    light = light * (look.balance[:, :, None] * (gain * (1 - look.vignette * (x * x + y * y))))
    picture = Image.fromarray(np.stack(list(film(light)), -1))
    if look.blur_px:
        picture = picture.filter(ImageFilter.BoxBlur(look.blur_px))
    if not look.noise:
        return picture
    grain = (rng.standard_normal((h, w), np.float32) * (look.noise * 255)).astype(np.int16)
    return Image.fromarray(np.clip(np.asarray(picture) + grain[..., None], 0, 255).astype(np.uint8))


_STEPS = 8192
_BRIGHTEST = 5.0
_TONE = (1 - np.exp(-1.15 * np.linspace(0, _BRIGHTEST, _STEPS))) ** (1 / 2.2)
_CURVE = (255 * (0.55 * _TONE + 0.45 * _TONE**2 * (3 - 2 * _TONE)) + 0.5).astype(np.uint8)


def film(light: Floats) -> NDArray[np.uint8]:
    """Linear light to 8 bits: a shoulder for the highlights, the sRGB gamma, some contrast."""
    step = np.clip(light * np.float32((_STEPS - 1) / _BRIGHTEST), 0, _STEPS - 1)
    return _CURVE[step.astype(np.int16)]
