"""Walks: a folder with times becomes a track, with a model that sees where a photo is as often as not."""

import json
import re
from datetime import UTC, datetime, timedelta

import gpxpy
import numpy as np
import piexif
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from zoomloc import checkpoint, tables, track_figure
from zoomloc.batch.jobs import Job
from zoomloc.cli import app
from zoomloc.config import PointerConfig
from zoomloc.errors import PriorError, SourceError, TrackError
from zoomloc.localizer import Localizer
from zoomloc.model import make_model
from zoomloc.posterior import Leaves
from zoomloc.region import Region
from zoomloc.sequence import Motion
from zoomloc.track import follow

START = datetime(2024, 5, 4, 10, 0, 0, tzinfo=UTC)
SIZES = {"width": 32, "encoder_layers": 1, "encoder_heads": 2, "patch_px": 8, "table_px": 48, "photo_px": 32,
         "view_px": 48, "decoder_layers": 1, "decoder_heads": 2}  # fmt: skip
SIDE = 16  # leaves of the tiny region, 20 m each


def untrained():
    torch.manual_seed(0)
    model = make_model(PointerConfig(kind="pointer", **SIZES))
    torch.nn.init.constant_(model.to_not_here.bias, -5)
    return model


class Seer(Localizer):
    """Reads the leaf out of a photo's colour, red for the column and green for the row; it says so of every other
    photo, and something else as surely of the rest. A blue photo is not here."""

    def encode(self, photos, fov_deg=None):
        return photos.float().mean(dim=(1, 2))

    def zoom(self, features, region, **_):
        return [self._leaves(*(round(value) for value in each)) for each in features.tolist()]

    def _leaves(self, red, green, blue):
        if blue > 128:
            return Leaves(np.empty((0, 2), np.int64), np.empty(0), not_here=0.98, unexpanded=0.02)
        row, col = green // 10, red // 10
        false = ((row * 7 + 3) % SIDE, (col * 5 + 8) % SIDE)
        places = [(row, col), false] if (row + col) % 2 else [false, (row, col)]
        paths = [[r // 4 * 4 + c // 4, r % 4 * 4 + c % 4] for r, c in places]
        return Leaves(np.array(paths), np.array([0.45, 0.3]), not_here=0.05, unexpanded=0.2)


def shoot(folder, leaves, *, first=START, step_s=20, zone="+00:00", colour=None, place=None):
    """Photos `step_s` apart, each showing its leaf (row, col). place: (lat, lon), north and east, for their EXIF."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (row, col) in enumerate(leaves):
        moment = (first + timedelta(seconds=i * step_s)).strftime("%Y:%m:%d %H:%M:%S")
        tags = {piexif.ExifIFD.DateTimeOriginal: moment}
        if zone:
            tags[0x9011] = zone  # OffsetTimeOriginal
        shown = colour or (col * 10 + 5, row * 10 + 5, 0)
        facts = {"Exif": tags}
        if place:
            lat, lon = ([(round(each * 10**7), 10**7), (0, 1), (0, 1)] for each in place)
            facts["GPS"] = {1: "N", 2: lat, 3: "E", 4: lon}
        path = folder / f"{i:03d}.png"
        Image.new("RGB", (64, 36), shown).save(path, exif=piexif.dump(facts)[6:])
    return folder


STREET = [(12 - i // 2, 2 + i) for i in range(12)]  # a leaf or so each 20 s


@pytest.fixture
def region(tiny_data):
    return Region.load(tiny_data / "region.json")


def jobs(*folders):
    return [Job(path) for folder in folders for path in sorted(folder.iterdir())]


def error_m(region, fix, leaf):
    x, y = region.grid.project(fix.prediction.lat, fix.prediction.lon)
    west, north = region.north_west
    return np.hypot(x - west - (leaf[1] + 0.5) * 20, north - y - (leaf[0] + 0.5) * 20)


def test_a_walk_is_followed_where_every_other_photo_misleads(region, tmp_path):
    folder = shoot(tmp_path / "walk", STREET)
    motion = Motion(speed_m_s=1.2, exponent=0.8)
    found = follow(Seer(untrained()), region, jobs(folder), motion=motion)
    (walk,) = found.walks
    errors = [error_m(region, fix, leaf) for fix, leaf in zip(walk, STREET, strict=True)]
    assert np.median(errors) < 20 and max(errors) < 45 and not found.failed
    grid = region.grid
    alone = [
        grid.cell_at(*grid.project(*fix.alone))[1:] == leaf for fix, leaf in zip(walk, STREET, strict=True)
    ]
    assert 0.2 < np.mean(alone) < 0.8
    assert [fix.row.status for fix in walk] == ["located"] * 12
    assert [fix.seconds - walk[0].seconds for fix in walk] == [20.0 * i for i in range(12)]


def test_photos_off_the_map_have_no_position(region, tmp_path):
    folder = shoot(tmp_path / "walk", STREET)
    shoot(tmp_path / "away", STREET, first=START + timedelta(minutes=10), colour=(0, 0, 255))
    for path in sorted((tmp_path / "away").iterdir()):
        path.rename(folder / f"z{path.name}")
    found = follow(Seer(untrained()), region, jobs(folder), motion=Motion(exponent=0.8))
    (walk,) = found.walks
    assert [fix.row.status for fix in walk] == ["located"] * 12 + ["outside"] * 12
    assert all(row.lat is None for row in found.rows[12:])


def test_the_time_decides_not_the_name_and_folders_are_walks_of_their_own(region, tmp_path):
    one = shoot(tmp_path / "one", STREET[:4])
    for i, path in enumerate(sorted(one.iterdir())):
        path.rename(one / f"{9 - i}.png")
    two = shoot(tmp_path / "two", STREET[:2])
    found = follow(Seer(untrained()), region, jobs(one, two), motion=Motion())
    assert [[fix.photo.path.name for fix in walk] for walk in found.walks] == [
        ["9.png", "8.png", "7.png", "6.png"],
        ["000.png", "001.png"],
    ]


def test_photos_without_a_time_fail_alone_and_mixed_clocks_are_refused(region, tmp_path):
    folder = shoot(tmp_path / "walk", STREET[:3])
    Image.new("RGB", (64, 36)).save(folder / "untimed.png")
    (folder / "broken.png").write_bytes(b"none")
    found = follow(Seer(untrained()), region, jobs(folder), motion=Motion())
    assert len(found.walks[0]) == 3
    assert sorted(row.reason.split(": ")[1][:12] for row in found.failed) == ["not an image", "tells no tim"]
    shoot(tmp_path / "other", STREET[:2], zone=None)
    with pytest.raises(TrackError, match="time zone"):
        follow(Seer(untrained()), region, jobs(folder, tmp_path / "other"), motion=Motion())
    with pytest.raises(TrackError, match=r"untimed.*tells no time; give one with --gpx"):
        follow(Seer(untrained()), region, [Job(folder / "untimed.png")], motion=Motion())


def test_the_picture_shows_the_way(region, tmp_path):
    folder = shoot(tmp_path / "walk", STREET)
    localizer = Seer(untrained())
    (walk,) = follow(localizer, region, jobs(folder), motion=Motion(speed_m_s=1.2, exponent=0.8)).walks
    track_figure.draw(walk, region=region, pyramid=region.open(), path=tmp_path / "walk.png")
    pixels = np.asarray(Image.open(tmp_path / "walk.png").convert("RGB")).astype(int)
    orange = np.abs(pixels - (213, 94, 0)).sum(axis=2) < 30
    rows, cols = np.nonzero(orange[: int(len(orange) * 0.75)])
    assert np.ptp(cols) > 250 and np.ptp(rows) > 60, "the way runs to the east and a little north"


# --- the command


@pytest.fixture
def track(tiny_data, tmp_path):
    """Runs `zoomloc track` with an untrained model."""
    checkpoint.save(untrained(), tmp_path / "model")
    fixed = ["--region", tiny_data / "region.json", "--checkpoint", tmp_path / "model", "--device", "cpu"]

    def run(*words, code=0):
        done = CliRunner().invoke(app, list(map(str, ["track", *words, *fixed])))
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_the_command_writes_a_track_with_times_and_how_sure_it_is_and_a_picture(track, tmp_path):
    folder = shoot(tmp_path / "walk", STREET)
    out = track(folder, "--out", tmp_path / "t.gpx", "--figure", tmp_path / "t.png", "--pace", "drive")
    assert re.search(r"walk: 12 of 12 photos located, half of the probability within \d+ m", out)
    (made,) = gpxpy.parse((tmp_path / "t.gpx").read_text()).tracks
    points = made.segments[0].points
    assert [point.time for point in points] == [START + timedelta(seconds=20 * i) for i in range(12)]
    assert all(re.search(r"half of the probability within \d+ m", point.description) for point in points)
    assert Image.open(tmp_path / "t.png").width > 600
    track(folder, "--out", tmp_path / "t.geojson", "--speed", "3")
    features = json.loads((tmp_path / "t.geojson").read_text())["features"]
    assert len(features) == 12 and all(f["properties"]["radius_90_m"] > 0 for f in features)


def test_times_come_from_gpx_where_photos_have_none(track, tmp_path):
    folder = tmp_path / "walk"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (64, 36)).save(folder / f"{i}.png")
    points = "".join(
        f'<trkpt lat="1" lon="2"><time>2024-05-04T10:00:{10 * i:02d}Z</time></trkpt>' for i in range(3)
    )
    text = f'<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{points}</trkseg></trk></gpx>'
    (tmp_path / "times.gpx").write_text(text)
    track(folder, "--out", tmp_path / "t.csv", "--gpx", tmp_path / "times.gpx")
    Image.new("RGB", (64, 36)).save(folder / "3.png")
    with pytest.raises(TrackError, match=r"times.gpx: has 3 points with a time for 4 photos"):
        track(folder, "--out", tmp_path / "t.csv", "--gpx", tmp_path / "times.gpx")
    with pytest.raises(SourceError, match=r"absent.gpx: no such file"):
        track(folder, "--out", tmp_path / "t.csv", "--gpx", tmp_path / "absent.gpx")
    (tmp_path / "bad.gpx").write_text("<gpx")
    with pytest.raises(SourceError, match=r"bad.gpx: not a GPX track"):
        track(folder, "--out", tmp_path / "t.csv", "--gpx", tmp_path / "bad.gpx")


def test_what_else_is_known_counts_where_it_is_asked_for(track, tiny_data, tmp_path):
    grid = Region.load(tiny_data / "region.json").grid
    corner = grid.unproject(grid.north_west[0] + 20, grid.north_west[1] - 20)
    folder = shoot(tmp_path / "walk", STREET, place=corner)

    def where(*words):
        track(folder, "--out", tmp_path / "t.csv", *words)
        rows = tables.read(tmp_path / "t.csv")
        return np.mean(
            [np.hypot(*np.subtract(grid.project(row.lat, row.lon), grid.project(*corner))) for row in rows]
        )

    unasked = where()
    assert where("--near", f"{corner[0]},{corner[1]},30") < 0.7 * unasked
    assert where("--gps-prior", 20) < 0.7 * unasked
    area = f"{corner[1]},{corner[0] - 2e-4},{corner[1] + 2e-4},{corner[0]}"
    assert where("--within", area) < 0.7 * unasked
    with pytest.raises(PriorError, match="lies off the region"):
        track(folder, "--out", tmp_path / "t.csv", "--near", "0,0,30")
