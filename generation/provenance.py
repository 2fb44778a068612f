"""Where an image, a GeoTIFF or a store of tiles carries the mark of what `synthetic:` makes up.

This module is on the map's side: it knows the package `tiles`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

import tiles
from generation.mark import Detector, Found, Mark, key_of_user
from generation.pixels import PixelGrid
from tiles import Source, TilesError

Pixels = NDArray[np.uint8]

PART_PX = 512  # a side of what is looked at together
MOST_PARTS = 16
TOKEN_PX = 8  # of the model that comes with the package
CERTAIN = 1e-3  # a chance below this is a find
NEAR = 16  # tokens along a side of the square by which a place is judged
LOCAL_Z = 3.0  # of what is green there, for it to count as marked
GEOGRAPHIC = (".tif", ".tiff", ".vrt", ".mbtiles", ".pmtiles")


@dataclass(frozen=True)
class Part:
    """A part that was looked at: where it lies, in pixels, and how sure its places are marked: (h, w) of one for each
    token, standard deviations, 0 where nothing was found."""

    rows: range
    cols: range
    found: Found | None
    local: NDArray[np.float64]


@dataclass(frozen=True)
class Provenance:
    """What was found in a file of shape (height, width) pixels.

    p_value: at most so often chance alone comes so far. marked: the share of the pixels looked at that are marked.
    looked_at: the share that was looked at.
    """

    name: str
    shape: tuple[int, int]
    p_value: float
    marked: float
    looked_at: float
    parts: tuple[Part, ...]

    @property
    def is_marked(self) -> bool:
        return self.p_value <= CERTAIN

    @property
    def line(self) -> str:
        """What was found, in one line."""
        part = "" if self.looked_at > 0.999 else f" ({self.looked_at:.1%} of the file were looked at)"
        if self.is_marked:
            return (
                f"{self.name}: made up in part: {self.marked:.1%} of its pixels carry the mark of synthetic imagery, "
                f"p <= {self.p_value:.1e}{part}"
            )
        return (
            f"{self.name}: no mark found (p <= {self.p_value:.2g}){part}, which proves nothing real: small pieces, "
            "other makers and other keys leave none"
        )

    def step(self, side: int) -> int:
        """Pixels along a side of a square of `map`."""
        return max(1, -(-max(self.shape) // side))

    def map(self, side: int) -> NDArray[np.bool_]:
        """(rows, cols) of at most `side` squares: where pixels are marked."""
        step = self.step(side)
        out = np.zeros(tuple(-(-n // step) for n in self.shape), bool)
        for part in self.parts:
            rows, cols = part.rows[:: max(1, step // 4)], part.cols[:: max(1, step // 4)]
            at = _sampled(part.local, len(rows), len(cols)) > LOCAL_Z
            down, right = np.nonzero(at)
            out[np.array(rows)[down] // step, np.array(cols)[right] // step] = True
        return out


def look(uri: str, *, key: str | None = None, token_px: int = TOKEN_PX) -> Provenance:
    """What is found in a file; see the head of this module. key: the user's unless given. token_px: of the model that
    may have made it. Raises TilesError."""
    shape, pieces = _pieces(uri)
    return judged(uri, shape, pieces, Detector(Mark(key_of_user() if key is None else key, token_px)))


def judged(
    name: str, shape: tuple[int, int], pieces: Iterator[tuple[range, range, Pixels]], finder: Detector
) -> Provenance:
    """pieces: rows, columns and pixels of the parts of a picture of a shape."""
    parts = []
    for rows, cols, pixels in pieces:
        found = finder.find(pixels)
        parts.append(
            Part(rows, cols, found, np.zeros((1, 1)) if found is None else local(pixels, found, finder))
        )
    if not any(part.found for part in parts):
        raise TilesError(
            f"{name}: nothing of {finder.mark.token_px} x {finder.mark.token_px} pixels to look at"
        )
    sure = min(part.found.p_value for part in parts if part.found) * len(parts)
    parts = [
        part
        if part.found and part.found.p_value * len(parts) <= CERTAIN
        else replace(part, local=part.local * 0)
        for part in parts
    ]
    sizes = np.array([len(part.rows) * len(part.cols) for part in parts])
    shares = np.array([(part.local > LOCAL_Z).mean() for part in parts])
    return Provenance(
        name, shape, min(1.0, sure), float((sizes * shares).sum() / sizes.sum()),
        float(sizes.sum() / (shape[0] * shape[1])), tuple(parts),
    )  # fmt: skip


def local(pixels: Pixels, found: Found, finder: Detector) -> NDArray[np.float64]:
    """How far the share of green around every token is from chance, in standard deviations, as it was found."""
    green = finder.greens(pixels, found)
    share = np.asarray(cv2.blur(green.astype(np.float32), (NEAR, NEAR), borderType=cv2.BORDER_REFLECT))
    n = min(NEAR, green.shape[0]) * min(NEAR, green.shape[1])
    return (share.astype(np.float64) - 0.5) * 2 * n**0.5


def _sampled(local_z: NDArray[np.float64], rows: int, cols: int) -> NDArray[np.float64]:
    down, right = (
        ((np.arange(n) + 0.5) / n * m).astype(int) for n, m in zip((rows, cols), local_z.shape, strict=True)
    )
    return local_z[down[:, None], right]


def _pieces(uri: str) -> tuple[tuple[int, int], Iterator[tuple[range, range, Pixels]]]:
    path = Path(uri)
    if path.is_dir() or path.suffix.lower() in GEOGRAPHIC or not path.exists():
        try:
            return _of_source(tiles.open(uri))
        except TilesError:
            if not path.is_file() or path.suffix.lower() in (".mbtiles", ".pmtiles"):
                raise
    return _of_picture(path)


def _of_picture(path: Path) -> tuple[tuple[int, int], Iterator[tuple[range, range, Pixels]]]:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or "no picture"
        raise TilesError(
            f"{path}: not a readable picture ({reason}); give an image, a GeoTIFF or tiles"
        ) from None
    height, width = pixels.shape[:2]
    parts = _parts(height, width)
    return (height, width), ((r, c, pixels[r.start : r.stop, c.start : c.stop]) for r, c in parts)


def _of_source(source: Source) -> tuple[tuple[int, int], Iterator[tuple[range, range, Pixels]]]:
    """At the finest level, pixel by pixel."""
    grid = PixelGrid(source, PART_PX)
    height, width = grid.size

    def pieces() -> Iterator[tuple[range, range, Pixels]]:
        for rows, cols in _parts(height, width):
            view = source.read(grid.bounds(0, rows, cols), source.crs, (len(rows), len(cols)))
            if view.mask.any():
                yield rows, cols, view.pixels

    return (height, width), pieces()


def _parts(height: int, width: int) -> list[tuple[range, range]]:
    """Squares that cover a picture, or as many as are looked at, evenly spread."""
    down, right = ([range(i, min(i + PART_PX, n)) for i in range(0, n, PART_PX)] for n in (height, width))
    every = [(rows, cols) for rows in down for cols in right]
    return every[:: -(-len(every) // MOST_PARTS)]
