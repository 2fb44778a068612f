import csv

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep import maps
from data_prep.report import Rejected, finish
from zoomloc.errors import ManifestError

TEST_COLOUR, TRAIN_COLOUR = (0xD5, 0x5E, 0x00), (0x56, 0xB4, 0xE9)


def pixels_of(path, colour):
    return int((np.asarray(Image.open(path).convert("RGB")) == colour).all(axis=2).sum())


def test_the_report_says_what_there_is_and_what_was_left_out(drives, capsys):
    frame = drives.frame()
    frame.loc[:4, "heading"] = None
    folder = drives.write(frame)
    rejected = [*(Rejected(f"{i}.jpg", "no position") for i in range(1200)), Rejected("[b]x.jpg", "broken")]
    finish(folder, rejected)
    shown = capsys.readouterr().out
    for words in (
        "72: 60 train, 12 test", "67 of 72 photos", "every photo", "2024-06-01", "CC0-1.0", "perspective",
        "1,201 photos rejected", "1,200", "no position", "[b]x.jpg", "45.1",
    ):  # fmt: skip
        assert words in shown, words
    assert len(shown.splitlines()) < 40, "one screen"
    with (folder / "rejected.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1201 and rows[-1] == {"photo": "[b]x.jpg", "reason": "broken"}


def test_a_run_without_rejected_photos_leaves_no_old_list(drives, capsys):
    folder = drives.write(drives.frame())
    (folder / "rejected.csv").write_text("of an earlier run")
    finish(folder, [])
    assert not (folder / "rejected.csv").exists()
    assert "photos rejected" not in capsys.readouterr().out


def test_where_every_photo_was_rejected_the_reasons_are_told(tmp_path, capsys):
    with pytest.raises(ManifestError, match="no such manifest"):
        finish(tmp_path, [Rejected("a.jpg", "no position")])
    assert "no position" in capsys.readouterr().out and (tmp_path / "rejected.csv").exists()


def test_the_map_shows_imagery_and_every_split_in_its_colour(drives):
    folder = drives.write(drives.frame())
    finish(folder, [])
    path = folder / "map.png"
    assert pixels_of(path, TEST_COLOUR) > 20 and pixels_of(path, TRAIN_COLOUR) > 20
    assert pixels_of(path, (90, 120, 80)) > 10_000, "the imagery"


def test_a_map_without_region_is_plain_and_in_metres_or_degrees(drives):
    frame = drives.frame()
    folder = drives.write(frame, region=False)
    ground = maps.ground(frame, folder)
    assert ground.view is None and not ground.in_degrees
    points = maps.project(frame, ground.crs)
    step_m = np.linalg.norm(points[1] - points[0])
    assert step_m == pytest.approx(20, abs=0.05)
    frame.loc[0, "geometry"] = frame.geometry[0].__class__(120, -30)
    wide = maps.ground(frame, folder)
    assert wide.in_degrees and 111 < wide.bounds.width < 130
    maps.draw(frame, maps.ground(frame, folder), folder / "wide.png", title="wide")
    assert pixels_of(folder / "wide.png", TEST_COLOUR) > 2


def test_imagery_that_is_gone_costs_the_picture_only(drives, capsys):
    folder = drives.write(drives.frame())
    (folder / "city.tif").unlink()
    finish(folder, [])
    shown = capsys.readouterr()
    assert "without imagery" in shown.err and "city.tif" in shown.err
    assert pixels_of(folder / "map.png", TEST_COLOUR) > 20


def test_photos_beyond_the_map_are_counted(drives):
    frame = drives.frame()
    folder = drives.write(frame)
    frame.loc[0, "geometry"] = frame.geometry[0].__class__(9.5, 45.1)
    ground = maps.ground(frame, folder)
    assert ground.bounds.width <= drives.size_m
    assert maps.beyond(frame, ground) == 1


def test_headings_follow_true_north_not_the_grid(drives):
    frame = drives.frame().head(3).assign(heading=[0.0, 90.0, None])
    crs = "EPSG:32633"  # the next zone: the grid leans by four degrees there
    lean = pyproj.Proj(crs).get_factors(frame.geometry.x[0], frame.geometry.y[0]).meridian_convergence
    north, east, unknown = maps.looking(frame, crs)
    assert abs(lean) > 4
    assert np.degrees(np.arctan2(north[0], north[1])) == pytest.approx(-lean, abs=0.01)
    assert abs(north @ east) < 1e-3 and np.isnan(unknown).all()


@given(st.floats(1e-3, 1e7))
def test_a_scale_bar_has_a_round_length(at_most):
    length = maps.round_length(at_most)
    assert at_most / 2.5001 <= length <= at_most
    assert f"{length:e}"[0] in "125" and float(f"{length:.0e}") == pytest.approx(length)
