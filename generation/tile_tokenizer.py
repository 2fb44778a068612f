"""Tokenizers of tiles: one small encoder and decoder, with the maps of VAR or of FlexVAR between them."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.quantize import MultiScaleDirect, MultiScaleQuantized, MultiScaleResidual, VectorQuantizer
from generation.sample import Codes
from generation.schedule import scales
from generation.tile_config import TokenizerConfig
from generation.tokenizer import CNNConfig, Decoder, Encoder

PATIENCE = 25  # steps of training after which a code that nobody used is made anew
CONTRAST_PX = 5  # width of what is local to a pixel


class Attempt(NamedTuple):
    """What training sees of a tokenizer. image: as it came out, not clamped."""

    image: Tensor
    quantized: MultiScaleQuantized


class TileTokenizer(nn.Module):
    """Tiles (B, 3, px, px), -1 to 1, into the codes of every map, (B, side²) each, and back."""

    idle: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config, self.px, self.schedule = config, config.px, scales(config.sides)
        cnn = CNNConfig(
            config.channels, config.multipliers, config.blocks, latent=config.code_width, patch=config.patch
        )
        self.encoder, self.decoder = Encoder(cnn), Decoder(cnn)
        n_codes, width = config.n_codes, config.code_width
        self.codes: MultiScaleResidual | VectorQuantizer
        if config.kind == "residual":
            self.codes = MultiScaleResidual(n_codes, width, n_scales=len(self.schedule))
        else:
            self.codes = VectorQuantizer(n_codes, width, cosine=True)
        self.register_buffer("idle", torch.zeros(config.n_codes))  # steps since each code was used

    @property
    def quantizer(self) -> MultiScaleResidual | MultiScaleDirect:
        """What makes maps of codes of a latent, and says what the next map starts from."""
        return self.codes if isinstance(self.codes, MultiScaleResidual) else MultiScaleDirect(self.codes)

    def latent(self, images: Tensor) -> Tensor:
        """(B, code_width, side, side), not quantised."""
        return self.encoder(images)

    def encode(self, images: Tensor, given: Codes | None = None) -> Codes:
        """given: codes of the first maps, if they are known."""
        return self.quantizer.encode(self.latent(images), self.schedule, given or ())

    def decode(self, codes: Codes) -> Tensor:
        """The codes of all maps, or of the first ones (of which a "direct" tokenizer makes smaller tiles)."""
        return self.decoder(self.quantizer.canvas(codes, self.schedule)).clamp(-1, 1)

    def forward(self, images: Tensor) -> Attempt:
        quantized = self.quantizer.train_on(self.latent(images), self.schedule)
        return Attempt(self.decoder(quantized.latent), quantized)

    @torch.no_grad()
    def revive(self, quantized: MultiScaleQuantized, generator: torch.Generator) -> None:
        """Codes that were not used for long become vectors of this batch, drawn on the CPU."""
        self.idle += 1
        self.idle[torch.cat([codes.flatten() for codes in quantized.codes])] = 0
        dead = (self.idle > PATIENCE).nonzero()[:, 0]
        chosen = torch.randint(len(quantized.vectors), (len(dead),), generator=generator)
        self.codes.embedding.weight[dead] = quantized.vectors[chosen.to(dead.device)].float()
        self.idle[dead] = 0


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
