"""Batches as the app starts them: a folder each, worked on by `zoomloc batch` in a process of its own.

A folder holds run.json (what was asked), photos/ (what was uploaded), results.parquet once all is done, log.txt. The
process belongs to no page and no session: a closed tab stops nothing, and a stopped run goes on where it was.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Literal

from zoomloc import tables
from zoomloc.batch import jobs
from zoomloc.batch.journal import place, rows_on_disk
from zoomloc.errors import OutputError, PhotoError
from zoomloc.rows import Row

RUN, RESULTS, LOG, REPORT = "run.json", "results.parquet", "log.txt", "report.html"
EVERY_S = 1.0  # of videos, a frame each so much: what `zoomloc batch` takes by default

State = Literal["running", "done", "stopped"]


@dataclass(frozen=True)
class Asked:
    """What a run is to do. photos: paths. total: photos and frames in them."""

    photos: tuple[str, ...]
    region: str
    checkpoint: str
    total: int


@dataclass(frozen=True)
class Run:
    """A run, old or new, in its folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def asked(self) -> Asked:
        told = json.loads((self.folder / RUN).read_text(encoding="utf-8"))
        return Asked(**told | {"photos": tuple(told["photos"])})

    @property
    def state(self) -> State:
        if (self.folder / RESULTS).exists() and not place(self.folder / RESULTS).exists():
            return "done"
        return "running" if _alive(self.folder) else "stopped"

    def rows(self) -> list[Row]:
        """What was found so far. Raises OutputError."""
        out = self.folder / RESULTS
        return tables.read(out) if self.state == "done" else rows_on_disk(out)

    def last_line(self) -> str:
        """Of its log: why it stopped."""
        log = self.folder / LOG
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        said = [line for line in text.splitlines() if line.startswith("zoomloc: ")]
        return said[-1].removeprefix("zoomloc: ") if said else ""

    def go(self) -> None:
        """Begin, or go on."""
        asked = self.asked
        command = [sys.executable, "-m", "zoomloc", "batch", *asked.photos, "--region", asked.region]
        command += ["--checkpoint", asked.checkpoint, "--out", str(self.folder / RESULTS), "--resume"]
        command += ["--report", str(self.folder / REPORT)]
        with (self.folder / LOG).open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (self.folder / "pid").write_text(str(process.pid))
        Thread(target=process.wait, daemon=True).start()  # or it would stay in the list of processes

    def stop(self) -> None:
        """What is done is kept, however a run ends. Not as Ctrl-C does: who started the app may have that ignored."""
        if _alive(self.folder):
            os.kill(int((self.folder / "pid").read_text()), signal.SIGTERM)


def begin(
    home: Path,
    *,
    folder: str = "",
    uploads: Mapping[str, bytes] | None = None,
    region: Path,
    checkpoint: Path,
) -> Run:
    """Start a run of the photos in a folder, or of uploads by name. Raises PhotoError, ManifestError, OutputError."""
    if folder and not Path(folder).expanduser().is_dir():
        raise PhotoError(f"{folder}: no such folder; check the path")
    its = home / "batches" / datetime.now().strftime("%Y-%m-%d %H.%M.%S")
    try:
        (its / "photos").mkdir(parents=True)
        for name, content in (uploads or {}).items():
            (its / "photos" / Path(name).name).write_bytes(content)
    except OSError as error:
        raise OutputError(f"{its}: cannot be written ({error.strerror}); free or unlock it") from None
    named = [str(Path(folder or its / "photos").expanduser().resolve())]
    total = len(jobs.find(named, every_s=EVERY_S, listed=StringIO()))
    asked = Asked(tuple(named), str(region.resolve()), str(checkpoint.resolve()), total)
    (its / RUN).write_text(json.dumps(asdict(asked), indent=1), encoding="utf-8")
    run = Run(its.resolve())
    run.go()
    return run


def all_runs(home: Path) -> list[Run]:
    """The latest first."""
    return [Run(path.parent) for path in sorted((home / "batches").glob(f"*/{RUN}"), reverse=True)]


def export(rows: Sequence[Row], suffix: str) -> bytes:
    """Rows as a file of one of `tables.WRITERS`."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"results{suffix}"
        tables.write(rows, path)
        return path.read_bytes()


def _alive(folder: Path) -> bool:
    """Whether a process works on it."""
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except (OSError, ValueError):
        return False
    return True
