"""The index of a region under a model: the features of its inner cells, encoded once, on disk if asked for."""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tiles import Bounds, Pyramid, View
from zoomloc.checkpoint import fingerprint
from zoomloc.errors import OutputError
from zoomloc.grid import Cell, Grid
from zoomloc.model import AnyModel
from zoomloc.progress import progress
from zoomloc.region import Region
from zoomloc.views import seen

BATCH = 64
FILLING = "encoding cells of the map"
LOOKS = 4  # along a side of a leaf, by which it is told whether all of it is shown
FEATURES, KNOWN = "features.npy", "known.npy"


class Index:
    """Features of a region's inner cells, kept once encoded, so that later photos find them ready.

    A cell's row in the table is its number: that of the root is 0, those of the children of cell i begin at
    branch² · i + 1. Features, of any shape the model gives them, are kept in half precision: 1.5 kB a cell for the
    pointer model as it comes, 0.7 GB for a city of 10,000 km².

    What imagery makes up is never looked at: features are of the real part of it (`tiles.Source.real`).
    """

    def __init__(self, model: AnyModel, pyramid: Pyramid, grid: Grid) -> None:
        self.grid = grid
        self.pyramid, self._model = pyramid, model
        self._real = pyramid.real
        self._n_children = grid.branch**2
        self._first = [sum(self._n_children**i for i in range(level)) for level in range(grid.depth + 1)]
        self._device = next(model.parameters()).device
        self._table: NDArray[np.float16] = np.zeros((self._first[-1], *model.feature_shape), np.float16)
        self._known = np.zeros(self._first[-1], bool)

    @classmethod
    def of(cls, model: AnyModel, region: Region) -> "Index":
        """The index of a region, with what `build` left on disk for this very model, square and imagery."""
        index = cls(model, region.open(), region.grid)
        if not _all_on_disk(region).is_dir():
            return index
        folder = place_on_disk(model, region)
        if (folder / KNOWN).is_file():  # private copies: what is encoded besides is not written back
            index._table = np.load(folder / FEATURES, mmap_mode="c")
            index._known = np.load(folder / KNOWN)
        return index

    def features(self, paths: Tensor) -> Tensor:
        """Features (N, …) of the cells that paths (N, level) lead to. Raises tiles.TilesError."""
        return self.at(self.numbers(paths))

    def numbers(self, paths: Tensor) -> NDArray[np.int64]:
        """The numbers of the cells that paths (N, level) lead to."""
        level = paths.shape[1]
        weights = self._n_children ** np.arange(level - 1, -1, -1)
        return self._first[level] + paths.numpy() @ weights

    def levels(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The levels of cells."""
        return np.searchsorted(self._first, numbers, side="right") - 1

    def at(self, numbers: NDArray[np.int64]) -> Tensor:
        """Features (N, …) of the cells with these numbers. Raises tiles.TilesError."""
        self._encode(np.unique(numbers[~self._known[numbers]]))
        return torch.from_numpy(self._table[numbers]).to(self._device).float()

    def view(self, cell: Cell, px: int) -> View:
        """What the model is shown of a cell: the cell itself, or with a rim around it. Raises tiles.TilesError."""
        if self.reach == 1:
            return self._real.view(*cell, px)
        west, south, east, north = self.grid.bounds(cell)
        rim_m = self.grid.side_m(cell.level) * (self.reach - 1) / 2
        wider = Bounds(west - rim_m, south - rim_m, east + rim_m, north + rim_m)
        return self._real.source.read(wider, self.grid.crs, (px, px))

    @cached_property
    def closed(self) -> NDArray[np.bool_] | None:
        """(side, side) leaves, row 0 in the north, on which no answer may be put: imagery that nobody made up does not
        show all of them. None where nothing is made up. Raises tiles.TilesError."""
        if not self.pyramid.source.synthetic:
            return None
        branch, side = self.grid.branch, self.grid.n_cells(self.grid.depth)
        west, _, east, _ = self.grid.bounds(self.grid.root)
        whole = []
        for row in range(side // branch):  # of the smallest cells
            _, south, _, north = self.grid.bounds(Cell(self.grid.depth - 1, row, 0))
            strip = Bounds(west, south, east, north)
            real = self._real.source.read(strip, self.grid.crs, (LOOKS * branch, LOOKS * side)).real
            whole.append(real.reshape(branch, LOOKS, side, LOOKS).all(axis=(1, 3)))
        return ~np.concatenate(whole)

    @property
    def blank(self) -> bool:
        """Whether all there is was made up, so that nothing can be matched."""
        return self.closed is not None and bool(self.closed.all())

    @cached_property
    def _shut(self) -> NDArray[np.bool_] | None:
        """(cells, children) the children of every inner cell in which all leaves are closed; None where none is."""
        if self.closed is None or not self.closed.any():
            return None
        n, below, levels = self.grid.branch, self.closed, []
        for _ in range(self.grid.depth):
            side = len(below) // n
            children = below.reshape(side, n, side, n).transpose(0, 2, 1, 3)
            levels.append(children.reshape(side * side, n * n))
            below = np.asarray(children.all(axis=(2, 3)))
        table = np.zeros((self.n_cells, self._n_children), np.bool_)
        for level, rows in enumerate(reversed(levels)):
            table[self._by_place(level)] = rows
        return table

    def _by_place(self, level: int) -> NDArray[np.int64]:
        """The numbers of a level's cells, row by row of the map."""
        n, numbers = self.grid.branch, np.zeros((1, 1), np.int64)
        for _ in range(level):
            side = len(numbers) * n
            inside = np.arange(n * n).reshape(1, n, 1, n)
            numbers = (numbers[:, None, :, None] * n * n + inside).reshape(side, side)
        return self._first[level] + numbers.ravel()

    def open_only(self, log_p: Tensor, numbers: NDArray[np.int64]) -> Tensor:
        """Log-probabilities (m, children, or one more) of choices in cells with these numbers, as they are given that a
        child with nothing but closed leaves is none."""
        if self._shut is None:
            return log_p
        shut = torch.from_numpy(self._shut[numbers]).to(log_p.device)
        no_choice = torch.zeros_like(log_p, dtype=torch.bool)
        no_choice[:, : self._n_children] = shut & ~shut.all(
            1, keepdim=True
        )  # a closed cell is entered by none
        return torch.where(
            no_choice.any(1, keepdim=True), log_p.masked_fill(no_choice, -torch.inf).log_softmax(-1), log_p
        )

    @property
    def reach(self) -> float:
        """The side of what `view` shows, in sides of its cell."""
        return self._model.reach

    @property
    def n_cells(self) -> int:
        """Inner cells."""
        return len(self._known)

    @property
    def nbytes(self) -> int:
        """Of all features."""
        return self._table.nbytes

    def put(self, numbers: NDArray[np.int64], features: NDArray[np.floating]) -> None:
        """Set the features (N, …) of the cells with these numbers."""
        self._table[numbers] = features
        self._known[numbers] = True

    def fill(self) -> None:
        """Encode every inner cell that is not yet, with a progress bar. Raises tiles.TilesError."""
        parts = self.missing()
        for part in progress(parts, FILLING, len(parts)):
            self._encode(part)

    def missing(self) -> list[NDArray[np.intp]]:
        """The numbers of the cells that are not encoded yet, in batches."""
        return _parts(np.flatnonzero(~self._known))

    @torch.inference_mode()
    def encoded(self, numbers: NDArray[np.intp]) -> NDArray[np.float16]:
        """Features (N, …) of the cells with these numbers, all encoded at once and not kept. Raises
        tiles.TilesError."""
        cells = [self._cell(int(number)) for number in numbers]
        px = self._model.config.view_px
        views = torch.from_numpy(np.stack([seen(self.view(cell, px)) for cell in cells])).to(self._device)
        side_m = torch.tensor([self.grid.side_m(cell.level) for cell in cells], device=self._device)
        return self._model.encode_views(views, side_m).cpu().numpy().astype(np.float16)

    def _encode(self, numbers: NDArray[np.intp]) -> None:
        for part in _parts(numbers):
            self.put(part, self.encoded(part))

    def _cell(self, row: int) -> Cell:
        level = sum(row >= first for first in self._first[1:])
        number, path = row - self._first[level], []
        for _ in range(level):
            number, child = divmod(number, self._n_children)
            path.append(child)
        return self.grid.cell(tuple(reversed(path)))


def _parts(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Rows in batches; none for none."""
    return np.split(rows, range(BATCH, len(rows), BATCH)) if len(rows) else []


def build(model: AnyModel, region: Region) -> Path:
    """Encode every inner cell of a region and keep the features on disk, beside the region file.

    Killed and called again, it goes on. Returns the folder written. Raises tiles.TilesError for imagery that fails,
    OutputError for a folder that cannot be written.
    """
    index = on_disk(model, region)
    try:
        index.fill()
    except OSError as error:
        raise _cannot(place_on_disk(model, region), error) from None
    return place_on_disk(model, region)


def on_disk(model: AnyModel, region: Region) -> Index:
    """The index of a region whose features are written to the disk as they are put into it. Raises as `build` does."""
    index = Index(model, region.open(), region.grid)
    folder = place_on_disk(model, region)
    try:
        index._table = _mapped(folder / FEATURES, index._table)
        index._known = _mapped(folder / KNOWN, index._known)
    except OSError as error:
        raise _cannot(folder, error) from None
    return index


def place_on_disk(model: AnyModel, region: Region) -> Path:
    """Where the index of this very model, square and imagery belongs."""
    square = [region.crs, region.north_west, region.size_m, region.branch, region.depth]
    facts = json.dumps(
        [fingerprint(model), model.config.view_px, model.reach, square, region.imagery_stamp()]
    )
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return _all_on_disk(region) / key


def _cannot(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"{folder}: cannot be written ({error.strerror}); free or unlock it")


def _all_on_disk(region: Region) -> Path:
    return region.folder / f"{region.name}.index"


def _mapped(path: Path, empty: NDArray[Any]) -> NDArray[Any]:
    """An array that lives in a file, made from `empty` where it is not there yet."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, empty)
        part.replace(path)
    return np.load(path, mmap_mode="r+")
