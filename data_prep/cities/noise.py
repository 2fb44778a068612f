"""Noise, hashes and the few array operations of which shading is made.

They exist because of their speed on arrays of a picture's size: `take` is six times faster than fancy
indexing of rows, a blend ten times faster than `np.where`, `x - floor(x)` thirty times faster than `x % 1`.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
F = np.float32  # a truth value times a bare number would be 64 bits wide
TEXTURE_PX = 512


def pick(table: NDArray[Any], index: NDArray[Any]) -> NDArray[Any]:
    """`table[..., index]`."""
    return table.take(index, -1, mode="clip")


def mix(a: Floats | float, b: Floats | float, share: Floats | Mask) -> Floats:
    """`a` where `share` is 0, `b` where it is 1 (or true)."""
    return np.asarray(a + (np.subtract(b, a, dtype=np.float32)) * share, np.float32)


def fract(x: NDArray[Any]) -> NDArray[Any]:
    """What is left of the whole numbers, `x % 1`."""
    return x - np.floor(x)


def dot(a: Floats, b: Floats) -> Floats:
    """Scalar products of vectors `(3, n)`."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def noise(x: Floats, y: Floats, per_m: float) -> Floats:
    """Fractal noise, even in 0..1, whose finest grain is about `1 / (4 per_m)` metres."""
    scale = per_m * 4
    col = (x * scale).astype(np.int32) & (TEXTURE_PX - 1)
    row = (y * scale).astype(np.int32) & (TEXTURE_PX - 1)
    return pick(_texture(), row * TEXTURE_PX + col)


def hashed(a: Floats, b: Floats, seed: NDArray[np.uint32]) -> Floats:
    """A number in 0..1 for every pair of whole numbers and seed."""
    h = a.astype(np.int32).view(np.uint32) * np.uint32(374761393)
    h += b.astype(np.int32).view(np.uint32) * np.uint32(668265263) + seed * np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    h *= np.uint32(1274126177)
    h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float32) * F(1 / 2**24)


@cache
def _texture() -> Floats:
    """One tile, `(TEXTURE_PX * TEXTURE_PX,)`."""
    rng = np.random.default_rng(20)
    total = np.zeros((TEXTURE_PX, TEXTURE_PX))
    for octave in range(1, 7):
        grain = rng.normal(size=total.shape)
        layer = ndimage.gaussian_filter(grain, 2.0 ** (6 - octave) * 0.8 + 0.3, mode="wrap")
        total += layer / layer.std() * 0.62**octave
    ranks = np.argsort(np.argsort(total.ravel()))
    return (ranks / ranks.size).astype(np.float32)
