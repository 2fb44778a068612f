"""`zoomloc batch` as a user has it, on photos of every kind, with a user's mistakes."""

import json
import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path

import geopandas as gpd
import numpy as np
import piexif
import pytest
import torch
from PIL import Image
from shapely import Point

from zoomloc import manifest, photo, tables
from zoomloc.batch import decode, jobs, regions, run
from zoomloc.batch.jobs import Job
from zoomloc.encoder import shrink
from zoomloc.errors import PhotoError
from zoomloc.localizer import Localizer
from zoomloc.posterior import Leaves
from zoomloc.region import Region


@pytest.fixture
def batch(town, untrained):
    return ["batch", "--region", town / "region.json", "--checkpoint", untrained, "--device", "cpu"]


def every_kind(folder: Path) -> list[str]:
    """Photos as cameras and people make them; returns their names in order."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (48, 96, 3), np.uint8))
    image.save(folder / "a.jpg", exif=piexif.dump({"0th": {piexif.ImageIFD.Orientation: 6}}))
    image.convert("CMYK").save(folder / "b-cmyk.jpg")
    image.save(folder / "c.png")
    image.save(folder / "d.webp")
    image.save(folder / "e.heic")
    image.convert("I;16").save(folder / "f-deep.tif")
    pano = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" '
        'GPano:ProjectionType="equirectangular"/></rdf:RDF></x:xmpmeta>'
    )
    image.save(folder / "g-360.jpg", xmp=pano.encode())
    (folder / "deep").mkdir()
    image.save(folder / "deep" / "h.JPG")
    return ["a.jpg", "b-cmyk.jpg", "c.png", "d.webp", "deep/h.JPG", "e.heic", "f-deep.tif", "g-360.jpg"]


def film(path: Path, seconds: int) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(2 * seconds):
            pixels = np.full((48, 64, 3), 10 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_a_folder_with_photos_of_every_kind_and_videos(batch, tmp_path, zoomloc):
    folder = tmp_path / "mixed"
    folder.mkdir()
    names = every_kind(folder)
    film(folder / "z.mp4", 3)
    (folder / "notes.txt").write_text("not a photo, and not meant as one")
    (folder / ".hidden.jpg").write_bytes(b"")
    out, err = zoomloc(
        *batch, folder, "--out", tmp_path / "r.parquet", "--every", "1s", "--min-confidence", 0
    )
    assert out == "", "data only, and here it goes to a file"
    rows = tables.read(tmp_path / "r.parquet")
    assert [(row.file, row.frame_s) for row in rows] == [(f"{folder}/{name}", None) for name in names] + [
        (f"{folder}/z.mp4", moment) for moment in (0.0, 1.0, 2.0)
    ]
    assert {row.status for row in rows} <= {"located", "outside"}
    assert all(row.milliseconds > 0 and len(row.model) == 16 and row.places for row in rows)
    assert re.search(r"^zoomloc: \d+ located, 0 uncertain, \d+ outside, 0 failed$", err, flags=re.MULTILINE)


def test_a_panorama_is_located_by_its_views_as_alone(batch, town, tmp_path, untrained, zoomloc):
    (tmp_path / "mixed").mkdir()
    every_kind(tmp_path / "mixed")
    told, _ = zoomloc(*batch, tmp_path / "mixed", "--top", 1)
    row = next(row for row in map(json.loads, told.splitlines()) if "g-360" in row["file"])
    zoomloc("locate", *batch[1:], tmp_path / "mixed" / "g-360.jpg", "--out", tmp_path / "r.json")
    (alone,) = json.loads((tmp_path / "r.json").read_text())["predictions"]
    assert row["not_here"] == pytest.approx(alone["not_here"], rel=1e-4)
    assert row["places"][0]["probability"] == pytest.approx(alone["places"][0]["probability"], rel=1e-3)


def test_photos_that_fail_are_rows_and_are_told_by_reason(batch, town, tmp_path, zoomloc):
    photos = town / "photos"
    for name in ("x1.jpg", "x2.jpg"):
        (photos / name).write_bytes(b"")
    (photos / "y.jpg").write_text("not an image")
    (photos / "z.mp4").write_text("not a video")
    _, err = zoomloc(*batch, photos, "missing.jpg", "--out", tmp_path / "r.jsonl", code=1)
    rows = tables.read(tmp_path / "r.jsonl")
    assert [row.status == "failed" for row in rows] == [False] * 3 + [True] * 5
    assert all(row.reason and row.lat is None for row in rows[3:])
    told = [line for line in err.splitlines() if " × " in line]
    assert told[0].startswith("zoomloc:   2 × is empty (0 bytes); copy or download it again (")
    assert len(told) == 4 and "x1.jpg" in told[0] and "x2.jpg" in told[0]
    assert "5 failed" in err


def test_lists_globs_and_manifests_name_photos_too(batch, town, tmp_path, zoomloc):
    names = sorted(str(path) for path in (town / "photos").glob("*.jpg"))
    listed, _ = zoomloc(*batch, "-", stdin="\n".join([*names[1:], "", names[1]]))
    assert [json.loads(line)["file"] for line in listed.splitlines()] == names[1:], (
        "each once, in their order"
    )
    globbed, _ = zoomloc(*batch, f"{town}/**/*.jpg", names[0])
    assert [json.loads(line)["file"] for line in globbed.splitlines()] == names
    frame = gpd.GeoDataFrame(
        {"photo": [f"photos/{Path(name).name}" for name in names], "split": ["train", "test", "test"]},
        geometry=[Point(9, 45)] * 3,
        crs=4326,
    ).assign(heading=None, captured_at=None, sequence=None, fov=[80.0, 90.0, None], projection="perspective")
    manifest.write(frame, town / "manifest.parquet")
    of_manifest, _ = zoomloc(*batch, town / "manifest.parquet", "--split", "test")
    assert [json.loads(line)["file"] for line in of_manifest.splitlines()] == names[1:]
    found = jobs.find([str(town / "manifest.parquet")], every_s=1, listed=sys.stdin)
    assert [job.fov_deg for job in found] == [80.0, 90.0, None]


def test_a_dry_run_names_the_work_and_does_none(batch, town, tmp_path, zoomloc):
    film(town / "photos" / "z.mp4", 2)
    out, err = zoomloc(*batch, town / "photos", "--out", tmp_path / "r.csv", "--dry-run", "--every", "500ms")
    assert out.splitlines()[-2:] == [f"{town}/photos/z.mp4#t={t}" for t in ("1", "1.5")]
    assert "7 to locate: 4 frames of videos, 3 .jpg" in err and "in tiny, 8 at a time on cpu" in err
    assert not (tmp_path / "r.csv").exists() and not list(town.glob("*.index"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["photos", "--out", "r.shp"], "unknown kind of result"),
        (["photos", "--out", "file/r.csv"], "cannot be used"),
        (["photos", "--resume"], "name it with --out"),
        (["photos", "--report", "r.pdf"], "let its name end in .html"),
        (["photos", "--heading-from-exif", "0", "--search", "greedy"], "use --search posterior"),
        (["nothing*.jpg"], "nothing goes by this pattern"),
        (["empty"], "no photos in empty"),
        (["-"], "no photos in the list"),
        (["photos", "--every", "soon"], "--every soon: not a time"),
        (["photos", "--batch-size", "some"], "--batch-size some: not a number"),
        (["photos", "--near", "1,2"], "LAT,LON,RADIUS_M"),
        (["photos", "--near", "45.15,9.0,50", "--search", "beam"], "use --search posterior"),
        (["photos", "--region", "missing.json"], "missing.json: no such file"),
        (["photos", "--region", "region.json"], "two regions have the same name"),
        (["photos", "--heading-from-exif", "0"], "says nothing of headings"),
    ],
)
def test_mistakes_are_one_line_before_any_work(batch, town, zoomloc, monkeypatch, words, says):
    monkeypatch.chdir(town)
    Path("empty").mkdir()
    Path("file").touch()
    monkeypatch.setattr(decode, "ahead", None)
    _, err = zoomloc(*batch, *words, code=2)
    lines = err.splitlines()
    assert len(lines) == 1 and re.search(says, lines[0]), err


def test_a_prior_decides(batch, town, tmp_path, zoomloc):
    photo = next(iter((town / "photos").glob("*.jpg")))
    grid = Region.load(town / "region.json").grid
    lat, lon = grid.unproject(grid.north_west[0] + 50, grid.north_west[1] - 70)
    told, _ = zoomloc(*batch, photo, "--near", f"{lat},{lon},15", "--radius", 20)
    row = json.loads(told)
    assert abs(row["lat"] - lat) * 111_000 < 40 and abs(row["lon"] - lon) * 78_000 < 40
    (told, _), (free, _) = zoomloc(*batch, photo, "--gps-prior", 10), zoomloc(*batch, photo)
    assert json.loads(told)["exif_distance_m"] < 40
    assert json.loads(told)["confidence"] > json.loads(free)["confidence"]


def test_a_track_is_a_prior_of_photos_without_a_position(batch, town, tmp_path, zoomloc):
    photo = next(iter((town / "photos").glob("*.jpg")))
    bare = tmp_path / "bare.jpg"
    bare.write_bytes(photo.read_bytes())
    taken = {piexif.ExifIFD.DateTimeOriginal: "2024:05:06 12:00:05"}
    piexif.insert(piexif.dump({"Exif": taken}), str(bare))
    grid = Region.load(town / "region.json").grid
    lat, lon = grid.unproject(grid.north_west[0] + 50, grid.north_west[1] - 70)
    points = "".join(
        f'<trkpt lat="{lat}" lon="{lon}"><time>2024-05-06T10:00:{second}Z</time></trkpt>'
        for second in ("00", "10")
    )
    gpx = tmp_path / "tour.gpx"
    gpx.write_text(
        '<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">'
        f"<trk><trkseg>{points}</trkseg></trk></gpx>"
    )
    told, _ = zoomloc(*batch, bare, "--gps-prior", 5, "--gpx", gpx, "--time-offset", "+02:00", "--radius", 20)
    row = json.loads(told)
    assert abs(row["lat"] - lat) * 111_000 < 40 and abs(row["lon"] - lon) * 78_000 < 40
    assert row["exif_distance_m"] is None, "the track is no position of the photo's"


def test_finished_is_finished(batch, town, tmp_path, zoomloc):
    out = tmp_path / "r.csv"
    zoomloc(*batch, town / "photos", "--out", out, "--report", tmp_path / "a.html")
    before = out.read_bytes()
    _, err = zoomloc(*batch, town / "photos", "--out", out, "--resume", "--report", tmp_path / "b.html")
    assert "complete already" in err and out.read_bytes() == before
    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text(), (
        "a report can be made later"
    )


def test_a_walk_is_located_together(batch, town, tmp_path, zoomloc):
    for i, path in enumerate(sorted((town / "photos").glob("*.jpg"))):
        piexif.insert(
            piexif.dump({"Exif": {piexif.ExifIFD.DateTimeOriginal: f"2024:05:06 10:00:{i:02}"}}), str(path)
        )
    shutil.copy(next((town / "photos").glob("*.jpg")), town / "photos" / "timeless.jpg")
    piexif.remove(str(town / "photos" / "timeless.jpg"))
    _, err = zoomloc(
        *batch, town / "photos", "--sequence", "walk", "--out", tmp_path / "r.gpx", "--report", tmp_path / "r.html",
        "--min-confidence", 0, code=1,
    )  # fmt: skip
    assert "tells no time" in err
    assert (tmp_path / "r.gpx").read_text().count("<trkpt") <= 3 and (tmp_path / "r.html").exists()
    told, _ = zoomloc(*batch, town / "photos", "--sequence", "walk", code=1)
    assert [json.loads(line)["captured_at"] for line in told.splitlines()][:3] == [
        f"2024-05-06T10:00:0{i}" for i in range(3)
    ]
    _, err = zoomloc(*batch, town / "photos", "--sequence", "walk", "--search", "beam", code=2)
    assert "leave out --search" in err


def test_an_interrupted_run_says_how_to_go_on(batch, town, tmp_path, zoomloc):
    for i in range(300):
        shutil.copy(next((town / "photos").glob("test*.jpg")), town / "photos" / f"{i}.jpg")
    out = tmp_path / "r.csv"

    def interrupt():
        while not out.with_name("r.csv.journal").exists():
            pass
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started this may ignore it
    waiting.start()
    try:
        _, err = zoomloc(*batch, town / "photos", "--out", out, code=130)
    finally:
        waiting.join()
        signal.signal(signal.SIGINT, before)
    assert "what is done is kept; give the same command with --resume" in err and "Traceback" not in err
    assert not out.exists()


# --- several regions


def test_regions_compete_with_one_elsewhere():
    path = np.array([[0]])
    first = Leaves(path, np.array([0.6]), not_here=0.25, unexpanded=0.15)
    second = Leaves(path, np.array([0.5]), not_here=0.5)
    (one, other), none = regions.compete([first, second])
    assert [1 - one.not_here, 1 - other.not_here, none] == pytest.approx(
        [3 / 5, 1 / 5, 1 / 5]
    )  # odds 3 : 1 : 1
    assert one.probabilities[0] + one.unexpanded == pytest.approx(3 / 5)
    assert other.probabilities[0] == pytest.approx(1 / 5)
    assert regions.compete([first]) == ([first], 0.25), "alone, nothing changes"
    (sure, _), none = regions.compete([Leaves(path, np.array([1.0])), second])
    assert sure.here == pytest.approx(1) and none == pytest.approx(0, abs=1e-9)
    nowhere = Leaves(path[:0], np.zeros(0), not_here=1.0)
    assert regions.compete([nowhere, nowhere])[1] == 1


def test_each_photo_is_answered_with_its_best_region_or_none(batch, town, elsewhere, tmp_path, zoomloc):
    photos = sorted((town / "photos").glob("*.jpg"))
    alone = {}
    for name in ("region.json", "quarter.json"):
        told, _ = zoomloc("batch", photos[0], "--region", town / name, *batch[3:])
        alone[name] = json.loads(told)["not_here"]
    told, _ = zoomloc(*batch, photos[0], "--region", elsewhere)
    row = json.loads(told)
    odds = [(1 - not_here) / not_here for not_here in alone.values()]
    assert row["not_here"] == pytest.approx(1 / (1 + sum(odds)), rel=1e-4)
    if row["status"] != "outside":
        assert row["region"] == ("tiny", "quarter")[int(np.argmax(odds))]


def test_a_model_that_never_says_elsewhere_cannot_compare(town, elsewhere, published, zoomloc):
    _, err = zoomloc(
        "batch", town / "photos", "--region", town / "region.json", "--region", elsewhere,
        "--checkpoint", published, code=2,
    )  # fmt: skip
    assert "give one --region" in err


# --- memory, threads, and what else goes wrong inside


@pytest.mark.parametrize("fits", [1, 3, 5, 100])
def test_batches_are_halved_until_they_fit(town, untrained, tmp_path, fits):
    work = [Job(path) for path in sorted((town / "photos").glob("*.jpg"))] * 7
    place = Region.load(town / "region.json")
    localizer = Localizer.from_pretrained(untrained, device="cpu")
    run.to_file(run.Batch(localizer, [place]), work, tmp_path / "a.jsonl", resume=False)
    encode, tried = localizer.encode, []

    def small(photos, fov_deg=None):
        tried.append(len(photos))
        if len(photos) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(photos, fov_deg)

    localizer.encode = small
    run.to_file(run.Batch(localizer, [place]), work, tmp_path / "b.jsonl", resume=False)
    assert sum(n > fits for n in tried) <= 3, "what does not fit is not tried again and again"
    for a, b in zip(tables.read(tmp_path / "a.jsonl"), tables.read(tmp_path / "b.jsonl"), strict=True):
        assert (a.file, a.path) == (b.file, b.path) and a.probability == pytest.approx(
            b.probability, rel=1e-3
        )


def test_a_photo_too_large_even_alone_is_a_row(town, untrained, tmp_path):
    localizer = Localizer.from_pretrained(untrained, device="cpu")

    def full(photos, fov_deg=None):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    localizer.encode = full
    asked = run.Batch(localizer, [Region.load(town / "region.json")])
    work = [Job(path) for path in (town / "photos").glob("*.jpg")]
    tally = run.to_file(asked, work, tmp_path / "r.csv", resume=False)
    assert tally.n_failed == 3 and "does not fit into the memory even alone" in tally.reasons()[0]


def test_a_decoder_that_breaks_costs_one_photo(town, monkeypatch):
    def broken(path, max_side_px):
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(decode, "load", broken)
    (found,) = decode.decode([Job(town / "photos" / "a.jpg")], 32)
    assert (
        found.pixels is None and "cannot be used (ZeroDivisionError: float division by zero)" in found.reason
    )


@pytest.mark.parametrize("size", [(4000, 3000), (900, 1600), (300, 200)])
def test_the_model_sees_what_it_would_see_of_the_whole_photo(tmp_path, size):
    coarse = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=92)
    (found,) = decode.decode([Job(tmp_path / "a.jpg")], 96)
    whole = shrink(photo.load(tmp_path / "a.jpg").pixels, 96)
    off = np.abs(found.pixels.astype(int) - whole)
    assert found.pixels.shape == (96, 192, 3) and off.mean() < 1 and off.max() < 12


def test_names_that_are_no_text_can_be_written(town, batch, tmp_path, zoomloc):
    odd = os.fsencode(town / "photos") + b"/\xff\xfe.jpg"
    shutil.copy(next((town / "photos").glob("*.jpg")), odd)
    zoomloc(*batch, town / "photos", "--out", tmp_path / "r.csv")
    assert sum("��.jpg" in row.file for row in tables.read(tmp_path / "r.csv")) == 1


def test_the_digest_follows_the_files(town):
    (photo, *_) = (town / "photos").glob("*.jpg")
    before = jobs.digest([Job(photo)])
    assert before == jobs.digest([Job(photo)]) != jobs.digest([Job(photo, frame_s=1.0)])
    photo.write_bytes(photo.read_bytes() + b"\0")
    assert jobs.digest([Job(photo)]) != before
    photo.unlink()
    assert jobs.digest([Job(photo)]) != before


def test_a_video_that_is_none_is_one_job(town):
    (town / "photos" / "z.mp4").write_text("not a video")
    found = jobs.find([str(town / "photos")], every_s=1, listed=sys.stdin)
    assert len(found) == 4
    (failed,) = decode.decode(found[3:], 32)
    assert failed.reason.startswith(f"{town}/photos/z.mp4: not a video")
    with pytest.raises(PhotoError, match="no photos in"):
        jobs.find([], every_s=1, listed=sys.stdin)
