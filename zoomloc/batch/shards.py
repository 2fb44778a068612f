"""A batch on a Ray cluster: blocks of photos go to its machines, rows come back as shards of GeoParquet.

The results are a folder `results.parquet` of files `part-000000.parquet`, one for each block, in the order of the
photos. They are written here, each whole or not at all, as blocks are done, so a run that was stopped goes on with
those that are not there. Blocks are of whole batches, so that every number is that of a run on one machine.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zoomloc import cluster, index_blocks, tables
from zoomloc.batch.jobs import Job
from zoomloc.batch.journal import Journal, place
from zoomloc.batch.run import Batch, Options, show
from zoomloc.batch.tally import Tally
from zoomloc.errors import OutputError
from zoomloc.localizer import Localizer
from zoomloc.region import Region
from zoomloc.rows import Row

MOST, LEAST_BLOCKS = 4096, 64  # photos in a block; blocks to share a small batch out by


@dataclass(frozen=True)
class Shards:
    """The folder of results, and which photos belong into which of its files."""

    out: Path
    size: int
    n_jobs: int

    @classmethod
    def of(cls, out: Path, n_jobs: int, batch_size: int) -> "Shards":
        """size: whole batches, so many that there are blocks to share out, and not more than is well lost."""
        wanted = max(1, min(MOST, n_jobs // LEAST_BLOCKS))
        return cls(out, -(-wanted // batch_size) * batch_size, n_jobs)

    def blocks(self, jobs: Sequence[Job]) -> dict[int, Sequence[Job]]:
        """The jobs of the blocks that are not written yet, by number."""
        starts = range(0, self.n_jobs, self.size)
        return {n: jobs[at : at + self.size] for n, at in enumerate(starts) if not self._path(n).exists()}

    def write(self, number: int, rows: Sequence[Row]) -> None:
        """Keep the rows of a block: once this returns, no kill undoes them. Raises OutputError."""
        tables.write(rows, self._path(number))

    def clear_drafts(self) -> None:
        """Remove what a killed run was writing."""
        for draft in self.out.glob(".part-*"):
            draft.unlink()

    def _path(self, number: int) -> Path:
        return self.out / f"part-{number:06d}.parquet"


def check_out(out: Path | None, *, resume: bool) -> Path:
    """The folder of results. Raises OutputError for what cannot be one."""
    if out is None or out.suffix.lower() != ".parquet":
        raise OutputError(
            "--engine ray: results are a folder of GeoParquet files; name it, --out NAME.parquet"
        )
    if out.exists() and not resume and not place(out).exists():
        raise OutputError(f"{out}: is there already; delete it, or choose another --out")
    return out


def to_shards(
    batch: Batch,
    jobs: Sequence[Job],
    checkpoint: Path,
    out: Path,
    *,
    device: str,
    resume: bool,
    report: Path | None = None,
) -> Tally:
    """Locate photos on the Ray that is connected, and write their rows into the folder `out`.

    batch: what is asked, with the model of the checkpoint. report: a page on all rows. Raises OutputError where a
    stopped run is in the way, does not fit, or nothing can be written; ClusterError; what `Batch` raises.
    """
    shards = Shards.of(check_out(out, resume=resume), len(jobs), batch.size)
    settings = batch.settings(jobs) | {"engine": "ray", "photos in a block": shards.size}
    journal = Journal(out, settings, resume=resume)
    done = False
    try:
        shards.clear_drafts()
        for region in batch.regions:
            with suppress(OutputError):  # where it cannot be kept, every actor encodes for itself
                index_blocks.build(batch.localizer.model, region, checkpoint, device=device)
        tally, blocks = Tally(), shards.blocks(jobs)
        for path in tables.shards(out):
            tally.add(tables.read(path))
        found = _found(shards, blocks, batch.model, (checkpoint, batch.regions, batch.options), device)
        show(found, tally, len(jobs), len(jobs) - sum(map(len, blocks.values())))
        if report:
            batch.report(tables.read(out), report)
        done = True
    finally:
        journal.close(done=done)
    return tally


def _found(
    shards: Shards,
    blocks: dict[int, Sequence[Job]],
    model: str,
    asked: tuple[Path, Sequence[Region], Options],
    device: str,
) -> Iterator[list[Row]]:
    """The rows of every block, once they are written. Blocks that workers die of are done photo by photo."""
    numbers, left = list(blocks), dict(blocks)
    for n, rows in cluster.over(list(blocks.values()), prepare, asked, device=device):
        shards.write(numbers[n], rows)
        del left[numbers[n]]
        yield rows
    for number, jobs in left.items():
        alone = dict(cluster.over([[job] for job in jobs], prepare, asked, device=device))
        rows = [alone[i][0] if i in alone else _deadly(job, model) for i, job in enumerate(jobs)]
        shards.write(number, rows)
        yield rows


def _deadly(job: Job, model: str) -> Row:
    """Of a photo that its workers die of."""
    reason = f"its worker died, {cluster.TRIES} times; try it on one machine, or save it anew"
    return Row(file=job.file, frame_s=job.frame_s, reason=f"{job.file}: {reason}", model=model)


def prepare(device: str, checkpoint: Path, regions: Sequence[Region], options: Options) -> cluster.Work:
    """What an actor does: locate a block of jobs, with a model and indexes of its own."""
    batch = Batch(Localizer.from_pretrained(checkpoint, device=device), regions, options)
    batch.prepare()
    return lambda jobs: [row for rows in batch.rows(jobs) for row in rows]
