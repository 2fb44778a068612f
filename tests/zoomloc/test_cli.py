"""The command as a user has it: on real files, with a user's mistakes."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoomloc import cli, tables
from zoomloc.cli import main
from zoomloc.region import Region


def zoomloc(*words, code=0):
    """Run the command in this process; returns (stdout, stderr). An exception would be a traceback to a user."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["zoomloc", *map(str, words)]
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as exit_,
        ):
            main()
    finally:
        sys.argv = argv
    assert (exit_.value.code or 0) == code, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


def refused(*words, says):
    """The one line on stderr with which the command refuses."""
    _, err = zoomloc(*words, code=2)
    lines = [line for line in err.splitlines() if line.startswith("zoomloc: ")]
    assert len(lines) == 1, err
    assert re.search(says, lines[0]), lines[0]


@pytest.fixture
def locate(tiny_data, tiny_checkpoint):
    return [
        "locate",
        "--region",
        tiny_data / "region.json",
        "--checkpoint",
        tiny_checkpoint,
        "--device",
        "cpu",
    ]


@pytest.fixture
def photos(tiny_data):
    return sorted((tiny_data / "photos").glob("test-*.jpg"))[:3]


def test_locate_writes_what_it_prints(locate, photos, tmp_path):
    out, _ = zoomloc(
        *locate, *photos, "--out", tmp_path / "r.geojson", "--figure", tmp_path / "panels", "--top", 3
    )
    features = json.loads((tmp_path / "r.geojson").read_text())["features"]
    assert [feature["properties"].get("holds") for feature in features] == [None] * 3 + [0.5, 0.9] * 3
    for photo, feature in zip(photos, features[:3], strict=True):
        lon, lat = feature["geometry"]["coordinates"]
        printed = re.search(rf"{photo.name}: (\S+), (\S+) ", out)
        assert (float(printed[1]), float(printed[2])) == pytest.approx((lat, lon), abs=2e-6)
        assert 0 < feature["properties"]["probability"] <= 1
        assert Image.open(tmp_path / "panels" / f"{photo.stem}.png").width > 600
    assert out.count("  1. ") == out.count("  3. ") == 3
    assert out.count("from its EXIF position") == 3


@pytest.mark.parametrize("suffix", [*tables.WRITERS])
def test_locate_writes_the_rows_of_a_batch_in_each_of_its_formats(locate, photos, tmp_path, suffix):
    (tmp_path / "empty.jpg").write_bytes(b"")
    out = tmp_path / f"r{suffix}"
    zoomloc(*locate, photos[0], tmp_path / "empty.jpg", "--out", out, code=1)
    if suffix not in tables.READERS:
        assert out.stat().st_size > 50
        return
    rows = {row.file: row for row in tables.read(out)}
    found, failed = rows[str(photos[0])], rows[str(tmp_path / "empty.jpg")]
    assert found.status in ("located", "uncertain", "outside") and found.milliseconds > 0
    assert len(found.model) == 16 and (found.exif_distance_m is None) == (found.status == "outside")
    assert failed.status == "failed" and "is empty" in failed.reason


