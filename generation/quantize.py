"""Vectors into the numbers of their nearest codes, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.schedule import Schedule, Step

# Of the distribution over codes that the entropy loss looks at.
ENTROPY_TEMPERATURE = 0.01


def vector_quantize(x: Tensor, codebook: Tensor, *, cosine: bool = False) -> Tensor:
    """Vectors (…, C) -> (…) numbers of the nearest codes of a codebook (V, C), by Euclidean distance or by angle."""
    flat = x.reshape(-1, x.shape[-1])
    if cosine:
        return (F.normalize(flat, dim=-1) @ F.normalize(codebook, dim=-1).T).argmax(-1).view(x.shape[:-1])
    return _distances(flat, codebook).argmin(-1).view(x.shape[:-1])


def _distances(x: Tensor, codebook: Tensor) -> Tensor:
    """Squared Euclidean distances (N, V)."""
    lengths = x.square().sum(1, keepdim=True) + codebook.square().sum(1)
    return torch.addmm(lengths, x, codebook.T, alpha=-2)


@dataclass(frozen=True)
class Quantized:
    """codes: (B, h, w). latent: (B, C, h, w) the codes' vectors, whose gradients go to the latent they stand for.
    loss: what training adds to that of the images."""

    codes: Tensor
    latent: Tensor
    loss: Tensor


@dataclass(frozen=True)
class MultiScaleQuantized:
    """Likewise, of several maps. codes: of every step, (B, t). latent: what a decoder reads, (B, C, h, w). vectors:
    (N, C) all that codes were looked for, from which codes nobody uses may be made anew."""

    codes: list[Tensor]
    latent: Tensor
    loss: Tensor
    vectors: Tensor


class VectorQuantizer(nn.Module):
    """One code for each place of a latent, the nearest (VQ-VAE, arXiv 1711.00937).

    cosine: latents and codes are compared, and handed on, at length 1 (ViT-VQGAN, arXiv 2110.04627), as in LlamaGen.
    commitment: weight of the latent's own way to its code. entropy: weight of wanting single latents sure of their
    codes and all codes used alike (MAGVIT-v2, arXiv 2310.05737).
    """

    def __init__(
        self, n_codes: int, width: int, *, cosine: bool, commitment: float = 0.25, entropy: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_codes, width)
        self.cosine, self.commitment, self.entropy = cosine, commitment, entropy
        nn.init.uniform_(self.embedding.weight, -1 / n_codes, 1 / n_codes)

    @property
    def codebook(self) -> Tensor:
        """(V, C), at length 1 where codes are compared by angle."""
        return F.normalize(self.embedding.weight, dim=-1) if self.cosine else self.embedding.weight

    def encode(self, latent: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> codes (B, h, w)."""
        return vector_quantize(latent.movedim(1, -1), self.embedding.weight, cosine=self.cosine)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w) -> latents (B, C, h, w)."""
        return self.codebook[codes].movedim(-1, 1)

    def forward(self, latent: Tensor) -> Quantized:
        """Latents (B, C, h, w), quantised so that gradients pass."""
        codes = self.encode(latent)
        exact, found = F.normalize(latent, dim=1) if self.cosine else latent, self.decode(codes)
        loss = F.mse_loss(found, exact.detach()) + self.commitment * F.mse_loss(exact, found.detach())
        if self.entropy:
            distances = _distances(exact.movedim(1, -1).flatten(0, 2), self.codebook)
            loss = loss + self.entropy * _entropy_loss(distances)
        return Quantized(codes, exact + (found - exact).detach(), loss)


def _entropy_loss(distances: Tensor) -> Tensor:
    """The mean entropy of each latent's codes, less the entropy of the codes of all: (N, V) distances."""
    log_p = F.log_softmax(-distances / ENTROPY_TEMPERATURE, dim=-1)
    each = -(log_p.exp() * log_p).sum(-1).mean()
    mean = log_p.exp().mean(0)
    return each + (mean * mean.clamp(min=1e-8).log()).sum()


def _resized(latent: Tensor, side: int, mode: str) -> Tensor:
    """(B, C, h, w) -> (B, C, side, side)."""
    return latent if latent.shape[-1] == side else F.interpolate(latent, size=(side, side), mode=mode)


