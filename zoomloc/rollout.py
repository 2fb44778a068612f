"""Training the published zoom model on its own mistakes: what it should decide in cells it entered wrongly."""

from collections.abc import Callable

import torch
from torch import Tensor

from generation.losses import self_rollout
from generation.schedule import Step
from zoomloc.decoder import ZoomDecoder
from zoomloc.labels import Labels

# Cells (B, L, 2), row and column at each level -> features of their views (B, L, C).
Look = Callable[[Tensor], Tensor]


def rollout_loss(
    decoder: ZoomDecoder, photo: Tensor, logits: Tensor, labels: Labels, look: Look, *, branch: int
) -> Tensor:
    """The loss of the decisions (B, L) along the decoder's own paths, over photos that lie on the grid.

    photo: (B, C) features. logits: (B, L, children) under the true path. look: shows the cells on the own paths of
    the photos on the grid. Right is the true child as long as the path is, and from there on the child nearest to the
    photo's position.
    """
    inside = labels.inside.to(logits.device)
    if not inside.any():
        return logits.sum() * 0
    labels = Labels(*(getattr(labels, name)[labels.inside] for name in Labels.__dataclass_fields__))

    def predict(own: Tensor) -> Tensor:
        return decoder(photo[inside], look(cells_of(own.cpu(), branch)), own)

    def wanted(own: Tensor) -> Tensor:
        return nearest_children(labels, own.cpu(), branch).to(own.device)

    schedule = tuple(Step(level, (1, 1), (level,)) for level in range(logits.shape[1]))
    return self_rollout(predict, logits[inside], schedule, wanted=wanted)


def cells_of(paths: Tensor, branch: int) -> Tensor:
    """Paths (B, L) -> the cells that are looked at on them, (B, L, 2) row and column at each level."""
    child = torch.stack([paths // branch, paths % branch], dim=-1)
    cells = [torch.zeros_like(child[:, 0])]
    for level in range(paths.shape[1] - 1):
        cells.append(cells[-1] * branch + child[:, level])
    return torch.stack(cells, dim=1)


def nearest_children(labels: Labels, paths: Tensor, branch: int) -> Tensor:
    """In the cells of any paths (B, L), the child nearest to the labels' position: (B, L); the true one on its path."""
    depth = paths.shape[1]
    true = torch.stack([labels.actions // branch, labels.actions % branch], dim=-1)
    leaves = labels.cells[:, -1] * branch + true[:, -1]  # (B, 2)
    finer = branch ** torch.arange(depth - 1, -1, -1)[:, None]  # leaves along a side of a level's children
    child = (leaves[:, None] // finer - cells_of(paths, branch) * branch).clamp(0, branch - 1)
    return child[..., 0] * branch + child[..., 1]
