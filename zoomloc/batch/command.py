"""`zoomloc batch` and `zoomloc tag`, as the command line has them; what they do is imported when they are asked for."""

import re
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from zoomloc.errors import ConfigError, OutputError
from zoomloc.options import (
    Address,
    Device,
    Engine,
    EngineName,
    GpsPrior,
    Gpx,
    HeadingPrior,
    Near,
    SearchName,
    TimeOffset,
    Within,
)
from zoomloc.track_command import Pace

if TYPE_CHECKING:
    from zoomloc.batch.jobs import Job
    from zoomloc.batch.run import Batch, Options
    from zoomloc.batch.tally import Tally
    from zoomloc.batch.walks import Walks
    from zoomloc.localizer import Localizer
    from zoomloc.region import Region
    from zoomloc.rows import Row

SOME_FAILED = 1
MIN_CONFIDENCE = 0.5


def batch(
    photos: Annotated[
        list[str],
        typer.Argument(
            help="Photos, videos, folders, globs, manifests (.parquet), s3:// and gs://; - reads names from stdin."
        ),
    ],
    region: Annotated[list[Path], typer.Option(help="Region file (JSON). Repeat for several.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Results: .csv .jsonl .geojson .parquet .fgb .gpkg .kml .gpx, with --engine ray a folder .parquet;"
            " without, JSON lines go to stdout."
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page to look at here (.html).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    every: Annotated[str, typer.Option(help="Of videos, a frame each so much: 1s, 500ms, 2.5.")] = "1s",
    split: Annotated[str | None, typer.Option(help="Of manifests, only this split.")] = None,
    search: Annotated[SearchName, typer.Option(help="How to search the tree.")] = SearchName.posterior,
    top: Annotated[int, typer.Option(min=1, help="Places to list.")] = 5,
    radius: Annotated[float, typer.Option(min=1, help="Metres around the answer that count as right.")] = 40,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="What is less sure is uncertain, not located.")
    ] = MIN_CONFIDENCE,
    near: Near = None,
    within: Within = None,
    gps_prior: GpsPrior = None,
    gpx: Gpx = None,
    time_offset: TimeOffset = None,
    heading_prior: HeadingPrior = None,
    sequence: Annotated[
        Pace | None,
        typer.Option(
            help="The photos of a folder are one walk, and frames of a video: locate them together."
        ),
    ] = None,
    batch_size: Annotated[str, typer.Option(help="Photos at a time; auto: as many as fit.")] = "auto",
    device: Device = "auto",
    engine: Engine = EngineName.local,
    address: Address = None,
) -> None:
    """Locate many photos, and write what people can use."""
    on_ray = engine is EngineName.ray
    if address and not on_ray:
        raise ConfigError("--address: is that of a Ray cluster; add --engine ray")
    if sequence and on_ray:
        raise ConfigError("--sequence: locates walks as a whole, on one machine; leave out --engine ray")
    if resume and not out:
        raise OutputError("--resume goes on with a file of results; name it with --out")
    from zoomloc import cluster, tables
    from zoomloc.batch import jobs, run, shards, tally, walks
    from zoomloc.batch.journal import place
    from zoomloc.localizer import Localizer
    from zoomloc.region import Region

    if on_ray:
        shards.check_out(out, resume=resume)
    elif out:
        tables.check_suffix(out)
    if report and report.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{report}: a report is a page; let its name end in .html")
    work = jobs.find(photos, every_s=_seconds(every), listed=sys.stdin, split=split)
    regions = [Region.load(path) for path in region]
    options = run.Options(
        how=search.value,
        top_k=top,
        radius_m=radius,
        min_confidence=min_confidence,
        near=near,
        within=within,
        gps_sigma_m=gps_prior,
        gpx=tuple(map(str, gpx or ())),
        time_offset=time_offset,
        heading_sigma_deg=heading_prior,
        batch_size=_batch_size(batch_size),
    )
    localizer = Localizer.from_pretrained(checkpoint, device="cpu" if on_ray else device)
    asked = _asked(localizer, regions, options, sequence, out)
    if dry_run:
        _describe(asked, work, out, resume=resume)
        return
    counts = tally.Tally()
    if out is None and isinstance(asked, walks.Walks):
        counts = _walks_to_stdout(asked, work, report)
    elif out is None:
        found: list[Row] = []
        asked.prepare()
        run.note_all(asked, work, lambda some: _note(some, found if report else None), counts)
        if report:
            asked.report(found, report)
    elif resume and out.exists() and not place(out).exists():
        _say(f"{out}: complete already; delete it to begin again")
        complete = tables.read(out) if out.suffix.lower() in tables.READERS else []
        counts.add(complete)
        if report and complete:
            asked.report(complete, report)
    else:
        try:
            if on_ray:
                with cluster.connected(address) as said:
                    _say(said)
                    counts = shards.to_shards(
                        asked, work, checkpoint, out, device=device, resume=resume, report=report
                    )
            else:
                counts = run.to_file(asked, work, out, resume=resume, report=report)
        except KeyboardInterrupt:
            _say("what is done is kept; give the same command with --resume to go on")
            raise
    _finish(counts)


