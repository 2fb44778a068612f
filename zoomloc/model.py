"""The zoom model: encoder and decoder together, in the published configuration `just_zoom_in`."""

import torch
from torch import Tensor, nn

from zoomloc.config import ModelConfig
from zoomloc.decoder import ZoomDecoder
from zoomloc.encoder import Encoder, normalise
from zoomloc.errors import ConfigError


class ZoomModel(nn.Module):
    """Just Zoom In (arXiv 2603.25686): one encoder for photos and views, one causal decoder for the decisions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = ZoomDecoder(
            width=config.width,
            heads=config.decoder_heads,
            layers=config.decoder_layers,
            n_children=config.branch**2,
        )

    def encode_photos(self, photos: Tensor) -> Tensor:
        """(B, px, 2 px, 3) uint8 -> (B, C), the mean of the features of the left and the right half."""
        halves = photos.unflatten(2, (2, -1)).movedim(2, 1).flatten(0, 1)  # (2 B, px, px, 3)
        return self.encoder(normalise(halves)).unflatten(0, (-1, 2)).mean(dim=1)

    def encode_views(self, views: Tensor) -> Tensor:
        """(N, px, px, 3) uint8 -> (N, C)."""
        return self.encoder(normalise(views))

    def forward(self, photos: Tensor, views: Tensor, view_index: Tensor, actions: Tensor) -> Tensor:
        """Teacher forcing over a batch whose photos share views.

        photos (B, px, 2 px, 3) uint8; views (N, px, px, 3) uint8, each distinct one once; view_index (B, L), which
        of them each photo sees at each level; actions (B, L). Returns logits (B, L, children).
        """
        return self.decoder(self.encode_photos(photos), self.encode_views(views)[view_index], actions)


def n_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one. Raises ConfigError for one that is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device '{name}' is unknown; use cpu, cuda or auto") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device '{name}' is not on this machine; use cpu or auto")
    return device
