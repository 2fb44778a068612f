"""A small town of few small photos shows that big ones are what they claim to be."""

import hashlib
import json
import math
import subprocess
import sys
from itertools import pairwise
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
from data_prep.cities.drives import drive
from data_prep.cities.ground import make_ground
from data_prep.cities.look import Conditions, Season, Weather, overhead_look, street_look, sun_direction
from data_prep.cities.make import geographic
from data_prep.cities.mesh import Material, Mesh
from data_prep.cities.ortho import strip
from data_prep.cities.placement import Placement, Split, place
from data_prep.cities.plan import Plan, make_plan
from data_prep.cities.settings import CRS, NORTH_WEST
from data_prep.cities.square import Square
from data_prep.cities.tags import exif
from data_prep.cities.world import MOMENTS, World, make_world
from zoomloc import manifest
from zoomloc.errors import ConfigError, OutputError
from zoomloc.photo import load
from zoomloc.xmp import Xmp

SIZE_M = 320.0
SQUARE = Square(CRS, NORTH_WEST, SIZE_M)
SMALL = {"seed": 5, "photos": 14, "size_m": SIZE_M, "gsd_m": 1.0, "width": 96}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("town") / "made"
    make_city(out, **SMALL, workers=2)
    return out


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(make_plan(seed=5, size_m=SIZE_M), seed=5)


def test_an_old_seed_still_makes_the_same_town(world: World) -> None:
    """Data sets name the seed they were made from: these figures are of the first version of the simulator."""
    assert len(world.plan.streets) == 19
    assert world.plan.street_length_m == pytest.approx(1275.3863623806308)
    assert np.bincount(world.surfaces.material).tolist() == [1, 1, 288, 0, 72, 4391, 144, 45, 649, 951, 951]
    assert np.bincount(world.ground.kind.ravel())[:4].tolist() == [177630, 157442, 0, 557379]
    placed = place(world, seed=5, split=Split.of(14))
    first = [placed[k] for k in (0, 4, 12)]
    assert [(p.split, p.sequence, p.moment) for p in first] == [
        ("test", "test-0000", 2), ("train", None, 3), ("train", None, 2),
    ]  # fmt: skip
    assert [(p.pose.x, p.pose.y, p.pose.azimuth_deg, p.pose.fov_deg) for p in first] == [
        pytest.approx((10.542052148776076, 50.95247771667734, 192.04261955531078, 64.10498484443005)),
        pytest.approx((158.8908948864603, 152.50366497515012, 164.26096858439868, 75.65387546066829)),
        pytest.approx((155.6363569479088, 232.01238657134755, 168.57831823329238, 61.39538376897959)),
    ]
    look = street_look(np.random.default_rng([5, 6, 0]))
    assert (look.quality, look.clouds) == (83, pytest.approx(0.7806833229403276))


def test_a_town_of_defaults_keeps_its_record(town: Path) -> None:
    """So that a run begun before there were maps, drives and weather can be taken up again."""
    assert json.loads((town / "simulation.json").read_text()) == SMALL | {"height": 54, "test": 2, "val": 2}


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
    lat, lon, heading = geographic(SQUARE, shot)
    ahead = Pose(300 + 50 * math.sin(math.radians(25)), 300 + 50 * math.cos(math.radians(25)), 1.7, 0)
    lat2, lon2, _ = geographic(SQUARE, Placement(0, ahead, 1, "train", None))
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


ALL = {"seed": 5, "photos": 12, "size_m": SIZE_M, "gsd_m": 2.0, "width": 64}


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of four drives in a winter's fog, about half of the drives with a 360 degree camera."""
    out = tmp_path_factory.mktemp("driven")
    make_city(
        out, **ALL, test=2, val=2, drives=4, panoramas=0.5, season=Season.winter, weather=Weather.fog,
        hours=(10, 12), fov_deg=(50, 55), workers=1,
    )  # fmt: skip
    return out


def test_drives_are_of_one_split_one_camera_and_one_day(driven: Path) -> None:
    rows = manifest.read(driven / "manifest.parquet")
    assert rows["sequence"].nunique() == 4
    assert rows["split"].value_counts().to_dict() == {"train": 8, "val": 2, "test": 2}
    for _, shots in rows.groupby("sequence"):
        assert len(shots) >= 2
        for column in ("split", "projection", "fov"):
            assert shots[column].nunique() == 1
        assert shots["captured_at"].is_monotonic_increasing and shots["captured_at"].nunique() == len(shots)
        assert (shots["captured_at"].max() - shots["captured_at"].min()).total_seconds() < 600


