"""Walks: the photos of a folder, or the frames of a video, located together in the order of their times."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zoomloc.batch.decode import Decoded, ahead
from zoomloc.batch.jobs import Job
from zoomloc.checkpoint import fingerprint
from zoomloc.errors import TrackError
from zoomloc.grid import Grid
from zoomloc.localizer import ANSWER_RADIUS_M, Localizer, predict
from zoomloc.photo import Photo
from zoomloc.posterior import Leaves
from zoomloc.prediction import Prediction
from zoomloc.priors import Evidence, Facing, Prior
from zoomloc.progress import progress
from zoomloc.region import Region
from zoomloc.rows import Row, of_prediction
from zoomloc.sequence import Motion, Sighting, sighting, smooth

AT_ONCE = 8
TOP_K = 3


@dataclass(frozen=True)
class Fix:
    """One photo of a walk. prediction: by all photos of the walk. alone: the centre, (lat, lon), of the likeliest leaf
    by this photo alone; None where it gives none."""

    photo: Photo
    seconds: float
    prediction: Prediction
    row: Row
    alone: tuple[float, float] | None


@dataclass(frozen=True)
class Walks:
    """What became of photos: fixes of each walk in the order of time, and a row for every photo that failed."""

    walks: list[list[Fix]]
    failed: list[Row]

    @property
    def rows(self) -> list[Row]:
        return [*(fix.row for walk in self.walks for fix in walk), *self.failed]


@dataclass(frozen=True)
class _Seen:
    """What is kept of a photo until its walk is complete."""

    job: Job
    photo: Photo
    seconds: float
    sighting: Sighting
    alone: tuple[float, float] | None


@dataclass
class _Clock:
    """Times of photos in seconds, from themselves or told otherwise."""

    told: Mapping[Path, datetime]
    zones: set[bool] = field(default_factory=set)

    def seconds(self, decoded: Decoded) -> float | None:
        if decoded.job.frame_s is not None:
            return decoded.job.frame_s
        assert decoded.photo is not None
        moment = self.told.get(decoded.job.path, decoded.photo.captured_at)
        if moment is None:
            return None
        self.zones.add(moment.tzinfo is not None)
        return seconds(moment)


def seconds(moment: datetime) -> float:
    """A time as a number that can be compared with those of the same clock: one without a zone is read as UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def follow(
    localizer: Localizer,
    region: Region,
    jobs: Sequence[Job],
    *,
    motion: Motion,
    times: Mapping[Path, datetime] | None = None,
    known: Sequence[Prior] = (),
    own: Callable[[Photo], Sequence[Prior | Facing]] = lambda photo: (),
    radius_m: float = ANSWER_RADIUS_M,
) -> Walks:
    """Locate walks, those of every folder and every video apart.

    times: of photos that do not tell theirs, or tell it wrongly. known: of each walk as a whole. own: what is known of
    a photo besides what it shows. Raises TrackError where no photo can be read or has a
    time, or some know their time zone and others do not; CheckpointError; tiles.TilesError.
    """
    if localizer.index(region).blank:
        raise TrackError(f"region '{region.name}': no imagery but what was made up; add imagery of it")
    closed = localizer.index(region).closed
    clock, model = _Clock(times or {}), fingerprint(localizer.model)
    seen: list[_Seen] = []
    failed: list[Row] = []
    batches = [jobs[i : i + AT_ONCE] for i in range(0, len(jobs), AT_ONCE)]
    coming = ahead(batches, localizer.model.config.photo_px)
    for batch in progress(coming, f"locating {len(jobs)} photos", len(batches)):
        timed = [(each, None if each.photo is None else clock.seconds(each)) for each in batch]
        seen += _seen(localizer, region, [(each, at) for each, at in timed if at is not None], motion, own)
        failed += [_failure(each, model) for each, at in timed if at is None]
    if not seen:
        raise TrackError(str(failed[0].reason) if failed else "no photos; name a folder with photos")
    if len(clock.zones) > 1:
        raise TrackError("some photos know their time zone and others do not; give all times with --gpx")
    seen.sort(key=lambda each: (each.job.walk, each.seconds, each.job.path))
    answer = partial(
        predict, region=region, how="posterior", top_k=TOP_K, radius_m=radius_m, threshold=localizer.threshold
    )
    walks = [list(walk) for _, walk in groupby(seen, lambda each: each.job.walk)]
    of_walk = Evidence(known, region.grid) if known else None
    return Walks(
        [_walked(walk, region.grid, motion, of_walk, answer, model, closed) for walk in walks], failed
    )


def _seen(
    localizer: Localizer,
    region: Region,
    timed: Sequence[tuple[Decoded, float]],
    motion: Motion,
    own: Callable[[Photo], Sequence[Prior | Facing]],
) -> list[_Seen]:
    """What each photo of a batch says by itself."""
    if not timed:
        return []
    pixels = np.stack([each.pixels for each, _ in timed if each.pixels is not None])
    fovs = [np.nan if each.photo is None else each.photo.fov_deg or np.nan for each, _ in timed]
    priors = [[] if each.photo is None else own(each.photo) for each, _ in timed]
    evidence = [Evidence(its, region.grid) if its else None for its in priors]
    features = localizer.encode(torch.from_numpy(pixels), torch.tensor(fovs))
    leaves = localizer.zoom(features, region, evidence=evidence if any(evidence) else None)
    return [
        _Seen(each.job, each.photo, at, sighting(found, region.grid, motion), _best(found, region))
        for (each, at), found in zip(timed, leaves, strict=True)
        if each.photo is not None
    ]


def _best(leaves: Leaves, region: Region) -> tuple[float, float] | None:
    if not len(leaves.paths):
        return None
    grid = region.grid
    return grid.unproject(*grid.centre(grid.cell(tuple(leaves.paths[0].tolist()))))


def _failure(decoded: Decoded, model: str) -> Row:
    job = decoded.job
    reason = decoded.reason or f"{job.file}: tells no time; give one with --gpx"
    return Row(file=job.file, frame_s=job.frame_s, reason=reason, model=model)


def _walked(
    walk: Sequence[_Seen],
    grid: Grid,
    motion: Motion,
    known: Evidence | None,
    answer: Callable[..., Prediction],
    model: str,
    closed: NDArray[np.bool_] | None,
) -> list[Fix]:
    """The fixes of one walk. closed: see `Leaves`."""
    seconds = [each.seconds for each in walk]
    _, beliefs = smooth([each.sighting for each in walk], seconds, grid, motion, known)
    fixes = []
    for each, belief in zip(walk, beliefs, strict=True):
        prediction = answer(replace(belief.leaves(grid), closed=closed), name=each.job.file)
        row = of_prediction(prediction, each.photo, min_confidence=0.0, frame_s=each.job.frame_s, model=model)
        fixes.append(Fix(each.photo, each.seconds, prediction, row, each.alone))
    return fixes
