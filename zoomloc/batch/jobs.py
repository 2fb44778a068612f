"""What there is to do: photos and frames of videos, from folders, globs, manifests and lists."""

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from zoomloc import manifest, remote, video
from zoomloc.errors import PhotoError
from zoomloc.photo import SUFFIXES, Photo


@dataclass(frozen=True)
class Job:
    """A photo to be located, or a frame of a video at frame_s seconds from its start.

    fov_deg, projection: what a manifest says, for photos that do not say it themselves. uri, version: of a photo on a
    server, as `remote.listed` says them; its path then only tells it from others.
    """

    path: Path
    frame_s: float | None = None
    fov_deg: float | None = None
    projection: str | None = None
    uri: str | None = None
    version: str | None = None

    @property
    def file(self) -> str:
        """The URI, or the path as text that any file can hold, whatever bytes the name is made of."""
        return self.uri or os.fsencode(self.path).decode("utf-8", "replace")

    @property
    def walk(self) -> Path:
        """Photos of a folder make a walk, and frames of a video."""
        return self.path.parent if self.frame_s is None else self.path

    def completed(self, photo: Photo) -> Photo:
        """The photo with what the manifest knows of it besides."""
        fov_deg = self.fov_deg if photo.fov_deg is None else photo.fov_deg
        projection = (self.projection if photo.projection == "perspective" else None) or photo.projection
        return replace(photo, fov_deg=fov_deg, projection=projection)


def find(named: Iterable[str], *, every_s: float, listed: TextIO, split: str | None = None) -> list[Job]:
    """The jobs of what was named, each file once, in the order named; a folder's in the order of their paths.

    named: photos, videos, folders (searched with all below them), globs, URIs of such (s3://bucket/folder), manifests
    (.parquet), or "-": one of these on each line of `listed`. Of videos a frame every `every_s` seconds; one that
    cannot be opened becomes one job, to fail. split: of manifests. Raises PhotoError where nothing is found,
    ManifestError.
    """
    names = [name for each in named for name in (_lines(listed) if each == "-" else [each])]
    photos = {job.path: job for name in names for job in _of(name, split)}
    jobs = [job for photo in photos.values() for job in _frames(photo, every_s)]
    if not jobs:
        raise PhotoError(f"no photos in {', '.join(names) or 'the list'}; name photos, folders or a manifest")
    return jobs


def digest(jobs: Sequence[Job]) -> str:
    """A short text that changes when the jobs do, or the size or age of one of their files."""
    told = hashlib.sha256()
    for job in jobs:
        facts = (
            os.fsencode(job.path),
            job.frame_s,
            job.fov_deg,
            job.projection,
            job.version or _stat(job.path),
        )
        told.update(repr(facts).encode())
    return told.hexdigest()[:16]


def _lines(listed: TextIO) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in listed if line.strip())


def _of(name: str, split: str | None) -> Iterator[Job]:
    path = Path(name)
    if remote.is_remote(name):
        yield from (Job(Path(uri), uri=uri, version=version or None) for uri, version in remote.listed(name))
    elif path.suffix.lower() == ".parquet":  # a folder of that name is one in shards
        yield from _of_manifest(path, split)
    elif path.is_dir():
        yield from map(Job, sorted(_below(path)))
    elif glob.has_magic(name) and not path.exists():
        found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (a pattern may be absolute)
        if not found:
            raise PhotoError(f"{name}: nothing goes by this pattern; check it")
        yield from (job for each in found for job in _of(each, split))
    else:  # what is not there, or no photo, fails as a row
        yield Job(path)


def _below(folder: Path) -> Iterator[Path]:
    """Photos and videos of a folder and those in it, hidden ones left out."""
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES | video.SUFFIXES:
                yield Path(here) / name


def _of_manifest(path: Path, split: str | None) -> Iterator[Job]:
    rows = manifest.read(path, split)
    for photo, fov, projection in zip(rows["photo"], rows["fov"], rows["projection"], strict=True):
        yield Job(path.parent / photo, fov_deg=None if fov != fov else fov, projection=projection)


def _frames(job: Job, every_s: float) -> Iterator[Job]:
    if job.uri or job.path.suffix.lower() not in video.SUFFIXES:
        yield job
        return
    try:
        moments = video.moments(job.path, every_s)
    except PhotoError:
        moments = [0.0]
    yield from (replace(job, frame_s=moment) for moment in moments)


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
