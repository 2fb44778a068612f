"""Control: an image says what is to be made where, by one vector for every token (ControlAR, arXiv 2410.02705).

The vectors are added to the tokens before the first block and after each third of them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.schedule import Step
from generation.tokenizer import CNNConfig, Encoder

PLACES = 3  # in the depth of a model


class Control(nn.Module):
    """A small encoder of images of which a part may be unknown.

    width: of the model's tokens. config: of the encoder; its side of the map should be that of the finest tokens.
    """

    def __init__(self, width: int, config: CNNConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.to_tokens = nn.Conv2d(config.latent, PLACES * width, 1)

    def forward(self, images: Tensor, known: Tensor) -> Tensor:
        """Images (B, 3, H, W), -1 to 1, and where they are known (B, H, W) -> maps (B, places, width, h, w)."""
        seen = known[:, None].to(images)
        maps = self.to_tokens(self.encoder(torch.cat([images * seen, seen], dim=1)))
        return maps.unflatten(1, (PLACES, -1))


def for_layers(maps: Tensor | None, steps: Sequence[Step], depth: int) -> dict[int, Tensor] | None:
    """What is added before which layers of a model so deep: (B, tokens of the steps, width), from maps of `Control`."""
    if maps is None:
        return None
    flat = maps.flatten(0, 1)
    of_steps = [F.interpolate(flat, size=step.shape, mode="area").flatten(2) for step in steps]
    tokens = torch.cat(of_steps, dim=2).transpose(1, 2).unflatten(0, maps.shape[:2])
    return {i * depth // PLACES: tokens[:, i] for i in range(PLACES)}
