"""The run of a batch: decoded photos in, rows out, noted as they are found."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Group
from rich.live import Live
from rich.text import Text
from torch import Tensor

from zoomloc import index, panorama, tables
from zoomloc.batch import regions as competing
from zoomloc.batch.decode import Decoded, ahead
from zoomloc.batch.jobs import Job, digest
from zoomloc.batch.journal import Journal
from zoomloc.batch.tally import Tally
from zoomloc.checkpoint import fingerprint
from zoomloc.errors import CheckpointError, ConfigError, OutputError, PriorError, RegionError
from zoomloc.localizer import ANSWER_RADIUS_M, Localizer, Search, predict
from zoomloc.posterior import Leaves
from zoomloc.priors import Evidence, Facing, Prior, all_of_photo, asked, tracks
from zoomloc.progress import bar
from zoomloc.region import Region
from zoomloc.rows import Row, of_prediction

AT_ONCE = {"cuda": 64, "cpu": 8}  # photos in a batch, where the user leaves it to us


@dataclass(frozen=True)
class Options:
    """What decides the results beside photos, regions and model.

    near, within: what is known of all photos, as `priors.asked` takes it. gps_sigma_m, heading_sigma_deg: how far the
    position and the heading in each photo's EXIF may be off, 0 for what its camera says or is usual, None to leave
    them out. gpx, time_offset: as `priors.tracks` takes them. batch_size: None for as many as fit.
    """

    how: Search = "posterior"
    top_k: int = 5
    radius_m: float = ANSWER_RADIUS_M
    min_confidence: float = 0.5
    near: str | None = None
    within: str | None = None
    gps_sigma_m: float | None = None
    gpx: tuple[str, ...] = ()
    time_offset: str | None = None
    heading_sigma_deg: float | None = None
    batch_size: int | None = None


@dataclass
class Stages:
    """Seconds spent: decoding (of all threads together), waiting for it, on photos, on the search, on the journal."""

    decode: float = 0.0
    wait: float = 0.0
    encode: float = 0.0
    search: float = 0.0
    write: float = 0.0


@dataclass
class Batch:
    """A model and the regions it is asked about.

    Raises CheckpointError where they do not fit, RegionError for two of one name, PriorError for options that are not
    understood.
    """

    localizer: Localizer
    regions: Sequence[Region]
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        competing.check(self.localizer.model, len(self.regions))
        for region in self.regions:
            self.localizer.check_fits(region)
        o = self.options
        if o.how != "posterior" and {o.near, o.within, o.gps_sigma_m, o.heading_sigma_deg} != {None}:
            raise PriorError(f"--search {o.how}: cannot use what else is known; use --search posterior")
        if o.heading_sigma_deg is not None and not self.localizer.states_headings:
            raise CheckpointError("the checkpoint says nothing of headings; leave out --heading-from-exif")
        if len({region.name for region in self.regions}) < len(self.regions):
            raise RegionError("two regions have the same name, and could not be told apart; rename one")
        self._known = _asked(self.options, self.regions)
        self._clock = tracks(o.gpx, o.time_offset, o.gps_sigma_m)
        self.stages = Stages()
        self.model = fingerprint(self.localizer.model)
        self.size = self.options.batch_size or AT_ONCE.get(self.localizer.device.type, 8)
        self._at_once = self.size

    def settings(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """All that decides the results, for the journal."""
        keys = [index.place_on_disk(self.localizer.model, region).name for region in self.regions]
        options = asdict(self.options) | {"batch_size": self.size}
        calibration = repr(self.localizer.calibration)
        return {"photos": digest(jobs), "model or regions": keys, "calibration": calibration} | options

    def prepare(self) -> None:
        """Encode the regions' cells, on disk where that can be written: answers must not depend on which photo was
        the first to need a cell. Raises tiles.TilesError for imagery that fails."""
        for region in self.regions:
            try:
                index.build(self.localizer.model, region)
                self.localizer.index(region)
            except OutputError:
                self.localizer.index(region).fill()

    def rows(self, jobs: Sequence[Job]) -> Iterator[list[Row]]:
        """The rows of every batch of jobs, in order."""
        batches = self.batches(jobs)
        coming = ahead(batches, self.localizer.model.config.photo_px)
        for _ in batches:
            began = time.perf_counter()
            decoded = next(coming)
            self.stages.wait += time.perf_counter() - began
            self.stages.decode += sum(each.seconds for each in decoded)
            yield self._located(decoded)

    def batches(self, jobs: Sequence[Job]) -> list[Sequence[Job]]:
        """The jobs as they are worked on together."""
        return [jobs[i : i + self.size] for i in range(0, len(jobs), self.size)]

    def concluded(self, jobs: Sequence[Job], rows: Sequence[Row]) -> list[Row]:
        """The rows of a whole run, one for each job, as they are to be written."""
        return list(rows)

    def report(self, rows: Sequence[Row], path: Path) -> None:
        """A page on rows of these regions. Raises OutputError."""
        from zoomloc.report import Place, write

        places = [Place(region, self.localizer.index(region).pyramid) for region in self.regions]
        write(path, rows, places, min_confidence=self.options.min_confidence)

    def _located(self, decoded: Sequence[Decoded]) -> list[Row]:
        began = time.perf_counter()
        good = [each for each in decoded if each.pixels is not None]
        found = iter(self._found(good))
        share = (time.perf_counter() - began) / max(len(good), 1)
        began = time.perf_counter()
        rows = [
            self._failed(each) if each.pixels is None else self._row(each, next(found), share)
            for each in decoded
        ]
        self.stages.search += time.perf_counter() - began
        return rows

    def _found(self, good: Sequence[Decoded]) -> list[list[Leaves] | None]:
        """For every photo what each region found; None where one alone is too much for the memory."""
        found: list[list[Leaves] | None] = []
        while len(found) < len(good):
            part = good[len(found) : len(found) + self._at_once]
            try:
                found += self._searched(part)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if self.options.batch_size and len(part) > 1:
                    raise ConfigError(
                        f"{len(part)} photos at a time do not fit into the memory; use --batch-size auto"
                    ) from None
                if len(part) == 1:
                    found.append(None)
                self._at_once = max(1, len(part) // 2)
                if self.localizer.device.type == "cuda":
                    torch.cuda.empty_cache()
        return found

    def _searched(self, part: Sequence[Decoded]) -> list[list[Leaves] | None]:
        """What each region found for every photo; of a panorama, for all of its views together."""
        began = time.perf_counter()
        images = [self._images(each) for each in part]
        fovs = [
            fov
            for each, its in zip(part, images, strict=True)
            for fov in ([_fov_deg(each)] if len(its) == 1 else [panorama.FOV_DEG] * len(its))
        ]
        features = self.localizer.encode(torch.from_numpy(np.concatenate(images)), torch.tensor(fovs))
        if self.localizer.device.type == "cuda":
            torch.cuda.synchronize()
        encoded = time.perf_counter()
        by_region = [self._in_region(features, region, part, images) for region in self.regions]
        self.stages.encode += encoded - began
        self.stages.search += time.perf_counter() - encoded
        return [list(each) for each in zip(*by_region, strict=True)]

    def _images(self, decoded: Decoded) -> NDArray[np.uint8]:
        """What the model is shown of a photo: itself, or its views all around, (n, px, 2 px, 3)."""
        assert decoded.pixels is not None
        around = decoded.around if self.options.how == "posterior" else None
        return decoded.pixels[None] if around is None else around

    def _in_region(
        self, features: Tensor, region: Region, part: Sequence[Decoded], images: Sequence[NDArray[np.uint8]]
    ) -> list[Leaves]:
        known = [Evidence(priors, region.grid) if (priors := self._priors(each)) else None for each in part]
        n_views = [len(its) for its in images]
        return panorama.zoom(self.localizer, features, region, n_views, known, how=self.options.how)

    def _priors(self, decoded: Decoded) -> list[Prior | Facing]:
        """What else is known of a photo."""
        return [*self._known, *self._own(decoded)]

    def _own(self, decoded: Decoded) -> list[Prior | Facing]:
        """What its EXIF and a track say of it."""
        if decoded.photo is None:
            return []
        heading_deg = self.options.heading_sigma_deg if decoded.around is None else None
        return all_of_photo(decoded.photo, self.options.gps_sigma_m, heading_deg, clock=self._clock)

    def _row(self, decoded: Decoded, found: list[Leaves] | None, share_s: float) -> Row:
        assert decoded.photo is not None
        if found is None:
            return self._failed(decoded, "does not fit into the memory even alone; use another --device")
        told, none = competing.compete(found)
        leaves, region = max(zip(told, self.regions, strict=True), key=lambda pair: pair[0].here)
        options = self.options
        prediction = predict(
            leaves,
            region,
            decoded.job.file,
            options.how,
            options.top_k,
            options.radius_m,
            self.localizer.threshold,
        )
        return of_prediction(
            prediction,
            decoded.photo,
            min_confidence=options.min_confidence,
            frame_s=decoded.job.frame_s,
            not_here=none,
            model=self.model,
            milliseconds=1000 * (decoded.seconds + share_s),
        )

    def _failed(self, decoded: Decoded, reason: str | None = None) -> Row:
        job = decoded.job
        return Row(
            file=job.file,
            frame_s=job.frame_s,
            status="failed",
            reason=decoded.reason if reason is None else f"{job.file}: {reason}",
            model=self.model,
            milliseconds=round(1000 * decoded.seconds, 3),
        )


def to_file(
    batch: Batch, jobs: Sequence[Job], out: Path, *, resume: bool, report: Path | None = None
) -> Tally:
    """Locate photos and write their rows, whole at the end; what is done until then survives any kill.

    report: a page on them. Raises OutputError where a stopped run is in the way, does not fit, or nothing can be
    written.
    """
    tables.check_suffix(out)
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; delete it, or choose another --out")
    journal = Journal(out, batch.settings(jobs), resume=resume)
    done = False
    try:
        tally = Tally()
        n_done = 0
        for row in journal.rows():
            tally.add([row])
            n_done += 1
        batch.prepare()
        note_all(batch, jobs, journal.add, tally, n_done)
        rows = batch.concluded(jobs, list(journal.rows()))
        tally = Tally()
        tally.add(rows)
        tables.write(rows, out)
        if report:
            batch.report(rows, report)
        done = True
    finally:
        journal.close(done=done)
    return tally


def note_all(
    batch: Batch, jobs: Sequence[Job], note: Callable[[list[Row]], None], tally: Tally, n_done: int = 0
) -> None:
    """Locate all but the first `n_done` jobs, with a progress bar, and hand on the rows of every batch."""

    def noted() -> Iterator[list[Row]]:
        for rows in batch.rows(jobs[n_done:]):
            at = time.perf_counter()
            note(rows)
            batch.stages.write += time.perf_counter() - at
            yield rows

    show(noted(), tally, len(jobs), n_done)


def show(found: Iterator[list[Row]], tally: Tally, n_jobs: int, n_done: int = 0) -> None:
    """Count rows as they are found, with a progress bar. n_done: those that the tally has already."""
    display, counts = bar("{task.fields[rate]}"), Text(tally.line())
    with Live(Group(display, counts), console=display.console):
        task = display.add_task("locating", total=n_jobs, completed=n_done, rate="")
        began, n_found = time.perf_counter(), 0
        for rows in found:
            n_found += len(rows)
            tally.add(rows)
            rate = f"{n_found / (time.perf_counter() - began):.1f} photos/s"
            display.update(task, advance=len(rows), rate=rate)
            counts.plain = tally.line()
    if not display.console.is_terminal:  # where the display ends in the middle of a line
        display.console.line()


def _fov_deg(decoded: Decoded) -> float:
    return math.nan if decoded.photo is None else decoded.photo.fov_deg or math.nan


def _asked(options: Options, regions: Sequence[Region]) -> list[Prior]:
    """What is known of all photos. Raises PriorError where it is not understood, or off every region."""
    errors = []
    for region in regions:
        try:
            return asked(region, near_text=options.near, within_text=options.within)
        except PriorError as error:
            errors.append(error)
    raise errors[0]


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)
