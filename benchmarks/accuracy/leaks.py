"""Whether a query could be answered from memory: the benchmark does not run on such data."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd

from benchmarks.accuracy.cities import APART_M, Cities
from data_prep.positions import nearest
from zoomloc import manifest
from zoomloc.errors import ZoomlocError
from zoomloc.region import Region


class LeakError(ZoomlocError):
    """Queries that training has seen, or photos too near to them."""


def check(cities: Cities) -> None:
    """Raises LeakError, one line, where

    - a query is nearer than 30 m to a training photo of the same ground, that is, under the same imagery;
    - the file of a query is among those of training, under whatever name;
    - a city that training must not have seen is among those trained on, by its folder or by its imagery.

    Simulated cities may lie at the same place on Earth and be different ground; so the imagery tells which is which.
    """
    ground = {folder: _ground(folder) for folders in cities.queries.values() for folder in folders}
    train = {folder: _photos(folder, queries=False) for folder in cities.trained}
    _check_unseen(cities, ground)
    for folder in ground:
        queries = _photos(folder, queries=True)
        for trained in cities.trained:
            if ground[trained] == ground[folder]:
                _check_apart(folder, queries, trained, train[trained])
    _check_files(ground, train)


def _check_unseen(cities: Cities, ground: dict[Path, str]) -> None:
    for folder in (*cities.unseen, *cities.mapped):
        for trained in cities.trained:
            if folder.resolve() == trained.resolve() or ground[folder] == ground[trained]:
                raise LeakError(
                    f"{folder}: not unseen, {trained} is trained on and shows it; make another city"
                )
        others = manifest.read(folder / "manifest.parquet")["split"] != "test"
        if others.any():
            raise LeakError(f"{folder}: {others.sum()} photos to train on in a city to be unseen; delete it")


def _check_apart(folder: Path, queries: gpd.GeoDataFrame, trained: Path, photos: gpd.GeoDataFrame) -> None:
    distance_m, row = nearest(queries, photos)
    worst = int(distance_m.argmin())
    if distance_m[worst] < APART_M:
        one, other = folder / queries["photo"].iloc[worst], trained / photos["photo"].iloc[int(row[worst])]
        raise LeakError(
            f"{(distance_m < APART_M).sum()} queries are nearer than {APART_M:g} m to a training photo: {one} is "
            f"{distance_m[worst]:.1f} m from {other}; delete the city and make it again"
        )


def _check_files(ground: dict[Path, str], train: dict[Path, gpd.GeoDataFrame]) -> None:
    seen = {_digest(path): path for folder, photos in train.items() for path in _files(folder, photos)}
    for folder in ground:
        for path in _files(folder, _photos(folder, queries=True)):
            if (same := seen.get(_digest(path))) is not None:
                raise LeakError(
                    f"the query {path} is trained on as {same}; delete the city and make it again"
                )


def _photos(folder: Path, *, queries: bool) -> gpd.GeoDataFrame:
    """The queries of a dataset, or what is trained on."""
    frame = manifest.read(folder / "manifest.parquet")
    return frame[(frame["split"] == "test") == queries]


def _files(folder: Path, photos: gpd.GeoDataFrame) -> Iterator[Path]:
    return (folder / name for name in photos["photo"])


def _ground(folder: Path) -> str:
    """What tells one piece of simulated ground from another: the bytes of its imagery."""
    region = Region.load(folder / "region.json")
    return " ".join(_digest(region.folder / name) for name in region.imagery)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
