"""What a generator is compared with: a convolutional net that says what a tile looks like in the mean."""

import torch.nn.functional as F
from torch import Tensor, nn

from generation.tokenizer import ResBlock

PATCH = 2  # pixels of a parent along a side that are one place


class Regression(nn.Module):
    """Residual blocks on the parent's patches, which add to the parent as enlarged by bicubic interpolation."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3 * PATCH**2, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResBlock(width, width) for _ in range(depth)))
        self.conv_out = nn.Conv2d(width, 3 * (2 * PATCH) ** 2, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)

    def forward(self, parents: Tensor) -> Tensor:
        """(B, 3, h, w), -1 to 1 -> (B, 3, 2 h, 2 w), not clamped."""
        x = self.blocks(self.conv_in(F.pixel_unshuffle(parents, PATCH)))
        detail = F.pixel_shuffle(self.conv_out(F.silu(x)), 2 * PATCH)
        return F.interpolate(parents, scale_factor=2.0, mode="bicubic") + detail
