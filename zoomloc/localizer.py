"""The public way in: a checkpoint, a region, photos; predictions come out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoomloc import checkpoint
from zoomloc.encoder import shrink
from zoomloc.errors import CheckpointError
from zoomloc.grid import Grid
from zoomloc.index import Index
from zoomloc.model import ZoomModel, pick_device
from zoomloc.posterior import Leaves, best_point, leaf_map, radius_holding, search
from zoomloc.prediction import Place, Prediction
from zoomloc.region import Region

Search = Literal["greedy", "beam", "posterior"]

BEAM_WIDTH = 16
# The full posterior visits every inner cell of the tree; beyond this many leaves it takes minutes on a CPU.
MAX_POSTERIOR_LEAVES = 65_536
# The answer is the point with the most probability within this radius.
ANSWER_RADIUS_M = 40.0
PHOTOS_AT_ONCE = 8


class Localizer:
    """Says where photos were taken.

    >>> localizer = Localizer.from_pretrained("checkpoint")
    >>> predictions = localizer.locate([photo.pixels], Region.load("region.json"), names=["a.jpg"])
    """

    def __init__(self, model: ZoomModel) -> None:
        self.model = model.eval()
        self.device = next(model.parameters()).device
        self._indexes: dict[Region, Index] = {}

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = "auto") -> "Localizer":
        """Load a checkpoint folder. Raises CheckpointError or ConfigError."""
        return cls(checkpoint.load(Path(folder)).to(pick_device(device)))

    def index(self, region: Region) -> Index:
        """The region's index, opened once. Raises CheckpointError if the model zooms to another depth."""
        if region not in self._indexes:
            self.check_fits(region)
            self._indexes[region] = Index.of(self.model, region)
        return self._indexes[region]

    def locate(
        self,
        photos: Sequence[NDArray[np.uint8]],
        region: Region,
        *,
        names: Sequence[str],
        how: Search = "posterior",
        top_k: int = 5,
    ) -> list[Prediction]:
        """Localize photos, (h, w, 3) uint8 sRGB each, in a region. `names` stand in the predictions.

        how: "greedy" and "beam" look at few cells and answer with the centre of the best leaf; "posterior" looks at
        all of them and answers with the point that holds the most probability within 40 m.
        """
        small = np.stack([shrink(pixels, self.model.config.photo_px) for pixels in photos])
        leaves = self.zoom(self.encode(torch.from_numpy(small)), region, how=how)
        return [predict(found, region, name, how, top_k) for found, name in zip(leaves, names, strict=True)]

    @torch.inference_mode()
    def encode(self, photos: Tensor) -> Tensor:
        """(B, px, 2 px, 3) uint8, as `encoder.shrink` makes them -> (B, C) features."""
        return self.model.encode_photos(photos.to(self.device))

    def zoom(self, features: Tensor, region: Region, *, how: Search = "posterior") -> list[Leaves]:
        """The leaves a search finds for photo features (B, C). Raises CheckpointError if the tree is too large."""
        index = self.index(region)
        width = {"greedy": 1, "beam": BEAM_WIDTH, "posterior": None}[how]
        n_leaves = region.grid.branch ** (2 * region.grid.depth)
        if width is None and n_leaves > MAX_POSTERIOR_LEAVES:
            raise CheckpointError(
                f"region '{region.name}' has {n_leaves} leaves, too many for the full posterior; use --search beam"
            )
        parts = [
            search(self.model, index, features[i : i + PHOTOS_AT_ONCE], width=width)
            for i in range(0, len(features), PHOTOS_AT_ONCE)
        ]
        return [found for part in parts for found in part]

    def check_fits(self, region: Region) -> None:
        """Raises CheckpointError where the model zooms to another depth than the region has."""
        config = self.model.config
        if (config.branch, config.depth) != (region.branch, region.depth):
            raise CheckpointError(
                f"the checkpoint zooms {config.depth} times by {config.branch}, but region '{region.name}' has "
                f"depth {region.depth} and branch {region.branch}; use a checkpoint trained for it"
            )


def predict(leaves: Leaves, region: Region, name: str, how: Search, top_k: int) -> Prediction:
    """Turn the leaves a search found into an answer."""
    grid = region.grid
    posterior = leaf_map(leaves, grid)
    best = tuple(leaves.paths[0].tolist())
    point = _answer(grid, posterior, best, how)
    x, y = grid.north_west[0] + point[0], grid.north_west[1] - point[1]
    cell = grid.cell_at(x, y)
    lat, lon = grid.unproject(x, y)
    return Prediction(
        photo=name,
        region=region.name,
        lat=lat,
        lon=lon,
        probability=float(posterior[cell.row, cell.col]),
        radius_50_m=radius_holding(posterior, point, 0.5, leaf_m=grid.leaf_m),
        radius_90_m=radius_holding(posterior, point, 0.9, leaf_m=grid.leaf_m),
        path=grid.path(cell),
        places=tuple(
            _place(grid, tuple(path), float(p))
            for path, p in zip(leaves.paths[:top_k].tolist(), leaves.probabilities[:top_k], strict=True)
        ),
        search=how,
        posterior=posterior if how == "posterior" else None,
    )


def _answer(
    grid: Grid, posterior: NDArray[np.float32], best: tuple[int, ...], how: Search
) -> tuple[float, float]:
    """The answer in metres (east, south) of the region's north-west corner."""
    if how == "posterior":
        return best_point(posterior, leaf_m=grid.leaf_m, radius_m=max(ANSWER_RADIUS_M, grid.leaf_m))
    x, y = grid.centre(grid.cell(best))
    return x - grid.north_west[0], grid.north_west[1] - y


def _place(grid: Grid, path: tuple[int, ...], probability: float) -> Place:
    lat, lon = grid.unproject(*grid.centre(grid.cell(path)))
    return Place(lat, lon, probability, path)
