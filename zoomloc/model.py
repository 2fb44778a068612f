"""The published zoom model, `just_zoom_in`: encoder and decoder together; and what makes a model of a configuration."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zoomloc.config import ImageConfig, ModelConfig, PointerConfig
from zoomloc.decoder import ZoomDecoder
from zoomloc.encoder import Encoder, normalise
from zoomloc.errors import ConfigError
from zoomloc.pointer import PointerModel
from zoomloc.region import Region


class ZoomModel(nn.Module):
    """Just Zoom In (arXiv 2603.25686): one encoder for photos and views, one causal decoder for the decisions."""

    reach = 1.0  # a view shows its cell and nothing else

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_shape = (config.width,)  # of what the index keeps of a cell
        self.encoder = Encoder(config)
        self.decoder = ZoomDecoder(
            width=config.width,
            heads=config.decoder_heads,
            layers=config.decoder_layers,
            n_children=config.branch**2,
        )

    def encode_photos(self, photos: Tensor, fov_deg: Tensor | None = None) -> Tensor:
        """(B, px, 2 px, 3) uint8 -> (B, C), the mean of the features of the left and the right half; of whatever field
        of view."""
        halves = photos.unflatten(2, (2, -1)).movedim(2, 1).flatten(0, 1)  # (2 B, px, px, 3)
        return self.encoder(normalise(halves)).unflatten(0, (-1, 2)).mean(dim=1)

    def encode_views(self, views: Tensor, side_m: Tensor | None = None) -> Tensor:
        """(N, px, px, 3) uint8 -> (N, C), of cells of whatever size."""
        return self.encoder(normalise(views))

    def forward(
        self,
        photos: Tensor,
        views: Tensor,
        view_index: Tensor,
        actions: Tensor,
        then: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Teacher forcing over a batch whose photos share views.

        photos (B, px, 2 px, 3) uint8; views (N, px, px, 3) uint8, each distinct one once; view_index (B, L), which
        of them each photo sees at each level; actions (B, L). Returns logits (B, L, children), and what `then`, if
        given, makes of the photos' features (B, C) and the logits: a second pass that belongs to the same step.
        """
        photo = self.encode_photos(photos)
        logits = self.decoder(photo, self.encode_views(views)[view_index], actions)
        return logits, None if then is None else then(photo, logits)


AnyModel = ZoomModel | PointerModel


def make_model(config: ImageConfig) -> AnyModel:
    """A model with random weights."""
    if isinstance(config, PointerConfig):
        return PointerModel(config)
    assert isinstance(config, ModelConfig)
    return ZoomModel(config)


def misfit(config: ImageConfig, region: Region) -> str | None:
    """Why a model cannot zoom into a region, in a clause; None where it can."""
    if config.branch != region.branch:
        ours, theirs = config.branch, region.branch
        return f"divides cells into {ours} x {ours}, but region '{region.name}' has branch {theirs}"
    if isinstance(config, ModelConfig) and config.depth != region.depth:
        return f"zooms {config.depth} times, but region '{region.name}' has depth {region.depth}"
    return None


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
