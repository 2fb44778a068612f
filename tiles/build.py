"""One pyramid of tiles, or one GeoTIFF, out of any imagery: mosaicked, reprojected, cut as the reader wants it."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiles.decode import decode
from tiles.encode import encode
from tiles.errors import TilesError
from tiles.forms import Form, Key, Kind, form_of
from tiles.pyramid import Pyramid
from tiles.source import Source
from tiles.store import Level
from tiles.view import View
from tiles.window import Window

BATCH = 128  # tiles made between two commits, and lost at most when a build is killed
MADE_UP = "the imagery makes pixels up, and what is built would pass them off as real; build from the imagery itself"
SCHEMA = """
    CREATE TABLE IF NOT EXISTS arguments (name TEXT, value TEXT);
    CREATE TABLE IF NOT EXISTS tiles (level INTEGER, col INTEGER, row INTEGER, data BLOB);
    CREATE UNIQUE INDEX IF NOT EXISTS places ON tiles (level, col, row);
"""


def build(
    pyramid: Pyramid,
    target: str | Path,
    *,
    kind: Kind | None = None,
    px: int | None = None,
    gsd_m: float | None = None,
    attribution: str | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the imagery of a pyramid's square in one of these forms, which `tiles.open` reads:

    - name.mbtiles, or a name without a suffix (a folder): the square's cells, levels 0..depth-1, one picture each
      (`tiles.cells`): what the model reads, at the speed of decoding a JPEG or more; with kind="web" a web map
      (EPSG:3857, MBTiles or z/x/y), which other programs read;
    - name.pmtiles: the web map;
    - name.tif: a Cloud Optimized GeoTIFF in the square's CRS.

    kind: where the suffix leaves it open; "cells" unless given. px: a tile's side; 384 of cells, 256 of a web map,
    512 of a GeoTIFF. gsd_m: metres on the ground of the finest pixel of a web map (the zoom nearest to it) or of a
    GeoTIFF; the source's unless given. attribution: the source's unless given. workers: threads; as many as cores
    unless given. progress: called with the number of tiles done and of all, from this thread, once at the start
    and after every tile.

    The finest tiles are rendered from the source, coarser ones are the exact area average of the finer: the source
    is read once, and its overviews, which may be missing or made by picking pixels, matter no more. Tiles that are
    partly masked are lossless WebP, all others JPEG, but for coarser cells (see `tiles.cells`); a tile's first bytes
    say which. Where nothing is, there is no tile. Tiles of a web map at the square's edge show what imagery there is
    beyond it.

    The work is kept in the folder `target`.part. A build that was killed goes on from there when called again with
    the same arguments (`workers` and `progress` may differ) and imagery; the bytes of the result are always the
    same. The target appears when it is complete. On the way the disk holds it twice, a GeoTIFF's pixels besides.

    Raises TilesError for a target that exists, a form that cannot be, work left by other arguments or still under
    way, imagery that cannot be read or makes pixels up, which none of these forms could tell from real ones, and a
    disk that cannot be written.
    """
    target, source = Path(target), pyramid.source
    if target.exists():
        raise TilesError(f"{target}: exists already; delete it or build under another name")
    if source.synthetic:
        raise TilesError(f"{target}: {MADE_UP}")
    attribution = source.attribution if attribution is None else attribution
    form = form_of(target, pyramid, kind=kind, px=px, gsd_m=gsd_m, attribution=attribution)
    arguments = {
        "form": form.name,
        "square": [pyramid.crs, *pyramid.bounds(0, 0, 0), pyramid.branch, pyramid.depth],
        "resolution": [form.levels[0].side, form.levels[0].px],
        "imagery": [source.crs, *source.bounds, source.gsd_m],
        "attribution": attribution,
    }
    part = target.with_name(f"{target.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        with closing(_Work(part, arguments)) as work:
            _make(form, source, work, threads=workers or os.cpu_count() or 1, progress=progress)
            if not work.places():
                raise TilesError(f"{target}: the imagery shows nothing at this resolution; nothing to build")
            result = part / "result"
            _remove(result)
            form.write(result, work)
            result.replace(target)
        shutil.rmtree(part)
    except (OSError, sqlite3.Error) as error:
        raise TilesError(f"{target}: cannot be written ({error}); mend that and build again") from None


def _make(
    form: Form,
    source: Source,
    work: "_Work",
    *,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Make the tiles that are not there yet: finest level first, row by row, whatever the number of threads."""
    total = sum(len(level.cols) * len(level.rows) for level in form.levels)
    report = progress or (lambda done, total: None)
    done = work.count()
    report(done, total)
    with ThreadPoolExecutor(threads) as pool:
        for batch in _batches(form.levels, skip=done):
            tasks = [_task(form, source, work, key) for key in batch]
            for key, tile in zip(batch, pool.map(lambda task: task(), tasks), strict=True):
                work.add(key, tile)
                done += 1
                report(done, total)
            work.commit()


def _batches(levels: Sequence[Level], *, skip: int) -> Iterator[list[Key]]:
    """The tiles of all levels but the first `skip`, in batches of one level."""
    for level in levels:
        n = len(level.cols) * len(level.rows)
        for start in range(min(skip, n), n, BATCH):
            places = (divmod(i, len(level.cols)) for i in range(start, min(start + BATCH, n)))
            yield [(level.key, level.cols[col], level.rows[row]) for row, col in places]
        skip = max(skip - n, 0)


def _task(form: Form, source: Source, work: "_Work", key: Key) -> Callable[[], bytes | None]:
    """What makes a tile; the work is read here, for only one thread may."""
    at, col, row = key
    i = next(i for i, level in enumerate(form.levels) if level.key == at)
    level = form.levels[i]
    if i == 0:
        bounds = level.around(range(col, col + 1), range(row, row + 1))
        return partial(_rendered, source, Window(bounds, form.crs, (level.px, level.px)))
    n = form.branch
    places = product(range(row * n, row * n + n), range(col * n, col * n + n))
    finer = [work.find((form.levels[i - 1].key, x, y)) for y, x in places]
    return partial(_averaged, finer, n, level.px, plain=form.plain)


def _rendered(source: Source, window: Window) -> bytes | None:
    """Raises TilesError for pixels that were made up, by a source that does not say it makes any."""
    view = source.render(window)
    if view.synthetic_share:
        raise TilesError(MADE_UP)
    return encode(view)


def _averaged(finer: Sequence[bytes | None], n: int, px: int, *, plain: bool) -> bytes | None:
    """The tile that n x n finer ones make, given row by row; a pixel is imagery where at least half of it is."""
    colours, opaque = np.zeros((n, px, n, px, 3), np.uint8), np.zeros((n, px, n, px), np.bool_)
    for i, tile in enumerate(finer):
        if tile:
            pixels = decode(tile, px, padded=False, name=lambda: "a tile of this build")
            here = i // n, slice(None), i % n
            opaque[here] = pixels[..., 3] >= 128 if pixels.shape[2] == 4 else True
            colours[here] = pixels[..., :3]
            colours[here][~opaque[here]] = 0  # WebP keeps no colour where nothing shows
    total, count = _sum_of_blocks(colours, n), _sum_of_blocks(opaque, n)
    mask = 2 * count >= n * n
    # To the nearest even number where two are as near: always up would add an eighth at every level.
    mean = np.rint(total / np.maximum(count, 1).astype(np.float32)[..., None])
    return encode(View(np.where(mask[..., None], mean, 0).astype(np.uint8), mask), plain=plain)


def _sum_of_blocks(tiles: NDArray[Any], n: int) -> NDArray[np.uint32]:
    """n x n tiles (n, px, n, px, ...) as one picture, the pixels of which are summed n x n: (px, px, ...)."""
    _, px, _, _, *bands = tiles.shape
    lines = tiles.reshape(px, n, px * n, *bands)
    summed = sum((lines[:, i] for i in range(1, n)), lines[:, 0].astype(np.uint32))
    pixels = summed.reshape(px, px, n, *bands)
    return sum((pixels[:, :, i] for i in range(1, n)), pixels[:, :, 0])


class _Work:
    """The tiles made so far, in a file that survives a kill.

    Tiles are added in one order, so that their number says where to go on. Raises TilesError for the work of
    other arguments and for work under way.
    """

    def __init__(self, folder: Path, arguments: Mapping[str, Any]) -> None:
        self._connection = sqlite3.connect(folder / "work.sqlite", timeout=0)
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            self._connection.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            self.close()
            raise TilesError(f"{folder}: another build works there ({error}); wait for its end") from None
        begun = self._connection.execute("SELECT name, value FROM arguments").fetchall()
        now = [(name, json.dumps(value)) for name, value in arguments.items()]
        if not begun:
            self._connection.executemany("INSERT INTO arguments VALUES (?, ?)", now)
            self.commit()
        elif dict(begun) != dict(now):
            self.close()
            other = ", ".join(name for name, value in now if dict(begun).get(name) != value)
            raise TilesError(
                f"{folder}: holds the unfinished work of a build that differs in {other}; "
                "build with the same arguments and imagery as then, or delete that folder"
            )

    def count(self) -> int:
        """Of all tiles looked at, those with nothing to show included."""
        return int(self._connection.execute("SELECT count(*) FROM tiles").fetchone()[0])

    def places(self) -> list[Key]:
        """Of the tiles there are, in their order."""
        return self._connection.execute(
            "SELECT level, col, row FROM tiles WHERE data IS NOT NULL ORDER BY rowid"
        ).fetchall()

    def get(self, key: Key) -> bytes:
        tile = self.find(key)
        if tile is None:
            raise KeyError(key)
        return tile

    def find(self, key: Key) -> bytes | None:
        query = "SELECT data FROM tiles WHERE level = ? AND col = ? AND row = ?"
        found = self._connection.execute(query, key).fetchone()
        return found[0] if found else None

    def add(self, key: Key, tile: bytes | None) -> None:
        self._connection.execute("INSERT INTO tiles VALUES (?, ?, ?, ?)", (*key, tile))

    def commit(self) -> None:
        self._connection.commit()

    def close(self) -> None:
        self._connection.close()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
