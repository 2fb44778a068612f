import csv
import json
import sys
from itertools import combinations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from data_prep.positions import blocks, nearest
from data_prep.split import By, by_groups, divide, main, read_area, too_near
from zoomloc import cli, manifest
from zoomloc.errors import ConfigError, OutputError
from zoomloc.region import Region

DEFAULTS = {"by": By.block, "test": 0.2, "val": 0.1, "block_m": 100.0, "areas": {}, "seed": 0}
GROUPS = st.lists(st.integers(0, 12), min_size=1, max_size=200).map(np.array)


def points(lons, lats):
    return gpd.GeoDataFrame(geometry=gpd.points_from_xy(lons, lats), crs=4326)


def ground_m(frame, i, j):
    a, b = frame.geometry.iloc[i], frame.geometry.iloc[j]
    return Geod(ellps="WGS84").inv(a.x, a.y, b.x, b.y)[2]


@given(GROUPS, st.integers(0, 99))
def test_groups_stay_whole_and_fractions_are_kept_as_far_as_groups_allow(groups, seed):
    fractions = {"train": 0.7, "val": 0.1, "test": 0.2}
    labels = by_groups(groups, fractions, seed)
    for group in np.unique(groups):
        assert len(set(labels[groups == group])) == 1
    largest = np.bincount(groups).max()
    for split, fraction in fractions.items():
        assert (labels == split).sum() <= fraction * len(groups) + largest
    assert (by_groups(groups, fractions, seed) == labels).all()


def test_seeds_differ():
    groups = np.arange(100)
    one, other = (by_groups(groups, {"train": 0.5, "test": 0.5}, seed) for seed in (1, 2))
    assert (one != other).any()


POSITIONS = st.lists(
    st.tuples(st.floats(-179, 179), st.floats(-80, 80)), min_size=2, max_size=30, unique=True
)


@settings(max_examples=40)
@given(POSITIONS, st.sampled_from([50.0, 500.0, 20_000.0]))
def test_a_block_is_no_larger_than_asked(places, side_m):
    frame = points(*zip(*places, strict=True))
    numbers = blocks(frame, side_m)
    for i in range(len(frame)):
        for j in range(i):
            if numbers[i] == numbers[j]:
                assert ground_m(frame, i, j) < 1.5 * side_m


def test_blocks_do_not_depend_on_other_photos():
    rng = np.random.default_rng(0)
    frame = points(7 + rng.uniform(0, 0.02, 300), 46 + rng.uniform(0, 0.02, 300))
    of_all, of_some = blocks(frame, 200), blocks(frame.iloc[::3], 200)
    assert len(np.unique(of_all)) > 20
    pairs = set(zip(of_all[::3], of_some, strict=True))
    assert len(pairs) == len(np.unique(of_some)) == len(np.unique(of_all[::3]))


@settings(max_examples=40)
@given(POSITIONS)
def test_the_nearest_is_found_anywhere_on_the_globe(places):
    frame = points(*zip(*places, strict=True))
    distance_m, row = nearest(frame.iloc[:1], frame.iloc[1:])
    true_m = [ground_m(frame, 0, j) for j in range(1, len(frame))]
    if min(true_m) < 10_000:
        assert distance_m[0] == pytest.approx(min(true_m), abs=0.01)
        assert true_m[row[0]] == pytest.approx(min(true_m), abs=0.02)
    assert distance_m[0] <= min(true_m) + 1e-6, "a chord is not longer than its arc"


@pytest.mark.parametrize("by", [By.random, By.block, By.sequence])
def test_a_buffer_is_kept_and_no_row_is_lost(drives, tmp_path, capsys, by):
    frame = drives.frame()
    folder, out = drives.write(frame), tmp_path / "out" / "new"
    main(folder, out, by=by, test=0.2, val=0.1, block_m=100, buffer_m=25, seed=3)
    new = manifest.read(out / "manifest.parquet")
    of = {split: new.index[new["split"] == split] for split in ("train", "val", "test")}
    for one, other in combinations(of.values(), 2):
        assert min(ground_m(new, i, j) for i in one for j in other) >= 25
    dropped = []
    if (out / "rejected.csv").exists():
        with (out / "rejected.csv").open() as file:
            dropped = [row["photo"] for row in csv.DictReader(file)]
    kept = list(new["photo"])
    assert sorted((out / name).resolve() for name in kept + dropped) == sorted(
        (folder / name).resolve() for name in frame["photo"]
    )
    if by is not By.sequence:
        assert dropped and f"{len(dropped)} photos rejected" in capsys.readouterr().out
    else:
        assert new.groupby("sequence")["split"].nunique().max() == 1
    assert list(new["licence"]) == ["CC0-1.0"] * len(new), "what else is known of photos stays"


