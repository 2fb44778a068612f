"""The photos of a folder, each with what it says of itself."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data_prep import duplicates
from data_prep.journal import Journal, stamp_of
from data_prep.report import Rejected
from data_prep.threads import in_threads
from zoomloc import photo
from zoomloc.errors import PhotoError, SourceError

RAW = {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw"}
OURS = {"map.png"}  # written beside a manifest


@dataclass(frozen=True)
class Shot:
    """What a photo says of itself, and its fingerprint. captured_at: ISO 8601, with a zone if the photo has one."""

    name: str
    fingerprint: str
    lat: float | None
    lon: float | None
    accuracy_m: float | None
    heading_deg: float | None
    fov_deg: float | None
    captured_at: str | None
    projection: str
    creator: str | None
    rights: str | None


def find(folder: Path, out: Path) -> tuple[list[str], list[Rejected]]:
    """Names of the images under a folder, relative to it; raw files are refused. What starts with a dot, or lies
    in `out`, is none of them."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; name the one with the photos")
    names, raw = [], []
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if not _skipped(here / name, out))
        for name in sorted(files):
            path = here / name
            relative = path.relative_to(folder).as_posix()
            if name.startswith(".") or relative in OURS:
                continue
            if path.suffix.lower() in photo.SUFFIXES:
                names.append(relative)
            elif path.suffix.lower() in RAW:
                raw.append(Rejected(relative, "a raw file; export it as JPEG"))
    if not names and not raw:
        raise SourceError(f"{folder}: holds no photos; name the folder with the photos")
    return names, raw


def _skipped(folder: Path, out: Path) -> bool:
    return folder.name.startswith((".", "@")) or folder.resolve() == out.resolve()


def read(folder: Path, names: Sequence[str], journal: Journal) -> Iterator[Shot | Rejected]:
    """What every photo says, in order: remembered, or read."""

    def look(name: str) -> tuple[list[int], Shot | Rejected, bool]:
        path, sidecar = folder / name, _sidecar(folder / name)
        stamp = stamp_of(path) + (stamp_of(sidecar) if sidecar else [])
        if facts := journal.recall(name, stamp):
            return stamp, (Rejected if "reason" in facts else Shot)(**facts), True
        return stamp, _read(path, sidecar, name), False

    found = in_threads(look, names, "reading photos")
    for name, (stamp, shot, known) in zip(names, found, strict=True):
        if not known:
            journal.note(name, stamp, asdict(shot))
        yield shot


def _sidecar(path: Path) -> Path | None:
    """`photo.jpg.xmp`, or else `photo.xmp`, beside `photo.jpg`."""
    stems = (path, path.with_suffix(""))
    names = (path.with_name(stem.name + suffix) for stem in stems for suffix in (".xmp", ".XMP"))
    return next((name for name in names if name.is_file()), None)


def _read(path: Path, sidecar: Path | None, name: str) -> Shot | Rejected:
    try:
        loaded = photo.load(path, sidecar)
    except PhotoError as error:
        return Rejected(name, str(error).removeprefix(f"{path}: "))
    return Shot(
        name=name,
        fingerprint=duplicates.fingerprint(loaded.pixels),
        lat=loaded.lat,
        lon=loaded.lon,
        accuracy_m=loaded.accuracy_m,
        heading_deg=loaded.heading_deg,
        fov_deg=loaded.fov_deg,
        captured_at=loaded.captured_at.isoformat() if loaded.captured_at else None,
        projection=loaded.projection,
        creator=loaded.creator,
        rights=loaded.rights,
    )
