"""Convolutions made ready for a CPU: fewer multiplications for the same sums.

Where a decoder draws an image, its 3 x 3 convolutions run at the speed of the processor's multipliers already; what can
still be saved is multiplications. Tiles of 4 x 4 outputs take 36 instead of 144 of them (Winograd's minimal filtering,
F(4 x 4, 3 x 3) of arXiv 1509.09308), and a convolution after doubling by repetition takes 16 instead of 36, since half
of what it reads is the same pixel twice. Sums are rounded otherwise: results differ by about 1e-4 of their size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.tokenizer import Double

SIDE, READS = 4, 6  # of a tile: outputs, and the inputs they depend on
STRIP = 1 << 20  # numbers of a strip of tiles, as transformed: what stays in a processor's cache
FEWEST = 128  # channels, below which moving tiles takes the time that multiplying them saves
MOST_WEIGHTS = 320 * 320 * 9  # beyond which four times as many cost more memory than they save time

# Values at 0, 1, -1, 2, -2 and infinity of the polynomials whose product a one-dimensional convolution is.
OF_INPUTS = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
).float()
OF_WEIGHTS = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
TO_OUTPUTS = torch.tensor(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ]
).float()
INWARD, OUTWARD = torch.kron(OF_INPUTS, OF_INPUTS), torch.kron(TO_OUTPUTS, TO_OUTPUTS)  # in both dimensions


def suits(conv: nn.Conv2d) -> bool:
    """Whether a convolution is one that `WinogradConv` does, and does faster."""
    plain = conv.stride == conv.dilation == conv.padding == (1, 1) and conv.kernel_size == (3, 3)
    wide = min(conv.in_channels, conv.out_channels) >= FEWEST and conv.weight.numel() <= MOST_WEIGHTS
    return plain and wide and conv.groups == 1 and conv.padding_mode == "zeros"


class WinogradConv(nn.Module):
    """What a 3 x 3 convolution was; for sampling only."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        transformed = torch.einsum("ai,ocij,bj->abco", OF_WEIGHTS, weight, OF_WEIGHTS)
        self.weight = transformed.flatten(0, 1).contiguous()  # (36, C, out)
        self.bias = conv.weight.new_zeros(()) if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, H, W), with channels last in memory."""
        B, C, height, width = x.shape
        rows, columns, width_out = -(-height // SIDE), -(-width // SIDE), self.weight.shape[2]
        out = x.new_empty(B, rows * SIDE, columns * SIDE, width_out)
        n = min(rows, max(1, STRIP // (READS**2 * columns * max(C, width_out))))
        strip = x.new_zeros(n * SIDE + 2, columns * SIDE + 2, C)
        for image, drawn in zip(x.movedim(1, 3), out.unflatten(1, (rows, SIDE)), strict=True):
            for first in range(0, rows, n):
                last = min(first + n, rows)
                self._read(image, first * SIDE, strip)
                self._draw(strip[: (last - first) * SIDE + 2], drawn[first:last])
        return out[:, :height, :width].movedim(3, 1)

    @staticmethod
    def _read(image: Tensor, first: int, strip: Tensor) -> None:
        """Puts the rows of an image from the one above `first` into a strip, whose columns at the edges stay zero."""
        height, width = image.shape[:2]
        start, end = max(first - 1, 0), min(first - 1 + len(strip), height)
        offset = start - (first - 1)
        strip[offset : offset + end - start, 1 : width + 1] = image[start:end]
        strip[:offset] = 0
        strip[offset + end - start :] = 0

    def _draw(self, strip: Tensor, out: Tensor) -> None:
        """strip: (4 rows + 2, W + 2, C). out: (rows, 4, W, out)."""
        rows, columns = len(out), out.shape[2] // SIDE
        tiles = strip.unfold(0, READS, SIDE).unfold(1, READS, SIDE)  # (rows, columns, C, 6, 6)
        values = INWARD @ tiles.permute(3, 4, 0, 1, 2).reshape(READS**2, -1)
        products = values.view(READS**2, rows * columns, -1) @ self.weight
        sums = (OUTWARD @ products.flatten(1)).view(SIDE, SIDE, rows, columns, -1).permute(2, 0, 3, 1, 4)
        torch.add(sums, self.bias, out=out.unflatten(2, (columns, SIDE)))


class PackedDouble(nn.Module):
    """What a `Double` was: each of the four pixels that one becomes has its own 2 x 2 convolution."""

    def __init__(self, double: Double) -> None:
        super().__init__()
        by_row = _merged(double.conv.weight.detach(), dim=2)  # of the upper pixel, of the lower
        both = _merged(by_row, dim=3)  # (out, C, 4, 4)
        apart = both.unflatten(2, (2, 2)).unflatten(4, (2, 2)).permute(2, 4, 0, 1, 3, 5)
        self.weight = apart.flatten(0, 2).contiguous(memory_format=torch.channels_last)  # (4 out, C, 2, 2)
        assert double.conv.bias is not None
        self.bias = double.conv.bias.detach().repeat(4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, 2 H, 2 W), with channels last in memory."""
        B, _, height, width = x.shape
        corners = F.conv2d(x, self.weight, self.bias, padding=1).unflatten(1, (2, 2, -1))
        out = x.new_empty(B, height, 2, width, 2, corners.shape[3])
        for down in range(2):
            for right in range(2):
                pixels = corners[:, down, right, :, down : down + height, right : right + width]
                out[:, :, down, :, right] = pixels.movedim(1, 3)
        return out.flatten(1, 2).flatten(2, 3).movedim(3, 1)


def _merged(weight: Tensor, *, dim: int) -> Tensor:
    """Three weights in a row that meet two pixels, one of them twice: two for the first of the pixels made, two for the
    second."""
    first, second, third = weight.unbind(dim)
    return torch.stack([first, second + third, first + second, third], dim=dim)
