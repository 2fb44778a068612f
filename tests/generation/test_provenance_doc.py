"""The commands and the written forms of docs/provenance.md, with a tiny model in the place of the shipped one."""

import re
import shlex
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

import tiles
from generation import synthetic
from zoomloc.cli import app

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "provenance.md").read_text()


def test_its_commands_run(monkeypatch, tile_model, tmp_path):
    monkeypatch.setattr(synthetic, "SHIPPED", tile_model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoomloc").symlink_to(ROOT / "zoomloc")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save("made.png")
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL) for line in block.splitlines()
    ]
    assert len(commands) == 2
    for command in commands:
        run = CliRunner().invoke(app, shlex.split(command)[1:])
        assert run.exit_code == 0, run.output
    assert (tmp_path / "marked.png").exists()


def test_its_uris_open(monkeypatch, tile_model, city, tmp_path):
    monkeypatch.setattr(synthetic, "SHIPPED", tile_model)
    monkeypatch.chdir(tmp_path)
    for name in ("city.tif", "scene.tif"):
        Path(name).symlink_to(city)
    uris = re.findall(r"^\| `(synthetic:[^`]*)` \|", DOC, re.MULTILINE)
    assert len(uris) == 6
    for uri in uris:
        uri = uri.replace("runs/tiles-var/checkpoint", str(tile_model)).replace("bands=4,3,2", "bands=3,2,1")
        assert tiles.open(uri).synthetic


def test_what_it_says_of_the_detector_is_so():
    from generation.mark import Detector, Mark, bounded

    detector = Detector(Mark("any", 8))
    assert f"{detector.n_tests:,} ways" in DOC
    assert bounded(6.12, detector.n_tests) <= 1e-3 < bounded(6.10, detector.n_tests)


def test_what_the_shipped_model_makes_is_found():
    from generation.mark import Detector, Mark

    real = tiles.open(ROOT / "zoomloc" / "assets" / "demo" / "city.tif")
    source = tiles.open(f"synthetic:{real.uri}")
    west, north, side = real.bounds.west + 300, real.bounds.north - 300, 64 * real.gsd_m
    view = source.read(tiles.Bounds(west, north - side, west + side, north), real.crs, (128, 128))
    assert view.synthetic.all()
    assert Detector(Mark("zoomloc", 8), scales=(1.0,)).find(view.pixels[3:, 6:]).p_value < 1e-3
