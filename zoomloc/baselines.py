"""The baseline of contrastive retrieval: a photo's feature is compared with those of tiles, one for every leaf.

After Sample4Geo (arXiv 2303.11851): one encoder for both, symmetric InfoNCE with a learned temperature and smoothed
labels, batches of look-alikes: at first of photos near to each other, later of photos whose tiles are like each
other's photos, looked for anew every epoch. The search is exact.
"""

import json
import math
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveFloat
from safetensors.torch import load_model, save_model
from scipy.spatial import KDTree
from torch import Tensor, nn

from tiles import Pyramid
from zoomloc.augment import augment
from zoomloc.config import ImageConfig, TrainConfig, parse
from zoomloc.dataset import Batch, Cities, PhotoDataset, seeded
from zoomloc.encoder import Encoder, normalise
from zoomloc.errors import CheckpointError, ConfigError
from zoomloc.grid import Grid
from zoomloc.model import pick_device
from zoomloc.placement import Placement
from zoomloc.posterior import Leaves, rows_cols
from zoomloc.progress import bar
from zoomloc.region import Region
from zoomloc.train import make_optimizers, schedule
from zoomloc.views import ViewBank

START_TEMPERATURE, LEAST_TEMPERATURE = 0.07, 0.01
# The share of the steps whose batches are of photos near to each other; those of look-alikes follow.
NEAR_SHARE = 0.2
AT_ONCE = 64


class RetrievalConfig(ImageConfig):
    """reach: the side of what a tile shows, in sides of its leaf, which lies in its middle."""

    kind: Literal["retrieval"] = "retrieval"
    reach: PositiveFloat = 3.0


class RetrievalTrainConfig(TrainConfig):
    """A training run. grid_jitter_m: where above 0, a photo's tile lies anywhere such that its leaf holds the photo,
    and not on the region's grid; grid_scale, grid_turned: and its size and direction are drawn too. What is said of
    labels and off_path goes for other models."""

    model: RetrievalConfig  # type: ignore[assignment]


class RetrievalModel(nn.Module):
    """Features of unit length of photos and tiles."""

    def __init__(self, config: RetrievalConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(START_TEMPERATURE)))

    @property
    def scale(self) -> Tensor:
        """What similarities are multiplied by: one over the temperature."""
        return self.log_scale.clamp(max=-math.log(LEAST_TEMPERATURE)).exp()

    def encode_photos(self, photos: Tensor) -> Tensor:
        """(B, px, 2 px, 3) uint8 -> (B, C), the mean of the features of the left and the right half."""
        halves = photos.unflatten(2, (2, -1)).movedim(2, 1).flatten(0, 1)  # (2 B, px, px, 3)
        features = self.encoder(normalise(halves)).unflatten(0, (-1, 2)).mean(dim=1)
        return nn.functional.normalize(features.float(), dim=-1)

    def encode_tiles(self, tiles: Tensor) -> Tensor:
        """(N, px, px, 3) uint8 -> (N, C)."""
        return nn.functional.normalize(self.encoder(normalise(tiles)).float(), dim=-1)

    def forward(self, photos: Tensor, tiles: Tensor) -> Tensor:
        """Similarities over the temperature, (B, N)."""
        return self.scale * self.encode_photos(photos) @ self.encode_tiles(tiles).T


