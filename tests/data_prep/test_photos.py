import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import piexif
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_prep import photos, shots
from data_prep.photos import import_photos
from data_prep.region import advice
from zoomloc import manifest
from zoomloc.cli import app
from zoomloc.errors import ConfigError, OutputError, SourceError
from zoomloc.gpx import Clock, load
from zoomloc.region import Region

SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="{lat},0.0N" exif:GPSLongitude="8,0.0E"/>
</rdf:RDF></x:xmpmeta>"""


def _dms(degrees):
    return (int(degrees), 1), (0, 1), (round((degrees % 1) * 3600 * 10**6), 10**6)


def shoot(
    path,
    seed,
    *,
    lat=None,
    lon=8.0,
    error_m=None,
    heading=None,
    taken=None,
    offset=None,
    artist=None,
    size=96,
    white=False,
):
    """A photo of its own, with as much EXIF as is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    gps, camera = {}, {}
    if lat is not None:
        gps = {1: b"N", 2: _dms(lat), 3: b"E", 4: _dms(lon)}
    if error_m is not None:
        gps[31] = (round(error_m * 10), 10)
    if heading is not None:
        gps[17] = (round(heading * 10), 10)
    if taken:
        camera[piexif.ExifIFD.DateTimeOriginal] = f"{taken:%Y:%m:%d %H:%M:%S}"
    if offset:
        camera[piexif.ExifIFD.OffsetTimeOriginal] = offset
    exif = piexif.dump(
        {"0th": {piexif.ImageIFD.Artist: artist} if artist else {}, "Exif": camera, "GPS": gps}
    )
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    if white:
        pixels[:] = 255
    Image.fromarray(pixels).resize((size, size * 3 // 4), Image.Resampling.BICUBIC).save(
        path, exif=exif, quality=95
    )
    return path


NOON = datetime(2024, 5, 1, 12)


@pytest.fixture
def folder(tmp_path):
    """Photos as people have them: some good, some not."""
    folder = tmp_path / "my photos"
    shoot(folder / "walk" / "a.jpg", 1, lat=46.25, heading=90, taken=NOON, offset="+02:00", artist="Ada")
    shoot(folder / "b.JPG", 2, lat=46.5, error_m=12)
    shoot(folder / "c.jpg", 3, lat=46.5, error_m=1414)
    shoot(folder / "d.jpg", 4)
    shoot(folder / "e.jpg", 1, lat=46.75, size=160)  # the same picture as a.jpg
    (folder / "f.jpg").write_bytes((folder / "b.JPG").read_bytes()[:300])
    shoot(folder / ".trash" / "g.jpg", 5, lat=46.5)
    (folder / "._b.JPG").write_bytes(b"resource fork")
    (folder / "raw.NEF").write_bytes(b"raw")
    (folder / "notes.txt").write_text("no photo")
    return folder


def _reasons(rejected):
    return {each.name: each.reason for each in rejected}


def test_in_the_folder_itself_the_manifest_names_photos_where_they_are(folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    rejected = import_photos(folder, folder, clock=Clock(), licence="CC BY 4.0", attribution="the family")
    frame = manifest.read(folder / "manifest.parquet").set_index("photo")
    assert set(frame.index) == {"b.JPG", "e.jpg"}
    assert _reasons(rejected) == {
        "c.jpg": "its position may be off by more than 50 m",
        "d.jpg": "no position in its EXIF, its XMP or a sidecar",
        "walk/a.jpg": "a copy: of e.jpg",
        "f.jpg": "not an image that can be read, or cut off; save it as JPEG or PNG",
        "raw.NEF": "a raw file; export it as JPEG",
    }
    assert frame.licence["b.JPG"] == "CC BY 4.0" and frame.attribution["b.JPG"] == "the family"
    assert all(path.read_bytes() == data for path, data in before.items())


def test_elsewhere_photos_are_linked_and_keep_what_they_say(folder, tmp_path):
    (folder / "e.jpg").unlink()
    out = tmp_path / "dataset"
    import_photos(folder, out, clock=Clock(), attribution="the family")
    frame = manifest.read(out / "manifest.parquet").set_index("photo")
    assert set(frame.index) == {"photos/b.JPG", "photos/walk/a.jpg"}
    row = frame.loc["photos/walk/a.jpg"]
    assert (row.geometry.y, row.geometry.x) == (pytest.approx(46.25), pytest.approx(8))
    assert row.heading == 90 and row.captured_at == pd.Timestamp("2024-05-01T10:00Z")
    assert row.sequence == "walk" and row.split == "train" and row.attribution == "Ada"
    assert pd.isna(frame.sequence["photos/b.JPG"]) and pd.isna(frame.captured_at["photos/b.JPG"])
    assert (out / "photos" / "b.JPG").samefile(folder / "b.JPG")


def test_a_second_run_reads_only_what_is_new_or_changed(folder, tmp_path, monkeypatch):
    out = tmp_path / "dataset"
    first = import_photos(folder, out, clock=Clock())
    read = []
    load_photo = shots.photo.load
    monkeypatch.setattr(
        shots.photo, "load", lambda path, sidecar: read.append(path.name) or load_photo(path, sidecar)
    )
    assert _reasons(import_photos(folder, out, clock=Clock())) == _reasons(first) and read == []
    shoot(folder / "new.jpg", 7, lat=46.5)
    shoot(folder / "d.jpg", 4, lat=46.6)
    (folder / "c.xmp").write_text(SIDECAR.format(lat=47))
    import_photos(folder, out, clock=Clock())
    assert sorted(read) == ["c.jpg", "d.jpg", "new.jpg"]
    assert {"photos/d.jpg", "photos/new.jpg"} <= set(manifest.read(out / "manifest.parquet").photo)


def test_a_run_that_was_killed_goes_on(folder, tmp_path, monkeypatch):
    out = tmp_path / "dataset"
    for seed in range(10, 30):
        shoot(folder / f"{seed}.jpg", seed, lat=46 + seed / 100)
    load_photo, read = shots.photo.load, []

    def dies(path, sidecar):
        if len(read) == 12:
            raise KeyboardInterrupt
        read.append(path.name)
        return load_photo(path, sidecar)

    monkeypatch.setattr(shots.photo, "load", dies)
    with pytest.raises(KeyboardInterrupt):
        import_photos(folder, out, clock=Clock())
    assert not (out / "manifest.parquet").exists()
    again = []
    monkeypatch.setattr(shots.photo, "load", lambda *of: again.append(of[0].name) or load_photo(*of))
    import_photos(folder, out, clock=Clock())
    noted = len([line for line in (out / ".photos.jsonl").read_text().splitlines()[1:] if line])
    assert 0 < len(again) < 25 and noted == 26  # the notes of both runs: no photo was noted twice


@pytest.mark.parametrize("name", ["d.xmp", "d.XMP", "d.jpg.xmp"])
def test_sidecars(folder, name):
    (folder / name).write_text(SIDECAR.format(lat=47))
    import_photos(folder, folder, clock=Clock())
    assert manifest.read(folder / "manifest.parquet").set_index("photo").geometry["d.jpg"].y == 47


def _gpx(path, *points):
    trackpoints = "".join(
        f'<trkpt lat="{lat}" lon="{lon}"><time>{at:%FT%TZ}</time></trkpt>' for at, lat, lon in points
    )
    path.write_text(
        f'<gpx version="1.1" creator="t" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{trackpoints}'
        "</trkseg></trk></gpx>"
    )
    return path


def test_photos_without_a_position_are_found_in_tracks_by_their_time(tmp_path):
    folder = tmp_path / "in"
    noon = NOON.replace(tzinfo=UTC)
    shoot(folder / "zoned.jpg", 1, taken=NOON + timedelta(hours=2, seconds=5), offset="+02:00")
    shoot(folder / "clock.jpg", 2, taken=NOON + timedelta(hours=1, seconds=7.5))
    shoot(folder / "gap.jpg", 3, taken=NOON + timedelta(hours=1, seconds=60))
    shoot(folder / "timeless.jpg", 4)
    shoot(folder / "own.jpg", 5, lat=50, taken=NOON + timedelta(hours=1))
    shoot(folder / "poor.jpg", 6, lat=50, error_m=900, taken=NOON + timedelta(hours=1))
    points = (
        (noon, 46.0, 8.0),
        (noon + timedelta(seconds=10), 46.1, 8.1),
        (noon + timedelta(seconds=500), 47, 9),
    )
    tracks = (load(_gpx(tmp_path / "tour.gpx", *points)),)
    rejected = import_photos(folder, folder, clock=Clock(tracks, timedelta(hours=1), 30))
    frame = manifest.read(folder / "manifest.parquet").set_index("photo")
    assert frame.geometry["zoned.jpg"].y == pytest.approx(46.05)
    assert frame.geometry["clock.jpg"].x == pytest.approx(8.07)  # EXIF knows whole seconds
    assert frame.captured_at["clock.jpg"] == pd.Timestamp("2024-05-01T12:00:07Z")
    assert frame.geometry["own.jpg"].y == pytest.approx(50) and pd.isna(frame.sequence["own.jpg"])
    assert frame.sequence["zoned.jpg"] == "tour"
    assert frame.geometry["poor.jpg"].y == pytest.approx(46)
    assert _reasons(rejected) == {
        "gap.jpg": "no position, and no track covers its time",
        "timeless.jpg": "no position, and no time to find it in a track",
    }
    rejected = import_photos(folder, folder, clock=Clock(tracks))
    assert _reasons(rejected)["clock.jpg"] == "no position, and its clock has no zone; give --time-offset"


def redden(pixels):
    if pixels.min() > 250:
        raise RuntimeError("too bright")
    pixels[..., 0] = 255
    return pixels


def test_blurred_photos_are_new_files_without_exif(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_blur", sys.modules[__name__])
    with pytest.raises(ConfigError, match="--out"):
        import_photos(folder, folder, clock=Clock(), blur="my_blur:redden")
    out = tmp_path / "dataset"
    shoot(folder / "h.jpg", 0, lat=46.5, white=True)
    original = (folder / "b.JPG").read_bytes()
    rejected = import_photos(folder, out, clock=Clock(), blur="my_blur:redden")
    assert _reasons(rejected)["h.jpg"] == "blurring failed (RuntimeError: too bright)"
    assert "photos/b.JPG.jpg" in set(manifest.read(out / "manifest.parquet").photo)
    with Image.open(out / "photos" / "b.JPG.jpg") as image:
        assert np.asarray(image)[..., 0].mean() > 240 and not image.getexif()
    assert (folder / "b.JPG").read_bytes() == original
    with pytest.raises(OutputError, match="other settings"):
        import_photos(folder, out, clock=Clock())


def test_a_region_comes_along_and_still_finds_its_imagery(folder, tmp_path, tiny_data):
    region = Region.load(tiny_data / "region.json")
    out = tmp_path / "deep" / "dataset"
    import_photos(folder, out, clock=Clock(), region=region)
    moved = Region.load(out / "region.json")
    assert moved.grid == region.grid and moved.name == region.name
    moved.open().close()


@pytest.mark.parametrize("lats", [(10, 11), (60, 89)])
def test_photos_that_no_region_holds_get_no_proposal(tmp_path, lats):
    for lat in lats:
        shoot(tmp_path / f"{lat}.jpg", lat, lat=lat)
    import_photos(tmp_path, tmp_path, clock=Clock())
    assert (
        advice(tmp_path)[0]
        == "no region.json: no UTM zone holds all these photos; make a dataset for each place"
    )


@pytest.mark.parametrize("content", ["nothing", "no photo of use", "no folder"])
def test_without_any_usable_photo_it_says_so_in_one_line(tmp_path, content):
    folder = tmp_path / "in"
    if content != "no folder":
        folder.mkdir()
    if content == "no photo of use":
        shoot(folder / "a.jpg", 1)
    with pytest.raises(SourceError, match=str(folder)) as raised:
        import_photos(folder, folder, clock=Clock())
    assert "\n" not in str(raised.value) and not (folder / "manifest.parquet").exists()
    assert (folder / "rejected.csv").exists() == (content == "no photo of use")


def test_the_command_reports_and_says_how_to_go_on(folder, tmp_path):
    out = tmp_path / "dataset"
    done = CliRunner().invoke(app, ["prep", "photos", str(folder), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "5 photos rejected" in done.output and "zoomloc prep split" in done.output
    proposal = json.loads(done.output[done.output.index("{") : done.output.index("}") + 1])
    (out / "region.json").write_text(json.dumps(proposal))
    region = Region.load(out / "region.json")
    assert all(region.grid.path_at(p.y, p.x) for p in manifest.read(out / "manifest.parquet").geometry)
    assert (out / "map.png").exists() and (out / "rejected.csv").exists()
    again = CliRunner().invoke(app, ["prep", "photos", str(folder), "--out", str(out)])
    assert again.exit_code == 0 and "no region.json" not in again.output


def test_a_mistake_is_one_line_on_stderr(tmp_path):
    command = [sys.executable, "-m", "data_prep.photos", str(tmp_path), "--time-offset", "tomorrow"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(photos.__file__).parent.parent)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("zoomloc: time offset 'tomorrow'") and done.stderr.count("\n") == 1


def test_photos_as_they_come(shared_data, tmp_path):
    for name in (
        "exif-samples/IMG_5195.HEIC",
        "metadata-extractor-images/webp_HTC_Desire.webp",
        "metadata-extractor-images/jpg_Nikon_D5000.jpg",  # its EXIF position is 0/0, its XMP has one
        "metadata-extractor-images/jpg_FLIR_Vue_Pro_640.jpg",
        "metadata-extractor-images/jpg_beach.jpg",
        "mapillary_tools/tests_unit_data_test_exif.jpg",
    ):
        source = shared_data / "awkward_photos" / name
        (tmp_path / source.name).symlink_to(source)
    rejected = import_photos(tmp_path, tmp_path, clock=Clock(offset=timedelta(hours=2)))
    frame = manifest.read(tmp_path / "manifest.parquet").set_index("photo")
    assert set(frame.index) == {"IMG_5195.HEIC", "webp_HTC_Desire.webp", "jpg_Nikon_D5000.jpg"}
    assert frame.geometry["jpg_Nikon_D5000.jpg"].y == pytest.approx(48.8887, abs=1e-4)
    assert frame.heading.notna()["IMG_5195.HEIC"] and frame.captured_at.notna().all()
    assert _reasons(rejected)["jpg_FLIR_Vue_Pro_640.jpg"].startswith("no position") and len(rejected) == 3
