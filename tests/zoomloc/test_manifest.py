import shutil

import geopandas as gpd
import pandas as pd
import pytest
from shapely import Point

from zoomloc import manifest
from zoomloc.dataset import PhotoDataset
from zoomloc.errors import ManifestError
from zoomloc.grid import Grid

NAMES = ["photos/a.jpg", "photos/b.jpg", "photos/c d.jpg"]


@pytest.fixture
def frame(tmp_path):
    """Three good rows, and their image files beside the manifest to be."""
    (tmp_path / "photos").mkdir()
    for name in NAMES:
        (tmp_path / name).touch()
    rows = {
        "photo": NAMES,
        "heading": [0.0, 359.5, None],
        "captured_at": pd.to_datetime(["2024-05-01T12:00:00+02:00", None, None], utc=True),
        "sequence": ["drive-1", "drive-1", None],
        "split": ["train", "val", "train"],
        "fov": [70.0, None, 360.0],
        "projection": ["perspective", "fisheye", "spherical"],
    }
    points = [Point(8.0, 46.3), Point(8.001, 46.301), Point(-8.0, -46.3)]
    return gpd.GeoDataFrame(rows, geometry=points, crs="EPSG:4326")


def test_what_is_written_is_read(frame, tmp_path):
    manifest.write(frame, tmp_path / "manifest.parquet")
    back = manifest.read(tmp_path / "manifest.parquet")
    assert list(back["photo"]) == NAMES
    assert back.crs == "EPSG:4326" and list(back.geometry) == list(frame.geometry)
    assert back["captured_at"].dt.tz is not None and back["captured_at"][0].hour == 10
    assert back["heading"].dtype == "float64" and back["heading"].isna().sum() == 1
    assert pd.isna(back["sequence"][2])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.parquet", "photos"]  # no draft is left


def test_columns_that_are_null_throughout_keep_their_types(frame, tmp_path):
    empty = frame.assign(heading=None, fov=None, captured_at=None, sequence=None)
    manifest.write(empty, tmp_path / "manifest.parquet")
    back = manifest.read(tmp_path / "manifest.parquet")
    assert back["heading"].dtype == back["fov"].dtype == "float64"
    assert back["captured_at"].dt.tz is not None


def test_one_split(frame, tmp_path):
    manifest.write(frame, tmp_path / "manifest.parquet")
    train = manifest.read(tmp_path / "manifest.parquet", "train")
    assert list(train["photo"]) == [NAMES[0], NAMES[2]] and list(train.index) == [0, 1]
    with pytest.raises(ManifestError, match="no photos of split 'test'; it has train, val"):
        manifest.read(tmp_path / "manifest.parquet", "test")


def test_credits_are_kept_and_may_be_missing(frame, tmp_path):
    manifest.write(frame, tmp_path / "manifest.parquet")
    assert manifest.read(tmp_path / "manifest.parquet").licence.isna().all()
    credited = frame.assign(licence=["CC BY-SA 4.0", None, None], attribution=[None, "somebody", None])
    manifest.write(credited, tmp_path / "manifest.parquet")
    back = manifest.read(tmp_path / "manifest.parquet")
    assert back.licence[0] == "CC BY-SA 4.0" and back.attribution[1] == "somebody"
    assert back.licence.isna().sum() == back.attribution.isna().sum() == 2
    with pytest.raises(ManifestError, match=r"licence, row 0 \(4\): not a text"):
        manifest.write(frame.assign(licence=[4, "CC0", None]), tmp_path / "manifest.parquet")


def _moved(frame, row, point):
    points = list(frame.geometry)
    points[row] = point
    return frame.set_geometry(gpd.GeoSeries(points, crs=frame.crs, name="geometry"))


def _with(frame, column, row, value):
    values = list(frame[column])
    values[row] = value
    return frame.assign(**{column: pd.Series(values, dtype=object)})


