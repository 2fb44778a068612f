"""Work on many photos by several threads: decoding and warping free them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from zoomloc.progress import progress

S = TypeVar("S")
T = TypeVar("T")


def in_threads(work: Callable[[S], T], items: Sequence[S], what: str) -> Iterator[T]:
    """Results in the order of the items, with progress. Whatever stops the run, no further item is begun."""
    pool = ThreadPoolExecutor()
    try:
        yield from progress(pool.map(work, items), what, len(items))
    finally:
        pool.shutdown(cancel_futures=True)
