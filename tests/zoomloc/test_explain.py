"""What is said to have spoken for a choice did, and nothing else."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from zoomloc import explain_figure, figure, markov, posterior
from zoomloc.calibration import Calibration, Elsewhere, Look
from zoomloc.config import ModelConfig, PointerConfig
from zoomloc.explain import PHOTO_ROWS, Decision, covered, explain
from zoomloc.index import Index
from zoomloc.localizer import Localizer
from zoomloc.model import make_model
from zoomloc.pointer import PointerModel, Questions
from zoomloc.region import Region
from zoomloc.views import NEUTRAL

SIZES = {"width": 32, "encoder_layers": 1, "encoder_heads": 2, "patch_px": 8, "table_px": 48, "photo_px": 32,
         "view_px": 48, "decoder_layers": 1, "decoder_heads": 2}  # fmt: skip
POINTER = PointerConfig(kind="pointer", **SIZES)
ELSEWHERE = NEUTRAL.mean() / 255  # the brightness of what is covered
PATHS = [(3, 5), (3, 9), (12, 3)]


class OneSquare(PointerModel):
    """Scores child 3 of a cell by the brightness of one square of the photo times that of one of the view; the others
    not at all."""

    photo_square, view_square = (2, 13), (7, 4)

    def encode_photos(self, photos, fov_deg=None):
        return _brightness(photos, self.photo_square)[:, None, None]

    def encode_views(self, views, side_m):
        keys = torch.zeros(len(views), 16, self.config.key_width)
        keys[:, 3, 0] = _brightness(views, self.view_square)
        return keys

    def ask(self, photos, side_m):
        query = torch.zeros(side_m.shape[1], len(photos), 1, self.config.key_width)
        query[..., 0, 0] = 5 * photos[:, 0, 0]
        return Questions(query, torch.zeros(query.shape[:3]), torch.zeros(query.shape[:2]))


def _brightness(images, square):
    """(B,) of squares of four pixels a side: both a photo's and a view's here."""
    row, col = square
    return images[:, 4 * row : 4 * row + 4, 4 * col : 4 * col + 4].float().mean((1, 2, 3)) / 255


@pytest.fixture
def region(tiny_data):
    return Region.load(tiny_data / "region.json")


def test_what_alone_decides_is_all_that_spoke(region):
    photo = np.full((32, 64, 3), 250, np.uint8)
    localizer = Localizer(OneSquare(POINTER))
    ways = explain(localizer, photo, region, PATHS)
    for path, decisions in zip(PATHS, ways, strict=True):
        assert [(d.cell, d.child) for d in decisions] == [
            (region.grid.cell(path[:level]), path[level]) for level in range(2)
        ]
    for decision in ways[0] + ways[1] + ways[2]:
        cell = localizer.index(region).view(decision.cell, 48)
        seen = np.where(cell.mask[..., None], cell.pixels, NEUTRAL)
        seen_there = float(_brightness(torch.from_numpy(seen)[None], OneSquare.view_square))
        score, without_photo, without_view = (
            5 * a * b for a, b in ((250 / 255, seen_there), (ELSEWHERE, seen_there), (250 / 255, ELSEWHERE))
        )
        odds = _odds(score, decision.child)
        assert decision.probability == pytest.approx(odds / (1 + odds), rel=1e-4)
        for spoke, square, without in (
            (decision.photo, OneSquare.photo_square, without_photo),
            (decision.view, OneSquare.view_square, without_view),
        ):
            bits = math.log2(odds / _odds(without, decision.child))
            assert spoke[square] == pytest.approx(bits, abs=1e-4)
            assert np.count_nonzero(abs(spoke) > 1e-5) == (abs(bits) > 1e-5)
    assert ways[0][0].photo[OneSquare.photo_square] > 0.5  # for child 3
    assert ways[2][0].photo[OneSquare.photo_square] < -0.05  # against another one
    assert ways[0][0].photo.shape == (PHOTO_ROWS, 2 * PHOTO_ROWS) and ways[0][0].view.shape == (12, 12)


def _odds(score, child):
    """Of a child, where child 3 scores this and all others 0."""
    weights = np.where(np.arange(16) == 3, math.exp(score), 1.0)
    return weights[child] / (weights.sum() - weights[child])


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("kind", ["pointer", "published"])
def test_the_decisions_explained_are_those_of_the_search(kind, calibrated, region):
    torch.manual_seed(0)
    model = make_model(POINTER if kind == "pointer" else ModelConfig(depth=2, **SIZES))
    localizer = Localizer(model, _calibration() if calibrated else None)
    photo = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    (decisions,) = explain(localizer, photo, region, [(6, 11)], fov_deg=80.0)
    features = localizer.encode(torch.from_numpy(photo)[None], torch.tensor([80.0]))
    index = localizer.index(region)
    with torch.inference_mode():
        if isinstance(model, PointerModel):
            step = markov.stepper(model, index, features, localizer.calibration)
        else:
            step, _ = posterior.stepper(model, index, features, localizer.calibration)
        for decision, path in zip(decisions, ((), (6,)), strict=True):
            expected = step(torch.tensor(path, dtype=torch.long)[None, None])[0, 0].softmax(0)
            assert decision.probability == pytest.approx(float(expected[decision.child]), rel=0.01)
    assert all(abs(spoke).max() > 0 for d in decisions for spoke in (d.photo, d.view))


def _calibration():
    look = Look(mean=(0.0,) * 32, directions=((1.0, *(0.0,) * 31),), variances=(1.0,), rest=1.0)
    return Calibration(
        side_m=(80.0, 320.0), temperature=(0.2, 4.0), look=look, elsewhere=Elsewhere(place=None, picture=(-5.0, 0.0)),
        threshold=0.5, false_rejection=0.05, data=("a",), others=(), n_photos=1,
    )  # fmt: skip


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(9, 40), st.integers(9, 40))
def test_every_pixel_is_covered_once(rows, cols, height, width):
    pixels = np.zeros((height, width, 3), np.uint8)
    whole, *parts = covered(pixels, rows, cols)
    assert len(parts) == rows * cols and not whole.any()
    assert ((np.array(parts) == NEUTRAL).all(-1).sum(0) == 1).all()


def test_the_picture_shows_what_spoke_and_frames_both_children(make_world, tmp_path):
    world = make_world(depth=2)
    index = Index(make_model(POINTER), world.pyramid, world.region.grid)
    root = world.region.grid.root
    ways = [
        explain_figure.Way("one", [_decision(root, 5, 1.0)], figure.ANSWER),
        explain_figure.Way("other", [_decision(root, 10, -1.0)], figure.OTHER),
    ]
    explain_figure.draw(ways, world.photo(), index, world.region, tmp_path / "why.png")
    with Image.open(tmp_path / "why.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    drawn = pixels[:, : int(pixels.shape[1] * 0.75)]  # without the scales
    for half, spoke_green in zip(np.array_split(drawn, 2), (True, False), strict=True):
        assert _near(half, figure.ANSWER).sum() > 100 and _near(half, figure.OTHER).sum() > 100
        red, green, blue = half[..., 0], half[..., 1], half[..., 2]
        greener, purpler = green > np.maximum(red, blue) + 20, np.minimum(red, blue) > green + 20
        assert (greener.sum() > 500) == spoke_green and (purpler.sum() > 500) != spoke_green


def _decision(cell, child, bits):
    photo, view = np.zeros((8, 16), np.float32), np.zeros((12, 12), np.float32)
    photo[3, 4] = view[6, 7] = bits
    return Decision(cell, child, 0.5, photo, view)


def _near(pixels, colour):
    return (abs(pixels - ImageColor.getrgb(colour)) <= 6).all(axis=-1)


def test_the_runner_up_is_the_likeliest_place_elsewhere(make_world):
    prediction = make_world().prediction(x_m=1500, y_m=900)
    assert explain_figure.runner_up(prediction) is prediction.places[1]
    alone = make_world().prediction(x_m=1500, y_m=900, places=prediction.places[:1])
    assert explain_figure.runner_up(alone) is None
