"""PMTiles version 3: the tiles of a web map in one file, whose directory is read in parts."""

import gzip
import json
import os
import threading
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pmtiles.tile import (
    Compression,
    Entry,
    HeaderDict,
    TileType,
    deserialize_directory,
    deserialize_header,
    find_tile,
    tileid_to_zxy,
    zxy_to_tileid,
)
from pmtiles.writer import Writer

from tiles.bounds import Bounds
from tiles.encode import side_px
from tiles.errors import TilesError
from tiles.mbtiles import mercator_bounds
from tiles.store import WORLD_M, Level, mercator_level

HEADER_BYTES, MAGIC, VERSION = 127, b"PMTiles", 3
MAX_ZOOM = 31  # the numbers of finer tiles would not fit 64 bits
MAX_OFFSET = 2**62
MAX_READ = 2**28  # a longer part of a directory, or tile, is a mistake or an attack
CORNERS = ("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7")
MAX_DEPTH = 4  # of directories in directories, by the specification
DAMAGE = (ValueError, EOFError, OSError, IndexError, KeyError, OverflowError, zlib.error)


class ByteRanges(Protocol):
    """What holds a PMTiles file: a local file, a server. Pickles; may be read from several threads and processes."""

    name: str

    def read(self, offset: int, length: int) -> bytes:
        """Raises TilesError where it cannot be read."""

    def close(self) -> None:
        """A later `read` opens it again."""


class LocalFile:
    """Parts of a local file; see `ByteRanges`."""

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def read(self, offset: int, length: int) -> bytes:
        # `pread` leaves no position behind, so that threads and forked children may share the descriptor.
        try:
            with self._lock:
                if self._descriptor is None:
                    self._descriptor = os.open(self.name, os.O_RDONLY)
                return os.pread(self._descriptor, length, offset)
        except FileNotFoundError:
            raise TilesError(f"{self.name}: no such file; check the path") from None
        except OSError as error:
            raise TilesError(f"{self.name}: cannot be read ({error.strerror}); fetch it again") from None

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalFile, (self.name,)


class PMTiles:
    """A PMTiles file of imagery; see `TileStore`.

    The directory's parts are kept once they are read. Raises TilesError for a file that is missing, no PMTiles of
    version 3, without tiles, or of vector tiles.
    """

    crs = "EPSG:3857"
    padded = True

    def __init__(self, file: ByteRanges) -> None:
        self._file = file
        self._directories: dict[tuple[int, int], list[Entry]] = {}
        try:
            self._header = _read_header(file)
            self.attribution = self._attribution()
            self.levels = self._levels()
        except DAMAGE as error:
            raise TilesError(f"{file.name}: damaged PMTiles file ({error}); fetch it again") from None
        self.bounds = self._bounds() or self.levels[0].bounds

    def get(self, level: Level, col: int, row: int) -> bytes | None:
        """See `TileStore.get`."""
        try:
            entry = self._find(zxy_to_tileid(level.key, col, row))
            return self._read(entry) if entry else None
        except DAMAGE as error:
            raise TilesError(
                f"{self.describe(level, col, row)}: the directory is damaged ({error}); fetch the file again"
            ) from None

    def describe(self, level: Level, col: int, row: int) -> str:
        """See `TileStore.describe`."""
        return f"{self._file.name}, tile {level.key}/{col}/{row}"

    def close(self) -> None:
        """See `TileStore.close`."""
        self._file.close()

    def _attribution(self) -> str:
        offset, length = self._header["metadata_offset"], self._header["metadata_length"]
        metadata = json.loads(gzip.decompress(self._part(offset, length))) if length else {}
        return str(metadata.get("attribution") or "") if isinstance(metadata, dict) else ""

    def _levels(self) -> tuple[Level, ...]:
        first = self._first()
        name = f"{self._file.name}, tile {'/'.join(map(str, tileid_to_zxy(first.tile_id)))}"
        px = side_px(self._read(first), name=name)
        shown = self._bounds() or Bounds(-WORLD_M, -WORLD_M, WORLD_M, WORLD_M)
        levels = []
        for zoom in range(self._header["max_zoom"], self._header["min_zoom"] - 1, -1):
            every = range(2**zoom)
            cols, rows = mercator_level(zoom, px=px, cols=every, rows=every).touching(shown)
            levels.append(mercator_level(zoom, px=px, cols=cols, rows=rows))
        return tuple(levels)

    def _bounds(self) -> Bounds | None:
        """As the header has them, in Web Mercator; None where it has none."""
        header: Mapping[str, Any] = self._header
        west, south, east, north = (header[key] / 1e7 for key in CORNERS)
        return mercator_bounds(west, south, east, north)

    def _first(self) -> Entry:
        entries = self._root()
        for _ in range(MAX_DEPTH):
            if not entries:
                break
            if entries[0].run_length:
                return entries[0]
            entries = self._leaf(entries[0])
        raise TilesError(f"{self._file.name}: holds no tiles; fetch it again")

    def _find(self, tile_id: int) -> Entry | None:
        entries = self._root()
        for _ in range(MAX_DEPTH):
            entry = find_tile(entries, tile_id)
            if entry is None or entry.run_length:
                return entry
            entries = self._leaf(entry)
        return None

    def _root(self) -> list[Entry]:
        return self._directory(self._header["root_offset"], self._header["root_length"])

    def _leaf(self, entry: Entry) -> list[Entry]:
        return self._directory(self._header["leaf_directory_offset"] + entry.offset, entry.length)

    def _directory(self, offset: int, length: int) -> list[Entry]:
        key = offset, length
        if key not in self._directories:
            self._directories[key] = deserialize_directory(self._part(offset, length))
        return self._directories[key]

    def _read(self, entry: Entry) -> bytes:
        return self._part(self._header["tile_data_offset"] + entry.offset, entry.length)

    def _part(self, offset: int, length: int) -> bytes:
        if not (0 <= offset < MAX_OFFSET and 0 <= length < MAX_READ):
            raise ValueError(f"{length} bytes from {offset} on")
        return self._file.read(offset, length)