class Tiles:
    """The tiles of a city: what is seen of leaves, or of squares like them that lie anywhere, and around them."""

    def __init__(self, pyramid: Pyramid, grid: Grid, config: RetrievalConfig) -> None:
        self.grid = grid
        # The bank is made for views of inner cells, and keeps the resolution of the smallest; tiles are of leaves.
        finer = replace(grid, depth=grid.depth + 1)
        margin_m = grid.leaf_m * config.reach
        self._bank = ViewBank(pyramid, finer, px=config.view_px, reach=config.reach, margin_m=margin_m)

    def of_leaves(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Tensor:
        """(N, px, px, 3) uint8."""
        cells = zip(rows.tolist(), cols.tolist(), strict=True)
        return self._bank.cut(Placement.of(self.grid), self.grid.depth, cells)

    def of_square(self, square: Placement) -> Tensor:
        """(1, px, px, 3) uint8."""
        return self._bank.cut(square, 0, [(0, 0)])


def draw_square(
    grid: Grid, xy: tuple[float, float], config: TrainConfig, generator: torch.Generator
) -> Placement:
    """The square whose tile a photo at xy is to be like: its leaf, or one like it, drawn so that it holds the photo."""
    down, right, grow, turn = (torch.rand(4, generator=generator, dtype=torch.float64) * 2 - 1).tolist()
    side_m = grid.leaf_m * config.grid_scale**grow
    square = Placement((0.0, 0.0), side_m, 180.0 * turn if config.grid_turned else 0.0)
    x, y = grid.centre(grid.cell_at(*xy))
    if config.grid_jitter_m:
        east, north = square.point(down * side_m / 2, right * side_m / 2)  # of the photo, from the middle
        x, y = xy[0] - east, xy[1] - north
    east, north = square.point(side_m / 2, side_m / 2)  # of the middle, from the corner
    return replace(square, north_west=(x - east, y - north))


def contrastive_loss(logits: Tensor, same: Tensor, smoothing: float) -> Tensor:
    """InfoNCE both ways: photo i goes with tile i. logits: (B, B). same: pairs that are right too, and do not count."""
    own = torch.eye(len(logits), device=logits.device)
    logits = logits.masked_fill(same, -1e4)
    targets = own * (1 - smoothing) + ~same * (smoothing / (~same).sum(1, keepdim=True))
    each = (targets * logits.log_softmax(1)).sum(1) + (targets.T * logits.log_softmax(0)).sum(0)
    return -each.mean() / 2


def hard_batches(
    order: Sequence[int], alike: NDArray[np.int64], place: NDArray[np.int64], batch_size: int
) -> list[list[int]]:
    """Batches of photos that are hard to tell apart: the next photo of the order and those like it, and so on.

    alike: (N, k) the photos like each. place: (N,) where each was taken: no batch has two of one place, so photos may
    be left over, which then do not fill a batch.
    """
    left, batches = dict.fromkeys(order), list[list[int]]()
    while True:
        batch: dict[int, int] = {}  # photos by their places
        for first in list(left):
            if first not in left or int(place[first]) in batch:
                continue
            for photo in (first, *alike[first].tolist()):
                if photo in left and int(place[photo]) not in batch and len(batch) < batch_size:
                    batch[int(place[photo])] = photo
                    del left[photo]
            if len(batch) == batch_size:
                break
        if len(batch) < batch_size:
            return batches
        batches.append(list(batch.values()))


def train_retrieval(config: RetrievalTrainConfig, *, device: str = "auto") -> Path:
    """Run a configuration to its last step, continuing at the epoch in which an earlier run of it stopped.

    Returns the folder of the checkpoint. Raises ConfigError, RegionError, ManifestError, PhotoError or
    tiles.TilesError for bad input.
    """
    run = _Training(config, pick_device(device))
    step, epoch = run.resume()
    with bar("loss {task.fields[loss]:.3f}") as display:
        task = display.add_task("training retrieval", total=config.steps, completed=step, loss=math.nan)
        while step < config.steps:
            for batch in run.batches(step, epoch)[: config.steps - step]:
                display.update(task, advance=1, loss=run.step(batch, step))
                step += 1
            epoch += 1
            run.save(step, epoch)
    return run.checkpoint


class _Training:
    """A model under training, and the files that hold it between epochs."""

    def __init__(self, config: RetrievalTrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        regions = [Region.load(city / "region.json") for city in config.data]
        photos = [
            PhotoDataset(city, "train", region.grid, px=config.model.photo_px, cache=config.cache_photos)
            for city, region in zip(config.data, regions, strict=True)
        ]
        self.photos, self.tiles = Cities(photos), [Tiles(r.open(), r.grid, config.model) for r in regions]
        self.leaves = [leaves_at(t.grid, p.xy.numpy()) for t, p in zip(self.tiles, photos, strict=True)]
        torch.manual_seed(config.seed)
        self.model = RetrievalModel(config.model)
        if config.encoder_weights:
            self.model.encoder.load_weights(config.encoder_weights)
        self.model.to(device)
        self.optimizers = make_optimizers(self.model, config)
        config.out.mkdir(parents=True, exist_ok=True)
        self.checkpoint, self._state = config.out / "checkpoint", config.out / "state.pt"

    def batches(self, step: int, epoch: int) -> list[list[int]]:
        """An epoch of batches. Raises ConfigError where there are too few places for one."""
        size, near = self.config.batch_size, step < NEAR_SHARE * self.config.steps
        n_alike = max(1, size // 4)
        random = np.random.default_rng([self.config.seed, epoch])
        alike, first = [], 0
        for number, data in enumerate(self.photos.cities):
            n = min(2 * n_alike, len(data) - 1)
            found = self._near(number, n) if near else self._look_alikes(number, n)
            # The first half of them and some of the others, as published.
            others = random.permuted(found[:, n // 2 :], axis=1)[:, : n_alike - n // 2]
            chosen = np.concatenate([found[:, : n // 2], others], axis=1) + first
            alike.append(np.pad(chosen, ((0, 0), (0, n_alike - chosen.shape[1])), mode="edge"))
            first += len(data)
        n_places = np.cumsum([0, *(tile.grid.branch ** (2 * tile.grid.depth) for tile in self.tiles)])
        place = np.concatenate([leaves + n_places[i] for i, leaves in enumerate(self.leaves)])
        batches = hard_batches(
            random.permutation(len(self.photos)).tolist(), np.concatenate(alike), place, size
        )
        if not batches:
            raise ConfigError(
                f"batch_size {size} is more than the places photos were taken at; choose a smaller one"
            )
        return batches

    def _near(self, city: int, n: int) -> NDArray[np.int64]:
        """The n photos nearest to each of a city, nearest first: (N, n)."""
        xy = self.photos.cities[city].xy.numpy()
        return np.asarray(KDTree(xy).query(xy, k=n + 1)[1])[:, 1:]

    @torch.inference_mode()
    def _look_alikes(self, city: int, n: int) -> NDArray[np.int64]:
        """The n photos of a city whose tiles are likest to each photo, likest first: (N, n)."""
        data, leaves = self.photos.cities[city], self.leaves[city]
        places, of_photo = np.unique(leaves, return_inverse=True)
        tiles = encode_leaves(self.model, self.tiles[city], places)[of_photo]
        found = []
        for at in np.array_split(np.arange(len(data)), math.ceil(len(data) / AT_ONCE)):
            photos = data.__getitems__(at.tolist()).photos.to(self.device)
            similar = self.model.encode_photos(photos).cpu() @ tiles.T
            similar[torch.from_numpy(leaves[at, None] == leaves)] = -math.inf
            found.append(similar.topk(n, dim=1).indices)
        return torch.cat(found).numpy()

    def step(self, chosen: list[int], step: int) -> float:
        """One optimizer step; returns the loss."""
        batch, config = self.photos.__getitems__(chosen), self.config
        generator = seeded(config.seed, 2, step)
        squares = [
            draw_square(self.tiles[city].grid, (x, y), config, generator)
            for city, (x, y) in zip(batch.city.tolist(), batch.xy.tolist(), strict=True)
        ]
        tiles = torch.cat(
            [self.tiles[c].of_square(s) for c, s in zip(batch.city.tolist(), squares, strict=True)]
        )
        photos = batch.photos.to(self.device)
        if config.augment:
            photos = augment(photos, seeded(config.seed, 1, step))
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(photos, tiles.to(self.device))
        loss = contrastive_loss(logits.float(), _same(batch, squares).to(self.device), config.label_smoothing)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * schedule(step, config)
            optimizer.step()
        return float(loss.detach())

    def resume(self) -> tuple[int, int]:
        """Load the run's state if there is one; returns the step and the epoch to begin with."""
        if not self._state.exists():
            return 0, 0
        try:
            state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
            raise ConfigError(f"{self._state} is damaged; delete it to begin the run anew") from None
        if state["config"] != self._settings():
            raise ConfigError(
                f"{self.config.out} holds a run of another configuration; choose another `out`, or delete it"
            )
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return int(state["step"]), int(state["epoch"])

    def save(self, step: int, epoch: int) -> None:
        save(self.model, self.checkpoint)
        state = {
            "config": self._settings(),
            "step": step,
            "epoch": epoch,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        part = self._state.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._state)

    def _settings(self) -> str:
        """What must not change between the parts of a run."""
        return self.config.model_dump_json(
            exclude={
                "data",
                "out",
                "encoder_weights",
                "workers",
                "cache_photos",
                "checkpoint_minutes",
                "validate_every",
            }
        )


def leaves_at(grid: Grid, xy: NDArray[np.float64]) -> NDArray[np.int64]:
    """The leaf of each position (N, 2) as a number, row by row."""
    side = grid.n_cells(grid.depth)
    return np.array([cell.row * side + cell.col for cell in (grid.cell_at(x, y) for x, y in xy)])


def _same(batch: Batch, squares: Sequence[Placement]) -> Tensor:
    """(B, B) whether a photo lies in the square of another one's tile."""
    offsets = torch.stack(
        [square.offsets(batch.xy) / square.side_m for square in squares], dim=1
    )  # (B, B, 2)
    held = ((offsets >= 0) & (offsets < 1)).all(dim=2) & (batch.city[:, None] == batch.city)
    return held & ~torch.eye(len(squares), dtype=torch.bool)


@torch.inference_mode()
def encode_leaves(model: RetrievalModel, tiles: Tiles, numbers: NDArray[np.int64]) -> Tensor:
    """Features (N, C) of leaves, numbered row by row."""
    device, side = model.log_scale.device, tiles.grid.n_cells(tiles.grid.depth)
    parts = np.array_split(numbers, math.ceil(len(numbers) / AT_ONCE))
    return torch.cat(
        [model.encode_tiles(tiles.of_leaves(*np.divmod(part, side)).to(device)).cpu() for part in parts]
    )


class Gallery:
    """The features of all leaves of a region, and the exact search among them."""

    def __init__(self, model: RetrievalModel, region: Region) -> None:
        import faiss  # here: of the benchmarks alone

        self._model, grid = model.eval(), region.grid
        n, side = grid.branch**2, grid.n_cells(grid.depth)
        numbers = np.arange(n**grid.depth)
        self._paths = numbers[:, None] // n ** np.arange(grid.depth - 1, -1, -1) % n
        rows, cols = rows_cols(self._paths, grid.branch)
        self.features = encode_leaves(
            model, Tiles(region.open(), grid, model.config), rows * side + cols
        ).numpy()
        self._index = faiss.IndexFlatIP(self.features.shape[1])
        self._index.add(self.features)

    def locate(self, photos: Tensor) -> list[Leaves]:
        """All leaves for each of the photos (B, px, 2 px, 3) uint8, likest first; probabilities by the softmax."""
        similar, found = self._search(photos, len(self._paths))
        logits = torch.from_numpy(similar).double() * self._model.scale.item()
        return [Leaves(self._paths[i], p) for i, p in zip(found, logits.softmax(1).numpy(), strict=True)]

    def best(self, photos: Tensor) -> list[Leaves]:
        """The likest leaf alone for each of the photos; how probable it is is not asked."""
        return [Leaves(self._paths[i], np.ones(1)) for i in self._search(photos, 1)[1]]

    @torch.inference_mode()
    def _search(self, photos: Tensor, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities and numbers, (B, n) both, of the likest leaves."""
        features = self._model.encode_photos(photos.to(self._model.log_scale.device)).cpu().numpy()
        similar, found = self._index.search(features, n)
        return similar, found


def save(model: RetrievalModel, folder: Path) -> None:
    """Write config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(model.config.model_dump_json(indent=1) + "\n")
    part = folder / "model.safetensors.part"
    save_model(model, str(part))
    part.replace(folder / "model.safetensors")


def load(folder: Path) -> RetrievalModel:
    """Read what `save` wrote. Raises CheckpointError."""
    try:
        config = json.loads((folder / "config.json").read_text())
        model = RetrievalModel(parse(RetrievalConfig, config, where=str(folder / "config.json")))
        load_model(model, str(folder / "model.safetensors"))
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {folder} cannot be read ({error}); train it again") from None
    return model.eval()