def test_the_new_dataset_has_the_region_and_its_imagery(drives, tmp_path):
    folder, out = drives.write(drives.frame()), tmp_path / "new"
    main(folder / "manifest.parquet", out, by=By.sequence, test=0.3, val=0)
    region = Region.load(out / "region.json")
    pyramid = region.open()
    assert pyramid.view(0, 0, 0, 64).mask.any() and region.imagery == ("../data/city.tif",)
    pyramid.close()
    with pytest.raises(OutputError, match="is there already; name another folder"):
        main(folder, out)


def test_an_area_is_for_test_and_the_rest_is_divided(drives, tmp_path):
    frame = drives.frame()
    first = frame[frame["sequence"] == "drive-0"]
    west, south, east, north = shapely.box(*first.total_bounds).buffer(1e-4).bounds
    feature = {
        "type": "Feature",
        "properties": {},
        "geometry": shapely.box(west, south, east, north).__geo_interface__,
    }
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    for text in (str(path), f"{west},{south},{east},{north}"):
        new = divide(frame, **DEFAULTS | {"by": By.area, "areas": {"test": read_area(text)}})
        assert set(new["sequence"][new["split"] == "test"]) == {"drive-0"}
        assert set(new["split"]) == {"train", "val", "test"}
    val_area = shapely.box(*frame[frame["sequence"] == "drive-2"].total_bounds)
    areas = {"test": read_area(str(path)), "val": val_area}
    new = divide(frame, **DEFAULTS | {"by": By.area, "areas": areas})
    assert set(new["sequence"][new["split"] == "val"]) == {"drive-2"}


def test_photos_without_sequence_are_on_their_own(drives):
    frame = drives.frame()
    frame.loc[:23, "sequence"] = None
    new = divide(frame, **DEFAULTS | {"by": By.sequence})
    assert new["split"][:24].nunique() > 1
    with pytest.raises(ConfigError, match="no photo has a sequence; split --by block"):
        divide(frame.assign(sequence=None), **DEFAULTS | {"by": By.sequence})


def test_test_photos_are_kept_and_those_too_near_to_them_are_not(drives):
    frame = drives.frame(drives=1).assign(split="test")  # 20 m apart
    assert not too_near(frame, 100).any()
    frame.loc[4, "split"] = "train"
    assert list(np.flatnonzero(too_near(frame, 20.5))) == [4]
    assert not too_near(frame, 19.5).any()
    frame.loc[7:, "split"] = "val"
    assert list(np.flatnonzero(too_near(frame, 20.5))) == [4, 7]
    frame.loc[8:, "split"] = "train"
    assert list(np.flatnonzero(too_near(frame, 20.5))) == [4, 7], "a val photo that goes needs no buffer"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "area"], "--by area needs --test-area"),
        (["--test-area", "1,2,3,4"], "go with --by area"),
        (["--by", "area", "--test-area", "9,45,8,46"], "not west,south,east,north"),
        (["--by", "area", "--test-area", "nowhere.geojson"], "neither a file nor"),
        (["--by", "area", "--test-area", "1,1,2,2"], "no photo falls to test"),
        (["--block-m", "100000"], "no photo falls to val"),
        (["--test", "0.7", "--val", "0.3"], "leave nothing for train"),
        (["--by", "random", "--buffer-m", "500"], "photo is 500 m from the other splits"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_one_line(drives, tmp_path, monkeypatch, capsys, words, message):
    folder = drives.write(drives.frame(), region=False)
    command = ["zoomloc", "prep", "split", str(folder), "--out", str(tmp_path / "new"), *words]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    error = capsys.readouterr().err.strip()
    assert exit_.value.code == 2 and message in error and "\n" not in error
    assert not (tmp_path / "new").exists()


def test_a_file_that_holds_no_polygons(tmp_path):
    path = tmp_path / "points.geojson"
    points([8.0], [46.0]).to_file(path)
    with pytest.raises(ConfigError, match="holds Point, not polygons"):
        read_area(str(path))
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_area(str(path))
