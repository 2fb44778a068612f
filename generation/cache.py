"""The cache: what the rows of a batch carry from one step to the next."""

from typing import NamedTuple

import torch
from torch import Tensor


class Mark(NamedTuple):
    """A point of a cache's past; see `Cache.mark`."""

    lengths: list[int]
    kept: dict[str, Tensor]


class Cache:
    """Keys and values of every layer, and whatever else belongs to a row, for rows that grow together.

    A sample (a photo, an image, a beam, a branch of a search tree) has `copies` rows, one after the other; two, for
    instance, where a conditional and an unconditional half are guided against each other. Searches call `take` to
    keep, drop or copy samples, and `mark` / `undo` to try tokens and take them back. For inference: keys and values
    are written in place, so no gradient goes through them.

    kept: named tensors whose first axis is the rows (the state of a recurrent layer, the condition of a class). Replace
    them, never write into them.
    """

    def __init__(self, n_layers: int, *, capacity: int = 0, copies: int = 1) -> None:
        """capacity: tokens to make room for at the first `put`; more tokens than that find room, by copying."""
        self.copies = copies
        self.kept: dict[str, Tensor] = {}
        self._capacity = capacity
        self._lengths = [0] * n_layers
        self._pairs: list[Tensor | None] = [None] * n_layers  # (2, rows, heads, capacity, head_dim)

    def length(self, layer: int = -1) -> int:
        """Tokens a layer holds, which is the position of its next one."""
        return self._lengths[layer]

    @property
    def nbytes(self) -> int:
        """Bytes of all that is held, room not yet filled included."""
        return sum(t.nbytes for t in [*self._pairs, *self.kept.values()] if t is not None)

    def put(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append (rows, heads, t, head_dim) to a layer; returns all of the layer's keys and values."""
        start = self._lengths[layer]
        end = self._lengths[layer] = start + key.shape[2]
        pair = self._room(layer, key, start, end)
        pair[0, :, :, start:end], pair[1, :, :, start:end] = key, value
        return pair[0, :, :, :end], pair[1, :, :, :end]

    def _room(self, layer: int, key: Tensor, filled: int, needed: int) -> Tensor:
        """The layer's pair, with room for as many tokens as needed; twice as much where it has to grow."""
        pair = self._pairs[layer]
        if pair is None or pair.shape[3] < needed:
            capacity = max(self._capacity, needed if pair is None else 2 * needed)
            bigger = key.new_empty(2, *key.shape[:2], capacity, key.shape[3])
            if pair is not None:
                bigger[:, :, :, :filled] = pair[:, :, :, :filled]
            self._pairs[layer] = pair = bigger
        return pair

    def take(self, samples: Tensor) -> None:
        """Replace the batch by these of its samples: (n,) indices, which may repeat. Older marks become void."""
        rows = (samples[:, None] * self.copies + torch.arange(self.copies, device=samples.device)).flatten()
        self._pairs = [None if pair is None else pair.index_select(1, rows) for pair in self._pairs]
        self.kept = {name: tensor.index_select(0, rows) for name, tensor in self.kept.items()}

    def mark(self) -> Mark:
        """A point to come back to with `undo`."""
        return Mark(list(self._lengths), dict(self.kept))

    def undo(self, mark: Mark) -> None:
        """Forget everything put or kept after `mark`."""
        self._lengths, self.kept = list(mark.lengths), dict(mark.kept)
