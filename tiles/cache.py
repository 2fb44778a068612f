"""Decoded tiles in memory: what was used last stays, up to so many bytes."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

DEFAULT_BYTES = 256 * 2**20


class TileCache:
    """Arrays by key, the least recently used dropped first; safe between threads.

    max_bytes: what all arrays together may take. Of several threads that want the same key at once one makes
    it and the others wait for it. Arrays are shared: they are made read-only.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self.max_bytes = max_bytes
        self._forget()
        os.register_at_fork(after_in_child=self._forget)  # another thread may have held the lock

    def get(self, key: Hashable, make: Callable[[], NDArray[np.uint8] | None]) -> NDArray[np.uint8] | None:
        """The array of a key, made now if it is not there. None, for what does not exist, is not kept."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
            waiting = self._making.get(key)
            mine = self._making.setdefault(key, Future()) if waiting is None else None
        if mine is None:
            return waiting.result() if waiting else None
        try:
            array = make()
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(array)
            if array is not None:
                self._keep(key, array)
            return array
        finally:
            with self._lock:
                del self._making[key]

    def forget(self, owner: Hashable) -> None:
        """Drop the arrays whose key, a tuple, begins with `owner`."""
        with self._lock:
            for key in [key for key in self._arrays if isinstance(key, tuple) and key[0] == owner]:
                self._bytes -= self._arrays.pop(key).nbytes

    @property
    def n_bytes(self) -> int:
        """What the arrays take now."""
        return self._bytes

    def _keep(self, key: Hashable, array: NDArray[np.uint8]) -> None:
        array.flags.writeable = False
        with self._lock:
            self._arrays[key] = array
            self._bytes += array.nbytes
            while self._bytes > self.max_bytes:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._arrays: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._making: dict[Hashable, Future[NDArray[np.uint8] | None]] = {}
        self._bytes = 0


SHARED = TileCache()
"""The cache of all tiled sources of this process."""
