"""Training: teacher forcing of the zoom decisions, resumable to the step, on one process or several."""

import json
import math
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from generation.processes import Processes, join, stopping
from zoomloc import checkpoint, manifest
from zoomloc.augment import augment
from zoomloc.config import TrainConfig
from zoomloc.dataset import Batch, Cities, PhotoDataset, StepBatches, seeded
from zoomloc.errors import ConfigError, OutputError
from zoomloc.evaluate import evaluate
from zoomloc.grid import Grid
from zoomloc.heading import heading_loss
from zoomloc.labels import Labels, make_labels, published_labels
from zoomloc.lesson import Lesson, make_lesson, merged, show
from zoomloc.localizer import Localizer
from zoomloc.losses import contrast, expected_error, path_loss, pointer_loss
from zoomloc.model import AnyModel, ZoomModel, make_model, misfit, n_parameters, pick_device
from zoomloc.muon import Muon
from zoomloc.placement import Placement
from zoomloc.pointer import PointerModel
from zoomloc.progress import bar
from zoomloc.region import Region
from zoomloc.rollout import rollout_loss
from zoomloc.views import ViewBank

# Enough for a curve to watch; `zoomloc evaluate` measures on all.
VALIDATION_PHOTOS = 256


def train(config: TrainConfig, *, device: str = "auto") -> Path:
    """Run a configuration to its last step, continuing where an earlier run of it stopped.

    Writes config.out/checkpoint (the model), state.pt (what resuming needs) and TensorBoard logs. Returns the
    checkpoint's folder. SIGINT or SIGTERM saves first and raises KeyboardInterrupt. Raises ConfigError, RegionError,
    ManifestError, PhotoError or tiles.TilesError for bad input.
    """
    processes = join()
    place = pick_device(device)
    if place.type == "cuda" and processes.world > 1:
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    try:
        return _train(config, processes, place)
    finally:
        if processes.world > 1:
            dist.destroy_process_group()


def _train(config: TrainConfig, processes: Processes, device: torch.device) -> Path:
    regions = [Region.load(city / "region.json") for city in config.data]
    _check_fits(config, regions, processes)
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{config.out}: cannot be made ({error.strerror}); choose another `out`") from None
    data = Cities(
        [
            PhotoDataset(city, "train", region.grid, px=config.model.photo_px, cache=config.cache_photos)
            for city, region in zip(config.data, regions, strict=True)
        ]
    )
    torch.manual_seed(config.seed)
    model = make_model(config.model)
    banks = [
        ViewBank(
            region.open(),
            region.grid,
            px=config.model.view_px,
            reach=model.reach,
            margin_m=config.grid_jitter_m,
        )
        for region in regions
    ]
    if config.encoder_weights:
        model.encoder.load_weights(config.encoder_weights)
    trainer = _Trainer(config, model.to(device), banks, processes, device)
    first = trainer.resume()
    monitor = _Monitor(trainer, enabled=processes.leads)
    saved = time.monotonic()
    with stopping() as stop_asked:
        for step, batch in enumerate(
            monitor.track(_loader(data, config, first, processes), first), start=first
        ):
            monitor.log(step, trainer.step(batch, step))
            due = time.monotonic() - saved > 60 * config.checkpoint_minutes
            if processes.leads and (due or stop_asked()):
                trainer.save(step + 1)
                saved = time.monotonic()
            if stop_asked():
                raise KeyboardInterrupt
    if processes.leads:
        trainer.save(config.steps)
    monitor.close()
    return trainer.checkpoint


def _loader(data: Cities, config: TrainConfig, first: int, processes: Processes) -> DataLoader[Batch]:
    """The batches of the steps still to do."""
    batches = StepBatches(
        len(data),
        batch_size=config.batch_size,
        seed=config.seed,
        start=first,
        stop=config.steps,
        rank=processes.rank,
        world=processes.world,
    )
    workers = 0 if config.cache_photos else config.workers
    return DataLoader(data, batch_sampler=batches, num_workers=workers, collate_fn=_as_is)


