"""Positions written into photos: read back by others, and not a bit of anything else changed."""

import contextlib
import io
import shutil
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import piexif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from zoomloc import photo, tables
from zoomloc.cli import main
from zoomloc.gps_tags import NoRoom, into_block, into_file
from zoomloc.rows import Row
from zoomloc.tag import exif_tags, sidecar_path, tag
from zoomloc.xmp import Xmp

ROW = Row(
    file="",
    status="located",
    lat=-46.3123457,
    lon=7.98,
    confidence=0.8,
    radius_90_m=412.5,
    heading_deg=271.5,
    model="ab12",
)
TAGS = ExifTags.GPS
RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 255, (48, 64, 3), np.uint8))
NOTE = b"maker" + bytes(range(256))
FULL = piexif.dump(
    {
        "0th": {piexif.ImageIFD.Make: b"Maker", piexif.ImageIFD.Orientation: 6},
        "Exif": {piexif.ExifIFD.MakerNote: NOTE, piexif.ExifIFD.DateTimeOriginal: b"2024:01:02 03:04:05"},
        "GPS": {piexif.GPSIFD.GPSDateStamp: b"2024:01:02", piexif.GPSIFD.GPSAltitude: (1234, 1)},
    }
)
KINDS = {
    "plain.jpg": {"exif": b""},
    "full.jpg": {"exif": FULL},
    "plain.png": {},
    "full.png": {"exif": FULL},
    "plain.webp": {"quality": 80},
    "lossless.webp": {"lossless": True},
    "full.webp": {"exif": FULL, "icc_profile": b"not a profile, but kept!"},
    "plain.tif": {},
    "packed.tif": {"compression": "tiff_lzw"},
}


def gps_of(path):
    with Image.open(path) as image:
        return dict(image.getexif().get_ifd(ExifTags.IFD.GPSInfo))


def pixels_of(path):
    with Image.open(path) as image:
        return np.array(image)


def rows_for(path, **changes):
    return [replace(ROW, file=str(path), **changes)]


def only(path, **options):
    (done,) = tag(rows_for(path), min_confidence=0.5, **options)
    return done


@pytest.mark.parametrize("name", KINDS)
def test_what_is_written_is_read_back_and_pixels_are_the_same(tmp_path, name):
    path = tmp_path / name
    PICTURE.save(path, **KINDS[name])
    before, data = pixels_of(path), path.read_bytes()
    assert only(path).outcome == "tagged"
    gps = gps_of(path)
    assert (gps[TAGS.GPSLatitudeRef], gps[TAGS.GPSLongitudeRef]) == ("S", "E")
    degrees = [
        sum(float(part) / 60**i for i, part in enumerate(gps[t]))
        for t in (TAGS.GPSLatitude, TAGS.GPSLongitude)
    ]
    assert degrees == pytest.approx([46.3123457, 7.98], abs=2e-8)
    assert float(gps[TAGS.GPSHPositioningError]) == 412.5
    assert (float(gps[TAGS.GPSImgDirection]), gps[TAGS.GPSImgDirectionRef]) == (271.5, "T")
    assert gps[TAGS.GPSProcessingMethod].startswith(
        b"ASCII\0\0\0ESTIMATE zoomloc position heading confidence 0.80"
    )
    assert np.array_equal(pixels_of(path), before)
    assert path.with_name(f"{name}_original").read_bytes() == data
    with Image.open(path) as image:
        exif = image.getexif()
        if name.startswith("full"):
            assert exif[ExifTags.Base.Orientation] == 6
            assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == NOTE
            assert gps[TAGS.GPSDateStamp] == "2024:01:02" and TAGS.GPSAltitude not in gps
    if name == "full.webp":
        with Image.open(path) as image:
            assert image.info["icc_profile"] == KINDS[name]["icc_profile"]


