"""`zoomloc batch --sequence`: walks that are killed and go on, walks in several regions, and clocks that do not fit."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace

import piexif
import pytest

from zoomloc import tables
from zoomloc.batch import journal
from zoomloc.region import Region


def timed(folder, n, *, zone=None, first=0):
    """Copies of a folder's photos, a second apart; of a clock without a zone unless one is given."""
    sources = sorted(folder.glob("test-*.jpg"))
    for i in range(first, first + n):
        path = folder / f"walk-{i:02}.jpg"
        shutil.copy(sources[i % len(sources)], path)
        exif = {piexif.ExifIFD.DateTimeOriginal: f"2024:05:06 10:00:{i:02}"}
        if zone:
            exif[piexif.ExifIFD.OffsetTimeOriginal] = zone
        piexif.insert(piexif.dump({"Exif": exif}), str(path))


@pytest.fixture
def walk(town):
    """A folder with a walk of 40 photos and nothing else."""
    timed(town / "photos", 40)
    for path in (town / "photos").glob("test-*.jpg"):
        path.unlink()
    return town / "photos"


@pytest.fixture
def batch(town, untrained, walk):
    words = ["--region", town / "region.json", "--checkpoint", untrained, "--device", "cpu"]
    return ["batch", walk, *words, "--sequence", "walk", "--min-confidence", 0]


def without_times(path):
    return [replace(row, milliseconds=None) for row in tables.read(path)]


def test_a_walk_killed_and_resumed_is_that_of_an_unbroken_run(batch, elsewhere, tmp_path, zoomloc):
    words = [*batch, "--region", elsewhere, "--batch-size", 4]
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
    assert 4 <= n_done < 40 and not out.exists()
    kept = {path: path.stat().st_mtime_ns for path in journal.folder(out).glob("[!.]*.npz")}
    assert len(kept) in (n_done // 4, n_done // 4 + 1)  # one batch may be kept and not yet noted
    zoomloc(*words, "--out", out, "--resume")
    zoomloc(*words, "--out", tmp_path / "unbroken.csv")
    assert without_times(out) == without_times(tmp_path / "unbroken.csv")
    assert [row.status == "failed" for row in tables.read(out)] == [False] * 40
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".csv") == ["town"]


@pytest.mark.parametrize("is_known", [False, True])
def test_a_walk_is_followed_as_zoomloc_track_does(is_known, batch, town, walk, untrained, tmp_path, zoomloc):
    grid, known = Region.load(town / "region.json").grid, []
    if is_known:
        lat, lon = grid.unproject(*grid.centre(grid.cell((0, 0))))
        known = ["--near", f"{lat},{lon},40", "--gps-prior", "50"]
    told, _ = zoomloc(*batch, *known)
    zoomloc("track", walk, *batch[2:-4], *known, "--out", tmp_path / "track.jsonl")
    rows = [json.loads(line) for line in told.splitlines()]
    for ours, theirs in zip(rows, tables.read(tmp_path / "track.jsonl"), strict=True):
        assert (ours["file"], ours["not_here"]) == (theirs.file, theirs.not_here)
        assert ours["confidence"] == theirs.confidence and ours["lat"] == theirs.lat
    if is_known:
        unasked = [json.loads(line) for line in zoomloc(*batch)[0].splitlines()]
        assert [row["confidence"] for row in rows] != [row["confidence"] for row in unasked]


def test_a_walk_is_followed_in_every_region_and_answered_with_the_likeliest(batch, town, elsewhere, zoomloc):
    def rows(*words):
        told, _ = zoomloc("batch", *batch[1:2], *words, *batch[4:])
        return [json.loads(line) for line in told.splitlines()]

    alone = [rows("--region", town / "region.json"), rows("--region", elsewhere)]
    both = rows("--region", town / "region.json", "--region", elsewhere)
    for one, other, row in zip(*alone, both, strict=True):
        odds = [(1 - each["not_here"]) / each["not_here"] for each in (one, other)]
        assert row["not_here"] == pytest.approx(1 / (1 + sum(odds)), rel=1e-3)
        if row["status"] != "outside":
            assert row["region"] == ("tiny" if odds[0] > odds[1] else "quarter")


def test_photos_whose_clocks_cannot_be_compared_fail_and_the_walk_goes_on(batch, walk, zoomloc):
    n_photos = len(list(walk.iterdir()))
    for path in sorted(walk.iterdir())[:2]:
        exif = {
            piexif.ExifIFD.DateTimeOriginal: "2024:05:06 10:00:00",
            piexif.ExifIFD.OffsetTimeOriginal: "+02:00",
        }
        piexif.insert(piexif.dump({"Exif": exif}), str(path))
    told, err = zoomloc(*batch, code=1)
    rows = [json.loads(line) for line in told.splitlines()]
    assert [row["status"] == "failed" for row in rows] == [True] * 2 + [False] * (n_photos - 2)
    assert "2 × tells its time with a zone, unlike most of its walk" in err


def test_what_was_kept_and_is_gone_is_told_in_one_line(batch, tmp_path, zoomloc, monkeypatch):
    out = tmp_path / "r.csv"

    def forget(*_):
        for path in journal.folder(out).iterdir():
            path.unlink()
        return []

    from zoomloc.batch.walks import Walks

    concluded = Walks.concluded
    monkeypatch.setattr(Walks, "concluded", lambda *words: forget() or concluded(*words))
    _, err = zoomloc(*batch, "--out", out, code=2)
    assert err.splitlines()[-1].endswith("delete the journal to begin again") and not out.exists()
