"""The cities of the benchmark, made from seeds: datasets whose queries lie in blocks of ground of their own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd

from benchmarks.accuracy.settings import Towns
from data_prep.cities import make_city
from data_prep.region import adopt
from data_prep.split import By, divide, too_near
from zoomloc import manifest
from zoomloc.region import Region

APART_M = 30.0  # at least, from a query to every training photo
SAME_AREA, UNSEEN, REAL_MAP = "same area", "unseen city", "unseen city on a real map"


@dataclass(frozen=True)
class Cities:
    """Folders of datasets. trained: with photos to train on and queries. unseen, mapped: with queries alone; mapped
    ones are laid out on real towns."""

    trained: tuple[Path, ...]
    unseen: tuple[Path, ...]
    mapped: tuple[Path, ...] = ()

    @property
    def queries(self) -> dict[str, tuple[Path, ...]]:
        """The cities whose queries (split "test") make up each split of the benchmark."""
        splits = {SAME_AREA: self.trained, UNSEEN: self.unseen, REAL_MAP: self.mapped}
        return {name: folders for name, folders in splits.items() if folders}


def make_cities(
    towns: Towns, out: Path, *, seed: int, osm: Sequence[Path] = (), workers: int | None = None
) -> Cities:
    """Make what is not there yet. Raises ConfigError, OutputError, SourceError."""
    first = 100 * seed + 1
    trained = [_trained(towns, out / f"town-{n}", first + n, workers) for n in range(towns.trained)]
    unseen = [_unseen(towns, out / f"unseen-{n}", first + 50 + n, workers) for n in range(towns.unseen)]
    mapped = [
        _unseen(towns, out / f"map-{path.name.split('.')[0]}", first + 70, workers, path) for path in osm
    ]
    return Cities(tuple(trained), tuple(unseen), tuple(mapped))


def _trained(towns: Towns, folder: Path, seed: int, workers: int | None) -> Path:
    if not (folder / "manifest.parquet").exists():
        frame = _town(towns, folder, seed, towns.photos, workers)
        frame = divide(
            frame, by=By.block, test=towns.test, val=0.0, block_m=towns.block_m, areas={}, seed=seed
        )
        manifest.write(frame[~too_near(frame, APART_M)], folder / "manifest.parquet")
    return folder


def _unseen(towns: Towns, folder: Path, seed: int, workers: int | None, osm: Path | None = None) -> Path:
    if not (folder / "manifest.parquet").exists():
        frame = _town(towns, folder, seed, towns.queries, workers, osm)
        manifest.write(frame.assign(split="test"), folder / "manifest.parquet")
    return folder


def _town(
    towns: Towns, folder: Path, seed: int, photos: int, workers: int | None, osm: Path | None = None
) -> gpd.GeoDataFrame:
    """Make a town in folder/town; its region goes to `folder`, with the depth asked for. Its photos as seen there."""
    town = folder / "town"
    made = {"size_m": towns.size_m, "gsd_m": towns.gsd_m, "width": towns.width, "test": 0, "val": 0}
    make_city(town, seed=seed, photos=photos, **made, osm=osm, workers=workers)
    adopt(replace(Region.load(town / "region.json"), name=folder.name, depth=towns.depth), folder)
    frame = manifest.read(town / "manifest.parquet")
    return frame.assign(photo=["town/" + name for name in frame["photo"]])
