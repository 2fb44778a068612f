"""A small town of few small photos shows that big ones are what they claim to be."""

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import piexif
import pyproj
import pytest
import rasterio
from PIL import Image
from scipy.spatial import KDTree

from data_prep.cities import make_city
from data_prep.cities.camera import Pose, take
from data_prep.cities.city import NORTH_WEST, exif, geographic
from data_prep.cities.ground import make_ground
from data_prep.cities.look import overhead_look
from data_prep.cities.mesh import Material, Mesh
from data_prep.cities.ortho import strip
from data_prep.cities.placement import Placement, Split, place
from data_prep.cities.plan import Plan, make_plan
from data_prep.cities.world import MOMENTS, World, make_world
from zoomloc import manifest
from zoomloc.errors import ConfigError, OutputError
from zoomloc.photo import load

SIZE_M = 320.0
SMALL = {"seed": 5, "photos": 14, "size_m": SIZE_M, "gsd_m": 1.0, "width": 96}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("town") / "made"
    make_city(out, **SMALL, workers=2)
    return out


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(seed=5, size_m=SIZE_M)


def digests(folder: Path) -> dict[str, str]:
    files = [*folder.glob("photos/*.jpg"), folder / "city.tif", folder / "region.json"]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_same_bytes_whatever_the_workers(town: Path, tmp_path: Path) -> None:
    make_city(tmp_path / "again", **SMALL, workers=1)
    assert digests(tmp_path / "again") == digests(town)
    assert len(digests(town)) == SMALL["photos"] + 2


def test_a_killed_run_is_taken_up_again(town: Path) -> None:
    before = digests(town)
    kept, gone = town / "photos/000003.jpg", [town / "photos/000001.jpg", town / "photos/000011.jpg"]
    written = kept.stat().st_mtime_ns
    for path in gone:
        path.unlink()
    (town / "manifest.parquet").unlink()
    make_city(town, **SMALL, workers=2)
    assert digests(town) == before
    assert kept.stat().st_mtime_ns == written
    assert (town / "manifest.parquet").exists()


def test_another_seed_is_another_town(world: World) -> None:
    other = make_plan(seed=6, size_m=SIZE_M)
    assert not other.streets[0].line.equals(world.plan.streets[0].line)


def _position(path: Path) -> tuple[float, float, float]:
    gps = piexif.load(str(path))["GPS"]
    degrees = [
        sum(n / d / 60**k for k, (n, d) in enumerate(gps[tag]))
        for tag in (piexif.GPSIFD.GPSLatitude, piexif.GPSIFD.GPSLongitude)
    ]
    assert gps[piexif.GPSIFD.GPSImgDirectionRef] == b"T"
    n, d = gps[piexif.GPSIFD.GPSImgDirection]
    return degrees[0], degrees[1], n / d


def test_exif_agrees_with_the_manifest_and_lies_in_the_region(town: Path) -> None:
    region = json.loads((town / "region.json").read_text())
    west, north = region["north_west"]
    to_grid = pyproj.Transformer.from_crs("EPSG:4326", region["crs"], always_xy=True)
    rows = manifest.read(town / "manifest.parquet")
    assert len(rows) == SMALL["photos"]
    for row in rows.itertuples():
        lat, lon, heading = _position(town / row.photo)
        assert lat == pytest.approx(row.geometry.y, abs=1e-9)
        assert lon == pytest.approx(row.geometry.x, abs=1e-9)
        assert heading == pytest.approx(row.heading, abs=1e-3)
        x, y = to_grid.transform(lon, lat)
        assert west < x < west + region["size_m"] and north - region["size_m"] < y < north
        tags = piexif.load(str(town / row.photo))
        assert tags["0th"][piexif.ImageIFD.ImageDescription] == b"simulated"
        assert load(town / row.photo).fov_deg == pytest.approx(
            row.fov, abs=1.5
        )  # EXIF holds whole millimetres
        assert Image.open(town / row.photo).size == (96, 54)


