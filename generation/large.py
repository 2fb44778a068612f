"""Images larger than a tile, made tile by tile: tiles overlap, and pass into each other there."""

import zlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from generation.sample import Processor
from generation.tile_model import TileModel

OVERLAP = 1 / 4  # of a tile, at every side
BATCH = 32


def enlarge(
    model: TileModel, image: Tensor, zoom: int, *, seed: int, processors: Sequence[Processor] = ()
) -> Tensor:
    """An image (3, h, w), -1 to 1, at twice the side and at zoom level `zoom`: (3, 2 h, 2 w)."""
    height, width = image.shape[1:]
    side, step = model.px // 2, _step(model.px) // 2
    padded = _padded(image, side, step)
    corners = _corners(padded, side, step)
    tiles = torch.stack([padded[:, top : top + side, left : left + side] for top, left in corners])
    made = [
        model.enlarge(
            some, torch.full((len(some),), zoom), seeds=_seeds(seed, at), processors=processors
        ).images
        for some, at in zip(tiles.split(BATCH), _groups(corners), strict=True)
    ]
    places = [(2 * top, 2 * left) for top, left in corners]
    return _blended(torch.cat(made), places)[:, : 2 * height, : 2 * width]


def fill(
    model: TileModel,
    image: Tensor,
    known: Tensor,
    zoom: int,
    *,
    seed: int,
    processors: Sequence[Processor] = (),
) -> Tensor:
    """An image (3, h, w), -1 to 1, of zoom level `zoom` with what is not known (h, w) made up, from the north-west on:
    a tile sees what was made of those before."""
    height, width = known.shape
    image = _padded(image, model.px, _step(model.px))
    known = F.pad(known, (0, image.shape[2] - width, 0, image.shape[1] - height))
    image, known = image.clone(), known.clone()
    for at in _corners(image, model.px, _step(model.px)):
        here = (slice(at[0], at[0] + model.px), slice(at[1], at[1] + model.px))
        there = known[here]
        if there.all() or not there.any():
            continue
        made = model.fill(
            image[:, *here][None],
            there[None],
            torch.tensor([zoom]),
            seeds=_seeds(seed, [at]),
            processors=processors,
        )
        image[:, *here] = made.images[0]
        known[here] = True
    return image[:, :height, :width]


def _step(px: int) -> int:
    return round(px * (1 - OVERLAP))


def _padded(image: Tensor, side: int, step: int) -> Tensor:
    """An image that tiles cover, continued by its last rows and columns."""
    more = [max(side, side + -(-(n - side) // step) * step) - n for n in image.shape[1:]]
    return F.pad(image[None], (0, more[1], 0, more[0]), mode="replicate")[0]


def _corners(image: Tensor, side: int, step: int) -> list[tuple[int, int]]:
    """Rows and columns of the tiles' top left pixels."""
    tops, lefts = (range(0, n - side + 1, step) for n in image.shape[1:])
    return [(top, left) for top in tops for left in lefts]


def _groups(corners: Sequence[tuple[int, int]]) -> Iterator[Sequence[tuple[int, int]]]:
    for start in range(0, len(corners), BATCH):
        yield corners[start : start + BATCH]


def _seeds(seed: int, corners: Sequence[tuple[int, int]]) -> list[int]:
    return [zlib.crc32(f"{seed},{top},{left}".encode()) for top, left in corners]


def _blended(tiles: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
    """Tiles (n, 3, px, px) at their places, weighed by how far from their borders they are."""
    px = tiles.shape[-1]
    line = torch.arange(px) + 0.5
    ramp = torch.minimum(line, px - line).clamp(max=OVERLAP * px)
    weight = ramp[:, None] * ramp
    height, width = (max(corner) + px for corner in zip(*places, strict=True))
    total, weights = tiles.new_zeros(3, height, width), tiles.new_zeros(height, width)
    for tile, (top, left) in zip(tiles, places, strict=True):
        total[:, top : top + px, left : left + px] += tile * weight
        weights[top : top + px, left : left + px] += weight
    return total / weights
