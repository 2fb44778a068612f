"""A mark in made-up images: what only a key tells to be green is a little more frequent than it would be.

The idea is the lexical watermark of autoregressive image models (LBW, arXiv 2506.01011): a key parts the vocabulary
into green and red codes, green ones are made likelier while an image is drawn (`Mark.processor`), and whoever has the
key counts what is green. Codes of small tokenizers are other codes once an image is encoded again, so colours are not
read off codes here (docs/provenance.md has the figures):

- Green is a side of a plane through what a token's pixels show in middle frequencies, which outlive storing and
  resizing. A code is green where the pixels that it adds lie there, so codes that look alike share a colour.
- Where the codes leave a token short of its side, its pixels are moved by a grey level or two (`Mark.moved`).
- Every place of a token, modulo `PERIOD` down and across, has a plane of its own, of which either side may be green.
  So whatever an unmarked image shows, the counts of all places are as fair as coins, over keys, and how often chance
  alone comes so far is bounded without any assumption about images.
- An image was cut and resized, nobody knows how: all ways are tried, and the chance of a false alarm is that of all.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import idctn
from torch import Tensor

from generation.sample import Codes, Processor
from generation.schedule import Schedule, Step

PERIOD = 16  # tokens after which lists repeat, down and across
POOL = 4  # lists, of which the seed of an image names one
DELTA = 3.0  # added to the logits of green codes
BAND = (0.25, 0.6)  # of the frequencies of a token's pixels, as shares of the highest
AXES = 2  # frequencies that a plane asks for: few of them strong outlive storing, many weak ones do not
STRENGTH = 14.0  # how far on its green side a token shall lie; eight are a grey level
MOST = 1.5  # times the strength, by which a token is moved at most
SCALES = (1.0, 0.75)  # by which an image may have been resized since
GREY = np.array([0.299, 0.587, 0.114], np.float32)
DECODED_AT_ONCE = 32
SPACING = 3  # tokens between codes that are looked at in one tile
DEFAULT_KEY = "zoomloc"

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Tokenizer(Protocol):
    """Of tiles of `px` a side."""

    @property
    def px(self) -> int: ...

    @property
    def schedule(self) -> Schedule: ...

    def encode(self, images: Tensor) -> Codes: ...

    def decode(self, codes: Codes, parents: Tensor) -> Tensor: ...


def key_of_user() -> str:
    """The key in ZOOMLOC_MARK_KEY; without it one that everybody knows, so that everybody can find the mark."""
    return os.environ.get("ZOOMLOC_MARK_KEY") or DEFAULT_KEY


def band(token_px: int) -> NDArray[np.intp]:
    """Which of the coefficients (token_px², row by row) of a token's cosine transform are looked at."""
    down, right = np.indices((token_px, token_px))
    share = np.maximum(down, right) / token_px
    return np.flatnonzero((share >= BAND[0]) & (share < BAND[1]))


