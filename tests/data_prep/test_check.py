import csv
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from data_prep.check import COPY_BITS, check_disjoint
from data_prep.duplicates import alike, fingerprint
from data_prep.looks import JOURNAL, look_at
from data_prep.places import check_swapped
from zoomloc import cli


def run(monkeypatch, capsys, folder, *words):
    """(exit code, what was printed in one line, the checks that found a problem)."""
    monkeypatch.setattr(sys, "argv", ["zoomloc", "prep", "check", str(folder), *words])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    shown = capsys.readouterr()
    last = shown.out.strip().splitlines()[-1] if shown.out.strip() else ""
    found = last.removeprefix("problems: ").split(", ") if last.startswith("problems: ") else []
    return exit_.value.code, " ".join((shown.out + shown.err).replace("│", " ").split()), found


def moved(frame, rows, *, lon=0.0, lat=0.0):
    points = frame.geometry.copy()
    points[rows] = points[rows].translate(lon, lat)
    return frame.set_geometry(points)


def test_a_good_dataset_passes_and_the_proof_is_shown(drives, monkeypatch, capsys):
    folder = drives.write(drives.frame())
    code, shown, found = run(monkeypatch, capsys, folder)
    assert code == 0 and found == [] and "no problems found" in shown
    for words in (
        "m or more from train",
        "72 compared",
        "all 72 photos",
        "along the direction of travel in 6",
        "'made-up'",
    ):
        assert words in shown, words


def test_test_photos_beside_val_ones_are_told_and_no_problem(drives):
    frame = drives.frame(drives=1).assign(split=["train"] * 6 + ["val"] * 3 + ["test"] * 3)  # 20 m apart
    found = check_disjoint(frame, 15)
    assert not found.photos
    assert (
        "val 20.0 m or more from train; test 80.0 m or more from train, 20.0 m or more from val" in found.text
    )


def near(drives, frame):
    """A train photo 10 m from one test photo and 22 m from the next."""
    row = frame.index[frame["split"] == "test"][0]
    points = frame.geometry.copy()
    points[0] = points[row]
    return moved(frame.set_geometry(points), [0], lat=10 / 111_140)