def _read_header(file: ByteRanges) -> HeaderDict:
    """Raises TilesError for a file that cannot be read or is not to be."""
    data = file.read(0, HEADER_BYTES)
    if data[: len(MAGIC)] != MAGIC:
        raise TilesError(f"{file.name}: not a PMTiles file; fetch it again or give another")
    if data[len(MAGIC)] != VERSION:
        raise TilesError(f"{file.name}: PMTiles of version {data[len(MAGIC)]}, not {VERSION}; convert it")
    header = deserialize_header(data)
    if header["tile_type"] in (TileType.MVT, TileType.MLT):
        raise TilesError(f"{file.name}: holds vector tiles; give imagery (JPEG, PNG or WebP tiles)")
    for key, known in (("internal_compression", Compression.GZIP), ("tile_compression", Compression.NONE)):
        found: Compression = dict[str, Any](header)[key]
        if found not in (known, Compression.UNKNOWN):
            raise TilesError(f"{file.name}: {key} is {found.name}, only {known.name} is read; convert it")
    if header["max_zoom"] > MAX_ZOOM or header["min_zoom"] > header["max_zoom"]:
        raise ValueError(f"zooms {header['min_zoom']} to {header['max_zoom']}")
    return header


def write(
    path: Path, tiles: Iterable[tuple[int, int, int, bytes]], metadata: Mapping[str, str], *, bounds: Bounds
) -> None:
    """Write a PMTiles file of JPEG tiles.

    tiles: (zoom, column, row, encoded) in the order of `tile_id`, at least one. bounds: in degrees, WGS 84.
    The same arguments make the same bytes.
    """
    spool = path.with_name(f"{path.name}.data")
    with path.open("wb") as file, spool.open("w+b") as data:
        writer = Writer(file)
        writer.tile_f.close()
        writer.tile_f = data  # the package's own is in the system's temporary folder, which may be memory
        for zoom, col, row, tile in tiles:
            writer.write_tile(tile_id(zoom, col, row), tile)
        corners = dict(zip(CORNERS, (round(degrees * 1e7) for degrees in bounds), strict=True))
        kinds = {"tile_type": TileType.JPEG, "tile_compression": Compression.NONE}
        writer.finalize(corners | kinds, dict(metadata))
    spool.unlink()


def tile_id(zoom: int, col: int, row: int) -> int:
    """A tile's place in the order of a PMTiles file."""
    return int(zxy_to_tileid(zoom, col, row))
