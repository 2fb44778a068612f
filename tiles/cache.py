"""Decoded tiles in memory: what was used last stays, up to so many bytes."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

DEFAULT_BYTES = 256 * 2**20


Waiting = Future[NDArray[np.uint8] | None]


class TileCache:
    """Arrays by key, the least recently used dropped first; safe between threads.

    max_bytes: what all arrays together may take; a larger array is made but never kept. Of several threads that
    want the same key at once one makes it and the others wait for it. Arrays that others may have too are read-only.
    A forked child starts with an empty cache. No finalizer may call in: it may run while this thread has the lock.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self.max_bytes = max_bytes
        self._start_empty()
        _ALL.add(self)

    def get(self, key: Hashable, make: Callable[[], NDArray[np.uint8] | None]) -> NDArray[np.uint8] | None:
        """The array of a key, made now if it is not there. None, for what does not exist, is not kept.

        Raises what `make` raises, in every thread that waits for it; the next call makes it anew.
        """
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
            waiting = None
            if key in self._making:
                waiting = self._making[key] or Waiting()
            self._making[key] = waiting
        if waiting is not None:
            return waiting.result()
        try:
            array = make()
        except BaseException as error:
            waiting = self._made(key, None)
            if waiting is not None:
                waiting.set_exception(error)
            raise
        waiting = self._made(key, array)
        if waiting is not None:
            waiting.set_result(array)
        return array

    def forget(self, owner: Hashable) -> None:
        """Drop the arrays whose key, a tuple, begins with `owner`."""
        with self._lock:
            for key in [key for key in self._arrays if isinstance(key, tuple) and key[0] == owner]:
                self._drop(key)

    @property
    def n_bytes(self) -> int:
        """What the arrays take now."""
        return self._bytes

    def _made(self, key: Hashable, array: NDArray[np.uint8] | None) -> Waiting | None:
        """Keep what was made, if there is room; returns what other threads wait for."""
        with self._lock:
            waiting = self._making.pop(key, None)  # gone where `make` forked and this is the child
            if array is not None and (self._keep(key, array) or waiting is not None):
                array.flags.writeable = False
        return waiting

    def _keep(self, key: Hashable, array: NDArray[np.uint8]) -> bool:
        """Whether there is room for it."""
        if array.nbytes > self.max_bytes:
            return False
        self._arrays[key] = array
        self._bytes += array.nbytes
        while self._bytes > self.max_bytes:
            self._drop(next(iter(self._arrays)))
        return True

    def _drop(self, key: Hashable) -> None:
        self._bytes -= self._arrays.pop(key).nbytes

    def _start_empty(self) -> None:
        self._lock = threading.Lock()  # another thread may have held the parent's
        self._arrays: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._making: dict[Hashable, Waiting | None] = {}  # None until another thread waits
        self._bytes = 0


def _start_children_empty() -> None:
    for cache in _ALL:
        cache._start_empty()


_ALL: WeakSet[TileCache] = WeakSet()
if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_start_children_empty)

SHARED = TileCache()
"""The cache of all tiled sources of this process."""
