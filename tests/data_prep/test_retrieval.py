import numpy as np
import pytest
from pyproj import Transformer
from scipy.io import savemat
from typer.testing import CliRunner

from data_prep.retrieval import Benchmark, import_benchmark
from zoomloc import manifest, pairs
from zoomloc.cli import app
from zoomloc.errors import ConfigError, SourceError


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _lines(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def cvusa(tmp_path):
    rows = {n: (f"bingmap/19/{n:07}.jpg", f"streetview/panos/{n:07}.jpg", f"streetview/annotations/{n:07}.png")
            for n in (1, 2, 3, 4)}  # fmt: skip
    _lines(tmp_path / "splits" / "train-19zl.csv", *(",".join(rows[n]) for n in (4, 1)))
    _lines(tmp_path / "splits" / "val-19zl.csv", *(",".join(rows[n]) for n in (2, 3)))
    _touch(tmp_path, *(name for n in (1, 2, 4) for name in rows[n]), rows[3][0])
    return tmp_path


def test_cvusa(cvusa):
    has_manifest, rejected = import_benchmark(Benchmark.cvusa, cvusa, cvusa)
    table = pairs.read(cvusa / "pairs.parquet").set_index("photo")
    assert dict(table.split) == {
        "streetview/panos/0000004.jpg": "train",
        "streetview/panos/0000001.jpg": "train",
        "streetview/panos/0000002.jpg": "test",
    }
    assert table.overhead["streetview/panos/0000004.jpg"] == "bingmap/19/0000004.jpg"
    assert set(table.match) == {"exact"} and set(table["view"]) == {"street"} and table.licence.isna().all()
    assert not has_manifest and not (cvusa / "manifest.parquet").exists()
    assert [(each.name, each.reason) for each in rejected] == [
        ("streetview/panos/0000003.jpg", "a file is missing: streetview/panos/0000003.jpg")
    ]


def test_cvusa_with_its_locations(cvusa):
    _lines(
        cvusa / "split_locations" / "all.csv",
        *(f"40.{n}1,-90.{n}1,40.{n},-90.{n},17" for n in (1, 2, 3)),
        "0,0,0,0,0",
    )
    has_manifest, _ = import_benchmark(Benchmark.cvusa, cvusa, cvusa)
    frame = manifest.read(cvusa / "manifest.parquet").set_index("photo")
    assert has_manifest and len(frame) == 2  # image 4 has no location
    row = frame.loc["streetview/panos/0000002.jpg"]
    assert (row.geometry.y, row.geometry.x, row.split) == (40.2, -90.2, "test")
    assert (row.heading, row.fov, row.projection) == (0, 360, "spherical")


@pytest.fixture
def cvact(tmp_path):
    ids = [f"pano-{n}_x".ljust(12) for n in range(6)]
    lonlat = np.array([(149.1 + n / 100, -35.3) for n in range(6)])
    utm = np.column_stack(
        Transformer.from_crs("EPSG:4326", "EPSG:32755", always_xy=True).transform(*lonlat.T)
    )
    split = {"trainSet": ("trainInd", [1, 3]), "valSet": ("valInd", [2]), "valSetAll": ("valInd", [2, 5, 6])}
    mat = {name: {field: np.array(rows)[:, None]} for name, (field, rows) in split.items()}
    savemat(tmp_path / "ACT_data.mat", {"panoIds": ids, "utm": utm} | mat)
    for folder, numbers in (("small", (0, 1, 2)), ("test", (1, 4))):
        for n in numbers:
            name = ids[n].strip()
            _touch(tmp_path / f"ANU_data_{folder}", f"streetview/{name}_grdView.jpg")
            _touch(tmp_path / f"ANU_data_{folder}", f"satview_polish/{name}_satView_polish.jpg")
    return tmp_path


def test_cvact(cvact, tmp_path):
    _, rejected = import_benchmark(Benchmark.cvact, cvact, tmp_path / "out")
    frame = manifest.read(tmp_path / "out" / "manifest.parquet").set_index("photo")
    assert dict(frame.split) == {
        "../ANU_data_small/streetview/pano-0_x_grdView.jpg": "train",
        "../ANU_data_small/streetview/pano-2_x_grdView.jpg": "train",
        "../ANU_data_small/streetview/pano-1_x_grdView.jpg": "val",
        "../ANU_data_test/streetview/pano-1_x_grdView.jpg": "test",
        "../ANU_data_test/streetview/pano-4_x_grdView.jpg": "test",
    }
    point = frame.geometry["../ANU_data_test/streetview/pano-4_x_grdView.jpg"]
    assert (point.y, point.x) == (pytest.approx(-35.3), pytest.approx(149.14))
    assert [each.name for each in rejected] == ["ANU_data_test/streetview/pano-5_x_grdView.jpg"]
    table = pairs.read(tmp_path / "out" / "pairs.parquet")
    assert table.overhead[0] == "../ANU_data_small/satview_polish/pano-0_x_satView_polish.jpg"


def test_cvact_coordinates_that_are_not_of_canberra_are_no_positions(cvact):
    (cvact / "ACT_data.mat").rename(cvact / "old.mat")
    from scipy.io import loadmat

    data = {key: value for key, value in loadmat(cvact / "old.mat").items() if not key.startswith("__")}
    savemat(cvact / "ACT_data.mat", data | {"utm": data["utm"] / 1000})
    has_manifest, _ = import_benchmark(Benchmark.cvact, cvact, cvact)
    assert not has_manifest and len(pairs.read(cvact / "pairs.parquet")) == 5


@pytest.mark.parametrize("fault", ["no mat", "no field", "index"])
def test_cvact_lists_that_are_broken_are_refused_in_one_line(cvact, fault):
    data = {"no mat": None, "no field": {"panoIds": ["a"]}, "index": {
        "panoIds": ["a"], "utm": np.zeros((1, 2)), "trainSet": {"trainInd": [[2]]}, "valSet": {"valInd": [[1]]},
        "valSetAll": {"valInd": [[1]]},
    }}[fault]  # fmt: skip
    if data:
        savemat(cvact / "ACT_data.mat", data)
    else:
        (cvact / "ACT_data.mat").write_text("hello")
    with pytest.raises(SourceError, match=r"ACT_data\.mat: .*; download it again") as raised:
        import_benchmark(Benchmark.cvact, cvact, cvact)
    assert "\n" not in str(raised.value)


@pytest.fixture
def vigor(tmp_path):
    """Two cities; of each panorama the image it lies in and three that overlap it, and one image more."""
    root = tmp_path / "vigor"
    for city, lat, lon in (("Chicago", 41.8, -87.6), ("Seattle", 47.6, -122.3)):
        above = [f"satellite_{lat + n / 1000:.3f}_{lon}.png" for n in range(6)]
        panos = [f"{city}_id-{n},{lat + n / 1000:.6f},{lon:.6f},.jpg" for n in range(3)]
        rows = [
            " ".join([pano, *(f"{above[(n + k) % 5]} 10.0 -20.0" for k in range(4))])
            for n, pano in enumerate(panos)
        ]
        _touch(root / city, *(f"satellite/{name}" for name in above), *(f"panorama/{name}" for name in panos))
        _lines(root / "splits" / city / "satellite_list.txt", *above)
        _lines(root / "splits" / city / "same_area_balanced_train.txt", *rows[:2])
        _lines(root / "splits" / city / "same_area_balanced_test.txt", rows[2])
        _lines(root / "splits" / city / "pano_label_balanced.txt", *rows)
    return root


def test_vigor_in_the_same_area(vigor):
    assert import_benchmark(Benchmark.vigor, vigor, vigor) == (True, [])
    frame = manifest.read(vigor / "manifest.parquet").set_index("photo")
    row = frame.loc["Seattle/panorama/Seattle_id-2,47.602000,-122.300000,.jpg"]
    assert (row.geometry.y, row.geometry.x, row.split, row.heading) == (47.602, -122.3, "test", 0)
    assert "academic research only" in row.licence and len(frame) == 6
    table = pairs.read(vigor / "pairs.parquet")
    of_one = table[table.photo == row.name]
    assert list(of_one.match) == ["exact", "overlap", "overlap", "overlap"]
    assert of_one.overhead.iloc[0] == "Seattle/satellite/satellite_47.602_-122.3.png"
    gallery = table[table.split == "test"].overhead
    assert gallery.nunique() == 12  # every image of both cities, also those without a panorama
    assert table[table.photo.isna()][["match", "view"]].isna().all(axis=None)


def test_vigor_across_areas(vigor, tmp_path):
    import_benchmark(Benchmark.vigor, vigor, tmp_path / "out", cross_area=True)
    table = pairs.read(tmp_path / "out" / "pairs.parquet")
    assert set(table[table.split == "train"].overhead.str.split("/").str[2]) == {"Seattle"}
    assert set(table[table.split == "test"].overhead.str.split("/").str[2]) == {"Chicago"}
    with pytest.raises(ConfigError, match="leave it out"):
        import_benchmark(Benchmark.cvusa, vigor, vigor, cross_area=True)


def test_vigor_labels_that_were_corrected_come_first_and_odd_lines_are_told(vigor):
    old = (vigor / "splits" / "Chicago" / "same_area_balanced_train.txt").read_text().splitlines()
    _lines(
        vigor / "splits__corrected" / "Chicago" / "same_area_balanced_train__corrected.txt",
        old[0],
        "",
        "odd line",
    )
    _, rejected = import_benchmark(Benchmark.vigor, vigor, vigor)
    assert len(manifest.read(vigor / "manifest.parquet")) == 5
    assert rejected[0].name == "splits__corrected/Chicago/same_area_balanced_train__corrected.txt:3"


@pytest.fixture
def university(tmp_path):
    root = tmp_path / "university"
    for n in ("0001", "0002"):
        _touch(root / "train", f"satellite/{n}/{n}.jpg", f"street/{n}/1.jpg", f"street/{n}/2.jpg")
        _touch(root / "train", f"drone/{n}/image-01.jpeg", f"google/{n}/noise.jpg")
    _touch(root / "test", "query_street/0003/1.jpg", "query_drone/0003/image-01.jpeg")
    _touch(root / "test", "query_satellite/0003/0003.jpg", "gallery_drone/0003/image-01.jpeg")
    _touch(root / "test", "gallery_satellite/0003/0003.jpg", "gallery_satellite/0777/0777.jpg")
    return root


def test_university_1652_becomes_pairs_only(university):
    assert import_benchmark(Benchmark.university, university, university) == (False, [])
    table = pairs.read(university / "pairs.parquet")
    train = table[table.split == "train"]
    assert train["view"].value_counts().to_dict() == {"street": 4, "drone": 2}
    assert (train.photo.str.split("/").str[2] == train.overhead.str.split("/").str[2]).all()
    test = table[table.split == "test"]
    assert set(test.overhead[test.photo.isna()]) == {"test/gallery_satellite/0777/0777.jpg"}
    assert set(test.photo.dropna()) == {"test/query_street/0003/1.jpg", "test/query_drone/0003/image-01.jpeg"}
    assert not table.photo.str.contains("google").any()


@pytest.mark.parametrize("name", list(Benchmark))
def test_another_folder_is_refused_in_one_line(tmp_path, name):
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(SourceError, match=str(root)) as raised:
            import_benchmark(name, root, tmp_path)
        assert "\n" not in str(raised.value)


def test_lists_without_any_image_are_refused(cvusa):
    for path in (cvusa / "streetview" / "panos").iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="none of the images of cvusa is there"):
        import_benchmark(Benchmark.cvusa, cvusa, cvusa)
    assert (cvusa / "rejected.csv").read_text().count("a file is missing") == 4


def test_the_command_tells_what_there_is(vigor, university, tmp_path):
    done = CliRunner().invoke(app, ["prep", "retrieval", "vigor", str(vigor)])
    assert done.exit_code == 0, done.output
    assert "test: 2 street photos, 12 images from above" in done.output and (vigor / "map.png").exists()
    done = CliRunner().invoke(app, ["prep", "retrieval", "university-1652", str(university)])
    assert done.exit_code == 0 and "train: 2 drone photos, 4 street photos, 2 images" in done.output
    assert "no manifest" in done.output
