import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from zoomloc import checkpoint, panorama
from zoomloc.cli import app
from zoomloc.config import PointerConfig
from zoomloc.grid import Grid
from zoomloc.model import make_model
from zoomloc.photo import Photo, load
from zoomloc.posterior import Leaves
from zoomloc.priors import Around
from zoomloc.region import Region
from zoomloc.sequence import Motion, together

WIDTH = 1024


def _rays(lon, lat):
    """Unit vectors (..., 3) to the right, up and ahead."""
    return np.stack([np.sin(lon) * np.cos(lat), np.sin(lat), np.cos(lon) * np.cos(lat)], axis=-1)


def _directions():
    """A panorama whose colours are the directions of its pixels."""
    lon = ((np.arange(WIDTH) + 0.5) / WIDTH - 0.5)[None, :] * 2 * np.pi
    lat = (0.5 - (np.arange(WIDTH // 2) + 0.5) / (WIDTH // 2))[:, None] * np.pi
    lon, lat = np.broadcast_arrays(lon, lat)
    return np.round((_rays(lon, lat) + 1) * 127.5).astype(np.uint8)


@pytest.mark.parametrize("yaw", [0, 37.5, 90, 180, 270, -45, 725])
@pytest.mark.parametrize("fov", [60, 90, 120])
def test_every_pixel_shows_what_lies_in_its_direction(yaw, fov):
    view = panorama.view(_directions(), yaw_deg=yaw, fov_deg=fov)
    height, width, _ = view.shape
    assert height == pytest.approx(width * 3 / 4, abs=1)
    focal = width / 2 / np.tan(np.radians(fov) / 2)
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    ray = np.stack([x, -y, np.full_like(x, focal)], axis=-1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    turn = np.radians(yaw)
    right = ray[..., 0] * np.cos(turn) + ray[..., 2] * np.sin(turn)
    ahead = ray[..., 2] * np.cos(turn) - ray[..., 0] * np.sin(turn)
    expected = (np.stack([right, ray[..., 1], ahead], axis=-1) + 1) * 127.5
    assert np.abs(view - expected).max() < 1.5  # rounding of the panorama and of the view


def test_a_view_is_as_fine_in_its_middle_as_the_panorama():
    stripes = np.zeros((WIDTH // 2, WIDTH, 3), np.uint8)
    stripes[:, ::2] = 255
    view = panorama.view(stripes, yaw_deg=0, fov_deg=90)
    middle = view[view.shape[0] // 2, view.shape[1] // 2 - 5 : view.shape[1] // 2 + 5, 0].astype(int)
    assert np.abs(np.diff(middle)).min() > 200  # still one stripe a pixel


def test_the_seam_is_not_seen():
    grey = np.full((256, 512, 3), 100, np.uint8)
    grey[:, 0] = grey[:, -1] = 140
    behind = panorama.view(grey, yaw_deg=180, fov_deg=60)
    row = behind[behind.shape[0] // 2, :, 0].astype(int)
    line = np.flatnonzero(row > 105)
    assert len(line) in (2, 3, 4) and abs(line.mean() + 0.5 - len(row) / 2) < 1 and row[line].max() > 135


def test_the_whole_sphere_is_twice_as_wide_as_high():
    assert panorama.is_whole(np.zeros((1024, 2048, 3), np.uint8))
    assert panorama.is_whole(np.zeros((1023, 2048, 3), np.uint8))
    assert not panorama.is_whole(np.zeros((800, 2048, 3), np.uint8))
    assert not panorama.is_whole(np.zeros((1024, 1024, 3), np.uint8))


def test_only_what_says_so_is_a_sphere():
    sphere = Photo(Path("a.jpg"), _directions(), projection="spherical")
    views = panorama.views(sphere)
    assert len(views) == 6 and all(
        view.shape[0] == pytest.approx(view.shape[1] * 9 / 16, abs=1) for view in views
    )
    assert panorama.views(Photo(Path("a.jpg"), _directions())) == []
    assert panorama.views(Photo(Path("a.jpg"), _directions()[:300], projection="spherical")) == []


GRID = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 640.0, 4, 2)
TRUSTING = Motion(exponent=1, mute=0, cut=0, elsewhere=0.5)


def test_views_multiply_as_photos_of_one_place():
    paths = np.arange(256)[:, None] // [16, 1] % 16
    rng = np.random.default_rng(0)
    drawn = rng.dirichlet(np.full(257, 0.5), 3)
    found = together([Leaves(paths, p[:-1], not_here=p[-1]) for p in drawn], GRID, TRUSTING)
    prior = np.append(np.full(256, 0.5 / 256), 0.5)
    expected = (drawn / prior).prod(axis=0) * prior
    expected /= expected.sum()
    assert found.not_here == pytest.approx(expected[-1])
    assert found.probabilities == pytest.approx(np.sort(expected[:-1])[::-1])
    assert found.paths[0].tolist() == paths[expected[:-1].argmax()].tolist()


def test_six_views_answer_where_each_alone_is_misled(tiny_data):
    """Every view sees the true leaf and one of its own as much."""
    region = Region.load(tiny_data / "region.json")

    class Seer:
        threshold = 0.5

        class model:  # noqa: N801
            class config:  # noqa: N801
                photo_px = 32

        def encode(self, photos, fov_deg):
            assert photos.shape == (6, 32, 64, 3) and fov_deg.tolist() == [panorama.FOV_DEG] * 6
            return photos

        def zoom(self, features, region, *, how, evidence):
            assert how == "posterior" and evidence == [None] * 6
            return [
                Leaves(np.array([[i, 3], [9, 9]]), np.array([0.4, 0.4]), unexpanded=0.2) for i in range(6)
            ]

    views = panorama.views(Photo(Path("a.jpg"), _directions(), projection="spherical"))
    found = panorama.locate(Seer(), views, region, name="a.jpg")
    assert found.path == (9, 9) and found.probability > 0.5
    there = region.grid.unproject(*region.grid.centre(region.grid.cell((2, 3))))
    told = panorama.locate(Seer(), views, region, name="a.jpg", priors=[Around(*there, 5, wrong=1e-6)])
    assert told.path == (2, 3)


@pytest.fixture
def untrained_pointer(tmp_path):
    torch.manual_seed(0)
    sizes = {"width": 32, "encoder_layers": 1, "encoder_heads": 2, "patch_px": 8, "table_px": 48, "photo_px": 32,
             "view_px": 48, "decoder_layers": 1, "decoder_heads": 2}  # fmt: skip
    checkpoint.save(make_model(PointerConfig(kind="pointer", **sizes)), tmp_path / "model")
    return tmp_path / "model"


def test_locate_takes_a_panorama_apart(tiny_data, tmp_path, untrained_pointer):
    from data_prep.cities.tags import panorama_xmp

    path = tmp_path / "around.jpg"
    around = Image.fromarray(_directions()[::4, ::4])
    around.save(path, xmp=panorama_xmp(heading_deg=0, width=256, height=128))
    assert load(path).projection == "spherical"
    words = ["locate", path, "--region", tiny_data / "region.json", "--checkpoint", untrained_pointer]
    done = CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path / "o.json"), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads((tmp_path / "o.json").read_text())["predictions"]
    assert found["search"] == "posterior" and 0 < found["probability"] <= 1