def test_training_photos_keep_away_from_held_out_ones(world: World) -> None:
    placed = place(world, seed=5, split=Split.of(400, test=8, val=4))
    at = {
        s: np.array([(p.pose.x, p.pose.y) for p in placed if p.split == s]) for s in ("train", "val", "test")
    }
    assert [len(at[s]) for s in ("train", "val", "test")] == [388, 4, 8]
    held = np.concatenate([at["val"], at["test"]])
    assert KDTree(held).query(at["train"])[0].min() >= 30.0
    for first, second in zip(at["test"][::2], at["test"][1::2], strict=True):
        assert np.hypot(*(first - second)) < 4.0


def test_training_photos_lie_on_all_the_streets_left(world: World) -> None:
    placed = place(world, seed=5, split=Split.of(600, test=2, val=2))
    where = KDTree([(p.pose.x, p.pose.y) for p in placed])
    for street in world.plan.streets:
        middle = street.line.interpolate(0.5, normalized=True)
        if 20 < middle.x < SIZE_M - 20 and 20 < middle.y < SIZE_M - 20:
            near = where.query((middle.x, middle.y))[0]
            held = min(math.hypot(middle.x - p.pose.x, middle.y - p.pose.y) for p in placed[:4])
            assert near < 12 or held < 45


def test_default_split() -> None:
    assert Split.of(24000) == Split(23200, 200, 600)
    assert Split.of(24) == Split(20, 2, 2)


def test_overhead_picture_is_a_cog_in_its_place(town: Path) -> None:
    region = json.loads((town / "region.json").read_text())
    assert (region["branch"], region["depth"], region["imagery"]) == (4, 2, ["city.tif"])
    assert "simulated" in region["attribution"]
    with rasterio.open(town / "city.tif") as picture:
        assert picture.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert picture.overviews(1)
        assert picture.crs.to_string() == "EPSG:32632"
        assert (picture.bounds.left, picture.bounds.top) == tuple(region["north_west"]) == NORTH_WEST
        assert picture.bounds.right - picture.bounds.left == SIZE_M
        assert picture.read().std() > 20


def empty_world() -> tuple[Plan, Mesh]:
    mesh = Mesh()
    plan = Plan(SIZE_M, (), (), (), *(make_plan(seed=1, size_m=SIZE_M).water,) * 2)
    mesh.polygon(
        [(-400, -400, 0), (800, -400, 0), (800, 800, 0), (-400, 800, 0)], Material.GROUND, (0.5,) * 3
    )
    return plan, mesh


@pytest.fixture(scope="module")
def box_world() -> World:
    """A meadow with one box: red walls, blue roof, 40 m east of (100, 200)."""
    plan, mesh = empty_world()
    outline = [(138, 197), (144, 197), (144, 203), (138, 203)]
    mesh.prism(outline, 0, 6, Material.PLAIN, (0.9, 0.05, 0.05), top=(Material.PLAIN, (0.05, 0.05, 0.9)))
    return World.assemble(plan, make_ground(plan, [], []), mesh, seed=1)


def test_a_camera_heading_east_sees_what_is_in_the_east(box_world: World) -> None:
    look = overhead_look(np.random.default_rng(0))
    pixels = {}
    for azimuth in (0, 90, 180, 270):
        pose = Pose(100, 200, 1.7, azimuth)
        shot = take(box_world, pose, look, width=96, height=54, moment=1, rng=np.random.default_rng(0))
        pixels[azimuth] = np.asarray(shot, int)[24:27, 46:50].mean((0, 1))
    red = {a: p[0] - p[1:].max() for a, p in pixels.items()}
    assert red[90] > 40
    assert max(red[0], red[180], red[270]) < 20


def test_the_overhead_pixel_there_shows_its_roof(box_world: World) -> None:
    look = overhead_look(np.random.default_rng(0))
    rows = strip(box_world, look, 64, 1.0).astype(int)  # rows 64..127, north at the top
    row, col = int(SIZE_M - 200) - 64, 141
    assert rows[2, row, col] > rows[:2, row, col].max() + 40
    assert rows[2, row, col - 10] < rows[1, row, col - 10] + 20


def project(pose: Pose, point: tuple[float, float, float], width: int, height: int) -> tuple[float, float]:
    """Column and row at which a pinhole camera shows a point."""
    right, down, forward = pose.axes() @ (np.array(point) - (pose.x, pose.y, pose.z))
    focal_px = width / 2 / math.tan(math.radians(pose.fov_deg) / 2)
    return right / forward * focal_px + width / 2, down / forward * focal_px + height / 2


