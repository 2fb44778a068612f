"""Tiles made at the next zoom level, and gaps in them filled, by a small VAR or FlexVAR.

    model = TileModel.load("runs/tiles-var/checkpoint")
    made = model.enlarge(parents, zoom, seeds=[1, 2, 3])  # of (3, 3, 32, 32), -1 to 1, makes (3, 3, 64, 64)

The coarse maps of a tile are those of its parent, enlarged; the rest are generated, under control of the parent and of
the zoom level. What is made is no evidence of what is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.cache import Cache
from generation.control import Control
from generation.losses import cross_entropy, self_rollout
from generation.models.flexvar import FlexVAR
from generation.models.var import VAR, VARConfig
from generation.sample import Codes, Hook, Processor, drawn_apart, nucleus, run
from generation.schedule import Schedule, Step
from generation.tile_config import ModelConfig
from generation.tile_tokenizer import TileTokenizer
from generation.tokenizer import CNNConfig

BACK_PROJECTIONS = 4
BORDER_PX = 2  # of what is known around a gap, which what fills it must meet
SHIPPED = Path(__file__).parent / "assets" / "tiles"  # a small VAR, as configs/tiles_var.toml trains it


@dataclass(frozen=True)
class TileVARConfig(VARConfig):
    """Of any width; one head for each block, as ever."""

    channels: int = 192

    @property
    def width(self) -> int:
        return self.channels


class Made(NamedTuple):
    """codes: of every map, (B, t) each. images: (B, 3, px, px), -1 to 1, brought into line with what was given."""

    codes: Codes
    images: Tensor


class TileModel(nn.Module):
    """A tokenizer, a scale-wise model, and the control that ties it to the parent tile.

    px: side of a tile. schedule: its maps, the first n_given of which a parent gives. For training, call it.
    """

    def __init__(self, config: ModelConfig, tokenizer: TileTokenizer) -> None:
        super().__init__()
        of = tokenizer.config
        self.config, self.px, self.schedule = config, of.px, tokenizer.schedule
        self.n_given = of.n_given
        self.tokenizer = tokenizer.requires_grad_(False)
        sizes = TileVARConfig(
            config.depth, of.sides, of.n_codes, of.code_width, config.zooms[1] - config.zooms[0] + 1,
            shared=True, channels=config.width,
        )  # fmt: skip
        self.model: VAR = (FlexVAR if config.kind == "flexvar" else VAR)(sizes)
        cnn = CNNConfig(of.channels, of.multipliers, of.blocks, latent=config.width, patch=of.patch, image=4)
        self.control = Control(config.width, cnn)

    @staticmethod
    def load(folder: Path | str) -> "TileModel":
        """Of a checkpoint's folder, in evaluation mode. Raises ValueError, one line, for what is none."""
        from generation.tile_checkpoint import load_model  # here: it makes models

        return load_model(Path(folder))

    def encode(self, images: Tensor) -> Codes:
        """Tiles (B, 3, px, px), -1 to 1 -> the codes of every map, (B, t) each."""
        return self.tokenizer.encode(images)

    def decode(self, codes: Codes, parents: Tensor | None = None) -> Tensor:
        """The codes of all maps -> tiles. parents: (B, 3, px / 2, px / 2), where they are known: detail is added."""
        if parents is None:
            return self.tokenizer.decode(codes)
        return consistent(self.tokenizer.decode(codes, enlarged(parents)), parents)

    def labels(self, zoom: Tensor) -> Tensor:
        """Zoom levels (B,) as the model's classes; those beyond what it knows are the nearest it does."""
        first, last = self.config.zooms
        return zoom.clamp(first, last) - first

    @torch.no_grad()
    def enlarge(
        self,
        parents: Tensor,
        zoom: Tensor,
        *,
        seeds: Sequence[int],
        processors: Sequence[Processor] = (),
        k: int = 100,
        p: float = 0.9,
    ) -> Made:
        """Tiles of the next zoom level.

        parents: (B, 3, px / 2, px / 2), -1 to 1. zoom: (B,) integers, of the tiles made. seeds: one for each tile: the
        same seed makes the same tile, whatever it is made beside. processors: of the logits of each step, before all
        but the k most probable codes, and of these all but those that hold p, are dropped.
        """
        big = enlarged(parents)
        given = self.tokenizer.encode(big)[: self.n_given]
        control = self.control(big, torch.ones_like(big[:, 0], dtype=torch.bool))
        codes = self._run(control, zoom, seeds, [*processors, nucleus(k, p)], given=given)
        return Made(codes, self.decode(codes, parents))

    @torch.no_grad()
    def fill(
        self,
        tiles: Tensor,
        known: Tensor,
        zoom: Tensor,
        *,
        seeds: Sequence[int],
        parents: Tensor | None = None,
        processors: Sequence[Processor] = (),
        k: int = 100,
        p: float = 0.9,
    ) -> Made:
        """Tiles (B, 3, px, px) whose pixels are `known` (B, px, px) in part, with the rest made up (FlexVAR's
        in-painting): at every step, codes whose whole place is known are those of the tile.

        parents: likewise of half the side, where they are known; they give the coarse maps then. Known pixels come back
        as they were. Otherwise as `enlarge`.
        """
        whole = spread(tiles, known)
        latent = self.tokenizer.latent(whole)
        seen = known if parents is None else torch.ones_like(known)
        big = enlarged(halved(whole) if parents is None else parents)
        given = self.tokenizer.encode(big)[: self.n_given] if parents is not None else []
        control = self.control(big, seen)
        hook = self._keeping(latent, known)
        codes = self._run(control, zoom, seeds, [*processors, nucleus(k, p)], given=given, hook=hook)
        made = self.tokenizer.decode(
            codes, big
        )  # what is smooth for want of better: unseen, it would leave a frame
        made = _met(made, tiles, known) if parents is None else consistent(made, parents)
        return Made(codes, torch.where(known[:, None], tiles, made))

    def _keeping(self, latent: Tensor, known: Tensor) -> Hook:
        """Puts the codes of what is known in the place of those made."""

        def keep(step: Step, codes: Codes, cache: Cache) -> Codes:
            unknown = F.adaptive_max_pool2d((~known)[:, None].float(), step.shape).flatten(1) > 0
            true = self.tokenizer.quantizer.encode(latent, self.schedule, codes[:-1])[step.index]
            return [*codes[:-1], torch.where(unknown, codes[-1], true)]

        return keep

    def _run(
        self,
        control: Tensor,
        zoom: Tensor,
        seeds: Sequence[int],
        processors: Sequence[Processor],
        *,
        given: Codes | None = None,
        hook: Hook | None = None,
    ) -> Codes:
        given = given or []
        under_way = self.model.begin(
            self.labels(zoom), self.tokenizer.quantizer, self.schedule, control=control, is_guided=False
        )
        for step in self.schedule[: len(given)]:  # they are remembered, and nothing is asked
            under_way.core(under_way.feed(step, given[: step.index]), step)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        rest = self.schedule[len(given) :]
        pick = drawn_apart(generators)
        return run(rest, under_way, processors=processors, pick=pick, hook=hook, codes=given)

    def forward(
        self,
        images: Tensor,
        zoom: Tensor,
        known: Tensor,
        *,
        own_context: float = 0.0,
        schedule: Schedule | None = None,
    ) -> Tensor:
        """The loss of tiles (B, 3, px, px) of these zoom levels (B,), of whose parents those pixels are shown that are
        `known` (B, px, px).

        Where all of a parent is, the coarse maps are the parent's, as when a tile is enlarged. own_context: weight of
        the loss after the model's own choices (`losses.self_rollout`). schedule: of a FlexVAR, of fewer maps.
        """
        schedule, quantizer, labels = schedule or self.schedule, self.tokenizer.quantizer, self.labels(zoom)
        parents = enlarged(halved(images))
        codes = self._wanted(images, parents, known, schedule)
        control = self.control(parents, known)

        def predict(tokens: Tensor) -> Tensor:
            inputs = quantizer.inputs(list(tokens.split([len(step) for step in schedule], dim=1)), schedule)
            return self.model(labels, inputs, schedule, control)

        targets = torch.cat(codes, dim=1)
        logits = predict(targets)
        loss = cross_entropy(logits, targets, schedule)
        return loss + own_context * self_rollout(predict, logits, schedule) if own_context else loss

    @torch.no_grad()
    def _wanted(self, images: Tensor, parents: Tensor, known: Tensor, schedule: Schedule) -> Codes:
        """The codes of tiles, the first of which are their parents' where these are wholly known."""
        tokenizer = self.tokenizer
        latent, of_parent = tokenizer.latent(images), tokenizer.latent(parents)
        is_given = known.flatten(1).all(1)[:, None]
        n_given = sum(2 * step.shape[0] <= schedule[-1].shape[0] for step in schedule)
        own, parental = (tokenizer.quantizer.encode(x, schedule)[:n_given] for x in (latent, of_parent))
        given = [torch.where(is_given, theirs, ours) for ours, theirs in zip(own, parental, strict=True)]
        return tokenizer.quantizer.encode(latent, schedule, given)


