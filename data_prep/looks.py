"""What the photos of a dataset look like, in a few words each, read once and remembered."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

from data_prep.duplicates import fingerprint
from data_prep.journal import Journal
from data_prep.threads import in_threads
from zoomloc import photo
from zoomloc.errors import PhotoError

JOURNAL = ".looks.jsonl"


@dataclass(frozen=True)
class Look:
    """A photo's perceptual hash in hexadecimal and the mean brightness of its upper third, 0..255, where the sky
    is; or why it cannot be read."""

    fingerprint: str = ""
    sky: float = 0.0
    problem: str = ""


def look_at(folder: Path, names: Sequence[str]) -> list[Look]:
    """The looks of photos in a folder, in the order of their names.

    Those of unchanged files are recalled from the journal `.looks.jsonl` in the folder, so that a stopped run
    goes on; a folder that cannot be written to does without.
    """
    with ExitStack() as stack:
        home = folder if os.access(folder, os.W_OK) else Path(stack.enter_context(TemporaryDirectory()))
        journal = stack.enter_context(Journal(home / JOURNAL, {}))
        lock = Lock()

        def look(name: str) -> Look:
            status = (folder / name).stat()
            stamp = [status.st_size, status.st_mtime_ns]
            known = journal.recall(name, stamp)
            if known is not None:
                return Look(**known)
            made = _look(folder / name)
            with lock:
                journal.note(name, stamp, asdict(made))
            return made

        return list(in_threads(look, names, "looking at photos"))


def _look(path: Path) -> Look:
    try:
        pixels = photo.load(path).pixels
    except PhotoError as error:
        return Look(problem=str(error).removeprefix(f"{path}: "))
    return Look(fingerprint(pixels), round(float(pixels[: len(pixels) // 3].mean()), 1))