@pytest.mark.parametrize("name", ["plain.jpg", "full.jpg"])
def test_the_scan_of_a_jpeg_and_all_but_its_exif_are_untouched(tmp_path, name):
    PICTURE.save(tmp_path / name, **KINDS[name])
    data = (tmp_path / name).read_bytes() + b"a trailer that some telephones append"
    (tmp_path / name).write_bytes(data)
    only(tmp_path / name)
    after = (tmp_path / name).read_bytes()
    assert after.endswith(data[data.index(b"\xff\xdb") :]), "tables and scan"
    head = after[: after.index(b"\xff\xe1")]
    assert len(head) >= 2 and data.startswith(head)


@pytest.mark.parametrize("name", ["plain.png", "lossless.webp", "plain.tif"])
def test_the_image_data_of_other_formats_is_untouched(tmp_path, name):
    PICTURE.save(tmp_path / name, **KINDS[name])
    data = (tmp_path / name).read_bytes()
    only(tmp_path / name)
    after = (tmp_path / name).read_bytes()
    kinds = {"plain.png": b"IDAT", "lossless.webp": b"VP8L"}
    if name == "plain.tif":
        assert after[8 : len(data)] == data[8:]
    else:
        at, now = data.index(kinds[name]) - 4, after.index(kinds[name]) - 4
        length = len(data) - at - (12 if name.endswith("png") else 0)
        assert after[now + 4 : now + length] == data[at + 4 : at + length]


def test_maker_notes_keep_their_offset():
    block = FULL[6:]
    for order in ("<", ">"):
        ours = block if order == ">" else struct.pack("<2sHLH", b"II", 42, 8, 0) + bytes(4)
        after = into_block(ours, exif_tags(ROW, None))
        same = [a == b for a, b in zip(ours, after, strict=False)]
        assert sum(not each for each in same) <= 4 and len(after) > len(ours), (
            "but one pointer, nothing changed"
        )


@settings(max_examples=25)
@given(
    lat=st.floats(-90, 90),
    lon=st.floats(-180, 180),
    error=st.none() | st.floats(0.01, 1e7),
    heading=st.floats(0, 360),
)
@pytest.mark.parametrize("suffix", [".jpg", ".heic"])
def test_any_position_survives(tmp_path_factory, suffix, lat, lon, error, heading):
    row = replace(ROW, lat=lat, lon=lon, radius_90_m=error, heading_deg=heading)
    if suffix == ".jpg":
        made = io.BytesIO()
        PICTURE.save(made, "JPEG")
        with Image.open(io.BytesIO(into_file(made.getvalue(), exif_tags(row, heading)))) as image:
            gps = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        parts = [gps[TAGS.GPSLatitude], gps[TAGS.GPSLongitude]]
        found = [sum(float(part) / 60**i for i, part in enumerate(each)) for each in parts]
        found = [
            f * (-1 if gps[ref] in "SW" else 1)
            for f, ref in zip(found, (TAGS.GPSLatitudeRef, TAGS.GPSLongitudeRef), strict=True)
        ]
        direction = float(gps[TAGS.GPSImgDirection])
    else:
        folder = tmp_path_factory.mktemp("any")
        PICTURE.save(folder / "a.heic")
        list(tag([replace(row, file=str(folder / "a.heic"))], min_confidence=0))
        packet = Xmp(sidecar_path(folder / "a.heic").read_bytes().replace(b"ESTIMATE", b"MEASURED"))
        found, direction = packet.position(), packet.heading_deg()
    assert found == pytest.approx((lat, lon), abs=2e-8)
    assert direction == pytest.approx(heading % 360, abs=0.006)


def test_an_estimate_is_never_taken_for_a_position(tmp_path):
    PICTURE.save(tmp_path / "a.jpg")
    PICTURE.save(tmp_path / "b.heic")
    for name in ("a.jpg", "b.heic"):
        only(tmp_path / name)
    for loaded in (
        photo.load(tmp_path / "a.jpg"),
        photo.facts(tmp_path / "a.jpg"),
        photo.load(tmp_path / "b.heic", sidecar_path(tmp_path / "b.heic")),
    ):
        assert (loaded.lat, loaded.lon, loaded.accuracy_m, loaded.heading_deg) == (None,) * 4
    assert only(tmp_path / "a.jpg").outcome == "tagged", "a better estimate takes its place"


