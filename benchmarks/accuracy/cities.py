"""The cities of the benchmark, made from seeds: datasets whose queries lie in blocks of ground of their own."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import geopandas as gpd

from benchmarks.accuracy.settings import Towns
from data_prep.cities import make_city
from data_prep.region import adopt
from data_prep.split import By, divide, too_near
from zoomloc import manifest
from zoomloc.errors import OutputError
from zoomloc.files import atomic
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
    trained = [_Recipe(towns, first + n, towns.photos) for n in range(towns.trained)]
    unseen = [_Recipe(towns, first + 50 + n, towns.queries) for n in range(towns.unseen)]
    mapped = [_Recipe(towns, first + 70 + n, towns.queries, path) for n, path in enumerate(osm)]
    return Cities(
        tuple(_make(recipe, out / f"town-{n}", _blocks, workers) for n, recipe in enumerate(trained)),
        tuple(_make(recipe, out / f"unseen-{n}", _all_queries, workers) for n, recipe in enumerate(unseen)),
        tuple(_make(recipe, out / f"map-{n}", _all_queries, workers) for n, recipe in enumerate(mapped)),
    )


@dataclass(frozen=True)
class _Recipe:
    """What a city is made of."""

    towns: Towns
    seed: int
    photos: int
    osm: Path | None = None

    @property
    def record(self) -> str:
        facts = asdict(self) | {"osm": self.osm and f"{self.osm.name}, {self.osm.stat().st_size} bytes"}
        return json.dumps(facts, indent=1)


def _make(
    recipe: _Recipe,
    folder: Path,
    divided: Callable[[gpd.GeoDataFrame, _Recipe], gpd.GeoDataFrame],
    workers: int | None,
) -> Path:
    """A simulated town in folder/town, and in the folder the dataset: its region, with the depth asked for, and the
    photos, divided."""
    made = folder / "made.json"
    if made.exists():
        if made.read_text() != recipe.record:
            raise OutputError(
                f"{folder} holds a city made otherwise ({made.name}); delete it or use another --data"
            )
        return folder
    town, towns = folder / "town", recipe.towns
    make_city(
        town, seed=recipe.seed, photos=recipe.photos, size_m=towns.size_m, gsd_m=towns.gsd_m, width=towns.width,
        test=0, val=0, osm=recipe.osm, workers=workers,
    )  # fmt: skip
    adopt(replace(Region.load(town / "region.json"), name=folder.name, depth=towns.depth), folder)
    frame = manifest.read(town / "manifest.parquet")
    frame = frame.assign(photo=["town/" + name for name in frame["photo"]])
    manifest.write(divided(frame, recipe), folder / "manifest.parquet")
    with atomic(made) as draft:
        draft.write_text(recipe.record)
    return folder


def _blocks(frame: gpd.GeoDataFrame, recipe: _Recipe) -> gpd.GeoDataFrame:
    """Whole blocks of ground for queries, and what is far enough from them for training."""
    parts = {"test": recipe.towns.test, "val": 0.0, "block_m": recipe.towns.block_m}
    frame = divide(frame, by=By.block, **parts, areas={}, seed=recipe.seed)
    return frame[~too_near(frame, APART_M)]


def _all_queries(frame: gpd.GeoDataFrame, recipe: _Recipe) -> gpd.GeoDataFrame:
    return frame.assign(split="test")
