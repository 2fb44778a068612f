"""Search over the choices of an autoregressive model: greedy, beam, the whole tree, or the likeliest nodes first."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Step = Callable[[Tensor], Tensor]
Take = Callable[[Tensor], None]
Expand = Callable[[NDArray[np.int64]], NDArray[np.floating]]
Evidence = Callable[[NDArray[np.int64]], NDArray[np.floating]]

# Rows of `expand` must sum to 1 up to what half-precision arithmetic may cost; they are then made exact.
SUM_TOLERANCE = 1e-2
# Rounds for which the most probable nodes are set aside, so that a round does not look at the whole frontier.
ROUNDS_AHEAD = 32


def tree_search(
    step: Step, take: Take, *, batch: int, depth: int, width: int | None
) -> tuple[Tensor, Tensor]:
    """Grow the most probable paths of each tree in a batch, level by level.

    step: paths (batch, n, l) -> log-probabilities (batch, n, choices) of the next choice; it may keep a cache whose row
    `b * n + i` belongs to paths[b, i]. take: tells that cache which of its rows go on, (batch * n',) indices.
    width: paths kept at each level; 1 is greedy, None keeps all, which makes the result the exact distribution.

    Returns paths (batch, n, depth), most probable first, and their log-probabilities (batch, n).
    """
    paths = torch.empty(batch, 1, 0, dtype=torch.long)
    log_probability = torch.zeros(batch, 1)
    for level in range(depth):
        each = step(paths)
        n, n_choices = paths.shape[1], each.shape[2]
        scores = (log_probability[:, :, None].to(each.device) + each).flatten(1)
        kept = scores.topk(min(width or scores.shape[1], scores.shape[1]), dim=1)
        parent, choice = kept.indices // n_choices, kept.indices % n_choices
        if level + 1 < depth:
            take((torch.arange(batch, device=parent.device)[:, None] * n + parent).flatten())
        parent, choice, log_probability = parent.cpu(), choice.cpu(), kept.values.cpu()
        paths = torch.cat(
            [paths.gather(1, parent[:, :, None].expand(-1, -1, level)), choice[:, :, None]], dim=2
        )
    return paths, log_probability


@dataclass(frozen=True)
class Found:
    """What `best_first` found, and the certificate of what it did not look at: all of it sums to 1.

    leaves: (k,) numbers 0..n_choices^depth - 1 of the leaves with any probability, whose digits in base n_choices are
    their paths; most probable first. probabilities: (k,) float64. not_here: (depth,) the probability that ended as
    "not here" in the nodes of each level. unexpanded: the probability of nodes that were never opened. worth_left:
    with evidence, at most so much is below these of the leaves' probabilities, each times its evidence; without, the
    same as unexpanded.
    """

    leaves: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    not_here: NDArray[np.float64]
    unexpanded: float
    worth_left: float = 0.0


def best_first(
    expand: Expand,
    *,
    n_choices: int,
    depth: int,
    epsilon: float = 0.0,
    at_once: int = 256,
    evidence: Evidence | None = None,
) -> Found:
    """Open the most probable nodes of a Markov tree, until what is left unopened does not matter.

    The tree is complete, and its nodes are numbered level by level: the root is 0, child k of node i is
    `n_choices * i + 1 + k`. expand: node numbers (m,) -> log-probabilities (m, n_choices + 1) of going on to each
    child and, last, of "not here"; m is at most `at_once`, and no node is asked for twice, nor one of probability 0.
    epsilon: stop once the unopened nodes hold less than this share of what the leaves found hold; 0 opens everything.
    evidence: of leaves, from elsewhere: node numbers (m,) -> factors (m,), of a leaf its own, of any other node no less
    than that of any leaf below it. Nodes are then opened, and what they hold is counted, by their probability times
    their factor, so that leaves are found which the evidence favours, however little of the probability they have.

    Raises ValueError where a row of `expand` is no distribution.
    """
    first = (n_choices ** np.arange(depth + 1) - 1) // (
        n_choices - 1
    )  # the number of each level's first node
    frontier = _Frontier(_nodes(np.zeros(1, np.int64), np.ones(1), evidence), ROUNDS_AHEAD * at_once)
    leaves = [_NONE]
    not_here, leaf_worth, impossible = np.zeros(depth), 0.0, 0.0
    while len(frontier) and frontier.worth >= epsilon * leaf_worth:
        nodes = frontier.take(at_once)
        mass = nodes.mass[:, None] * _distributions(expand(nodes.number))
        level = first.searchsorted(nodes.number, side="right") - 1
        not_here += np.bincount(level, mass[:, -1], minlength=depth)
        number = n_choices * nodes.number[:, None] + 1 + np.arange(n_choices)
        children = _nodes(number.ravel(), mass[:, :-1].ravel(), evidence)
        is_leaf, possible = children.number >= first[-1], children.mass > 0
        worthy = children.worth > 0
        frontier.add(children.those(worthy & ~is_leaf))
        impossible += float(children.mass[~worthy & ~is_leaf].sum())
        leaves.append(children.those(possible & is_leaf))
        leaf_worth += float(leaves[-1].worth.sum())
    found = _joined(leaves)
    found = found.those(np.argsort(-found.mass))
    return Found(found.number - first[-1], found.mass, not_here, frontier.mass + impossible, frontier.worth)


def _distributions(log_probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows of log-probabilities (m, c) as probabilities that sum to 1 in float64."""
    rows = np.exp(log_probabilities.astype(np.float64))
    sums = rows.sum(axis=1, keepdims=True)
    if not (abs(sums - 1) < SUM_TOLERANCE).all():
        raise ValueError(
            f"log-probabilities of a node sum to {float(sums.max()):.4g}, not 1; use log_softmax"
        )
    return rows / sums


class _Nodes(NamedTuple):
    """Nodes, the probability of reaching each, and that times its evidence, which is what it is worth; (m,) all."""

    number: NDArray[np.int64]
    mass: NDArray[np.float64]
    worth: NDArray[np.float64]

    def those(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "_Nodes":
        return _Nodes(self.number[which], self.mass[which], self.worth[which])

    def split(self, n: int) -> tuple["_Nodes", "_Nodes"]:
        """The n worth most, and the others."""
        if n >= len(self.worth):
            return self, _NONE
        order = self.worth.argpartition(len(self.worth) - n)
        return self.those(order[-n:]), self.those(order[:-n])


_NONE = _Nodes(np.empty(0, np.int64), np.empty(0), np.empty(0))


def _nodes(number: NDArray[np.int64], mass: NDArray[np.float64], evidence: Evidence | None) -> _Nodes:
    return _Nodes(number, mass, mass if evidence is None else mass * evidence(number))


def _joined(parts: list[_Nodes]) -> _Nodes:
    numbers, masses, worths = zip(*parts, strict=True)
    return _Nodes(np.concatenate(numbers), np.concatenate(masses), np.concatenate(worths))


class _Frontier:
    """Nodes to be opened: about `n_near` of those worth most at hand, the others piled up beside them.

    No node of the pile is worth more than one at hand, so only those are looked at in most rounds.
    """

    def __init__(self, nodes: _Nodes, n_near: int) -> None:
        self._near, self._n_near = nodes, n_near
        self._far: list[_Nodes] = []
        self._far_worth = self._border = 0.0  # the border parts the two by worth

    def __len__(self) -> int:
        return len(self._near.worth) + sum(len(nodes.worth) for nodes in self._far)

    @property
    def mass(self) -> float:
        return float(sum(nodes.mass.sum() for nodes in (self._near, *self._far)))

    @property
    def worth(self) -> float:
        return float(self._near.worth.sum()) + self._far_worth

    def add(self, nodes: _Nodes) -> None:
        is_near = nodes.worth >= self._border
        self._near = _joined([self._near, nodes.those(is_near)])
        self._put_far(nodes.those(~is_near))
        if len(self._near.worth) > 2 * self._n_near:
            self._shed()

    def take(self, n: int) -> _Nodes:
        """Remove and return the n nodes worth most, or all there are."""
        if len(self._near.worth) < n and self._far:
            self._near, self._far, self._far_worth, self._border = (
                _joined([self._near, *self._far]),
                [],
                0.0,
                0.0,
            )
            self._shed()
        taken, self._near = self._near.split(n)
        return taken

    def _shed(self) -> None:
        self._near, rest = self._near.split(self._n_near)
        self._border = float(rest.worth.max(initial=self._border))
        self._put_far(rest)

    def _put_far(self, nodes: _Nodes) -> None:
        if len(nodes.worth):
            self._far.append(nodes)
            self._far_worth += float(nodes.worth.sum())
