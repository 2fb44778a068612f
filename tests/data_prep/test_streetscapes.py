import math
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_prep import streetscapes
from data_prep.streetscapes import Views, import_streetscapes, parse_headings
from data_prep.streetscapes_table import read
from zoomloc import manifest
from zoomloc.cli import app
from zoomloc.errors import ConfigError, OutputError, SourceError

FOUR = Views((0.0, 90.0, 180.0, 270.0), 90.0)
ROW = {
    "source": "Mapillary", "lat": 47.9, "lon": 1.9, "heading": 120.0, "projection_type": "perspective",
    "datetime_local": "2021-06-12 11:42:27+02:00", "sequence_id": "drive", "hFoV": 70.0,
}  # fmt: skip


def _panorama(north_col):
    """Level colours by direction: red in the north, green east, blue south, grey west, of a panorama 512 px wide."""
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)], np.uint8)
    quarter = (((np.arange(512) - north_col + 64) % 512) // 128).astype(int)
    return np.tile(colours[quarter], (256, 1, 1))


@pytest.fixture
def folder(tmp_path):
    """A table and its images."""
    folder = tmp_path / "streetscapes"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("flat", "fish", "earlier"):
        Image.fromarray(rng.integers(0, 255, (96, 128, 3), np.uint8)).save(folder / "images" / f"{name}.jpeg")
    # Its middle column looks to 120 degrees: north is 120 degrees to the left of it.
    Image.fromarray(_panorama(256 - 512 * 120 / 360)).save(folder / "images" / "ball.jpeg", quality=95)
    Image.fromarray(_panorama(256)).save(folder / "images" / "lost.jpeg", quality=95)
    (folder / "images" / "broken.jpeg").write_bytes(b"no image")
    return folder


def _write(folder, *rows):
    pd.DataFrame([ROW | row for row in rows]).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def _import(folder, out, *rows, views=FOUR, **more):
    table = _write(folder, *rows)
    rejected = import_streetscapes(table, folder, out, views=views, **more)
    return manifest.read(out / "manifest.parquet").set_index("photo"), {r.name: r.reason for r in rejected}


def test_a_perspective_photo_is_linked_with_all_the_table_says(folder, tmp_path):
    frame, rejected = _import(
        folder, tmp_path / "out", {"uuid": "flat"}, {"uuid": "gone"}, {"uuid": "broken"}
    )
    row = frame.loc["photos/flat.jpeg"]
    assert len(frame) == 1 and (row.geometry.y, row.geometry.x) == (47.9, 1.9)
    assert (row.heading, row.fov, row.projection, row.split) == (120, 70, "perspective", "train")
    assert row.sequence == "drive" and row.captured_at == pd.Timestamp("2021-06-12T09:42:27Z")
    assert (row.licence, row.attribution) == ("CC BY-SA 4.0", "Mapillary contributors")
    assert (tmp_path / "out" / "photos" / "flat.jpeg").samefile(folder / "images" / "flat.jpeg")
    assert rejected["gone"] == "no image" and rejected["broken"].startswith("not an image")


def test_a_spherical_photo_becomes_views_from_true_north(folder, tmp_path):
    frame, _ = _import(folder, tmp_path / "out", {"uuid": "ball", "projection_type": "spherical"})
    assert set(frame.projection) == {"perspective"} and set(frame.fov) == {90}
    seen = {}
    for name, row in frame.iterrows():
        pixels = np.asarray(Image.open(tmp_path / "out" / name)).astype(int)
        seen[row.heading] = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]
    for heading, colour in {0: (255, 0, 0), 90: (0, 255, 0), 180: (0, 0, 255), 270: (128, 128, 128)}.items():
        assert np.abs(seen[heading] - colour).max() < 20, heading


def test_a_spherical_photo_without_heading_gives_views_without_heading(folder, tmp_path):
    row = {"uuid": "lost", "projection_type": "spherical", "heading": 0.0}
    frame, rejected = _import(
        folder,
        tmp_path / "out",
        row,
        {"uuid": "flat", "projection_type": "spherical"},
        views=Views((0.0, 45.5), 60),
    )
    assert set(frame.index) == {"photos/lost-0.jpg", "photos/lost-45.5.jpg"} and frame.heading.isna().all()
    assert rejected["flat"] == "not a whole sphere: 128 x 96 pixels"


def test_what_mapillary_computed_counts_more(folder, tmp_path):
    row = {
        "uuid": "earlier", "hFoV": None, "projection_type": None, "mly_is_pano": False, "sequence_id": None,
        "mly_sequenceId": "old", "mly_camera_parameters": "[0.5, 0.01, 0]", "mly_computed_compass_angle": 130.5,
        "mly_computed_geometry": "{'type': 'Point', 'coordinates': [1.25, 47.5]}",
    }  # fmt: skip
    fisheye = {
        "uuid": "fish",
        "projection_type": "fisheye",
        "hFoV": None,
        "mly_camera_parameters": "[0.5, 0, 0]",
    }
    frame, _ = _import(folder, tmp_path / "out", row, fisheye)
    found = frame.loc["photos/earlier.jpeg"]
    assert (found.geometry.x, found.geometry.y, found.heading, found.sequence) == (1.25, 47.5, 130.5, "old")
    assert found.projection == "perspective" and found.fov == pytest.approx(90)
    assert frame.fov["photos/fish.jpeg"] == pytest.approx(math.degrees(2))