def test_photos_of_drives_lie_apart_from_held_out_ones(world: World) -> None:
    placed = drive(world, seed=5, split=Split.of(40, test=4, val=2), drives=6)
    assert [p.number for p in placed] == list(range(40))
    at = {s: [(p.pose.x, p.pose.y) for p in placed if p.split == s] for s in ("train", "val", "test")}
    assert [len(at[s]) for s in ("train", "val", "test")] == [34, 2, 4]
    assert KDTree(at["val"] + at["test"]).query(at["train"])[0].min() >= 30.0
    for one, other in pairwise(placed):
        if one.drive == other.drive:
            step_m = math.hypot(one.pose.x - other.pose.x, one.pose.y - other.pose.y)
            assert other.elapsed_s > one.elapsed_s and step_m <= (other.elapsed_s - one.elapsed_s) * 12 + 8


def test_too_many_drives_are_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="drives"):
        drive(world, seed=5, split=Split.of(20, test=2, val=2), drives=18)
    with pytest.raises(ConfigError, match="drives"):
        drive(world, seed=5, split=Split.of(20, test=2, val=2), drives=2)


def test_panoramas_tell_what_they_are(driven: Path) -> None:
    rows = manifest.read(driven / "manifest.parquet")
    whole = rows[rows["projection"] == "spherical"]
    assert 0 < len(whole) < len(rows)
    assert (whole["fov"] == 360).all() and rows[rows["projection"] == "perspective"]["fov"].between(
        50, 55
    ).all()
    for row in whole.itertuples():
        with Image.open(driven / row.photo) as picture:
            assert picture.size == (128, 64)
            xmp = Xmp(picture.info["xmp"])
        assert xmp.panorama() == "equirectangular" and xmp.panorama_fov_deg() == 360
        assert xmp.panorama_heading_deg() == pytest.approx(row.heading, abs=1e-3)
        assert load(driven / row.photo).heading_deg == pytest.approx(row.heading, abs=1e-3)


def test_a_panorama_shows_the_box_where_it_stands(box_world: World) -> None:
    """40 m east of the camera: a quarter of the width right of north, and level with the middle row."""
    look = overhead_look(np.random.default_rng(0))
    for azimuth, column in ((0.0, 0.75), (90.0, 0.5), (200.0, 0.5 - 110 / 360)):
        pose = Pose(100, 200, 3.0, azimuth, fov_deg=360, spherical=True)
        shot = take(box_world, pose, look, width=256, height=128, moment=1, rng=np.random.default_rng(0))
        pixels = np.asarray(shot, int)
        rows, columns = np.nonzero(pixels[..., 0] - pixels[..., 1:].max(-1) > 40)
        assert np.median(columns) == pytest.approx(column * 256, abs=1.5)
        assert np.median(rows) == pytest.approx(64, abs=1.5)


def test_season_weather_and_hours_are_those_asked_for() -> None:
    for season, months in ((Season.summer, range(6, 10)), (Season.winter, (11, 12, 1, 2, 3))):
        of = Conditions(season=season, weather=Weather.clear, hours=(11, 13))
        for k in range(20):
            look = street_look(np.random.default_rng(k), of)
            assert look.captured_at.month in months and 11 <= look.captured_at.hour <= 13
            assert look.clouds <= 0.15 and look.sun.max() > 0
            assert look.leafless == (season is Season.winter)
    grey = [street_look(np.random.default_rng(k), Conditions(weather=Weather.overcast)) for k in range(20)]
    assert all(look.sun.max() == 0 and look.haze_per_m < 1 / 800 for look in grey)
    fog = street_look(np.random.default_rng(1), Conditions(weather=Weather.fog))
    assert fog.haze_per_m > 1 / 250


def test_the_sun_stands_where_the_place_is() -> None:
    """High in the north at noon of a southern summer, and at the place's own hour."""
    assert sun_direction(355, 12, -33.9)[1] > 0 and sun_direction(355, 12, -33.9)[2] > 0.95
    of = Conditions(season=Season.summer, latitude_deg=-33.9, hours=(12, 12), noon_utc_h=2.0)
    look = street_look(np.random.default_rng(0), of)
    assert look.captured_at.month in (12, 1, 2, 3) and look.captured_at.hour == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [({"panoramas": 1.5}, "share"), ({"hours": (2, 4)}, "no night"), ({"fov_deg": (5, 90)}, "no such lens")],
)
def test_impossible_photos_are_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        make_city(tmp_path / "town", **(SMALL | change))
    assert "\n" not in str(error.value)
