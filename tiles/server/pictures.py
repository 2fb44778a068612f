"""Pictures made in a bounded number of threads, each once at a time, the latest kept."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """An encoded picture, its ETag: a hash of its bytes, so strong and the same in every process; and the part of it
    that was made up, 0..1."""

    body: bytes
    etag: str
    synthetic: float = 0.0


Make = Callable[[], tuple[bytes, float]]  # a picture's bytes, and the part of it that was made up


class Pictures:
    """Encoded pictures by key.

    cache_bytes: what the kept ones may take together. threads: how many are made at once; None for Python's
    default, some more than there are cores, for sources may wait for a network. However many clients ask, no
    more memory is in use than these need; the other requests wait in line. Large ones have a line of their
    own, one at a time, for each needs much memory and time.
    """

    def __init__(self, *, cache_bytes: int, threads: int | None = None) -> None:
        self._cache_bytes = cache_bytes
        self._threads = ThreadPoolExecutor(threads, "render")
        self._thread_for_large = ThreadPoolExecutor(1, "render-large")
        self._kept: OrderedDict[Hashable, Picture] = OrderedDict()
        self._bytes = 0
        self._under_way: dict[Hashable, _Work] = {}

    @property
    def waited_for(self) -> int:
        """How many pictures clients wait for now."""
        return len(self._under_way)

    def kept(self, key: Hashable) -> Picture | None:
        """The picture of a key if it is kept."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    async def get(self, key: Hashable, make: Make, *, large: bool = False) -> Picture:
        """The picture of a key, made by `make` in another thread unless it is kept or under way.

        When all who wait for a picture are cancelled before its turn comes, it is not made.
        """
        if picture := self.kept(key):
            return picture
        if key not in self._under_way:
            self._under_way[key] = _Work(asyncio.create_task(self._make(key, make, large)))
        work = self._under_way[key]
        work.waiting += 1
        try:
            return await asyncio.shield(work.task)
        finally:
            work.waiting -= 1
            if work.waiting == 0:
                del self._under_way[key]
                work.task.cancel()  # of no effect where it is done

    async def _make(self, key: Hashable, make: Make, large: bool) -> Picture:
        threads = self._thread_for_large if large else self._threads
        body, synthetic = await asyncio.get_running_loop().run_in_executor(threads, make)
        picture = Picture(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', synthetic)
        self._keep(key, picture)
        return picture

    def _keep(self, key: Hashable, picture: Picture) -> None:
        self._kept[key] = picture
        self._bytes += len(picture.body)
        while self._bytes > self._cache_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1].body)


@dataclass
class _Work:
    """A picture being made, and how many wait for it."""

    task: asyncio.Task[Picture]
    waiting: int = 0
