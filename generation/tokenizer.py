"""Tokenizers: images into maps of codes, and back.

The convolutional encoder and decoder are those of the "taming" kind (VQGAN, arXiv 2012.09841), which VAR, LlamaGen and
latent diffusion share: residual blocks, a change of side by two from level to level, attention at the coarsest.
Images are (B, 3, H, W), -1 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.quantize import MultiScaleResidual, VectorQuantizer
from generation.sample import Codes
from generation.schedule import VAR_SIDES, Schedule, scales


@dataclass(frozen=True)
class CNNConfig:
    """channels: at full size; times multipliers[i] at the i-th level, each of half the side of the one before. blocks:
    residual ones a level. latent: channels between encoder and decoder. patch: pixels along a side that are one place
    at "full size". image: channels of images."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    latent: int = 256
    patch: int = 1
    image: int = 3


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = _norm(after), nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x), inplace=True))
        return self.conv2(F.silu(self.norm2(y), inplace=True)).add_(self.shortcut(x))


class SpatialAttention(nn.Module):
    """Attention of one head between all places of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv = _norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)  # (B, h w, C)
        y = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        return x + self.proj_out(y.transpose(1, 2).unflatten(2, x.shape[2:]))


class Halve(nn.Module):
    """Half the side; the odd pixel that the convolution needs is added at the right and below."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Double(nn.Module):
    """Twice the side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks, each followed by attention where asked for, then a change of side unless it is the last."""

    def __init__(
        self, before: int, after: int, blocks: int, *, attention: bool, resample: nn.Module | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(after if i else before, after) for i in range(blocks))
        self.attentions = nn.ModuleList(SpatialAttention(after) for _ in range(blocks if attention else 0))
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x)
            if self.attentions:
                x = self.attentions[i](x)
        return x if self.resample is None else self.resample(x)


def _middle(channels: int) -> nn.Sequential:
    return nn.Sequential(
        ResBlock(channels, channels), SpatialAttention(channels), ResBlock(channels, channels)
    )


class Encoder(nn.Module):
    """Images -> (B, latent, h, w)."""

    def __init__(self, config: CNNConfig) -> None:
        super().__init__()
        widths = [config.channels * m for m in config.multipliers]
        last = len(widths) - 1
        self.patch = config.patch
        self.conv_in = nn.Conv2d(config.image * config.patch**2, config.channels, 3, padding=1)
        self.levels = nn.Sequential(
            *(
                Level(
                    widths[max(i - 1, 0)] if i else config.channels, width, config.blocks,
                    attention=i == last, resample=Halve(width) if i < last else None,
                )
                for i, width in enumerate(widths)
            )
        )  # fmt: skip
        self.middle = _middle(widths[-1])
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.middle(self.levels(self.conv_in(F.pixel_unshuffle(images, self.patch))))
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """(B, latent, h, w) -> images, not clamped. Its levels go from the coarsest to full size."""

    def __init__(self, config: CNNConfig) -> None:
        super().__init__()
        widths = [config.channels * m for m in reversed(config.multipliers)]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config.latent, widths[0], 3, padding=1)
        self.middle = _middle(widths[0])
        self.levels = nn.Sequential(
            *(
                Level(
                    widths[max(i - 1, 0)], width, config.blocks + 1,
                    attention=i == 0, resample=Double(width) if i < last else None,
                )
                for i, width in enumerate(widths)
            )
        )  # fmt: skip
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.image * config.patch**2, 3, padding=1)
        self.patch = config.patch

    def forward(self, latent: Tensor) -> Tensor:
        latent = latent.contiguous(memory_format=torch.channels_last)  # convolutions are faster so
        x = self.levels(self.middle(self.conv_in(latent)))
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.patch)


class VARTokenizer(nn.Module):
    """The multi-scale residual VQVAE of VAR (arXiv 2404.02905), a code map in each scale; 16 pixels a token.

    108,948,355 parameters at the published size.
    """

    def __init__(
        self, channels: int = 160, n_codes: int = 4096, width: int = 32, sides: Sequence[int] = VAR_SIDES
    ) -> None:
        super().__init__()
        config = CNNConfig(channels=channels, latent=width)
        self.schedule: Schedule = scales(sides)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = nn.Conv2d(width, width, 3, padding=1)
        self.post_quant_conv = nn.Conv2d(width, width, 3, padding=1)
        self.quantizer = MultiScaleResidual(n_codes, width, n_scales=len(self.schedule))

    def encode(self, images: Tensor) -> Codes:
        """Images -> the codes of every scale, (B, side²) each."""
        return self.quantizer.encode(self.quant_conv(self.encoder(images)), self.schedule)

    def decode(self, codes: Codes) -> Tensor:
        """The codes of the first scales, or of all -> images."""
        canvas = self.quantizer.canvas(codes, self.schedule)
        return self.decoder(self.post_quant_conv(canvas)).clamp(-1, 1)


class VQTokenizer(nn.Module):
    """The VQ-16 tokenizer of LlamaGen (arXiv 2406.06525): one map of codes that are compared by angle.

    71,883,403 parameters at the published 16,384 codes of width 8; FlexVAR uses 8,912 of width 32, at any side.
    """

    def __init__(self, n_codes: int = 16_384, width: int = 8, config: CNNConfig | None = None) -> None:
        super().__init__()
        config = config or CNNConfig()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = nn.Conv2d(config.latent, width, 1)
        self.post_quant_conv = nn.Conv2d(width, config.latent, 1)
        self.quantizer = VectorQuantizer(n_codes, width, cosine=True)

    def encode(self, images: Tensor) -> Tensor:
        """Images -> codes (B, h, w)."""
        return self.quantizer.encode(self.quant_conv(self.encoder(images)))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w) -> images, not clamped."""
        return self.decoder(self.post_quant_conv(self.quantizer.decode(codes)))


@dataclass(frozen=True)
class Gaussian:
    """Independent normal distributions: mean and log_variance (B, C, h, w)."""

    mean: Tensor
    log_variance: Tensor

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """A latent (B, C, h, w), through which gradients pass."""
        noise = torch.randn(self.mean.shape, generator=generator).to(self.mean)
        return self.mean + (self.log_variance / 2).exp() * noise

    def kl(self) -> Tensor:
        """Divergence from standard normal distributions, (B,), which training adds to the loss of the images."""
        each = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return each.sum((1, 2, 3)) / 2


class KLTokenizer(nn.Module):
    """The KL autoencoder of latent diffusion (arXiv 2112.10752): latents are not codes but numbers, drawn from normal
    distributions. By default the KL-16 that MAR and FlowAR use: 16 pixels and 16 numbers a token."""

    def __init__(self, width: int = 16, config: CNNConfig | None = None) -> None:
        super().__init__()
        config = config or CNNConfig()
        self.encoder = Encoder(replace(config, latent=2 * width))
        self.decoder = Decoder(replace(config, latent=width))
        self.quant_conv = nn.Conv2d(2 * width, 2 * width, 1)
        self.post_quant_conv = nn.Conv2d(width, width, 1)

    def posterior(self, images: Tensor) -> Gaussian:
        """What latents of images (B, 3, H, W) may be."""
        mean, log_variance = self.quant_conv(self.encoder(images)).chunk(2, dim=1)
        return Gaussian(mean, log_variance.clamp(-30, 20))

    def encode(self, images: Tensor) -> Tensor:
        """Images -> their likeliest latents (B, width, h, w)."""
        return self.posterior(images).mean

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (B, width, h, w) -> images, not clamped."""
        return self.decoder(self.post_quant_conv(latent))