def test_rows_that_cannot_be_used_are_told_apart(folder):
    table = _write(
        folder,
        {"uuid": "a", "lat": "nowhere"},
        {"uuid": "b", "lat": 0, "lon": 0},
        {"uuid": "c", "projection_type": None},
        {"uuid": "d", "lon": 190},
        {"uuid": "e", "heading": "north", "datetime_local": "yesterday", "hFoV": "wide"},
        {"uuid": "e"},
        {
            "uuid": "f",
            "hFoV": 400,
            "mly_computed_geometry": "{'coordinates': [1]}",
            "mly_camera_parameters": "[]",
        },
    )
    records, rejected = read(table)
    reasons = [
        "no position",
        "no position",
        "its projection is not said",
        "no position",
        "named twice in the table",
    ]
    assert [each.reason for each in rejected] == reasons
    record, odd = records
    assert odd.fov_deg is None and odd.focal is None and (odd.lat, odd.lon) == (47.9, 1.9)
    assert record.heading_deg is None and record.captured_at is None and record.fov_deg is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [("uuid,lat\n1,2\n", "no column source, lon"), ("", "not a CSV"), (None, "cannot be read")],
)
def test_files_that_are_no_table_are_refused_in_one_line(tmp_path, text, problem):
    if text is not None:
        (tmp_path / "table.csv").write_text(text)
    with pytest.raises(SourceError, match=problem) as raised:
        read(tmp_path / "table.csv")
    assert "\n" not in str(raised.value)


def test_a_second_run_makes_only_what_is_missing(folder, tmp_path, monkeypatch):
    rows = [{"uuid": "flat"}, {"uuid": "ball", "projection_type": "spherical"}, {"uuid": "broken"}]
    first, _ = _import(folder, tmp_path / "out", *rows)
    made, make = [], streetscapes._make
    monkeypatch.setattr(
        streetscapes, "_make", lambda record, *more: made.append(record.uuid) or make(record, *more)
    )
    again, rejected = _import(folder, tmp_path / "out", *rows)
    assert made == [] and again.equals(first) and "broken" in rejected
    (tmp_path / "out" / "photos" / "ball-90.jpg").unlink()
    rows[0]["heading"] = 125.0
    again, _ = _import(folder, tmp_path / "out", *rows)
    assert made == ["flat", "ball"] and again.heading["photos/flat.jpeg"] == 125
    with pytest.raises(OutputError, match="other settings"):
        _import(folder, tmp_path / "out", *rows, views=Views((0.0,), 60))


def redden(pixels):
    pixels[..., 0] = 255
    return pixels


def test_views_and_photos_are_blurred(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_blur", sys.modules[__name__])
    rows = [{"uuid": "flat"}, {"uuid": "ball", "projection_type": "spherical"}]
    frame, _ = _import(folder, tmp_path / "out", *rows, blur="my_blur:redden")
    assert len(frame) == 5
    for name in frame.index:
        assert np.asarray(Image.open(tmp_path / "out" / name))[..., 0].mean() > 220


def test_a_dataset_among_the_images_is_not_taken_for_images(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_blur", sys.modules[__name__])
    out = folder / "images" / "out"
    _import(folder, out, {"uuid": "flat"}, blur="my_blur:redden")
    made, make = [], streetscapes._make
    monkeypatch.setattr(
        streetscapes, "_make", lambda record, *more: made.append(record.uuid) or make(record, *more)
    )
    frame, _ = _import(folder, out, {"uuid": "flat"}, blur="my_blur:redden")
    assert list(frame.index) == ["photos/flat.jpg"] and made == []


def test_headings_are_degrees():
    assert parse_headings("0,90, 180.5") == (0, 90, 180.5)
    for text in ("", "north", "0,360", "-1", "0,0", "nan"):
        with pytest.raises(ConfigError, match="--headings"):
            parse_headings(text)


def test_the_published_tables(shared_data, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    real = shared_data / "streetscapes"
    spherical, perspective = "c23b33d4-1b36-43a3-a166-de1386013b4a", "15a8dff1-8f72-4af3-b9b5-9b8c9af83104"
    for name in (spherical, perspective):
        (folder / f"{name}.jpeg").symlink_to(real / "stuttgart_singapore" / f"{name}.jpeg")
    table = real / "stuttgart_singapore" / "metadata_common_attributes.csv"
    words = ["prep", "streetscapes", str(table), "--images", str(folder), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--headings", "0,120,240", "--fov", "100"])
    assert done.exit_code == 0, done.output
    frame = manifest.read(tmp_path / "out" / "manifest.parquet").set_index("photo")
    assert sorted(frame.heading.round(1)) == [0, 65.4, 120, 240] and frame.captured_at.notna().all()
    assert "2,317 photos rejected" in done.output and (tmp_path / "out" / "map.png").exists()
    earlier, rejected = read(real / "tiny" / "metadata.csv")
    kinds = pd.Series([record.projection for record in earlier]).value_counts()
    assert dict(kinds) == {"perspective": 33, "spherical": 4, "fisheye": 3} and rejected == []
    assert sum(record.heading_deg is None for record in earlier) == 1
