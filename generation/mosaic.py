"""Windows that overlap, and in which order they are made so that none needs one that comes after it.

A plane of pixels is covered with square windows, each of which shares a strip with its neighbours. Windows of even rows
and columns are made first; those between them pass into those before in the strips. What a window shows depends on at
most eight neighbours, whichever is asked for first.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TURNS = 4
SLOTS = 4


class Place(NamedTuple):
    """A window: its level, 0 for the imagery's own pixels, 1 for half of them, -1 for double; row and column."""

    level: int
    row: int
    col: int

    @property
    def turn(self) -> int:
        """When it is made, 0..3."""
        return 2 * (self.row % 2) + self.col % 2

    @property
    def slot(self) -> int:
        """Where it always stands in a batch, 0..3, so that its floating-point numbers are always the same."""
        return 2 * (self.row // 2 % 2) + self.col // 2 % 2

    @property
    def before(self) -> list["Place"]:
        """The neighbours that are made before it."""
        around = (
            Place(self.level, self.row + down, self.col + right)
            for down, right in product((-1, 0, 1), (-1, 0, 1))
        )
        return [place for place in around if place.turn < self.turn and place.row >= 0 and place.col >= 0]


@dataclass(frozen=True)
class Mosaic:
    """px: side of a window. overlap: of which so much is shared with the next."""

    px: int
    overlap: int

    @property
    def step(self) -> int:
        return self.px - self.overlap

    def weights(self, place: Place) -> NDArray[np.float32]:
        """(px, px) how much of its own a window shows, where an earlier one shows something too: none at its edge."""
        inwards = (np.minimum(np.arange(self.px), np.arange(self.px)[::-1]) + 0.5) / self.overlap
        along = np.minimum(inwards, 1).astype(np.float32)
        down = along if place.turn >= 2 else np.ones_like(along)
        right = along if place.turn % 2 else np.ones_like(along)
        return np.asarray(down[:, None] * right)

    def touching(self, level: int, rows: range, cols: range) -> list[Place]:
        """The windows that have some of the pixels of these rows and columns, which start at 0 or later."""
        return [Place(level, row, col) for row, col in product(self._along(rows), self._along(cols))]

    def _along(self, pixels: range) -> range:
        if not pixels:
            return range(0)
        first = max(0, -(-(pixels.start - self.px + 1) // self.step))
        return range(first, (pixels.stop - 1) // self.step + 1)

    def pixels(self, place: Place) -> tuple[range, range]:
        """The rows and columns of a window's pixels."""
        top, left = place.row * self.step, place.col * self.step
        return range(top, top + self.px), range(left, left + self.px)


def needed(places: Iterable[Place], done: Container[Place] = ()) -> set[Place]:
    """Those of these windows that are not done, and all that must be made before them."""
    found: set[Place] = set()
    waiting = list(places)
    while waiting:
        place = waiting.pop()
        if place not in found and place not in done:
            found.add(place)
            waiting += place.before
    return found


def in_turns(places: Iterable[Place]) -> Iterator[list[Place]]:
    """The windows of every turn, in a fixed order."""
    ordered = sorted(places)
    for turn in range(TURNS):
        yield [place for place in ordered if place.turn == turn]


def batches(places: Iterable[Place]) -> Iterator[list[Place | None]]:
    """Windows in batches of four, each in its slot; None where a slot stays empty."""
    queues: list[list[Place]] = [[] for _ in range(SLOTS)]
    for place in places:
        queues[place.slot].append(place)
    for i in range(max(map(len, queues))):
        yield [queue[i] if i < len(queue) else None for queue in queues]