def test_the_field_of_view_is_the_one_stated(box_world: World) -> None:
    """The box's edges appear where the pinhole formula puts them, for tilted cameras too."""
    look = overhead_look(np.random.default_rng(0))
    for fov in (60.0, 90.0):
        pose = Pose(100, 200, 1.7, 80, pitch_deg=2, roll_deg=1.5, fov_deg=fov)
        left, right = (project(pose, (138, y, 1.7), 192, 108) for y in (203, 197))
        shot = take(box_world, pose, look, width=192, height=108, moment=1, rng=np.random.default_rng(0))
        line = np.asarray(shot, int)[round((left[1] + right[1]) / 2)]
        red = np.flatnonzero(line[:, 0] - line[:, 1:].max(1) > 40)
        assert red.min() == pytest.approx(left[0], abs=2) and red.max() == pytest.approx(right[0], abs=2)
        half = math.radians(10 + math.degrees(math.atan2(3, 38)))  # of the right edge, without roll
        assert right[0] - 96 == pytest.approx(96 * math.tan(half) / math.tan(math.radians(fov / 2)), abs=3)


def test_headings_are_from_true_north() -> None:
    """A step along the azimuth in the grid is a step along the heading on the globe."""
    shot = Placement(0, Pose(300, 300, 1.7, 25.0), 1, "train", None)
    lat, lon, heading = geographic(shot, SIZE_M)
    ahead = Pose(300 + 50 * math.sin(math.radians(25)), 300 + 50 * math.cos(math.radians(25)), 1.7, 0)
    lat2, lon2, _ = geographic(Placement(0, ahead, 1, "train", None), SIZE_M)
    bearing = pyproj.Geod(ellps="WGS84").inv(lon, lat, lon2, lat2)[0] % 360
    assert heading == pytest.approx(bearing, abs=0.01)
    assert abs(heading - 25) > 0.2  # the correction is not nothing here


def test_cameras_stand_in_the_open(world: World) -> None:
    for shot in place(world, seed=5, split=Split.of(60))[::4]:
        p = shot.pose
        assert 1.4 <= p.z <= 2.2 and 60 <= p.fov_deg <= 90 and abs(p.pitch_deg) <= 4 and abs(p.roll_deg) <= 2
        assert 1 <= shot.moment < MOMENTS  # moment 0 is the one seen from above
        rays = p.rays(32, 18)
        hits = world.cast(np.tile(np.array([[p.x, p.y, p.z]], np.float32), (len(rays), 1)), rays, shot.moment)
        assert np.quantile(hits.distance_m, 0.02) > 1.0


def test_exif_keeps_the_position_below_a_millimetre() -> None:
    tags = piexif.load(
        exif(
            lat=-33.123456789,
            lon=-70.987654321,
            heading_deg=359.9,
            fov_deg=70,
            captured_at=overhead_look(np.random.default_rng(0)).captured_at,
        )
    )
    gps = tags["GPS"]
    assert (gps[piexif.GPSIFD.GPSLatitudeRef], gps[piexif.GPSIFD.GPSLongitudeRef]) == (b"S", b"W")
    lat = sum(n / d / 60**k for k, (n, d) in enumerate(gps[piexif.GPSIFD.GPSLatitude]))
    assert lat == pytest.approx(33.123456789, abs=5e-9)


@pytest.mark.parametrize("change", [{"size_m": 100.0}, {"gsd_m": 0.7}, {"photos": 4}, {"width": 10}])
def test_impossible_sizes_are_refused_in_one_line(tmp_path: Path, change: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as error:
        make_city(tmp_path / "town", **(SMALL | change))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "town").exists()


def test_a_file_or_another_town_in_the_way_is_refused(town: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        make_city(tmp_path / "file", **SMALL)
    with pytest.raises(OutputError, match="other settings"):
        make_city(town, **(SMALL | {"seed": 6}))


@pytest.mark.parametrize("command", [["data_prep.cities"], ["zoomloc", "prep", "city"]])
def test_the_command_fails_in_one_line(tmp_path: Path, command: list[str]) -> None:
    words = ["--out", str(tmp_path / "town"), "--size-m", "10"]
    done = subprocess.run([sys.executable, "-m", *command, *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert "too small" in done.stderr
    assert len(done.stderr.splitlines()) == 1
