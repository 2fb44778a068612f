"""The key-value cache: what earlier tokens left behind for later ones to attend to."""

import torch
from torch import Tensor


class Cache:
    """Keys and values of every layer, for a batch of rows that grow together.

    A row is one sequence: a photo, a beam, a branch of a search tree. Searches call `take` to keep, drop or copy
    rows, and `mark` / `undo` to try tokens and take them back.
    """

    def __init__(self, n_layers: int) -> None:
        self._keys: list[Tensor | None] = [None] * n_layers
        self._values: list[Tensor | None] = [None] * n_layers

    def length(self, layer: int = -1) -> int:
        """Tokens a layer holds, which is the position of its next one."""
        key = self._keys[layer]
        return 0 if key is None else key.shape[2]

    def put(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, heads, t, head_dim) to a layer; returns all of the layer's keys and values."""
        old_key, old_value = self._keys[layer], self._values[layer]
        if old_key is not None and old_value is not None:
            key, value = torch.cat([old_key, key], dim=2), torch.cat([old_value, value], dim=2)
        self._keys[layer], self._values[layer] = key, value
        return key, value

    def take(self, rows: Tensor) -> None:
        """Replace the batch by these of its rows: (n,) indices, which may repeat."""
        self._keys = [None if k is None else k.index_select(0, rows) for k in self._keys]
        self._values = [None if v is None else v.index_select(0, rows) for v in self._values]

    def mark(self) -> int:
        """A point to come back to with `undo`."""
        return self.length()

    def undo(self, mark: int) -> None:
        """Forget every token put after `mark`."""
        self._keys = [None if k is None else k[:, :, :mark] for k in self._keys]
        self._values = [None if v is None else v[:, :, :mark] for v in self._values]
