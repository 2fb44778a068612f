"""Frames of a video, as photos."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoomloc.errors import PhotoError
from zoomloc.photo import MAX_SIDE_PX, Photo

SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".3gp", ".mpg", ".mpeg"}
)


def moments(path: Path, every_s: float) -> list[float]:
    """Seconds from the start of a video, one every `every_s`. Raises PhotoError for what is no video."""
    with _open(path) as container:
        length_s = _length_s(container)
    if length_s is None:
        raise PhotoError(f"{path}: does not say how long it is; store it anew, as MP4 for instance")
    return [round(i * every_s, 3) for i in range(max(1, math.ceil(length_s / every_s - 1e-6)))]


def frames(path: Path, at_s: Sequence[float]) -> list[Photo | PhotoError]:
    """The frame shown at each of some moments, which ascend; an error instead where there is none.

    captured_at is the video's own time, where it says one, plus the moment.
    """
    found: list[Photo | PhotoError] = []
    try:
        with _open(path) as container:
            started_at = _started_at(container)
            for moment, frame in zip(at_s, _shown(container, at_s), strict=False):
                at = started_at + timedelta(seconds=moment) if started_at else None
                found.append(Photo(path=path, pixels=_pixels(frame), captured_at=at))
    except PhotoError as error:
        return [error] * len(at_s)
    except Exception:  # FFmpeg's errors are of many kinds; frames before the fault are kept
        pass
    missing = [
        PhotoError(f"{path}: no frame can be read at {moment:g} s; it is broken or cut off")
        for moment in at_s[len(found) :]
    ]
    return found + missing


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    import av

    if not path.is_file():
        raise PhotoError(f"{path}: no such file; check the path")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError, ValueError):
        raise PhotoError(
            f"{path}: not a video that can be read; store it anew, as MP4 for instance"
        ) from None
    with container:
        if not container.streams.video:
            raise PhotoError(f"{path}: holds no pictures; give a video")
        yield container


def _shown(container: Any, at_s: Sequence[float]) -> Iterator[Any]:
    """The last frame that began at or before each moment: found from the key frame before the first, forwards."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    start_s = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0
    if at_s[0] > 0:
        container.seek(int((start_s + at_s[0]) / stream.time_base), stream=stream, backward=True)
    shown, wanted = None, iter(at_s)
    moment = next(wanted)
    for frame in container.decode(stream):
        # A frame that begins after the moment ends the one shown then; the first frame may itself begin late.
        while shown is not None and frame.time - start_s > moment + 1e-6:
            yield shown
            following = next(wanted, None)
            if following is None:
                return
            moment = following
        shown = frame
    if shown is not None:
        yield shown


def _pixels(frame: Any) -> Any:
    """Upright (h, w, 3) uint8, the long side at most MAX_SIDE_PX."""
    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.rot90(np.asarray(picture), round(frame.rotation / 90)))


def _length_s(container: Any) -> float | None:
    stream = container.streams.video[0]
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration is not None else None


def _started_at(container: Any) -> datetime | None:
    told = container.metadata.get("creation_time") or container.streams.video[0].metadata.get("creation_time")
    try:
        moment = datetime.fromisoformat(told) if told else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
