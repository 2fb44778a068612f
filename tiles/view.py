"""What a source answers with."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class View:
    """A north-up window of imagery.

    pixels: (h, w, 3) uint8 RGB; black where there is none, but ask the mask.
    mask: (h, w) bool, True where there is imagery. synthetic: (h, w) bool, True where a pixel was made up, or something
    made up went into it: to be shown, never to be taken for evidence. None: nothing was.
    The arrays are read-only where others have them too; copy what is to be changed.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    synthetic: NDArray[np.bool_] | None = None

    @property
    def coverage(self) -> float:
        """The part of the window that has imagery, 0..1."""
        return float(self.mask.mean())

    @property
    def real(self) -> NDArray[np.bool_]:
        """(h, w) where there is imagery that nobody made up."""
        return self.mask if self.synthetic is None else self.mask & ~self.synthetic

    @property
    def synthetic_share(self) -> float:
        """The part of the window that was made up, 0..1."""
        return 0.0 if self.synthetic is None else float((self.mask & self.synthetic).mean())

    def flagged(self) -> "View":
        """The same arrays, with one for what is synthetic, to be written to."""
        return self if self.synthetic is not None else replace(self, synthetic=np.zeros_like(self.mask))


def empty_view(shape: tuple[int, int]) -> View:
    """A view without any imagery; shape = (height, width)."""
    return View(np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool))
