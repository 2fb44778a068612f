"""Memory a thread uses again: of large new arrays the system hands out every page by itself, which takes longer than
what is done with them."""

import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MOST_BYTES = 2**24  # what is larger is rare, and given back

_kept = threading.local()


def scratch(role: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array whose contents are whatever was there, until this thread asks for the same role again."""
    n_bytes = prod(shape) * np.dtype(dtype).itemsize
    if n_bytes > MOST_BYTES:
        return np.empty(shape, dtype)
    buffer = _kept.__dict__.get(role)
    if buffer is None or buffer.nbytes < n_bytes:
        buffer = _kept.__dict__[role] = np.empty(n_bytes, np.uint8)
    return buffer[:n_bytes].view(dtype).reshape(shape)