BROKEN = {
    "no column heading, fov": lambda f: f.drop(columns=["heading", "fov"]),
    "no rows": lambda f: f.iloc[:0],
    "geometry: CRS is missing": lambda f: f.set_crs(None, allow_override=True),
    "geometry: CRS is WGS 84 / UTM zone 32N.*to_crs": lambda f: f.to_crs(32632),
    "geometry, row 1 .*latitude not in": lambda f: _moved(f, 1, Point(46.3, 108.0)),
    "geometry, row 2 .*longitude not in": lambda f: _moved(f, 2, Point(190, 46)),
    "geometry, row 0 .*latitude": lambda f: _moved(f, 0, Point(8, float("nan"))),
    "geometry, row 1 .*not a point": lambda f: _moved(f, 1, None),
    "geometry, row 2 .*not a point": lambda f: _moved(f, 2, Point(8, 46).buffer(1)),
    "split, row 2 .holdout.: unknown; use one of train, val, test": lambda f: _with(f, "split", 2, "holdout"),
    "projection, row 0 .*unknown": lambda f: _with(f, "projection", 0, None),
    "heading, row 1 .361.*degrees": lambda f: _with(f, "heading", 1, 361.0),
    "heading, row 1 .north.*degrees": lambda f: _with(f, "heading", 1, "north"),
    "fov, row 0 .-1.*degrees": lambda f: _with(f, "fov", 0, -1.0),
    "captured_at, row 0 .*zone": lambda f: f.assign(captured_at=pd.Timestamp("2024-05-01 12:00")),
    "captured_at, row 1 .*zone; give UTC": lambda f: _with(f, "captured_at", 1, "yesterday"),
    "photo, row 2 .photos/gone.jpg.: no such file": lambda f: _with(f, "photo", 2, "photos/gone.jpg"),
    "photo, row 0 .*absolute": lambda f: _with(f, "photo", 0, "/photos/a.jpg"),
    "photo, row 1 .*not a path": lambda f: _with(f, "photo", 1, None),
    "photo, row 1 .*named twice": lambda f: _with(f, "photo", 1, NAMES[0]),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_table_is_refused_in_one_line_on_both_ways(frame, tmp_path, message):
    broken = BROKEN[message](frame)
    path = tmp_path / "manifest.parquet"
    with pytest.raises(ManifestError, match=message) as on_write:
        manifest.write(broken, path)
    assert not path.exists()
    try:
        broken.to_parquet(path)
    except Exception:
        return  # this fault cannot even be stored
    with pytest.raises(ManifestError) as on_read:
        manifest.read(path)
    for raised in (on_write, on_read):
        text = str(raised.value)
        assert text.startswith(str(path)) and "\n" not in text


def test_files_that_are_no_manifest(tmp_path):
    with pytest.raises(ManifestError, match="no such manifest"):
        manifest.read(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("photo,lat\n")
    with pytest.raises(ManifestError, match="not GeoParquet") as raised:
        manifest.read(tmp_path / "text.parquet")
    assert "\n" not in str(raised.value)
    pd.DataFrame({"photo": ["a.jpg"]}).to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(ManifestError, match="not GeoParquet"):
        manifest.read(tmp_path / "plain.parquet")


def test_a_failed_write_leaves_the_old_manifest(frame, tmp_path):
    path = tmp_path / "manifest.parquet"
    manifest.write(frame, path)
    before = path.read_bytes()
    with pytest.raises(ManifestError):
        manifest.write(_with(frame, "split", 0, "holdout"), path)
    assert path.read_bytes() == before


@pytest.fixture
def in_shards(frame, tmp_path):
    """The same rows as two files of a folder."""
    manifest.write(frame, tmp_path / "whole.parquet")
    typed = manifest.read(tmp_path / "whole.parquet")
    folder = tmp_path / "manifest.parquet"
    folder.mkdir()
    typed[:2].to_parquet(folder / "part-0.parquet", index=False)
    typed[2:].to_parquet(folder / "part-1.parquet", index=False)
    return folder


def test_a_folder_of_files_is_one_manifest(in_shards, tmp_path):
    whole = manifest.read(tmp_path / "whole.parquet")
    assert manifest.read(in_shards).photo.tolist() == whole.photo.tolist()
    assert manifest.read(in_shards, "val").photo.tolist() == ["photos/b.jpg"]
    assert [part.photo.tolist() for part in manifest.shards(in_shards, "train")] == [[NAMES[0]], [NAMES[2]]]
    assert [part.photo.tolist() for part in manifest.shards(in_shards, "val")] == [[NAMES[1]]]
    assert [len(part) for part in manifest.shards(tmp_path / "whole.parquet", "train")] == [2]


def test_shards_are_refused_as_files_are(in_shards, tmp_path):
    with pytest.raises(ManifestError, match="no photos of split 'test'; it has train, val"):
        list(manifest.shards(in_shards, "test"))
    with pytest.raises(ManifestError, match="no such manifest"):
        list(manifest.shards(tmp_path / "photos", "train"))
    (in_shards / "part-1.parquet").write_bytes((in_shards / "part-0.parquet").read_bytes())
    with pytest.raises(ManifestError, match="named twice"):
        manifest.read(in_shards)
    (in_shards / "part-1.parquet").write_text("no table")
    with pytest.raises(ManifestError, match=r"part-1\.parquet: not GeoParquet"):
        list(manifest.shards(in_shards, "train"))


def test_a_dataset_is_the_same_from_shards(in_shards, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copytree(tmp_path / "photos", tmp_path / "one" / "photos")
    shutil.copy(tmp_path / "whole.parquet", tmp_path / "one" / "manifest.parquet")
    grid = Grid(crs="EPSG:32632", north_west=(410_000.0, 5_140_000.0), size_m=40_000, branch=4, depth=2)
    parts, one = (PhotoDataset(folder, "train", grid, px=16) for folder in (tmp_path, tmp_path / "one"))
    assert len(parts) == len(one) == 1 and parts.n_outside == one.n_outside == 1  # -8, -46.3 is elsewhere
    assert parts.path(0) == tmp_path / NAMES[0]
    assert parts.xy.tolist() == one.xy.tolist() == [list(grid.project(46.3, 8.0))]
    assert parts.heading_deg.tolist() == one.heading_deg.tolist()