@dataclass(frozen=True)
class Mark:
    """A key, and the planes that it lays through what tokens of `token_px` pixels may show.

    delta: added to the logits of green codes; inf leaves no others (the hard mark). strength: how far on its green side
    every token shall lie; 0 leaves pixels as they are.
    """

    key: str
    token_px: int
    pool: int = POOL
    delta: float = DELTA
    strength: float = STRENGTH

    @cached_property
    def planes(self) -> Floats:
        """(pool, PERIOD, PERIOD, F): of every list and place the direction that is green."""
        rng = np.random.default_rng(np.frombuffer(hashlib.sha256(self.key.encode()).digest(), np.uint32))
        shape = self.pool, PERIOD, PERIOD, len(band(self.token_px))
        chosen = rng.random(shape).argsort(axis=-1) < AXES
        return np.where(chosen, rng.choice((-1, 1), shape), 0).astype(np.float32) / np.float32(AXES**0.5)

    def list_of(self, seed: int) -> int:
        """Which list marks what is made with a seed."""
        return hashlib.sha256(f"{self.key}/{seed}".encode()).digest()[0] % self.pool

    def green(self, shows: Floats, which: int, origin: tuple[int, int], side: int) -> Tensor:
        """(side², V) bool: which codes are green, half of them, in a map whose first token is at `origin` (row, column)
        among all. shows: (V, F), see `shown_by`."""
        rows, cols = ((start + np.arange(side)) % PERIOD for start in origin)
        along = self.planes[which][rows[:, None], cols].reshape(side**2, -1) @ shows.T
        return torch.from_numpy(along > np.median(along, axis=1, keepdims=True))

    def processor(
        self, shows: Floats, which: int, origins: Sequence[tuple[int, int]], side: int
    ) -> Processor:
        """Makes green codes likelier in the finest map, of this side, of tiles with these origins."""
        green = torch.stack([self.green(shows, which, origin, side) for origin in origins])

        def process(logits: Tensor, step: Step) -> Tensor:
            if step.shape[0] != side:
                return logits
            here = green.to(logits.device)
            return (
                logits.masked_fill(~here, -torch.inf)
                if math.isinf(self.delta)
                else logits + self.delta * here
            )

        return process

    def moved(self, image: Pixels, where: NDArray[np.bool_], which: int, origin: tuple[int, int]) -> Pixels:
        """An image (h, w, 3) of whole tokens, the first at `origin`, whose tokens were moved to their green side as far
        as that takes no more than `MOST` times the strength; only pixels `where` (h, w) are touched."""
        here = features(image.astype(np.float32) @ GREY, self.token_px)
        rows, cols = (
            (start + np.arange(n)) % PERIOD for start, n in zip(origin, here.shape[:2], strict=True)
        )
        plane = self.planes[which][rows[:, None], cols]
        along = (here * plane).sum(-1)
        most = MOST * self.strength
        by = np.where(along > -most, np.clip(self.strength - along, 0, most), 0)
        added = (plane * by[..., None]) @ patterns(self.token_px)  # (rows, cols, token_px²)
        size = self.token_px
        picture = added.reshape(*by.shape, size, size).swapaxes(1, 2).reshape(where.shape)
        shifted = np.clip(np.rint(image + picture[..., None]), 0, 255).astype(np.uint8)
        return np.where(where[..., None], shifted, image)


@lru_cache(maxsize=4)
def patterns(token_px: int) -> Floats:
    """(F, token_px²) the pixels of each frequency."""
    every = np.eye(token_px**2, dtype=np.float32)[band(token_px)].reshape(-1, token_px, token_px)
    return np.asarray(idctn(every, axes=(1, 2), norm="ortho"), np.float32).reshape(len(every), -1)


