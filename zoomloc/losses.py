"""What training makes small."""

import torch
import torch.nn.functional as F
from torch import Tensor

from zoomloc.labels import Labels
from zoomloc.lesson import Lesson


def path_loss(logits: Tensor, labels: Labels, smoothing: float) -> Tensor:
    """Of the published model: logits (B, L, children). Cross-entropy with the smoothed targets, the mean over levels
    and over photos that lie on the grid."""
    targets = _smooth(labels.targets.to(logits.device), smoothing)
    each = -(targets * F.log_softmax(logits, dim=-1)).sum(-1).mean(-1)  # (B,)
    weight = labels.inside.to(each)
    return (each * weight).sum() / weight.sum().clamp(min=1)


def pointer_loss(
    log_p: list[Tensor], lesson: Lesson, *, smoothing: float, off_path: float, own_mistakes: float
) -> Tensor:
    """Of the pointer model: log-probabilities (B, N, children + 1) of every photo at every cell of a level.

    At a photo's own cell, cross-entropy with the smoothed targets; at its city's whole square, where the photo lies
    outside, that of "not here". off_path weighs the mean of that of "not here" over all other photos' cells, and
    own_mistakes their sum, each by the probability that the search for the photo comes there: training on its own
    mistakes (the self-rollout of SAR, arXiv 2512.06421), but over all paths at once instead of the likeliest. The mean
    over levels.
    """
    device = log_p[0].device
    targets = _smooth(lesson.labels.targets.to(device), smoothing)  # (B, L, children)
    inside = lesson.labels.inside.to(device)
    rows = torch.arange(len(inside), device=device)
    reached = torch.zeros(log_p[0].shape[:2], device=device)  # (B, n_views), with what probability
    total = torch.zeros((), device=device)
    before = 0
    for level, each in enumerate(log_p):
        own = lesson.view_index[:, level].to(device) - before
        before += each.shape[1]
        if level == 0:
            reached[rows, own] = 1  # nobody looks in another city
        else:
            children = reached[:, :, None] * log_p[level - 1].detach()[..., :-1].exp()
            reached = children.flatten(1)[:, lesson.child_of[level - 1].to(device)]
        at_own = each[rows, own]  # (B, children + 1)
        here = -(targets[:, level] * at_own[:, :-1]).sum(-1)
        if off_path == own_mistakes == 0:
            total = total + (here * inside).mean()
            continue
        outside = -at_own[:, -1] if level == 0 else torch.zeros_like(here)
        others = torch.ones(each.shape[:2], device=device)
        others[rows, own] = 0
        absent = -each[..., -1] * others
        total = total + torch.where(inside, here, outside).mean()
        total = total + off_path * absent.sum() / others.sum().clamp(min=1)
        total = total + own_mistakes * (absent * reached).sum(1).mean()
    return total / len(log_p)


def contrast(log_p: list[Tensor], lesson: Lesson, *, smoothing: float) -> Tensor:
    """Of the pointer model: a photo's child against the children of all cells of the batch's level at once, the
    contrastive loss of retrieval (InfoNCE, arXiv 1807.03748) with every other place of the batch as a negative. What
    stands against "not here" is compared, which is the same of all cells for a photo and a size. The mean over levels
    and over photos on the grid."""
    targets = _smooth(lesson.labels.targets.to(log_p[0].device), smoothing)  # (B, L, children)
    inside = lesson.labels.inside.to(targets)
    rows = torch.arange(len(inside), device=targets.device)
    total, before = torch.zeros((), device=targets.device), 0
    for level, each in enumerate(log_p):
        own = lesson.view_index[:, level].to(targets.device) - before
        before += each.shape[1]
        odds = each[..., :-1] - each[..., -1:]  # (B, n_views, children)
        log_share = odds.flatten(1).log_softmax(1).view_as(odds)[rows, own]  # (B, children)
        total = total - ((targets[:, level] * log_share).sum(-1) * inside).sum()
    return total / (inside.sum().clamp(min=1) * len(log_p))


def expected_error(log_p: list[Tensor], lesson: Lesson) -> Tensor:
    """What log(1 + metres) is to be expected of an answer drawn from the posterior of the batch's cells, the mean over
    photos on the grid: the gradient that group-relative policy optimisation with the reward -log(1 + metres) estimates
    from samples (as VA-π, arXiv 2512.19680, does for images), exactly."""
    own = lesson.view_index[:, 0].to(log_p[0].device)
    mass = torch.full(log_p[0].shape[:2], -torch.inf, device=log_p[0].device)
    mass[torch.arange(len(mass), device=mass.device), own] = 0  # logarithms; nobody looks in another city
    for level, each in enumerate(log_p):
        if level:
            mass = mass[:, lesson.child_of[level - 1].to(mass.device)]
        mass = (mass[:, :, None] + each[..., :-1]).flatten(1)
    error = lesson.distance_m.to(mass.device).nan_to_num(posinf=0.0).log1p()
    inside = lesson.labels.inside.to(mass)
    return ((mass.softmax(1) * error).sum(1) * inside).sum() / inside.sum().clamp(min=1)


def _smooth(targets: Tensor, smoothing: float) -> Tensor:
    return targets * (1 - smoothing) + smoothing / targets.shape[-1]