def test_facts_are_those_of_load(shared_data):
    for path in sorted((shared_data / "awkward_photos").rglob("*.jpg"))[:12]:
        with contextlib.suppress(photo.PhotoError):
            whole = photo.load(path)
            found = photo.facts(path)
            assert replace(whole, pixels=found.pixels, fov_deg=None) == replace(found, fov_deg=None)
            assert (found.fov_deg is None) == (whole.fov_deg is None)


def test_real_photos_keep_their_pixels_and_what_else_they_say(shared_data, tmp_path):
    """Cameras of many makers, broken EXIF among it: tagged, or given a sidecar, and never harmed."""
    outcomes = []
    for i, path in enumerate(sorted((shared_data / "awkward_photos").rglob("*"))):
        if path.suffix.lower() not in photo.SUFFIXES or path.stat().st_size > 2_000_000:
            continue
        copy = Path(shutil.copy(path, tmp_path / f"{i}{path.suffix}"))
        done = only(copy, overwrite=True)
        outcomes.append(done.outcome)
        if done.outcome != "tagged":
            assert copy.read_bytes() == path.read_bytes()
            continue
        with Image.open(path) as before, Image.open(copy) as after:
            assert dict(before.getexif()).keys() - {34853} == dict(after.getexif()).keys() - {34853}
            ifd = ExifTags.IFD.Exif
            assert repr(before.getexif().get_ifd(ifd)) == repr(after.getexif().get_ifd(ifd))
        with contextlib.suppress(OSError):  # cut off before and after
            assert np.array_equal(pixels_of(path), pixels_of(copy))
    assert outcomes.count("tagged") >= 15 and "failed" in outcomes


def test_a_measured_position_stays_unless_asked(tmp_path):
    measured = {1: "N", 2: ((1, 1), (2, 1), (3, 1)), 3: "E", 4: ((1, 1), (2, 1), (3, 1)), 17: (90, 1)}
    PICTURE.save(tmp_path / "a.jpg", exif=piexif.dump({"GPS": measured}))
    before = (tmp_path / "a.jpg").read_bytes()
    assert "position of its own" in only(tmp_path / "a.jpg").reason
    assert (tmp_path / "a.jpg").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    assert only(tmp_path / "a.jpg", overwrite=True).outcome == "tagged"
    assert float(gps_of(tmp_path / "a.jpg")[TAGS.GPSImgDirection]) == 271.5


def test_a_measured_heading_stays_beside_an_estimated_position(tmp_path):
    PICTURE.save(tmp_path / "a.jpg", exif=piexif.dump({"GPS": {17: (90, 1), 16: "M"}}))
    only(tmp_path / "a.jpg")
    gps = gps_of(tmp_path / "a.jpg")
    assert (float(gps[TAGS.GPSImgDirection]), gps[TAGS.GPSImgDirectionRef]) == (90, "M")
    assert photo.facts(tmp_path / "a.jpg").heading_deg == 90 and photo.facts(tmp_path / "a.jpg").lat is None