def tag(
    results: Annotated[Path, typer.Argument(help="What `zoomloc batch --out` wrote.")],
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Leave photos alone whose answer is less sure.")
    ] = MIN_CONFIDENCE,
    backup: Annotated[bool, typer.Option(help="Keep each file as it was, as NAME_original.")] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace positions that photos have already.")
    ] = False,
    sidecar: Annotated[
        bool, typer.Option("--sidecar", help="Write NAME.xmp beside photos, and nothing into them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Write estimated positions into photos' EXIF, marked as estimates; the pixels stay as they are."""
    from zoomloc import tables
    from zoomloc import tag as tagging
    from zoomloc.progress import progress

    rows = tables.read(results)
    done = tagging.tag(
        rows,
        min_confidence=min_confidence,
        backup=backup,
        overwrite=overwrite,
        sidecars=sidecar,
        dry_run=dry_run,
    )
    found = list(progress(done, "looking" if dry_run else "tagging", len(rows)))
    outcomes = Counter(each.outcome for each in found)
    would = "would be " if dry_run else ""
    _say(
        f"{would}tagged {outcomes['tagged']}, in sidecars {outcomes['sidecar']}, skipped {outcomes['skipped']}, "
        f"failed {outcomes['failed']}"
    )
    reasons = Counter((each.outcome, each.reason) for each in found if each.outcome != "tagged")
    for (outcome, reason), count in reasons.most_common():
        example = next(each.row.name for each in found if (each.outcome, each.reason) == (outcome, reason))
        _say(f"  {count} × {outcome}: {reason} ({example}{', …' if count > 1 else ''})")
    if outcomes["failed"]:
        raise typer.Exit(SOME_FAILED)


def _asked(
    localizer: "Localizer", regions: "list[Region]", options: "Options", pace: Pace | None, out: Path | None
) -> "Batch":
    """What is to be asked: every photo by itself, or walks as a whole."""
    from zoomloc.batch.journal import folder
    from zoomloc.batch.run import Batch
    from zoomloc.batch.walks import Walks
    from zoomloc.sequence import SPEEDS_M_S, Motion

    if pace is None:
        return Batch(localizer, regions, options)
    motion = Motion(speed_m_s=SPEEDS_M_S[pace.value])
    return Walks(localizer, regions, options, motion=motion, folder=folder(out) if out else Path())


def _walks_to_stdout(asked: "Walks", work: "list[Job]", report: Path | None) -> "Tally":
    """The rows of walks, which are known once all photos have been seen."""
    from zoomloc.batch.journal import folder
    from zoomloc.batch.run import to_file

    with TemporaryDirectory() as scratch:
        whole = Path(scratch) / "rows.jsonl"
        asked.folder = folder(whole)
        counts = to_file(asked, work, whole, resume=False, report=report)
        _print(whole.read_text(encoding="utf-8").splitlines())
    return counts


def _note(some: "list[Row]", kept: "list[Row] | None") -> None:
    """Rows on stdout, and kept where a report is to be made of them."""
    from zoomloc import tables

    _print([tables.json_line(row) for row in some])
    if kept is not None:
        kept += some


def _finish(counts: "Tally") -> None:
    _say(counts.line())
    for line in counts.reasons():
        _say(f"  {line}")
    if counts.n_failed:
        raise typer.Exit(SOME_FAILED)


def _describe(asked: "Batch", work: "list[Job]", out: Path | None, *, resume: bool) -> None:
    """What a run would do: the jobs on stdout, the rest on stderr."""
    from zoomloc import tables
    from zoomloc.batch.journal import rows_on_disk

    _print([job.file if job.frame_s is None else f"{job.file}#t={job.frame_s:g}" for job in work])
    kinds = Counter(
        "frames of videos" if job.frame_s is not None else job.path.suffix.lower() for job in work
    )
    _say(f"{len(work)} to locate: {', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}")
    _say(
        f"in {', '.join(place.name for place in asked.regions)}, {asked.size} at a time on {asked.localizer.device}"
    )
    if out:
        done = len(rows_on_disk(out)) + sum(len(tables.read(path)) for path in tables.shards(out))
        _say(
            f"{done} of them done by a stopped run{'' if resume or not done else '; --resume goes on with it'}"
        )
        _say(f"results would go to {out}")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|min)?", text.strip())
    seconds = float(match[1]) * {"ms": 0.001, "s": 1, "min": 60, None: 1}[match[2]] if match else 0
    if seconds < 0.001:
        raise ConfigError(f"--every {text}: not a time; write 1s, 500ms or 2min")
    return seconds


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--batch-size {text}: not a number of photos; give one, or auto")
    return int(text)


def _print(lines: list[str]) -> None:
    """Data, on stdout, at once: whoever reads it in a pipe is waiting."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _say(text: str) -> None:
    typer.echo(f"zoomloc: {text}", err=True)
