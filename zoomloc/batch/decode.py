"""Photos decoded by several threads, some batches ahead of the model."""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from zoomloc import remote, video
from zoomloc.batch.jobs import Job
from zoomloc.encoder import shrink
from zoomloc.errors import PhotoError
from zoomloc.panorama import views
from zoomloc.photo import MAX_SIDE_PX, Photo, load

BATCHES_AHEAD = 3
# How much larger than what the model sees photos are decoded: the finer detail would be averaged away.
FINER = 3
NOTHING = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Decoded:
    """A photo as the model takes it: pixels (px, 2 px, 3) uint8; in `photo` only the facts are kept. Or why not.

    around: of a photo of the whole sphere, its views likewise, (views, px, 2 px, 3).
    """

    job: Job
    photo: Photo | None
    pixels: NDArray[np.uint8] | None
    reason: str | None
    seconds: float
    around: NDArray[np.uint8] | None = None


def ahead(batches: Sequence[Sequence[Job]], px: int) -> Iterator[list[Decoded]]:
    """Batch after batch, decoded while those before are worked on. px: a side of the model's squares."""
    pool = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1), thread_name_prefix="decode")
    waiting: deque[list[Future[list[Decoded]]]] = deque()
    coming = iter(batches)
    try:
        while True:
            while len(waiting) <= BATCHES_AHEAD and (batch := next(coming, None)) is not None:
                waiting.append([pool.submit(decode, part, px) for part in _parts(batch)])
            if not waiting:
                return
            yield [decoded for part in waiting.popleft() for decoded in part.result()]
    finally:
        pool.shutdown(cancel_futures=True)


def decode(jobs: Sequence[Job], px: int) -> list[Decoded]:
    """A photo, or the frames of one video, which are read in one go."""
    began = time.perf_counter()
    photos = _frames(jobs) if jobs[0].frame_s is not None else [_photo(job, px) for job in jobs]
    found = [_decoded(job, photo, px) for job, photo in zip(jobs, photos, strict=True)]
    seconds = (time.perf_counter() - began) / len(jobs)
    return [replace(each, seconds=seconds) for each in found]


def _parts(batch: Sequence[Job]) -> Iterator[list[Job]]:
    """Photos one by one, frames that follow each other in a video together."""
    for video_path, part in groupby(batch, lambda job: job.path if job.frame_s is not None else None):
        jobs = list(part)
        yield from [jobs] if video_path else ([job] for job in jobs)


def _photo(job: Job, px: int) -> Photo | PhotoError:
    side_px = MAX_SIDE_PX if job.projection == "spherical" else min(FINER * 2 * px, MAX_SIDE_PX)
    try:
        if job.uri is None:
            return load(job.path, max_side_px=side_px)
        return load(job.path, content=remote.content(job.uri), max_side_px=side_px)
    except PhotoError as error:
        return PhotoError(str(error).replace(str(job.path), job.uri)) if job.uri else error
    except Exception as error:  # whatever a file does to a decoder must not end a run of hours
        return PhotoError(f"{job.file}: cannot be used ({type(error).__name__}: {error}); leave it out")


def _frames(jobs: Sequence[Job]) -> list[Photo | PhotoError]:
    return video.frames(jobs[0].path, [job.frame_s or 0.0 for job in jobs])


def _decoded(job: Job, photo: Photo | PhotoError, px: int) -> Decoded:
    if isinstance(photo, PhotoError):
        return Decoded(job, None, None, str(photo), 0.0)
    whole = job.completed(photo)
    around = [shrink(view, px) for view in views(whole)]
    return Decoded(
        job,
        replace(whole, pixels=NOTHING),
        shrink(photo.pixels, px),
        None,
        0.0,
        np.stack(around) if around else None,
    )
