"""Searches by selection: between the steps of a walk, which rows go on, and in how many copies.

A plan says after how many steps which selection is made, and `search` follows it. Best-of-N, beams, particles and
pieces are plans; they serve images and zooming alike.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from generation.verify import Verifier
from generation.walk import Walk

W = TypeVar("W", bound=Walk)

# From a walk, and the scores (rows,) that its rows were given before, oldest first, to the rows that go on. Those that
# score append what they gave.
Select = Callable[[W, list[Tensor]], Tensor]
Plan = Mapping[int, Select[W]]
# From the scores of rows, oldest first, to what weighs them when they are drawn from.
Potential = Callable[[list[Tensor]], Tensor]

KMEANS_ROUNDS = 10


def search(walk: W, plan: Plan[W]) -> W:
    """Walk to the end by a plan; returns the walk, of whose rows those are left that were selected last."""
    scores: list[Tensor] = []
    while True:
        if walk.at in plan:
            rows = plan[walk.at](walk, scores)
            walk.take(rows)
            scores = [each[rows] for each in scores]
        if walk.at == walk.n_steps:
            return walk
        walk.step()


def best_of_n(n: int, verifier: Verifier[W], *, n_steps: int) -> Plan[W]:
    """The best of n."""
    return {0: copies(n), n_steps: best(verifier, 1)}


def beam(
    width: int, candidates: int, verifier: Verifier[W], *, n_steps: int, after: Sequence[int] | None = None
) -> Plan[W]:
    """After 1, 2, 4, … steps, or those named, the best `width` rows go on in `candidates` copies, which then part; the
    best wins (search over ordered tokens, arXiv 2604.15453). With a verifier in `verify.lookahead`, its lookahead
    search."""
    steps = [2**i for i in range(n_steps.bit_length())] if after is None else after
    middle = {step: best(verifier, width, candidates) for step in steps if step < n_steps}
    return {0: copies(width * candidates), **middle, n_steps: best(verifier, 1)}


def particles(n_rows: Sequence[int], thin: Callable[[int, int], Select[W]], verifier: Verifier[W]) -> Plan[W]:
    """As many rows as each step is to have, ever fewer, and the best wins (TTS-VAR, arXiv 2507.18537).

    thin: after how many steps, to how many rows -> the selection that leaves so many: `diverse` while sequences are
    too young to be judged, `resampled` then.
    """
    falls = [step for step in range(1, len(n_rows)) if n_rows[step] < n_rows[step - 1]]
    return {0: copies(n_rows[0]), **{s: thin(s, n_rows[s]) for s in falls}, len(n_rows): best(verifier, 1)}


def pieces(
    n: int, after: Sequence[int], possible: Verifier[W], verifier: Verifier[W], *, n_steps: int
) -> Plan[W]:
    """After every piece, rows that are impossible already make room for copies of the others (GridAR,
    arXiv 2511.21185); the best wins. possible: scores above zero."""
    return {0: copies(n), **{step: viable(possible, n) for step in after}, n_steps: best(verifier, 1)}


def copies(n: int) -> Select[Walk]:
    """Every row n times."""
    return lambda walk, _: torch.arange(len(walk.log_p)).repeat_interleave(n)


def best(verifier: Verifier[W], keep: int, n_copies: int = 1) -> Select[W]:
    """The `keep` best rows of each prompt, best first, in copies."""

    def select(walk: W, scores: list[Tensor]) -> Tensor:
        scores.append(verifier(walk))
        own = _by_prompt(scores[-1], walk)
        return _rows(own.topk(min(keep, own.shape[1])).indices, walk).repeat_interleave(n_copies)

    return select


# The potentials of TTS-VAR.


def latest(scores: list[Tensor]) -> Tensor:
    """What a row is worth now."""
    return scores[-1]


def gained(scores: list[Tensor]) -> Tensor:
    """By how much it got better."""
    return scores[-1] - scores[-2] if len(scores) > 1 else scores[-1]


def highest(scores: list[Tensor]) -> Tensor:
    """The most it was ever worth."""
    return torch.stack(scores).amax(0)


def total(scores: list[Tensor]) -> Tensor:
    """What it was worth all along."""
    return torch.stack(scores).sum(0)


def resampled(
    verifier: Verifier[W],
    n: int,
    *,
    strength: float,
    generator: torch.Generator,
    potential: Potential = latest,
) -> Select[W]:
    """n rows of each prompt, drawn by exp(strength · potential), good ones several times."""

    def select(walk: W, scores: list[Tensor]) -> Tensor:
        scores.append(verifier(walk))
        weight = (strength * _by_prompt(potential(scores), walk)).softmax(1).cpu()
        return _rows(weight.multinomial(n, replacement=True, generator=generator), walk)

    return select


def diverse(features: Callable[[W], Tensor], n: int) -> Select[W]:
    """n rows of each prompt that stand for all: k-means of features (rows, d), of each cluster the most central."""
    return lambda walk, _: _rows(
        torch.stack([_central(each, n) for each in _by_prompt(features(walk), walk)]), walk
    )


def viable(possible: Verifier[W], n: int) -> Select[W]:
    """n rows of each prompt that score above zero, in copies where they are fewer; all in turn where none does."""

    def select(walk: W, scores: list[Tensor]) -> Tensor:
        alive = _by_prompt(possible(walk), walk) > 0
        alive[~alive.any(1)] = True
        fill = torch.arange(n)
        return _rows(torch.stack([(rows := own.nonzero()[:, 0])[fill % len(rows)] for own in alive]), walk)

    return select


def first_component(features: Tensor) -> Tensor:
    """Features of patches (rows, patches, d) -> (rows, patches) along the direction in which they differ most."""
    centred = (features - features.mean((0, 1))).flatten(0, 1)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    return (centred @ direction).unflatten(0, features.shape[:2])


def _central(features: Tensor, n: int) -> Tensor:
    """n different rows of features (m, d), one near each of n centres."""
    features = features.flatten(1).float()
    at = [0]
    for _ in range(n - 1):  # begin with rows far from each other: the same ones every time
        at.append(int(torch.cdist(features, features[at]).amin(1).argmax()))
    centres = features[at]
    for _ in range(KMEANS_ROUNDS):
        nearest = torch.cdist(features, centres).argmin(1)
        centres = torch.stack(
            [features[nearest == k].mean(0) if (nearest == k).any() else centres[k] for k in range(n)]
        )
    apart, chosen = torch.cdist(features, centres), []
    for k in range(n):
        chosen.append(int(apart[:, k].argmin()))
        apart[chosen[-1]] = torch.inf
    return torch.tensor(chosen)


def _by_prompt(each: Tensor, walk: Walk) -> Tensor:
    """(rows, …) -> (batch, rows of a prompt, …)."""
    return each.unflatten(0, (walk.batch, -1))


def _rows(own: Tensor, walk: Walk) -> Tensor:
    """Numbers (batch, m) among the rows of each prompt -> those among all rows, (batch · m,)."""
    first = torch.arange(walk.batch)[:, None] * (len(walk.log_p) // walk.batch)
    return (first + own.cpu()).flatten()
