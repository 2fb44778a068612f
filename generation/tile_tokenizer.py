"""Tokenizers of tiles: principal components of patches, the maps of VAR or of FlexVAR of them, and a decoder.

Half an hour on one CPU core teaches no encoder to find its own latents; those here are linear, computed once, most of
them of what a parent tile does not show. The decoder may see the parent, so that codes need not say again what
is known.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.quantize import MultiScaleDirect, MultiScaleQuantized, MultiScaleResidual, VectorQuantizer
from generation.sample import Codes
from generation.schedule import scales
from generation.tile_config import TokenizerConfig
from generation.tokenizer import CNNConfig, Decoder, ResBlock

PATIENCE = 25  # steps of training after which a code that nobody used is made anew
CONTRAST_PX = 5  # width of what is local to a pixel
EVENNESS = 0.75  # how far components are brought to one variance, from 0 to 1


class Attempt(NamedTuple):
    """What training sees of a tokenizer. image: as it came out, not clamped."""

    image: Tensor
    quantized: MultiScaleQuantized


class TileTokenizer(nn.Module):
    """Tiles (B, 3, px, px), -1 to 1, into the codes of every map, (B, side²) each, and back."""

    idle: Tensor
    analysis: Tensor
    synthesis: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config, self.px, self.schedule = config, config.px, scales(config.sides)
        n_codes, width, of_token = config.n_codes, config.code_width, config.token_px
        filters = torch.randn(width, 3, of_token, of_token) / (3 * of_token**2) ** 0.5
        self.register_buffer("analysis", filters)
        self.register_buffer("synthesis", filters.clone())
        self.register_buffer("idle", torch.zeros(n_codes))  # steps since each code was used
        self.codes: MultiScaleResidual | VectorQuantizer
        if config.kind == "residual":
            self.codes = MultiScaleResidual(n_codes, width, n_scales=len(self.schedule))
        else:
            self.codes = VectorQuantizer(n_codes, width, cosine=False)
        cnn = CNNConfig(config.channels, config.multipliers, config.blocks, latent=width)
        self.decoder = Decoder(replace(cnn, image=config.channels))  # features of patches
        self.see = nn.Conv2d(7 * config.patch**2, config.channels, 3, padding=1)
        self.join = nn.Sequential(*(ResBlock(config.channels, config.channels) for _ in range(2)))
        self.paint = nn.Conv2d(config.channels, 3 * config.patch**2, 3, padding=1)
        nn.init.zeros_(self.paint.weight)

    @property
    def quantizer(self) -> MultiScaleResidual | MultiScaleDirect:
        """What makes maps of codes of a latent, and says what the next map starts from."""
        return self.codes if isinstance(self.codes, MultiScaleResidual) else MultiScaleDirect(self.codes)

    @torch.no_grad()
    def begin(self, images: Tensor, generator: torch.Generator) -> None:
        """Finds the components in tiles (n, 3, px, px), and first codes among their latents, drawn on the CPU."""
        analysis, synthesis = components(images, self.config.code_width, self.config.token_px)
        self.analysis.copy_(analysis)
        self.synthesis.copy_(synthesis)
        latent = self.latent(images).movedim(1, 3).flatten(0, 2)
        chosen = torch.randint(len(latent), (self.config.n_codes,), generator=generator)
        self.codes.embedding.weight.copy_(latent[chosen.to(latent.device)])

    def latent(self, images: Tensor) -> Tensor:
        """(B, code_width, side, side), not quantised."""
        return F.conv2d(images, self.analysis, stride=self.config.token_px)

    def encode(self, images: Tensor, given: Codes | None = None) -> Codes:
        """given: codes of the first maps, if they are known."""
        return self.quantizer.encode(self.latent(images), self.schedule, given or ())

    def decode(self, codes: Codes, parents: Tensor | None = None) -> Tensor:
        """The codes of all maps -> tiles. parents: as large as tiles, where there are any."""
        latent = self.quantizer.canvas(codes, self.schedule)
        is_seen = parents is not None
        if parents is None:
            parents = latent.new_zeros(len(latent), 3, self.px, self.px)
        return self._painted(latent, parents, torch.full_like(parents[:, 0], is_seen)).clamp(-1, 1)

    def forward(self, images: Tensor, parents: Tensor | None = None, known: Tensor | None = None) -> Attempt:
        """For training: of the codes, or, where there are parents (as for `decode`; known (B, px, px): what of them is
        seen), of the decoder alone."""
        if parents is None or known is None:
            return Attempt(images, self.quantizer.train_on(self.latent(images), self.schedule))
        with torch.no_grad():
            quantized = self.quantizer.train_on(self.latent(images), self.schedule)
        return Attempt(self._painted(quantized.latent, parents, known), quantized)

    def _painted(self, latent: Tensor, parents: Tensor, known: Tensor) -> Tensor:
        """What a latent adds to the parents (B, 3, px, px) where they are known."""
        seen = known[:, None].to(parents)
        begun = parents * seen
        added = latent - self.latent(begun)
        drawn = F.conv_transpose2d(added, self.synthesis, stride=self.config.token_px)
        shown = F.pixel_unshuffle(torch.cat([begun, seen, drawn], dim=1), self.config.patch)
        features = self.join(self.decoder(latent) + self.see(shown))
        return begun + drawn + F.pixel_shuffle(self.paint(F.silu(features)), self.config.patch)

    @torch.no_grad()
    def revive(self, quantized: MultiScaleQuantized, generator: torch.Generator) -> None:
        """Codes that were not used for long become vectors of this batch, drawn on the CPU."""
        self.idle += 1
        self.idle[torch.cat([codes.flatten() for codes in quantized.codes])] = 0
        dead = (self.idle > PATIENCE).nonzero()[:, 0]
        chosen = torch.randint(len(quantized.vectors), (len(dead),), generator=generator)
        self.codes.embedding.weight[dead] = quantized.vectors[chosen.to(dead.device)].float()
        self.idle[dead] = 0


def components(images: Tensor, n: int, px: int) -> tuple[Tensor, Tensor]:
    """Linear latents of patches of px x px in images (B, 3, H, W): what makes n numbers of a patch, and what makes a
    patch of them, (n, 3, px, px) each.

    A quarter are the principal components of patches, the others those of what bicubic interpolation from half the
    side does not show; their variances are brought nearer to each other.
    """
    parents = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="bicubic")
    patches, detail = (
        F.unfold(x, px, stride=px).transpose(1, 2).flatten(0, 1) for x in (images, images - parents)
    )
    n_plain = max(1, n // 4)
    plain = torch.linalg.eigh(patches.T @ patches).eigenvectors[:, -n_plain:]
    detail = detail - detail @ plain @ plain.T
    fine = torch.linalg.eigh(detail.T @ detail).eigenvectors[:, -(n - n_plain) :]
    basis = torch.cat([plain, fine], dim=1)  # (3 px², n), orthonormal
    size = (patches @ basis).square().mean(0).sqrt().clamp(min=1e-3) ** EVENNESS
    return (basis / size).T.reshape(n, 3, px, px), (basis * size).T.reshape(n, 3, px, px)


def reconstruction_loss(made: Tensor, images: Tensor, *, edges: float, texture: float) -> Tensor:
    """Mean absolute differences: of pixels, of the steps between neighbouring ones, and of how much pixels vary around
    a place, wherever exactly they do."""
    loss = F.l1_loss(made, images)
    loss = loss + edges * sum(F.l1_loss(made.diff(dim=d), images.diff(dim=d)) for d in (2, 3))
    return loss + texture * F.l1_loss(_contrast(made), _contrast(images))


def _contrast(images: Tensor) -> Tensor:
    """The standard deviation around every place, of the mean of the channels."""
    grey = images.mean(1, keepdim=True)
    mean, square = (F.avg_pool2d(x, CONTRAST_PX, 1) for x in (grey, grey * grey))
    return ((square - mean * mean).clamp(min=0) + 1e-4).sqrt()
