"""The pointer model: a child is scored by what it shows, a decision depends on its cell and the photo alone.

A view reaches one child beyond its cell on every side, and every child is described by a key of a few numbers, which
an index keeps. The photo is read by a few queries, alternatives of what to look for from above. A child's score is
the log of the sum over them of the exponentials of query · key; "not here" has a score that depends on the photo and
the cell's size. As nothing else enters, all cells of a map are scored by one matrix product, and the probabilities of
the whole tree are exact (the Markov zoom of MVAR, arXiv 2505.12742, applied to zoom decisions).
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.core import CrossBlock, RMSNorm
from zoomloc.config import PointerConfig
from zoomloc.encoder import Encoder, normalise

USUAL_FOV_DEG = 70.0  # of a photo that does not say its own
LEAF_M = 40.0  # sizes of cells are told to the model as logarithms, in units of this
WAVES = (1, 2, 4)  # of the azimuth, around the circle
START_SCALE, START_NOT_HERE = 5.0, 3.0


class PointerModel(nn.Module):
    """Scores the children of cells for photos."""

    def __init__(self, config: PointerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.encoder = Encoder(config)
        self.azimuth = nn.Linear(2 * len(WAVES), width)
        self.photo_norm = nn.LayerNorm(width)
        self.alternatives = nn.Parameter(torch.randn(config.queries, width) / math.sqrt(width))
        self.sizes = nn.ModuleDict({kind: _size_embedding(width) for kind in ("photo", "view")})
        self.blocks = nn.ModuleList(
            CrossBlock(width, config.decoder_heads) for _ in range(config.decoder_layers)
        )
        self.final_norm = RMSNorm(width)
        self.to_query = nn.Linear(width, config.key_width)
        self.to_weight = nn.Linear(width, 1)
        self.to_not_here = nn.Linear(width, 1)
        n_keys = config.branch**2 if config.slots else 1
        self.to_key = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n_keys * config.key_width))
        self.log_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))
        if config.heading_waves:
            self.facing = nn.Parameter(torch.randn(1, width) / math.sqrt(width))
            self.to_heading = nn.Linear(width, 2 * config.heading_waves * config.key_width)
            nn.init.zeros_(self.to_heading.weight)
            nn.init.normal_(self.to_heading.bias, std=0.02)
        nn.init.zeros_(self.to_not_here.weight)
        nn.init.constant_(self.to_not_here.bias, START_NOT_HERE)

    @property
    def reach(self) -> float:
        """The side of what a view shows, in sides of its cell."""
        return self.config.cells_across / self.config.branch

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Of what the index keeps of a cell: a key for each child."""
        return self.config.branch**2, self.config.key_width

    def encode_photos(self, photos: Tensor, fov_deg: Tensor | None = None) -> Tensor:
        """(B, px, 2 px, 3) uint8, fov_deg (B,), nan where unknown -> (B, patches, C)."""
        halves = photos.unflatten(2, (2, -1)).movedim(2, 1).flatten(0, 1)  # (2 B, px, px, 3)
        patches = self.encoder.patches(normalise(halves)).unflatten(0, (-1, 2))  # (B, 2, h, w, C)
        patches = patches.movedim(1, 2).flatten(2, 3)  # (B, h, 2 w, C)
        if fov_deg is None:
            fov_deg = torch.full((len(photos),), math.nan)
        fov = fov_deg.to(patches).nan_to_num(USUAL_FOV_DEG).deg2rad()
        across = (torch.arange(patches.shape[2], device=fov.device) + 0.5) / patches.shape[2] - 0.5
        angle = (
            fov[:, None, None] * across[:, None] * torch.tensor(WAVES, device=fov.device)
        )  # (B, 2 w, waves)
        azimuth = self.azimuth(torch.cat([angle.sin(), angle.cos()], dim=-1))
        return self.photo_norm((patches + azimuth[:, None]).flatten(1, 2))

    def encode_views(self, views: Tensor, side_m: Tensor) -> Tensor:
        """(N, px, px, 3) uint8, side_m (N,): of the cells -> (N, children, key_width) keys."""
        patches = self.encoder.patches(normalise(views))  # (N, n, n, C)
        parts = F.adaptive_avg_pool2d(patches.movedim(-1, 1), self.config.cells_across).movedim(1, -1)
        size = self.sizes["view"](_size(side_m))
        if self.config.slots:
            keys = self.to_key(parts.flatten(1, 2).mean(1) + size).unflatten(1, (-1, self.config.key_width))
        else:
            rim = slice(1, -1) if self.config.rim else slice(None)
            keys = self.to_key(parts[:, rim, rim].flatten(1, 2) + size[:, None])
        return F.normalize(keys, dim=-1)

    def ask(self, photos: Tensor, side_m: Tensor) -> "Questions":
        """What photos (B, patches, C) look for among the children of cells of side_m (B, L), L sizes for each photo.

        All sizes at once, since reading the photo's patches costs most.
        """
        size = self.sizes["photo"](_size(side_m.flatten())).unflatten(0, side_m.shape)  # (B, L, C)
        asking: Tensor = self.alternatives
        if self.config.heading_waves:
            asking = torch.cat([asking, self.facing])
        x = (asking + size[:, :, None]).flatten(1, 2)  # (B, L Q, C)
        for block in self.blocks:
            x = block(x, photos)
        x = self.final_norm(x).unflatten(1, (-1, len(asking))).movedim(1, 0)  # (L, B, Q, C)
        heading = None
        if self.config.heading_waves:
            heading = self.to_heading(x[:, :, -1]).unflatten(-1, (-1, self.config.key_width))
            x = x[:, :, :-1]
        query = F.normalize(self.to_query(x), dim=-1) * self.log_scale.exp()
        not_here = self.to_not_here(x.mean(2))[..., 0]
        if not self.config.not_here:
            not_here = torch.full_like(not_here, -math.inf)
        return Questions(query, self.to_weight(x)[..., 0].log_softmax(-1), not_here, heading)

    def forward(
        self,
        photos: Tensor,
        fov_deg: Tensor,
        views: Tensor,
        side_m: Tensor,
        n_views: list[int],
        sides_m: Tensor,
        leaf: Tensor,
    ) -> "tuple[list[Tensor], Tensor | None]":
        """Every photo at every cell of a batch that is of its level.

        photos (B, px, 2 px, 3) uint8 and fov_deg (B,); views (N, px, px, 3) uint8 of cells of side_m (N,), level after
        level, n_views of each; sides_m (B, L): of the photo's own cells; leaf (B, 2): which of the N cells, and which
        of its children, holds the photo in the end. Returns log-probabilities (B, n_views, children + 1) for every
        level, and the waves of the heading there, (B, 2 heading_waves), None where the model has none.
        """
        tokens = self.encode_photos(photos, fov_deg)
        keys = self.encode_views(views, side_m)
        asked = self.ask(tokens, sides_m)
        log_p = [at_all(asked.at(level), key) for level, key in enumerate(keys.split(n_views))]
        facing = (
            None if asked.heading is None else heading_waves(asked.heading[-1], keys[leaf[:, 0], leaf[:, 1]])
        )
        return log_p, facing


