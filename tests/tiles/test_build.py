"""Any imagery built into one pyramid: what is built shows what the source shows, whatever happens on the way."""

import hashlib
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

import tiles
import tiles.build
from tiles import Bounds, Pyramid, TilesError
from tiles.build import build

CRS = "EPSG:32632"
SQUARE = {"crs": CRS, "north_west": (475_000.0, 5_130_160.0), "size_m": 160.0, "branch": 2, "depth": 3}
WHOLE = Bounds(475_000.0, 5_130_000.0, 475_160.0, 5_130_160.0)
TARGETS = {
    "cells.mbtiles": {"px": 64},
    "cells": {"px": 64},
    "web.mbtiles": {"kind": "web"},
    "web": {"kind": "web"},
    "web.pmtiles": {},
    "ortho.tif": {"px": 64},
}


def waves(bounds, shape, period=40.0):
    """(3, h, w): smooth, so that JPEG keeps it, and nowhere the same along either axis."""
    height, width = shape
    x = bounds.west + (np.arange(width) + 0.5) / width * bounds.width - 475_000
    y = bounds.north - (np.arange(height) + 0.5) / height * bounds.height - 5_130_000
    x, y = x[None], y[:, None]
    turn = 2 * np.pi / period
    bands = [np.sin(turn * x) + 0 * y, np.sin(turn * y) + 0 * x, np.sin(turn * (x + y) / 2)]
    return np.stack([128 + 90 * band for band in bands]).round().astype(np.uint8)


@pytest.fixture
def city(write_raster):
    """160 x 160 m at 0.5 m."""
    path = write_raster(waves(WHOLE, (320, 320)), west=475_000, north=5_130_160, gsd=0.5)
    return Pyramid(tiles.open(path), **SQUARE)