@pytest.mark.parametrize("name", ["a.heic", "a.gif", "a.bmp", "a.avif"])
def test_what_takes_no_exif_gets_a_sidecar(tmp_path, name):
    PICTURE.save(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    assert only(tmp_path / name).outcome == "sidecar"
    assert (tmp_path / name).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, f"{name}.xmp"]
    assert only(tmp_path / name).outcome == "sidecar", "ours may be written anew"
    (tmp_path / f"{name}.xmp").write_text("<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    assert only(tmp_path / name).reason == "has a sidecar that others wrote"


def test_a_jpeg_whose_exif_is_full_gets_a_sidecar(tmp_path):
    PICTURE.save(tmp_path / "a.jpg", exif=piexif.dump({"Exif": {piexif.ExifIFD.MakerNote: bytes(65_300)}}))
    assert only(tmp_path / "a.jpg").outcome == "sidecar"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lat": None, "lon": None, "status": "outside"}, "has no estimate"),
        ({"frame_s": 1.0}, "is a frame of a video"),
        ({"confidence": 0.49}, "is less sure than --min-confidence"),
    ],
)
def test_what_is_left_alone(tmp_path, changes, says):
    PICTURE.save(tmp_path / "a.jpg")
    (done,) = tag(rows_for(tmp_path / "a.jpg", **changes), min_confidence=0.5)
    assert (done.outcome, done.reason) == ("skipped", says)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_first_backup_is_kept_and_none_is_made_unasked(tmp_path):
    PICTURE.save(tmp_path / "a.jpg")
    original = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").chmod(0o640)
    only(tmp_path / "a.jpg")
    only(tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg_original").read_bytes() == original
    assert (tmp_path / "a.jpg").stat().st_mode & 0o777 == 0o640
    PICTURE.save(tmp_path / "b.jpg")
    only(tmp_path / "b.jpg", backup=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.jpg_original", "b.jpg"]


def test_a_link_is_followed_and_stays_one(tmp_path):
    PICTURE.save(tmp_path / "a.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    only(tmp_path / "link.jpg")
    assert (tmp_path / "link.jpg").is_symlink() and gps_of(tmp_path / "a.jpg")


def test_nothing_is_written_on_trial(tmp_path):
    for name in ("a.jpg", "b.heic"):
        PICTURE.save(tmp_path / name)
        before = (tmp_path / name).read_bytes()
        assert only(tmp_path / name, dry_run=True).outcome in ("tagged", "sidecar")
        assert (tmp_path / name).read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_fault_on_the_way_leaves_the_photo_as_it_was(tmp_path, monkeypatch):
    PICTURE.save(tmp_path / "a.jpg")
    before = (tmp_path / "a.jpg").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("zoomloc.tag.into_file", lambda data, tags: data)
        assert only(tmp_path / "a.jpg", dry_run=True).outcome == "sidecar", (
            "what cannot be read back is not written"
        )

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert only(tmp_path / "a.jpg").reason == "cannot be written (No space left on device); it is as it was"
    assert (tmp_path / "a.jpg").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} <= {"a.jpg", "a.jpg_original"}


@given(st.data())
@pytest.mark.parametrize("name", ["full.jpg", "full.png", "full.webp", "packed.tif"])
def test_damaged_files_raise_nothing_but_noroom(name, data):
    made = io.BytesIO()
    PICTURE.save(made, Path(name).suffix[1:].replace("jpg", "jpeg").replace("tif", "tiff"), **KINDS[name])
    broken = bytearray(made.getvalue())
    for at in data.draw(st.lists(st.integers(0, min(len(broken), 400) - 1), max_size=4)):
        broken[at] = data.draw(st.integers(0, 255))
    broken = broken[: data.draw(st.integers(0, len(broken)))]
    with contextlib.suppress(NoRoom):
        into_file(bytes(broken), exif_tags(ROW, 90.0))


def test_the_command(tmp_path, capsys, monkeypatch):
    PICTURE.save(tmp_path / "a.jpg")
    PICTURE.save(tmp_path / "b.heic")
    names = ["a.jpg", "b.heic", "gone.jpg"]
    some = [replace(ROW, file=str(tmp_path / name)) for name in names] + [
        Row(file="c.jpg", reason="c.jpg: broken")
    ]
    tables.write(some, tmp_path / "r.parquet")
    monkeypatch.setattr(sys, "argv", ["zoomloc", "tag", str(tmp_path / "r.parquet")])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    err = capsys.readouterr().err
    assert "zoomloc: tagged 1, in sidecars 1, skipped 1, failed 1" in err
    assert "1 × failed: no such file; check the path" in err
    assert gps_of(tmp_path / "a.jpg") and (tmp_path / "b.heic.xmp").exists()
    assert (tmp_path / "a.jpg_original").exists()
