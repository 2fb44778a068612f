"""What a checkpoint claims before and after calibration, and what came true."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.calibration import strangers
from zoomloc.calibrate import calibrate
from zoomloc.calibration import Calibration
from zoomloc.dataset import Batch, PhotoDataset
from zoomloc.encoder import shrink
from zoomloc.errors import ManifestError
from zoomloc.evaluate import Outcomes, evaluate, joined, not_here
from zoomloc.localizer import Localizer
from zoomloc.photo import load
from zoomloc.progress import progress
from zoomloc.region import Region

Pixels = NDArray[np.uint8]
Scores = NDArray[np.float64]
BATCH = 32
UNSEEN = "cities never seen, all"


@dataclass(frozen=True)
class Found:
    """before, after: outcomes of the test photos of every dataset on its own map, by name. here: the probabilities of
    not being on the maps of `data`, of their own test photos. cities, pictures, mistreated, real: of photos of cities
    never seen, of pictures that are no street photos, of photos of the map as they should not be, of real photos.
    """

    checkpoint: Path
    seed: int
    calibration: Calibration
    before: dict[str, Outcomes]
    after: dict[str, Outcomes]
    here: Scores
    cities: dict[str, Scores]
    pictures: dict[str, Scores]
    mistreated: dict[str, Scores]
    real: Scores | None


def measure(
    checkpoint: Path,
    data: Sequence[Path],
    *,
    unseen: Sequence[Path],
    others: Sequence[Path],
    real: Path | None,
    pictures: int,
    seed: int,
    device: str,
) -> Found:
    """Raises ZoomlocError or tiles.TilesError."""
    trained = Localizer.from_pretrained(checkpoint, device=device)
    fitted = calibrate(trained, data, others=others)
    bare, calibrated = Localizer(trained.model), Localizer(trained.model, fitted)
    folders = [*data, *unseen]
    before, after = (
        {folder.name: _outcomes(each, folder) for folder in folders} for each in (bare, calibrated)
    )
    if len(unseen) > 1:
        for outcomes in (before, after):
            outcomes[UNSEEN] = joined([outcomes[folder.name] for folder in unseen])
    maps = [Region.load(folder / "region.json") for folder in data]

    def scores(batches: Sequence[Batch]) -> Scores:
        return np.concatenate([not_here(calibrated, batch, region) for region in maps for batch in batches])

    px = trained.model.config.photo_px
    cities = {folder.name: scores(_dataset(folder, px)) for folder in unseen}
    kinds = {kind: [strangers.make(kind, i, seed=seed) for i in range(pictures)] for kind in strangers.KINDS}
    street = [
        photo for batch in _dataset(data[0], px)[: -(-pictures // BATCH)] for photo in batch.photos.numpy()
    ]
    return Found(
        checkpoint=checkpoint,
        seed=seed,
        calibration=fitted,
        before=before,
        after=after,
        here=np.concatenate([_known(after[folder.name].not_here) for folder in data]),
        cities=cities,
        pictures={kind: scores(_batches(made, px)) for kind, made in kinds.items()},
        mistreated={name: scores(_batches(list(made), px)) for name, made in _mistreated(street)},
        real=None if real is None else scores(_batches(_photos(real), px)),
    )


def _outcomes(localizer: Localizer, folder: Path) -> Outcomes:
    return evaluate(localizer, folder, searches=["posterior"]).outcomes["posterior"]


def _known(values: Scores | None) -> Scores:
    assert values is not None
    return values


def _dataset(folder: Path, px: int) -> list[Batch]:
    photos = PhotoDataset(folder, "test", Region.load(folder / "region.json").grid, px=px)
    numbers = list(range(len(photos)))
    return [photos.__getitems__(numbers[i : i + BATCH]) for i in range(0, len(numbers), BATCH)]


def _photos(folder: Path) -> list[Pixels]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise ManifestError(f"{folder}: no photos (.jpg, .jpeg, .png); name a folder that has some")
    return [load(path).pixels for path in progress(paths, "reading real photos", len(paths))]


def _batches(pictures: Sequence[Pixels], px: int) -> list[Batch]:
    parts = [pictures[i : i + BATCH] for i in range(0, len(pictures), BATCH)]
    return [_batch(torch.from_numpy(np.stack([shrink(p, px) for p in part]))) for part in parts]


def _batch(photos: torch.Tensor) -> Batch:
    """Pictures of which nothing is known."""
    unknown = torch.full((len(photos),), torch.nan)
    return Batch(photos, torch.zeros(len(photos), 2), unknown, torch.zeros(len(photos)).long(), unknown)


def _mistreated(street: Sequence[Pixels]) -> Iterator[tuple[str, list[Pixels]]]:
    """Street photos of the map itself, as they should not be."""
    yield "upside down", [np.ascontiguousarray(photo[::-1, ::-1]) for photo in street]
    yield "on its side", [np.ascontiguousarray(np.rot90(photo)) for photo in street]
    yield "in negative", [255 - photo for photo in street]
