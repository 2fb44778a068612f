"""What the trained models answer, scored; kept on disk, so that a second run need not ask again."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy.rows import CHANCE, RETRIEVAL, ROWS, Row
from benchmarks.accuracy.score import (
    ALL_LEAVES,
    GALLERIES,
    Gallery,
    guess,
    score,
    without_posterior,
)
from benchmarks.accuracy.training import Trained
from zoomloc import baselines
from zoomloc.dataset import Batch, PhotoDataset
from zoomloc.evaluate import Outcomes, joined
from zoomloc.files import atomic
from zoomloc.localizer import Localizer, Search
from zoomloc.model import pick_device
from zoomloc.posterior import Leaves
from zoomloc.progress import progress
from zoomloc.region import Region

BATCH = 32
BEAM_WIDTH = 4
ROUNDS = 3  # of timing; the fastest counts

Find = Callable[[Batch, Search], list[Leaves]]
# The outcomes of a row on a split, by gallery. A search that does not look at all leaves has none among fewer.
Scored = dict[str, Outcomes]


@dataclass(frozen=True)
class Store:
    """Where outcomes are kept: `folder`. device: where models run. seed: of guesses."""

    folder: Path
    device: str
    seed: int

    def scored(self, row: Row, split: str, stamp: str) -> Scored | None:
        """What is kept of a row, if it was answered by the same model on the same data."""
        try:
            with np.load(self._path(row, split)) as kept:
                if str(kept["stamp"]) != stamp:
                    return None
                return {
                    gallery: Outcomes(
                        *(kept.get(f"{gallery}/{name}") for name in Outcomes.__dataclass_fields__)
                    )
                    for gallery in GALLERIES
                    if f"{gallery}/errors_m" in kept
                }
        except FileNotFoundError:
            return None

    def keep(self, row: Row, split: str, stamp: str, scored: Scored) -> None:
        arrays = {
            f"{gallery}/{name}": getattr(outcomes, name)
            for gallery, outcomes in scored.items()
            for name in Outcomes.__dataclass_fields__
            if getattr(outcomes, name) is not None
        }
        with atomic(self._path(row, split)) as draft:
            np.savez(draft, stamp=np.array(stamp), **arrays)

    def _path(self, row: Row, split: str) -> Path:
        return self.folder / f"{row.name}, {split}.npz"


def score_all(
    trained: dict[str, Trained], queries: dict[str, tuple[Path, ...]], store: Store
) -> dict[str, dict[str, Scored]]:
    """The outcomes of every row, by split and row. queries: the cities of each split."""
    results: dict[str, dict[str, Scored]] = {split: {} for split in queries}
    for split, cities in queries.items():
        results[split][CHANCE.name] = _guessed(cities, store.seed)
        for name, model in trained.items():
            rows = [row for row in ROWS if row.training == name]
            stamps = {row: _stamp([model.checkpoint, *cities], row) for row in rows}
            kept = {row: store.scored(row, split, stamps[row]) for row in rows}
            missing = [row for row, scored in kept.items() if scored is None]
            answered = _answered(missing, model, split, cities, store.device) if missing else {}
            for row, scored in answered.items():
                store.keep(row, split, stamps[row], scored)
            results[split] |= {row.name: kept[row] or answered[row] for row in rows}
    return results


def _answered(
    rows: Sequence[Row], model: Trained, split: str, cities: Sequence[Path], device: str
) -> dict[Row, Scored]:
    """Ask a model for rows on the queries of cities, each on its own map."""
    parts: dict[Row, list[Scored]] = {row: [] for row in rows}
    for folder in cities:
        region, photos = _queries(folder, model)
        find = finder(rows[0].training, model, region, device)
        galleries = _galleries(region, photos)
        batches = [list(range(len(photos)))[i : i + BATCH] for i in range(0, len(photos), BATCH)]
        for at in progress(batches, f"{rows[0].training}, {split}: {folder.name}", len(batches)):
            batch = photos.__getitems__(at)
            for search in sorted({row.search for row in rows}):
                found = find(batch, search)
                for row in rows:
                    if row.search == search:
                        parts[row].append(_scored(row, found, region, batch, galleries))
    return {
        row: {gallery: joined([part[gallery] for part in parts[row]]) for gallery in parts[row][0]}
        for row in rows
    }


def _scored(
    row: Row, found: list[Leaves], region: Region, batch: Batch, galleries: dict[str, Gallery]
) -> Scored:
    xy = batch.xy.numpy()
    if row.search != "posterior":
        outcomes = score(found, region.grid, xy, galleries[ALL_LEAVES], row.answer)
        return {ALL_LEAVES: without_posterior(outcomes)}
    return {
        name: score(found, region.grid, xy, gallery, row.answer)
        for name, gallery in galleries.items()
        if not (gallery.queries_only and row.told_once)
    }


def finder(training: str | None, model: Trained, region: Region, device: str) -> Find:
    """A way to find the leaves of photos, everything about the map being encoded before."""
    if training == RETRIEVAL:
        gallery = baselines.Gallery(baselines.load(model.checkpoint).to(pick_device(device)), region)
        ways = {"greedy": gallery.best, "posterior": gallery.locate}
        return lambda batch, search: ways[search](batch.photos)
    localizer = Localizer.from_pretrained(model.checkpoint, device=device)
    localizer.index(region).fill()

    def find(batch: Batch, search: Search) -> list[Leaves]:
        features = localizer.encode(batch.photos, batch.fov_deg)
        # Every cell is opened: leaves that a search left out would have to be given some probability for the NLL.
        return localizer.zoom(features, region, how=search, beam_width=BEAM_WIDTH, epsilon=0.0)

    return find


def photos_per_second(trained: dict[str, Trained], city: Path, store: Store, *, n: int) -> dict[str, float]:
    """By row: how many photos in memory are encoded and searched for in a second by one thread, the map being warm."""
    speeds: dict[str, float] = {}
    for name, model in trained.items():
        searches = sorted({row.search for row in ROWS if row.training == name})
        path, stamp = store.folder / f"{name}, speed.json", _stamp([model.checkpoint, city], (n, searches))
        kept = json.loads(path.read_text()) if path.exists() else {}
        if kept.get("stamp") != stamp:
            kept = {"stamp": stamp, "speeds": _speeds(name, model, city, searches, n=n, device=store.device)}
            with atomic(path) as draft:
                draft.write_text(json.dumps(kept))
        speeds |= {row.name: kept["speeds"][row.search] for row in ROWS if row.training == name}
    return speeds


def _speeds(
    training: str, model: Trained, city: Path, searches: Sequence[Search], *, n: int, device: str
) -> dict[str, float]:
    """Photos a second of each search."""
    region, photos = _queries(city, model)
    find = finder(training, model, region, device)
    batch = photos.__getitems__([i % len(photos) for i in range(n)])
    threads, speeds = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    for search in searches:
        find(batch, search)
        speeds[search] = n / min(_seconds(find, batch, search) for _ in range(ROUNDS))
    torch.set_num_threads(threads)
    return speeds


def _seconds(find: Find, batch: Batch, search: Search) -> float:
    start = time.perf_counter()
    find(batch, search)
    return time.perf_counter() - start


def _queries(folder: Path, model: Trained) -> tuple[Region, PhotoDataset]:
    region = Region.load(folder / "region.json")
    return region, PhotoDataset(folder, "test", region.grid, px=model.photo_px)


def _galleries(region: Region, photos: PhotoDataset) -> dict[str, Gallery]:
    made = Gallery.all_leaves(region.grid), Gallery.of_queries(region.grid, photos.xy.numpy())
    return dict(zip(GALLERIES, made, strict=True))


def _guessed(cities: Iterable[Path], seed: int) -> Scored:
    parts = []
    for folder in cities:
        region = Region.load(folder / "region.json")
        photos = PhotoDataset(folder, "test", region.grid, px=1)
        galleries = _galleries(region, photos)
        xy = photos.xy.numpy()
        parts.append({name: guess(region.grid, xy, each, seed=seed) for name, each in galleries.items()})
    return {name: joined([part[name] for part in parts]) for name in GALLERIES}


def _stamp(folders: Iterable[Path], question: object) -> str:
    """A text that changes with the model, the data and the question."""
    digest = hashlib.sha256(repr(question).encode())
    for folder in folders:
        for name in ("model.safetensors", "config.json", "manifest.parquet", "region.json"):
            if (folder / name).exists():
                digest.update((folder / name).read_bytes())
    return digest.hexdigest()