class _Trainer:
    """A model under training: its steps, and the files that hold it between them."""

    def __init__(
        self,
        config: TrainConfig,
        model: AnyModel,
        banks: list[ViewBank],
        processes: Processes,
        device: torch.device,
    ) -> None:
        self.config, self.model, self.banks = config, model, banks
        self.processes, self.device = processes, device
        self.optimizers = make_optimizers(model, config)
        self.checkpoint = config.out / "checkpoint"
        if config.compiled:
            model.compile(dynamic=True)
        self._runner: nn.Module = DistributedDataParallel(model) if processes.world > 1 else model
        self._state = config.out / "state.pt"

    def step(self, batch: Batch, step: int) -> float:
        """One optimizer step; returns this process's loss."""
        photos = batch.photos.to(self.device)
        if self.config.augment:
            photos = augment(photos, seeded(self.config.seed, 1, step, self.processes.rank))
        self.model.zero_grad(set_to_none=True)
        parts = torch.arange(len(photos)).chunk(self.config.accumulate)
        total = 0.0
        for part in parts:
            placements = [
                _placement(bank.grid, self.config, step, number) for number, bank in enumerate(self.banks)
            ]
            lesson = self._lesson(batch, part, placements)
            show = partial(self._show, placements, batch.city[part])
            with self._gradients_stay(part is not parts[-1]):
                with torch.autocast(
                    self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"
                ):
                    loss = self._loss(photos[part], batch.fov_deg[part], lesson, show) / len(parts)
                loss.backward()
            total += float(loss.detach())
        self._update(self.config.learning_rate * schedule(step, self.config))
        return total

    def _gradients_stay(self, here: bool) -> AbstractContextManager[None]:
        """Until the last part of a batch, gradients are not sent between processes."""
        if here and isinstance(self._runner, DistributedDataParallel):
            return cast(AbstractContextManager[None], self._runner.no_sync())
        return nullcontext()

    def _lesson(self, batch: Batch, part: Tensor, placements: list[Placement]) -> Lesson:
        config, parts = self.config, []
        all_xy, city, heading_deg = batch.xy[part], batch.city[part], batch.heading_deg[part].clone()
        for number, (bank, placement) in enumerate(zip(self.banks, placements, strict=True)):
            xy = all_xy[city == number]
            heading_deg[city == number] -= placement.bearing_deg
            if config.labels == "published":
                parts.append(published_labels(bank.grid, xy))
            else:
                shape = {"branch": bank.grid.branch, "depth": bank.grid.depth}
                parts.append(make_labels(placement, xy, **shape, sigma_m=config.label_sigma_m))
        return make_lesson(merged(parts, city), all_xy, heading_deg, city, self.banks, placements)

    def _show(self, placements: list[Placement], city: Tensor, which: Tensor, cells: Tensor) -> Tensor:
        """Features (b, L, C) of cells (b, L, 2) of those photos (b,) of a batch whose cities (B,) are known."""
        assert isinstance(self.model, ZoomModel)
        shown = show(cells, city[which], self.banks, placements)
        return self.model.encode_views(shown.views.to(self.device))[shown.view_index.to(self.device)]

    def _loss(
        self, photos: Tensor, fov_deg: Tensor, lesson: Lesson, look: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        views = lesson.views.to(self.device)
        if isinstance(self.model, PointerModel):
            sides = lesson.side_m.to(self.device), lesson.n_views, lesson.sides_m.to(self.device)
            leaf = torch.stack([lesson.view_index[:, -1], lesson.labels.actions[:, -1]], dim=1).to(
                self.device
            )
            log_p, facing = self._runner(photos, fov_deg.to(self.device), views, *sides, leaf)
            weights = {"off_path": self.config.off_path, "own_mistakes": self.config.own_mistakes}
            loss = pointer_loss(log_p, lesson, smoothing=self.config.label_smoothing, **weights)
            if self.config.contrast:
                loss = loss + self.config.contrast * contrast(
                    log_p, lesson, smoothing=self.config.label_smoothing
                )
            if self.config.nearness:
                loss = loss + self.config.nearness * expected_error(log_p, lesson)
            if self.config.heading:
                loss = loss + self.config.heading * heading_loss(facing, lesson.heading_deg.to(self.device))
            return loss
        at = lesson.view_index.to(self.device), lesson.labels.actions.to(self.device)
        then = partial(self._own_context, lesson.labels, look) if self.config.own_context else None
        logits, own = self._runner(photos, views, *at, then)
        loss = path_loss(logits.float(), lesson.labels, self.config.label_smoothing)
        return loss if own is None else loss + self.config.own_context * own

    def _own_context(
        self, labels: Labels, look: Callable[[Tensor, Tensor], Tensor], photo: Tensor, logits: Tensor
    ) -> Tensor:
        assert isinstance(self.model, ZoomModel)
        inside = labels.inside.nonzero()[:, 0]
        branch = self.model.config.branch
        return rollout_loss(self.model.decoder, photo, logits, labels, partial(look, inside), branch=branch)

    def _update(self, learning_rate: float) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()

    def resume(self) -> int:
        """Load the run's state if there is one; returns the step to begin with."""
        if not self._state.exists():
            return 0
        state = self._read_state()
        if not self._continues(json.loads(state["config"])):
            raise ConfigError(
                f"{self.config.out} holds a run of another configuration; choose another `out`, or delete it"
            )
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return int(state["step"])

    def _read_state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
            raise ConfigError(f"{self._state} is damaged; delete it to begin the run anew") from None
        return state

    def save(self, step: int) -> None:
        """Write the checkpoint people use and the state that resuming at `step` needs."""
        checkpoint.save(self.model, self.checkpoint)
        state = {
            "config": json.dumps(self._settings()),
            "step": step,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        temporary = self._state.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self._state)

    def _settings(self) -> dict[str, Any]:
        """What must not change between the parts of a run."""
        free = {"data", "out", "encoder_weights", "workers", "cache_photos", "compiled"}
        free |= {"checkpoint_minutes", "validate_every"}
        return self.config.model_dump(mode="json", exclude=free)

    def _continues(self, before: dict[str, Any]) -> bool:
        """Whether a run of other settings is this one; it had the defaults of what was not known then."""
        defaults = {name: field.default for name, field in TrainConfig.model_fields.items()}
        return all((defaults | before)[name] == value for name, value in self._settings().items())


class _Monitor:
    """What a person sees of a run: a progress bar, TensorBoard scalars, the accuracy on validation photos."""

    def __init__(self, trainer: _Trainer, *, enabled: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here: slow to import

        self._trainer, self._losses = trainer, deque[float](maxlen=50)
        self._writer = SummaryWriter(str(trainer.config.out / "log")) if enabled else None

    def track(self, loader: DataLoader[Batch], first: int) -> Iterator[Batch]:
        """Pass the batches through, drawing a progress bar."""
        if self._writer is None:
            yield from loader
            return
        millions = n_parameters(self._trainer.model) / 1e6
        with bar("loss {task.fields[loss]:.3f}") as display:
            task = display.add_task(
                f"training {millions:.1f} M parameters",
                total=len(loader) + first,
                completed=first,
                loss=math.nan,
            )
            for batch in loader:
                yield batch
                display.update(task, advance=1, loss=sum(self._losses) / len(self._losses))

    def log(self, step: int, loss: float) -> None:
        self._losses.append(loss)
        if self._writer and (step + 1) % 50 == 0:
            self._writer.add_scalar("loss/train", sum(self._losses) / len(self._losses), step)
            self._writer.add_scalar("learning_rate", self._trainer.optimizers[0].param_groups[0]["lr"], step)
        if self._writer and (step + 1) % self._trainer.config.validate_every == 0:
            self._validate(step)

    def _validate(self, step: int) -> None:
        """Greedy zooming on the first validation photos of the first dataset, where it has any."""
        data, labels = self._trainer.config.data[0], self._trainer.config.labels
        if self._writer is None or not (manifest.read(data / "manifest.parquet").split == "val").any():
            return
        localizer = Localizer(self._trainer.model)
        metrics = evaluate(
            localizer, data, split="val", searches=["greedy"], limit=VALIDATION_PHOTOS, labels=labels
        )
        self._trainer.model.train()
        for radius, recall in metrics.metrics["greedy"].recall.items():
            self._writer.add_scalar(f"validation/recall_{radius}_m", recall, step)
        self._writer.add_scalar("validation/median_m", metrics.metrics["greedy"].median_m, step)

    def close(self) -> None:
        if self._writer:
            self._writer.close()


def _placement(grid: Grid, config: TrainConfig, step: int, city: int) -> Placement:
    """Where this step's grid lies, the same for all processes."""
    if config.grid_jitter_m == 0 and config.grid_scale == 1 and not config.grid_turned:
        return Placement.of(grid)
    generator = seeded(config.seed, 2, step, city)
    return Placement.draw(
        grid, generator, shift_m=config.grid_jitter_m, scale=config.grid_scale, turned=config.grid_turned
    )


def schedule(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine down to zero at the last step."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW, which decays only matrices, not norms, biases, tokens and tables; or Muon for the blocks' matrices."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    hidden = [p for name, p in trained.items() if p.ndim == 2 and {"layer", "blocks"} & set(name.split("."))]
    by_muon = {id(p) for p in hidden} if config.optimizer == "muon" else set()
    others = [p for p in trained.values() if id(p) not in by_muon]
    groups = [
        {"params": [p for p in others if p.ndim in (2, 4)], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim not in (2, 4)], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
    if not by_muon:
        return [adamw]
    return [Muon(hidden, lr=config.learning_rate, weight_decay=config.weight_decay), adamw]


def _check_fits(config: TrainConfig, regions: list[Region], processes: Processes) -> None:
    for region in regions:
        if why := misfit(config.model, region):
            raise ConfigError(f"the model {why}; change `branch` or `depth` in [model] or in region.json")
        if region.depth != regions[0].depth:
            raise ConfigError(
                f"region '{region.name}' has depth {region.depth}, but '{regions[0].name}' {regions[0].depth}; train "
                "on regions of one depth"
            )
    if config.batch_size % (processes.world * config.accumulate):
        raise ConfigError(
            f"batch_size {config.batch_size} does not divide by {processes.world} processes and "
            f"{config.accumulate} parts"
        )


def _as_is(batch: Any) -> Any:
    """The dataset makes whole batches; there is nothing to collate."""
    return batch