def halved(images: Tensor) -> Tensor:
    """Of half the side: the parent of a tile."""
    return F.avg_pool2d(images, 2)


def enlarged(images: Tensor) -> Tensor:
    """Of twice the side, by bicubic interpolation."""
    return F.interpolate(images, scale_factor=2.0, mode="bicubic").clamp(-1, 1)


def consistent(images: Tensor, parents: Tensor) -> Tensor:
    """Tiles that look like their parents when halved, but for what clamping takes; finer detail stays (iterative
    back-projection, Irani and Peleg 1991)."""
    for _ in range(BACK_PROJECTIONS):
        missing = parents - halved(images)
        images = images + F.interpolate(missing, scale_factor=2.0, mode="bicubic")
    return images.clamp(-1, 1)


def spread(values: Tensor, known: Tensor) -> Tensor:
    """Values (B, C, h, w) where they are known (B, h, w), and elsewhere a smooth mean of what is known nearby: means
    of ever larger squares, of which the smallest that know anything count (push and pull)."""
    weight = known[:, None].to(values)
    return _pulled(values * weight, weight)


def _pulled(weighed: Tensor, weight: Tensor) -> Tensor:
    mean = weighed / weight.clamp(min=1e-6)
    if min(weight.shape[2:]) < 2 or bool((weight > 0).all()):
        return mean
    coarse = _pulled(F.avg_pool2d(weighed, 2), F.avg_pool2d(weight, 2))
    fine = F.interpolate(coarse, size=weight.shape[2:], mode="bilinear")
    return torch.where(weight > 0, mean, fine)


def _met(made: Tensor, tiles: Tensor, known: Tensor) -> Tensor:
    """What was made for gaps, shifted smoothly so that it meets what is known at their borders."""
    border = known & (F.max_pool2d((~known)[:, None].float(), 2 * BORDER_PX + 1, 1, BORDER_PX)[:, 0] > 0)
    return (made + spread(tiles - spread(made, ~known), border)).clamp(-1, 1)
