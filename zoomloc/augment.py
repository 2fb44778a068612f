"""Photo augmentation for training: another camera, another light, on whole batches."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ZOOM, SHIFT, ROLL_RAD = 0.08, 0.04, 0.04
GAIN, CONTRAST, SATURATION, TINT = 0.25, 0.2, 0.25, 0.06
GREY = torch.tensor([0.299, 0.587, 0.114])


def augment(photos: Tensor, generator: torch.Generator) -> Tensor:
    """(B, h, w, 3) uint8 -> the same: slightly cropped, shifted, rolled; gain, contrast, saturation, tint changed.

    Never mirrored: a street seen in a mirror is another street. The generator alone decides what happens.
    """

    def spread(amount: float, *shape: int) -> Tensor:  # uniform in ± amount
        value = torch.rand(len(photos), *shape, generator=generator, device=generator.device)
        return ((value * 2 - 1) * amount).to(photos.device)

    images = photos.movedim(-1, 1).float() / 255  # (B, 3, h, w)
    images = F.grid_sample(images, _camera(spread, images), padding_mode="reflection", align_corners=False)
    images = images * (1 + spread(GAIN, 1, 1, 1)) * (1 + spread(TINT, 3, 1, 1))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + spread(CONTRAST, 1, 1, 1))
    grey = torch.einsum("bchw,c->bhw", images, GREY.to(images))[:, None]
    images = grey + (images - grey) * (1 + spread(SATURATION, 1, 1, 1))
    return (images.clamp(0, 1) * 255).round().byte().movedim(1, -1)


def _camera(spread: Callable[..., Tensor], images: Tensor) -> Tensor:
    """Sampling grids of a little zoom, shift and roll: (B, h, w, 2)."""
    height, width = images.shape[2:]
    zoom, roll, shift = 1 + spread(ZOOM), spread(ROLL_RAD), spread(SHIFT, 2)
    cos, sin = zoom * roll.cos(), zoom * roll.sin()
    across = torch.stack([cos, -sin * height / width, shift[:, 0]], dim=1)
    down = torch.stack([sin * width / height, cos, shift[:, 1]], dim=1)
    return F.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)
