"""Runs that are killed, and go on."""

import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zoomloc import tables
from zoomloc.batch import decode, journal, run
from zoomloc.batch.jobs import Job
from zoomloc.batch.journal import Journal
from zoomloc.errors import OutputError
from zoomloc.localizer import Localizer
from zoomloc.photo import Photo
from zoomloc.posterior import Leaves
from zoomloc.region import Region
from zoomloc.rows import Row

KILLS = 20
ROWS = [Row(file=f"{i}.jpg", status="located", lat=46.123456789, confidence=0.1 + i) for i in range(6)]


def without_times(path):
    return [replace(row, milliseconds=None) for row in tables.read(path)]


class Cheap(run.Batch):
    """A batch whose model answers at once, and notes in a file whom it was asked about."""

    def __init__(self, *arguments, notes):
        super().__init__(*arguments)
        self.notes = notes

    def _searched(self, part):
        with self.notes.open("ab", buffering=0) as file:
            file.write(b"." * len(part))
        likely = np.array([0.75, 0.25])
        paths = [np.array([divmod(int(each.pixels[0, 0, 0]), 16), (3, 3)]) for each in part]
        return [[Leaves(path, likely)] for path in paths]


def test_killed_at_twenty_moments_it_is_as_if_it_never_was(town, untrained, tmp_path, monkeypatch):
    """Every life of the run is a process of its own, killed by SIGKILL after a random part of what the unbroken run
    took."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # that is for the loss of power, not of a process
    shades = [np.full((36, 64, 3), i, np.uint8) for i in range(256)]
    monkeypatch.setattr(decode, "load", lambda path, max_side_px: Photo(path, shades[int(path.stem) % 256]))
    jobs = [Job(Path(f"{i}.jpg")) for i in range(2000)]
    place, notes = Region.load(town / "region.json"), tmp_path / "notes"
    localizer = Localizer.from_pretrained(untrained, device="cpu")

    def life(out):
        options = run.Options(how="greedy", top_k=1, batch_size=1)
        run.to_file(Cheap(localizer, [place], options, notes=notes), jobs, out, resume=True)

    began = time.monotonic()
    life(tmp_path / "unbroken.jsonl")
    whole_s = time.monotonic() - began
    assert notes.stat().st_size == len(jobs)
    notes.unlink()

    chance = random.Random(1)
    broken = tmp_path / "broken.jsonl"
    n_killed = 0
    while not broken.exists():
        child = os.fork()
        if not child:  # a copy of this process, ready to begin at once
            try:
                life(broken)
            finally:
                os._exit(0)
        if n_killed < KILLS:
            time.sleep(chance.uniform(0.01, 2 * whole_s / KILLS / 1.5))
            os.kill(child, signal.SIGKILL)
            n_killed += 1
        os.waitpid(child, 0)
    assert n_killed == KILLS
    assert without_times(broken) == without_times(tmp_path / "unbroken.jsonl")
    assert len({row.path for row in tables.read(broken)}) == 256
    assert not journal.place(broken).exists()
    assert 0 <= notes.stat().st_size - len(jobs) <= 0.01 * len(jobs)


def test_a_real_run_killed_and_resumed_gives_the_same_numbers(town, untrained, tmp_path, zoomloc):
    for path in sorted((town / "photos").glob("*.jpg")):
        for i in range(15):
            shutil.copy(path, path.with_name(f"{i}-{path.name}"))
    words = ["batch", town / "photos", "--region", town / "region.json", "--checkpoint", untrained]
    words += ["--batch-size", "4"]
    out = tmp_path / "broken.csv"
    child = os.fork()
    if not child:
        try:
            zoomloc(*words, "--out", out)
        finally:
            os._exit(0)
    while not journal.rows_on_disk(out) and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    n_done = len(journal.rows_on_disk(out))
    assert 4 <= n_done < 48 and n_done % 4 == 0 and not out.exists()
    _, said = zoomloc(*words, "--out", out, "--dry-run")
    assert f"{n_done} of them done by a stopped run; --resume goes on with it" in said
    zoomloc(*words, "--out", out, "--resume")
    zoomloc(*words, "--out", tmp_path / "unbroken.csv")
    assert without_times(out) == without_times(tmp_path / "unbroken.csv")
    assert len(tables.read(out)) == 48


def begun(tmp_path, n=2):
    out = tmp_path / "r.csv"
    log = Journal(out, {"photos": "abc", "top_k": 5}, resume=False)
    for i in range(0, 2 * n, 2):
        log.add(ROWS[i : i + 2])
    log.close(done=False)
    return out


def test_what_was_noted_is_remembered(tmp_path):
    out = begun(tmp_path)
    assert journal.rows_on_disk(out) == ROWS[:4]
    log = Journal(out, {"photos": "abc", "top_k": 5}, resume=True)
    log.add(ROWS[4:])
    assert list(log.rows()) == ROWS
    log.close(done=True)
    assert not any(tmp_path.iterdir())


def test_wherever_the_writing_was_cut_off_whole_batches_remain(tmp_path):
    out = begun(tmp_path)
    whole = journal.place(out).read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in [0, 1, *(end + by for end in ends for by in (-1, 0, 1)), ends[1] - 200, ends[2] - 500]:
        journal.place(out).write_bytes(whole[:length])
        log = Journal(out, {"photos": "abc", "top_k": 5}, resume=True)
        kept = max(0, sum(end <= length for end in ends) - 1)
        assert list(log.rows()) == ROWS[: 2 * kept]
        log.add(ROWS[:1])
        assert list(log.rows()) == [*ROWS[: 2 * kept], ROWS[0]], "and the next line is whole"
        log.close(done=False)


def test_a_stopped_run_is_not_begun_again_unasked(tmp_path):
    out = begun(tmp_path)
    with pytest.raises(OutputError, match="go on with --resume, or delete"):
        Journal(out, {"photos": "abc", "top_k": 5}, resume=False)
    assert journal.rows_on_disk(out) == ROWS[:4]


def test_a_stopped_run_of_other_photos_or_options_is_not_gone_on_with(tmp_path):
    out = begun(tmp_path)
    with pytest.raises(OutputError, match="begun with other photos, top_k; "):
        Journal(out, {"photos": "abd", "top_k": 6}, resume=True)


def test_damage_in_the_middle_is_told(tmp_path):
    out = begun(tmp_path)
    lines = journal.place(out).read_bytes().splitlines(keepends=True)
    journal.place(out).write_bytes(lines[0] + b"\0\0\0\n" + lines[2])
    with pytest.raises(OutputError, match="damaged in the middle; delete it"):
        Journal(out, {"photos": "abc", "top_k": 5}, resume=True)
