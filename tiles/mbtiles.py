"""MBTiles: tiles in an SQLite file, of a web map or of the cells of a region (`tiles.cells`), read and written."""

import os
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

from tiles.bounds import Bounds
from tiles.cells import CellGrid
from tiles.encode import side_px
from tiles.errors import TilesError
from tiles.geo import transform_bounds
from tiles.store import Level, mercator_level

GRID_ROW = "zoomloc:grid"
MAX_LATITUDE = 85.051129  # where the Web Mercator square ends
GZIP = b"\x1f\x8b"  # how vector tiles begin
SCHEMA = """
    CREATE TABLE metadata (name TEXT, value TEXT);
    CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB);
    CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row);
    PRAGMA application_id = 1297105496;
"""


class MBTiles:
    """An MBTiles file; see `TileStore`.

    Raises TilesError for a file that is missing, no MBTiles, without tiles, or of vector tiles.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._connections = _Connections(self.path)
        metadata = dict(self._rows("SELECT name, value FROM metadata"))
        self._grid = CellGrid.loads(metadata[GRID_ROW], name=str(path)) if GRID_ROW in metadata else None
        if self._grid:
            self.crs, self.levels, self.bounds = self._grid.crs, self._grid.levels, self._grid.bounds
        else:
            self.crs, self.levels = "EPSG:3857", self._web_levels(metadata)
            self.bounds = _bounds(metadata.get("bounds")) or self.levels[0].bounds
        self.padded = self._grid is None
        self.attribution: str = metadata.get("attribution") or ""

    def get(self, level: Level, col: int, row: int) -> bytes | None:
        """See `TileStore.get`."""
        try:
            found = self._connections.get().execute(
                "SELECT CAST(tile_data AS BLOB) FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?",
                (level.key, col, self._from_south(level.key, row)),
            )
            tile = found.fetchone()
        except sqlite3.Error as error:
            raise TilesError(
                f"{self.describe(level, col, row)}: cannot be read ({error}); fetch or build the file again"
            ) from None
        return tile[0] if tile else None

    def describe(self, level: Level, col: int, row: int) -> str:
        """See `TileStore.describe`."""
        return f"{self.path}, zoom_level {level.key}, column {col}, row {self._from_south(level.key, row)}"

    def close(self) -> None:
        """See `TileStore.close`."""
        self._connections.close()

    def _from_south(self, key: int, row: int) -> int:
        """MBTiles counts rows from the south; and back."""
        return _rows_of(key, self._grid) - 1 - row

    def _rows(self, query: str, *values: int) -> list[tuple[Any, ...]]:
        try:
            return self._connections.get().execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise TilesError(
                f"{self.path}: not an MBTiles file ({error}); fetch it again or give another file"
            ) from None

    def _web_levels(self, metadata: Mapping[str, str]) -> tuple[Level, ...]:
        if metadata.get("format") == "pbf":
            raise TilesError(f"{self.path}: holds vector tiles; give imagery (JPEG, PNG or WebP tiles)")
        extents = self._rows(
            "SELECT zoom_level, min(tile_column), max(tile_column), min(tile_row), max(tile_row)"
            " FROM tiles GROUP BY zoom_level ORDER BY zoom_level DESC"
        )
        if not extents:
            raise TilesError(f"{self.path}: holds no tiles; fetch or build it again")
        return tuple(
            mercator_level(
                zoom,
                px=self._side_px(zoom),
                cols=range(west, east + 1),
                rows=range(self._from_south(zoom, north), self._from_south(zoom, south) + 1),
            )
            for zoom, west, east, south, north in extents
        )

    def _side_px(self, zoom: int) -> int:
        query = "SELECT CAST(tile_data AS BLOB) FROM tiles WHERE zoom_level = ? LIMIT 1"
        [(tile,)] = self._rows(query, zoom)
        if tile[:2] == GZIP:
            raise TilesError(f"{self.path}: holds vector tiles; give imagery (JPEG, PNG or WebP tiles)")
        return side_px(tile, name=f"{self.path}, zoom_level {zoom}")


@dataclass(eq=False)
class _Opened:
    """A connection with the process it belongs to; SQLite's must not be used by a forked child."""

    connection: sqlite3.Connection
    pid: int
    closed: bool = False


class _Connections:
    """Connections to one file, opened for reading: one a thread and process, gone with its thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._opened: WeakSet[_Opened] = WeakSet()

    def get(self) -> sqlite3.Connection:
        """This thread's connection. Raises TilesError where there is no such file."""
        opened: _Opened | None = getattr(self._thread, "opened", None)
        if opened is None or opened.closed or opened.pid != os.getpid():
            opened = self._thread.opened = _Opened(self._connect(), os.getpid())
            with self._lock:
                self._opened.add(opened)
        return opened.connection

    def close(self) -> None:
        with self._lock:
            for opened in self._opened:
                if opened.pid == os.getpid():
                    opened.closed = True
                    opened.connection.close()
            self._opened.clear()

    def _connect(self) -> sqlite3.Connection:
        if not self._path.is_file():
            raise TilesError(f"{self._path}: no such file; check the path")
        uri = f"file:{quote(str(self._path.absolute()))}?mode=ro"
        return sqlite3.connect(uri, uri=True, check_same_thread=False)  # any thread may call `close`

    def __reduce__(self) -> tuple[Any, ...]:
        return _Connections, (self._path,)


def write(
    path: str | Path,
    tiles: Iterable[tuple[int, int, int, bytes]],
    metadata: Mapping[str, str],
    *,
    grid: CellGrid | None = None,
) -> None:
    """Write a new MBTiles file of a web map or, with a grid, of its cells.

    tiles: (zoom or level, column, row counted from the north, encoded). metadata: further rows of that table.
    The same arguments make the same bytes.
    """
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA)
        rows = dict(metadata) | ({GRID_ROW: grid.dumps()} if grid else {})
        connection.executemany("INSERT INTO metadata VALUES (?, ?)", rows.items())
        connection.executemany(
            "INSERT INTO tiles VALUES (?, ?, ?, ?)",
            ((key, col, _rows_of(key, grid) - 1 - row, data) for key, col, row, data in tiles),
        )


def _rows_of(key: int, grid: CellGrid | None) -> int:
    """How many rows a level has: of a grid of cells, or of a web map."""
    return (grid.branch if grid else 2) ** key


def _bounds(text: str | None) -> Bounds | None:
    """The metadata's "west,south,east,north" in degrees as Web Mercator; None where they cannot be used."""
    try:
        west, south, east, north = map(float, (text or "").split(","))
    except ValueError:
        return None
    return mercator_bounds(west, south, east, north)


def mercator_bounds(west: float, south: float, east: float, north: float) -> Bounds | None:
    """A rectangle in degrees as Web Mercator, cut where the map ends; None for one that is none."""
    south, north = max(south, -MAX_LATITUDE), min(north, MAX_LATITUDE)
    if not (-180 <= west < east <= 180 and south < north):
        return None
    return transform_bounds(Bounds(west, south, east, north), "EPSG:4326", "EPSG:3857")
