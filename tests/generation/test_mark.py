"""The mark: found after what images go through, wherever they were cut; not found where there is none."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from generation.mark import PERIOD, Detector, Mark, bounded, features, key_of_user, patterns, shown_by
from generation.schedule import scales

MARK = Mark("a key", token_px=8)
SIDE = 192


@pytest.fixture(scope="module")
def ground():
    """A picture with edges and texture, as of imagery: (320, 320, 3)."""
    rng = np.random.default_rng(0)
    blobs = ndimage.zoom(rng.random((20, 20, 3)), (16, 16, 1), order=1) * 200
    return np.clip(blobs + rng.normal(0, 6, (320, 320, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def marked(ground):
    return MARK.moved(ground, np.ones(ground.shape[:2], bool), 2, (5, 11))


def jpeg(image, quality=75):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(image):
    side = round(0.75 * image.shape[0])
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def test_frequencies_are_orthonormal_and_read_back(ground):
    waves = patterns(8)
    assert np.allclose(waves @ waves.T, np.eye(len(waves)), atol=1e-5)
    picture = (waves[3] * 40).reshape(8, 8)
    assert features(picture, 8)[0, 0, 3] == pytest.approx(40, rel=1e-4)


def test_moving_is_hardly_seen_and_touches_only_what_it_may(ground, marked):
    error = (marked.astype(float) - ground) ** 2
    assert -10 * math.log10(error.mean() / 255**2) > 40
    where = np.zeros(ground.shape[:2], bool)
    where[64:100, 30:90] = True
    part = MARK.moved(ground, where, 0, (0, 0))
    assert (part[~where] == ground[~where]).all() and (part[where] != ground[where]).any()
    assert np.array_equal(replace(MARK, strength=0).moved(ground, where, 0, (0, 0)), ground)


def test_it_is_found_after_a_crop_a_resize_and_a_jpeg(marked):
    cut = marked[21 : 21 + 288, 13 : 13 + 288]
    found = Detector(MARK).find(jpeg(resized(cut)))
    assert found.p_value < 1e-3 and found.which == 2 and found.scale == 0.75
    assert found.phase == ((-21) % 8, (-13) % 8)
    assert found.shift == ((5 + 3) % PERIOD, (11 + 2) % PERIOD)
    assert Detector(MARK, scales=(0.75,)).greens(jpeg(resized(cut)), found).mean() > 0.55


def test_another_key_and_an_unmarked_image_show_nothing(ground, marked):
    detector = Detector(Mark("another key", 8), scales=(1.0,))
    assert detector.find(marked[:96, :96]).p_value > 1e-3
    assert Detector(MARK, scales=(1.0,)).find(ground[:96, :96]).p_value > 1e-3
    assert Detector(MARK).find(ground[:5]) is None


def test_chance_alone_comes_no_further_than_it_is_said_to(ground):
    """One alignment, many keys, the most uniform image there is: every place shows the same."""
    same = np.tile(ground[:8, :8], (24, 24, 1))
    here = features(same.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32), 8)
    z = []
    for key in range(400):
        planes = Mark(str(key), 8, pool=1).planes[0]
        votes = np.zeros((PERIOD, PERIOD))
        signs = np.sign((here * np.tile(planes, (2, 2, 1))[:24, :24]).sum(-1))
        np.add.at(votes, (np.arange(24)[:, None] % PERIOD, np.arange(24) % PERIOD), signs)
        z.append(votes.sum() / np.sqrt((votes**2).sum()))
    for level in (1.0, 2.0, 2.5):
        assert (np.array(z) >= level).mean() <= bounded(level, 1)
    assert bounded(0, 10) == 1 and bounded(9, 1000) < 1e-3


class Tokenizer:
    """Of 32 px; a token of 8 px shows a wave of its code."""

    px, schedule = 32, scales((1, 4))

    def encode(self, images):
        return [torch.zeros(len(images), 1, dtype=torch.long), torch.zeros(len(images), 16, dtype=torch.long)]

    def decode(self, codes, parents):
        assert parents.shape[1:] == (3, 16, 16)
        waves = torch.from_numpy(patterns(8)).view(-1, 8, 8)[codes[-1]].view(-1, 4, 4, 8, 8) * 0.3
        return waves.permute(0, 1, 3, 2, 4).reshape(-1, 1, 32, 32).repeat(1, 3, 1, 1)


def test_what_codes_show_is_seen_and_parts_them_in_halves():
    n = len(patterns(8))
    shows = shown_by(Tokenizer(), n)
    assert np.allclose(shows, (np.eye(n) - 1 / n) * 0.3 * 127.5, atol=1e-3)
    drawn = np.random.default_rng(0).normal(size=(64, n)).astype(np.float32)
    green = MARK.green(drawn, 1, (3, 14), 4)
    assert green.shape == (16, 64) and (green.sum(1) == 32).all()
    plane = MARK.planes[1, (3 + 2) % PERIOD, (14 + 3) % PERIOD]
    assert green[2 * 4 + 3, int((drawn @ plane).argmax())]


def test_the_processor_makes_green_codes_likelier_in_the_finest_map_alone():
    first, last = scales((1, 4))
    drawn = np.random.default_rng(0).normal(size=(64, len(patterns(8)))).astype(np.float32)
    soft = replace(MARK, delta=2.0).processor(drawn, 0, [(0, 0), (4, 8)], 4)
    assert (soft(torch.zeros(2, 1, 64), first) == 0).all()
    logits = soft(torch.zeros(2, 16, 64), last)
    assert set(logits.unique().tolist()) == {0.0, 2.0} and not torch.equal(logits[0], logits[1])
    hard = replace(MARK, delta=math.inf).processor(drawn, 0, [(0, 0)], 4)(torch.zeros(1, 16, 64), last)
    assert (hard.isinf().sum(-1) == 32).all()


def test_the_users_key_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("ZOOMLOC_MARK_KEY", raising=False)
    assert key_of_user() == "zoomloc"
    monkeypatch.setenv("ZOOMLOC_MARK_KEY", "mine")
    assert key_of_user() == "mine"
    assert {Mark("k", 8).list_of(seed) for seed in range(40)} == set(range(4))
