"""The cells of a region as tiles: one picture a cell, so that a view is one tile.

A full cell is a JPEG at the finest level and a PPM at all others: these are few, are looked at most, and have so much
detail that to decode their JPEGs would take longest. A partly masked one is a lossless WebP, a cell without imagery is
absent. Cells come as a folder, `grid.json` beside level/row/col.jpg, .ppm or .webp, or as an MBTiles file whose
metadata row `zoomloc:grid` holds that same JSON. Programs that know only web maps cannot place such a file: its tiles
are cells of its own CRS.
"""

import json
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path

from tiles.bounds import Bounds, cell_bounds
from tiles.decode import MAX_TILE_PX
from tiles.errors import TilesError
from tiles.geo import crs_named
from tiles.store import Level, contents

GRID_FILE = "grid.json"
SUFFIXES = (".jpg", ".ppm", ".webp")
MAX_BRANCH, MAX_DEPTH = 64, 32  # beyond them a file is a mistake or an attack


@dataclass(frozen=True)
class CellGrid:
    """The cells of the levels 0..depth-1 of a pyramid, px by px each.

    crs: projected, in metres. north_west: (x, y) of the square's corner. size_m: its side. branch: children along
    a side of a cell. attribution: of the imagery.
    """

    crs: str
    north_west: tuple[float, float]
    size_m: float
    branch: int
    depth: int
    px: int
    attribution: str = ""

    @property
    def bounds(self) -> Bounds:
        return cell_bounds(
            north_west=self.north_west, size_m=self.size_m, branch=self.branch, level=0, row=0, col=0
        )

    @property
    def levels(self) -> tuple[Level, ...]:
        """Finest first. Each shows all there is, so that none fills holes of another."""
        return tuple(self._level(key) for key in reversed(range(self.depth)))

    def _level(self, key: int) -> Level:
        n = self.branch**key
        return Level(key, self.north_west, self.size_m / n, self.px, range(n), range(n), complete=True)

    def dumps(self) -> str:
        """The JSON that `loads` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str, *, name: str) -> "CellGrid":
        """Raises TilesError, beginning with `name`, for a text that describes no grid."""
        try:
            entries = json.loads(text)
            west, north = map(float, entries["north_west"])
            grid = cls(**entries | {"north_west": (west, north)})
            if not grid._is_sound():
                raise ValueError("its numbers make no grid")
            crs_named(grid.crs)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            keys = ", ".join(field.name for field in fields(cls))
            reason = " ".join(str(error).split())
            raise TilesError(
                f"{name}: describes no grid of cells ({reason}); it needs {keys}; build it again"
            ) from None
        except TilesError as error:
            raise TilesError(f"{name}: {error}") from None
        return grid

    def _is_sound(self) -> bool:
        whole = all(type(number) is int for number in (self.branch, self.depth, self.px))
        return (
            whole
            and all(map(isfinite, (*self.north_west, self.size_m)))
            and self.size_m > 0
            and 2 <= self.branch <= MAX_BRANCH
            and 1 <= self.depth <= MAX_DEPTH
            and 1 <= self.px <= MAX_TILE_PX
            and isinstance(self.crs, str)
            and isinstance(self.attribution, str)
        )


class CellFolder:
    """A folder of cells; see `TileStore`. Raises TilesError for a folder without a readable `grid.json`."""

    padded = False

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / GRID_FILE
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TilesError(f"{path}: cannot be read ({error}); build it again") from None
        grid = CellGrid.loads(text, name=str(path))
        self.crs, self.levels, self.bounds = grid.crs, grid.levels, grid.bounds
        self.attribution = grid.attribution

    def get(self, level: Level, col: int, row: int) -> bytes | None:
        """See `TileStore.get`."""
        for ending in SUFFIXES:
            path = self._path(level, col, row).with_suffix(ending)
            try:
                return contents(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise TilesError(f"{path}: cannot be read ({error.strerror}); build it again") from None
        return None

    def describe(self, level: Level, col: int, row: int) -> str:
        """See `TileStore.describe`."""
        return f"{self._path(level, col, row)}.*"

    def close(self) -> None:
        """Nothing stays open."""

    def _path(self, level: Level, col: int, row: int) -> Path:
        return self.folder / str(level.key) / str(row) / str(col)
