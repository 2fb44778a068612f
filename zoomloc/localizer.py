"""The public way in: a checkpoint, a region, photos; predictions come out."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoomloc import checkpoint, markov, runtime
from zoomloc.answer import Mass, Spot, areas_holding, as_mass, distinct_spots, radii_holding
from zoomloc.calibration import Calibration
from zoomloc.encoder import shrink
from zoomloc.errors import CheckpointError
from zoomloc.grid import Grid
from zoomloc.heading import arcs_holding, likeliest, turned
from zoomloc.index import Index
from zoomloc.model import AnyModel, misfit, pick_device
from zoomloc.photo import Photo, load
from zoomloc.pointer import PointerModel
from zoomloc.posterior import Leaves, leaf_map, open_part, search, weighed
from zoomloc.prediction import Place, Prediction
from zoomloc.priors import Evidence, Facing, Prior
from zoomloc.region import Region

Search = Literal["greedy", "beam", "posterior"]

BEAM_WIDTH = 16
# The share of the probability that the posterior may leave unlooked at.
EPSILON = 1e-3
# The full posterior visits every inner cell of the tree; beyond this many leaves it takes minutes on a CPU.
MAX_POSTERIOR_LEAVES = 65_536
# The answer is the point with the most probability within this radius.
ANSWER_RADIUS_M = 40.0
# Of the probability, given that the photo is here, for which radii and areas are told.
SHARES = (0.5, 0.9)
PHOTOS_AT_ONCE = 8
# Without a calibration, a photo is called "not in this region" where that is the likelier.
DEFAULT_THRESHOLD = 0.5


class Localizer:
    """Says where photos were taken.

    >>> localizer = Localizer.from_pretrained("checkpoint")
    >>> prediction = localizer.locate_photo("a.jpg", "region.json")
    >>> prediction.lat, prediction.lon
    """

    def __init__(self, model: AnyModel, calibration: Calibration | None = None) -> None:
        self.model, self.calibration = model.eval(), calibration
        self.device = next(model.parameters()).device
        self._indexes: dict[Region, Index] = {}

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = "auto") -> "Localizer":
        """Load a checkpoint folder, or one that `zoomloc export` wrote, which runs on the CPU.

        Raises CheckpointError or ConfigError.
        """
        folder = Path(folder)
        if runtime.is_exported(folder):
            if device not in ("auto", "cpu"):
                raise CheckpointError(f"checkpoint {folder} is an exported one, which runs on the CPU alone")
            model = runtime.load(folder)
        else:
            model = checkpoint.load(folder).to(pick_device(device))
        return cls(model, checkpoint.load_calibration(folder, model))

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
        fovs_deg: Sequence[float | None] | None = None,
        priors: Sequence[Sequence[Prior | Facing]] | None = None,
        how: Search = "posterior",
        top_k: int = 5,
        radius_m: float = ANSWER_RADIUS_M,
    ) -> list[Prediction]:
        """Localize photos, (h, w, 3) uint8 sRGB each, in a region. `names` stand in the predictions. fovs_deg: their
        horizontal fields of view, None where unknown. priors: what else is known of each photo's position, for the
        posterior.

        how: "greedy" and "beam" look at few cells and answer with the centre of the best leaf; "posterior" looks at
        all of them and answers with the point that holds the most probability within `radius_m` (at least the side of
        a leaf). top_k: places to name, as far apart.
        """
        small = np.stack([shrink(pixels, self.model.config.photo_px) for pixels in photos])
        known = [math.nan if fov is None else fov for fov in fovs_deg or [None] * len(photos)]
        evidence = [Evidence(each, region.grid) if each else None for each in priors or [()] * len(photos)]
        features = self.encode(torch.from_numpy(small), torch.tensor(known))
        leaves = self.zoom(features, region, how=how, evidence=evidence)
        return [
            predict(found, region, name, how, top_k, radius_m, self.threshold)
            for found, name in zip(leaves, names, strict=True)
        ]

    def locate_photo(
        self,
        photo: str | Path | Photo,
        region: str | Path | Region,
        *,
        priors: Sequence[Prior | Facing] = (),
        how: Search = "posterior",
        top_k: int = 5,
        radius_m: float = ANSWER_RADIUS_M,
    ) -> Prediction:
        """Localize one photo, by its file or as loaded; of a panorama, by views all around. region: its file or
        itself. The rest is as for `locate`. Raises PhotoError and RegionError for files that cannot be used."""
        from zoomloc import panorama

        place = region if isinstance(region, Region) else Region.load(region)
        loaded = photo if isinstance(photo, Photo) else load(photo)
        around = panorama.views(loaded) if how == "posterior" else []
        if around:
            known = [prior for prior in priors if not isinstance(prior, Facing)]
            return panorama.locate(
                self, around, place, name=str(loaded.path), priors=known, top_k=top_k, radius_m=radius_m
            )
        [found] = self.locate(
            [loaded.pixels],
            place,
            names=[str(loaded.path)],
            fovs_deg=[loaded.fov_deg],
            priors=[priors],
            how=how,
            top_k=top_k,
            radius_m=radius_m,
        )
        return found

    @torch.inference_mode()
    def encode(self, photos: Tensor, fov_deg: Tensor | None = None) -> Tensor:
        """(B, px, 2 px, 3) uint8, as `encoder.shrink` makes them -> (B, …) features. fov_deg: (B,), nan if unknown."""
        return self.model.encode_photos(photos.to(self.device), fov_deg)

    def zoom(
        self,
        features: Tensor,
        region: Region,
        *,
        how: Search = "posterior",
        beam_width: int = BEAM_WIDTH,
        epsilon: float = EPSILON,
        evidence: Sequence[Evidence | None] | None = None,
    ) -> list[Leaves]:
        """The leaves a search finds for photo features (B, …); none where all of the region's imagery was made up.

        epsilon: the posterior of a pointer model leaves cells unopened that hold less than this share of the
        probability; 0 opens all. evidence: what else is known of each photo; the posterior alone can weigh it, and
        ValueError is raised for other searches.

        Raises CheckpointError if the tree is too large for the posterior of a published model, or a heading is known
        and the model says nothing of headings.
        """
        index = self.index(region)
        if index.blank:
            nothing = Leaves(
                np.empty((0, region.grid.depth), np.int64), np.empty(0), 1.0, closed=index.closed
            )
            return [nothing] * len(features)
        found = self._zoom(
            features, region, how=how, beam_width=beam_width, epsilon=epsilon, evidence=evidence
        )
        return found if index.closed is None else [replace(each, closed=index.closed) for each in found]

    def _zoom(
        self,
        features: Tensor,
        region: Region,
        *,
        how: Search,
        beam_width: int,
        epsilon: float,
        evidence: Sequence[Evidence | None] | None,
    ) -> list[Leaves]:
        index = self.index(region)
        parts = [features[i : i + PHOTOS_AT_ONCE] for i in range(0, len(features), PHOTOS_AT_ONCE)]
        width = {"greedy": 1, "beam": beam_width, "posterior": None}[how]
        known = evidence or [None] * len(features)
        if width is not None and any(known):
            raise ValueError("what else is known of a photo is weighed by the posterior search alone")
        if any(its and its.headings is not None for its in known) and not self.states_headings:
            raise CheckpointError(
                "the checkpoint says nothing of headings, so that a known one cannot help; leave it out, or use a "
                "checkpoint trained with heading_waves"
            )
        if isinstance(self.model, PointerModel):
            if width is None:
                each = [known[i : i + PHOTOS_AT_ONCE] for i in range(0, len(features), PHOTOS_AT_ONCE)]
                return [
                    found
                    for part, its in zip(parts, each, strict=True)
                    for found in markov.posterior(
                        self.model, index, part, epsilon=epsilon, evidence=its, calibration=self.calibration
                    )
                ]
            return [
                found
                for part in parts
                for found in markov.beam(self.model, index, part, width=width, calibration=self.calibration)
            ]
        n_leaves = region.grid.branch ** (2 * region.grid.depth)
        if width is None and n_leaves > MAX_POSTERIOR_LEAVES:
            raise CheckpointError(
                f"region '{region.name}' has {n_leaves} leaves, too many for the full posterior; use --search beam"
            )
        leaves = [
            found
            for part in parts
            for found in search(self.model, index, part, width=width, calibration=self.calibration)
        ]
        return [
            found if its is None else weighed(found, its) for found, its in zip(leaves, known, strict=True)
        ]

    @property
    def states_headings(self) -> bool:
        """Whether the model says which way a camera looked."""
        return isinstance(self.model, PointerModel) and self.model.config.heading_waves > 0

    @property
    def threshold(self) -> float:
        """The probability of not being on the map above which a photo is called so."""
        return self.calibration.threshold if self.calibration else DEFAULT_THRESHOLD

    def check_fits(self, region: Region) -> None:
        """Raises CheckpointError where the model zooms otherwise than the region does."""
        if why := misfit(self.model.config, region):
            raise CheckpointError(f"the checkpoint {why}; use a checkpoint trained for it")


def predict(
    leaves: Leaves,
    region: Region,
    name: str,
    how: Search,
    top_k: int,
    radius_m: float = ANSWER_RADIUS_M,
    threshold: float = DEFAULT_THRESHOLD,
) -> Prediction:
    """Turn the leaves a search found into an answer. threshold: of `not_here`, for a photo to be located."""
    leaves, grid = open_part(leaves, region.grid), region.grid
    mass = as_mass(leaves, grid)
    radius_m = max(radius_m, grid.leaf_m)  # within a leaf one point is as good as another
    spots = distinct_spots(mass, radius_m=radius_m, top_k=top_k)
    point = _answer(grid, leaves, spots, how)
    x, y = _xy(grid, point)
    cell = grid.cell_at(x, y)
    lat, lon = grid.unproject(x, y)
    shares = [share * leaves.here for share in SHARES]
    radii, areas = radii_holding(mass, point, shares), areas_holding(mass, shares)
    in_cell = (mass.rows == cell.row) & (mass.cols == cell.col)
    return Prediction(
        photo=name,
        region=region.name,
        lat=lat,
        lon=lon,
        probability=float(mass.probabilities[in_cell].sum()),
        radius_50_m=radii[0],
        radius_90_m=radii[1],
        area_50_m2=areas[0],
        area_90_m2=areas[1],
        path=grid.path(cell),
        places=tuple(_place(grid, spot) for spot in spots),
        radius_m=radius_m,
        search=how,
        not_here=leaves.not_here,
        threshold=threshold,
        unexpanded=leaves.unexpanded,
        posterior=leaf_map(leaves, grid) if how == "posterior" else None,
        grid=grid,
        no_imagery=leaves.no_imagery,
        **_facing(leaves, grid, mass, point, radius_m),
    )


def _facing(
    leaves: Leaves, grid: Grid, mass: Mass, point: tuple[float, float], radius_m: float
) -> dict[str, Any]:
    """What is said of the heading: the mean over the leaves within the radius of the answer."""
    if leaves.headings is None:
        return {}
    n = len(leaves.headings)
    away_m = np.hypot(
        (mass.cols[:n] + 0.5) * grid.leaf_m - point[0], (mass.rows[:n] + 0.5) * grid.leaf_m - point[1]
    )
    weight = mass.probabilities[:n] * (away_m <= radius_m)
    if weight.sum() == 0:
        return {}
    probabilities = weight / weight.sum() @ leaves.headings
    lat, lon = grid.unproject(*_xy(grid, point))
    lean_deg = float(grid.convergence_deg(np.array([lat]), np.array([lon]))[0])
    heading_deg = likeliest(probabilities)
    arcs = arcs_holding(probabilities, heading_deg, SHARES)
    return {
        "heading_deg": (heading_deg + lean_deg) % 360,
        "heading_50_deg": arcs[0],
        "heading_90_deg": arcs[1],
        "headings": turned(probabilities, lean_deg).astype(np.float32),
    }


def _answer(grid: Grid, leaves: Leaves, spots: Sequence[Spot], how: Search) -> tuple[float, float]:
    """The answer in metres (east, south) of the region's north-west corner."""
    if how == "posterior" and spots:
        return spots[0].east_m, spots[0].south_m
    best = grid.root if not len(leaves.paths) else grid.cell(tuple(leaves.paths[0].tolist()))
    x, y = grid.centre(best)
    return x - grid.north_west[0], grid.north_west[1] - y


def _place(grid: Grid, spot: Spot) -> Place:
    x, y = _xy(grid, (spot.east_m, spot.south_m))
    lat, lon = grid.unproject(x, y)
    return Place(lat, lon, spot.probability, grid.path(grid.cell_at(x, y)))


def _xy(grid: Grid, point: tuple[float, float]) -> tuple[float, float]:
    """A point in metres (east, south) of the north-west corner, in the grid's CRS."""
    return grid.north_west[0] + point[0], grid.north_west[1] - point[1]
