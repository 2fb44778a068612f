"""Folders in the layout of the package tiledwebmaps: a `layout.yaml` beside tiles of any CRS, axes and origin.

The keys of `layout.yaml`, as version 0.2.0 of that package reads them:

- crs; tile_shape_px and tile_shape_crs: [side, side] of a tile, at zoom 0 in the CRS; 2**z times smaller at zoom z;
- tile_axes: where x and y of a tile count to, two of east, west, north and south;
- origin_crs: where they count from, in the CRS's own order of axes. One that counts against its axis counts from
  the other end of size_crs (which that package adds in the order of the tile's axes, not of the CRS's);
- path: "{zoom}/{x}/{y}.jpg" unless given; {z} is {zoom}. min_zoom, max_zoom: may be negative.

`preset: XYZ` stands for the grid of web maps. Tiles show north up, whatever their axes.
"""

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from tiles.errors import TilesError
from tiles.geo import crs_named
from tiles.store import WORLD_M, Level, bounds_of_leaves, contents

LAYOUT_FILE = "layout.yaml"
PACKED_FILE = "images.dat"
DEFAULT_PATH = "{zoom}/{x}/{y}.jpg"
AXIS = {
    "east": "east",
    "west": "east",
    "north": "north",
    "south": "north",
}  # of the CRS, along which to count
MAX_ZOOM = 64
WEB_MAP = {
    "crs": "EPSG:3857",
    "tile_shape_px": [256, 256],
    "tile_shape_crs": [2 * WORLD_M, 2 * WORLD_M],
    "origin_crs": [-WORLD_M, -WORLD_M],
    "size_crs": [2 * WORLD_M, 2 * WORLD_M],
    "tile_axes": ["east", "south"],
}


class TiledWebMaps:
    """A folder of such tiles; see `TileStore`.

    bounds: around the tiles that no finer tile replaces. Raises TilesError for a `layout.yaml` that cannot be
    read, or that no tile fits.
    """

    attribution = ""
    padded = True

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._layout = _read_layout(self.folder)
        self.crs = self._layout.crs
        places = self._find_tiles()
        self.levels = tuple(self._layout.level(zoom, places[zoom]) for zoom in sorted(places, reverse=True))
        self.bounds = bounds_of_leaves(self.levels, places)

    def get(self, level: Level, col: int, row: int) -> bytes | None:
        """See `TileStore.get`."""
        path = self._path(level, col, row)
        try:
            return contents(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TilesError(f"{path}: cannot be read ({error.strerror}); fetch it again") from None

    def describe(self, level: Level, col: int, row: int) -> str:
        """See `TileStore.describe`."""
        return self._path(level, col, row)

    def close(self) -> None:
        """Nothing stays open."""

    def _path(self, level: Level, col: int, row: int) -> str:
        x, y = self._layout.numbers(col, row)
        return f"{self.folder}/{self._layout.path.format(zoom=level.key, z=level.key, x=x, y=y)}"

    def _find_tiles(self) -> dict[int, set[tuple[int, int]]]:
        """The columns and rows of all tiles, by zoom."""
        layout = self._layout
        literals = re.split(r"{\w+}", layout.path)
        anything = "*".join(map(glob.escape, literals))
        exactly = re.compile(re.sub(r"\\{(\w)\w*\\}", r"(?P<\1>-?\\d+)", re.escape(layout.path)))
        found: dict[int, set[tuple[int, int]]] = {}
        for name in glob.iglob(anything, root_dir=self.folder):  # noqa: PTH207 (Path.glob knows no escape)
            tile = exactly.fullmatch(name)
            if tile and layout.min_zoom <= int(tile["z"]) <= layout.max_zoom:
                found.setdefault(int(tile["z"]), set()).add(layout.place(int(tile["x"]), int(tile["y"])))
        if not found:
            packed = f"; {PACKED_FILE} is not read: unpack it" if (self.folder / PACKED_FILE).exists() else ""
            raise TilesError(f"{self.folder}: no tiles {layout.path}, as {LAYOUT_FILE} has them{packed}")
        return found


@dataclass(frozen=True)
class _Layout:
    """What a `layout.yaml` says.

    corner: (x, y) that tiles count from. side: of a tile at zoom 0, in units of the CRS. swapped: a tile's first
    number counts along y. westward, northward: tiles count that way.
    """

    crs: str
    corner: tuple[float, float]
    side: float
    px: int
    swapped: bool
    westward: bool
    northward: bool
    path: str
    min_zoom: int
    max_zoom: int

    def level(self, zoom: int, places: Iterable[tuple[int, int]]) -> Level:
        cols, rows = zip(*places, strict=True)
        return Level(
            zoom,
            self.corner,
            self.side / 2.0**zoom,
            self.px,
            range(min(cols), max(cols) + 1),
            range(min(rows), max(rows) + 1),
        )

    def place(self, x: int, y: int) -> tuple[int, int]:
        """The column and row, counted east and south, of a tile."""
        col, row = (y, x) if self.swapped else (x, y)
        return -1 - col if self.westward else col, -1 - row if self.northward else row

    def numbers(self, col: int, row: int) -> tuple[int, int]:
        """The x and y that a tile's path has."""
        x, y = -1 - col if self.westward else col, -1 - row if self.northward else row
        return (y, x) if self.swapped else (x, y)


def _read_layout(folder: Path) -> _Layout:
    path = folder / LAYOUT_FILE
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _parse(WEB_MAP | entries if entries.get("preset") == "XYZ" else entries)
    except KeyError as error:
        raise TilesError(f"{path}: the key {error} is missing; add it") from None
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError, TilesError) as error:
        reason = " ".join(str(error).split())
        raise TilesError(f"{path}: not a layout of tiledwebmaps ({reason}); correct it") from None


