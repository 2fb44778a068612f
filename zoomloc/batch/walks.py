"""Walks in a batch: photos of a folder, or frames of a video, are located together once all of them have been seen.

What each photo says by itself is kept on disk, batch by batch, beside the journal. So a run that was killed goes on
where it was, and in the end follows the walks by the very same numbers. Of several regions a walk is followed in each,
and every photo of it is answered with the likeliest.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoomloc.batch.decode import NOTHING, Decoded
from zoomloc.batch.jobs import Job, digest
from zoomloc.batch.run import Batch
from zoomloc.errors import ConfigError, OutputError
from zoomloc.files import atomic
from zoomloc.photo import Photo
from zoomloc.posterior import Leaves
from zoomloc.priors import Evidence, Facing, Prior
from zoomloc.rows import Row
from zoomloc.sequence import Motion, Sighting, sighting, smooth
from zoomloc.track import seconds

TIMELESS = "tells no time, and so has no place in a walk; leave it out, or do without --sequence"


class _Note(NamedTuple):
    """What is kept of a photo until its walk is complete: the photo without its pixels; its time, if a frame's that
    from the start of the video; whether that is of a known zone; what it says by itself of each region."""

    photo: Photo
    seconds: float
    zoned: bool
    seen: list[Sighting]


@dataclass
class Walks(Batch):
    """A batch that locates walks as a whole. motion: how one moved. folder: where it keeps what it saw.

    Raises ConfigError for options that walks cannot be located with.
    """

    motion: Motion = field(default_factory=Motion)
    folder: Path = Path()

    def __post_init__(self) -> None:
        if self.options.how != "posterior":
            raise ConfigError("--sequence: locates walks by their posteriors; leave out --search")
        super().__post_init__()
        self._of_walks = [
            Evidence(self._known, region.grid) if self._known else None for region in self.regions
        ]
        self._seen: dict[Job, list[Sighting]] = {}
        self._photos: dict[Job, Photo] = {}

    def settings(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """All that decides the results, for the journal."""
        return super().settings(jobs) | {"sequence": asdict(self.motion)}

    def rows(self, jobs: Sequence[Job]) -> Iterator[list[Row]]:
        """What every photo says by itself, batch after batch, kept before it is told. Raises OutputError."""
        for batch, rows in zip(self.batches(jobs), super().rows(jobs), strict=True):
            self._keep(batch)
            yield rows

    def concluded(self, jobs: Sequence[Job], rows: Sequence[Row]) -> list[Row]:
        """The rows of whole walks, in the order of the jobs. Raises OutputError for what was not kept."""
        place = {job: (self._place(batch), i) for batch in self.batches(jobs) for i, job in enumerate(batch)}
        told = dict(zip(jobs, rows, strict=True))
        timed = sorted((job for job in jobs if told[job].status != "failed"), key=_walk)
        for _, walk in groupby(timed, _walk):
            notes = {job: _note(job, told[job], *place[job], len(self.regions)) for job in walk}
            told |= {
                job: replace(row, milliseconds=told[job].milliseconds)
                for job, row in self._followed(notes).items()
            }
        return [told[job] for job in jobs]

    def _row(self, decoded: Decoded, found: list[Leaves] | None, share_s: float) -> Row:
        assert decoded.photo is not None
        if found is not None and decoded.job.frame_s is None and decoded.photo.captured_at is None:
            return self._failed(decoded, TIMELESS)
        if found is not None:
            each = zip(found, self.regions, strict=True)
            self._seen[decoded.job] = [sighting(leaves, region.grid, self.motion) for leaves, region in each]
            self._photos[decoded.job] = decoded.photo
        return super()._row(decoded, found, share_s)

    def _priors(self, decoded: Decoded) -> list[Prior | Facing]:
        """Its own: what is known of all photos counts once a walk, not once a photo."""
        return self._own(decoded)

    def _followed(self, notes: dict[Job, _Note]) -> dict[Job, Row]:
        """The rows of one walk. Where some photos know their time zone and others do not, the fewer fail."""
        zoned = Counter(note.zoned for note in notes.values()).most_common(1)[0][0]
        order = [job for job, note in notes.items() if note.zoned == zoned]
        order.sort(key=lambda job: (notes[job].seconds, job.path))
        at = [notes[job].seconds for job in order]
        by_region = [
            smooth([notes[job].seen[i] for job in order], at, region.grid, self.motion, known)[1]
            for i, (region, known) in enumerate(zip(self.regions, self._of_walks, strict=True))
        ]
        rows = {}
        for job, *beliefs in zip(order, *by_region, strict=True):
            leaves = [
                replace(belief.leaves(region.grid), closed=self.localizer.index(region).closed)
                for belief, region in zip(beliefs, self.regions, strict=True)
            ]
            rows[job] = super()._row(_decoded(job, notes[job]), leaves, 0.0)
        odd = f"tells its time with{'out' if zoned else ''} a zone, unlike most of its walk; let all have one, or none"
        return {job: rows.get(job) or self._failed(_decoded(job, note), odd) for job, note in notes.items()}

    def _keep(self, batch: Sequence[Job]) -> None:
        """What was seen of a batch, so that no kill undoes it."""
        parts: dict[str, Any] = {}
        for i, job in enumerate(batch):
            if job not in self._seen:
                continue
            photo = self._photos.pop(job)
            parts[f"{i}"] = np.array([photo.lat, photo.lon], np.float64)  # None becomes nan
            for n, seen in enumerate(self._seen.pop(job)):
                parts[f"{i}.{n}.leaves"] = seen.numbers
                parts[f"{i}.{n}.said"] = np.append(seen.likelihood, [seen.others, seen.not_here])
        with atomic(self._place(batch)) as draft, draft.open("wb") as file:
            np.savez(file, **parts)
            file.flush()
            os.fsync(file.fileno())

    def _place(self, batch: Sequence[Job]) -> Path:
        return self.folder / f"{digest(batch)}.npz"


def _walk(job: Job) -> Path:
    return job.walk


def _decoded(job: Job, note: _Note) -> Decoded:
    return Decoded(job, note.photo, None, None, 0.0)


def _note(job: Job, row: Row, path: Path, i: int, n_regions: int) -> _Note:
    """What was kept of a photo. Raises OutputError."""
    moment = datetime.fromisoformat(row.captured_at) if row.captured_at else None
    try:
        with np.load(path) as parts:
            lat, lon = (None if value != value else float(value) for value in parts[f"{i}"])
            said = [(parts[f"{i}.{n}.leaves"], parts[f"{i}.{n}.said"]) for n in range(n_regions)]
    except (OSError, KeyError, ValueError):
        raise OutputError(
            f"{path}: gone or damaged, so the walk cannot be followed; delete the journal to begin again"
        ) from None
    photo = Photo(job.path, NOTHING, lat, lon, captured_at=moment)
    seen = [Sighting(its, each[:-2], float(each[-2]), float(each[-1])) for its, each in said]
    if job.frame_s is not None or moment is None:
        return _Note(photo, job.frame_s or 0.0, False, seen)
    return _Note(photo, seconds(moment), moment.tzinfo is not None, seen)