class Questions(NamedTuple):
    """Of B photos at L sizes of cells: queries (L, B, Q, key_width), the log of their weights (L, B, Q), the score
    of "not here" (L, B), and what is asked for the heading's waves (L, B, 2 heading_waves, key_width), if anything is.
    Without the first axis where one size is meant."""

    query: Tensor
    weight: Tensor
    not_here: Tensor
    heading: Tensor | None = None

    def at(self, which: Any) -> "Questions":
        """Those that an index selects."""
        heading = None if self.heading is None else self.heading[which]
        return Questions(self.query[which], self.weight[which], self.not_here[which], heading)


def at_all(asked: Questions, keys: Tensor) -> Tensor:
    """Every photo, asked at one size, at every cell: keys (N, children, key_width) -> log-probabilities
    (B, N, children + 1), the last of "not here"."""
    each = torch.einsum("bqd,nkd->bnkq", asked.query, keys)
    return _log_probabilities(each + asked.weight[:, None, None], asked.not_here[:, None, None])


def at_own(asked: Questions, keys: Tensor) -> Tensor:
    """Every photo, asked at one size, at a cell of its own: keys (B, children, key_width) -> log-probabilities
    (B, children + 1)."""
    each = keys @ asked.query.transpose(1, 2)  # (B, children, Q)
    return _log_probabilities(each + asked.weight[:, None], asked.not_here[:, None])


def heading_waves(asked: Tensor, keys: Tensor) -> Tensor:
    """What photos ask (B, 2 K, key_width) of children of their own, keys (B, key_width) -> waves (B, 2 K), as
    `zoomloc.heading` has them."""
    return (asked @ keys[..., None])[..., 0]


def _log_probabilities(each: Tensor, not_here: Tensor) -> Tensor:
    """Scores of the alternatives (…, children, Q) and of "not here" (…, 1) -> (…, children + 1)."""
    children = each.logsumexp(-1)
    return torch.cat([children, not_here.expand(*children.shape[:-1], 1)], dim=-1).log_softmax(-1)


def _size_embedding(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(2 * len(WAVES) + 1, width), nn.GELU(), nn.Linear(width, width))


def _size(side_m: Tensor) -> Tensor:
    """(N,) sides of cells -> (N, 7): the logarithm, and waves of it."""
    level = torch.log2(side_m.float() / LEAF_M)[:, None]
    angle = level * torch.tensor(WAVES, device=level.device) * (math.pi / 4)
    return torch.cat([level / 4, angle.sin(), angle.cos()], dim=1)