def _parse(entries: dict[str, Any]) -> _Layout:
    crs, ways = str(entries["crs"]), list(entries["tile_axes"])
    axes = [axis.direction for axis in crs_named(crs).axis_info[:2]]
    if (
        sorted(axes) != ["east", "north"]
        or {AXIS.get(way) for way in ways} != {"east", "north"}
        or len(ways) != 2
    ):
        raise ValueError(f"tile_axes {ways} in a CRS whose axes are {axes}")
    corner = _pair(entries["origin_crs"])
    for i, way in enumerate(ways):
        if way not in axes:
            corner[i] += _pair(entries["size_crs"])[axes.index(AXIS[way])]
    path = str(entries.get("path", DEFAULT_PATH))
    path = path if "{" in path else f"{path}/{DEFAULT_PATH}"
    if sorted(re.findall(r"{(.*?)}", path.replace("{zoom}", "{z}"))) != ["x", "y", "z"]:
        raise ValueError(
            f"a path {path}; it must hold {{zoom}}, {{x}} and {{y}}, each once, and nothing else"
        )
    return _Layout(
        crs=crs,
        corner=(corner[axes.index("east")], corner[axes.index("north")]),
        side=_side(entries["tile_shape_crs"]),
        px=int(_side(entries["tile_shape_px"])),
        swapped=AXIS[ways[0]] == "north",
        westward="west" in ways,
        northward="north" in ways,
        path=path,
        min_zoom=_zoom(entries["min_zoom"]),
        max_zoom=_zoom(entries["max_zoom"]),
    )


def _pair(value: Any) -> list[float]:
    first, second = map(float, value)
    if not (isfinite(first) and isfinite(second)):
        raise ValueError(f"{value} are no two numbers")
    return [first, second]


def _side(value: Any) -> float:
    height, width = _pair(value)
    if height != width or height <= 0:
        raise ValueError(f"{value} is no square")
    return height


def _zoom(value: Any) -> int:
    if not -MAX_ZOOM <= int(value) <= MAX_ZOOM:
        raise ValueError(f"{value} is no zoom")
    return int(value)
