"""Training on a tile pyramid: of a tokenizer of tiles, then of a model of tiles; resumable to the step.

    python -m generation.train configs/tiles_tokenizer.toml configs/tiles_var.toml

This module, `windows` and `make` are on the map's side: they know the package `tiles`.
"""

import json
import math
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from generation import tile_checkpoint
from generation.models.regression import Regression
from generation.processes import Processes, join, stopping
from generation.schedule import Schedule, scales
from generation.tile_checkpoint import CheckpointConfig
from generation.tile_config import TokenizerConfig, TrainConfig, load
from generation.tile_model import TileModel, enlarged, halved
from generation.tile_tokenizer import TileTokenizer, reconstruction_loss
from generation.windows import Windows, as_images, open_places
from tiles import TilesError

SHOWN = 8  # held-out tiles in the sample grids
BEGUN_WITH = 256  # tiles in which a tokenizer finds its components
CHECKED = 32  # held-out tiles that the loss is measured on
Batch = tuple[Tensor, Tensor]  # windows (B, 3, px, px) uint8, zoom levels (B,)


def train(config: TrainConfig) -> Path:
    """Run a configuration to its last step, continuing where an earlier run of it stopped.

    Writes config.out/checkpoint (the averaged weights), state.pt (what resuming needs), samples/*.png and TensorBoard
    logs. Returns the checkpoint's folder. SIGINT or SIGTERM saves first and raises KeyboardInterrupt. Raises ValueError
    or tiles.TilesError, one line, for bad input.
    """
    processes = join()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda" and processes.world > 1:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    try:
        return _train(config, processes, device)
    finally:
        if processes.world > 1:
            dist.destroy_process_group()


def _train(config: TrainConfig, processes: Processes, device: torch.device) -> Path:
    if config.batch_size % processes.world:
        raise ValueError(f"batch_size {config.batch_size} does not divide by {processes.world} processes")
    trainer = _Trainer(config, processes, device)
    places = open_places(config.sources)
    spaces: dict[str, Any] = {"px": trainer.px, "block_m": config.block_m, "held_out": config.held_out}
    windows = Windows(places, **spaces, split="train")
    held_out = Windows(places, **spaces, split="held_out").batch(CHECKED, np.random.default_rng(config.seed))
    config.out.mkdir(parents=True, exist_ok=True)
    first = trainer.resume()
    if first == 0 and isinstance(trainer.made, TileTokenizer):
        some = windows.batch(BEGUN_WITH, np.random.default_rng(config.seed))[0]
        trainer.begin(as_images(some.to(device)))
    monitor = _Monitor(trainer, held_out, enabled=processes.leads)
    saved = time.monotonic()
    with stopping() as stop_asked:
        for step, batch in monitor.track(_batches(windows, config, processes, first), first):
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


def _batches(
    windows: Windows, config: TrainConfig, processes: Processes, first: int
) -> Iterator[tuple[int, Batch]]:
    """The batches of the steps still to do, this process's part of each, read ahead by threads."""
    n = config.batch_size // processes.world

    def read(step: int) -> Batch:
        return windows.batch(n, np.random.default_rng([config.seed, step, processes.rank]))

    ahead: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(config.workers) as pool:
        for step in range(first, config.steps):
            for later in range(step + len(ahead), min(step + 2 * config.workers, config.steps)):
                ahead.append(pool.submit(read, later))
            yield step, ahead.popleft().result()


