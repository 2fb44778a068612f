"""What a source answers with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class View:
    """A north-up window of imagery.

    pixels: (h, w, 3) uint8 RGB; black where there is none, but ask the mask.
    mask: (h, w) bool, True where there is imagery.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]

    @property
    def coverage(self) -> float:
        """The part of the window that has imagery, 0..1."""
        return float(self.mask.mean())


def empty_view(shape: tuple[int, int]) -> View:
    """A view without any imagery; shape = (height, width)."""
    return View(np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool))