@pytest.fixture
def torn(write_raster):
    """The same, with a slanted edge and a hole."""
    alpha = np.full((320, 320), 255, np.uint8)
    rows, cols = np.mgrid[:320, :320]
    alpha[cols > 200 + rows // 4] = 0
    alpha[100:130, 40:90] = 0
    path = write_raster(waves(WHOLE, (320, 320)), west=475_000, north=5_130_160, gsd=0.5, alpha=alpha)
    return Pyramid(tiles.open(path), **SQUARE)


def digest(path):
    """Of a file, or of all files in a folder with their names."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    summary = hashlib.sha256()
    for file in files:
        if file.is_file():
            summary.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return summary.hexdigest()


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_built_shows_what_the_source_shows(city, tmp_path, name):
    build(city, tmp_path / name, **TARGETS[name])
    source, inner = tiles.open(tmp_path / name), Bounds(475_004, 5_130_004, 475_156, 5_130_156)
    for side_px in (320, 80):  # of the finest level and of a coarser one
        view, truth = (s.read(inner, CRS, (side_px, side_px)) for s in (source, city.source))
        assert view.coverage == 1
        difference = view.pixels.astype(int) - truth.pixels
        assert np.abs(difference).mean() < 2 and abs(difference.mean()) < 0.3
        for axis in (0, 1):  # a shift by 0.1 px would show as this much along a slope
            slope = np.gradient(truth.pixels.astype(float), axis=axis)
            assert abs((slope * difference).sum() / (slope**2).sum()) < 0.1


@pytest.mark.parametrize("name", TARGETS)
def test_what_has_no_imagery_stays_masked(torn, tmp_path, name):
    build(torn, tmp_path / name, **TARGETS[name])
    view = tiles.open(tmp_path / name).read(WHOLE, CRS, (160, 160))
    truth = torn.source.read(WHOLE, CRS, (160, 160))
    wrong = view.mask != truth.mask
    assert 0.5 < truth.coverage < 0.9 and wrong.mean() < 0.02
    assert (view.pixels[~view.mask] == 0).all()
    both = view.mask & truth.mask
    assert np.abs(view.pixels[both].astype(int) - truth.pixels[both]).mean() < 3


@pytest.mark.parametrize("name", TARGETS)
def test_any_number_of_workers_makes_the_same_bytes(torn, tmp_path, name):
    for workers in (1, 4):
        (tmp_path / str(workers)).mkdir()
        build(torn, tmp_path / str(workers) / name, **TARGETS[name], workers=workers)
    assert digest(tmp_path / "1" / name) == digest(tmp_path / "4" / name)
    assert [path.name for path in (tmp_path / "4").iterdir()] == [name]


def killed(pyramid, target, **options):
    """Run a build in a process of its own, which is to be killed."""
    child = multiprocessing.get_context("fork").Process(target=build, args=(pyramid, target), kwargs=options)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL and not target.exists()


def kill_at(count):
    def progress(done, total):
        if done == count:
            os.kill(os.getpid(), signal.SIGKILL)

    return progress


@pytest.mark.parametrize("name", TARGETS)
def test_killed_while_tiles_are_made_it_goes_on(torn, tmp_path, name, monkeypatch):
    monkeypatch.setattr(tiles.build, "BATCH", 3)
    unbroken, target = tmp_path / "unbroken" / name, tmp_path / "killed" / name
    build(torn, unbroken, **TARGETS[name])
    killed(torn, target, **TARGETS[name], progress=kill_at(2))
    killed(torn, target, **TARGETS[name], progress=kill_at(8))
    assert [path.name for path in target.parent.iterdir()] == [f"{name}.part"]
    reported = []
    build(torn, target, **TARGETS[name], progress=lambda done, total: reported.append((done, total)))
    total = reported[0][1]
    assert reported == [(done, total) for done in range(6, total + 1)]  # whole batches were kept
    assert digest(target) == digest(unbroken)
    assert [path.name for path in target.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", TARGETS)
def test_killed_while_the_result_is_written_it_goes_on(torn, tmp_path, name, monkeypatch):
    unbroken, target, part = tmp_path / "unbroken" / name, tmp_path / name, tmp_path / f"{name}.part"
    build(torn, unbroken, **TARGETS[name])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        killed(torn, target, **TARGETS[name])
    assert (part / "result").exists()
    for left in ("result.data", "mosaic.tif"):
        (part / left).write_bytes(b"half of something")
    build(torn, target, **TARGETS[name])
    assert digest(target) == digest(unbroken)


SCRIPT = """
import time
import tiles.build
from tiles import Pyramid, open

tiles.build.BATCH = 2
pyramid = Pyramid(open({source!r}), **{square!r})
tiles.build.build(pyramid, {target!r}, px=64, progress=lambda done, total: (print(done, flush=True), time.sleep(0.1)))
"""


def test_killed_from_outside_it_goes_on(torn, tmp_path):
    unbroken, target = tmp_path / "unbroken.mbtiles", tmp_path / "unbroken" / "unbroken.mbtiles"
    build(torn, unbroken, px=64)
    script = SCRIPT.format(source=str(tmp_path / "image.tif"), square=SQUARE, target=str(target))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        while int(process.stdout.readline()) < 5:
            pass
        process.kill()
    assert not target.exists()
    build(torn, target, px=64)
    assert digest(target) == digest(unbroken)


def refusal(pyramid, target, **options):
    with pytest.raises(TilesError) as caught:
        build(pyramid, target, **options)
    message = str(caught.value)
    assert str(target) in message and "\n" not in message
    return message


class Interrupted(Exception):
    pass


def interrupted(done, total):
    if done:
        raise Interrupted


def test_other_arguments_do_not_go_on_with_the_same_work(city, write_raster, tmp_path):
    other = Pyramid(
        tiles.open(write_raster(waves(WHOLE, (160, 160)), name="other.tif", west=475_000, north=5_130_160)),
        **SQUARE,
    )
    target = tmp_path / "x.mbtiles"
    with pytest.raises(Interrupted):
        build(city, target, px=64, progress=interrupted)
    for pyramid, options, names in [
        (city, {"px": 32}, "resolution"),
        (city, {"px": 64, "attribution": "someone else"}, "attribution"),
        (city, {"kind": "web"}, "form, resolution"),
        (Pyramid(city.source, **SQUARE | {"branch": 4, "depth": 2}), {"px": 64}, "square"),
        (other, {"px": 64}, "imagery"),
    ]:
        assert f"differs in {names};" in refusal(pyramid, target, **options)
    build(city, target, px=64)
    assert target.exists()


def test_two_builds_of_one_target_do_not_mix(city, tmp_path):
    target = tmp_path / "x.mbtiles"
    messages = []

    def second(done, total):
        if done == 1:
            messages.append(refusal(city, target, px=64))

    build(city, target, px=64, progress=second)
    assert "another build works there" in messages[0] and target.exists()


def test_targets_that_cannot_be_are_refused(city, tmp_path):
    assert "unknown form" in refusal(city, tmp_path / "x.zip")
    assert "cannot hold the kind 'cells'" in refusal(city, tmp_path / "x.pmtiles", kind="cells")
    assert "cannot hold the kind 'web'" in refusal(city, tmp_path / "x.tif", kind="web")
    assert "leave gsd_m out" in refusal(city, tmp_path / "x.mbtiles", gsd_m=1.0)
    assert "multiples of 16" in refusal(city, tmp_path / "x.tif", px=100)
    for wrong in ({"px": 0}, {"px": -1}, {"px": 5000}, {"kind": "web", "gsd_m": 0.0}):
        assert "give 1 to 4096 px" in refusal(city, tmp_path / "x.mbtiles", **wrong)
    (tmp_path / "there").mkdir()
    assert "exists already" in refusal(city, tmp_path / "there")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(city, tmp_path / "file" / "x.mbtiles")
    assert {path.name for path in tmp_path.iterdir()} == {"image.tif", "there", "file"}


def test_coarser_cells_are_the_mean_of_finer_ones(city, tmp_path):
    build(city, tmp_path / "cells", px=64)
    pyramid = Pyramid(tiles.open(tmp_path / "cells"), **SQUARE)
    parent = pyramid.view(1, 1, 0, 64).pixels
    children = [[pyramid.view(2, 2 + i, j, 64).pixels for j in range(2)] for i in range(2)]
    together = np.vstack([np.hstack(row) for row in children]).astype(float)
    mean = together.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(mean - parent).mean() < 2.5  # JPEG


def test_a_geotiff_is_cloud_optimized_and_keeps_the_pixels_of_its_source(city, tmp_path):
    build(city, tmp_path / "ortho.tif", attribution="Who made it")
    with rasterio.open(tmp_path / "ortho.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.profile["compress"] == "jpeg"
        assert dataset.crs == CRS and dataset.shape == (320, 320)
        assert tuple(dataset.bounds) == pytest.approx(WHOLE)
    assert tiles.open(tmp_path / "ortho.tif").attribution == "Who made it"


def test_a_web_map_says_what_it_is(city, tmp_path):
    build(city, tmp_path / "web.mbtiles", kind="web", attribution="Who made it")
    build(city, tmp_path / "web.pmtiles", attribution="Who made it")
    with sqlite3.connect(tmp_path / "web.mbtiles") as connection:
        said = dict(connection.execute("SELECT name, value FROM metadata"))
    assert said["attribution"] == "Who made it" and said["name"] == "web" and said["format"] == "jpg"
    both = tiles.open(tmp_path / "web.mbtiles"), tiles.open(tmp_path / "web.pmtiles")
    assert both[0].bounds == pytest.approx(both[1].bounds, abs=0.02)
    assert both[0].gsd_m == both[1].gsd_m == pytest.approx(0.5, rel=0.42)  # the nearest zoom
    assert both[1].attribution == "Who made it"
    assert [level.key for level in both[1].store.levels] == list(
        range(int(said["maxzoom"]), int(said["minzoom"]) - 1, -1)
    )


def test_imagery_in_another_crs_is_reprojected(city, tmp_path):
    build(city, tmp_path / "web.mbtiles", kind="web", gsd_m=0.2)
    again = Pyramid(tiles.open(tmp_path / "web.mbtiles"), **SQUARE)
    build(again, tmp_path / "cells.mbtiles", px=64)
    view = Pyramid(tiles.open(tmp_path / "cells.mbtiles"), **SQUARE).view(1, 0, 1, 64)
    truth = city.view(1, 0, 1, 64)
    assert np.abs(view.pixels.astype(int) - truth.pixels).mean() < 2


def test_cells_of_real_imagery_show_it(shared_data, tmp_path):
    """640 m of Washington; a JPEG of quality 90 is what may be lost."""
    path = sorted((shared_data / "dc" / "imagery").glob("*_1000m.tif"))[0]
    with rasterio.open(path) as dataset:
        corner = dataset.bounds.left + 150.3, dataset.bounds.top - 120.7
        crs = dataset.crs.to_string()
    square = {"crs": crs, "north_west": corner, "size_m": 640.0, "branch": 4, "depth": 2}
    raw = Pyramid(tiles.open(path), **square)
    build(raw, tmp_path / "cells.mbtiles", px=128)
    cells = Pyramid(tiles.open(tmp_path / "cells.mbtiles"), **square)
    for row, col in [(0, 0), (1, 2), (3, 3)]:
        view, truth = cells.view(1, row, col, 128), raw.view(1, row, col, 128)
        assert truth.pixels.std() > 10 and view.coverage == 1
        error = np.square(view.pixels.astype(float) - truth.pixels).mean()
        assert 10 * np.log10(255**2 / error) > 32
