"""Photos of a manifest as training and evaluation want them: shrunk pixels and positions in the region's CRS."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from zoomloc import manifest, photo
from zoomloc.encoder import shrink
from zoomloc.errors import ManifestError
from zoomloc.grid import Grid
from zoomloc.progress import progress


@dataclass(frozen=True)
class Batch:
    """photos: (B, px, 2 px, 3) uint8. xy: (B, 2) float64, metres in the CRS of the photo's region. fov_deg: (B,), nan
    where unknown. city: (B,) which of the datasets a photo is of. heading_deg: (B,), clockwise from the north of the
    region's CRS, nan where unknown."""

    photos: Tensor
    xy: Tensor
    fov_deg: Tensor
    city: Tensor
    heading_deg: Tensor


class PhotoDataset(torch.utils.data.Dataset[Batch]):
    """The photos of one split that lie in the grid. Indexing with a list gives a Batch.

    cache: decode every photo once, now, and keep it in memory (6 px² bytes a photo).
    """

    def __init__(self, folder: Path, split: str, grid: Grid, *, px: int, cache: bool = False) -> None:
        parts = [_part(rows, grid) for rows in manifest.shards(folder / "manifest.parquet", split)]
        self._folder, self._names = folder, pa.chunked_array([part.names for part in parts], pa.string())
        if not len(self._names):
            raise ManifestError(
                f"{folder / 'manifest.parquet'}: no {split} photo lies in the region; "
                f"check region.json beside it, and that points are (lon, lat)"
            )
        self.n_outside = sum(part.n_outside for part in parts)
        self.xy = torch.from_numpy(np.concatenate([part.xy for part in parts]))
        self.lat_lon = np.concatenate([part.lat_lon for part in parts])
        self.fov_deg = torch.from_numpy(np.concatenate([part.fov_deg for part in parts]))
        self.heading_deg = torch.from_numpy(np.concatenate([part.heading_deg for part in parts]))
        self.px = px
        self._cached: Tensor | None = self._decode_all(split) if cache else None

    def __len__(self) -> int:
        return len(self._names)

    def path(self, index: int) -> Path:
        """Of a photo's image."""
        return self._folder / str(self._names[index].as_py())

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        city = torch.zeros(len(indices), dtype=torch.long)
        return Batch(
            self._pixels(indices), self.xy[indices], self.fov_deg[indices], city, self.heading_deg[indices]
        )

    def _pixels(self, indices: list[int]) -> Tensor:
        if self._cached is not None:
            return self._cached[indices]
        return torch.from_numpy(np.stack([self._decode(i) for i in indices]))

    def _decode(self, index: int) -> NDArray[np.uint8]:
        return shrink(photo.load(self.path(index)).pixels, self.px)

    def _decode_all(self, split: str) -> Tensor:
        out = torch.empty(len(self), self.px, 2 * self.px, 3, dtype=torch.uint8)
        with ThreadPoolExecutor() as pool:
            for i, pixels in enumerate(
                progress(pool.map(self._decode, range(len(self))), f"reading {split} photos", len(self))
            ):
                out[i] = torch.from_numpy(pixels.copy())
        return out


class Cities(torch.utils.data.Dataset[Batch]):
    """The photos of several datasets, one after the other."""

    def __init__(self, cities: list[PhotoDataset]) -> None:
        self.cities = cities
        self._first = np.cumsum([0, *map(len, cities)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        city = np.searchsorted(self._first, indices, side="right") - 1
        parts = []
        for number in np.unique(city):
            part = self.cities[number].__getitems__(
                (np.array(indices)[city == number] - self._first[number]).tolist()
            )
            parts.append(replace(part, city=torch.full_like(part.city, int(number))))
        order = torch.from_numpy(np.argsort(city, kind="stable").argsort())  # back to the order asked for
        return Batch(*(torch.cat([getattr(part, f.name) for part in parts])[order] for f in fields(Batch)))


class _Part(NamedTuple):
    """What is kept of the photos of one shard that lie in the grid: some 70 bytes each."""

    names: pa.Array
    xy: NDArray[np.float64]
    lat_lon: NDArray[np.float64]
    fov_deg: NDArray[np.float32]
    heading_deg: NDArray[np.float32]
    n_outside: int


def _part(rows: gpd.GeoDataFrame, grid: Grid) -> _Part:
    lat, lon = rows.geometry.y.to_numpy(), rows.geometry.x.to_numpy()
    xy = np.column_stack(grid.project(lat, lon))
    inside = _inside(grid, xy)
    fov_deg, true_north_deg = (
        rows[column].to_numpy(np.float32, na_value=np.nan)[inside] for column in ("fov", "heading")
    )
    lat_lon = np.column_stack([lat, lon])[inside]
    heading_deg = (true_north_deg - grid.convergence_deg(*lat_lon.T)).astype(np.float32)
    names = pa.array(rows.photo[inside], pa.string())
    return _Part(names, xy[inside], lat_lon, fov_deg, heading_deg, int((~inside).sum()))


def _inside(grid: Grid, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    offset = np.stack([xy[:, 0] - grid.north_west[0], grid.north_west[1] - xy[:, 1]])
    return np.asarray(((offset >= 0) & (offset <= grid.size_m)).all(axis=0))


class StepBatches(Sampler[list[int]]):
    """The photos of every training step from `start` on: epochs of seeded shuffles, cut into batches.

    What a step sees depends on the seed and the step alone, so a run that was stopped continues as if it had not
    been. Of each batch this process gets every `world`-th photo from `rank` on.
    """

    def __init__(
        self, n: int, *, batch_size: int, seed: int, start: int, stop: int, rank: int = 0, world: int = 1
    ) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.start, self.stop, self.rank, self.world = start, stop, rank, world

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        epoch, order = -1, torch.empty(0)
        for step in range(self.start, self.stop):
            batch = []
            for place in range(step * self.batch_size, (step + 1) * self.batch_size):
                if place // self.n != epoch:
                    epoch = place // self.n
                    order = torch.randperm(self.n, generator=seeded(self.seed, epoch))
                batch.append(int(order[place % self.n]))
            yield batch[self.rank :: self.world]


def seeded(*numbers: int) -> torch.Generator:
    """A random generator that depends on these numbers alone."""
    state = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)