def copied(drives, frame):
    """A test photo is a train photo, saved anew at half the size."""
    drives.write(frame)
    with Image.open(drives.folder / frame["photo"][3]) as image:
        image.resize((image.width // 2, image.height // 2)).save(
            drives.folder / frame["photo"].iloc[-1], quality=60
        )
    return frame


def broken(drives, frame):
    drives.write(frame)
    path = drives.folder / frame["photo"][7]
    path.write_bytes(path.read_bytes()[:900])
    return frame


def outside(drives, frame):
    return moved(frame, [4, 5], lon=0.05)


def bare(drives, frame):
    """A photo over the part of the square that has no imagery."""
    lat, lon = drives.region.grid.unproject(
        drives.west + drives.size_m - 30, drives.north - drives.size_m + 30
    )
    there = frame.geometry[9]
    return moved(frame, [9], lon=lon - there.x, lat=lat - there.y)


def swapped(drives, frame):
    points = frame.geometry.copy()
    points[[2, 3]] = [type(p)(p.y, p.x) for p in points[[2, 3]]]
    return frame.set_geometry(points)


def sign_lost(drives, frame):
    points = frame.geometry.copy()
    points[[2]] = [type(p)(-p.x, p.y) for p in points[[2]]]
    return frame.set_geometry(points)


FAULTS = {  # the fault: (the checks that must find it, and no other; words; photos concerned)
    near: (["disjoint"], "10.0 m", 2),
    copied: (["copies"], "photos/0-03.jpg", 1),
    broken: (["readable"], "broken or cut off", 1),
    outside: (["region"], "outside the square of 1280 m", 2),
    bare: (["imagery"], "no data at their place", 1),
    swapped: (["region", "swapped"], "latitude and longitude swapped", 2),
    sign_lost: (["region", "swapped"], "sign of the longitude lost", 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_nothing_else(drives, monkeypatch, capsys, tmp_path, fault):
    checks, words, count = FAULTS[fault]
    folder = drives.write(fault(drives, drives.frame()))
    listed = tmp_path / "listed.csv"
    code, shown, found = run(monkeypatch, capsys, folder, "--out", str(listed))
    assert (code, found) == (1, checks), shown
    assert words in shown, shown
    with listed.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["check"] for row in rows].count(checks[-1]) == count
    accepted = [word for check in checks for word in ("--accept", check)]
    assert run(monkeypatch, capsys, folder, *accepted)[0] == 0


def test_without_a_region_swapped_photos_are_those_far_from_the_others(drives):
    frame = drives.frame()
    assert not check_swapped(frame, None).photos
    assert list(check_swapped(swapped(drives, frame), None).photos) == list(frame["photo"][[2, 3]])
    everywhere = frame.set_geometry(frame.geometry.translate(0, 0))
    everywhere.geometry = [type(p)(i * 4.9 - 170, i * 2.2 - 80) for i, p in enumerate(frame.geometry)]
    assert not check_swapped(everywhere, None).photos


def test_what_cannot_be_checked_is_said(drives, monkeypatch, capsys):
    frame = drives.frame().assign(split="train", heading=None, captured_at=None)
    folder = drives.write(frame, region=False)
    code, shown, _ = run(monkeypatch, capsys, folder)
    assert code == 0
    for words in (
        "all photos are train",
        "no region.json",
        "only 0 photos have one",
        "no photo has one",
        "--reference",
    ):
        assert words in shown, words


def test_a_reference_shows_what_is_off_throughout(drives, monkeypatch, capsys, tmp_path):
    frame = drives.frame()
    folder = drives.write(frame)
    truth = folder / "truth.parquet"
    (folder / "manifest.parquet").rename(truth)
    wrong = moved(frame, frame.index, lon=60 / 78_800, lat=80 / 111_150)
    wrong["captured_at"] += pd.Timedelta(hours=2)
    wrong["heading"] = (wrong["heading"] + 5) % 360
    drives.write(wrong)
    code, shown, found = run(monkeypatch, capsys, folder, "--reference", str(truth))
    assert code == 1 and found == ["shift", "clock", "compass"]
    for words in ("m east, 80.", "+2:00:00 h of the reference: a time zone", "+5.0 degrees"):
        assert words in shown, shown


def test_mistakes_of_the_user_are_one_line(drives, monkeypatch, capsys, tmp_path):
    folder = drives.write(drives.frame(), region=False)
    for words, message in (
        ([str(tmp_path)], "no such manifest"),
        ([str(folder), "--accept", "disjoined"], "no such check; there are disjoint"),
    ):
        code, shown, _ = run(monkeypatch, capsys, *words)
        assert code == 2 and message in shown and "Traceback" not in shown
    (tmp_path / "other").mkdir()
    other = type(drives)(tmp_path / "other")
    frame = other.frame()
    other.write(frame.assign(photo=[f"other/{i}.jpg" for i in range(len(frame))]), region=False)
    code, shown, _ = run(
        monkeypatch, capsys, folder, "--reference", str(tmp_path / "other" / "manifest.parquet")
    )
    assert code == 2 and "0 photos by the same file names" in shown


def test_photos_are_looked_at_once_and_again_when_they_change(drives, monkeypatch):
    frame = drives.frame(drives=1)
    folder = drives.write(frame, region=False)
    first = look_at(folder, list(frame["photo"]))
    assert all(look.fingerprint and look.sky > 120 for look in first)
    lines = (folder / JOURNAL).read_text().splitlines()
    (folder / JOURNAL).write_text("\n".join(lines[:6]) + '\n["photos/0-0')  # the run was killed here
    from data_prep import looks

    seen = []
    monkeypatch.setattr(looks, "_look", lambda path, real=looks._look: seen.append(path.name) or real(path))
    assert look_at(folder, list(frame["photo"])) == first
    assert len(seen) == 12 - 5, "five were in the journal"
    Image.fromarray(np.full((64, 64, 3), 7, np.uint8)).save(folder / frame["photo"][0])
    assert look_at(folder, list(frame["photo"]))[0].sky == 7.0
    assert look_at(folder, list(frame["photo"]))[1:] == first[1:]


def test_real_photos_changed_a_little_are_copies_and_different_ones_are_not(shared_data):
    paths = [
        *(shared_data / "streetscapes").glob("*/images/*.jpeg"),
        *(shared_data / "dc" / "photos").glob("*.jpg"),
    ]
    pictures = [Image.open(path).convert("RGB").reduce(2) for path in paths[:20]]
    changed = []
    for picture in pictures:
        width, height = picture.size
        cut = picture.crop((width // 50, height // 50, width - width // 50, height - height // 50))
        changed.append(ImageEnhance.Brightness(cut.resize((width // 2, height // 2))).enhance(1.2))
    prints, again = ([fingerprint(np.asarray(each)) for each in group] for group in (pictures, changed))
    found = list(alike(prints, again, at_most=COPY_BITS))
    assert all(i == j for i, j in found), "no two different ones"
    assert len(found) >= 0.75 * len(pictures), "cut at every edge, halved and made brighter"
    assert {i for i, j in alike(prints, prints, at_most=COPY_BITS) if i != j} == set()