def _tokens(latent: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h w, C)."""
    return latent.flatten(2).transpose(1, 2)


class MultiScaleResidual(nn.Module):
    """Code maps from coarse to fine, each of what the coarser ones left over (VAR, arXiv 2404.02905).

    What a scale adds to the canvas, a latent of full size, is its codes, enlarged and smoothed by one of a few
    convolutions that neighbouring scales share.
    """

    SMOOTHERS, SHARE = 4, 0.5  # how many, and how much of the result is theirs
    used: Tensor

    def __init__(self, n_codes: int, width: int, *, n_scales: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_codes, width)
        self.smoothers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(self.SMOOTHERS))
        self.register_buffer("used", torch.zeros(n_scales, n_codes))  # how often each code was, in training

    def _smoother(self, index: int, n_scales: int) -> nn.Module:
        # In float64: two scales lie midway between smoothers, and the published choice hangs on the rounding.
        ticks = np.linspace(1 / 3 / self.SMOOTHERS, 1 - 1 / 3 / self.SMOOTHERS, self.SMOOTHERS)
        return self.smoothers[int(np.argmin(np.abs(ticks - index / (n_scales - 1))))]

    def _added(self, codes: Tensor, step: Step, schedule: Schedule) -> Tensor:
        """What the codes of a step (B, t) add to the canvas."""
        return self._painted(self.embedding(codes), step, schedule)

    def _painted(self, vectors: Tensor, step: Step, schedule: Schedule) -> Tensor:
        latent = vectors.transpose(1, 2).unflatten(2, step.shape)
        latent = _resized(latent, schedule[-1].shape[0], "bicubic")
        smooth = self._smoother(step.index, len(schedule))(latent)
        return latent * (1 - self.SHARE) + smooth * self.SHARE

    def encode(self, latent: Tensor, schedule: Schedule, given: Sequence[Tensor] = ()) -> list[Tensor]:
        """(B, C, side, side) of the last step -> codes of every step (B, t).

        given: codes of the first steps, which may be those of another latent; the others make up for what is missing.
        """
        all_codes = list(given)
        rest = latent - self.canvas(all_codes, schedule) if given else latent
        for step in schedule[len(given) :]:
            codes = vector_quantize(_tokens(_resized(rest, step.shape[0], "area")), self.embedding.weight)
            rest = rest - self._added(codes, step, schedule)
            all_codes.append(codes)
        return all_codes

    def canvas(self, codes: list[Tensor], schedule: Schedule) -> Tensor:
        """The codes of the first steps, or of all -> (B, C, side, side), what a decoder reads."""
        added = [self._added(c, step, schedule) for c, step in zip(codes, schedule, strict=False)]
        return sum(added[1:], start=added[0])

    def following(self, codes: list[Tensor], schedule: Schedule) -> Tensor:
        """What the step after these codes starts from: the canvas at its side, (B, t, C)."""
        return _tokens(_resized(self.canvas(codes, schedule), schedule[len(codes)].shape[0], "area"))

    def shown(self, codes: Tensor, stays: Tensor, step: Step, schedule: Schedule) -> Tensor:
        """What those codes of a step (B, t) that stay, (B, t) bool, add to the canvas at the step's side, (B, t, C).

        Nothing shines through of the others.
        """
        vectors = self.embedding(codes) * stays[..., None]
        return _tokens(_resized(self._painted(vectors, step, schedule), step.shape[0], "area"))

    def inputs(self, codes: list[Tensor], schedule: Schedule) -> list[Tensor]:
        """What every step but the first starts from, for teacher forcing."""
        canvas, starts = torch.zeros(()), []
        for step, following in pairwise(schedule):
            canvas = canvas + self._added(codes[step.index], step, schedule)
            starts.append(_tokens(_resized(canvas, following.shape[0], "area")))
        return starts

    def train_on(
        self, latent: Tensor, schedule: Schedule, *, commitment: float = 0.25
    ) -> MultiScaleQuantized:
        """A latent (B, C, side, side), quantised so that gradients pass; the loss is the mean of all steps'."""
        rest, canvas, loss = latent, torch.zeros_like(latent), latent.new_zeros(())
        all_codes, all_vectors = [], []
        for step in schedule:
            vectors = _tokens(_resized(rest.detach(), step.shape[0], "area"))
            codes = vector_quantize(vectors, self.embedding.weight)
            added = self._added(codes, step, schedule)
            canvas, rest = canvas + added, rest - added
            loss = loss + F.mse_loss(canvas, latent.detach())
            loss = loss + commitment * F.mse_loss(latent, canvas.detach())
            all_codes.append(codes)
            all_vectors.append(vectors.flatten(0, 1))
        passed = latent + (canvas - latent).detach()
        return MultiScaleQuantized(all_codes, passed, loss / len(schedule), torch.cat(all_vectors))


class MultiScaleDirect:
    """Code maps from coarse to fine, each of the latent itself at its side (FlexVAR, arXiv 2502.20313)."""

    def __init__(self, quantizer: VectorQuantizer) -> None:
        self.quantizer = quantizer

    def encode(self, latent: Tensor, schedule: Schedule, given: Sequence[Tensor] = ()) -> list[Tensor]:
        """(B, C, h, w) -> codes of every step (B, t); given: those of the first steps, if they are known."""
        return [*given, *(self._of_step(latent, step) for step in schedule[len(given) :])]

    def _of_step(self, latent: Tensor, step: Step) -> Tensor:
        return self.quantizer.encode(_resized(latent, step.shape[0], "area")).flatten(1)

    def canvas(self, codes: list[Tensor], schedule: Schedule) -> Tensor:
        """The codes of the first steps, or of all -> (B, C, h, w) of the last of them, what a decoder reads."""
        return self.quantizer.decode(codes[-1].unflatten(1, schedule[len(codes) - 1].shape))

    def following(self, codes: list[Tensor], schedule: Schedule) -> Tensor:
        """What the step after these codes starts from: the last map, enlarged to its side, (B, t, C)."""
        return self._enlarged(codes[-1], schedule[len(codes) - 1], schedule[len(codes)])

    def inputs(self, codes: list[Tensor], schedule: Schedule) -> list[Tensor]:
        """What every step but the first starts from, for teacher forcing."""
        return [
            self._enlarged(c, step, after)
            for c, (step, after) in zip(codes, pairwise(schedule), strict=False)
        ]

    def train_on(self, latent: Tensor, schedule: Schedule) -> MultiScaleQuantized:
        """A latent (B, C, h, w), quantised so that gradients pass: as it is, and, for the loss alone, at every side."""
        of_steps = [self.quantizer(_resized(latent, step.shape[0], "area")) for step in schedule]
        vectors = torch.cat(
            [_tokens(_resized(latent.detach(), s.shape[0], "area")).flatten(0, 1) for s in schedule]
        )
        loss = torch.stack([one.loss for one in of_steps]).mean()
        return MultiScaleQuantized(
            [one.codes.flatten(1) for one in of_steps], of_steps[-1].latent, loss, vectors
        )

    def _enlarged(self, codes: Tensor, step: Step, after: Step) -> Tensor:
        latent = self.quantizer.decode(codes.unflatten(1, step.shape))
        return _tokens(_resized(latent, after.shape[0], "bicubic"))