def features(grey: Floats, token_px: int) -> Floats:
    """(rows, cols, F) of the whole tokens of a grey picture (h, w)."""
    rows, cols = (n // token_px for n in grey.shape)
    blocks = grey[: rows * token_px, : cols * token_px].reshape(rows, token_px, cols, token_px).swapaxes(1, 2)
    return np.asarray(blocks.reshape(rows, cols, token_px**2) @ patterns(token_px).T, np.float32)


class Found(NamedTuple):
    """The way of looking at an image in which most is green.

    p_value: at most so often chance comes so far in an image without a mark, of all ways that were tried. z: in
    standard deviations. share: of the tokens that are green, half without a mark; of n. which: list. scale, phase,
    shift: the image was resized by `scale`; pixels, of it brought back, from which tokens count, and places from which
    lists do.
    """

    p_value: float
    z: float
    share: float
    n: int
    which: int
    scale: float
    phase: tuple[int, int]
    shift: tuple[int, int]


@dataclass(frozen=True)
class Detector:
    """Looks for a mark in all alignments."""

    mark: Mark
    scales: tuple[float, ...] = SCALES

    @property
    def n_tests(self) -> int:
        """Ways in which an image is looked at."""
        return len(self.scales) * self.mark.token_px**2 * self.mark.pool * PERIOD**2

    def find(self, image: Pixels) -> Found | None:
        """The likeliest mark in an image (h, w, 3); None for one without a whole token."""
        best: Found | None = None
        size = self.mark.token_px
        for scale in self.scales:
            grey = brought_back(image, scale)
            for phase in ((down, right) for down in range(size) for right in range(size)):
                here = features(grey[phase[0] :, phase[1] :], self.mark.token_px)
                if here.size:
                    found = self._strongest(here, scale, phase)
                    best = found if best is None or found.z > best.z else best
        return None if best is None else best._replace(p_value=bounded(best.z, self.n_tests))

    def _strongest(self, here: Floats, scale: float, phase: tuple[int, int]) -> Found:
        """Of all lists, laid on tokens (rows, cols, F) in all ways."""
        pool = self.mark.pool
        padded, counted = _padded(here)
        greens = torch.from_numpy(self.mark.planes.reshape(-1, here.shape[-1])) @ torch.from_numpy(padded).T
        votes = (
            greens.sign_().view(pool, PERIOD**2, -1, PERIOD**2).sum(2)
        )  # by list, its place, the token's place
        of_place = votes[:, _SHIFTED, torch.arange(PERIOD**2)[:, None]]  # (pool, place of the token, shifts)
        z = of_place.sum(1) / of_place.square().sum(1).sqrt().clamp(min=1e-6)  # (pool, shifts)
        which, shift = divmod(int(z.argmax()), PERIOD**2)
        share = float(of_place[which, :, shift].sum()) / counted / 2 + 0.5
        return Found(
            1.0,
            float(z[which, shift]),
            share,
            counted,
            which,
            scale,
            phase,
            (shift // PERIOD, shift % PERIOD),
        )

    def greens(self, image: Pixels, found: Found) -> NDArray[np.bool_]:
        """(rows, cols) which tokens are green, as it was found."""
        here = features(
            brought_back(image, found.scale)[found.phase[0] :, found.phase[1] :], self.mark.token_px
        )
        rows, cols = ((np.arange(n) + by) % PERIOD for n, by in zip(here.shape[:2], found.shift, strict=True))
        return np.asarray((here * self.mark.planes[found.which][rows[:, None], cols]).sum(-1) > 0)


def brought_back(image: Pixels, scale: float) -> Floats:
    """An image (h, w, 3) that was resized, in grey and at its scale before: (h, w)."""
    grey = image.astype(np.float32) @ GREY
    if scale == 1:
        return np.asarray(grey, np.float32)
    return np.asarray(
        cv2.resize(grey, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_CUBIC), np.float32
    )


def bounded(z: float, n_tests: int) -> float:
    """At most so likely is it that the largest of n_tests sums of independent numbers, either sign of each of which is
    as likely, is z times the root of the sum of their squares (Hoeffding 1963, and the union bound)."""
    return min(1.0, n_tests * math.exp(-(max(z, 0.0) ** 2) / 2))


def _padded(here: Floats) -> tuple[Floats, int]:
    """Tokens (rows, cols, F) in squares of PERIOD: (squares · PERIOD², F), zero beyond them; and how many there are."""
    rows, cols, n = here.shape
    down, right = (-(-side // PERIOD) for side in (rows, cols))
    whole = np.zeros((down * PERIOD, right * PERIOD, n), np.float32)
    whole[:rows, :cols] = here
    squares = whole.reshape(down, PERIOD, right, PERIOD, n).swapaxes(1, 2)
    return np.ascontiguousarray(squares.reshape(-1, n)), rows * cols


_DOWN, _RIGHT = np.divmod(np.arange(PERIOD**2), PERIOD)
# (places, shifts): which place of a list lies on a place of tokens, shifted.
_SHIFTED = torch.from_numpy((_DOWN[:, None] + _DOWN) % PERIOD * PERIOD + (_RIGHT[:, None] + _RIGHT) % PERIOD)


@torch.inference_mode()
def shown_by(tokenizer: Tokenizer, n_codes: int) -> Floats:
    """(V, F) what each code of the finest map adds to a token's pixels, in grey levels, in an even grey tile."""
    side, px = tokenizer.schedule[-1].shape[0], tokenizer.px
    spots = [row * side + col for row in range(1, side - 1, SPACING) for col in range(1, side - 1, SPACING)]
    n = -(-n_codes // len(spots))
    codes = [each.repeat(n, 1) for each in tokenizer.encode(torch.zeros(1, 3, px, px))]
    order = torch.arange(n * len(spots)) % n_codes
    codes[-1][:, spots] = order.view(n, -1)
    even = torch.zeros(1, 3, px // 2, px // 2)
    shown = []
    for i in range(0, n, DECODED_AT_ONCE):
        some = [each[i : i + DECODED_AT_ONCE] for each in codes]
        shown.append(tokenizer.decode(some, even.expand(len(some[0]), -1, -1, -1)))
    grey = torch.cat(shown).movedim(1, -1).numpy() * 127.5 @ GREY
    found = np.stack([features(each, px // side).reshape(side * side, -1)[spots] for each in grey])
    found = found.reshape(-1, found.shape[-1])[:n_codes]
    return found - found.mean(0)
