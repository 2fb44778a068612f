"""Measures of what is left of an image: what they say of changes that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from generation.fidelity import (
    LETTER_PX,
    edge_f1,
    feature_distance,
    legible,
    letters,
    psnr,
    ssim,
)


def scene(seed=0, px=64):
    """Blobs and a bar."""
    image = gaussian_filter(np.random.default_rng(seed).random((px, px, 3)), (3, 3, 0))
    image = (image - image.min()) / (image.max() - image.min())
    image[px // 4 : px // 2, px // 3 :] *= 0.2
    return image.astype(np.float32)


def blurred(image, sigma):
    return gaussian_filter(image, (sigma, sigma, 0))


def test_an_image_is_like_itself():
    image = scene()
    assert psnr(image, image) == np.inf
    assert ssim(image, image) == pytest.approx(1)
    assert feature_distance(image, image) == 0
    assert edge_f1(image, image) == 1


def test_the_noise_ratio_is_in_decibels_of_the_mean_square():
    image = np.full((8, 8, 3), 0.5, np.float32)
    assert psnr(image, image + np.float32(0.1)) == pytest.approx(20, abs=1e-3)
    assert psnr(image, image + np.float32(0.01)) == pytest.approx(40, abs=1e-2)


def test_similarity_of_flat_images_is_that_of_their_brightness():
    a, b = np.full((32, 32, 3), 0.4, np.float32), np.full((32, 32, 3), 0.6, np.float32)
    assert ssim(a, b) == pytest.approx((2 * 0.24 + 1e-4) / (0.16 + 0.36 + 1e-4), abs=1e-6)


@pytest.mark.parametrize("measure", [psnr, ssim, lambda a, b: -feature_distance(a, b), edge_f1])
def test_the_more_is_lost_the_worse(measure):
    image = scene()
    scores = [measure(image, blurred(image, sigma)) for sigma in (0.3, 1, 3)]
    assert scores[0] > scores[1] > scores[2]


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_measures_do_not_care_which_is_the_copy(seed):
    a, b = scene(seed), scene(seed + 1)
    for measure in (psnr, ssim, feature_distance, edge_f1):
        assert measure(a, b) == pytest.approx(measure(b, a))


def test_the_feature_distance_forgives_a_shift_and_light_but_not_another_texture():
    image = scene()
    noisy = image + np.random.default_rng(1).normal(0, 0.05, image.shape).astype(np.float32)
    shifted, darker = np.roll(image, 1, axis=1), image * np.float32(0.8)
    assert psnr(image, shifted) < psnr(image, noisy), "by pixels the shift is the worse"
    assert feature_distance(image, shifted) < feature_distance(image, noisy)
    assert feature_distance(image, darker) < 0.1 * feature_distance(image, noisy)


def test_edges_are_kept_where_they_are_near_and_lost_where_they_are_gone():
    image = np.zeros((40, 40, 3), np.float32)
    image[10:30, 10:30] = 1
    near, gone = np.roll(image, 1, axis=0), np.zeros_like(image)
    assert edge_f1(image, near) > 0.9
    assert edge_f1(image, gone) == 0
    assert edge_f1(gone, gone) == 1


@pytest.mark.parametrize("height", LETTER_PX)
def test_letters_are_told_apart_as_drawn_and_not_in_noise(height):
    text, page = letters(128, height)
    assert page.shape == (128, 128, 3) and len(text) == (128 // height) ** 2
    assert legible(text, page, height) == 1
    noise = np.random.default_rng(0).random(page.shape, np.float32)
    assert legible(text, noise, height) < 0.25


def test_small_letters_are_lost_first():
    shares = []
    for height in LETTER_PX:
        text, page = letters(128, height)
        shares.append(legible(text, blurred(page, 2), height))
    assert shares == sorted(shares) and shares[0] < 0.5 < shares[-1]
