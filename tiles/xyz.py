"""Folders of map tiles as web maps use them: z/x/y.jpg, .png or .webp, Web Mercator, y from the north."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from tiles.errors import TilesError
from tiles.store import Level, bounds_of_leaves, contents, mercator_level

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class XYZFolder:
    """A folder of tiles; see `TileStore`.

    bounds: around the tiles that no finer tile replaces. Raises TilesError for a folder without tiles.
    """

    crs = "EPSG:3857"
    attribution = ""
    padded = True

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._paths = _find_tiles(self.folder)
        self.levels = tuple(_level(zoom, paths) for zoom, paths in self._paths.items())
        self.bounds = bounds_of_leaves(self.levels, self._paths)

    def get(self, level: Level, col: int, row: int) -> bytes | None:
        """See `TileStore.get`."""
        path = self._paths[level.key].get((col, row))
        try:
            return contents(path) if path else None
        except OSError as error:
            raise TilesError(f"{path}: cannot be read ({error.strerror}); fetch it again") from None

    def describe(self, level: Level, col: int, row: int) -> str:
        """See `TileStore.describe`."""
        return str(self._paths[level.key].get((col, row), self.folder))

    def close(self) -> None:
        """Nothing stays open."""


def _level(zoom: int, paths: dict[tuple[int, int], Path]) -> Level:
    cols, rows = zip(*paths, strict=True)
    return mercator_level(
        zoom,
        px=_width(next(iter(paths.values()))),
        cols=range(min(cols), max(cols) + 1),
        rows=range(min(rows), max(rows) + 1),
    )


def _width(path: Path) -> int:
    try:
        with Image.open(path) as image:
            return image.width
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).replace(str(path), "it").split())
        raise TilesError(f"{path}: not a readable tile ({reason}); fetch it again or delete it") from None


def _find_tiles(folder: Path) -> dict[int, dict[tuple[int, int], Path]]:
    """All tiles below a folder by zoom, finest first, then by (x, y)."""
    found = {}
    for zoom_folder in sorted(_numbered(folder), key=lambda path: int(path.name), reverse=True):
        paths = {
            (int(column.name), int(tile.stem)): tile
            for column in _numbered(zoom_folder)
            for tile in column.iterdir()
            if tile.stem.isdecimal() and tile.suffix.lower() in SUFFIXES
        }
        if paths:
            found[int(zoom_folder.name)] = paths
    if not found:
        raise TilesError(
            f"{folder}: no tiles z/x/y.jpg, .png or .webp in this folder; "
            f"for a folder of rasters give a glob, such as {folder / '*.tif'}"
        )
    return found


def _numbered(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())
