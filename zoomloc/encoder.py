"""The image encoder shared by street photos and overhead views: a DINOv2 vision transformer."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from zoomloc.config import ImageConfig
from zoomloc.errors import ConfigError

# ImageNet statistics, which DINOv2 was trained with.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# Checkpoints name DINOv2's parameters as transformers 4.47 did; the library renamed some of them since.
_RENAMED = (
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
)


class Encoder(nn.Module):
    """DINOv2 (arXiv 2304.07193), its weights random at first; the feature of an image is its CLS token."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self._patch_px = config.patch_px
        from transformers import Dinov2Config, Dinov2Model  # here: importing it takes seconds

        self.backbone = Dinov2Model(
            Dinov2Config(
                hidden_size=config.width,
                num_hidden_layers=config.encoder_layers,
                num_attention_heads=config.encoder_heads,
                patch_size=config.patch_px,
                image_size=config.table_px,
            )
        )
        # For masked pre-training only; left trainable, it would wait in vain for a gradient.
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(name != "embeddings.mask_token")

    def load_weights(self, folder: Path) -> None:
        """Take the weights of a folder as transformers saves a Dinov2Model. Raises ConfigError, one line."""
        from transformers import Dinov2Model

        try:
            saved = Dinov2Model.from_pretrained(folder, local_files_only=True)
            self.backbone.load_state_dict(saved.state_dict())
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"encoder_weights {folder}: no DINOv2 weights of the size of [model] ({reason}); "
                "download facebook/dinov2-base to a folder and name that"
            ) from None

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, h, w) normalised images -> (N, width) features; h and w are multiples of the patch side."""
        return self.backbone(pixel_values=images).last_hidden_state[:, 0]

    def patches(self, images: Tensor) -> Tensor:
        """(N, 3, h, w) normalised images -> (N, h / patch, w / patch, width), a feature for every patch."""
        tokens = self.backbone(pixel_values=images).last_hidden_state[:, 1:]
        return tokens.unflatten(1, (-1, images.shape[-1] // self._patch_px))


def shrink(pixels: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """A photo of any shape, (h, w, 3) uint8 -> (px, 2 px, 3): two squares side by side, each one encoder input."""
    return np.asarray(
        Image.fromarray(pixels).resize((2 * px, px), Image.Resampling.BICUBIC, reducing_gap=3.0)
    )


def normalise(pixels: Tensor) -> Tensor:
    """(..., h, w, 3) uint8 sRGB -> (..., 3, h, w) float32 as the encoder wants it."""
    images = pixels.movedim(-1, -3).float() / 255
    mean = torch.tensor(MEAN, device=images.device)[:, None, None]
    std = torch.tensor(STD, device=images.device)[:, None, None]
    return (images - mean) / std


def to_published(key: str) -> str:
    """A parameter's name in checkpoints, from its name in the running model."""
    for published, current in _RENAMED:
        key = key.replace(current, published) if key.startswith("encoder.") else key
    return key


def from_published(key: str) -> str:
    """The inverse of `to_published`."""
    for published, current in _RENAMED:
        key = key.replace(published, current) if key.startswith("encoder.") else key
    return key
