"""Random windows of a tile pyramid to learn from.

This module, `train` and `make` are on the map's side: they know the package `tiles`.
"""

import glob
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import tiles
from generation.tile_config import LEVEL_0_M, SourceConfig
from tiles.bounds import Bounds
from tiles.geo import ground_m

Split = Literal["train", "held_out"]
TRIES = 200  # places for one window before giving up
TOLERANCE = 1.25  # a zoom level may be so much finer than the imagery
PADDING = 0.02  # the share of pixels of pure white or black from which a window counts as padding


@dataclass(frozen=True)
class Place:
    """A source to look at. unit_m: metres on the ground of a unit of its CRS, in its middle."""

    name: str
    source: tiles.Source
    zooms: tuple[int, ...]
    share: float
    unit_m: float


def open_places(sources: Sequence[SourceConfig]) -> list[Place]:
    """The sources of a configuration. Raises ValueError for a zoom level finer than the imagery, TilesError for what
    cannot be opened."""
    return [place for config in sources for place in _opened(config)]


def _opened(config: SourceConfig) -> Iterator[Place]:
    uris = sorted(glob.glob(config.uri)) if glob.has_magic(config.uri) else [config.uri]  # noqa: PTH207
    if not uris:
        raise ValueError(f"{config.uri}: no file matches; check the folder and the pattern")
    for uri in uris:
        source = tiles.open(uri)
        unit_m = _unit_m(source)
        for zoom in config.zooms:
            if pixel_m(zoom) * TOLERANCE < source.gsd_m:
                raise ValueError(
                    f"{uri}: a pixel of zoom {zoom} is {pixel_m(zoom):.2f} m, but one of the imagery "
                    f"{source.gsd_m:.2f} m; ask for lower zooms"
                )
        yield Place(uri, source, config.zooms, config.share / len(uris), unit_m)


def _unit_m(source: tiles.Source) -> float:
    """Metres on the ground of a unit of a source's CRS in its middle."""
    west, south, east, north = source.bounds
    x, y, half = (west + east) / 2, (south + north) / 2, (east - west) / 1000
    across, along = ground_m(Bounds(x - half, y - half, x + half, y + half), source.crs)
    return (across * along) ** 0.5 / (2 * half)


def pixel_m(zoom: int) -> float:
    """Metres on the ground of a pixel of a zoom level."""
    return LEVEL_0_M / 2**zoom


def zoom_of(gsd_m: float) -> int:
    """The zoom level nearest to so many metres a pixel."""
    return round(float(np.log2(LEVEL_0_M / gsd_m)))


class Windows:
    """Square windows at random places of sources, of one of two parts that share no ground.

    The ground is divided into blocks of block_m, each of which is in one part or the other, by a number made of where
    it lies; a window lies wholly in blocks of one part. Windows with anything masked, or padded with white or black,
    are skipped.
    """

    def __init__(
        self, places: Sequence[Place], *, px: int, block_m: float, held_out: float, split: Split
    ) -> None:
        coarsest = min(zoom for place in places for zoom in place.zooms)
        if (side_m := px * pixel_m(coarsest)) > block_m:
            raise ValueError(
                f"a window of {px} px at zoom {coarsest} is {side_m:.0f} m wide: give block_m as much"
            )
        self._places, self._px, self._split = places, px, split
        self._block_m, self._held_out = block_m, held_out
        shares = np.array([place.share for place in places])
        self._shares = shares / shares.sum()

    def batch(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """n windows (n, 3, px, px) uint8, turned and mirrored at random, and their zoom levels (n,)."""
        drawn = [self.draw(rng) for _ in range(n)]
        pixels = np.stack([pixels for pixels, _ in drawn])
        return torch.from_numpy(pixels).movedim(3, 1), torch.tensor([zoom for _, zoom in drawn])

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
        """One window (px, px, 3) and its zoom level. Raises ValueError where none is found."""
        for _ in range(TRIES):
            place = self._places[rng.choice(len(self._places), p=self._shares)]
            zoom = int(rng.choice(place.zooms))
            bounds = self._somewhere(place, zoom, rng)
            if bounds is None or self._split_of(bounds, place.unit_m) != self._split:
                continue
            view = place.source.read(bounds, place.source.crs, (self._px, self._px))
            if view.mask.all() and not _is_padded(view.pixels):
                turned = np.rot90(view.pixels, int(rng.integers(4)))
                return np.ascontiguousarray(turned[:, :: rng.choice([-1, 1])]), zoom
        raise ValueError(
            f"{TRIES} times no window without gaps was found in the {self._split} part of "
            f"{self._places[0].name} and the others; give larger imagery, higher zooms, or another block_m"
        )

    def _somewhere(self, place: Place, zoom: int, rng: np.random.Generator) -> Bounds | None:
        side = self._px * pixel_m(zoom) / place.unit_m
        whole = place.source.bounds
        if side > min(whole.width, whole.height):
            return None
        west = whole.west + rng.random() * (whole.width - side)
        south = whole.south + rng.random() * (whole.height - side)
        return Bounds(west, south, west + side, south + side)

    def _split_of(self, bounds: Bounds, unit_m: float) -> Split | None:
        """The part that a rectangle lies in, None where it lies in both."""
        block = self._block_m / unit_m
        corners = [(x, y) for x in (bounds.west, bounds.east) for y in (bounds.south, bounds.north)]
        found = {_is_held_out(int(x // block), int(y // block), self._held_out) for x, y in corners}
        if len(found) == 2:
            return None
        return "held_out" if found.pop() else "train"


def _is_held_out(column: int, row: int, share: float) -> bool:
    return zlib.crc32(f"{column},{row}".encode()) < share * 2**32


def _is_padded(pixels: NDArray[np.uint8]) -> bool:
    extreme = (pixels == 255).all(2) | (pixels == 0).all(2)
    return float(extreme.mean()) > PADDING


def as_images(windows: Tensor) -> Tensor:
    """Windows (n, 3, px, px) uint8 -> -1 to 1."""
    return windows.float() / 127.5 - 1
