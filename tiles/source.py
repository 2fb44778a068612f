"""The contract every kind of imagery follows."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tiles.bounds import Bounds
from tiles.view import View
from tiles.window import Resampling, Window


class Source(ABC):
    """Something that renders any window of any CRS into pixels.

    crs: of the imagery itself, such as "EPSG:32632". bounds: of the imagery, in that CRS. gsd_m: metres on
    the ground of its finest pixel. levels_m: the same of every level it is stored at, finest first.
    attribution: whom to name, "" where unknown. synthetic: it may make pixels up; the views say which. gives_way: in a
    stack, to all sources that do not, however coarse they are. Sources may be read from several threads and processes
    (forked or spawned) at once, and pickled.
    """

    crs: str
    bounds: Bounds
    gsd_m: float
    levels_m: tuple[float, ...]
    attribution: str
    synthetic: bool = False
    gives_way: bool = False

    @property
    def real(self) -> "Source":
        """The imagery without what is made up: evidence is read from this one."""
        return self

    def read(
        self,
        bounds: Bounds,
        crs: str,
        shape: tuple[int, int],
        *,
        resampling: Resampling = "auto",
        bearing_deg: float = 0.0,
    ) -> View:
        """The window `bounds` of `crs` as shape = (height, width) pixels; see `Window`.

        What has no imagery is masked. Raises TilesError for an unknown CRS or an empty window, and for imagery
        that turns out damaged or cannot be reached.
        """
        return self.render(Window(bounds, crs, shape, bearing_deg, resampling))

    def read_many(self, windows: Sequence[Window], *, threads: int | None = None) -> list[View]:
        """The views of many windows, in their order, rendered by several threads (as many as there are cores)."""
        threads = min(threads or os.cpu_count() or 1, max(1, len(windows)))
        if threads == 1:
            return [self.render(window) for window in windows]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self.render, windows))

    @abstractmethod
    def render(self, window: Window) -> View:
        """The view of one window."""

    @abstractmethod
    def close(self) -> None:
        """Release open files and memory; a later read opens them again."""