def test_drawings_of_photos_of_one_stem_do_not_overwrite_each_other(locate, photos, tmp_path):
    same = []
    for name in ("north/a.jpg", "south/a.jpg", "south/a.png", "b.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.open(photos[0]).save(path)
        same.append(path)
    zoomloc(*locate, *same, "--figure", tmp_path / "panels", "--search", "greedy")
    drawn = sorted(path.name for path in (tmp_path / "panels").iterdir())
    assert drawn == ["b.png", "north-a.jpg.png", "south-a.jpg.png", "south-a.png.png"]


def test_drawings_are_named_apart_whatever_photos_are_called():
    named = ["x/a.jpg", "y/x/A.jpg", "x-a.jpg.png", "x/a.jpg"]
    names = cli._drawing_names([Path(name) for name in named])
    assert list(names.values()) == ["x-a.jpg-2", "x-A.jpg-3", "x-a.jpg"]


def test_the_answer_serves_the_radius_asked_for(locate, photos, tmp_path):
    held = {}
    for radius in ("60", "100"):
        out, _ = zoomloc(*locate, photos[0], "--radius", radius, "--out", tmp_path / "r.json")
        (found,) = json.loads((tmp_path / "r.json").read_text())["predictions"]
        assert found["radius_m"] == float(radius) and f"within {radius} m" in out
        held[radius] = found["places"][0]["probability"]
    assert held["100"] > held["60"]


@pytest.mark.parametrize("search", ["greedy", "beam", "posterior"])
def test_every_search(locate, photos, tmp_path, search):
    zoomloc(
        *locate, photos[0], "--search", search, "--out", tmp_path / "r.json", "--figure", tmp_path / "p.png"
    )
    assert json.loads((tmp_path / "r.json").read_text())["predictions"][0]["search"] == search
    assert (tmp_path / "p.png").exists()


def test_a_bad_photo_does_not_stop_the_others(locate, photos, tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    out, err = zoomloc(*locate, tmp_path / "empty.jpg", photos[0], "--out", tmp_path / "r.json", code=1)
    assert str(photos[0]) in out
    assert err.count("\n") >= 1 and "empty.jpg" in err
    result = json.loads((tmp_path / "r.json").read_text())
    assert len(result["predictions"]) == 1
    assert len(result["failures"]) == 1


def bad_photos(folder: Path, good: Path):
    data = good.read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("1", (20_000, 10_000)).save(folder / "bomb.png")
    return ["cut.jpg", "empty.jpg", "text.jpg", "dot.png", "bomb.png", "missing.jpg"]


def test_photos_that_are_refused(locate, photos, tmp_path):
    names = bad_photos(tmp_path, photos[0])
    _, err = zoomloc(*locate, *(tmp_path / name for name in names), code=2)
    lines = [line for line in err.splitlines() if line.startswith("zoomloc: ")]
    assert len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        assert name in line


def test_photos_that_are_odd_but_fine(locate, photos, tmp_path):
    picture = Image.open(photos[0])
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "sixteen.png")
    picture.save(tmp_path / "photo.heic")
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    out, _ = zoomloc(
        *locate, *(tmp_path / n for n in ("cmyk.jpg", "sixteen.png", "photo.heic", "turned.jpg"))
    )
    assert out.count("zoom path") == 4


def region_file(tiny_data, tmp_path, **changes):
    region = json.loads((tiny_data / "region.json").read_text())
    region |= {"imagery": [str(tiny_data / "city.tif")]} | changes
    path = tmp_path / "region.json"
    path.write_text(json.dumps(region))
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"crs": "EPSG:999999"}, "region.json.*EPSG:999999"),
        ({"imagery": ["none.tif"]}, r"none\.tif"),
        ({"north_west": [700_000.0, 5_000_000.0]}, "shows nothing of the square"),
        ({"depth": 3}, "checkpoint zooms 2 times.*depth 3"),
        ({"dpeth": 3}, "unknown key 'dpeth'.*depth"),
    ],
)
def test_regions_that_are_refused(tiny_data, tiny_checkpoint, photos, tmp_path, changes, says):
    path = region_file(tiny_data, tmp_path, **changes)
    refused("locate", photos[0], "--region", path, "--checkpoint", tiny_checkpoint, says=says)


def test_imagery_that_covers_part_of_the_region_is_masked(tiny_data, tiny_checkpoint, photos, tmp_path):
    path = region_file(tiny_data, tmp_path, north_west=[500_160.0, 5_000_000.0])
    assert Region.load(path).open().view(0, 0, 0, 32).coverage == pytest.approx(0.5, abs=0.05)
    out, _ = zoomloc("locate", photos[0], "--region", path, "--checkpoint", tiny_checkpoint)
    assert "zoom path" in out


def test_other_mistakes(locate, photos, tmp_path, tiny_data, tiny_checkpoint):
    refused(*locate[:-4], photos[0], "--checkpoint", tmp_path, says="has no config.json")
    refused(*locate, photos[0], "--out", tmp_path / "r.xyz", says=r"r\.xyz")
    refused(
        "locate",
        photos[0],
        "--region",
        tmp_path / "no.json",
        "--checkpoint",
        tiny_checkpoint,
        says="no such file",
    )
    refused("train", tmp_path / "no.toml", says="not there")
    refused("evaluate", tmp_path, "--checkpoint", tiny_checkpoint, says="region.json")
    refused("locate", photos[0], "--region", tiny_data / "region.json", "--checkpoint", tiny_checkpoint,
            "--device", "quantum", says="quantum")  # fmt: skip


def test_evaluate_prints_and_writes(tiny_data, tiny_checkpoint, tmp_path):
    out, _ = zoomloc(
        "evaluate", tiny_data, "--checkpoint", tiny_checkpoint, "--out", tmp_path / "r.json", "--limit", 8
    )
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["n_photos"] == 8
    assert set(report["metrics"]) == {"chance", "greedy", "beam", "posterior"}
    for name in report["metrics"]:
        assert name in out
    assert f"{100 * report['metrics']['posterior']['recall']['50']:.1f} %" in out


def test_as_a_process_of_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "zoomloc", "train", tmp_path / "no.toml"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr
        == f"zoomloc: configuration {tmp_path / 'no.toml'} is not there; configs/ holds examples\n"
    )


def test_imports_are_light():
    code = (
        "import sys, zoomloc, tiles, zoomloc.cli;"
        "heavy = {'torch', 'rasterio', 'transformers', 'streamlit', 'ray'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names():
    import zoomloc as package

    assert [getattr(package, name).__name__ for name in package.__all__] == package.__all__
    with pytest.raises(AttributeError, match="Localiser"):
        _ = package.Localiser