class _Trainer:
    """A tokenizer or a model under training: its steps, and the files that hold it between them."""

    def __init__(self, config: TrainConfig, processes: Processes, device: torch.device) -> None:
        self.config, self.processes, self.device = config, processes, device
        torch.manual_seed(config.seed)
        self.made, self.describes = _make(config)
        self.made.to(device)
        tokenizer = self.describes.tokenizer
        self.px = tokenizer.px if tokenizer else TokenizerConfig().px
        self.average = AveragedModel(self.made, multi_avg_fn=_averaging(config.ema))
        self.optimizer = _optimizer(self.made, config)
        self.checkpoint, self._state = config.out / "checkpoint", config.out / "state.pt"
        self._runner = self.made
        if processes.world > 1:  # a step may leave maps out, and train codes or the decoder alone
            self._runner = DistributedDataParallel(self.made, find_unused_parameters=True)

    def step(self, batch: Batch, step: int) -> float:
        """One optimizer step; returns this process's loss."""
        self.made.train()
        generator = torch.Generator().manual_seed(
            (self.config.seed * 1_000_003 + step) * 64 + self.processes.rank
        )
        images, zoom = as_images(batch[0].to(self.device)), batch[1].to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            loss, quantized = self._loss(self._runner, images, zoom, generator, step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.made.parameters(), self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * warmed(step, self.config)
        self.optimizer.step()
        if isinstance(self.made, TileTokenizer) and step < self.config.settle:
            self.made.revive(quantized, generator)
            self._agree(self.made.codes.embedding.weight, self.made.idle)
        self.average.update_parameters(self.made)
        return float(loss.detach())

    def _loss(
        self, runner: nn.Module, images: Tensor, zoom: Tensor, generator: torch.Generator, step: int
    ) -> tuple[Tensor, Any]:
        config = self.config
        known = draw_known(len(images), self.px, generator, partly=config.partly, blind=config.blind)
        known = known.to(self.device)
        if isinstance(self.made, TileTokenizer):
            if step < config.settle:
                quantized = runner(images).quantized
                return quantized.loss, quantized
            image, quantized = runner(images, enlarged(halved(images)), known)
            loss = reconstruction_loss(image.float(), images, edges=config.edges, texture=config.texture)
            return loss, quantized
        if isinstance(self.made, Regression):
            return F.l1_loss(runner(halved(images)).float(), images), None
        schedule = self._schedule(step) if runner is self._runner else None
        return runner(images, zoom, known, own_context=config.own_context, schedule=schedule), None

    def _schedule(self, step: int) -> Schedule | None:
        """The maps of a step, the same in all processes: a FlexVAR trains on some of them."""
        assert self.describes.model and self.describes.tokenizer
        if self.describes.model.kind != "flexvar":
            return None
        sides = self.describes.tokenizer.sides
        stays = (
            np.random.default_rng([self.config.seed, 7, step]).random(len(sides)) >= self.config.drop_sides
        )
        return scales([s for s, stay in zip(sides, stays, strict=True) if stay or s in (sides[0], sides[-1])])

    def _agree(self, *tensors: Tensor) -> None:
        """What was drawn apart becomes the same in all processes."""
        if self.processes.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def begin(self, images: Tensor) -> None:
        """A tokenizer finds its components."""
        for made in (self.made, self.average.module):
            cast(TileTokenizer, made).begin(images, torch.Generator().manual_seed(self.config.seed))

    @torch.no_grad()
    def held_out_loss(self, held_out: Batch) -> float:
        """Of the averaged weights."""
        averaged = self.average.module.eval()
        images, zoom = as_images(held_out[0].to(self.device)), held_out[1].to(self.device)
        generator = torch.Generator().manual_seed(self.config.seed)
        return float(self._loss(averaged, images, zoom, generator, self.config.steps)[0])

    @torch.no_grad()
    def show(self, held_out: Batch) -> Tensor:
        """(3, height, width) uint8: held-out tiles, one a column; what was given, what is made of it, the truth."""
        averaged = self.average.module.eval()
        images, zoom = as_images(held_out[0][:SHOWN].to(self.device)), held_out[1][:SHOWN].to(self.device)
        parents = halved(images)
        if isinstance(averaged, TileTokenizer):
            codes, big = averaged.encode(images), enlarged(parents)
            rows = [big, averaged.decode(codes), averaged.decode(codes, big), images]
        elif isinstance(averaged, Regression):
            rows = [enlarged(parents), averaged(parents).clamp(-1, 1), images]
        else:
            made = cast(TileModel, averaged).enlarge(parents, zoom, seeds=range(len(images)))
            rows = [enlarged(parents), made.images, images]
        grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
        return ((grid + 1) * 127.5).round().to(torch.uint8).cpu()

    def resume(self) -> int:
        """Load the run's state if there is one; returns the step to begin with."""
        if not self._state.exists():
            return 0
        try:
            state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
            raise ValueError(f"{self._state} is damaged; delete it to begin the run anew") from None
        if json.loads(state["config"]) != self._settings():
            raise ValueError(
                f"{self.config.out} holds a run of another configuration; choose another `out`, or delete it"
            )
        self.made.load_state_dict(state["made"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])

    def save(self, step: int) -> None:
        """Write the checkpoint people use and the state that resuming at `step` needs."""
        tile_checkpoint.save(
            self.average.module,
            self.describes,
            self.checkpoint,
            card=card(self.config, self.describes, step),
            dtype=torch.float16,
        )
        state = {
            "config": json.dumps(self._settings()),
            "step": step,
            "made": self.made.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        temporary = self._state.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self._state)

    def _settings(self) -> dict[str, Any]:
        """What must not change between the parts of a run."""
        free = {"out", "workers", "checkpoint_minutes", "show_every", "tokenizer"}
        return self.config.model_dump(mode="json", exclude=free) | {
            "describes": self.describes.model_dump(mode="json")
        }


def _make(config: TrainConfig) -> tuple[nn.Module, CheckpointConfig]:
    """What is to be trained, as it begins."""
    if config.model is not None and config.model.kind == "regression":
        describes = CheckpointConfig(model=config.model)
        return tile_checkpoint.make(describes), describes
    if isinstance(config.tokenizer, TokenizerConfig):
        tokenizer = TileTokenizer(config.tokenizer)
        return tokenizer, CheckpointConfig(tokenizer=config.tokenizer)
    trained = tile_checkpoint.load_tokenizer(config.tokenizer)
    describes = CheckpointConfig(tokenizer=trained.config, model=config.model)
    made = tile_checkpoint.make(describes)
    cast(TileModel, made).tokenizer.load_state_dict(trained.state_dict())
    return made, describes


def _optimizer(made: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW, which decays matrices, but neither norms, biases nor the tables of codes."""
    trained = {name: p for name, p in made.named_parameters() if p.requires_grad}
    decayed = [p for name, p in trained.items() if p.ndim in (2, 4) and "embedding" not in name]
    rest = {id(p) for p in decayed}
    others = [p for p in trained.values() if id(p) not in rest]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def _averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """How averaged weights follow: fast in the beginning, when there is nothing yet worth keeping."""

    def follow(averaged: list[Tensor], now: list[Tensor], n_averaged: Tensor) -> None:
        stays = min(decay, (1 + int(n_averaged)) / (10 + int(n_averaged)))
        torch._foreach_lerp_(averaged, now, 1 - stays)

    return follow


def warmed(step: int, config: TrainConfig) -> float:
    """The share of the learning rate: a linear warm-up, then a cosine down to a twentieth at the last step."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.05 + 0.475 * (1 + math.cos(math.pi * done))


def draw_known(n: int, px: int, generator: torch.Generator, *, partly: float, blind: float) -> Tensor:
    """(n, px, px) bool: what is shown of parents. A share lacks a rectangle, and a share is not shown at all."""
    known = torch.ones(n, px, px, dtype=torch.bool)
    for one, kind in zip(known, torch.rand(n, generator=generator).tolist(), strict=True):
        if kind < partly:
            low, high = torch.randint(px + 1, (2, 2), generator=generator).sort(0).values.tolist()
            one[low[0] : high[0], low[1] : high[1]] = False
        elif kind < partly + blind:
            one[:] = False
    return known


def card(config: TrainConfig, describes: CheckpointConfig, step: int) -> str:
    """The README.md of a checkpoint: what it is and what it saw."""
    kind = describes.model.kind if describes.model else "tokenizer"
    seen = "\n".join(
        f"- `{Path(s.uri).name}` at zoom {', '.join(map(str, s.zooms))}, share {s.share:g}: {s.attribution or '?'}"
        for s in config.sources
    )
    return (
        f"# A {kind} of map tiles\n\n"
        f"Trained for {step:,} of {config.steps:,} steps of {config.batch_size} tiles by `python -m generation.train`, "
        f"weights averaged.\nBlocks of {config.block_m:g} m, {config.held_out:.0%} of them, were held out.\n\n"
        f"Imagery:\n\n{seen}\n\n"
        "What it makes is made up: it is no evidence of what is there, and must never be matched against a photo.\n"
    )


class _Monitor:
    """What a person sees of a run: a progress bar, TensorBoard scalars, grids of held-out tiles."""

    def __init__(self, trainer: _Trainer, held_out: Batch, *, enabled: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here: slow to import

        self._trainer, self._held_out, self._losses = trainer, held_out, deque[float](maxlen=50)
        self._writer = SummaryWriter(str(trainer.config.out / "log")) if enabled else None

    def track(self, batches: Iterator[tuple[int, Batch]], first: int) -> Iterator[tuple[int, Batch]]:
        """Pass the batches through, drawing a progress bar."""
        if self._writer is None:
            yield from batches
            return
        millions = sum(p.numel() for p in self._trainer.made.parameters()) / 1e6
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}  ETA")
        with Progress(
            TextColumn("{task.description}"), *columns, TimeRemainingColumn(), console=Console(stderr=True)
        ) as display:
            steps = self._trainer.config.steps
            what = f"training {millions:.1f} M parameters"
            task = display.add_task(what, total=steps, completed=first, loss=math.nan)
            for step, batch in batches:
                yield step, batch
                display.update(task, advance=1, loss=sum(self._losses) / len(self._losses))

    def log(self, step: int, loss: float) -> None:
        self._losses.append(loss)
        if self._writer is None:
            return
        if (step + 1) % 20 == 0:
            self._writer.add_scalar("loss/train", sum(self._losses) / len(self._losses), step)
            self._writer.add_scalar("learning_rate", self._trainer.optimizer.param_groups[0]["lr"], step)
        config = self._trainer.config
        if (step + 1) % config.show_every == 0 or step + 1 == config.steps:
            self._writer.add_scalar("loss/held_out", self._trainer.held_out_loss(self._held_out), step)
            self._show(step + 1)

    def _show(self, step: int) -> None:
        from PIL import Image

        assert self._writer is not None
        grid = self._trainer.show(self._held_out)
        self._writer.add_image("held_out", grid, step)
        folder = self._trainer.config.out / "samples"
        folder.mkdir(exist_ok=True)
        Image.fromarray(grid.permute(1, 2, 0).numpy()).save(folder / f"{step:07d}.png")

    def close(self) -> None:
        if self._writer:
            self._writer.close()


def main(
    configs: Annotated[list[Path], typer.Argument(help="Training configurations (TOML), run in turn.")],
) -> None:
    """Train tokenizers and models of tiles on a tile pyramid; a run that was stopped goes on where it was."""
    try:
        for config in [load(path) for path in configs]:
            print(train(config))
    except (ValueError, TilesError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on", err=True)
        raise typer.Exit(130) from None


if __name__ == "__main__":
    typer.run(main)
