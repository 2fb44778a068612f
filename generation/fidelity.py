"""How much of an image survives a tokenizer: differences between it and its reconstruction.

Images are (H, W, 3) float32, 0 to 1.
"""

from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, gaussian_filter

Pixels = NDArray[np.float32]

SSIM_SIGMA_PX = 1.5
SSIM_STABLE = (0.01**2, 0.03**2)

# Of the log-Gabor filters: what they respond to, and how sharply.
WAVELENGTHS_PX = (4.0, 8.0, 16.0, 32.0)
N_ORIENTATIONS = 6
OCTAVES = 0.55  # the ratio of the width of a filter to its frequency, on a logarithmic scale
# Responses weaker than this all count as flat.
FLAT = 0.01

EDGE_THRESHOLDS = (100, 200)  # of Canny's detector, for pixels of 0 to 255
NEAR_PX = 1

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without those that look alike
LETTER_PX = (8, 12, 16, 24, 32)


def psnr(image: Pixels, copy: Pixels) -> float:
    """Peak signal-to-noise ratio in dB; infinite where nothing differs."""
    error = float(np.square(image.astype(np.float64) - copy).mean())
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim(image: Pixels, copy: Pixels) -> float:
    """Structural similarity (Wang et al. 2004), -1 to 1: a Gaussian window of 1.5 px, the mean of the channels."""

    def blurred(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return gaussian_filter(x, (SSIM_SIGMA_PX, SSIM_SIGMA_PX, 0), truncate=3.5)

    a, b = image.astype(np.float64), copy.astype(np.float64)
    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    both = blurred(a * b) - mean_a * mean_b
    small, large = SSIM_STABLE
    similarity = (2 * mean_a * mean_b + small) * (2 * both + large)
    similarity /= (mean_a**2 + mean_b**2 + small) * (var_a + var_b + large)
    return float(similarity[5:-5, 5:-5].mean())  # where the window lies within the image


def feature_distance(image: Pixels, copy: Pixels) -> float:
    """LPIPS (arXiv 1801.03924) in form, not in features, 0 to 2: nothing is learned here, and its figures are not those
    of LPIPS.

    At every place, the strengths of 24 log-Gabor filters (4 sizes, 6 directions) of the grey image, as a vector of
    length 1; the mean squared distance between the two images' vectors. As strengths do not depend on where exactly
    a stripe lies, it forgives shifts of a pixel, and tells what texture was there from what is there now.
    """
    difference = _directions(image) - _directions(copy)
    return float(np.square(difference).sum(0).mean())


def _directions(image: Pixels) -> NDArray[np.float64]:
    """(filters, H, W) of length 1 at every place, shorter where the image is flat."""
    spectrum = np.fft.fft2(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64))
    strength = np.abs(np.fft.ifft2(spectrum * _log_gabor(image.shape[:2])))
    return strength / (np.sqrt(np.square(strength).sum(0)) + FLAT)


@cache
def _log_gabor(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Filters (sizes x directions, H, W) in the frequency domain (Field 1987); they answer one side of it only."""
    down, right = np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), indexing="ij")
    radius, angle = np.hypot(down, right), np.arctan2(down, right)
    radius[0, 0] = 1  # of the mean, which no filter answers to
    filters = []
    for wavelength in WAVELENGTHS_PX:
        of_size = np.exp(-(np.log(radius * wavelength) ** 2) / (2 * np.log(OCTAVES) ** 2))
        of_size[0, 0] = 0
        for direction in np.arange(N_ORIENTATIONS) * np.pi / N_ORIENTATIONS:
            apart = np.abs(np.angle(np.exp(1j * (angle - direction))))
            filters.append(of_size * np.exp(-(apart**2) / (2 * (np.pi / N_ORIENTATIONS) ** 2)))
    return np.stack(filters)


def edge_f1(image: Pixels, copy: Pixels) -> float:
    """How well edges are kept, 0 to 1: the harmonic mean of the shares of edges (Canny) of the one that lie within a
    pixel of edges of the other; 1 where neither has any."""
    a, b = _edges(image), _edges(copy)
    if not a.any() and not b.any():
        return 1.0
    near = [binary_dilation(x, np.ones((2 * NEAR_PX + 1,) * 2)) for x in (a, b)]
    kept, true = (a & near[1]).sum() / max(a.sum(), 1), (b & near[0]).sum() / max(b.sum(), 1)
    return float(2 * kept * true / (kept + true)) if kept + true else 0.0


def _edges(image: Pixels) -> NDArray[np.bool_]:
    grey = np.rint(cv2.cvtColor(image.clip(0, 1), cv2.COLOR_RGB2GRAY) * 255).astype(np.uint8)
    return np.asarray(cv2.Canny(grey, *EDGE_THRESHOLDS)) > 0


def letters(px: int, letter_px: int, seed: int = 0) -> tuple[str, Pixels]:
    """An image of px x px full of random letters so high, and what they are, row by row."""
    across = px // letter_px
    text = "".join(np.random.default_rng(seed).choice(list(LETTERS), across**2))
    image = np.ones((px, px, 3), np.float32)
    for place, letter in enumerate(text):
        top, left = place // across * letter_px, place % across * letter_px
        image[top : top + letter_px, left : left + letter_px] = _letter(letter, letter_px)[..., None]
    return text, image


def legible(text: str, copy: Pixels, letter_px: int) -> float:
    """The share of letters that are still most like themselves, by correlation with each of the letters as drawn.

    No reader of text is involved: it says whether letters can be told apart, of which a reader may make more by
    knowing words, or less by not knowing where they are.
    """
    grey = cv2.cvtColor(copy, cv2.COLOR_RGB2GRAY)
    across = copy.shape[1] // letter_px
    side = across * letter_px
    cut = grey[:side, :side].reshape(across, letter_px, across, letter_px).swapaxes(1, 2)
    drawn = np.stack([_letter(letter, letter_px) for letter in LETTERS])
    likeness = _unit(cut.reshape(across**2, -1)) @ _unit(drawn.reshape(len(LETTERS), -1)).T
    return float(np.mean([LETTERS[k] == letter for k, letter in zip(likeness.argmax(1), text, strict=True)]))


def _unit(rows: NDArray[Any]) -> NDArray[np.float64]:
    centred = rows - rows.mean(1, keepdims=True, dtype=np.float64)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


@cache
def _letter(letter: str, letter_px: int) -> Pixels:
    """A dark letter on white, (px, px), in the font that comes with matplotlib."""
    import matplotlib  # here: only its folder of fonts is wanted

    font = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    image = Image.new("L", (letter_px, letter_px), 255)
    of_size = ImageFont.truetype(str(font), round(1.1 * letter_px))  # capitals are 0.73 of it high
    ImageDraw.Draw(image).text((letter_px / 2, letter_px / 2), letter, 30, of_size, anchor="mm")
    return np.asarray(image, np.float32) / np.float32(255)
